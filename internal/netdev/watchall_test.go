package netdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// watchAll watches until the end of the test, and returns once the start is over.
func watchAll(t *testing.T, interval time.Duration) <-chan Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, err := WatchAll(ctx, interval)
	must(t, err)
	t.Cleanup(func() {
		cancel()
		for range events {
		}
	})
	until(t, events, func(e Event) bool { return e.Kind == Synced && e.Namespace == 0 })
	return events
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// The watch keeps no namespace alive: the other end of a pair is gone with its last process,
// not with the next reading.
func TestWatchAllHoldsNoNamespace(t *testing.T) {
	here, other := newNamespace(t), newProcess(t)
	must(t, here.netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}))
	file := openFile(t, other.Path)
	must(t, here.netlink.LinkSetNsFd(link(byName(t, here, "b")), int(file.Fd())))
	must(t, file.Close())
	before := descriptors(t)
	for range 10 {
		newProcess(t)
	}
	processes := descriptors(t) - before // each has a pipe
	watchAll(t, time.Hour)
	// Its own are a namespace, four sockets, and those of the runtime.
	if held := descriptors(t) - before - processes; held > 10 {
		t.Errorf("%d descriptors for 11 namespaces, want at most 10", held)
	}
	other.end()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := here.ByName("a"); errors.Is(err, ErrNotFound) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the namespace is alive 30 s after its last process")
		}
	}
}

// Without descriptors nothing can be watched; with them again, everything is.
func TestWatchAllWithoutDescriptors(t *testing.T) {
	events := watchAll(t, 20*time.Millisecond)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	process := newProcess(t)
	var taken []*os.File
	restore := func() {
		for _, file := range taken {
			must(t, file.Close())
		}
		taken = nil
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: limit.Max}))
	defer func() { restore() }()
	for {
		file, err := os.Open("/dev/null")
		if err != nil {
			break
		}
		taken = append(taken, file)
	}
	failed := until(t, events, func(e Event) bool { return e.Kind == Failed })
	if !errors.Is(failed.Err, unix.EMFILE) {
		t.Errorf("%v, want that there are no descriptors", failed.Err)
	}
	restore()
	later := newProcess(t)
	seen := make(map[uint32]bool)
	until(t, events, func(e Event) bool {
		if e.Kind == Appeared && e.Interface.Name == "lo" {
			seen[e.Namespace] = true
		}
		// It may have been seen before the descriptors were taken.
		return seen[later.Inum]
	})
	process.end()
}

// Of a namespace with very many interfaces some are watched, and it is said.
func TestLinksAreBounded(t *testing.T) {
	process := newProcess(t)
	ns := open(t, process.Found)
	const made = maxLinks + 10 // and lo
	for n := range made {
		must(t, ns.netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("i%d", n)}}))
	}
	p := polled{known: make(map[int]Interface)}
	appeared := 0
	for range 2 * maxLinks / maxDescribed {
		events, err := p.poll(process.Found)
		if err == nil {
			t.Fatal("nothing is said of the interfaces beyond the bound")
		}
		appeared += len(events)
	}
	if appeared != maxLinks || len(p.known) != maxLinks {
		t.Errorf("%d appeared, %d known: want %d", appeared, len(p.known), maxLinks)
	}
}

// A namespace that has the number of one that ended is another one.
func TestNumberOfANamespaceIsReused(t *testing.T) {
	process := newProcess(t)
	p := polled{cookie: 1, known: map[int]Interface{1: {Name: "lo", Index: 1, Loopback: true}}}
	events, err := p.poll(process.Found)
	must(t, err)
	need.That(t, p.cookie > 1, "a kernel with SO_NETNS_COOKIE (Linux 5.14)")
	if len(events) != 2 || events[0].Kind != Disappeared || events[1].Kind != Appeared {
		t.Errorf("%+v: want that lo disappeared, and another appeared", events)
	}
}
