//go:build !cgo

package trace

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
	"xentrace/test/role"
)

// Without -i a confined process still enters the network namespaces of other processes.
func TestOtherNamespacesWithoutRoot(t *testing.T) {
	need.Root(t, "to make network namespaces, and to have privileges to drop")
	other := exec.Command("cat")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if _, err := other.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", other.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	child := role.Command("confined", strings.Trim(target, "net:[]"))
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
