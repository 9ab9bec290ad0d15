//go:build xenlab

package guest

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xentrace/test/tool"
)

// kernelTypes are those of a kernel that has none itself.
const kernelTypes = "/lab/vmlinux"

func needNoBTF(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err == nil {
		t.Skip("this kernel has BTF (--kernel 6.12-nobtf)")
	}
}

// Without BTF what traces is refused and says what works, and what needs no tracing does.
func TestKernelWithoutBTF(t *testing.T) {
	needNoBTF(t)
	recording := filepath.Join(t.TempDir(), "recording")
	for _, test := range []struct {
		command string
		status  int
		want    []string
	}{
		{"watch -d 1s", 3, []string{"no BTF type information", "--btf FILE", "run xentrace learn once", "check, fix"}},
		{"watch --backend tracepoint -d 1s", 3, []string{"no BTF type information", "--btf FILE"}},
		{"hist -d 1s", 3, []string{"no BTF type information", "--btf FILE"}},
		{"record -d 1s --dir " + recording, 3, []string{"no BTF type information", "--btf FILE"}},
		{"congestion -d 1s", 3, []string{"no BTF type information", "--btf FILE"}},
		{"check --observe 1s", 0, []string{"Not observed: cannot run here", "no BTF type", "UNKNOWN skb_frags"}},
		{"fix", 0, []string{"nothing to fix"}},
		{"probe --to 10.44.0.1:7006", 3, []string{"no BTF type information", "--btf FILE"}},
		{"watch -d 1s --btf /proc/cpuinfo", 3, []string{"neither an ELF file nor BTF", "/proc/cpuinfo"}},
	} {
		t.Run(test.command, func(t *testing.T) {
			out, err := exec.Command(program(t), strings.Fields(test.command)...).CombinedOutput()
			if status := exitCode(err); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			for _, want := range test.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("output %q, want %q in it", out, want)
				}
			}
		})
	}
	status, _ := driverStatus(t)
	c := check(t, 0)
	c.is(t, "linearize", status, "read_from:running kernel")
}

// With its types in a file, named or where distributions put them, each backend that needs no
// BTF in the kernel counts to the packet.
func TestTypesOfAFile(t *testing.T) {
	needNoBTF(t)
	usual := "/boot/vmlinux-" + env(t, "XENTRACE_LAB_KERNEL")
	for _, place := range []string{kernelTypes, usual} {
		for _, backend := range backends(t) {
			t.Run(filepath.Base(filepath.Dir(place))+"/"+backend, func(t *testing.T) {
				args := []string{program(t), "watch", "-o", "json", "--backend", backend}
				if place == usual {
					command(t, "mkdir", "-p", filepath.Dir(usual))
					command(t, "cp", kernelTypes, usual)
					t.Cleanup(func() { command(t, "rm", usual) })
				} else {
					args = append(args, "--btf", place)
				}
				countsRockets(t, args)
			})
		}
	}
}

// countsRockets runs the tracer next to packets over the limit among ordinary ones.
func countsRockets(t *testing.T, args []string) {
	t.Helper()
	const rounds, burst = 10, 20
	run := tool.Start(t, args...)
	time.Sleep(settle)
	packets := counter(t, "tx_packets")
	if err := sendMixed(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), 7006), rounds, burst); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settle)
	packets = counter(t, "tx_packets") - packets
	output := run.Stop()
	i := output.Only(t)
	if i.Counted() != packets || packets < rounds*(burst+1) {
		t.Errorf("%d packets counted, the interface sent %d, want at least %d", i.Counted(), packets, rounds*(burst+1))
	}
	if i.Linearized != rounds || i.Dropped != 0 || len(output.Packets) != rounds {
		t.Errorf("%d linearized, %d dropped, %d records; want %d, 0, %d", i.Linearized, i.Dropped, len(output.Packets), rounds, rounds)
	}
}
