package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A readyFile shows scripts that every hook is attached: it appears, complete,
// at that moment and not before.
type readyFile struct {
	path      string
	temporary string
}

// prepareReadyFile makes sure that the file can be created, and refuses one that exists: it
// may be anyone's. An empty path means that none is wanted.
func prepareReadyFile(path string) (*readyFile, error) {
	r := &readyFile{path: path}
	if path == "" {
		return r, nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, usageError{r.exists()}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, ofPath(fmt.Errorf("ready file: %w", err))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".xentrace-ready-")
	if err != nil {
		return nil, ofPath(fmt.Errorf("ready file %s: %w", path, errors.Unwrap(err)))
	}
	r.temporary = f.Name()
	_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		r.discard()
		return nil, fmt.Errorf("ready file %s: %w", path, err)
	}
	return r, nil
}

func (r *readyFile) exists() error {
	return fmt.Errorf("ready file %s exists and may not be xentrace's; remove it or choose another path", r.path)
}

// create makes the file appear; it holds the process id. A file that has appeared there
// meanwhile is left alone.
func (r *readyFile) create() error {
	if r.temporary == "" {
		return nil
	}
	err := unix.Renameat2(unix.AT_FDCWD, r.temporary, unix.AT_FDCWD, r.path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // as on NFS
		if err = os.Link(r.temporary, r.path); err == nil {
			err = os.Remove(r.temporary)
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return r.exists()
	case err != nil:
		return fmt.Errorf("ready file %s: %w", r.path, err)
	}
	r.temporary = ""
	return nil
}

// discard removes what is left if the file was never created.
func (r *readyFile) discard() {
	if r.temporary != "" {
		_ = os.Remove(r.temporary)
	}
}
