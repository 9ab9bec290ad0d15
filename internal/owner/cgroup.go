package owner

import (
	"strconv"
	"strings"
)

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
