// Package netdev reads the network interfaces of this machine in any network namespace:
// driver, MTU, queues, features, counters, and how they appear, disappear, and change.
//
// A namespace is identified by the inode number that the kernel keeps in net->ns.inum and
// that stat(2) of /proc/PID/ns/net shows. The caller's own namespace needs no privilege;
// others need CAP_SYS_ADMIN, as setns(2) does.
//
// An interface name is untrusted input that may contain escape sequences: print
// [Interface.String], not [Interface.Name].
package netdev

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/procfs"
)

// ErrClosed is returned by the methods of a [Namespace] that has been closed.
var ErrClosed = errors.New("namespace is closed")

// Namespace is an open network namespace. While it is open the kernel keeps it and its
// interfaces alive, even after its last process has exited.
//
// All methods may be called from several goroutines.
type Namespace struct {
	inum uint32
	path string

	mu      sync.RWMutex // held for reading while the fields below are used
	closed  bool
	file    *os.File        // the namespace itself, for setns
	netlink *netlink.Handle // a route socket that belongs to the namespace
	control int             // a datagram socket that belongs to it, for ioctl

	home atomic.Bool // it is this process's own

	sysfsOnce sync.Once
	sysfs     *sysfs
	sysfsErr  error
}

// ErrNoProc reports that nothing of the process's namespaces shows.
var ErrNoProc = errors.New("there is no /proc: mount it (mount -t proc proc /proc)")

// Current opens the network namespace of the calling thread.
func Current() (*Namespace, error) {
	ns, err := openPath("/proc/thread-self/ns/net", 0)
	if errors.Is(err, os.ErrNotExist) {
		if _, missing := os.Stat("/proc/self"); missing != nil {
			return nil, ErrNoProc
		}
	}
	return ns, err
}

// Open opens the namespace that was found. It fails with [ErrNamespaceNotFound] if its
// path leads to another namespace by now.
func (f Found) Open() (*Namespace, error) {
	return openPath(f.Path, f.Inum)
}

// openPath opens the namespace at path and, if want is not 0, checks its number: a PID
// may have been reused.
func openPath(path string, want uint32) (*Namespace, error) {
	ns, err := openBare(path, want)
	if err != nil {
		return nil, err
	}
	if err := ns.Do(ns.openSockets); err != nil {
		return nil, errors.Join(fmt.Errorf("network namespace %d: %w", ns.inum, err), ns.Close())
	}
	return ns, nil
}

// openBare opens a namespace without sockets, for [Namespace.Do] only.
func openBare(path string, want uint32) (*Namespace, error) {
	file, err := openNamespaceFile(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", &NamespaceNotFoundError{Inum: want}, err)
		}
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	ns := &Namespace{path: path, file: file, control: -1}
	if ns.inum, err = inumOf(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if want != 0 && ns.inum != want {
		return nil, errors.Join(&NamespaceNotFoundError{Inum: want}, file.Close())
	}
	return ns, nil
}

// openNamespaceFile opens a file of a namespace. That of another process may block.
func openNamespaceFile(path string) (*os.File, error) {
	var pid int
	if n, err := fmt.Sscanf(path, "/proc/%d/ns/net", &pid); n == 1 && err == nil {
		return procfs.Machine().Open(pid, "ns/net")
	}
	return os.Open(path)
}

// inumOf returns the inode number of an open namespace file, after checking that
// it is one with NS_GET_NSTYPE (since 4.11).
func inumOf(file *os.File) (uint32, error) {
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return 0, fmt.Errorf("%s is not a network namespace", file.Name())
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("network namespace %s: stat: %w", file.Name(), err)
	}
	return uint32(stat.Ino), nil
}

// openSockets makes the sockets in the namespace of the calling thread. A socket stays
// in the namespace it was made in.
func (ns *Namespace) openSockets() error {
	var err error
	if ns.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	ns.control, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		return nil
	}
	// For kernels without IPv4: the ioctls work on any socket.
	if ns.control, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Inum returns the namespace's inode number.
func (ns *Namespace) Inum() uint32 { return ns.inum }

// Path returns the file through which the namespace was opened, such as
// /run/netns/NAME or /proc/PID/ns/net. It may be gone or lead elsewhere by now.
func (ns *Namespace) Path() string { return ns.path }

// Close closes the namespace. Closing twice is harmless.
func (ns *Namespace) Close() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.closed {
		return nil
	}
	ns.closed = true
	if ns.netlink != nil {
		ns.netlink.Close()
	}
	var errs []error
	if ns.control >= 0 {
		errs = append(errs, unix.Close(ns.control))
	}
	if ns.sysfs != nil {
		errs = append(errs, ns.sysfs.close())
	}
	return errors.Join(append(errs, ns.file.Close())...)
}

// hold prevents Close until release is called. A closed netlink handle would silently
// use the caller's namespace.
func (ns *Namespace) hold() (release func(), err error) {
	ns.mu.RLock()
	if ns.closed {
		ns.mu.RUnlock()
		return nil, fmt.Errorf("network namespace %d: %w", ns.inum, ErrClosed)
	}
	return ns.mu.RUnlock, nil
}

// Do runs fn on a thread that is in the namespace and returns its error. Sockets
// that fn makes stay in the namespace; goroutines that it starts run elsewhere. The
// thread returns to its own namespace afterwards, or ends if that fails.
func (ns *Namespace) Do(fn func() error) error {
	result := make(chan error, 1)
	if ns.home.Load() {
		go func() { result <- fn() }() // a thread that is elsewhere runs no other goroutine
		return <-result
	}
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("own network namespace: %w", err)
			return
		}
		defer home.Close()
		// setns needs CAP_SYS_ADMIN even if it changes nothing.
		if own, err := inumOf(home); err == nil && own == ns.inum {
			ns.home.Store(true)
			err = fn()
			runtime.UnlockOSThread()
			result <- err
			return
		}
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("setns: %w", err)
			return
		}
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
