// Package unshared runs parts of tests in a network namespace of their own.
package unshared

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// Do calls do on a thread in a new network namespace, and returns when it has returned. do
// must not call t.Fatal. The thread goes back to its namespace: if it is the process's first
// one it does not end with its goroutine, and /proc/self would be what it left behind.
func Do(t testing.TB, do func()) {
	t.Helper()
	need.Root(t, "to make network namespaces")
	done := make(chan error)
	go func() { done <- apart(do) }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func apart(do func()) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return errors.Join(err, home.Close())
	}
	do()
	err = unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	if err == nil {
		runtime.UnlockOSThread()
	}
	return errors.Join(err, home.Close())
}
