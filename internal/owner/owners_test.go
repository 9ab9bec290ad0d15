package owner

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/procfs"
)

// kernel is a find function on processes that the test makes up.
type kernel struct {
	holders map[uint64][]event.Task
	senders map[event.FlowKey][]event.Task
	asked   [][]uint64
	err     error
	delay   time.Duration
}

func (k *kernel) find(w event.Wanted) ([]event.Holder, error) {
	time.Sleep(k.delay)
	k.asked = append(k.asked, w.Inodes)
	if k.err != nil {
		return nil, k.err
	}
	var found []event.Holder
	for _, inode := range w.Inodes {
		for _, task := range k.holders[inode] {
			found = append(found, event.Holder{Inode: inode, Task: task})
		}
	}
	for _, key := range w.Flows {
		for _, task := range k.senders[key] {
			found = append(found, event.Holder{Inode: 9, Flow: key, UID: 33, Task: task})
		}
	}
	return found, nil
}

// noProcess is a procfs in which nothing is.
func newTestOwners(t *testing.T, k *kernel) *owners {
	o := newOwners(k.find)
	o.lookups.cgroups.processes = procfs.NewProcesses(t.TempDir())
	o.lookups.fallback = func([]uint64) ([]event.Holder, error) { return nil, errors.New("not asked for") }
	return o
}

func of(inode uint64, change ...func(*event.Packet)) *event.Packet {
	p := &event.Packet{Socket: &event.Socket{Address: inode << 8, Inode: inode, UID: 33}}
	for _, c := range change {
		c(p)
	}
	return p
}

func sentBy(task event.Task) func(*event.Packet) {
	return func(p *event.Packet) { p.Sender = &task }
}

func orphaned(p *event.Packet) { p.Socket.Inode = 0 }

func connection(sndUna uint32, acked uint64) func(*event.Packet) {
	return func(p *event.Packet) { p.TCP = &event.TCP{SndUna: sndUna, BytesAcked: acked} }
}

func cookie(c uint64) func(*event.Packet) { return func(p *event.Packet) { p.Socket.Cookie = c } }

