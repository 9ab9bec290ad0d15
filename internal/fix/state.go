package fix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/netdev"
)

// DefaultState is where the state file is if nothing else is said.
const DefaultState = "/var/lib/xentrace/fix.json"

const stateVersion = 1

// A State is what was there before the first change, and what was made of it. The
// state file holds it from before the first change until it is reverted.
type State struct {
	Version    int              `json:"version"`
	Machine    string           `json:"machine"` // its machine id; empty if unknown
	Written    time.Time        `json:"written"`
	Sysctls    []SysctlState    `json:"sysctls"`
	Interfaces []InterfaceState `json:"interfaces"`
	Files      []FileState      `json:"files"` // those that fix writes
}

// A SysctlState is a setting of the machine.
type SysctlState struct {
	Name string `json:"name"`
	Was  string `json:"was"`
	Set  string `json:"set"`
	Boot string `json:"boot"` // id of the boot in which it was set; empty if unknown
}

// An InterfaceState is an interface as it was, whole: a feature that is changed
// may change others, and xen-netfront's MTU.
type InterfaceState struct {
	Identity    Identity                  `json:"identity"`
	MTU         int                       `json:"mtu"`
	Features    map[string]netdev.Feature `json:"features"`
	SetMTU      int                       `json:"set_mtu"` // 0 if it was left
	SetFeatures map[string]bool           `json:"set_features"`
	Boot        string                    `json:"boot"` // as of a [SysctlState]
}

// A FileState is something that fix makes.
type FileState struct {
	Path string `json:"path"`
	Link string `json:"link"` // what it points to; empty for a file
	// Directory means that it is a directory, to be removed if it is empty.
	Directory bool `json:"directory"`
}

func (s *State) clone() *State {
	copied := &State{Version: stateVersion}
	if s == nil {
		return copied
	}
	content, _ := json.Marshal(s) // of plain data, which always can be
	_ = json.Unmarshal(content, copied)
	return copied
}

func (s *State) sysctl(name string) *SysctlState {
	return first(s.Sysctls, func(known *SysctlState) bool { return known.Name == name })
}

func (s *State) iface(identity Identity) *InterfaceState {
	return first(s.Interfaces, func(known *InterfaceState) bool { return known.Identity.same(identity) > 0 })
}

// first is the first element that is meant, in its place; nil if none is.
func first[T any](all []T, meant func(*T) bool) *T {
	for n := range all {
		if meant(&all[n]) {
			return &all[n]
		}
	}
	return nil
}

// A StateError is a state file that is not used: not one of xentrace fix, or not to be trusted.
type StateError struct{ Path, Reason string }

func (e *StateError) Error() string {
	return fmt.Sprintf("state file %s: %s; name another one with --state, or move this one away", e.Path, e.Reason)
}

type store struct {
	path string
	disk *disk
}

// load returns the state, and nil if there is none.
func (s *store) load() (*State, error) {
	state, err := s.read()
	return state, s.failure(err)
}

func (s *store) read() (*State, error) {
	if err := s.trustedDirectory(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, &StateError{s.path, "a symbolic link, which is not followed"}
	case err != nil:
		return nil, err
	}
	defer file.Close()
	if err := s.trusted(file); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxStateBytes+1))
	if err != nil {
		return nil, err
	}
	return s.parse(content)
}

// maxStateBytes bounds the state file. An interface takes some 10 kB of it.
const maxStateBytes = 4 << 20

func (s *store) parse(content []byte) (*State, error) {
	if len(content) > maxStateBytes {
		return nil, &StateError{s.path, fmt.Sprintf("over %d MiB, so not one of xentrace fix", maxStateBytes>>20)}
	}
	state := &State{}
	err := json.Unmarshal(content, state)
	switch {
	case err == nil && state.Version > stateVersion:
		return nil, &StateError{s.path, fmt.Sprintf("format %d, and this xentrace reads %d", state.Version, stateVersion)}
	case err != nil || state.Version != stateVersion:
		return nil, &StateError{s.path, "not one of xentrace fix, or damaged"}
	case other(state.Machine, s.disk.machineID()):
		return nil, &StateError{s.path, "written on another machine"}
	}
	return state, nil
}

// trusted reports that only this user can have written the file: --revert does what it
// holds with every privilege.
func (s *store) trusted(file *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return err
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return &StateError{s.path, "not a regular file"}
	case int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0:
		return &StateError{s.path, "not trusted: other users can write to it, or own it"}
	}
	return nil
}

// trustedDirectory reports that only this user and root can have put the file in its place,
// or exchange it meanwhile.
func (s *store) trustedDirectory() error {
	path, err := filepath.Abs(filepath.Dir(s.path))
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // and no file in it
	}
	if err != nil {
		return err
	}
	for ; ; path = filepath.Dir(path) {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		// In a sticky directory others cannot exchange this user's file.
		shared := stat.Mode&0o022 != 0 && stat.Mode&unix.S_ISVTX == 0
		if shared || stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
			return &StateError{s.path, "not trusted: other users can write to " + path + ", or own it"}
		}
		if path == "/" {
			return nil
		}
	}
}

func (s *store) save(state *State) error {
	content, err := json.MarshalIndent(state, "", "\t")
	if err == nil {
		err = s.disk.write(s.path, append(content, '\n'), 0o600)
	}
	return s.failure(err)
}

func (s *store) remove() error { return s.failure(s.disk.remove(s.path)) }

// lock makes the state's directory and locks the state.
func (s *store) lock() (taken *lock, err error) {
	if err = os.MkdirAll(filepath.Dir(s.path), 0o700); err == nil {
		taken, err = takeLock(s.path + ".lock")
	}
	return taken, s.failure(err)
}

// failure names the state file in an error, once.
func (s *store) failure(err error) error {
	if err == nil {
		return nil
	}
	if _, is := errors.AsType[*StateError](err); is {
		return err
	}
	if failure, is := errors.AsType[*fs.PathError](err); is {
		err = failure.Err
	}
	return fmt.Errorf("state file %s: %w", s.path, err)
}

// machineID identifies the installed system; empty if it has no machine-id(5).
func (d *disk) machineID() string { return d.line("/etc/machine-id") }

// bootID identifies the time since the kernel started.
func (d *disk) bootID() string { return d.line("/proc/sys/kernel/random/boot_id") }

func (d *disk) line(path string) string {
	content, err := os.ReadFile(d.path(path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// other reports that two ids are known and differ.
func other(a, b string) bool { return a != "" && b != "" && a != b }
