package trace

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/internal/netdev"
	"xentrace/test/need"
)

// The counters of a namespace are read once, with those of its first interface: what changes
// later does not show.
func TestCountersOfANamespaceAreReadOnce(t *testing.T) {
	need.Root(t, "to make interfaces")
	namespace, err := network.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespace.Close() })
	left := network.End{Namespace: namespace, Name: "left", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}
	right := network.End{Namespace: namespace, Name: "right"}
	if err := network.Join(left, right, 1500); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(namespace.Fd(), &stat); err != nil {
		t.Fatal(err)
	}
	opened, err := netdev.OpenNamespace(t.Context(), uint32(stat.Ino))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	find := func(name string) *watchedInterface {
		i, err := opened.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return &watchedInterface{Interface: i}
	}
	watched := []*watchedInterface{find("left"), find("right")}
	from := newSpaces(nil, slices.Values(watched))
	defer func() { _ = from.close() }()
	if _, err := readKernel(t.Context(), from, watched[0].Interface, false); err != nil {
		t.Fatal(err)
	}
	if err := left.Remove(); err != nil { // and its peer
		t.Fatal(err)
	}
	if _, err := readKernel(t.Context(), from, watched[1].Interface, false); err != nil {
		t.Errorf("the second interface: %v", err)
	}
	alone := newSpaces(nil, slices.Values(watched[:0]))
	defer func() { _ = alone.close() }()
	if _, err := readKernel(t.Context(), alone, watched[1].Interface, false); err == nil {
		t.Error("an interface that is gone has counters")
	}
}
