package bpf

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// The fake queue: where its members lie, as the tests tell the program. The page
// that is shared with the backend follows it in the arena.
const (
	atQueue  = 0xb000
	atInfo   = 0xd000
	atSring  = 0xe000
	atSkbs   = 0x10000 // sk_buffs of the packets, 0x1000 apart
	fakeID   = 5       // the queue's number
	maxFakes = 8
)

var fakeLayout = XentraceRingLayout{
	Id: 0x4, Info: 0x20, Netdev: 0x10, RspCons: 0x30, Sring: 0x38, Ring: 64, TxSkbs: 0x100,
}

// ring is the driver's transmit ring and what the backend answered.
type ring struct {
	*programs
	reader *ringbuf.Reader
	queue  int // where it is in the arena
}

// newRing loads the programs of xennet_tx_buf_gc. They are fentry programs, which
// cannot be run by hand: as raw tracepoint programs they find their arguments at
// the same place.
func newRing(t testing.TB) *ring {
	t.Helper()
	return newRingOf(t, XentraceConfiguration{PageSize: 4096, Records: 1}, arenaSize)
}

func newRingOf(t testing.TB, cfg XentraceConfiguration, size int) *ring {
	t.Helper()
	a := newArenaOf(t, size)
	a.device()
	spec, err := LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range spec.Programs {
		if name != XentraceProgFentryGcBegin && name != XentraceProgFentryGcEnd {
			delete(spec.Programs, name)
			continue
		}
		program.Type, program.AttachType, program.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
	}
	if err := spec.Variables[XentraceVarRingLayout].Set(fakeLayout); err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables[XentraceVarConfig].Set(cfg); err != nil {
		t.Fatal(err)
	}
	p := loadSpec(t, a, spec)
	reader, err := ringbuf.NewReader(p.collection.Maps[XentraceMapEvents])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	r := &ring{p, reader, atQueue}
	binary.NativeEndian.PutUint32(r.at(atQueue, fakeLayout.Id), fakeID)
	binary.NativeEndian.PutUint64(r.at(atQueue, fakeLayout.Info), a.address+atInfo)
	binary.NativeEndian.PutUint64(r.at(atInfo, fakeLayout.Netdev), a.address+atDev)
	binary.NativeEndian.PutUint64(r.at(atQueue, fakeLayout.Sring), a.address+atSring)
	a.flush()
	return r
}

func (r *ring) at(start int, offset uint32) []byte { return r.arena.memory[start+int(offset):] }

// skb returns the address of one of the fake packets; 0 stands for none.
func (r *ring) skb(n int) uint64 {
	if n == 0 {
		return 0
	}
	return r.arena.address + atSkbs + uint64(n)*0x1000
}

// request puts a request of a packet into the driver's table.
func (r *ring) request(id, packet int) {
	binary.NativeEndian.PutUint64(r.at(r.queue, fakeLayout.TxSkbs+uint32(8*id)), r.skb(packet))
}

// An answer of the backend.
type answer struct{ id, status int }

const (
	answerOK      = 0
	answerError   = -1
	answerDropped = -2
	answerNull    = 1
)

func (r *ring) respond(index uint32, a answer) {
	entry := r.at(atSring, fakeLayout.Ring+index%256*12)
	binary.NativeEndian.PutUint16(entry, uint16(a.id))
	binary.NativeEndian.PutUint16(entry[2:], uint16(int16(a.status)))
}

func (r *ring) setCons(cons uint32) {
	binary.NativeEndian.PutUint32(r.at(r.queue, fakeLayout.RspCons), cons)
}

