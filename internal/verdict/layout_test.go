package verdict

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// made returns a packet of this head and these fragments, with its slots counted,
// that a socket sent and the driver linearized.
func made(headOffset, headLen int, frags ...event.Frag) event.Packet {
	p := event.Packet{
		Verdict: event.Linearized, Limit: slots.Limit, Socket: &event.Socket{Address: 1},
		HeadOffset: headOffset, HeadLen: headLen, Len: headLen, Frags: frags,
	}
	p.Slots = int(slots.Of(uint32(headOffset), uint32(headLen)))
	for _, frag := range frags {
		p.Slots += int(slots.Of(frag.Offset, frag.Size))
		p.Len += int(frag.Size)
	}
	return p
}

// every returns n fragments of a size, each so far behind the start of the one
// before, in blocks of the given length.
func every(n int, first, step, size, within uint32) []event.Frag {
	frags := make([]event.Frag, n)
	for i := range frags {
		frags[i] = event.Frag{Offset: (first + uint32(i)*step) % within, Size: size}
	}
	return frags
}

func with(p event.Packet, change func(*event.Packet)) event.Packet {
	change(&p)
	return p
}

func forwarded(p *event.Packet) { p.Socket = nil }

func scatterGatherOff(p *event.Packet) { p.Verdict, p.Cause = event.Dropped, event.SGOff }

const (
	elsewhere = "; no local socket: it came from another network namespace, a guest or another host."
	smallSays = ": many small writes interleaved with another connection of the same thread"
)

