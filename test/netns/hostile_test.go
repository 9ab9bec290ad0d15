package netns

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
	"xentrace/test/process"
	"xentrace/test/tool"
)

const (
	hostileVariable = "XENTRACE_HOSTILE" // how long hostile programs run
	residentLimit   = 100 << 10          // KiB
	inTime          = 2 * time.Second    // until a record is written, and from SIGINT to the end
)

// Programs of a user without privileges do all at once that is known to harm: files with
// hostile section headers, one with a device mounted over it, 65,000 mappings and 2,000 lost
// packets a second, 900,000 duplicates of a socket, processes whose maps nobody can read
// (FUSE in a user namespace), and interfaces that come and go. Meanwhile every record of
// another user is written, soon; all is counted but what the kernel skipped; memory is
// bounded; and SIGINT ends it.
func TestHostilePrograms(t *testing.T) {
	need.Asked(t, hostileVariable, "make test-hostile")
	duration := hostileTime(t)
	l := newLab(t)
	remote := l.udpSink(farAddress.Addr()).Local().String()
	everywhere := launchXentrace(t, "watch", "--wait", "-o", "json")
	base := transmitted(t, l.near)
	traced := countTraced(t, l.near)
	victims := make(chan int, 1)
	watch, followed := startFollowed(t, victims, "watch", "-i", "near", "--stack", "-o", "json")
	programs := l.hostilePrograms(remote)
	victim := process.Start(t, "victim", nobody-1, "steady", remote)
	victims <- victim.Number()
	l.endure(duration, watch, everywhere)

	second := start(t, "watch", "-i", "near", "--stack", "-o", "json")
	time.Sleep(min(duration, 5*time.Second))
	for name, p := range map[string]*program{"a second watch --stack": second, "watch of every namespace": everywhere} {
		began, peak := time.Now(), p.status("VmHWM")
		p.stop()
		took := time.Since(began)
		t.Logf("%s: ended %v after SIGINT, %d KiB at most", name, took.Round(time.Millisecond), peak)
		if took > inTime || peak > residentLimit {
			t.Errorf("%s: limits are %v and %d KiB", name, inTime, residentLimit)
		}
	}
	sent := victim.Count()
	for _, p := range programs {
		p.Kill()
	}
	least := traced()
	peak := watch.status("VmHWM")
	began := time.Now()
	watch.stop()
	got := <-followed
	// The kernel sends now and then by itself: what is read later has as many or more.
	most := traced()
	total := transmitted(t, l.near) - base
	skipped := got.summary.Lost.Recursion // interrupts that sent while a program ran
	t.Logf("watch --stack: %d packets, %d of them traced, %d records, %d lost, %d runs skipped, %d KiB at most; %d of %d records of the other user, %d with the owner, the slowest after %v; ended %v after SIGINT, %v of CPU time",
		total, most, got.records, got.summary.Lost.Ring, *skipped, peak, got.victims, sent, got.owned, got.slowest.Round(time.Millisecond), time.Since(began).Round(time.Millisecond),
		watch.cmd.ProcessState.UserTime()+watch.cmd.ProcessState.SystemTime())
	i := got.summary.Interfaces[0]
	// Now and then the kernel sends some 20 packets without its tracepoints.
	if i.Packets > most || i.Packets+*skipped < least || most > total || i.Counted() != i.Packets || got.records != got.summary.Events || got.records+got.summary.Lost.Ring != i.OverLimit {
		t.Errorf("%d packets, %d in the histogram, %d to %d by the tracepoint, the interface counted %d, %d runs skipped; %d records and %d lost of %d over the limit",
			i.Packets, i.Counted(), least, most, total, *skipped, got.records, got.summary.Lost.Ring, i.OverLimit)
	}
	if got.victims != sent || got.summary.Lost.Ring != 0 || peak > residentLimit || got.slowest > inTime {
		t.Errorf("want all %d, none lost, at most %d KiB, and %v", sent, residentLimit, inTime)
	}
}

// hostileTime is how long hostile programs are to run; 0: not at all.
func hostileTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(hostileVariable)
	if text == "" {
		return 0
	}
	duration, err := time.ParseDuration(text)
	must(t, err)
	return duration
}

