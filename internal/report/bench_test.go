package report

import (
	"io"
	"testing"
)

// What a page of 100,000 events takes.
func BenchmarkPage(b *testing.B) {
	events := night(4100, 24)
	b.ReportAllocs()
	for b.Loop() {
		page, err := collected(b, events).Page(optionsOf())
		if err != nil {
			b.Fatal(err)
		}
		n, err := page.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "page-bytes")
	}
	b.ReportMetric(float64(len(events)), "events")
}