var (
	parent  = event.Task{PID: 100, Comm: "parent", Started: 10 * time.Second}
	child   = event.Task{PID: 200, Comm: "child", Started: 20 * time.Second}
	another = event.Task{PID: 50, Comm: "another", Started: 30 * time.Second}
	began   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// settled completes a packet, lookingUp for what is pending if that is needed.
func settled(t *testing.T, o *owners, p *event.Packet, now time.Time) *event.Process {
	t.Helper()
	if !o.complete(p, now) {
		ask(t, o, now)
		if !o.complete(p, now) {
			t.Fatal("not settled by the answer")
		}
	}
	return p.Process
}

func wantProcess(t *testing.T, got *event.Process, want *event.Task) {
	t.Helper()
	switch {
	case want == nil && got == nil:
	case want == nil || got == nil || got.PID != want.PID || got.Comm != want.Comm || got.UID != 33:
		t.Errorf("process %+v, want %+v and uid 33", got, want)
	}
}

func TestOldestHolderIsOwner(t *testing.T) {
	k := &kernel{holders: map[uint64][]event.Task{1: {child, another, parent, child}, 2: {{PID: 9, Started: 1}, {PID: 8, Started: 1}}}}
	o := newTestOwners(t, k)
	wantProcess(t, settled(t, o, of(1), began), &parent)
	wantProcess(t, settled(t, o, of(2), began), &event.Task{PID: 8})
	if len(k.asked) != 2 {
		t.Errorf("asked %v, want once for each", k.asked)
	}
	wantProcess(t, settled(t, o, of(1), began.Add(time.Second)), &parent)
	if len(k.asked) != 2 {
		t.Errorf("asked %v, want nothing for a known socket", k.asked)
	}
}

// Who was seen sending stays the owner of what interrupts send, while it holds the socket.
func TestSenderIsOwner(t *testing.T) {
	k := &kernel{holders: map[uint64][]event.Task{1: {parent, child}}}
	o := newTestOwners(t, k)
	wantProcess(t, settled(t, o, of(1), began), &parent)
	wantProcess(t, settled(t, o, of(1, sentBy(child)), began), &child)
	wantProcess(t, settled(t, o, of(1), began), &child)
	later := began.Add(refreshAfter)
	wantProcess(t, settled(t, o, of(1), later), &child)
	ask(t, o, later)
	wantProcess(t, settled(t, o, of(1), later), &child)
	k.holders[1] = []event.Task{parent}
	later = later.Add(refreshAfter)
	o.complete(of(1), later)
	ask(t, o, later)
	wantProcess(t, settled(t, o, of(1), later), &parent)
}

// ask asks for what is pending, which must be something.
func ask(t *testing.T, o *owners, now time.Time) {
	t.Helper()
	asked := o.takePending(true)
	if !asked.walks() && len(asked.tasks) == 0 {
		t.Fatal("nothing is pending, want a socket whose owner was known for long, or a task")
	}
	found, err := o.lookups.run(asked)
	if err != nil {
		t.Fatal(err)
	}
	o.apply(asked, found, now)
}

func TestSenderNeedsNoAsking(t *testing.T) {
	k := &kernel{}
	o := newTestOwners(t, k)
	p := of(1, sentBy(child))
	wantProcess(t, settled(t, o, p, began), &child)
	if len(k.asked)+len(o.pending.sockets) != 0 {
		t.Error("asked for holders, want none for a packet whose sender is known")
	}
	renamed := child
	renamed.Comm = "renamed"
	wantProcess(t, settled(t, o, of(1, sentBy(renamed)), began), &renamed)
}

func TestNobodyIsRemembered(t *testing.T) {
	k := &kernel{holders: map[uint64][]event.Task{}}
	o := newTestOwners(t, k)
	wantProcess(t, settled(t, o, of(1), began), nil)
	wantProcess(t, settled(t, o, of(1), began.Add(retryAfter-1)), nil)
	if len(k.asked) != 1 {
		t.Errorf("asked %v, want once", k.asked)
	}
	k.holders[1] = []event.Task{parent}
	wantProcess(t, settled(t, o, of(1), began.Add(retryAfter)), &parent)
}

// A socket without a file has the owner that it had, if it is certainly the same one.
func TestOwnerOfOrphans(t *testing.T) {
	const una, acked = 0x10, 0x20 // the sequence numbers have gone round
	for _, test := range []struct {
		name   string
		before []func(*event.Packet)
		after  []func(*event.Packet)
		same   bool
	}{
		{"same connection", []func(*event.Packet){connection(una, acked)}, []func(*event.Packet){connection(una+7000, acked+7000)}, true},
		{"another connection at the address", []func(*event.Packet){connection(una, acked)}, []func(*event.Packet){connection(una+7000, acked)}, false},
		{"same cookie", []func(*event.Packet){cookie(7)}, []func(*event.Packet){cookie(7)}, true},
		{"another cookie", []func(*event.Packet){cookie(7)}, []func(*event.Packet){cookie(8)}, false},
		{"UDP without a cookie", nil, nil, false},
		{"UDP socket at a connection's address", []func(*event.Packet){connection(una, acked)}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := newTestOwners(t, &kernel{holders: map[uint64][]event.Task{1: {parent}}})
			wantProcess(t, settled(t, o, of(1, test.before...), began), &parent)
			var want *event.Task
			if test.same {
				want = &parent
			}
			wantProcess(t, settled(t, o, of(1, append(test.after, orphaned)...), began), want)
		})
	}
	o := newTestOwners(t, &kernel{})
	wantProcess(t, settled(t, o, of(1, orphaned, cookie(0)), began), nil)
}

