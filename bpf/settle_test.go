package bpf

import (
	"testing"

	"github.com/cilium/ebpf/ringbuf"
)

// settling is the programs with records on, and what is read of the ring buffer.
type settling struct {
	*stage
	reader, unsettled *ringbuf.Reader
}

func newSettling(t *testing.T) *settling {
	t.Helper()
	a := newArena(t)
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, Records: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	}, withAnyContextFree)
	s := &settling{stage: &stage{p: p, a: a, frags: rocket, offset: 256}}
	for name, reader := range map[string]**ringbuf.Reader{XentraceMapEvents: &s.reader, XentraceMapUnsettled: &s.unsettled} {
		var err error
		if *reader, err = ringbuf.NewReader(p.collection.Maps[name]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*reader).Close() })
	}
	a.device()
	return s
}

// want compares the records there are with these verdicts.
func (s *settling) want(when string, verdicts ...XentraceVerdict) {
	s.p.t.Helper()
	for _, verdict := range verdicts {
		if s.reader.AvailableBytes() == 0 {
			s.p.t.Fatalf("%s: no record, want one with verdict %d", when, verdict)
		}
		if event := readRecord(s.p.t, s.reader); event.Verdict != verdict {
			s.p.t.Errorf("%s: verdict %d, want %d", when, event.Verdict, verdict)
		}
	}
	if left := s.reader.AvailableBytes(); left != 0 {
		s.p.t.Fatalf("%s: %d bytes of further records", when, left)
	}
}

const (
	linearizedVerdict = XentraceVerdictVERDICT_LINEARIZED
	droppedVerdict    = XentraceVerdictVERDICT_DROPPED
)

// When a packet that may be reported is reported, on one set of programs.
func TestSettling(t *testing.T) {
	s := newSettling(t)
	for name, test := range map[string]func(*testing.T, *settling){
		"SettledByProgram":          settledByProgram,
		"Announced":                 announced,
		"SettledByTheNextPacket":    settledByTheNextPacket,
		"SettledByItsDrop":          settledByItsDrop,
		"SettledBounce":             settledBounce,
		"SettledThoughInterrupted":  settledThoughInterrupted,
		"SettlingInterrupted":       settlingInterrupted,
		"DropOfAnInterruptedPacket": dropOfAnInterruptedPacket,
	} {
		t.Run(name, func(t *testing.T) {
			s.p.t, s.a.t = t, t
			clear(s.a.memory)
			s.a.device()
			s.frags, s.offset = rocket, 256
			s.p.counted(fakeSlotID)
			s.clearState()
			test(t, s)
		})
	}
}

// A packet over the limit is reported once its fate is known: not while it is in flight,
// then by userspace's program, and once.
func settledByProgram(t *testing.T, s *settling) {
	s.begin()
	s.p.settle()
	s.want("in flight")
	s.p.lock(atSkb, -1)
	s.want("sent")
	s.p.settle()
	s.want("settled", linearizedVerdict)
	s.p.settle()
	s.want("settled again")
}

// Userspace is woken by the first packet that is to be settled, and again by the first one
// after it settled.
func announced(t *testing.T, s *settling) {
	s.announcements() // of other tests
	s.frags = fitting
	s.begin()
	s.p.lock(atSkb, -1)
	s.wantAnnouncements("a packet that fits", 0)
	s.frags = rocket
	for range 3 {
		s.begin()
		s.p.lock(atSkb, -1)
	}
	s.wantAnnouncements("three over the limit", 1)
	s.p.settle()
	s.begin()
	s.wantAnnouncements("over the limit after settling", 1)
	s.p.lock(atSkb, -1)
	s.p.settle()
	s.wantAnnouncements("settled", 0)
	s.want("settled", linearizedVerdict, linearizedVerdict, linearizedVerdict, linearizedVerdict)
}

func (s *settling) wantAnnouncements(when string, want int) {
	s.p.t.Helper()
	if count := s.announcements(); count != want {
		s.p.t.Errorf("%s: %d announcements, want %d", when, count, want)
	}
}

// announcements reads how often userspace was woken.
func (s *settling) announcements() (count int) {
	for ; s.unsettled.AvailableBytes() > 0; count++ {
		if _, err := s.unsettled.Read(); err != nil {
			s.p.t.Fatal(err)
		}
	}
	return count
}

