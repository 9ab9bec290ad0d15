package sandbox

import "golang.org/x/sys/unix"

const architecture = unix.AUDIT_ARCH_AARCH64

var ofArchitecture = []uint32{unix.SYS_FSTATAT}

// opening are the calls that open a file, and the number of the argument with the flags.
var opening = map[uint32]uint32{unix.SYS_OPENAT: 2}