func TestPacketWithoutSocket(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	p := &event.Packet{}
	if !o.complete(p, began) || p.Process != nil {
		t.Errorf("process %+v, want none and no waiting", p.Process)
	}
}

// What is kept is bounded, and what is used stays the longest.
func TestKnownSocketsAreBounded(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	settled(t, o, of(1, sentBy(parent)), began)
	for n := range uint64(3 * maxSockets) {
		o.complete(of(n+1, sentBy(parent)), began.Add(time.Duration(n)*time.Millisecond))
		if len(o.sockets) > maxSockets || len(o.inodes) > maxSockets {
			t.Fatalf("%d sockets kept, want at most %d", len(o.sockets), maxSockets)
		}
	}
	for n := range uint64(3 * event.MaxWanted) {
		o.complete(of(1<<32+n), began)
	}
	for n := range 3 * event.MaxWanted {
		o.complete(of(1, sentBy(event.Task{PID: 1000 + n})), began)
	}
	if len(o.pending.sockets) != event.MaxWanted || len(o.pending.tasks) != event.MaxWanted {
		t.Errorf("%d sockets and %d tasks pending, want %d each", len(o.pending.sockets), len(o.pending.tasks), event.MaxWanted)
	}
}

// A user with many sockets and processes does not keep others' from being looked up.
func TestLookupsAreSharedByUsers(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	ask := func(n uint64, uid uint32) {
		p := of(n)
		p.Socket.UID = uid
		o.complete(p, began)
		p = of(1<<40+n, sentBy(event.Task{PID: int(n)}))
		p.Socket.UID = uid
		o.complete(p, began)
	}
	for n := range uint64(3 * event.MaxWanted) {
		ask(1000+n, 1000)
	}
	for n := range uint64(40) {
		ask(100_000+n, 1001)
	}
	for n := range uint64(event.MaxWanted) {
		ask(200_000+n, 1000)
	}
	sockets, tasks := 0, 0
	for _, l := range o.pending.sockets {
		if l.uid == 1001 {
			sockets++
		}
	}
	for _, l := range o.pending.tasks {
		if l.uid == 1001 {
			tasks++
		}
	}
	if sockets != 40 || tasks != 40 || len(o.pending.sockets) != event.MaxWanted || len(o.pending.tasks) != event.MaxWanted {
		t.Errorf("%d sockets and %d processes of the second user are looked up, want 40; %d and %d of all", sockets, tasks, len(o.pending.sockets), len(o.pending.tasks))
	}
}

// Sockets that send nothing any more do not pile up until there is no space.
func TestUnusedSocketsAreForgotten(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	settled(t, o, of(1, sentBy(parent)), began)
	for n := range uint64(1000) {
		o.complete(of(n+1, sentBy(parent)), began)
	}
	for _, test := range []struct {
		after time.Duration
		want  int
	}{{idleTimeout - time.Second, 1001}, {idleTimeout + expireInterval, 2}} {
		now := began.Add(test.after)
		settled(t, o, of(uint64(2000+test.want), sentBy(parent)), now)
		if len(o.sockets) != test.want || len(o.inodes) != test.want {
			t.Errorf("%d sockets kept after %v, want %d", len(o.sockets), test.after, test.want)
		}
	}
}

func TestProcIsSearchedWithoutIterator(t *testing.T) {
	k := &kernel{err: fmt.Errorf("no iterator: %w", errors.ErrUnsupported)}
	o := newTestOwners(t, k)
	o.lookups.fallback = func(inodes []uint64) ([]event.Holder, error) {
		return []event.Holder{{Inode: inodes[0], Task: child}}, nil
	}
	wantProcess(t, settled(t, o, of(1), began), &child)
}

func BenchmarkKnownSocket(b *testing.B) {
	o := newOwners((&kernel{}).find)
	o.complete(of(1, sentBy(parent)), began)
	p := of(1)
	for range b.N {
		o.complete(p, began)
	}
}
