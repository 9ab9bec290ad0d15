package output

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
)

func sampleGaps() []event.Gap {
	from := time.Date(2026, 11, 20, 12, 7, 20, 500_000_000, time.UTC)
	return []event.Gap{
		{From: from, To: from.Add(4200 * time.Millisecond), Reason: event.GapDriverUnloaded},
		{From: from.Add(time.Minute), To: from.Add(2 * time.Minute), Reason: event.GapSuspended},
		{From: from.Add(time.Hour), Reason: event.GapDriverUnloaded},
	}
}

func TestGapsInJSON(t *testing.T) {
	var summary struct {
		Gaps []struct {
			From   time.Time
			To     *time.Time
			Reason string
		}
	}
	if err := json.Unmarshal(JSON{}.AppendSummary(nil, &event.Summary{Totals: *&event.Totals{}}), &summary); err != nil {
		t.Fatal(err)
	}
	if summary.Gaps == nil || len(summary.Gaps) != 0 {
		t.Errorf("without a gap: %v, want an empty list", summary.Gaps)
	}
	want := sampleGaps()
	if err := json.Unmarshal(JSON{}.AppendSummary(nil, &event.Summary{Totals: *&event.Totals{Gaps: want}}), &summary); err != nil {
		t.Fatal(err)
	}
	if len(summary.Gaps) != len(want) {
		t.Fatalf("%d gaps, want %d", len(summary.Gaps), len(want))
	}
	for i, gap := range summary.Gaps {
		if !gap.From.Equal(want[i].From) || gap.Reason != string(want[i].Reason) {
			t.Errorf("gap %d from %v for %s, want %+v", i, gap.From, gap.Reason, want[i])
		}
		if open := want[i].To.IsZero(); open != (gap.To == nil) || !open && !gap.To.Equal(want[i].To) {
			t.Errorf("gap %d ends at %v, want %v", i, gap.To, want[i].To)
		}
	}
}

func TestGapsInText(t *testing.T) {
	wide := text(200)
	totals := &event.Totals{Gaps: sampleGaps()}
	for name, got := range map[string]string{
		"summary":   string(wide.AppendSummary(nil, &event.Summary{Totals: *totals})),
		"histogram": string(wide.AppendHistogram(nil, &event.Summary{Totals: *totals})),
	} {
		for _, want := range []string{
			"gap from 12:07:20.500 to 12:07:24.700 (4.2 s): the xen-netfront driver was not loaded",
			"gap from 12:08:20.500 to 12:09:20.500 (1m 0s): the machine did not run",
			"gap from 13:07:20.500 to the end: the xen-netfront driver was not loaded",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s\n%sdoes not say %q", name, got, want)
			}
		}
	}
}
