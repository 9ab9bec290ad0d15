package kernel

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A User is what a process runs as.
type User struct{ UID, GID int }

// Nobody is the user that owns nothing, by convention the overflow uid and gid.
var Nobody = User{UID: 65534, GID: 65534}

// Confine drops, for the whole process and for good, what its remaining work does not need.
// On all threads it
//   - drops every capability but those in keep that it has, also from the bounding set,
//     and the inheritable and ambient ones
//   - becomes user, without other groups, unless user is root
//   - takes from uid 0 its special meaning for capabilities (SECBIT_NOROOT), locked
//   - sets no_new_privs
//   - makes the process not dumpable, so that no other process of the user may read its
//     memory
//
// A process without CAP_SETUID and CAP_SETGID keeps its user, and one without CAP_SETPCAP
// its bounding set and securebits, which no_new_privs makes useless: nothing that it
// executes gains a capability. The error wraps errors.ErrUnsupported in a binary built with
// cgo, whose threads the Go runtime does not know all of; nothing is dropped then.
func Confine(user User, keep ...Capability) error {
	has, err := threadCapabilities()
	if err != nil {
		return err
	}
	var kept Capabilities
	for _, capability := range keep {
		kept |= has & (1 << uint(capability))
	}
	if err := prctl("no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return err
	}
	if has.Has(unix.CAP_SETPCAP) {
		err = lockPrivileges(kept)
	} else if has.Has(unix.CAP_SETUID) {
		err = prctl("keepcaps", unix.PR_SET_KEEPCAPS, 1)
	}
	if err != nil {
		return err
	}
	if has.Has(unix.CAP_SETUID) && has.Has(unix.CAP_SETGID) && user.UID != 0 {
		if err := become(user); err != nil {
			return err
		}
	}
	if err := setCapabilities(kept); err != nil {
		return err
	}
	return prctl("dumpable", unix.PR_SET_DUMPABLE, 0)
}

// The bits of PR_SET_SECUREBITS, from include/uapi/linux/securebits.h. Each has its lock
// one bit above.
const (
	secbitNoroot         = 1 << 0
	secbitNoSetuidFixup  = 1 << 2
	secbitKeepCaps       = 1 << 4
	secbitNoAmbientRaise = 1 << 6
	secbits              = secbitNoroot | secbitNoSetuidFixup | secbitNoAmbientRaise
	secbitLocks          = (secbits | secbitKeepCaps) << 1
)

// lockPrivileges needs CAP_SETPCAP. With SECBIT_NO_SETUID_FIXUP a change of uid does not
// change the capabilities.
func lockPrivileges(kept Capabilities) error {
	for c := Capability(0); ; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // one more than the kernel has
		}
		if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
		if in == 1 && !kept.Has(c) {
			if err := prctl("bounding set", unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
				return err
			}
		}
	}
	before, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("securebits: %w", err)
	}
	return prctl("securebits", unix.PR_SET_SECUREBITS, uintptr(before)|secbits|secbitLocks)
}

// become changes the user on all threads.
func become(user User) error {
	if os.Getuid() == user.UID && os.Geteuid() == user.UID {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	if err := syscall.Setresgid(user.GID, user.GID, user.GID); err != nil {
		return fmt.Errorf("group %d: %w", user.GID, err)
	}
	if err := syscall.Setresuid(user.UID, user.UID, user.UID); err != nil {
		return fmt.Errorf("user %d: %w", user.UID, err)
	}
	return nil
}

// setCapabilities leaves the inheritable set empty, and with it the ambient one.
func setCapabilities(kept Capabilities) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for half := range data {
		set := uint32(kept >> (32 * half))
		data[half] = unix.CapUserData{Effective: set, Permitted: set}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	return failure("capabilities", errno)
}

// prctl acts on all threads: privileges belong to threads, and the runtime has several.
func prctl(what string, option int, value uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, uintptr(option), value, 0, 0, 0, 0)
	return failure(what, errno)
}

func failure(what string, errno syscall.Errno) error {
	if errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}
