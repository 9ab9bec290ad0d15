package exporter

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"xentrace/internal/exporter/feed"
)

// BenchmarkScrape is one scrape without reading the kernel's counters.
func BenchmarkScrape(b *testing.B) {
	for _, interfaces := range []int{1, 64} {
		b.Run(fmt.Sprintf("interfaces=%d", interfaces), func(b *testing.B) {
			s, err := newServer(feed.Options{}, collecting(feed.Options{}, &machine{totals: reading(1, many(interfaces)...)}))
			if err != nil {
				b.Fatal(err)
			}
			now := start
			s.answers.now = func() time.Time { now = now.Add(time.Second); return now } // each one is made
			request := httptest.NewRequest("GET", "/metrics", nil)
			request.Header.Set("Accept-Encoding", "gzip")
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				s.http.Handler.ServeHTTP(w, request)
				if w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
