package fix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
}

// An InterfaceState is an interface as it was, whole: a feature that is changed
// may change others, and xen-netfront's MTU.
type InterfaceState struct {
	Identity    Identity                  `json:"identity"`
	MTU         int                       `json:"mtu"`
	Features    map[string]netdev.Feature `json:"features"`
	SetMTU      int                       `json:"set_mtu"` // 0 if it was left
	SetFeatures map[string]bool           `json:"set_features"`
}

// A FileState is something that fix makes.
type FileState struct {
	Path string `json:"path"`
	Link string `json:"link"` // what it points to; empty for a file
	// Directory tells that it is a directory, to be removed if it is empty.
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
	file, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := trusted(file); err != nil {
		return nil, err
	}
	state := &State{}
	if err := json.NewDecoder(file).Decode(state); err != nil {
		return nil, err
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("its form is %d, this program knows %d", state.Version, stateVersion)
	}
	return state, nil
}

// trusted tells that nobody else could have written the file: what it says is
// done with every privilege.
func trusted(file *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return err
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is not a regular file")
	case int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0:
		return errors.New("others than its user can have written it, so it is not trusted")
	}
	return nil
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
	if failure, is := errors.AsType[*fs.PathError](err); is {
		err = failure.Err
	}
	return fmt.Errorf("state file %s: %w", s.path, err)
}
