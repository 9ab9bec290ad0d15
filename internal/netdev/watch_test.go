package netdev

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// next returns the next event, or fails after a time no event should take.
func next(t *testing.T, events <-chan Event) Event {
	t.Helper()
	select {
	case event, ok := <-events:
		if !ok {
			t.Fatal("channel closed, want an event")
		}
		return event
	case <-time.After(time.Minute):
		t.Fatal("no event in a minute")
	}
	return Event{}
}

// until returns the first event that matches, leaving out what comes before.
func until(t *testing.T, events <-chan Event, match func(Event) bool) Event {
	t.Helper()
	for {
		if event := next(t, events); match(event) {
			return event
		}
	}
}

// closed fails the test unless the channel ends without another event.
func closed(t *testing.T, events <-chan Event) {
	t.Helper()
	select {
	case event, ok := <-events:
		if ok {
			t.Errorf("event %+v after the end", event)
		}
	case <-time.After(time.Minute):
		t.Error("channel not closed in a minute")
	}
}

func TestWatchTellsWhatHappens(t *testing.T) {
	noLeaks(t)
	here, there := newNamespace(t), newNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := here.Watch(ctx)
	must(t, err)
	expect := func(kind EventKind, name string) Event {
		t.Helper()
		event := next(t, events)
		if event.Kind != kind || event.Interface.Name != name || event.Namespace != here.Inum() {
			t.Fatalf("event is %v %s in %d, want %v %s in %d: %+v", event.Kind, event.Interface, event.Namespace,
				kind, name, here.Inum(), event)
		}
		return event
	}
	expect(Appeared, "lo")
	if synced := expect(Synced, ""); synced.Lost {
		t.Error("notifications lost before anything happened")
	}

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues = "a", 2
	must(t, here.netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "b"}))
	b := expect(Appeared, "b").Interface // the kernel makes the peer first
	a := expect(Appeared, "a").Interface
	if a.Driver != "veth" || a.Queues != 2 {
		t.Errorf("a is %+v", a)
	}
	must(t, here.netlink.LinkSetName(link(a), "c"))
	if renamed := expect(Renamed, "c"); renamed.Previous.Name != "a" || renamed.Interface.Index != a.Index {
		t.Errorf("rename is %+v", renamed)
	}
	must(t, here.netlink.LinkSetMTU(link(a), 1400))
	if changed := expect(Changed, "c"); changed.Interface.MTU != 1400 || changed.Previous.MTU != 1500 {
		t.Errorf("change is %+v", changed)
	}
	must(t, here.netlink.LinkSetNsFd(link(b), int(there.file.Fd())))
	moved := expect(Moved, "b")
	if moved.To != there.Inum() {
		t.Errorf("b went to namespace %d, want %d", moved.To, there.Inum())
	}
	if b = byName(t, there, "b"); moved.ToIndex != b.Index {
		t.Errorf("b went to index %d, is %d there", moved.ToIndex, b.Index)
	}
	must(t, there.netlink.LinkDel(link(b)))
	expect(Disappeared, "c")
	cancel()
	closed(t, events)
	if err := errors.Join(here.Close(), there.Close()); err != nil {
		t.Error(err)
	}
}

