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

// stateVersion is that of the state file's form.
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

// clone returns a state that can be added to.
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
	for n := range s.Sysctls {
		if s.Sysctls[n].Name == name {
			return &s.Sysctls[n]
		}
	}
	return nil
}

func (s *State) iface(identity Identity) *InterfaceState {
	for n := range s.Interfaces {
		if s.Interfaces[n].Identity.same(identity) > 0 {
			return &s.Interfaces[n]
		}
	}
	return nil
}

// A store keeps a state in a file.
type store struct {
	path string
	disk *disk
}

// load returns the state, and nil if there is none.
func (s *store) load() (*State, error) {
	file, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", s.path, reason(err))
	}
	defer file.Close()
	if err := trusted(file); err != nil {
		return nil, fmt.Errorf("state file %s: %w", s.path, err)
	}
	state := &State{}
	if err := json.NewDecoder(file).Decode(state); err != nil {
		return nil, fmt.Errorf("state file %s: %w", s.path, err)
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("state file %s: its form is %d, this program knows %d", s.path, state.Version, stateVersion)
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

// save writes the state.
func (s *store) save(state *State) error {
	content, err := json.MarshalIndent(state, "", "\t")
	if err == nil {
		err = s.disk.write(s.path, append(content, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("state file %s: %w", s.path, reason(err))
	}
	return nil
}

func (s *store) remove() error {
	if err := s.disk.remove(s.path); err != nil {
		return fmt.Errorf("state file %s: %w", s.path, reason(err))
	}
	return nil
}

// lock makes the state's directory and locks the state.
func (s *store) lock() (*lock, error) {
	err := os.MkdirAll(filepath.Dir(s.path), 0o700)
	if err == nil {
		var taken *lock
		if taken, err = takeLock(s.path + ".lock"); err == nil {
			return taken, nil
		}
	}
	return nil, fmt.Errorf("state file %s: %w", s.path, reason(err))
}

// reason returns an error without the path that a caller names anyway.
func reason(err error) error {
	var failure *fs.PathError
	if errors.As(err, &failure) {
		return failure.Err
	}
	return err
}
