package fix

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/procfs"
	"xentrace/internal/trace"
)

// The line by which a file is known as written by fix, and unchanged since.
const (
	markerStart = "# Written by xentrace fix, which removes it with --revert. Checksum: "
	shebang     = "#!"
)

// maxWrittenBytes is more than fix writes into a file.
const maxWrittenBytes = 1 << 20

// mark puts the marker into a file's text: first, but for the line that names a
// script's interpreter.
func mark(text string) string {
	first := ""
	if strings.HasPrefix(text, shebang) {
		line, rest, _ := strings.Cut(text, "\n")
		first, text = line+"\n", rest
	}
	return first + markerStart + checksum(first+text) + "\n" + text
}

func checksum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

type ownership uint8

const (
	absent  ownership = iota
	ours              // and as it was written
	edited            // ours, and changed since
	foreign           // another program's
)

func owner(text string) ownership {
	var rest strings.Builder
	sum := ""
	for line := range strings.Lines(text) {
		if after, is := strings.CutPrefix(line, markerStart); is && sum == "" {
			sum = strings.TrimSpace(after)
			continue
		}
		rest.WriteString(line)
	}
	switch sum {
	case "":
		return foreign
	case checksum(rest.String()):
		return ours
	}
	return edited
}

func (f *Fixer) look(path, link string) (ownership, []byte, error) {
	path = f.disk().path(path)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return absent, nil, nil
	}
	if err != nil {
		return foreign, nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err == nil && link != "" && target == link {
			return ours, nil, nil
		}
		return foreign, nil, err
	}
	if !info.Mode().IsRegular() || link != "" {
		return foreign, nil, nil
	}
	content, err := procfs.ReadFile(path, maxWrittenBytes)
	if errors.Is(err, procfs.ErrTooLarge) {
		return foreign, nil, nil
	}
	return owner(string(content)), content, err
}

// checkFiles finds out whether the files may be written, and keeps what is there.
func (f *Fixer) checkFiles(files []File) error {
	for n := range files {
		file := &files[n]
		whose, content, err := f.look(file.Path, file.Link)
		switch {
		case err != nil:
			return err
		case whose == foreign:
			return fmt.Errorf("%w: %s is there and was not written by xentrace: it is not overwritten; move it away or choose another way of --persist", trace.ErrCannotRun, file.Path)
		case whose == edited:
			return fmt.Errorf("%w: %s was changed by hand since xentrace wrote it: it is not overwritten; move it away first", trace.ErrCannotRun, file.Path)
		}
		file.before = content
		directory := f.directoryOf(file.Path)
		if _, err := os.Stat(directory); errors.Is(err, fs.ErrNotExist) {
			directory = filepath.Dir(directory)
		}
		if err := unix.Access(directory, unix.W_OK); err != nil {
			return fmt.Errorf("%s: %w", file.Path, err)
		}
	}
	return nil
}

func (f *Fixer) writeFile(file *File) error {
	path := f.disk().path(file.Path)
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f.disk().pause()
	if file.Link != "" {
		return f.disk().symlink(file.Link, path)
	}
	if err := f.disk().write(path, []byte(file.Content), file.Mode); err != nil {
		return err
	}
	if whose, content, err := f.look(file.Path, ""); err != nil || whose != ours || string(content) != file.Content {
		return errors.Join(err, fmt.Errorf("%s does not read as it was written", file.Path))
	}
	return nil
}

// unwriteFile puts back what was there before this run.
func (f *Fixer) unwriteFile(file *File) error {
	if file.before != nil {
		return f.disk().write(f.disk().path(file.Path), file.before, file.Mode)
	}
	whose, _, err := f.look(file.Path, file.Link)
	if err != nil || whose != ours {
		return err
	}
	return f.disk().remove(f.disk().path(file.Path))
}

func (f *Fixer) removeFile(file FileState, force bool) error {
	step := Step{FixStep: event.FixStep{Name: "remove-file", Command: "rm " + file.Path, Path: file.Path}}
	path := f.disk().path(file.Path)
	if file.Directory {
		err := unix.Rmdir(path)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
			return nil // others have put something there
		case errors.Is(err, unix.ENOTDIR):
			step.Command = "rmdir " + file.Path
			return f.refused(step, "Not removed: not a directory.", force)
		case err != nil:
			return f.failed(step, err)
		}
		return nil
	}
	whose, _, err := f.look(file.Path, file.Link)
	switch {
	case err != nil:
		return f.failed(step, err)
	case whose == foreign:
		return f.refused(step, "Not removed: xentrace did not write it.", force)
	case whose == edited && !force:
		return f.refused(step, "Not removed: changed by hand since xentrace wrote it.", false)
	}
	if err := f.disk().remove(path); err != nil {
		return f.failed(step, err)
	}
	if whose != absent {
		f.emit(step, event.Reverted, "The file is removed.")
	}
	return nil
}

// refused reports something that Revert does not do. With force it is forgotten.
func (f *Fixer) refused(step Step, why string, force bool) error {
	if force {
		f.emit(step, event.Refused, why+" Forgotten, as --force asks.")
		return nil
	}
	f.emit(step, event.Refused, why+" Give --force to forget it.")
	return ErrRefused
}

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

// takeLock locks the file next to the state, and fails at once if another has it.
// The kernel releases it when the process ends, however it ends.
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

// release releases the lock and removes its file.
func (l *lock) release() error {
	return errors.Join(removeIfThere(l.file.Name()), l.file.Close())
}
