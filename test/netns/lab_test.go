package netns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/internal/slots"
	"xentrace/test/need"
	"xentrace/test/process"
	"xentrace/test/rocket"
)

// xentrace is the program under test: what XENTRACE_BINARY names, or else built
// from the sources next to.
var xentrace string

func TestMain(m *testing.M) {
	process.Main()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if xentrace = os.Getenv("XENTRACE_BINARY"); xentrace != "" || os.Geteuid() != 0 {
		return m.Run() // each test says that it needs root
	}
	directory, err := os.MkdirTemp("", "xentrace-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(directory)
	xentrace = filepath.Join(directory, "xentrace")
	build := exec.Command("go", "build", "-o", xentrace, "xentrace/cmd/xentrace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	// For the test that runs it as somebody else.
	if err := os.Chmod(directory, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

var (
	nearAddress  = netip.MustParsePrefix("10.98.0.1/24")
	farAddress   = netip.MustParsePrefix("10.98.0.2/24")
	nearAddress6 = netip.MustParsePrefix("fd98::1/64")
	farAddress6  = netip.MustParsePrefix("fd98::2/64")
)

// limit is what a Xen frontend takes.
const limit = slots.Limit

// lab is two network namespaces joined by a veth pair, near and far.
type lab struct {
	t         *testing.T
	near, far network.End
}

// newLab makes them. The test's goroutine is in the near namespace from then on,
// with what it starts: sockets, programs.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		t:    t,
		near: network.End{Namespace: newNamespace(t), Name: "near", Addresses: []netip.Prefix{nearAddress, nearAddress6}},
		far:  network.End{Namespace: newNamespace(t), Name: "far", Addresses: []netip.Prefix{farAddress, farAddress6}},
	}
	must(t, network.Join(l.near, l.far, 1500))
	enter(t, l.near.Namespace)
	l.awaitSilence()
	return l
}

// awaitSilence waits until the kernel has announced the groups that IPv6 makes
// it join: nothing but what a test sends is to be counted.
func (l *lab) awaitSilence() {
	l.t.Helper()
	var before uint64
	since := time.Now()
	eventually(l.t, "silence", func() bool {
		if now := transmitted(l.t, l.near); now != before {
			before, since = now, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
}

func newNamespace(t *testing.T) *network.Namespace {
	t.Helper()
	need.Root(t, "to make network namespaces")
	n, err := network.NewNamespace()
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

// inum returns the inode number that names a namespace.
func inum(t *testing.T, n *network.Namespace) uint32 {
	t.Helper()
	var stat unix.Stat_t
	must(t, unix.Fstat(n.Fd(), &stat))
	return uint32(stat.Ino)
}

// enter puts the test's goroutine, and a thread for it, into a namespace until
// the end of the test.
func enter(t *testing.T, n *network.Namespace) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	must(t, unix.Setns(n.Fd(), unix.CLONE_NEWNET))
	t.Cleanup(func() {
		// Where it cannot go back the thread stays locked, and ends with the test.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		must(t, home.Close())
	})
}

// join makes another veth pair between near and far.
func (l *lab) join(near, far string, nearAddress, farAddress netip.Prefix) (network.End, network.End) {
	l.t.Helper()
	a := network.End{Namespace: l.near.Namespace, Name: near, Addresses: []netip.Prefix{nearAddress}}
	b := network.End{Namespace: l.far.Namespace, Name: far, Addresses: []netip.Prefix{farAddress}}
	must(l.t, network.Join(a, b, 1500))
	return a, b
}

// transmitted returns what an interface itself counted: packets taken from the
// stack, sent or dropped.
func transmitted(t *testing.T, e network.End) uint64 {
	t.Helper()
	sent, dropped, err := e.Transmitted()
	must(t, err)
	return sent + dropped
}

// udpSink receives at the far end.
func (l *lab) udpSink(at netip.Addr) *rocket.UDPSink {
	l.t.Helper()
	var sink *rocket.UDPSink
	must(l.t, l.far.Namespace.Do(func() (err error) {
		sink, err = rocket.NewUDPSink(l.t.Context(), netip.AddrPortFrom(at, 0))
		return err
	}))
	l.t.Cleanup(func() { must(l.t, sink.Close()) })
	return sink
}

// tcpSink accepts connections at the far end.
func (l *lab) tcpSink(at netip.Addr) *rocket.TCPSink {
	l.t.Helper()
	var sink *rocket.TCPSink
	must(l.t, l.far.Namespace.Do(func() (err error) {
		sink, err = rocket.NewTCPSink(l.t.Context(), netip.AddrPortFrom(at, 0))
		return err
	}))
	l.t.Cleanup(func() { must(l.t, sink.Close()) })
	return sink
}

// udp makes a sender of rockets at the near end.
func (l *lab) udp(remote netip.AddrPort, opts rocket.Options) *rocket.UDP {
	l.t.Helper()
	sender, err := rocket.NewUDP(l.t.Context(), remote, opts)
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, sender.Close()) })
	return sender
}

// tcp makes a sender of rockets at the near end.
func (l *lab) tcp(remote netip.AddrPort, opts rocket.Options) *rocket.TCP {
	l.t.Helper()
	sender, err := rocket.NewTCP(l.t.Context(), remote, opts)
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, sender.Close()) })
	return sender
}

// exact makes a sender of packets of a chosen number of slots at the near end.
func (l *lab) exact(remote netip.AddrPort) *rocket.Exact {
	l.t.Helper()
	sender, err := rocket.NewExact(l.t.Context(), remote, rocket.Options{})
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, sender.Close()) })
	return sender
}

// eventually waits until the condition is true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