// collect is one run of xennet_tx_buf_gc from rsp_cons on. Of the answers those
// from late on come while it runs.
func (r *ring) collect(cons uint32, answers []answer, late int) {
	r.t.Helper()
	r.setCons(cons)
	for i, a := range answers[:late] {
		r.respond(cons+uint32(i), a)
	}
	r.arena.flush()
	r.run(XentraceProgFentryGcBegin, r.arena.address+uint64(r.queue))
	for i, a := range answers {
		r.respond(cons+uint32(i), a)
		if a.status != answerNull && a.id < 256 {
			r.request(a.id, 0)
		}
	}
	r.setCons(cons + uint32(len(answers)))
	r.arena.flush()
	r.run(XentraceProgFentryGcEnd, r.arena.address+uint64(r.queue))
}

// A collection is one run: what the backend answered.
type collection struct {
	answers []answer
	late    bool // they come while it runs
}

var collections = []struct {
	name     string
	requests []int // the packet of each id; 0: the id is not in use, or a frame of XDP
	cons     uint32
	runs     []collection
	want     []int // the packets reported
}{
	{name: "nothing came", requests: []int{1}, runs: []collection{{}}},
	{name: "all was taken", requests: []int{1, 1, 2}, runs: []collection{{answers: []answer{{0, answerOK}, {1, answerOK}, {2, answerOK}}}}},
	{name: "an error", requests: []int{1}, runs: []collection{{answers: []answer{{0, answerError}}}}, want: []int{1}},
	{name: "a drop", requests: []int{1}, runs: []collection{{answers: []answer{{0, answerDropped}}}}, want: []int{1}},
	{name: "several slots of a packet are one", requests: []int{1, 1, 1, 1},
		runs: []collection{{answers: []answer{{3, answerError}, {0, answerError}, {2, answerError}, {1, answerError}}}}, want: []int{1}},
	{name: "slots of two packets mixed", requests: []int{1, 2, 1, 2},
		runs: []collection{{answers: []answer{{0, answerError}, {1, answerError}, {2, answerError}, {3, answerError}}}}, want: []int{1, 2}},
	{name: "one of many", requests: []int{1, 2, 3, 4},
		runs: []collection{{answers: []answer{{0, answerOK}, {1, answerOK}, {2, answerError}, {3, answerOK}}}}, want: []int{3}},
	{name: "an error behind good slots of the packet", requests: []int{1, 1, 1},
		runs: []collection{{answers: []answer{{0, answerOK}, {1, answerError}, {2, answerOK}}}}, want: []int{1}},
	{name: "extra information with the id of another", requests: []int{1, 2},
		runs: []collection{{answers: []answer{{0, answerError}, {1, answerNull}, {1, answerOK}}}}, want: []int{1}},
	{name: "indices that wrap", requests: []int{1, 2, 3}, cons: 0xffffffff,
		runs: []collection{{answers: []answer{{0, answerOK}, {1, answerError}, {2, answerOK}}}}, want: []int{2}},
	{name: "places that wrap", requests: []int{1, 2, 3}, cons: 255,
		runs: []collection{{answers: []answer{{0, answerError}, {1, answerOK}, {2, answerError}}}}, want: []int{1, 3}},
	{name: "answers come while it runs", requests: []int{1, 2, 3},
		runs: []collection{{answers: []answer{{0, answerError}, {2, answerError}}, late: true}}, want: []int{1, 3}},
	{name: "a packet's answers in two runs", requests: []int{1, 1, 1, 2},
		runs: []collection{{answers: []answer{{0, answerError}}}, {answers: []answer{{1, answerError}, {2, answerError}, {3, answerError}}}}, want: []int{1, 2}},
	{name: "a good answer first, the error in the next run", requests: []int{1, 1},
		runs: []collection{{answers: []answer{{0, answerOK}}}, {answers: []answer{{1, answerError}}}}, want: []int{1}},
	{name: "good ones in the runs after the error", requests: []int{1, 1, 1},
		runs: []collection{{answers: []answer{{0, answerError}}}, {answers: []answer{{1, answerOK}}}, {answers: []answer{{2, answerError}}}}, want: []int{1}},
	{name: "an id out of range", requests: []int{1}, runs: []collection{{answers: []answer{{256, answerError}, {65535, answerError}}}}},
	{name: "a frame of XDP", requests: []int{0}, runs: []collection{{answers: []answer{{0, answerError}}}}},
}

