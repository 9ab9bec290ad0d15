//go:build xenlab

package guest

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"xentrace/test/xen/peer/counts"
)

const (
	ifname = "eth0"
	// limit is the slots xen-netfront gives one packet: MAX_XEN_SKB_FRAGS + 1.
	limit   = 18
	tracing = "/sys/kernel/tracing"
)

// env returns a variable that the lab sets.
func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: these tests run inside the lab's guest (test/xen/suite)", name)
	}
	return value
}

// guestType is PV, or PVH for a hardware-virtualised guest without emulated devices.
func guestType(t *testing.T) string {
	t.Helper()
	return strings.ToUpper(env(t, "XENTRACE_LAB_TYPE"))
}

// driverLoaded reports whether the driver is there.
func driverLoaded() bool {
	_, err := os.Stat("/sys/module/xen_netfront")
	return err == nil
}

// driverBuiltIn reports whether the driver is part of the kernel: a module has a state.
func driverBuiltIn() bool {
	_, err := os.Stat("/sys/module/xen_netfront/initstate")
	return driverLoaded() && err != nil
}

// driverTypes reports whether the driver's structures are known, by BTF of the module or,
// where it is built in, of the kernel.
func driverTypes() bool {
	holder := "xen_netfront"
	if driverBuiltIn() {
		holder = "vmlinux"
	}
	_, err := os.Stat(filepath.Join("/sys/kernel/btf", holder))
	return err == nil
}

// hasKprobeEvents reports whether this kernel has kprobes that count.
func hasKprobeEvents() bool {
	_, err := os.Stat(filepath.Join(tracing, "kprobe_events"))
	return err == nil
}

// peerAddr returns the peer's address of a family, ipv4 or ipv6.
func peerAddr(t *testing.T, family string) netip.Addr {
	t.Helper()
	name := map[string]string{"ipv4": "XENTRACE_PEER", "ipv6": "XENTRACE_PEER6"}[family]
	addr, err := netip.ParseAddr(env(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// ask sends the peer a command (see [counts.Ask]).
func ask(t *testing.T, command string) counts.Counts {
	t.Helper()
	// A PVH guest under emulation, on a busy machine, is that slow.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := counts.Ask(ctx, env(t, "XENTRACE_PEER"), command)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// received waits until the peer has counted at least bytes on a sink, for at most
// half a minute, and returns what it has counted then.
func received(t *testing.T, proto, family string, port int, bytes uint64) counts.Sink {
	t.Helper()
	var sink counts.Sink
	for range 600 {
		sink = ask(t, "counts").Sink(proto, family, port)
		if sink.Bytes >= bytes {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return sink
}

// counter reads one of the interface's counters as sysfs names them.
func counter(t *testing.T, name string) uint64 {
	t.Helper()
	value, err := strconv.ParseUint(readFile(t, filepath.Join("/sys/class/net", ifname, "statistics", name)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func atoi(t *testing.T, value string) int {
	t.Helper()
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// shell runs a script and returns what it prints, without blanks around it.
func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}
