package trace

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// One interface that is named twice, by its alternative name too, is one.
func TestFindKnowsAnInterfaceByItsOtherName(t *testing.T) {
	need.Root(t, "to make a network namespace")
	need.Tool(t, "ip")
	done := make(chan struct{})
	go func() { // the thread ends with the goroutine: its namespace is another
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		if out, err := exec.Command("ip", "link", "property", "add", "dev", "lo", "altname", "loopback0").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		found, err := selector{[]string{"lo", "loopback0", "lo"}}.find(t.Context())
		if err != nil || len(found) != 1 || found[0].Name != "lo" {
			t.Errorf("found %v (%v), want lo once", found, err)
		}
	}()
	<-done
}