// Which packets are reported, each once, with its slots and its queue.
func TestRejected(t *testing.T) {
	for _, typed := range waysOfReading(t, newArena(t)) {
		r := newRingOf(t, XentraceConfiguration{PageSize: 4096, Records: 1, TypedReads: typed}, arenaSize)
		for _, test := range collections {
			t.Run(fmt.Sprintf("%s typed %d", test.name, typed), func(t *testing.T) {
				r.t = t
				r.packets()
				for id, packet := range test.requests {
					r.request(id, packet)
				}
				r.play(test.cons, test.runs)
				r.check(test.want)
			})
		}
	}
}

func (r *ring) packets() {
	for n := 1; n <= maxFakes; n++ {
		at := atSkbs + n*0x1000
		r.arena.packet(at, r.arena.page()+256, uint32(60+n), fitting)
	}
}

func (r *ring) play(cons uint32, runs []collection) {
	for _, run := range runs {
		late := len(run.answers)
		if run.late {
			late = 0
		}
		r.collect(cons, run.answers, late)
		cons += uint32(len(run.answers))
	}
}

// check compares the records and the count with the packets that should be reported.
func (r *ring) check(want []int) {
	r.t.Helper()
	for _, packet := range want {
		event := readRecord(r.t, r.reader)
		if event.Verdict != XentraceVerdictVERDICT_REJECTED || event.Cause != 0 {
			r.t.Errorf("verdict %d, cause %d, want rejected without one", event.Verdict, event.Cause)
		}
		if event.HeadLen != uint32(60+packet) || event.Slots != 2 || event.Queue != fakeID {
			r.t.Errorf("a head of %d bytes, %d slots, queue %d: want packet %d, 2, %d",
				event.HeadLen, event.Slots, event.Queue, packet, fakeID)
		}
	}
	if left := r.reader.AvailableBytes(); left != 0 {
		r.t.Errorf("%d bytes of further records", left)
	}
	if got := r.counted(fakeSlotID).Rejected; got != uint64(len(want)) {
		r.t.Errorf("%d rejected, want %d", got, len(want))
	}
}

// A full ring of answers, one in 40 of them an error, across its end; as the runs
// of few answers it is one run of the program.
func TestRejectedOfFullRing(t *testing.T) {
	r := newRing(t)
	r.packets()
	var answers []answer
	var want []int
	for id := range 256 {
		packet := maxFakes
		a := answer{255 - id, answerOK}
		if id%40 == 39 {
			packet = len(want) + 1
			want = append(want, packet)
			a.status = answerError
		}
		r.request(255-id, packet)
		answers = append(answers, a)
	}
	r.collect(0xffffff85, answers, 100)
	r.check(want)
}

// Packets of an interface that is not watched are neither reported nor counted; with
// all interfaces watched they are counted with those that are not known yet.
func TestRejectedOfUnknownInterface(t *testing.T) {
	for _, any := range []uint8{0, 1} {
		r := newRingOf(t, XentraceConfiguration{PageSize: 4096, AnyInterface: any}, arenaSize)
		r.arena.set(atDev, fakeIndex+1, "net_device", "ifindex")
		r.packets()
		r.request(0, 1)
		r.collect(7, []answer{{0, answerError}}, 1)
		if got := r.counted(0).Rejected; got != uint64(any) {
			t.Errorf("any interface %d: %d rejected, want as many", any, got)
		}
		if got := r.counted(fakeSlotID).Rejected; got != 0 {
			t.Errorf("%d rejected of the watched interface, want 0", got)
		}
	}
}

