package kernel

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// KeepOnly gives up every capability of this process, on all its threads and
// for good, but those named that it has. The error wraps errors.ErrUnsupported
// in a binary built with cgo, whose threads the Go runtime does not know all of.
func KeepOnly(keep ...Capability) error {
	has, err := ReadCapabilities()
	if err != nil {
		return err
	}
	var kept Capabilities
	for _, capability := range keep {
		kept |= has & (1 << uint(capability))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for half := range data {
		set := uint32(kept >> (32 * half))
		data[half] = unix.CapUserData{Effective: set, Permitted: set}
	}
	// Capabilities belong to threads, and the runtime has several.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}
