package kernel

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// initialUserNamespace is the inode of the machine's own user namespace,
// PROC_USER_INIT_INO in include/linux/proc_ns.h.
const initialUserNamespace = "user:[4026531837]"

// InUserNamespace reports whether the process is in a user namespace other than the
// machine's own, as in a rootless container. Its root has every capability there, but none that
// reaches beyond the namespace, as BPF does.
func InUserNamespace() bool {
	namespace, err := os.Readlink("/proc/self/ns/user")
	return err == nil && namespace != initialUserNamespace
}

// initialPIDNamespace is the inode of the machine's own PID namespace, PROC_PID_INIT_INO.
const initialPIDNamespace = "pid:[4026531836]"

// InPIDNamespace reports whether the process is in a PID namespace other than the machine's own, as
// in a container: /proc shows no process outside it.
func InPIDNamespace() bool {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && namespace != initialPIDNamespace
}

// HiddenNetworkNamespaces returns why a process with those capabilities does not find every
// network namespace, and what to do about it; empty if it does.
func HiddenNetworkNamespaces(has Capabilities) string {
	var missing []string
	for _, need := range []Need{
		{Capability: unix.CAP_SYS_ADMIN, Name: "CAP_SYS_ADMIN"},   // to enter one
		{Capability: unix.CAP_SYS_PTRACE, Name: "CAP_SYS_PTRACE"}, // to read /proc/PID/ns/net
	} {
		if !has.Has(need.Capability) {
			missing = append(missing, need.Name)
		}
	}
	switch {
	case InPIDNamespace():
		return "processes outside this PID namespace do not show (container: --network host --pid host)"
	case len(missing) > 0 && (os.Geteuid() != 0 || InUserNamespace()):
		return "that needs root"
	case len(missing) > 0:
		return "that needs " + strings.Join(missing, " and ") + "; " + HowToGain(0)
	}
	return ""
}

// HostNetworkAdvice continues an error about an interface that is not there, where the process is
// in a network namespace other than the machine's own, or may be; elsewhere it is empty. A container
// that has the machine's PID namespace takes CAP_SYS_PTRACE to find that out.
func HostNetworkAdvice() string {
	own, ownErr := os.Readlink("/proc/self/ns/net")
	host, hostErr := os.Readlink("/proc/2/ns/net") // of kthreadd: init may have left it
	if InPIDNamespace() || ownErr == nil && hostErr == nil && own != host {
		return "; a container has the host's interfaces with --network host"
	}
	return ""
}

// ErrBPFRefused says that bpf() is refused, whatever the privileges.
var ErrBPFRefused = errors.New("the system call bpf() is refused: a seccomp profile or a security module forbids it (container: --security-opt seccomp=unconfined), or this kernel is built without it")

// TryBPF returns [ErrBPFRefused] if the process may not call bpf() at all.
func TryBPF() error {
	const noCommand = 1 << 30 // EINVAL, but after the checks of seccomp, capabilities and security modules
	_, _, errno := unix.Syscall(unix.SYS_BPF, noCommand, 0, 0)
	if errno == unix.EPERM || errno == unix.EACCES || errno == unix.ENOSYS {
		return ErrBPFRefused // not errno: what is missing is not a privilege
	}
	return nil
}
