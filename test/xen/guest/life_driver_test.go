//go:build xenlab

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// notices of a driver that goes and comes.
const (
	saysUnloaded = "xen-netfront was unloaded"
	saysBack     = "xen-netfront is loaded again and watched"
	saysHolds    = "this trace holds the driver's module"
)

// withoutFentry are the backends that do not hold the driver's module.
func withoutFentry(t *testing.T) []string {
	t.Helper()
	all := backends(t)
	return all[len(all)-2:]
}

// saysWhatDriverDoes are the words that tell what was read of a driver's code.
func saysWhatDriverDoes(drops bool) string {
	if drops {
		return "driver drops packets over the slot limit"
	}
	return "driver linearizes packets over the slot limit"
}

// The driver is unloaded and loaded again: the hooks come back with it, at its new
// addresses, and nothing is counted twice.
func TestLifeDriverReloaded(t *testing.T) {
	for _, backend := range withoutFentry(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend, "-i", ifname)   // named, fewer privileges are kept
			l.run.Says(saysWhatDriverDoes(l.drops), 1) // a driver unloaded before is never read
			l.traffic(10, 200)
			last := l.total()
			netfront(t, "unload")
			l.ended(last)
			l.run.Says(saysUnloaded, 1)
			time.Sleep(settle)
			netfront(t, "load")
			l.run.Says(saysBack, 1)
			l.run.Says(saysWhatDriverDoes(l.drops), 2)
			unseen := l.total()
			l.traffic(10, 200)
			output := l.end(unseen.packets)
			if length := gap(t, &output, "driver_unloaded"); length < settle || length > 20*time.Second {
				t.Errorf("a gap of %v, want at least %v", length, settle)
			}
			if n := len(output.Summary.Interfaces); n != 2 {
				t.Errorf("%d interfaces, want the one before and the one after", n)
			}
			lives := map[bool]int{}
			for _, i := range output.Summary.Interfaces {
				lives[i.TxDroppedDelta == nil]++
			}
			if lives[true] != 1 || lives[false] != 1 || output.Summary.Missing["tx_dropped_delta"] == "" {
				t.Errorf("tx_dropped_delta is missing of %d interfaces (%q), want of the one that is gone", lives[true], output.Summary.Missing["tx_dropped_delta"])
			}
		})
	}
}

// Reloaded without a pause, several times, once while the tracer is stopped.
func TestLifeDriverReloadedFast(t *testing.T) {
	const times = 3
	for _, backend := range withoutFentry(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.run.Says(saysWhatDriverDoes(l.drops), 1) // a driver unloaded before is never read
			var unseen uint64
			for n := range times {
				l.traffic(5, 100)
				l.ended(l.total())
				if n == 1 {
					l.run.Signal(unix.SIGSTOP)
				}
				netfront(t, "unload")
				netfront(t, "load")
				l.run.Signal(unix.SIGCONT)
				l.run.Says(saysBack, n+1)
				l.run.Says(saysWhatDriverDoes(l.drops), n+2)
				unseen += l.total().packets
			}
			l.traffic(5, 100)
			output := l.end(unseen)
			if n := len(output.Summary.Gaps); n != times {
				t.Errorf("gaps %v, want %d", gapsOf(&output), times)
			}
		})
	}
}

// The driver without the fix is replaced by Debian's while the tracer runs: what each
// dropped or linearized keeps its cause.
func TestLifeAnotherDriver(t *testing.T) {
	if env(t, "XENTRACE_LAB_DRIVER") != "prefix" {
		t.Log("the stock driver's lab has no other driver to load: shown with --driver prefix")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stock := filepath.Join(filepath.Dir(self), "stock", "xen-netfront.ko")
	for _, backend := range withoutFentry(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.traffic(10, 100)
			last := l.total()
			netfront(t, "unload")
			l.ended(last)
			command(t, "insmod", stock)
			netfront(t, "up")
			l.run.Says(saysBack, 1)
			l.run.Says(saysWhatDriverDoes(false), 1)
			unseen := l.total()
			l.drops = false
			l.traffic(10, 100)
			l.ended(l.total())
			netfront(t, "unload")
			netfront(t, "load")
			l.run.Says(saysBack, 2)
			l.run.Says(saysWhatDriverDoes(true), 2)
			l.drops = true
			unseen.packets += l.total().packets
			l.traffic(10, 100)
			output := l.end(unseen.packets)
			for n, want := range []map[string]uint64{{"too_many_slots": 10}, {}, {"too_many_slots": 10}} {
				if n >= len(output.Summary.Interfaces) {
					t.Fatalf("%d interfaces, want 3", len(output.Summary.Interfaces))
				}
				for cause, count := range output.Summary.Interfaces[n].Causes {
					if count != want[cause] {
						t.Errorf("life %d: %d dropped for %s, want %d", n, count, cause, want[cause])
					}
				}
			}
		})
	}
}

// fentry holds the module in place, and says how to let go when the interface is taken
// off the driver.
func TestLifeDriverHeld(t *testing.T) {
	if backends(t)[0] != "fentry" {
		t.Log("no BTF of the driver on this kernel, and so no fentry")
		return
	}
	l := beginLife(t, "fentry")
	l.traffic(10, 100)
	last := l.total()
	if out, err := exec.Command("netfront", "unload").CombinedOutput(); err == nil {
		t.Errorf("the driver could be unloaded: %s", out)
	}
	l.ended(last)
	l.run.Says(saysHolds, 1)
	if err := os.WriteFile("/sys/bus/xen/drivers/vif/bind", []byte("vif-0"), 0); err != nil {
		t.Fatal(err)
	}
	netfront(t, "up")
	l.traffic(10, 100)
	output := l.end(0)
	noGap(t, &output)
	if strings.Count(output.Stderr, saysHolds) != 1 || strings.Contains(output.Stderr, saysUnloaded) {
		t.Errorf("notices %q: want %q once, and no word of a driver that was unloaded", output.Stderr, saysHolds)
	}
	// Once it has ended, the driver can go.
	netfront(t, "unload")
	netfront(t, "load")
}
