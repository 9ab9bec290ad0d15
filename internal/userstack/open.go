package userstack

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// An openFile is a regular file, and what tells one version of it from another.
type openFile struct {
	*os.File
	device, inode uint64
	changed       unix.Timespec
	size          int64
}

// open opens what is mapped there. The name is as seen from the root of this process
// or, if it does not lead there, as in a container, from the root of that one: whichever
// still is the file that was mapped. File systems that lie over others tell another
// device for it than the mapping does, so the device is not compared.
func (n *Namer) open(pid int, m *mapping) (*openFile, error) {
	var errs []error
	for _, root := range []string{n.process(pid, "root"), "/"} {
		file, err := openBelow(root, m.path)
		if err == nil && file.inode == m.inode {
			return file, nil
		}
		if err == nil {
			err = errors.Join(fmt.Errorf("%s: not the file that was mapped", m.path), file.Close())
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func openBelow(root, path string) (*openFile, error) {
	directory, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	defer unix.Close(directory)
	fd, err := unix.Openat2(directory, path, &unix.OpenHow{
		// Not to be held up by a pipe that someone put in the file's place.
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return regular(os.NewFile(uintptr(fd), path))
}

// regular takes the file over; it closes any that is not regular.
func regular(file *os.File) (*openFile, error) {
	var stat unix.Stat_t
	err := unix.Fstat(int(file.Fd()), &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file.Name(), err), file.Close())
	}
	return &openFile{File: file, device: stat.Dev, inode: stat.Ino, changed: stat.Mtim, size: stat.Size}, nil
}
