package trace

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/ringread"
)

// testPacket is what the tests look at.
type testPacket struct {
	number int
	cause  event.Cause
}

// A testRing is a tracer that reads a ring buffer which the test fills.
type testRing struct {
	*Tracer
	t      *testing.T
	record *ebpf.Map
	output *ebpf.Program
}

// smallRing is far smaller than what the tests send through it, in bytes.
const smallRing = 64 << 10

func newTestRing(t *testing.T) *testRing {
	t.Helper()
	registry := newTestRegistry(t)
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: smallRing})
	if err != nil {
		t.Fatal(err)
	}
	record, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(recordHeader+7) / 8 * 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	output, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.LoadMapValue(asm.R2, record.FD(), 0),
		asm.Mov.Imm(asm.R3, int32(recordHeader)),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := ringread.New(ring)
	if err != nil {
		t.Fatal(err)
	}
	reader.SetDeadline(time.Now())
	t.Cleanup(func() { _ = errors.Join(reader.Close(), ring.Close(), record.Close(), output.Close()) })
	r := &testRing{
		Tracer: &Tracer{registry: registry.registry, reader: reader, decoder: *newDecoder(), pending: pending{limit: maxPending}},
		t:      t, record: record, output: output,
	}
	r.driver.generations.begin(0, "")
	return r
}

// emit puts a packet on the ring; number identifies the packet. The ring is never full.
func (r *testRing) emit(number int, verdict event.Verdict, cause event.Cause) {
	r.t.Helper()
	e := tcpEvent(0)
	e.Verdict, e.Cause, e.Len = bpf.XentraceVerdict(verdict), bpf.XentraceCause(cause), uint32(number)
	value := make([]byte, r.record.ValueSize())
	copy(value, raw(e, 0))
	if err := r.record.Put(uint32(0), value); err != nil {
		r.t.Fatal(err)
	}
	for waited := 0; r.reader.Available() > smallRing/2; waited++ {
		if waited > 1000 {
			r.t.Fatalf("packet %d: the ring is not drained", number)
		}
		time.Sleep(time.Millisecond)
	}
	status, err := r.output.Run(&ebpf.RunOptions{Context: [1]uint64{}})
	if err != nil || status != 0 {
		r.t.Fatalf("packet %d: status %d, %v: the ring is full", number, int32(status), err)
	}
}

// read reads on in the background until Read fails. The channel holds all it may return.
func (r *testRing) read(ctx context.Context) (<-chan testPacket, <-chan error) {
	packets, end := make(chan testPacket, 1<<16), make(chan error, 1)
	go func() {
		for {
			p, err := r.Read(ctx)
			if err != nil {
				close(packets)
				end <- err
				return
			}
			packets <- testPacket{p.Len, p.Cause}
		}
	}()
	return packets, end
}

// stopped ends the counting as Stop does.
func (r *testRing) stopped() {
	r.t.Helper()
	now := time.Now()
	r.ended.Store(&now)
	if err := r.reader.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

// answer is what reading the driver's code ends with.
func (r *testRing) answer(value netfront.Linearization) {
	r.driver.generations.current().resolve(netfront.Answer{Value: value})
	r.wake()
}

// While the driver's code is being read, records flow out of a ring that is far too small
// for them, at most maxPending packets are held back, and those beyond that are delivered
// with the cause unknown. Order is kept, and none is lost.
func TestRingIsDrainedWhileTheAnswerIsPending(t *testing.T) {
	const known, beyond = 3, 700
	r := newTestRing(t)
	packets, end := r.read(t.Context())
	want := make([]testPacket, 0, known+maxPending+beyond)
	for n := range cap(want) {
		cause := event.SGOff
		if n >= known && n%2 == 1 {
			cause = event.TooManySlots
		}
		r.emit(n, event.Dropped, cause)
		if n >= known && n < known+beyond && cause == event.TooManySlots {
			cause = event.UnknownCause
		}
		want = append(want, testPacket{n, cause})
	}
	var got []testPacket
	for len(got) < known+beyond {
		select {
		case p := <-packets:
			got = append(got, p)
		case <-time.After(time.Minute):
			t.Fatalf("%d packets were delivered before the answer, want %d", len(got), known+beyond)
		}
	}
	time.Sleep(2 * recheckDelay)
	if n := len(packets); n > 1 { // what follows a packet that is released may need no answer
		t.Errorf("%d more packets were delivered before the answer", n)
	}
	r.answer(netfront.Drops)
	r.stopped()
	for p := range packets {
		got = append(got, p)
	}
	if err := <-end; !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d packets, want %d; the first that differs: %v", len(got), len(want), firstDifference(got, want))
	}
}