func TestLayoutSays(t *testing.T) {
	small := made(254, 66, every(17, 4056, 4096, 80, 32768)...)
	for _, test := range []struct {
		name    string
		packets []event.Packet
		want    string
	}{
		{"nothing", nil, ""},
		{"a packet within the limit", []event.Packet{made(254, 66, event.Frag{Offset: 4056, Size: 80})}, ""},
		{"a drop elsewhere", []event.Packet{with(small, func(p *event.Packet) { p.Layer = event.LayerElsewhere })}, ""},
		{"small writes", []event.Packet{small}, "17 fragments of 80 bytes, all straddling a page boundary, 35 slots" + smallSays + "."},
		{
			"small writes, several packets",
			[]event.Packet{small, made(254, 66, every(14, 4046, 4096, 256, 32768)...), made(254, 66, every(16, 4046, 4096, 100, 32768)...)},
			"14 to 17 fragments of 80 to 256 bytes, 14 to 17 of them straddling a page boundary, 29 to 35 slots" + smallSays + ".",
		},
		{
			"small writes of a container",
			[]event.Packet{with(small, forwarded)},
			"17 fragments of 80 bytes, all straddling a page boundary, 35 slots" + smallSays + elsewhere,
		},
		{
			"writes of most of a page, some in one page",
			[]event.Packet{with(made(254, 66, every(17, 0, 6000, 3000, 32768)...), func(p *event.Packet) { p.GSOSize, p.GSOSegs = 1448, 36 })},
			"17 fragments of 3000 bytes, 12 of them straddling a page boundary, 36 segments of 1448 bytes, 30 slots" + smallSays + ".",
		},
		{
			"large writes at odd places",
			[]event.Packet{made(254, 66, event.Frag{Offset: 12768, Size: 20000}, event.Frag{Offset: 7232, Size: 20000}, event.Frag{Offset: 1700, Size: 15000})},
			"",
		},
		{
			"large writes at odd places, over the limit",
			[]event.Packet{made(254, 66, every(9, 4000, 9500, 5000, 27000)...)},
			"9 fragments of 5000 bytes, 2 of them in 1 page more than their length needs, 21 slots: large writes that do not start at a page boundary, interleaved with another connection of the same thread.",
		},
		{
			"one connection alone, its pieces in a row",
			[]event.Packet{made(254, 66, every(17, 2048, 4097, 4097, 32768)...)},
			"17 fragments of 4097 bytes, none in more pages than its length needs, 35 slots.",
		},
		{
			"sendfile with a head across a page",
			[]event.Packet{made(4030, 70, every(17, 0, 0, 1000, 4096)...)},
			"17 fragments of 1000 bytes, none straddling a page boundary, 19 slots: at most 1 page each, as sent by sendfile and splice; the linear part straddles a page boundary, which takes the packet over the limit.",
		},
		{
			"merged and forwarded",
			[]event.Packet{with(made(4030, 70, every(17, 66, 0, 1448, 4096)...), func(p *event.Packet) { p.Socket, p.GSOSize, p.GSOSegs = nil, 1448, 17 })},
			"17 fragments of 1448 bytes, none straddling a page boundary, 17 segments of 1448 bytes, 19 slots: merged on receive (GRO) and forwarded; the linear part straddles a page boundary, which takes the packet over the limit" + elsewhere,
		},
		{
			"more fragments than usual",
			[]event.Packet{made(254, 66, every(30, 0, 0, 2000, 4096)...)},
			"30 fragments of 2000 bytes, none straddling a page boundary, 31 slots: over 17 fragments, which needs a kernel with a larger CONFIG_MAX_SKB_FRAGS.",
		},
		{
			"huge pages without a copy",
			[]event.Packet{made(254, 66, every(17, 8152, 8192, 80, 2<<20)...)},
			"17 fragments of 80 bytes, all straddling a page boundary, 35 slots: huge pages sent without a copy, as with MSG_ZEROCOPY.",
		},
		{
			"huge pages, forwarded",
			[]event.Packet{with(made(254, 66, every(17, 8152, 8192, 80, 2<<20)...), forwarded)},
			"17 fragments of 80 bytes, all straddling a page boundary, 35 slots: parts of pages over 64 KiB, passed on without a copy" + elsewhere,
		},
		{
			"fragments in a row that straddle: no cause claimed",
			[]event.Packet{made(254, 66, append(every(16, 2048, 4096, 4096, 32768), event.Frag{Offset: 4090, Size: 10})...)},
			"17 fragments of 10 to 4096 bytes, all straddling a page boundary, 35 slots.",
		},
		{
			"a head across a page while scatter-gather is off",
			[]event.Packet{with(made(4034, 142), scatterGatherOff), with(made(3990, 120), scatterGatherOff)},
			"no fragments, linear part of 120 to 142 bytes starting 62 to 106 bytes before a page boundary, 2 slots: the linear part straddles a page boundary, and without scatter-gather the driver accepts 1 slot.",
		},
		{
			"fragments while scatter-gather is off",
			[]event.Packet{with(made(254, 66, event.Frag{Offset: 100, Size: 50}), scatterGatherOff)},
			"1 fragment of 50 bytes, none straddling a page boundary, 2 slots: fragments on an interface without scatter-gather: it was just turned off, or the sender bypasses the qdisc.",
		},
		{
			"bounced",
			[]event.Packet{with(made(4094, 66), func(p *event.Packet) { p.Verdict = event.Bounced })},
			"no fragments, linear part of 66 bytes starting 2 bytes before a page boundary, 2 slots: the Ethernet header straddles a page boundary, so the driver copies the packet.",
		},
		{
			"bounced for want of trust",
			[]event.Packet{with(made(254, 66), func(p *event.Packet) { p.Verdict = event.Bounced })},
			"",
		},
		{
			"two patterns",
			[]event.Packet{small, made(4030, 70, every(17, 0, 0, 1000, 4096)...), small},
			"2 of 3 packets: 17 fragments of 80 bytes, all straddling a page boundary, 35 slots" + smallSays + ".",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l Layout
			for i := range test.packets {
				l.Add(&test.packets[i])
			}
			if got := l.Sentence(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// The vectors that both sides count slots by: only those over the limit get a
// sentence, and it names their fragments.
func TestLayoutOfVectors(t *testing.T) {
	text, err := os.ReadFile("../../bpf/testdata/slot_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name    string
		HeadOff int `json:"head_off"`
		HeadLen int `json:"head_len"`
		Frags   [][2]uint32
		Rocket  bool
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	reported := 0
	for _, v := range vectors {
		var frags []event.Frag
		for _, frag := range v.Frags {
			frags = append(frags, event.Frag{Offset: frag[0], Size: frag[1]})
		}
		p := made(v.HeadOff, v.HeadLen, frags...)
		var layout Layout
		layout.Add(&p)
		sentence := layout.Sentence()
		if (sentence != "") != v.Rocket {
			t.Errorf("%s: %q", v.Name, sentence)
		}
		if v.Rocket {
			reported++
			if !strings.HasPrefix(sentence, "17 fragments of ") {
				t.Errorf("%s: %q", v.Name, sentence)
			}
		}
	}
	if reported != 2 {
		t.Errorf("%d vectors are over the limit, want 2", reported)
	}
}

// However many packets there are, a layout stays small.
func TestLayoutIsBounded(t *testing.T) {
	var l Layout
	for i := range 100_000 {
		p := made(i%4096, 66+i%100, every(i%40, uint32(i*7), uint32(i*13), uint32(i%5000), 1<<18)...)
		l.Add(&p)
	}
	if len(l.tallies) > len(patterns) {
		t.Errorf("%d tallies for %d patterns", len(l.tallies), len(patterns))
	}
	if l.Sentence() == "" {
		t.Error("no sentence")
	}
}
