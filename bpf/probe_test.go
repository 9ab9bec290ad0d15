package bpf

import (
	"testing"

	"github.com/cilium/ebpf/ringbuf"
)

const (
	probeCookie   = 0x1234567890
	anotherCookie = probeCookie + 1
)

// cookie gives a packet a socket with that cookie.
func (a *arena) cookie(skb int, cookie uint64) {
	a.set(skb, a.address+atSock, "sk_buff", "sk")
	a.set(atSock, established, "sock", "__sk_common", "skc_state")
	a.set(atSock, cookie, "sock", "__sk_common", "skc_cookie", "counter")
}

// beginFrom has the packet of a stage come from a socket.
func (s *stage) beginFrom(cookie uint64) {
	s.a.packet(atSkb, s.a.page()+s.offset, 66, s.frags)
	s.a.cookie(atSkb, cookie)
	s.a.flush()
	s.p.begin(atSkb)
}

func setProbe(t *testing.T, p *programs) {
	t.Helper()
	if err := p.collection.Variables[XentraceVarProbeCookie].Set(uint64(probeCookie)); err != nil {
		t.Fatal(err)
	}
}

func readerOf(t *testing.T, p *programs) *ringbuf.Reader {
	t.Helper()
	reader, err := ringbuf.NewReader(p.collection.Maps[XentraceMapEvents])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	return reader
}

// verdicts reads what is in the ring.
func verdicts(t *testing.T, reader *ringbuf.Reader) []XentraceVerdict {
	t.Helper()
	var all []XentraceVerdict
	for reader.AvailableBytes() > 0 {
		all = append(all, readRecord(t, reader).Verdict)
	}
	return all
}

// probeFates are what can become of the probe's packet, and of another's.
var probeFates = []struct {
	name   string
	frags  []fakeFrag
	offset uint64
	steps  []func(*stage)
	want   XentraceVerdict // of the probe
	others XentraceVerdict // of other packets; 0 for none
}{
	{name: "sent", frags: fitting, offset: 256, want: XentraceVerdictVERDICT_SENT},
	{name: "linearized", frags: rocket, offset: 256, steps: []func(*stage){(*stage).linearize},
		want: XentraceVerdictVERDICT_LINEARIZED, others: XentraceVerdictVERDICT_LINEARIZED},
	{name: "dropped", frags: rocket, offset: 256, steps: []func(*stage){drop(atSkb)},
		want: XentraceVerdictVERDICT_DROPPED, others: XentraceVerdictVERDICT_DROPPED},
	{name: "dropped within the limit", frags: fitting, offset: 256, steps: []func(*stage){features(noBits), drop(atSkb)},
		want: XentraceVerdictVERDICT_DROPPED, others: XentraceVerdictVERDICT_DROPPED},
	{name: "bounced", offset: 4090, steps: []func(*stage){(*stage).bounce},
		want: XentraceVerdictVERDICT_BOUNCED, others: XentraceVerdictVERDICT_BOUNCED},
	{name: "bounced since the backend is not trusted", frags: fitting, offset: 256, steps: []func(*stage){untrusted, (*stage).bounce},
		want: XentraceVerdictVERDICT_BOUNCED},
}

// The probe's packet is reported once whatever becomes of it; another's only if it went
// wrong, and so is the probe's by programs that were not loaded for one.
func TestProbe(t *testing.T) {
	a := newArena(t)
	for _, on := range []uint8{0, 1} {
		p := loadPrograms(t, a, XentraceConfiguration{
			PageSize: 4096, DriverHooks: 1, Records: 1, Probe: on,
			PrivOffset: atPriv - atDev, BrokenOffset: 1, BounceOffset: 2,
		})
		setProbe(t, p)
		reader := readerOf(t, p)
		for _, test := range probeFates {
			for _, cookie := range []uint64{probeCookie, anotherCookie, 0} {
				clear(a.memory)
				a.device()
				s := &stage{p: p, a: a, frags: test.frags, offset: test.offset}
				s.beginFrom(cookie)
				for _, step := range test.steps {
					step(s)
				}
				p.end(atSkb)
				want := test.others
				if on == 1 && cookie == probeCookie {
					want = test.want
				}
				got := verdicts(t, reader)
				if want == 0 && len(got) != 0 || want != 0 && (len(got) != 1 || got[0] != want) {
					t.Errorf("%s, probe %d, cookie %#x: verdicts %v, want %v", test.name, on, cookie, got, want)
				}
			}
		}
	}
}

