package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Module is one loading of a kernel module. Loading it again makes another.
type Module uint64

// LoadedModule returns the loading of the module that is in the kernel now, and
// false if there is none: it is not loaded, or it is built into the kernel and
// so never leaves, or there is no sysfs.
//
// A loading is identified by the inode number of its directory in sysfs: kernfs hands
// these out in a cycle and does not give one twice in a row.
func LoadedModule(name string) (Module, bool) {
	return loadedModule("/sys", name)
}

func loadedModule(sysfs, name string) (Module, bool) {
	directory := filepath.Join(sysfs, "module", name)
	// What is built in may have a directory for its parameters, but no state.
	if _, err := os.Stat(filepath.Join(directory, "initstate")); err != nil {
		return 0, false
	}
	info, err := os.Stat(directory)
	if err != nil {
		return 0, false
	}
	return Module(info.Sys().(*syscall.Stat_t).Ino), true
}

// A ModuleEvent is what the kernel announces of a module.
type ModuleEvent int

// The module events.
const (
	ModuleAdded   ModuleEvent = iota + 1 // it is loaded, or just being loaded
	ModuleRemoved                        // it is being unloaded; its directory in sysfs may still be there
	ModuleUnclear                        // announcements were lost: look
)

// kernelGroup is the multicast group in which the kernel itself sends uevents; udev
// sends its own in others.
const kernelGroup = 1

// ueventBytes is more than a uevent can have: the kernel's buffer holds 2048 bytes
// of variables, behind a header of action and path.
const ueventBytes = 16 << 10

// WatchModule reports when the module is loaded and unloaded, until ctx ends or the
// socket fails; then the channel is closed. It needs no privilege, but a network
// namespace that belongs to the initial user namespace.
func WatchModule(ctx context.Context, name string) (<-chan ModuleEvent, error) {
	socket, err := ueventSocket()
	if err != nil {
		return nil, err
	}
	events := make(chan ModuleEvent)
	go func() {
		defer close(events)
		defer socket.Close()
		// A deadline in the past makes a waiting receive return.
		stop := context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		buffer := make([]byte, ueventBytes)
		for {
			event, err := nextModuleEvent(socket, buffer, name)
			if err != nil {
				return
			}
			select {
			case events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

// ueventSocket makes a socket that the runtime's poller waits for.
func ueventSocket() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevents: netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		return nil, errors.Join(fmt.Errorf("uevents: bind: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}

// nextModuleEvent waits for one of that module.
func nextModuleEvent(socket *os.File, buffer []byte, name string) (ModuleEvent, error) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	for {
		var n, flags int
		var from unix.Sockaddr
		var failure error
		err := conn.Read(func(fd uintptr) bool {
			n, _, flags, from, failure = unix.Recvmsg(int(fd), buffer, nil, 0)
			return !errors.Is(failure, unix.EAGAIN) && !errors.Is(failure, unix.EINTR)
		})
		switch {
		case err != nil:
			return 0, fmt.Errorf("uevents: %w", err)
		case errors.Is(failure, unix.ENOBUFS):
			return ModuleUnclear, nil
		case failure != nil:
			return 0, fmt.Errorf("uevents: receive: %w", failure)
		}
		sender, ok := from.(*unix.SockaddrNetlink)
		if !ok || sender.Pid != 0 || flags&unix.MSG_TRUNC != 0 {
			continue // of a process, or no uevent
		}
		if event := parseModuleEvent(buffer[:n], name); event != 0 {
			return event, nil
		}
	}
}

// parseModuleEvent returns what a uevent reports the module, 0 if nothing. A
// uevent is "ACTION@DEVPATH" and then variables, each ended by a zero byte; a
// module's device path is "/module/NAME".
func parseModuleEvent(message []byte, name string) ModuleEvent {
	header, variables, ended := bytes.Cut(message, []byte{0})
	action, path, found := strings.Cut(string(header), "@")
	if !ended || !found || path != "/module/"+name {
		return 0
	}
	if !bytes.Contains(append([]byte{0}, variables...), []byte("\x00SUBSYSTEM=module\x00")) {
		return 0
	}
	switch action {
	case "add":
		return ModuleAdded
	case "remove":
		return ModuleRemoved
	}
	return 0
}
