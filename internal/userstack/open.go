package userstack

import (
	"errors"
	"fmt"
	"os"
	"strconv"

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

func openBelow(root, path string, inode uint64) (*openFile, error) {
	directory, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	defer unix.Close(directory)
	place, err := unix.Openat2(directory, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(place)
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
