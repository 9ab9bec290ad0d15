package owner

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xentrace/internal/event"
)

const (
	// userTick is the unit of times in /proc/PID/stat: USER_HZ is 100 on x86 and arm64.
	userTick = 10 * time.Millisecond

	maxPlaces  = 4096   // kept
	maxCgroups = 20_000 // looked at in one walk

	// leisure is how many times as long as it took a search is not done again.
	leisure      = 20
	walkInterval = time.Second
)

// A placeKey is what a process's place is remembered by. Its name may change.
type placeKey struct {
	pid     int
	started time.Duration
	cgroup  uint64
}

// places finds and remembers where processes run. A process that is there tells by
// itself; for one that is gone the cgroup tree is searched for its id.
type places struct {
	proc     string // where procfs is mounted
	known    map[placeKey]Place
	paths    map[uint64]string // of the cgroup v2 hierarchy, as of the last walk
	nextWalk time.Time
	now      func() time.Time
}

func newPlaces() *places {
	return &places{proc: "/proc", known: make(map[placeKey]Place), now: time.Now}
}

// of returns the place of a process.
func (p *places) of(task *event.Task) Place {
	key := placeKey{task.PID, task.Started, task.Cgroup}
	place, known := p.known[key]
	if known {
		return place
	}
	place, settled := p.find(task)
	if settled {
		if len(p.known) >= maxPlaces {
			clear(p.known)
		}
		p.known[key] = place
	}
	return place
}

// find reports also whether the answer is worth keeping.
func (p *places) find(task *event.Task) (place Place, settled bool) {
	text, err := os.ReadFile(p.path(task.PID, "cgroup"))
	// Looked at afterwards: the same process was there all the time.
	if err == nil && p.isThere(task) {
		return parseMemberships(string(text)), true
	}
	path, known := p.paths[task.Cgroup]
	if !known && task.Cgroup != 0 && !p.now().Before(p.nextWalk) {
		p.walk()
		path, known = p.paths[task.Cgroup]
	}
	if !known {
		return Place{}, false
	}
	return ParseCgroup(path), true
}

func (p *places) path(pid int, name string) string {
	return filepath.Join(p.proc, strconv.Itoa(pid), name)
}

// isThere reports whether a process still runs, and is not another one by now.
func (p *places) isThere(task *event.Task) bool {
	started, err := startOf(p.path(task.PID, "stat"))
	return err == nil && started == task.Started.Truncate(userTick)
}

// startOf reads from /proc/PID/stat when a process was started after boot.
func startOf(path string) (time.Duration, error) {
	const place = 22 - 3 // of starttime, among the fields from the third on
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The second is the name in parentheses, which may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= place {
		return 0, fmt.Errorf("%s: %d fields", path, len(fields))
	}
	ticks, err := strconv.ParseInt(string(fields[place]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: start: %w", path, err)
	}
	return time.Duration(ticks) * userTick, nil
}

// walk reads the ids of all cgroups: those of their directories' inodes.
func (p *places) walk() {
	began := p.now()
	p.paths = make(map[uint64]string)
	if root, err := cgroupRoot(filepath.Join(p.proc, "self/mountinfo")); err == nil {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil // a cgroup may go meanwhile
			}
			if info, err := entry.Info(); err == nil {
				p.paths[info.Sys().(*syscall.Stat_t).Ino] = "/" + strings.TrimPrefix(path[len(root):], "/")
			}
			if len(p.paths) >= maxCgroups {
				return fs.SkipAll
			}
			return nil
		})
	}
	now := p.now()
	p.nextWalk = now.Add(max(walkInterval, leisure*now.Sub(began)))
}

// cgroupRoot returns where the cgroup v2 hierarchy is mounted.
func cgroupRoot(mountinfo string) (string, error) {
	text, err := os.ReadFile(mountinfo)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		mount, system, found := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if found && strings.HasPrefix(system, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup v2 hierarchy is mounted")
}