func firstDifference(got, want []testPacket) [2]testPacket {
	for n := range min(len(got), len(want)) {
		if got[n] != want[n] {
			return [2]testPacket{got[n], want[n]}
		}
	}
	return [2]testPacket{}
}

// An answer wakes a Read that waits, and a packet that was sent as it is is none.
func TestAnswerWakesRead(t *testing.T) {
	r := newTestRing(t)
	packets, _ := r.read(t.Context())
	r.emit(1, event.Linearized, event.CauseNone)
	r.emit(2, event.Dropped, event.TooManySlots)
	time.Sleep(3 * recheckDelay) // it sleeps for long now
	if n := len(packets); n != 0 {
		t.Fatalf("%d packets before the answer", n)
	}
	r.answer(netfront.Drops)
	select {
	case p := <-packets:
		if p != (testPacket{2, event.TooManySlots}) {
			t.Errorf("packet %+v, want the second one", p)
		}
	case <-time.After(idleDelay / 2):
		t.Fatal("the answer did not wake Read")
	}
}

// The end of the context ends a Read at once though the answer is pending; after Stop the
// packets are delivered, their cause unknown.
func TestEndWhileTheAnswerIsPending(t *testing.T) {
	r := newTestRing(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, end := r.read(ctx)
	r.emit(1, event.Dropped, event.TooManySlots)
	r.emit(2, event.Dropped, event.SGOff)
	time.Sleep(3 * recheckDelay)
	cancel()
	select {
	case err := <-end:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Read ended with %v", err)
		}
	case <-time.After(idleDelay / 2):
		t.Fatal("the end of the context did not end Read")
	}
	r.stopped()
	packets, end := r.read(ctx)
	if err := <-end; !errors.Is(err, io.EOF) {
		t.Errorf("after Stop, Read ended with %v", err)
	}
	first, second := <-packets, <-packets
	if first != (testPacket{1, event.UnknownCause}) || second != (testPacket{2, event.SGOff}) {
		t.Errorf("packets %+v, %+v", first, second)
	}
}

// A Read whose context is another than that of the last one ends with its own.
func TestEndOfAnotherContext(t *testing.T) {
	r := newTestRing(t)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		_, end := r.read(ctx)
		time.Sleep(3 * recheckDelay) // it sleeps for long now
		cancel()
		select {
		case err := <-end:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Read ended with %v", err)
			}
		case <-time.After(idleDelay / 2):
			t.Fatal("the end of the context did not end Read")
		}
	}
}

// After Stop, packets wait for an answer that comes in time, and not for ever.
func TestStopWaitsForTheAnswerInTime(t *testing.T) {
	over := event.Packet{Verdict: event.Dropped, Cause: event.TooManySlots}
	for _, test := range []struct {
		answered bool
		want     event.Cause
	}{{true, event.LinearizeFailed}, {false, event.UnknownCause}} {
		driver := newGeneration(0)
		p := pending{limit: maxPending}
		p.add(&over, &driver.linearization)
		patience := 50 * time.Millisecond
		if test.answered {
			patience = time.Minute
			time.AfterFunc(10*time.Millisecond, func() { driver.resolve(netfront.Answer{Value: netfront.Linearizes}) })
		}
		p.settle(t.Context(), patience)
		if got, found := p.next(); !found || got.Cause != test.want {
			t.Errorf("answered %v: found %v, cause %q, want %q", test.answered, found, got.Cause, test.want)
		}
	}
}
