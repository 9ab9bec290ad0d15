//go:build !cgo

package trace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/test/need"
)

const namespaceVariable = "XENTRACE_TEST_NAMESPACE"

// TestConfinedNamespaces is the process of [TestOtherNamespacesWithoutRoot].
func TestConfinedNamespaces(t *testing.T) {
	inum, err := strconv.ParseUint(os.Getenv(namespaceVariable), 10, 32)
	if err != nil {
		t.Skip("is run by another test")
	}
	f := newHolderFinder(kernel.NewTypes())
	if err := f.loaded(); err != nil {
		t.Fatal(err)
	}
	if err := KeepPrivileges(kernel.Nobody, nil); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != kernel.Nobody.UID {
		t.Fatalf("uid is %d", os.Getuid())
	}
	all, err := netdev.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loopback := slices.IndexFunc(all, func(i netdev.Interface) bool { return i.Namespace == uint32(inum) && i.Name == "lo" })
	if loopback < 0 {
		t.Fatalf("%v: want lo of network namespace %d", all, inum)
	}
	if _, err := readKernel(t.Context(), all[loopback], false); err != nil {
		t.Error(err)
	}
	// Owners of sockets and a driver's return still work.
	if _, err := f.find([]uint64{1}); err != nil {
		t.Error(err)
	}
	if _, err := loadPrograms(kernel.NewTypes(), "settle_packets"); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/etc/cron.d/xentrace-test", "/run/xentrace-test", "/proc/sys/kernel/hostname"} {
		if file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			t.Errorf("%s: could be opened for writing", path)
			_ = file.Close()
		} else if !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

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
	child := exec.Command(os.Args[0], "-test.run=^TestConfinedNamespaces$")
	child.Env = append(os.Environ(), namespaceVariable+"="+strings.Trim(target, "net:[]"))
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