// Another driver's packet of the probe is reported as sent, or as over the limit.
func TestProbeOfAnotherDriver(t *testing.T) {
	a := newArena(t)
	a.device()
	p := loadPrograms(t, a, XentraceConfiguration{PageSize: 4096, Records: 1, Probe: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1})
	setProbe(t, p)
	reader := readerOf(t, p)
	for _, test := range []struct {
		frags []fakeFrag
		want  XentraceVerdict
	}{{fitting, XentraceVerdictVERDICT_SENT}, {rocket, XentraceVerdictVERDICT_OVER_LIMIT}} {
		s := &stage{p: p, a: a, frags: test.frags, offset: 256}
		s.beginFrom(probeCookie)
		p.end(atSkb)
		if got := verdicts(t, reader); len(got) != 1 || got[0] != test.want {
			t.Errorf("verdicts %v, want %v once", got, test.want)
		}
	}
}

// Each request of the probe that the backend accepted is reported, and a refusal as ever;
// of other packets only refusals are.
func TestProbeAnswers(t *testing.T) {
	const took, refused = XentraceVerdictVERDICT_ACCEPTED, XentraceVerdictVERDICT_REJECTED
	r := newRingOf(t, XentraceConfiguration{PageSize: 4096, Records: 1, Probe: 1}, arenaSize)
	setProbe(t, r.programs)
	for _, test := range []struct {
		name    string
		cookie  uint64
		answers []answer
		want    []XentraceVerdict
	}{
		{"the probe is taken", probeCookie, []answer{{0, answerOK}, {1, answerOK}}, []XentraceVerdict{took, took}},
		{"extra information is no answer", probeCookie, []answer{{0, answerOK}, {1, answerNull}}, []XentraceVerdict{took}},
		{"the probe is refused", probeCookie, []answer{{0, answerError}, {1, answerError}}, []XentraceVerdict{refused}},
		{"one request is taken, one refused", probeCookie, []answer{{0, answerOK}, {1, answerError}}, []XentraceVerdict{took, refused}},
		{"another is taken", anotherCookie, []answer{{0, answerOK}, {1, answerOK}}, nil},
		{"another is refused", anotherCookie, []answer{{0, answerError}, {1, answerError}}, []XentraceVerdict{refused}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.packets()
			r.arena.cookie(atSkbs+0x1000, test.cookie)
			r.request(0, 1)
			r.request(1, 1)
			r.collect(7, test.answers, len(test.answers))
			got := verdicts(t, r.reader)
			if len(got) != len(test.want) {
				t.Fatalf("verdicts %v, want %v", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("verdicts %v, want %v", got, test.want)
				}
			}
		})
	}
}

// Switched off, nothing of the probe is left in the programs that every packet runs.
func TestProbeIsPruned(t *testing.T) {
	translated := func(probe uint8, program string) int {
		a := newArena(t)
		p := loadPrograms(t, a, XentraceConfiguration{
			PageSize: 4096, DriverHooks: 1, Records: 1, Probe: probe, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
		})
		info, err := p.collection.Programs[program].Info()
		if err != nil {
			t.Fatal(err)
		}
		instructions, err := info.Instructions()
		if err != nil {
			t.Fatal(err)
		}
		return len(instructions)
	}
	off, on := translated(0, XentraceProgTracepointBegin), translated(1, XentraceProgTracepointBegin)
	t.Logf("%d instructions without the probe, %d with it", off, on)
	// Reading skb->sk and the cookie takes two calls with their arguments, twice.
	if on-off < 20 {
		t.Errorf("%d instructions without the probe, %d with it: want 20 more", off, on)
	}
}
