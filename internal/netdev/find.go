package netdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/procfs"
)

// ErrNamespaceNotFound matches every [NamespaceNotFoundError].
var ErrNamespaceNotFound = errors.New("network namespace not found")

// NamespaceNotFoundError names a network namespace that does not exist (any more).
type NamespaceNotFoundError struct {
	Inum uint32 // 0 if it was looked up by path
}

// Error implements the error interface.
func (e *NamespaceNotFoundError) Error() string {
	if e.Inum == 0 {
		return ErrNamespaceNotFound.Error()
	}
	return fmt.Sprintf("network namespace %d not found", e.Inum)
}

// Is makes errors.Is(err, ErrNamespaceNotFound) true.
func (e *NamespaceNotFoundError) Is(target error) bool { return target == ErrNamespaceNotFound }

// Found is an existing network namespace that is not held open.
type Found struct {
	Inum uint32
	// Path is a bind mount such as /run/netns/NAME if there is one, else
	// /proc/PID/ns/net of one of its processes.
	Path string
}

// Namespaces lists every network namespace that a process's main thread is in or that
// is bind-mounted in the caller's mount namespace (as ip-netns and container engines
// do), each once, ordered by number. It costs one readlink per process and opens no
// namespace. It omits processes that the caller may not read or that do not let their
// files be read, and namespaces that only an open file or a socket keeps alive.
func Namespaces(ctx context.Context) ([]Found, error) {
	return newFinder(procfs.Machine()).find(ctx)
}

const (
	// Once a finder has read a process in settledAfter rounds, it reads it in one of
	// settledRounds only: a process that makes a namespace mostly does so when it is young.
	settledAfter  = 3
	settledRounds = 10
)

// A finder finds namespaces again and again. It remembers those of processes.
type finder struct {
	processes *procfs.Processes
	round     int
	known     map[int]member // by PID
}

// A member is a process, which is in a namespace.
type member struct {
	inum  uint32 // 0 if it cannot be read
	since int    // the round in which it was read first
	names bool   // the path of the namespace is by this process
}

func newFinder(processes *procfs.Processes) *finder {
	return &finder{processes: processes, known: make(map[int]member)}
}

// find returns what [Namespaces] does. What a process older than a few rounds changed is seen
// up to settledRounds later.
func (f *finder) find(ctx context.Context) ([]Found, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	defer mounts.Close()
	found, err := mountedNamespaces(mounts)
	if err != nil {
		return nil, err
	}
	pids, err := f.processes.List()
	if err != nil {
		return nil, err
	}
	if err := f.read(ctx, pids); err != nil {
		return nil, err
	}
	for _, pid := range pids {
		m := f.known[pid]
		_, known := found[m.inum]
		if m.names = !known && m.inum != 0; m.names {
			found[m.inum] = f.processes.Path(pid, "ns/net")
		}
		f.known[pid] = m
	}
	list := make([]Found, 0, len(found))
	for inum, path := range found {
		list = append(list, Found{Inum: inum, Path: path})
	}
	slices.SortFunc(list, func(a, b Found) int { return cmp.Compare(a.Inum, b.Inum) })
	return list, nil
}

// read reads the links of the processes whose turn it is, and forgets those that have ended.
func (f *finder) read(ctx context.Context, pids []int) error {
	f.round++
	var turn []int
	known := make(map[int]member, len(pids))
	for _, pid := range pids {
		m, is := f.known[pid]
		if !is {
			m.since = f.round
		}
		known[pid] = m
		if m.names || f.round < m.since+settledAfter || (f.round+pid)%settledRounds == 0 {
			turn = append(turn, pid)
		}
	}
	f.known = known
	targets, err := f.processes.Readlinks(ctx, turn, "ns/net")
	for n, target := range targets {
		m := known[turn[n]]
		m.inum, _ = parseInum(target)
		known[turn[n]] = m
	}
	return err
}

// OpenNamespace opens the namespace with that inode number, or fails with
// [ErrNamespaceNotFound]. It finds those of [Namespaces] and those that a thread of
// this process is in.
func OpenNamespace(ctx context.Context, inum uint32) (*Namespace, error) {
	// Not by a pattern: directories of a process that is not dumpable can only be passed.
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("threads: %w", err)
	}
	for _, thread := range threads {
		path := filepath.Join("/proc/self/task", thread.Name(), "ns/net")
		if target, err := os.Readlink(path); err == nil && target == fmt.Sprintf("net:[%d]", inum) {
			if ns, err := openPath(path, inum); err == nil {
				return ns, nil // otherwise the thread ended or left
			}
		}
	}
	all, err := Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, found := range all {
		if found.Inum == inum {
			return found.Open()
		}
	}
	return nil, &NamespaceNotFoundError{Inum: inum}
}

// mountedNamespaces reads /proc/PID/mountinfo: a bind-mounted namespace is a mount of
// nsfs whose root, the fourth field, is "net:[INUM]". No such line is over the limit: nsfs
// has no options.
func mountedNamespaces(mountinfo io.Reader) (map[uint32]string, error) {
	found := make(map[uint32]string)
	for line, err := range procfs.Lines(mountinfo) {
		if err != nil {
			return nil, fmt.Errorf("mounts: %w", err)
		}
		addMounted(found, string(line))
	}
	return found, nil
}

func addMounted(found map[uint32]string, line string) {
	if !strings.Contains(line, " net:[") {
		return
	}
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return
	}
	inum, ok := parseInum(fields[3])
	if !ok {
		return
	}
	path := unescapeMount(fields[4])
	// ip-netns's directory is reached as /var/run/netns and mounted twice.
	if old, known := found[inum]; !known || len(path) < len(old) {
		found[inum] = path
	}
}

// parseInum parses "net:[4026531840]".
func parseInum(s string) (uint32, bool) {
	digits, ok := strings.CutPrefix(s, "net:[")
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, "]")
	if !ok {
		return 0, false
	}
	inum, err := strconv.ParseUint(digits, 10, 32)
	return uint32(inum), err == nil
}

// unescapeMount undoes seq_path's \ooo for space, tab, newline and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
