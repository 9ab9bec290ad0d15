package netdev

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// Counters are read without rtnetlink, in which one user can make another wait.
func TestCountersNeedNoRTNL(t *testing.T) {
	ns := newNamespace(t)
	veth, _ := addVeth(t, ns, "veth-of-15-char", "b", 1)
	must(t, ns.netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "b"}}))
	must(t, ns.netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: veth.Name}}))
	want, err := ns.linkCounters(veth.Index)
	must(t, err)
	ns.netlink.Close() // it would use a namespace without this interface
	got, err := ns.Counters(veth.Index)
	must(t, err)
	if got.TxPackets < want.TxPackets || got.TxBytes < want.TxBytes { // IPv6 may have sent more
		t.Errorf("counters %+v, before %+v", got, want)
	}
}

func TestParseCounters(t *testing.T) {
	want := Counters{RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 9, TxPackets: 10, TxDropped: 12}
	got, err := parseCounters([]byte(" 1 2    3 4 5 6 7 8 9 10 11 12 13 14 15 16"))
	if err != nil || got != want {
		t.Errorf("%+v, %v: want %+v", got, err, want)
	}
	for _, text := range []string{"", "1 2 3", "1 x 3 4 5 6 7 8 9 10 11 12 13 14 15 16", "1 2 3 4 5 6 7 8 9 10 11 99999999999999999999 13 14 15 16"} {
		if got, err := parseCounters([]byte(text)); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

// Several are read in one pass, each under the name that it has then.
func TestCountersOfSeveral(t *testing.T) {
	ns := newNamespace(t)
	left, right := addVeth(t, ns, "left", "right", 1)
	must(t, ns.netlink.LinkSetUp(link(left)))
	sendFrames(t, ns, left.Index, 7, 60, true) // dropped: the peer is down
	must(t, ns.netlink.LinkSetName(link(right), "lefty"))
	const missing = 4711
	got := ns.CountersOf([]int{missing, right.Index, left.Index})
	if len(got) != 2 || got[left.Index].TxDropped != 7 || got[right.Index].TxDropped != 0 {
		t.Errorf("counters %+v, want 7 drops of %d, none of %d, and no more", got, left.Index, right.Index)
	}
	if each, err := ns.Counters(left.Index); err != nil || each != got[left.Index] {
		t.Errorf("alone %+v, %v; with others %+v", each, err, got[left.Index])
	}
	must(t, ns.Close())
	if got := ns.CountersOf([]int{left.Index}); len(got) != 0 {
		t.Errorf("once closed: %+v", got)
	}
}
