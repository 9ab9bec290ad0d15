package userstack

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An openFile is a regular file, and what distinguishes one version of it from another.
type openFile struct {
	*os.File
	fileVersion
	size int64
}

type fileVersion struct {
	device, inode uint64
	changed       unix.Timespec // ctime, which its owner cannot set
}

// open opens the mapped file by its path as seen from the root of the process, as in a
// container, or from that of this one: whichever leads to the inode that is mapped. The
// device is not compared: overlay file systems report another than the mapping does.
func (n *Namer) open(pid int, m *mapping) (*openFile, error) {
	var errs []error
	for _, root := range []string{n.running.Path(pid, "root"), "/"} {
		file, err := openBelow(root, m.path, m.inode)
		if err == nil {
			return file, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// openBelow opens what is at a path below a root. The path is that of a mapping, which the
// kernel writes without symbolic links: one that is there now is refused, so that nothing
// leads out of the root. openat2 would do the same, but a seccomp filter cannot see for
// what it opens a file.
func openBelow(root, path string, inode uint64) (*openFile, error) {
	place, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	defer func() { _ = unix.Close(place) }()
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			return nil, fmt.Errorf("%s: not a path of a mapping", path)
		}
		next, err := unix.Openat(place, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		_ = unix.Close(place)
		place = next
	}
	return reopen(place, path, inode)
}

// reopen opens for reading what an O_PATH descriptor refers to, if it is a regular file and
// has that inode (0: any). The owner of the path chooses what is there: opening a device
// acts on it, and opening a FIFO blocks.
func reopen(place int, path string, inode uint64) (*openFile, error) {
	var stat unix.Stat_t
	err := unix.Fstat(place, &stat)
	switch {
	case err != nil:
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("not a regular file")
	case inode != 0 && stat.Ino != inode:
		err = errors.New("not the file that was mapped")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// O_NONBLOCK: a lease on the file would hold the open for 45 s.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(place), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &openFile{
		File: os.NewFile(uintptr(fd), path), size: stat.Size,
		fileVersion: fileVersion{device: stat.Dev, inode: stat.Ino, changed: stat.Ctim},
	}, nil
}
