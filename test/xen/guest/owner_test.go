//go:build xenlab

package guest

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"xentrace/test/process"
	"xentrace/test/role"
	"xentrace/test/tool"
)

// TestMain is also the processes that these tests start.
func TestMain(m *testing.M) {
	process.Main()
	role.Main(map[string]role.Role{"sender": playSender, "soak sender": playSoakSender})
	os.Exit(m.Run())
}

// unprivileged is a user who may do nothing special.
const unprivileged = 65534

// containerID is what a container is called that is none.
var containerID = strings.Repeat("0123456789abcdef", 4)

// inContainer puts this process, and what it starts, into a cgroup of that container until
// the function that it returns is called.
func inContainer(t *testing.T) (unit string, leave func()) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	unit = "docker-" + containerID + ".scope"
	path := filepath.Join(root, "owner.slice", unit)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	join := func(path string) {
		if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	join(path)
	return unit, func() { join(root) }
}

// tellsSenders reports whether the BPF programs can show process context from interrupts:
// Debian's 5.10 has no types of variables.
func tellsSenders(t *testing.T) bool {
	t.Helper()
	types, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(types, []byte("\x00__preempt_count\x00")) || bytes.Contains(types, []byte("\x00pcpu_hot\x00"))
}

// Whose packets are over the limit: with the driver that drops them those of a connection that is stuck, which a timer sends
// again and again on top of processes that keep every CPU busy; and those of
// processes that are gone before anybody could look for them.
func TestOwner(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) { testOwner(t, backend) })
	}
}

func testOwner(t *testing.T, backend string) {
	peer := peerAddr(t, "ipv4")
	run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
	owners := make(map[int]tool.Process)
	unit, leave := inContainer(t)
	for range 3 {
		p := process.Start(t, "short-lived", unprivileged, "datagrams", netip.AddrPortFrom(peer, udpRocketPort).String(), "1")
		port := p.Number()
		owners[port] = tool.Process{PID: p.PID(), Comm: "short-lived", UID: unprivileged, Unit: &unit, Container: &containerID}
		p.Wait()
	}
	leave()
	for cpu := range runtime.NumCPU() {
		process.Start(t, "bystander", 0, "busy", strconv.Itoa(cpu)).Line()
	}
	stuck := process.Start(t, "stuck-sender", 0, "segment", netip.AddrPortFrom(peer, tcpRocketPort).String())
	port := stuck.Number()
	owners[port] = tool.Process{PID: stuck.PID(), Comm: "stuck-sender"}
	time.Sleep(4 * time.Second) // retransmissions after 0.2, 0.6, 1.4 and 3 s
	output := run.Stop()
	counts := make(map[int]int)
	for i := range output.Packets {
		p := &output.Packets[i]
		want, known := owners[p.Flow.Sport]
		switch {
		case !known:
			continue // a part of a segment that was split
		case p.Process == nil && want.Comm == "short-lived" && !tellsSenders(t):
		case p.Process == nil, p.Process.PID != want.PID, p.Process.Comm != want.Comm, p.Process.UID != want.UID:
			t.Errorf("process %+v, want %+v: %s", p.Process, want, p)
		case text(p.Process.Container) != text(want.Container) || want.Unit != nil && text(p.Process.Unit) != *want.Unit:
			t.Errorf("unit %q, container %q, want %q, %q", text(p.Process.Unit), text(p.Process.Container), text(want.Unit), text(want.Container))
		}
		counts[p.Flow.Sport]++
	}
	for from, want := range owners {
		least := 1
		if from == port && env(t, "XENTRACE_LAB_DRIVER") == "prefix" {
			least = 3
		}
		if counts[from] < least {
			t.Errorf("%d records of %s (%d), want at least %d", counts[from], want.Comm, want.PID, least)
		}
	}
	t.Logf("%s: %d records of the stuck connection, senders are reported: %t", backend, counts[port], tellsSenders(t))
}
