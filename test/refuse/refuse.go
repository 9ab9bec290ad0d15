// Package refuse runs a function without a system call, as in a container whose seccomp
// profile forbids it.
package refuse

import (
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// Offsets in struct seccomp_data.
const (
	atNumber   = 0
	atArgument = 16 // the lower half of the first argument, little-endian
)

// Call runs a function on a thread where the system call with that number fails with EPERM.
// Processes that the function starts have the filter as well.
func Call(t *testing.T, number uint32, run func()) {
	t.Helper()
	filtered(t, []unix.SockFilter{load(atNumber), skipUnless(number, 1), result(refused), result(unix.SECCOMP_RET_ALLOW)}, run)
}

// Command is Call for those calls whose first argument is a value.
func Command(t *testing.T, number, value uint32, run func()) {
	t.Helper()
	filtered(t, []unix.SockFilter{load(atNumber), skipUnless(number, 3), load(atArgument), skipUnless(value, 1), result(refused), result(unix.SECCOMP_RET_ALLOW)}, run)
}

const refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func result(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// skipUnless skips the next n instructions unless the loaded value is k.
func skipUnless(k uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: n}
}

func filtered(t *testing.T, filter []unix.SockFilter, run func()) {
	t.Helper()
	need.Root(t, "to install a seccomp filter")
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
		if err == nil {
			run()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}