// Another connection of the queue begins with rsp_cons at 0, and what is known of
// half-answered packets goes with the old one.
func TestRejectedForgetsOldConnection(t *testing.T) {
	r := newRing(t)
	r.packets()
	r.request(0, 1)
	r.request(1, 1)
	r.collect(9, []answer{{0, answerError}}, 1)
	r.check([]int{1})
	r.request(1, 2)
	r.collect(0, []answer{{1, answerError}}, 1)
	r.check([]int{2})
	if n := r.reportedQueues(); n != 0 {
		t.Errorf("%d queues are waited for, want 0", n)
	}
}

// What a run of xennet_tx_buf_gc() pays, as the kernel counts it: two good answers,
// or a full ring of them.
func BenchmarkCollect(b *testing.B) {
	for _, answers := range []int{2, 256} {
		b.Run(strconv.Itoa(answers), func(b *testing.B) {
			r := newRing(b)
			for i := range answers {
				r.respond(uint32(i), answer{i, answerOK})
			}
			r.arena.flush()
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = stats.Close() }()
			for b.Loop() {
				r.setCons(0)
				r.arena.flush()
				r.run(XentraceProgFentryGcBegin, r.arena.address+uint64(r.queue))
				r.setCons(uint32(answers))
				r.arena.flush()
				r.run(XentraceProgFentryGcEnd, r.arena.address+uint64(r.queue))
			}
			for _, name := range []string{XentraceProgFentryGcBegin, XentraceProgFentryGcEnd} {
				s, err := r.collection.Programs[name].Stats()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(s.Runtime.Nanoseconds())/float64(s.RunCount), name+"-ns")
			}
		})
	}
}

// Two queues of which each has a packet with a response in two runs, at addresses of the
// same hash: neither forgets what was reported of the other.
func TestRejectedOfTwoQueues(t *testing.T) {
	r := newRingOf(t, XentraceConfiguration{PageSize: 4096, Records: 1}, 2<<20)
	r.packets()
	const other = atQueue + 256<<12
	copy(r.arena.memory[other:], r.arena.memory[atQueue:atQueue+0x1000])
	run := func(queue int, cons uint32, packet int, a answer) {
		r.queue = queue
		r.request(0, packet)
		r.request(1, packet)
		r.collect(cons, []answer{a}, 1)
	}
	run(atQueue, 9, 1, answer{0, answerError})
	run(other, 20, 2, answer{0, answerError})
	run(atQueue, 10, 1, answer{1, answerError})
	run(other, 21, 2, answer{1, answerError})
	r.check([]int{1, 2})
	if n := r.reportedQueues(); n != 0 {
		t.Errorf("%d queues are waited for, want none", n)
	}
}

// What a queue was waited for goes with it when its address is used again, and with its
// last response.
func TestRejectedOfQueueThatIsGone(t *testing.T) {
	r := newRing(t)
	r.packets()
	r.request(0, 1)
	r.request(1, 1)
	r.collect(9, []answer{{0, answerError}}, 1)
	r.check([]int{1})
	if n := r.reportedQueues(); n != 1 {
		t.Errorf("%d queues are waited for, want 1", n)
	}
	r.request(0, 0)
	r.request(1, 2)
	r.collect(0, []answer{{1, answerOK}}, 1) // connected anew
	if n := r.reportedQueues(); n != 0 {
		t.Errorf("%d queues are waited for, want none", n)
	}
}

// reportedQueues is how many queues are waited for. They are counted by a hash of their
// address, each in its place.
func (r *ring) reportedQueues() int {
	r.t.Helper()
	var counts [256]uint32
	if err := r.collection.Variables[XentraceVarReportedQueues].Get(&counts); err != nil {
		r.t.Fatal(err)
	}
	own := counts[(r.arena.address+uint64(r.queue))>>12%256]
	counts[(r.arena.address+uint64(r.queue))>>12%256] = 0
	if counts != [256]uint32{} {
		r.t.Errorf("queues of other addresses are waited for: %v", counts)
	}
	return int(own)
}
