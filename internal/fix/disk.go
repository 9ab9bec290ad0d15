package fix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A disk holds the state file and the files that make changes last.
type disk struct {
	root string // of the machine's files; empty but in tests
	// between is called between any two steps on the disk. Tests end the process
	// there; nil otherwise.
	between func()
}

func (d *disk) path(name string) string { return filepath.Join("/", d.root, name) }

func (d *disk) pause() {
	if d.between != nil {
		d.between()
	}
}

// newSuffix is what a file is called while it is written. The name is always the
// same, so that a run that was cut off leaves at most one, which is found again.
const newSuffix = ".xentrace-new"

// write puts a whole file in place at once: after a crash at any point there is
// the old one or the new one under its name, and nothing in between.
func (d *disk) write(path string, content []byte, mode fs.FileMode) error {
	temporary := path + newSuffix
	if err := removeIfThere(temporary); err != nil {
		return err
	}
	err := d.create(temporary, content, mode)
	if err == nil {
		d.pause()
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(temporary))
	}
	d.pause()
	return syncDirectory(filepath.Dir(path))
}

func (d *disk) create(path string, content []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	d.pause()
	_, err = file.Write(content)
	if err == nil {
		d.pause()
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// symlink makes a link, and fails if something else has its name.
func (d *disk) symlink(target, path string) error {
	err := os.Symlink(target, path)
	if errors.Is(err, fs.ErrExist) {
		if there, readErr := os.Readlink(path); readErr == nil && there == target {
			return nil
		}
	}
	if err != nil {
		return err
	}
	d.pause()
	return syncDirectory(filepath.Dir(path))
}

// remove removes a file, and what is left of an attempt to write it.
func (d *disk) remove(path string) error {
	if err := removeIfThere(path + newSuffix); err != nil {
		return err
	}
	d.pause()
	if err := removeIfThere(path); err != nil {
		return err
	}
	d.pause()
	return syncDirectory(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDirectory makes a change of names last over a crash of the machine.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was there to be removed
	}
	if err != nil {
		return err
	}
	err = directory.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil // a file system that has no such thing
	}
	return errors.Join(err, directory.Close())
}

// A lock keeps others from changing things at the same time.
type lock struct{ file *os.File }

// takeLock locks the file beside the state, and fails at once if another has it.
// The kernel lets go of it when the process ends, however it ends.
func takeLock(path string) (*lock, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = fmt.Errorf("another xentrace fix is at work with this state")
			}
			return nil, errors.Join(err, file.Close())
		}
		// Whoever had it before may have removed the file between the two calls.
		var opened, named unix.Stat_t
		if unix.Fstat(int(file.Fd()), &opened) == nil && unix.Stat(path, &named) == nil && opened.Ino == named.Ino {
			return &lock{file}, nil
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}

// release lets go of the lock and removes its file.
func (l *lock) release() error {
	return errors.Join(removeIfThere(l.file.Name()), l.file.Close())
}
