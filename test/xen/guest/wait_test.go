//go:build xenlab

package guest

import (
	"os/exec"
	"testing"
	"time"

	"xentrace/test/tool"
)

// netfront loads or unloads the driver, with the interface's addresses.
func netfront(t *testing.T, action string) {
	t.Helper()
	if out, err := exec.Command("netfront", action).CombinedOutput(); err != nil {
		t.Errorf("netfront %s: %v\n%s", action, err, out)
	}
}

// With --wait the tracer may be started before the driver is loaded.
func TestWaitForDriver(t *testing.T) {
	const n, port = 100, 7011
	netfront(t, "unload")
	out, err := exec.Command(program(t), "hist", "-d", "1s").CombinedOutput()
	if code := exitCode(err); code != 3 {
		t.Errorf("without the driver: status %d, want 3\n%s", code, out)
	}
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		time.Sleep(3 * time.Second)
		netfront(t, "load")
	}()
	run := tool.Start(t, program(t), "watch", "--wait", "-o", "json")
	<-loaded
	time.Sleep(settle)
	packets := counter(t, "tx_packets")
	sendOrdinary(t, port, n)
	time.Sleep(settle)
	packets = counter(t, "tx_packets") - packets
	output := run.Stop()
	i := output.Only(t)
	if i.Driver != "xen-netfront" || i.Backend != backends(t)[0] {
		t.Errorf("driver %s, backend %s, want xen-netfront and %s", i.Driver, i.Backend, backends(t)[0])
	}
	// Loading sends a few packets of its own, before or after the hooks are there.
	if i.Counted() < packets || packets < n {
		t.Errorf("%d packets counted, %d sent, want at least %d", i.Counted(), packets, n)
	}
}

func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}
