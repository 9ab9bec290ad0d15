package owner

import (
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
	"xentrace/internal/procfs"
)

const (
	maxKnown   = 4096   // cached cgroups
	maxCgroups = 20_000 // read in one walk

	// After a walk that took d the next starts no earlier than walkPause*d later.
	walkPause    = 20
	walkInterval = time.Second
)

// A cgroupKey identifies a process in one cgroup. Its name may change.
type cgroupKey struct {
	pid     int
	started time.Duration
	cgroup  uint64
}

// cgroups caches the cgroups of processes: from /proc/PID/cgroup or, for a process that
// has exited, by searching the cgroup tree for the id of its cgroup.
type cgroups struct {
	proc     string // where procfs is mounted
	known    map[cgroupKey]Cgroup
	paths    map[uint64]string // by cgroup v2 id, as of the last walk
	nextWalk time.Time
	now      func() time.Time
}

func newCgroups() *cgroups {
	return &cgroups{proc: "/proc", known: make(map[cgroupKey]Cgroup), now: time.Now}
}

func (c *cgroups) of(task *event.Task) Cgroup {
	key := cgroupKey{task.PID, task.Started, task.Cgroup}
	cgroup, known := c.known[key]
	if known {
		return cgroup
	}
	cgroup, settled := c.find(task)
	if settled {
		if len(c.known) >= maxKnown {
			clear(c.known)
		}
		c.known[key] = cgroup
	}
	return cgroup
}

// find also reports whether the result may be cached.
func (c *cgroups) find(task *event.Task) (cgroup Cgroup, settled bool) {
	text, err := os.ReadFile(c.path(task.PID, "cgroup"))
	// Checked afterwards: the PID was not reused before the read.
	if err == nil && c.isThere(task) {
		return parseMemberships(string(text)), true
	}
	path, known := c.paths[task.Cgroup]
	if !known && task.Cgroup != 0 && !c.now().Before(c.nextWalk) {
		c.walk()
		path, known = c.paths[task.Cgroup]
	}
	if !known {
		return Cgroup{}, false
	}
	return ParseCgroup(path), true
}

func (c *cgroups) path(pid int, name string) string {
	return filepath.Join(c.proc, strconv.Itoa(pid), name)
}

// isThere reports whether the process still runs and its PID was not reused.
func (c *cgroups) isThere(task *event.Task) bool {
	started, err := startTime(c.path(task.PID, "stat"))
	return err == nil && started == task.Started.Truncate(procfs.Tick)
}

// startTime returns when a process was started, since boot.
func startTime(path string) (time.Duration, error) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	started, ok := procfs.StartTime(stat)
	if !ok {
		return 0, fmt.Errorf("%s: no start time", path)
	}
	return started, nil
}

func (c *cgroups) walk() {
	began := c.now()
	c.paths = make(map[uint64]string)
	if root, err := cgroupRoot(filepath.Join(c.proc, "self/mountinfo")); err == nil {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil // removed meanwhile
			}
			if info, err := entry.Info(); err == nil {
				c.paths[info.Sys().(*syscall.Stat_t).Ino] = "/" + strings.TrimPrefix(path[len(root):], "/")
			}
			if len(c.paths) >= maxCgroups {
				return fs.SkipAll
			}
			return nil
		})
	}
	now := c.now()
	c.nextWalk = now.Add(max(walkInterval, walkPause*now.Sub(began)))
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
