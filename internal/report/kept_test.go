package report

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"xentrace/internal/event"
)

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Of a recording whose texts are as long as a reader accepts them only a part is kept.
func TestMemoryOfLongTexts(t *testing.T) {
	const events, limit = 30, 8 << 20
	long := func() string { return strings.Repeat("a", 16<<10) }
	texts := func() (all []string) {
		for range 20 {
			all = append(all, long())
		}
		return all
	}
	remedies := func() (all []event.Advice) {
		for range 20 {
			all = append(all, event.Advice{ID: long(), Command: long(), Effect: long()})
		}
		return all
	}
	c := NewCollector()
	before := inUse()
	for n := range events {
		p := packetOf(midnight, 1, uint32(n))
		p.Flow.Source = netip.AddrPortFrom(p.Flow.Source.Addr(), uint16(1+n))
		p.Stack, p.Process = texts(), &event.Process{Comm: long(), Unit: long(), Container: long()}
		finding := event.Finding{ID: event.FindingID(rune('0' + n)), Message: long(), Advice: remedies(), Evidence: []event.Fact{{Key: "a", Value: long()}}}
		start := &event.Start{Time: midnight, BootID: string(rune('0' + n)), Command: texts(), Check: []event.Finding{finding}}
		for range 20 {
			start.Interfaces = append(start.Interfaces, event.StartInterface{Device: event.Device{Name: long()}})
		}
		flow := stalledOf(midnight, p, 2, event.Stalled, 1)
		flow.Flow.Layout, flow.Flow.Advice = long(), remedies()
		summary := &event.Summary{Totals: event.Totals{Missing: map[string]string{strings.Repeat("k", n): long()}}}
		for _, e := range []event.Event{p, start, flow, summary} {
			if err := c.Emit(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if used := int64(inUse()) - int64(before); used > limit {
		t.Errorf("%d bytes are kept of %d events of each type, limit is %d", used, events, limit)
	}
	if _, err := c.Page(optionsOf()); err != nil || len(c.table.all) != events || len(c.findings) != events {
		t.Errorf("%v; %d connections, %d findings, want %d", err, len(c.table.all), len(c.findings), events)
	}
	if kept := kept(strings.Repeat("ä", 200), 255); len(kept) != 254 || !utf8.ValidString(kept) {
		t.Errorf("%d bytes: %q", len(kept), kept)
	}
}