// watchLosing watches a namespace and makes more changes of its interface a than the
// watch's small buffer holds while nobody receives, so that the kernel drops
// notifications; its MTU is 1199 then. end ends the watch.
func watchLosing(t *testing.T) (ns *Namespace, iface Interface, events <-chan Event, end func()) {
	t.Helper()
	noLeaks(t)
	ns = newNamespace(t)
	iface, _ = addVeth(t, ns, "a", "b", 1)
	w, err := ns.newWatcher()
	must(t, err)
	must(t, unix.SetsockoptInt(int(w.fd(t)), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan Event)
	go func() {
		defer close(seen)
		w.run(ctx, seen)
	}()
	until(t, seen, func(e Event) bool { return e.Kind == Synced })
	for i := range 200 {
		must(t, ns.netlink.LinkSetMTU(link(iface), 1000+i))
	}
	return ns, iface, seen, func() {
		cancel()
		for range seen {
		}
		must(t, ns.Close())
	}
}

func TestWatchSurvivesLostNotifications(t *testing.T) {
	ns, iface, events, end := watchLosing(t)
	defer end()
	must(t, ns.netlink.LinkSetName(link(iface), "z"))
	// It may look at the interface, and report that it lost some, meanwhile.
	state, lost := iface, false
	until(t, events, func(e Event) bool {
		if e.Interface.Index == iface.Index {
			state = e.Interface
		}
		lost = lost || e.Kind == Synced && e.Lost
		return lost && state.Name == "z" && state.MTU == 1199
	})
}

// What is dropped while the watch recovers is not said by the kernel a second time.
func TestWatchMissesNothingWhileItRecovers(t *testing.T) {
	ns, _, events, end := watchLosing(t)
	defer end()
	until(t, events, func(e Event) bool { return e.Interface.MTU == 1199 })
	addVeth(t, ns, "late", "later", 1)
	missing := map[string]bool{"late": true, "later": true}
	until(t, events, func(e Event) bool {
		if e.Kind == Appeared {
			delete(missing, e.Interface.Name)
		}
		return len(missing) == 0
	})
}

// fd is the watch's socket, which stays with the runtime's poller.
func (w *watcher) fd(t *testing.T) (number uintptr) {
	conn, err := w.socket.SyscallConn()
	must(t, err)
	must(t, conn.Control(func(fd uintptr) { number = fd }))
	return number
}

func TestWatchIgnoresBridgePorts(t *testing.T) {
	ns := newNamespace(t)
	a, _ := addVeth(t, ns, "a", "b", 1)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br"
	must(t, ns.netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	bridge := byName(t, ns, "br")
	if bridge.Driver != "bridge" || bridge.Kind != "bridge" {
		t.Errorf("bridge is %+v", bridge)
	}
	events, err := ns.Watch(t.Context())
	must(t, err)
	until(t, events, func(e Event) bool { return e.Kind == Synced })
	must(t, ns.netlink.LinkSetMaster(link(a), link(bridge)))
	must(t, ns.netlink.LinkSetNoMaster(link(a)))
	must(t, ns.netlink.LinkSetName(link(a), "end"))
	until(t, events, func(e Event) bool {
		if e.Kind == Disappeared || e.Kind == Appeared {
			t.Errorf("event %+v for a port that joined and left a bridge", e)
		}
		return e.Kind == Renamed
	})
}

func TestWatchEndsWithItsNamespaceClosed(t *testing.T) {
	p := newProcess(t)
	watched, other := open(t, p.Found), open(t, p.Found)
	events, err := watched.Watch(t.Context())
	must(t, err)
	until(t, events, func(e Event) bool { return e.Kind == Synced })
	must(t, watched.Close())
	must(t, other.netlink.LinkSetUp(link(byName(t, other, "lo"))))
	if failed := next(t, events); failed.Kind != Failed || !errors.Is(failed.Err, ErrClosed) {
		t.Errorf("event is %+v, want the failure %v", failed, ErrClosed)
	}
	closed(t, events)
}

func TestWatchAllFollowsNamespaces(t *testing.T) {
	noLeaks(t)
	first := newProcess(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := WatchAll(ctx, 20*time.Millisecond)
	must(t, err)
	seen := make(map[uint32]bool)
	until(t, events, func(e Event) bool {
		if e.Kind == Appeared && e.Interface.Name == "lo" {
			seen[e.Namespace] = true
		}
		return e.Kind == Synced && e.Namespace == 0
	})
	if !seen[first.Inum] {
		t.Errorf("lo of namespace %d was not reported before the end of the start", first.Inum)
	}
	in := func(p *process, kind EventKind, name string) func(Event) bool {
		return func(e Event) bool { return e.Namespace == p.Inum && e.Kind == kind && e.Interface.Name == name }
	}
	second := newProcess(t)
	until(t, events, in(second, Appeared, "lo"))

	ns, err := first.Open()
	must(t, err)
	must(t, ns.netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}))
	until(t, events, in(first, Appeared, "a"))
	file := openFile(t, second.Path)
	must(t, ns.netlink.LinkSetNsFd(link(byName(t, ns, "a")), int(file.Fd())))
	must(t, file.Close())
	// The two namespaces' events come in either order.
	left, arrived := false, false
	until(t, events, func(e Event) bool {
		left = left || in(first, Disappeared, "a")(e)
		arrived = arrived || in(second, Appeared, "a")(e)
		return left && arrived
	})
	ns.Close()
	second.end()
	gone := make(map[string]bool)
	until(t, events, func(e Event) bool {
		if e.Namespace == second.Inum && e.Kind == Disappeared {
			gone[e.Interface.Name] = true
		}
		return gone["a"] && gone["lo"]
	})
	// Once closed, the namespace ends, and with it both ends of the pair.
	until(t, events, in(first, Disappeared, "b"))
	cancel()
	for range events {
	}
	first.end()
}