// Processes of an unprivileged user whose maps or namespaces nobody can read, since a FUSE server
// of the user does not answer, hide no records of another user, nor their stacks. check ends, and
// reports them.
func TestProcessesBlockedByFUSE(t *testing.T) {
	const blocked, records = 6, 20 // more blocked ones than are read of a user
	l := newLab(t)
	remote := l.udpSink(farAddress.Addr()).Local().String()
	node := fuseNode(t)
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "--stack")
	hostile := process.Start(t, "hostile", nobody, "blocked", remote, shared(t), node, strconv.Itoa(blocked))
	for range blocked {
		hostile.Line()
	}
	var checked bytes.Buffer
	check := exec.Command(xentrace, "check", "-o", "json")
	check.Stdout = &checked
	must(t, check.Start())
	victim := process.Start(t, "victim", nobody-1, "threads", remote, strconv.Itoa(records))
	for range records {
		victim.Number()
	}
	output := watch.Stop()
	if err := check.Wait(); err != nil || !strings.Contains(checked.String(), "processes that do not let theirs be read: ") {
		t.Errorf("check: error %v, it reports no processes that cannot be read:\n%s", err, &checked)
	}
	victims, stacks := 0, 0
	for i := range output.Packets {
		if p := &output.Packets[i]; p.Process != nil && p.Process.PID == victim.PID() {
			victims++
			if slices.ContainsFunc(p.Stack, func(f string) bool { return strings.Contains(f, "/victim+0x") || strings.Contains(f, "/victim)") }) {
				stacks++
			}
		}
	}
	if victims != records || stacks != records || len(output.Packets) <= records {
		t.Errorf("%d of %d records, %d with the program's part of the stack; %d in all", victims, records, stacks, len(output.Packets))
	}
}

// hostilePrograms starts them, as a user without privileges, in the near namespace.
func (l *lab) hostilePrograms(remote string) (all []*process.Process) {
	l.t.Helper()
	directory := shared(l.t)
	for _, program := range [][]string{
		{"image", remote, directory, "sparse"}, {"image", remote, directory, "compressed"}, {"image", remote, directory, "entries"},
		{"device", remote, directory}, {"blocked", remote, directory, fuseNode(l.t), "40"}, {"links"},
		{"duplicates", l.discard(farAddress6.Addr()), "900000"}, {"mappings", remote},
	} {
		all = append(all, process.Start(l.t, "hostile", nobody, program[0], program[1:]...))
	}
	for _, p := range all {
		p.Line()
	}
	return all
}

// shared is a directory that every user may write to.
func shared(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "xentrace-hostile-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(directory)) })
	must(t, os.Chmod(directory, 0o777|os.ModeSticky))
	return directory
}

// fuseNode is the device of FUSE as distributions have it: for everybody.
func fuseNode(t *testing.T) string {
	t.Helper()
	const misc, fuse = 10, 229
	path := filepath.Join(shared(t), "fuse")
	must(t, unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(misc, fuse))))
	must(t, os.Chmod(path, 0o666))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	need.Kernel(t, "FUSE", err)
	must(t, unix.Close(fd))
	return path
}

// endure waits, and logs resident memory every minute.
func (l *lab) endure(duration time.Duration, programs ...*program) {
	l.t.Helper()
	for began := time.Now(); time.Since(began) < duration; {
		time.Sleep(min(time.Minute, duration-time.Since(began)))
		for _, p := range programs {
			l.t.Logf("%v: %d KiB resident, %d threads: %v", time.Since(began).Round(time.Second), p.status("VmRSS"), p.status("Threads"), p.cmd.Args[1:])
		}
	}
}

// status is a number of /proc/PID/status.
func (p *program) status(name string) int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	must(p.t, err)
	found := regexp.MustCompile(`\n` + name + `:\s*(\d+)`).FindSubmatch(text)
	if found == nil {
		p.t.Fatalf("no %s", name)
	}
	n, err := strconv.Atoi(string(found[1]))
	must(p.t, err)
	return n
}

// followed is what was read of a run, too much to keep.
type followed struct {
	records uint64
	victims int           // records from one port
	owned   int           // of these, with an owner
	slowest time.Duration // of these, from the packet to the line
	summary tool.Summary
}

// startFollowed starts xentrace and reads what it writes; of records from the port that victim
// is sent the times are taken.
func startFollowed(t *testing.T, victim <-chan int, args ...string) (*program, <-chan followed) {
	t.Helper()
	read, write, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(xentrace, args...)
	cmd.Stdout = write
	result := make(chan followed, 1)
	go func() {
		defer read.Close()
		result <- follow(t, read, victim)
	}()
	p := startWith(t, cmd)
	must(t, write.Close())
	return p, result
}

func follow(t *testing.T, r io.Reader, victim <-chan int) (f followed) {
	port := []byte("no port is known")
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		now := time.Now()
		select {
		case n := <-victim:
			port = fmt.Appendf(nil, `"sport":%d,`, n)
		default:
		}
		switch line := lines.Bytes(); {
		case bytes.HasPrefix(line, []byte(`{"type":"summary"`)):
			f.summary = summaryOf(t, string(line))
		case bytes.HasPrefix(line, []byte(`{"type":"packet"`)):
			if f.records++; !bytes.Contains(line, port) {
				continue
			}
			var p tool.Packet
			if err := json.Unmarshal(line, &p); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			f.victims++
			f.slowest = max(f.slowest, now.Sub(p.Time))
			if p.Process != nil && p.Process.Comm == "victim" {
				f.owned++
			} else {
				t.Logf("%.1500s", line)
			}
		}
	}
	if lines.Err() != nil {
		t.Errorf("output: %v", lines.Err())
	}
	return f
}
