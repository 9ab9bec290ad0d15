package owner

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/procfs"
)

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// stat is what /proc/PID/stat says of a process that was started so many ticks after boot;
// its name is as bad as they come.
func stat(pid, ticks int) string {
	return fmt.Sprintf("%d (a) R 1 (b) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 1000 200 18446744073709551615\n", pid, ticks)
}

// fakeMachine is a procfs with processes, and a cgroup v2 hierarchy.
func fakeMachine(t *testing.T) (*cgroups, string) {
	t.Helper()
	root := t.TempDir()
	proc, cgroups := filepath.Join(root, "proc"), filepath.Join(root, "cgroup")
	write(t, "30 24 0:26 / "+cgroups+" rw,nosuid - cgroup2 cgroup2 rw\n", proc, "self/mountinfo")
	write(t, stat(100, 1234), proc, "100/stat")
	write(t, "0::/system.slice/here.service\n", proc, "100/cgroup")
	write(t, "", cgroups, "system.slice/gone.service/cgroup.procs")
	p := newCgroups()
	p.processes, p.mountinfo = procfs.NewProcesses(proc), filepath.Join(proc, "self/mountinfo")
	p.now = func() time.Time { return began }
	return p, cgroups
}

// inodeOfPath is the id of a cgroup.
func inodeOfPath(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestCgroupOfProcess(t *testing.T) {
	p, cgroups := fakeMachine(t)
	gone := inodeOfPath(t, filepath.Join(cgroups, "system.slice/gone.service"))
	const started = 12340*time.Millisecond + 5*time.Microsecond
	for _, test := range []struct {
		name string
		task event.Task
		want Cgroup
	}{
		{"it is there", event.Task{PID: 100, Started: started, Cgroup: gone}, Cgroup{Unit: "here.service"}},
		{"its number is another's by now", event.Task{PID: 100, Started: started - 10*time.Millisecond, Cgroup: gone}, Cgroup{Unit: "gone.service"}},
		{"it is gone", event.Task{PID: 101, Started: started, Cgroup: gone}, Cgroup{Unit: "gone.service"}},
		{"it is gone, and its cgroup", event.Task{PID: 102, Cgroup: 1}, Cgroup{}},
		{"it is gone, and its cgroup is not known", event.Task{PID: 103}, Cgroup{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, _ := p.find(&test.task); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// The tree is not searched again and again for a cgroup that is not there.
func TestTreeIsNotSearchedOften(t *testing.T) {
	p, cgroups := fakeMachine(t)
	now := began
	p.now = func() time.Time { return now }
	p.find(&event.Task{PID: 7, Cgroup: 1})
	write(t, "", cgroups, "late.service/cgroup.procs")
	late := event.Task{PID: 8, Cgroup: inodeOfPath(t, filepath.Join(cgroups, "late.service"))}
	if got, _ := p.find(&late); got != (Cgroup{}) {
		t.Errorf("%+v right after the last search, want nothing", got)
	}
	now = now.Add(walkInterval)
	if got, _ := p.find(&late); got.Unit != "late.service" {
		t.Errorf("%+v later, want late.service", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	for n := range 3 * maxKnown {
		o.learn(cgroupKey{pid: 100, cgroup: uint64(n)}, knownCgroup{settled: true}, began)
		if len(o.known) > maxKnown {
			t.Fatalf("%d cgroups kept, want at most %d", len(o.known), maxKnown)
		}
	}
}

// This process's own cgroup, as this machine has it.
func TestCgroupOfThisProcess(t *testing.T) {
	started, err := procfs.Machine().StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if got, settled := newCgroups().find(&event.Task{PID: os.Getpid(), Started: started + time.Millisecond}); !settled || got != parseMemberships(string(text)) {
		t.Errorf("%+v (settled: %v), want that of %q", got, settled, text)
	}
}

func TestScanOfProc(t *testing.T) {
	proc := t.TempDir()
	for _, process := range []struct {
		pid   int
		files map[string]string
	}{
		{100, map[string]string{"0": "/dev/null", "3": "socket:[7]", "4": "socket:[8]"}},
		{200, map[string]string{"5": "socket:[7]", "7": "socket:[7]", "6": "pipe:[9]"}},
		{300, map[string]string{"3": "socket:[77]"}},
	} {
		directory := filepath.Join(proc, strconv.Itoa(process.pid))
		write(t, "name "+strconv.Itoa(process.pid)+"\n", directory, "comm")
		write(t, stat(process.pid, process.pid), directory, "stat")
		write(t, "", directory, "fd", "x")
		for fd, target := range process.files {
			if err := os.Symlink(target, filepath.Join(directory, "fd", fd)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, "", proc, "400/comm") // gone again: no files
	holders, err := scan(procfs.NewProcesses(proc), []uint64{7, 9})
	if err != nil {
		t.Fatal(err)
	}
	want := []event.Holder{
		{Inode: 7, Task: event.Task{PID: 100, Comm: "name 100", Started: time.Second}},
		{Inode: 7, Task: event.Task{PID: 200, Comm: "name 200", Started: 2 * time.Second}},
	}
	if len(holders) != len(want) || holders[0] != want[0] || holders[1] != want[1] {
		t.Errorf("%+v, want %+v", holders, want)
	}
	if _, err := scan(procfs.NewProcesses(filepath.Join(proc, "nothing")), nil); err == nil {
		t.Error("no error without procfs, want one")
	}
}
