package check

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// One interface that is named twice, by its alternative name too, is one.
func TestLinksOfAnInterfaceByBothNames(t *testing.T) {
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
		links, err := readLinks(t.Context(), []string{"lo", "loopback0"})
		if err != nil || len(links.Judged) != 1 || links.Judged[0].Name != "lo" {
			t.Errorf("%d interfaces (%v), want lo once", len(links.Judged), err)
		}
	}()
	<-done
}
