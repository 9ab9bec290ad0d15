package netdev

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/leak"
	"xentrace/test/need"
)

// process is a process that lives in a network namespace of its own and keeps it alive.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	Found
	ended bool
}

// newProcess starts one. It ends with the test: its input is closed even if the test is killed.
func newProcess(t *testing.T) *process {
	t.Helper()
	need.Root(t, "to make network namespaces")
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("process in a new network namespace: %v", err)
	}
	p := &process{t: t, cmd: cmd}
	t.Cleanup(p.end)
	p.Path = fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	var stat unix.Stat_t
	if err := unix.Stat(p.Path, &stat); err != nil {
		t.Fatal(err)
	}
	p.Inum = uint32(stat.Ino)
	return p
}

// end ends the process, and with it the namespace unless something else keeps it.
func (p *process) end() {
	if p.ended {
		return
	}
	p.ended = true
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// newNamespace makes a namespace for the test and opens it.
func newNamespace(t *testing.T) *Namespace {
	t.Helper()
	return open(t, newProcess(t).Found)
}

// open opens a namespace until the end of the test.
func open(t *testing.T, f Found) *Namespace {
	t.Helper()
	ns, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// addVeth makes a pair of veth interfaces in the namespace and returns both.
func addVeth(t *testing.T, ns *Namespace, name, peer string, queues int) (a, b Interface) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = name, queues, 1
	must(t, ns.netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}))
	return byName(t, ns, name), byName(t, ns, peer)
}

// byName looks an interface up that must be there.
func byName(t *testing.T, ns *Namespace, name string) Interface {
	t.Helper()
	iface, err := ns.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return iface
}

// link is what the netlink package wants to have an interface named by.
func link(iface Interface) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: iface.Index}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noLeaks fails the test if, after its clean-up, it left goroutines or descriptors behind.
func noLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), leak.Open(t)
	t.Cleanup(func() {
		deadline := time.Now().Add(time.Minute)
		for runtime.NumGoroutine() > goroutines && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			stacks := make([]byte, 1<<16)
			t.Errorf("%d goroutines, %d at the start:\n%s", n, goroutines, stacks[:runtime.Stack(stacks, true)])
		}
		if left := files.Left(t); left != nil {
			t.Errorf("descriptors left open: %q", left)
		}
	})
}

// openFile opens a file that must be there.
func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	return file
}
