package sandbox

import "golang.org/x/sys/unix"

const architecture = unix.AUDIT_ARCH_X86_64

// ofArchitecture are calls that newer architectures do not have.
var ofArchitecture = []uint32{
	unix.SYS_ACCESS, unix.SYS_ARCH_PRCTL, unix.SYS_DUP2, unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_WAIT, unix.SYS_LSTAT,
	unix.SYS_NEWFSTATAT, unix.SYS_PIPE, unix.SYS_POLL, unix.SYS_READLINK, unix.SYS_STAT, unix.SYS_TIME,
}

// opening are the calls that open a file, and the number of the argument with the flags.
var opening = map[uint32]uint32{unix.SYS_OPENAT: 2, unix.SYS_OPEN: 1}
