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

// A Cgroup is what the path of a cgroup names.
type Cgroup struct {
	Unit      string // systemd's; "" if none
	Container string // id, or name where the kind of container has no id; "" if none
}

// ParseCgroup reads a cgroup's path as /proc/PID/cgroup has it.
//
// The container is the innermost part of the path that names one: an id of 64
// hexadecimal digits, bare (Docker and Kubernetes without systemd) or in a scope of
// docker, cri-containerd, crio, libpod and others of that form; a machine of
// systemd-machined that is no virtual one; a payload of LXC.
//
// The unit is the innermost service or scope, or the innermost slice if there is
// neither. Parts below the container belong to the container's own systemd and are
// ignored. Units below user@UID.service are those of that user's systemd.
func ParseCgroup(path string) Cgroup {
	parts := strings.Split(strings.TrimSuffix(path, " (deleted)"), "/")
	var cgroup Cgroup
	for n := len(parts) - 1; n >= 0 && cgroup.Container == ""; n-- {
		if cgroup.Container = container(parts, n); cgroup.Container != "" {
			parts = parts[:n+1]
		}
	}
	for n := len(parts) - 1; n >= 0; n-- {
		switch {
		case isUnit(parts[n], ".service"), isUnit(parts[n], ".scope"):
			cgroup.Unit = parts[n]
			return cgroup
		case cgroup.Unit == "" && isUnit(parts[n], ".slice"):
			cgroup.Unit = parts[n]
		}
	}
	return cgroup
}

func isUnit(part, suffix string) bool {
	return len(part) > len(suffix) && strings.HasSuffix(part, suffix)
}

// container returns the container that one part of a path names, "" for none.
func container(parts []string, n int) string {
	part := parts[n]
	if name, is := strings.CutPrefix(part, "lxc.payload."); is {
		return name
	}
	if n > 0 && (parts[n-1] == "lxc.payload" || parts[n-1] == "lxc") {
		return part
	}
	if name, is := cutBoth(part, "systemd-nspawn@", ".service"); is {
		return unescape(name)
	}
	if name, is := cutBoth(part, "machine-", ".scope"); is {
		name = unescape(name)
		if strings.HasPrefix(name, "qemu-") { // a virtual machine
			return ""
		}
		return name
	}
	runtime, id := "", strings.TrimSuffix(part, ".scope")
	if dash := strings.LastIndexByte(id, '-'); dash >= 0 {
		runtime, id = id[:dash], id[dash+1:]
	}
	// conmon monitors a container from outside.
	if !isID(id) || strings.HasSuffix(runtime, "conmon") {
		return ""
	}
	return id
}

func cutBoth(part, prefix, suffix string) (string, bool) {
	name, is := strings.CutPrefix(part, prefix)
	if !is {
		return "", false
	}
	name, is = strings.CutSuffix(name, suffix)
	return name, is && name != ""
}

func isID(text string) bool {
	const digits = 64
	if len(text) != digits {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// unescape undoes what systemd does to characters that a unit's name cannot have:
// \x2d is a dash.
func unescape(name string) string {
	const length = len(`\x2d`)
	var b strings.Builder
	for len(name) > 0 {
		if len(name) >= length && name[:2] == `\x` {
			if c, err := strconv.ParseUint(name[2:length], 16, 8); err == nil {
				b.WriteByte(byte(c))
				name = name[length:]
				continue
			}
		}
		b.WriteByte(name[0])
		name = name[1:]
	}
	return b.String()
}

// parseMemberships parses /proc/PID/cgroup: a line for each hierarchy,
// "number:controllers:path". The unit is that of cgroup v2 or, on machines with v1, of
// systemd's own hierarchy; the container may come from any.
func parseMemberships(text string) Cgroup {
	var cgroup, fallback Cgroup
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		found := ParseCgroup(fields[2])
		switch {
		case fields[0] == "0" && fields[1] == "":
			cgroup = found
		case fields[1] == "name=systemd":
			fallback.Unit = found.Unit
			if found.Container != "" {
				fallback.Container = found.Container
			}
		case fallback.Container == "":
			fallback.Container = found.Container
		}
	}
	if cgroup.Unit == "" {
		cgroup.Unit = fallback.Unit
	}
	if cgroup.Container == "" {
		cgroup.Container = fallback.Container
	}
	return cgroup
}
