package netdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

func TestInterfaces(t *testing.T) {
	ns := newNamespace(t)
	addVeth(t, ns, "left", "right", 3)
	must(t, ns.netlink.LinkSetMTU(link(byName(t, ns, "left")), 9001))
	must(t, ns.netlink.LinkSetUp(link(byName(t, ns, "left"))))

	list, err := ns.Interfaces()
	must(t, err)
	if len(list) != 3 {
		t.Fatalf("%d interfaces, want lo, left and right: %v", len(list), list)
	}
	lo, left := byName(t, ns, "lo"), byName(t, ns, "left")
	if lo.Index != 1 || !lo.Loopback || lo.IsNetfront() || lo.Kind != "" || lo.Queues != 1 {
		t.Errorf("lo is %+v", lo)
	}
	if left.Driver != "veth" || left.Kind != "veth" || left.MTU != 9001 || left.Queues != 3 ||
		!left.Up || left.Running || left.Namespace != ns.Inum() || left.IsNetfront() || len(left.HardwareAddr) != 6 {
		t.Errorf("left is %+v", left)
	}
	again, err := ns.ByIndex(left.Index)
	must(t, err)
	if again.Name != "left" || again.Queues != 3 {
		t.Errorf("interface with index %d is %+v", left.Index, again)
	}
}

// A multi-queue tap allocates far more queues than its descriptors use.
func TestQueuesInUse(t *testing.T) {
	ns := newNamespace(t)
	must(t, ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: "tap"}, Mode: netlink.TUNTAP_MODE_TAP,
			Flags: netlink.TUNTAP_MULTI_QUEUE, Queues: 2, NonPersist: false,
		})
	}))
	tap := byName(t, ns, "tap")
	if tap.Driver != "tun" {
		t.Errorf("driver is %q, want tun", tap.Driver)
	}
	allocated, err := ns.link(tap.Index)
	must(t, err)
	if n := allocated.Attrs().NumTxQueues; n < 8 || tap.Queues != 2 {
		t.Errorf("%d queues allocated, %d in use, want many and 2", n, tap.Queues)
	}
}

func TestInterfaceNotFound(t *testing.T) {
	ns := newNamespace(t)
	for name, ask := range map[string]struct {
		call func() error
		says string
	}{
		"name":             {func() error { _, err := ns.ByName("no\x1b[31m"); return err }, `"no\x1b[31m"`},
		"empty name":       {func() error { _, err := ns.ByName(""); return err }, `""`},
		"very long name":   {func() error { _, err := ns.ByName(strings.Repeat("x", 300)); return err }, "xxx"},
		"alternative name": {func() error { _, err := ns.ByName(strings.Repeat("y", 100)); return err }, "yyy"},
		"index":            {func() error { _, err := ns.ByIndex(4711); return err }, "4711"},
		"negative index":   {func() error { _, err := ns.ByIndex(-1); return err }, "-1"},
		"counters":         {func() error { _, err := ns.Counters(4712); return err }, "4712"},
		"features":         {func() error { _, err := ns.Features(4713); return err }, "4713"},
	} {
		err := ask.call()
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error is %v, want %v", name, err, ErrNotFound)
			continue
		}
		if text := err.Error(); !strings.Contains(text, ask.says) || !strings.Contains(text, fmt.Sprint(ns.Inum())) {
			t.Errorf("%s: error %q says not both %q and %d", name, text, ask.says, ns.Inum())
		}
	}
}

func TestInterfaceNameIsQuoted(t *testing.T) {
	ns := newNamespace(t)
	iface, _ := addVeth(t, ns, "plain", "peer", 1)
	if iface.String() != "plain" {
		t.Errorf("%s, want plain", iface)
	}
	must(t, ns.netlink.LinkSetName(link(iface), "a\x1b[31m\xff"))
	iface, err := ns.ByIndex(iface.Index)
	must(t, err)
	if iface.String() != `"a\x1b[31m\xff"` {
		t.Errorf("shown as %s", iface)
	}
	if f, err := ns.Features(iface.Index); err != nil || !f.ScatterGather.Active {
		t.Errorf("features %+v, error %v", f, err)
	}
	if iface.Queues != 1 || iface.Driver != "veth" {
		t.Errorf("%+v", iface)
	}
}

func TestFeaturesFollowEthtool(t *testing.T) {
	ns := newNamespace(t)
	iface, _ := addVeth(t, ns, "left", "right", 1)
	on := Feature{Active: true, Requested: true, Changeable: true}
	f, err := ns.Features(iface.Index)
	must(t, err)
	if f != (Features{on, on, on, on}) {
		t.Errorf("a new veth has %+v, want everything on", f)
	}
	set := func(command, value uint32) {
		t.Helper()
		request := struct{ command, value uint32 }{command, value}
		must(t, ethtoolIoctl(ns.control, "left", unsafe.Pointer(&request)))
	}
	set(unix.ETHTOOL_SGSO, 0)
	if f, err = ns.Features(iface.Index); err != nil || f.GSO.Active || !f.TSO.Active || !f.ScatterGather.Active {
		t.Errorf("gso off: %+v, %v", f, err)
	}
	set(unix.ETHTOOL_SSG, 0)
	if f, err = ns.Features(iface.Index); err != nil || f.ScatterGather.Active || f.TSO.Active || f.TSO6.Active || !f.TSO.Requested {
		t.Errorf("sg off: %+v, %v", f, err)
	}
	lo, err := ns.Features(1)
	must(t, err)
	if !lo.ScatterGather.Active || lo.ScatterGather.Changeable {
		t.Errorf("lo: %+v, want scatter-gather on and fixed", lo)
	}
}

