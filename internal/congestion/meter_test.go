package congestion

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
	"xentrace/test/need"
)

// meterOf measures interfaces of this machine, or skips where it may not.
func meterOf(t *testing.T, notify func(event.Notice), names ...string) *Meter {
	t.Helper()
	need.Root(t, "to attach")
	m, err := Start(t.Context(), Options{Interfaces: names, Wait: true, Notify: notify})
	if !errors.Is(err, trace.ErrCannotRun) && err != nil {
		t.Fatal(err)
	}
	need.Kernel(t, "what congestion attaches to", err)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// sendOver sends datagrams over the loopback interface, which may send others meanwhile.
func sendOver(t *testing.T, packets int) {
	t.Helper()
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range packets {
		_, _ = c.Write(make([]byte, 100)) // refused by the port, but sent
	}
}

func packetsOf(t *testing.T, r *Reader) uint64 {
	t.Helper()
	reports, err := r.Reports(context.Background())
	if err != nil || len(reports) != 1 {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	return reports[0].Total.Packets
}

// Two readers that take turns each see what was sent since their own last report: what
// one reads is not missing from the other, and the sums agree.
func TestReadersDoNotDisturbEachOther(t *testing.T) {
	const round = 2000
	m := meterOf(t, nil, "lo")
	often, seldom := m.NewReader(), m.NewReader()
	var sum uint64
	for range 3 {
		sendOver(t, round)
		n := packetsOf(t, often)
		if n < round || n > 4*round {
			t.Errorf("%d packets in a round of %d", n, round)
		}
		sum += n
	}
	all := packetsOf(t, seldom)
	if all < sum || all > sum+round/2 {
		t.Errorf("the second reader saw %d packets, the first %d in all", all, sum)
	}
	if n := packetsOf(t, often); n > round/2 {
		t.Errorf("%d packets while nothing was sent", n)
	}
	if n := packetsOf(t, m.NewReader()); n < all {
		t.Errorf("a reader that began late saw %d packets since the start, of %d", n, all)
	}
}

// An interface that comes, is renamed and goes is followed as the kernel announces it.
func TestInterfacesAreFollowed(t *testing.T) {
	need.Tool(t, "ip")
	ip := func(arguments ...string) {
		t.Helper()
		if out, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", arguments, err, out)
		}
	}
	var mu sync.Mutex
	var notices []event.NoticeID
	m := meterOf(t, func(n event.Notice) {
		mu.Lock()
		defer mu.Unlock()
		notices = append(notices, n.ID)
	}, "lo", "xtmeter0")
	ip("link", "add", "xtmeter0", "type", "veth", "peer", "name", "xtmeter9")
	t.Cleanup(func() {
		for _, name := range []string{"xtmeter0", "xtmeter1"} {
			_ = exec.Command("ip", "link", "del", name).Run()
		}
	})
	named := func(name string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			there := m.Interfaces()
			if len(there) == 2 && there[1].Name == name || name == "" && len(there) == 1 {
				return
			}
		}
		t.Fatalf("interfaces %v, want lo and %q", m.Interfaces(), name)
	}
	named("xtmeter0")
	ip("link", "set", "xtmeter0", "name", "xtmeter1")
	named("xtmeter1")
	ip("link", "del", "xtmeter1")
	named("")
	first := m.NewReader()
	if reports, err := first.Reports(t.Context()); err != nil || len(reports) != 2 {
		t.Errorf("%d reports, %v: want lo and the one that came and went", len(reports), err)
	}
	if reports, err := first.Reports(t.Context()); err != nil || len(reports) != 1 {
		t.Errorf("%d reports, %v: want lo only", len(reports), err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []event.NoticeID{event.NoticeInterfaceAdded, event.NoticeInterfaceRenamed, event.NoticeInterfaceRemoved}
	if !slices.Equal(notices, want) {
		t.Errorf("notices %v, want %v", notices, want)
	}
}

// Any number of interfaces may come and go: each is measured, and nothing of one is counted for
// another.
func TestInterfacesMayComeAndGoForEver(t *testing.T) {
	var failed []event.Notice
	m := meterOf(t, func(n event.Notice) {
		if n.ID == event.NoticeInterfaceFailed {
			failed = append(failed, n)
		}
	}, "lo", "xtmeter0")
	home := m.Interfaces()[0].Namespace
	counters, states := m.hooks.collection.Maps[bpf.CongestionMapQueueCountersOf], m.hooks.collection.Maps[bpf.CongestionMapTransmitStateOf]
	reader := m.NewReader()
	const lives, packets = 3*spareInterfaces + 1, 5
	sum := uint64(0)
	for n := range lives {
		i := netdev.Interface{Name: "xtmeter0", Index: 100000 + n, Namespace: home} // no such index is in use
		m.present(netdev.Event{Kind: netdev.Appeared, Interface: i})
		m.mu.Lock() // interfaces of this machine are followed meanwhile
		place := m.find(i)
		m.mu.Unlock()
		if place < 0 {
			t.Fatalf("life %d is not measured: %v", n, failed)
		}
		queue := uint32(place) * m.room.queuesEach
		var state bpf.CongestionTransmitState
		var each []bpf.CongestionQueueCounters
		if err := errors.Join(states.Lookup(queue, &state), counters.Lookup(queue, &each)); err != nil {
			t.Fatal(err)
		}
		if state.StoppedNs != 0 {
			t.Errorf("life %d begins with a queue that is stopped since %d", n, state.StoppedNs)
		}
		each[0].Packets += packets
		state.StoppedNs = 1
		if err := errors.Join(states.Put(queue, &state), counters.Put(queue, each)); err != nil {
			t.Fatal(err)
		}
		m.leave(i)
		if n%3 != 0 { // else it comes and goes between two readings
			continue
		}
		reports, err := reader.Reports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range reports {
			if reports[i].Name == "xtmeter0" {
				sum += reports[i].Total.Packets
			}
		}
	}
	if sum != lives*packets {
		t.Errorf("%d packets reported, want %d", sum, lives*packets)
	}
}
