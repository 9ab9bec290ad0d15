package netns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"xentrace/internal/demo/network"
	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// route is a pair of interfaces with a sender over it.
type route struct {
	t      *testing.T
	near   network.End
	far    network.End
	sender *rocket.UDP
	peer   *rocket.Datagrams
}

// route joins near and far once more, by a pair whose near end has that name.
func (l *lab) route(name, near, far string) *route {
	l.t.Helper()
	a, b := l.join(name, name+"-far", netip.MustParsePrefix(near), netip.MustParsePrefix(far))
	sink := l.udpSink(netip.MustParsePrefix(far).Addr())
	datagrams, err := rocket.NewDatagrams(l.t.Context(), sink.Local(), rocket.Options{})
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, datagrams.Close()) })
	return &route{t: l.t, near: a, far: b, sender: l.udp(sink.Local(), rocket.Options{}), peer: datagrams}
}

// send sends rockets and ordinary datagrams.
func (r *route) send(rockets, ordinary int) {
	r.t.Helper()
	must(r.t, r.peer.Send(r.t.Context(), ordinary, 100))
	for range rockets {
		_, err := r.sender.Send(r.t.Context())
		must(r.t, err)
	}
}

// rename gives the near end another name, as one may that is not up.
func (r *route) rename(to string) {
	r.t.Helper()
	change(r.t, r.near.Name, netlink.LinkSetDown, func(l netlink.Link) error { return netlink.LinkSetName(l, to) }, netlink.LinkSetUp)
	r.near.Name = to
	must(r.t, network.Acquaint(r.near, r.far))
}

// change looks the interface up by its name and changes it.
func change(t *testing.T, name string, how ...func(netlink.Link) error) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	for _, h := range how {
		must(t, h(link))
	}
}

// moveTo moves an interface into another namespace.
func moveTo(n *network.Namespace) func(netlink.Link) error {
	return func(l netlink.Link) error { return netlink.LinkSetNsFd(l, n.Fd()) }
}

// tally is what one interface of the summary must say.
type tally struct {
	name               string
	packets, overLimit uint64
}

// Interfaces that are renamed, removed, made anew and moved while the program
// runs: each packet is counted for the interface that it was on, and no
// interface is forgotten.
func TestInterfacesComeAndGo(t *testing.T) {
	l := newLab(t)
	a := l.route("a", "10.98.1.1/24", "10.98.1.2/24")
	b := l.route("b", "10.98.2.1/24", "10.98.2.2/24")
	m := l.route("m", "10.98.3.1/24", "10.98.3.2/24")
	watch := start(t, "watch", "-i", "a", "-i", "b", "-i", "m", "-o", "json")

	a.send(3, 10)
	b.send(4, 20)
	m.send(1, 5)
	// A record is given the name that its interface has when it is read.
	eventually(t, "8 records", func() bool { return strings.Count(watch.stdout.String(), "\n") == 8 })
	a.rename("renamed")
	watch.saysOnStderr("interface a is now called renamed")
	a.send(2, 30)
	eventually(t, "10 records", func() bool { return strings.Count(watch.stdout.String(), "\n") == 10 })

	change(t, "b", netlink.LinkDel)
	watch.saysOnStderr("interface b is gone")
	again := l.route("b", "10.98.2.1/24", "10.98.2.2/24")
	watch.saysOnStderr("interface b appeared and is watched")
	again.send(5, 7)

	elsewhere := newNamespace(t)
	change(t, "m", moveTo(elsewhere))
	watch.saysOnStderr("interface m moved to another network namespace")

	c := l.route("c", "10.98.4.1/24", "10.98.4.2/24") // not asked for
	c.send(9, 9)
	c.rename("a") // now it is
	watch.saysOnStderr("interface a appeared and is watched")
	c.send(6, 8)
	watch.stop()

	checkCounted(t, summaryOf(t, watch.stdout.String()), []tally{
		{"renamed", 45, 5}, {"b", 24, 4}, {"m", 6, 1}, {"b", 12, 5}, {"a", 14, 6},
	})
	checkNames(t, recordsOf(t, watch.stdout.String()), []string{
		"a", "a", "a", "b", "b", "b", "b", "m", "renamed", "renamed", "b", "b", "b", "b", "b", "a", "a", "a", "a", "a", "a",
	})
}

func checkCounted(t *testing.T, s tool.Summary, want []tally) {
	t.Helper()
	if len(s.Interfaces) != len(want) {
		t.Fatalf("%d interfaces in the summary, want %d: %+v", len(s.Interfaces), len(want), s.Interfaces)
	}
	indexes := make(map[int]bool)
	for n, w := range want {
		i := s.Interfaces[n]
		got := tally{i.Ifname, i.Packets, i.OverLimit}
		if got != w || i.Counted() != i.Packets {
			t.Errorf("interface %d: %+v, %d in the histogram: want %+v", n, got, i.Counted(), w)
		}
		indexes[i.Ifindex] = true
	}
	if len(indexes) != len(want) {
		t.Errorf("%d different interfaces, want %d", len(indexes), len(want))
	}
}

func checkNames(t *testing.T, records []tool.Packet, want []string) {
	t.Helper()
	var names []string
	for _, p := range records {
		names = append(names, p.Ifname)
	}
	if got := strings.Join(names, " "); got != strings.Join(want, " ") {
		t.Errorf("records of %s, want %s", got, strings.Join(want, " "))
	}
}

// A program that waits for an interface sees it from its first packet on.
func TestWaitsForAnInterface(t *testing.T) {
	l := newLab(t)
	watch := launchXentrace(t, "watch", "-i", "late", "--wait", "-o", "json")
	watch.saysOnStderr("waiting for an interface to appear")
	r := l.route("late", "10.98.1.1/24", "10.98.1.2/24")
	watch.saysOnStderr("watching late (veth) with backend tracepoint")
	r.send(3, 4)
	watch.stop()
	checkCounted(t, summaryOf(t, watch.stdout.String()), []tally{{"late", 7, 3}})
}
