package bench

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/test/need"
)

var (
	nearAddress = netip.MustParsePrefix("10.97.0.1/24")
	farAddress  = netip.MustParsePrefix("10.97.0.2/24")
)

// lab is two network namespaces joined by a veth pair, and two CPUs: one
// for what sends, one for what reads.
type lab struct {
	tb                  testing.TB
	near, far           network.End
	ifindex             int // of the near end
	sending, readingCPU int
}

// newLab makes it. The calling goroutine is in the near namespace until the end
// of the benchmark, with what it starts: sockets, programs.
func newLab(tb testing.TB) *lab {
	tb.Helper()
	l := &lab{
		tb:   tb,
		near: network.End{Namespace: newNamespace(tb), Name: "near", Addresses: []netip.Prefix{nearAddress}},
		far:  network.End{Namespace: newNamespace(tb), Name: "far", Addresses: []netip.Prefix{farAddress}},
	}
	must(tb, network.Join(l.near, l.far, 1500))
	enter(tb, l.near.Namespace)
	link, err := netlink.LinkByName(l.near.Name)
	must(tb, err)
	l.ifindex = link.Attrs().Index
	l.sending, l.readingCPU = cpusOf(tb)
	return l
}

func newNamespace(tb testing.TB) *network.Namespace {
	tb.Helper()
	need.Root(tb, "to make network namespaces")
	n, err := network.NewNamespace()
	must(tb, err)
	tb.Cleanup(func() { must(tb, n.Close()) })
	return n
}

// enter puts the calling goroutine, and a thread for it, into a namespace until
// the end of the benchmark.
func enter(tb testing.TB, n *network.Namespace) {
	tb.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	must(tb, err)
	must(tb, unix.Setns(n.Fd(), unix.CLONE_NEWNET))
	tb.Cleanup(func() {
		// Where it cannot go back the thread stays locked, and ends with the benchmark.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		must(tb, home.Close())
	})
}

// CPUs returns two that this process may use; the same twice if there is one.
func cpusOf(tb testing.TB) (sending, reading int) {
	tb.Helper()
	var allowed unix.CPUSet
	must(tb, unix.SchedGetaffinity(0, &allowed))
	found := make([]int, 0, 2)
	for cpu := 0; cpu < 1024 && len(found) < 2; cpu++ {
		if allowed.IsSet(cpu) {
			found = append(found, cpu)
		}
	}
	return found[0], found[len(found)-1]
}

// nobody returns an address at the far end that the near end has a neighbour for,
// though nobody has it: packets to it go out and are thrown away where they
// arrive, for the wrong hardware address.
func (l *lab) nobody() netip.Addr {
	l.tb.Helper()
	address := farAddress.Addr().Next()
	must(l.tb, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: l.ifindex, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: address.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	}))
	return address
}

// A worker is a thread on one CPU that does what it is given.
type worker struct {
	jobs chan func()
}

// newWorker makes one. One that is urgent is never kept waiting by an ordinary
// thread (SCHED_FIFO).
func newWorker(tb testing.TB, cpu int, urgent bool) *worker {
	tb.Helper()
	w := &worker{jobs: make(chan func())}
	placed := make(chan error)
	go func() {
		runtime.LockOSThread() // never given back: the thread ends with this goroutine
		placed <- place(cpu, urgent)
		for job := range w.jobs {
			job()
		}
	}()
	must(tb, <-placed)
	tb.Cleanup(func() { close(w.jobs) })
	return w
}

func place(cpu int, urgent bool) error {
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("CPU %d: %w", cpu, err)
	}
	if !urgent {
		return nil
	}
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	if err != nil {
		return fmt.Errorf("SCHED_FIFO: %w", err)
	}
	return nil
}

// do runs fn on the worker's thread and waits for it.
func (w *worker) do(fn func() error) error {
	result := make(chan error, 1)
	w.jobs <- func() { result <- fn() }
	return <-result
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
