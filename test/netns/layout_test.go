package netns

import (
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// asTraced returns what the record has of how the packet was made up.
func asTraced(p *tool.Packet) event.Packet {
	traced := event.Packet{
		Verdict: event.OverLimit, Slots: p.Slots, Limit: p.Limit, Len: p.Len, HeadOffset: p.HeadOffset, HeadLen: p.HeadLen,
		GSOSize: p.GSOSize, GSOSegs: p.GSOSegs, Socket: &event.Socket{},
	}
	for _, frag := range p.Frags {
		traced.Frags = append(traced.Frags, event.Frag{Offset: uint32(frag.Offset), Size: uint32(frag.Size)})
	}
	return traced
}

// Real packets of known making: the sentence says how they were made.
func TestLayoutOfRealPackets(t *testing.T) {
	const (
		interleaved = ": many small writes interleaved with another connection of the same thread."
		noCopy      = ": huge pages sent without a copy, as with MSG_ZEROCOPY."
	)
	for _, test := range []struct {
		name, first, last string
		sender            func(*lab) func() error
	}{
		{"corked TCP, other writes between", "17 fragments of 80 bytes, all straddling a page boundary, 35", interleaved,
			func(l *lab) func() error {
				tcp := l.tcp(l.tcpSink(farAddress.Addr()).Local(), rocket.Options{})
				return func() error { _, err := tcp.Send(l.t.Context()); return err }
			}},
		{"corked UDP, other writes between", "13 fragments of 80 bytes, all straddling a page boundary, 27", interleaved,
			func(l *lab) func() error {
				udp := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
				return func() error { _, err := udp.Send(l.t.Context()); return err }
			}},
		{"huge page without a copy", "17 fragments of 16 bytes, 16 of them straddling a page boundary, 34", noCopy,
			func(l *lab) func() error {
				exact := l.exact(l.udpSink(farAddress.Addr()).Local())
				return func() error { _, err := exact.Send(l.t.Context(), 34); return err }
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			send := test.sender(newLab(t))
			watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "--count", "4")
			for range 4 {
				must(t, send())
			}
			output := watch.Wait()
			if len(output.Packets) != 4 {
				t.Fatalf("%d records, want 4", len(output.Packets))
			}
			var layout verdict.Layout
			for i := range output.Packets {
				p := asTraced(&output.Packets[i])
				layout.Add(&p)
			}
			// A head across a page takes one slot more.
			if got := layout.Sentence(); !strings.HasPrefix(got, test.first) || !strings.HasSuffix(got, test.last) {
				t.Errorf("%q, want %q...%q", got, test.first, test.last)
			}
		})
	}
}