// The next packet of the CPU settles it too.
func settledByTheNextPacket(t *testing.T, s *settling) {
	s.begin()
	s.p.lock(atSkb, -1)
	s.frags = fitting
	s.begin()
	s.want("next packet", linearizedVerdict)
	s.p.end(atSkb)
	s.want("settled again")
}

// Its drop is its record, and nothing is left to settle.
func settledByItsDrop(t *testing.T, s *settling) {
	s.begin()
	s.p.free(atSkb)
	s.want("drop", droppedVerdict)
	s.p.end(atSkb)
	s.begin()
	s.want("next packet")
}

// Where a head begins too close to the end of a page the bounce is reported, but not if
// the copy is dropped.
func settledBounce(t *testing.T, s *settling) {
	s.frags, s.offset = nil, 4090
	s.begin()
	s.bounce()
	s.want("bounced")
	s.p.end(atSkb)
	s.want("settled", XentraceVerdictVERDICT_BOUNCED)
	s.begin()
	s.bounce()
	s.p.free(atCopy)
	s.p.end(atSkb)
	s.want("copy dropped", droppedVerdict)
}

// A packet that interrupts another which is in flight leaves that one's record alone.
func settledThoughInterrupted(t *testing.T, s *settling) {
	s.begin()
	s.a.packet(atCopy, s.a.page()+256, 66, nil)
	s.a.set(atCopy, 1, "sk_buff", "queue_mapping")
	s.a.flush()
	s.p.begin(atCopy)
	s.p.free(atCopy)
	s.p.lock(atCopy, -1)
	s.want("the inner one", droppedVerdict)
	s.p.end(atSkb)
	s.want("the outer one", linearizedVerdict)
}

// An interrupt transmits while userspace's program, which it interrupted, settles the
// last packet: its own packet does not take that one's place.
func settlingInterrupted(t *testing.T, s *settling) {
	s.begin()
	s.p.lock(atSkb, -1)
	s.settling(1)
	s.p.begin(atSkb) // of the interrupt: over the limit, too
	s.p.lock(atSkb, -1)
	s.p.settle() // nor does a program on top of it settle what is being settled
	s.want("interrupted")
	s.settling(0)
	s.p.settle()
	s.want("both", linearizedVerdict, linearizedVerdict)
}

// settling makes it as it is in the middle of the program.
func (s *settling) settling(on uint32) {
	s.p.t.Helper()
	s.changeState(func(cpu *XentraceCpuState) { cpu.Settling = on })
}

func (s *settling) clearState() {
	s.p.t.Helper()
	s.changeState(func(cpu *XentraceCpuState) { *cpu = XentraceCpuState{} })
}

func (s *settling) changeState(change func(*XentraceCpuState)) {
	s.p.t.Helper()
	var cpus []XentraceCpuState
	states := s.p.collection.Maps[XentraceMapCpuStates]
	if err := states.Lookup(uint32(0), &cpus); err != nil {
		s.p.t.Fatal(err)
	}
	change(&cpus[0])
	if err := states.Put(uint32(0), cpus); err != nil {
		s.p.t.Fatal(err)
	}
}

// A drop of a packet whose place was taken by one that interrupted it is still counted,
// with its cause.
func dropOfAnInterruptedPacket(t *testing.T, s *settling) {
	s.frags = fitting
	s.begin()
	s.a.packet(atCopy, s.a.page()+256, 66, nil)
	s.a.set(atCopy, 1, "sk_buff", "queue_mapping")
	s.a.flush()
	s.p.begin(atCopy)
	s.p.lock(atCopy, -1)
	s.a.packet(atSkb, s.a.page()+256, 66, fitting)
	s.device("net_device", "features", noBits)
	s.p.freeAnyContext(atSkb)
	s.want("drop", droppedVerdict)
	if c := s.p.counted(fakeSlotID); c.Dropped != 1 || c.Causes[XentraceCauseCAUSE_SG_OFF] != 1 {
		t.Errorf("%d dropped, causes %v, want one for scatter-gather", c.Dropped, c.Causes)
	}
}