func TestCounters(t *testing.T) {
	ns := newNamespace(t)
	left, right := addVeth(t, ns, "left", "right", 1)
	must(t, ns.netlink.LinkSetUp(link(left)))
	const frame = 60
	// The peer is down, so there is no carrier: the core drops what goes past the queueing discipline.
	before, err := ns.Counters(left.Index)
	must(t, err)
	sendFrames(t, ns, left.Index, 7, frame, true)
	after, err := ns.Counters(left.Index)
	must(t, err)
	if after.TxDropped-before.TxDropped != 7 || after.TxPackets != before.TxPackets {
		t.Errorf("without carrier: tx_dropped +%d, tx_packets +%d, want 7 and 0",
			after.TxDropped-before.TxDropped, after.TxPackets-before.TxPackets)
	}
	// Neighbour discovery would be counted too.
	must(t, ns.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	}))
	must(t, ns.netlink.LinkSetUp(link(right)))
	awaitCarrier(t, ns, left)
	before, err = ns.Counters(left.Index)
	must(t, err)
	sendFrames(t, ns, left.Index, 11, frame, false)
	after, err = ns.Counters(left.Index)
	must(t, err)
	received, err := ns.Counters(right.Index)
	must(t, err)
	if after.TxPackets-before.TxPackets != 11 || after.TxBytes-before.TxBytes != 11*frame || received.RxPackets < 11 {
		t.Errorf("with carrier: tx_packets +%d, tx_bytes +%d, peer received %d, want 11, %d, 11",
			after.TxPackets-before.TxPackets, after.TxBytes-before.TxBytes, received.RxPackets, 11*frame)
	}
}

// awaitCarrier waits until the interface has a queueing discipline that sends. The kernel's
// linkwatch attaches it, up to a second after the peer is up.
func awaitCarrier(t *testing.T, ns *Namespace, iface Interface) {
	t.Helper()
	for state := netlink.LinkOperState(netlink.OperUnknown); state != netlink.OperUp; time.Sleep(time.Millisecond) {
		l, err := ns.netlink.LinkByIndex(iface.Index)
		must(t, err)
		must(t, t.Context().Err())
		state = l.Attrs().OperState
	}
}

// sendFrames hands n frames of the given length to an interface.
func sendFrames(t *testing.T, ns *Namespace, index, n, length int, bypass bool) {
	t.Helper()
	must(t, ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if bypass {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
				return err
			}
		}
		data := make([]byte, length)
		data[0], data[12] = 0x02, 0x88 // a local address, an experimental protocol
		for range n {
			err := unix.Sendto(fd, data, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
			// A drop is reported as ENOBUFS.
			if err != nil && (!bypass || err != unix.ENOBUFS) {
				return err
			}
		}
		return nil
	}))
}

func TestAllNamesTheNamespace(t *testing.T) {
	p := newProcess(t)
	addVeth(t, open(t, p.Found), "only-here", "peer", 1)
	list, err := All(t.Context())
	must(t, err)
	found := 0
	for _, iface := range list {
		if iface.Name == "only-here" && iface.Namespace == p.Inum {
			found++
		}
	}
	if found != 1 {
		t.Errorf("only-here was listed %d times in namespace %d, want once", found, p.Inum)
	}
}

// The test runs a copy of itself as an ordinary user.
func TestWithoutPrivilege(t *testing.T) {
	const variable = "NETDEV_TEST_UNPRIVILEGED"
	if os.Getenv(variable) != "" {
		withoutPrivilege(t)
		return
	}
	need.Root(t, "to run as another user")
	dir, err := os.MkdirTemp("", "netdev")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "test")
	must(t, copyFile(program, "/proc/self/exe"))
	cmd := exec.Command(program, "-test.run=^TestWithoutPrivilege$", "-test.v", "-test.count=1")
	cmd.Dir, cmd.Env = dir, []string{variable + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Uid: 65534, Gid: 65534},
	}
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "PASS: TestWithoutPrivilege") {
		t.Errorf("as an ordinary user: %v\n%s", err, output)
	}
}

func withoutPrivilege(t *testing.T) {
	if os.Getuid() != 65534 {
		t.Fatalf("user is %d", os.Getuid())
	}
	ns, err := Current()
	must(t, err)
	defer ns.Close()
	lo := byName(t, ns, "lo")
	if _, err := ns.Counters(lo.Index); err != nil {
		t.Error(err)
	}
	if f, err := ns.Features(lo.Index); err != nil || !f.ScatterGather.Active {
		t.Errorf("features %+v, error %v", f, err)
	}
	events, err := ns.Watch(t.Context())
	must(t, err)
	if event := <-events; event.Kind != Appeared || event.Interface.Name != "lo" {
		t.Errorf("first event is %+v, want lo", event)
	}
	found, err := Namespaces(t.Context())
	if err != nil || len(found) == 0 {
		t.Errorf("namespaces %v, error %v", found, err)
	}
}

func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
