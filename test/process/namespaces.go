package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespaces runs this program again as root of a user namespace of its own, and of others
// that flags name. It ends with this process.
func inNamespaces(flags uintptr, kind string, args ...string) error {
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"="+kind)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | flags, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd.Run()
}

// links makes and removes interfaces in a network namespace of its own as fast as it can.
func links() error {
	sending()
	for n := 0; ; n++ {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("a%d", n%64)}, PeerName: "b"}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		if err := errors.Join(netlink.LinkSetMTU(link, 1000+n%500), netlink.LinkDel(link)); err != nil {
			return err
		}
	}
}

// device runs a copy of the program, over whose path a device is mounted once it runs.
func device(remote, directory string) error {
	path := filepath.Join(directory, "device")
	if err := copyFile(path, "/proc/self/exe"); err != nil {
		return err
	}
	return become("covered", path, remote)
}

func covered(remote string) error {
	if err := unix.Mount("/dev/zero", os.Args[0], "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount of a device: %w", err)
	}
	return flood(remote, ordinaryPace, 1)
}
