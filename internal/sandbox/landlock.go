package sandbox

import (
	"errors"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights that Landlock knows by its version. LANDLOCK_ACCESS_FS_IOCTL_DEV, of version 5, is
// not among them: a terminal is open already.
const (
	rightsRead = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	rightsV1   = rightsRead | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	rightsV2 = rightsV1 | unix.LANDLOCK_ACCESS_FS_REFER
	rightsV3 = rightsV2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// readable are the trees that may be read: facts about the machine, cgroups, kernel types
// and driver images, and time zones.
func readable() []string {
	return []string{"/proc", "/sys", "/boot", "/lib", "/usr", "/etc/localtime"}
}

// restrictFiles forbids all access to files but reading the trees of readable, also through
// files of other processes, and making files beneath the parent of Directory. Where other users' processes are read it does nothing: a process
// in a Landlock domain may not look into those outside.
func restrictFiles(p Policy) error {
	if p.Processes {
		return nil
	}
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return nil // a kernel without it, or with it switched off
	}
	attributes := unix.LandlockRulesetAttr{Handled_access_fs: rightsV1}
	switch {
	case version >= 3:
		attributes.Handled_access_fs = rightsV3
	case version == 2:
		attributes.Handled_access_fs = rightsV2
	}
	// Of the structure only what the first version has.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes.Handled_access_fs), 0)
	if errno != 0 {
		return errno
	}
	defer func() { _ = unix.Close(int(fd)) }() // the domain stays
	for _, path := range append(readable(), p.Read...) {
		if err := addRule(int(fd), path, rightsRead); err != nil {
			return err
		}
	}
	if p.Directory != "" {
		// A rule is about an inode: that of the directory is another once it is made again.
		path, err := filepath.Abs(p.Directory)
		if err != nil {
			return err
		}
		const rights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
			unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		if err := addRule(int(fd), filepath.Dir(path), rightsRead|rights&attributes.Handled_access_fs); err != nil {
			return err
		}
	}
	// Domains belong to threads.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func addRule(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rule.Allowed_access = unix.LANDLOCK_ACCESS_FS_READ_FILE
	}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
