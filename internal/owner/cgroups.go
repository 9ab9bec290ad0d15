package owner

import (
	"errors"
	"io"
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
	maxCgroups = 20_000 // read in one walk
	// maxPathBytes bounds their paths, which users can make as long as PATH_MAX.
	maxPathBytes = 4 << 20
	// maxCgroupBytes bounds /proc/PID/cgroup: a path of PATH_MAX for each hierarchy.
	maxCgroupBytes = 64 << 10

	// After a walk that took d the next starts no earlier than walkPause*d later.
	walkPause    = 20
	walkInterval = time.Second
)

// cgroups finds the cgroups of processes: from /proc/PID/cgroup or, for a process that
// has exited, by searching the cgroup tree for the id of its cgroup. It is for one
// goroutine at a time, off the path of records: reads may take long.
type cgroups struct {
	processes *procfs.Processes
	mountinfo string            // of this process
	paths     map[uint64]string // by cgroup v2 id, as of the last walk
	nextWalk  time.Time
	now       func() time.Time
}

func newCgroups() *cgroups {
	return &cgroups{processes: procfs.Machine(), mountinfo: "/proc/self/mountinfo", now: time.Now}
}

// find also reports whether the result may be cached for good.
func (c *cgroups) find(task *event.Task) (cgroup Cgroup, settled bool) {
	text, err := procfs.ReadFile(c.processes.Path(task.PID, "cgroup"), maxCgroupBytes) // never blocks
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

// isThere reports whether the process still runs and its PID was not reused. It reports
// false of a process that does not let its files be read.
func (c *cgroups) isThere(task *event.Task) bool {
	started, err := c.processes.StartTime(task.PID)
	return err == nil && started == task.Started.Truncate(procfs.Tick)
}

func (c *cgroups) walk() {
	began := c.now()
	c.paths = make(map[uint64]string)
	if root, err := cgroupRoot(c.mountinfo); err == nil {
		left := maxPathBytes
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil // removed meanwhile
			}
			if info, err := entry.Info(); err == nil {
				path := "/" + strings.TrimPrefix(path[len(root):], "/")
				c.paths[info.Sys().(*syscall.Stat_t).Ino] = path
				left -= len(path)
			}
			if len(c.paths) >= maxCgroups || left < 0 {
				return fs.SkipAll
			}
			return nil
		})
	}
	now := c.now()
	c.nextWalk = now.Add(max(walkInterval, walkPause*now.Sub(began)))
}

// cgroupRoot returns where the cgroup v2 hierarchy is mounted.
func cgroupRoot(path string) (string, error) {
	mountinfo, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = mountinfo.Close() }() // only read from
	return parseCgroupRoot(mountinfo)
}

func parseCgroupRoot(mountinfo io.Reader) (string, error) {
	for line, err := range procfs.Lines(mountinfo) {
		if err != nil {
			return "", err
		}
		mount, system, found := strings.Cut(string(line), " - ")
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

// ParseCgroup reads a cgroup's path as /proc/PID/cgroup has it. The outermost part that
// names something decides: those below it may have been made, and named, by a user or a
// container to whom a cgroup is delegated.
//
// The container is the outermost part of the path that names one: an id of 64
// hexadecimal digits, bare (Docker and Kubernetes without systemd) or in a scope of
// docker, cri-containerd, crio, libpod and others of that form; a machine of
// systemd-machined that is no virtual one; a payload of LXC. In the cgroup of a user
// (user@UID.service) that user may have named it.
//
// The unit is the outermost service or scope, unless it is below the container; without
// one, the innermost of the slices that the path begins with.
func ParseCgroup(path string) Cgroup {
	parts := strings.Split(strings.TrimSuffix(path, " (deleted)"), "/")
	var cgroup Cgroup
	slices := true // so far
	for n, part := range parts {
		isSlice := isUnit(part, ".slice")
		switch slices = slices && (isSlice || part == "" || part == ".."); {
		case slices && isSlice:
			cgroup.Unit = part
		case isUnit(part, ".service"), isUnit(part, ".scope"):
			if !isUnit(cgroup.Unit, ".service") && !isUnit(cgroup.Unit, ".scope") {
				cgroup.Unit = part
			}
		}
		if cgroup.Container = container(parts, n); cgroup.Container != "" {
			break
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
