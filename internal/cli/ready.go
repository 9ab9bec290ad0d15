package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// A readyFile shows scripts that every hook is attached: it appears, complete,
// at that moment and not before.
type readyFile struct {
	path      string
	temporary string
}

// prepareReadyFile removes a file that an earlier run left and makes sure that
// the new one can be created. An empty path means that none is wanted.
func prepareReadyFile(path string) (*readyFile, error) {
	r := &readyFile{path: path}
	if path == "" {
		return r, nil
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, usageError{fmt.Errorf("ready file: %w", err)}
	case !info.Mode().IsRegular():
		return nil, usageError{fmt.Errorf("ready file %s: not a regular file", path)}
	default:
		if err := os.Remove(path); err != nil {
			return nil, usageError{fmt.Errorf("ready file: %w", err)}
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".xentrace-ready-")
	if err != nil {
		return nil, usageError{fmt.Errorf("ready file %s: %w", path, errors.Unwrap(err))}
	}
	r.temporary = f.Name()
	_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		r.discard()
		return nil, fmt.Errorf("ready file %s: %w", path, err)
	}
	return r, nil
}

// create makes the file appear; it holds the process id.
func (r *readyFile) create() error {
	if r.temporary == "" {
		return nil
	}
	if err := os.Rename(r.temporary, r.path); err != nil {
		return fmt.Errorf("ready file: %w", err)
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
