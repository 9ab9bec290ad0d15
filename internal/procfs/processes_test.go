package procfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// fakeProcesses is a procfs in which no process is.
func fakeProcesses(t *testing.T) *Processes {
	t.Helper()
	p := NewProcesses(t.TempDir())
	p.patience, p.patienceWithRoot = 20*time.Millisecond, 50*time.Millisecond
	return p
}

// add adds a process. The read of its stat waits until the test ends if it is to block.
func (p *Processes) add(t *testing.T, pid int, user uint32, blocks bool) (release func()) {
	t.Helper()
	directory := filepath.Join(p.root, fmt.Sprint(pid))
	if err := os.Mkdir(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf("Name:\ta\nUid:\t%d\t0\t0\t0\n", user)
	if err := os.WriteFile(filepath.Join(directory, "status"), []byte(status), 0o644); err != nil {
		t.Fatal(err)
	}
	stat := filepath.Join(directory, "stat")
	if !blocks {
		if err := os.WriteFile(stat, []byte("7 (a) S "+strings.Repeat("1 ", 18)+"250 9"), 0o644); err != nil {
			t.Fatal(err)
		}
		return func() {}
	}
	if err := unix.Mkfifo(stat, 0o644); err != nil {
		t.Fatal(err)
	}
	release = func() {
		// With a writer that ends at once the read ends, too.
		if fd, err := unix.Open(stat, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			unix.Close(fd)
		}
	}
	t.Cleanup(release)
	return release
}

// patiently gives a read that will end all the time that a busy machine takes.
func (p *Processes) patiently(read func() (time.Duration, error)) (time.Duration, error) {
	before := p.patience
	p.patience = time.Minute
	defer func() { p.patience = before }()
	return read()
}

// settled returns how many reads are abandoned once those that were abandoned before they got
// a CPU, and are refused when they do, have returned.
func (p *Processes) settled(want int) int {
	for deadline := time.Now().Add(time.Minute); p.Stuck() > want && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return p.Stuck()
}

func TestProcessThatNeverAnswers(t *testing.T) {
	p := fakeProcesses(t)
	release := p.add(t, 1, 1000, true)
	p.add(t, 2, 1000, false)
	for range 3 {
		if _, err := p.StartTime(1); !errors.Is(err, ErrStuck) {
			t.Fatalf("%v, want that it is stuck", err)
		}
		if got, err := p.patiently(func() (time.Duration, error) { return p.StartTime(2) }); err != nil || got != 2500*time.Millisecond {
			t.Fatalf("start time %v, %v: want 2.5 s", got, err)
		}
	}
	if n := p.Stuck(); n != 1 {
		t.Fatalf("%d abandoned reads, want 1", n)
	}
	for release(); p.Stuck() > 0; time.Sleep(time.Millisecond) {
		release()
	}
	if a := p.users[1000]; a.stuck != 0 {
		t.Errorf("the user has %d abandoned reads after all returned", a.stuck)
	}
}

// Neither one user nor all together make xentrace abandon more reads than it allows, and
// one user's processes do not prevent reads of another's.
func TestAbandonedReadsAreBounded(t *testing.T) {
	p := fakeProcesses(t)
	for pid := range 20 {
		p.add(t, pid, 1000, true)
		if _, err := p.StartTime(pid); !errors.Is(err, ErrStuck) {
			t.Fatalf("%v, want that it is stuck", err)
		}
	}
	if n := p.settled(maxStuckOfUser); n != maxStuckOfUser {
		t.Errorf("%d abandoned reads of one user, want %d", n, maxStuckOfUser)
	}
	p.add(t, 99, 1001, false)
	if _, err := p.patiently(func() (time.Duration, error) { return p.StartTime(99) }); err != nil {
		t.Errorf("another user's process: %v", err)
	}
	for pid := 100; pid < 200; pid++ {
		p.add(t, pid, uint32(pid), true)
		if _, err := p.StartTime(pid); !errors.Is(err, ErrStuck) {
			t.Fatalf("%v, want that it is stuck", err)
		}
	}
	if n := p.settled(maxStuck); n != maxStuck {
		t.Errorf("%d abandoned reads, want %d", n, maxStuck)
	}
}

// Users cannot slow down root's processes: an overloaded machine does.
func TestRootHasMoreTime(t *testing.T) {
	for user, want := range map[uint32]error{0: nil, 1000: ErrStuck} {
		p := fakeProcesses(t)
		p.patienceWithRoot = time.Hour
		p.add(t, 1, user, false)
		answer := make(chan struct{})
		if want == nil {
			time.AfterFunc(5*p.patience, func() { close(answer) })
		} else {
			t.Cleanup(func() { close(answer) })
		}
		if n, err := Guard(p, 1, func() (int, error) { <-answer; return 7, nil }, nil); !errors.Is(err, want) || err == nil && n != 7 {
			t.Errorf("user %d: %d, error %v, want %v", user, n, err, want)
		}
	}
	p := fakeProcesses(t)
	p.add(t, 1, 0, true)
	if _, err := p.StartTime(1); !errors.Is(err, ErrStuck) {
		t.Errorf("root's process that never answers: %v", err)
	}
}

// However long a read may take, the end of the context ends it.
func TestReadIsInterrupted(t *testing.T) {
	p := fakeProcesses(t)
	p.patienceWithRoot = time.Hour
	p.add(t, 1, 0, false)
	ctx, interrupt := context.WithCancel(t.Context())
	answer := make(chan struct{})
	r := reading[int]{processes: p, pids: []int{1}, read: func(int) (int, error) { interrupt(); <-answer; return 7, nil }}
	if all := r.run(ctx); len(all) != 1 || !errors.Is(all[0].err, ErrStuck) || p.Stuck() != 1 {
		t.Errorf("%v, %d abandoned, want one that is stuck", all, p.Stuck())
	}
	close(answer)
	for p.Stuck() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// Reads that take just less than allowed are bounded, too.
func TestSlowReadsAreBounded(t *testing.T) {
	synctest.Test(t, slowReadsAreBounded) // each takes just as long as it sleeps
}

func slowReadsAreBounded(t *testing.T) {
	p := fakeProcesses(t)
	p.patience = time.Minute
	p.add(t, 1, 1000, false)
	p.add(t, 2, 0, false)
	slow := func() (int, error) { time.Sleep(maxWaited / 4); return 0, nil }
	for range 5 {
		if _, err := Guard(p, 2, slow, nil); err != nil {
			t.Errorf("a slow read of root's: %v", err)
		}
	}
	n := 0
	for ; n < 100; n++ {
		if _, err := Guard(p, 1, slow, nil); errors.Is(err, ErrStuck) {
			break
		}
	}
	if n != 4 {
		t.Errorf("%d slow reads of one user, want 4", n)
	}
	p.users[1000].since = time.Now().Add(-waitWindow)
	if _, err := p.StartTime(1); err != nil {
		t.Errorf("after the window: %v", err)
	}
	if len(p.users) != 0 {
		t.Errorf("%d accounts are kept, want none", len(p.users))
	}
}

// What an abandoned read returns late is freed.
func TestLateResultIsDiscarded(t *testing.T) {
	p := fakeProcesses(t)
	release, discarded := make(chan bool), make(chan int, 1)
	_, err := Guard(p, 1, func() (int, error) { <-release; return 7, nil }, func(n int) { discarded <- n })
	if !errors.Is(err, ErrStuck) {
		t.Fatalf("%v, want that it is stuck", err)
	}
	close(release)
	if n := <-discarded; n != 7 {
		t.Errorf("discarded %d, want 7", n)
	}
}

func TestRealUserOfThisProcess(t *testing.T) {
	if got := Machine().realUser(os.Getpid()); got != uint32(os.Getuid()) {
		t.Errorf("user %d, want %d", got, os.Getuid())
	}
	pids, err := Machine().List()
	if err != nil || len(pids) == 0 || pids[0] > os.Getpid() {
		t.Errorf("processes %v, %v: want some, in order", pids, err)
	}
}

// One process that never answers costs the others of the same reading their time, not their
// answers.
func TestLinksOfManyProcesses(t *testing.T) {
	p := fakeProcesses(t)
	p.patience = time.Second // for the two that answer, on a busy machine
	var pids []int
	for pid := 1; pid <= 5; pid++ {
		release := p.add(t, pid, 1000, pid == 3)
		defer release()
		pids = append(pids, pid)
	}
	r := reading[int]{processes: p, pids: pids, read: func(pid int) (int, error) {
		_, err := os.ReadFile(p.Path(pid, "stat"))
		return pid, err
	}}
	answers := r.run(t.Context())
	if len(answers) != 3 || answers[1].value != 2 || answers[1].err != nil || !errors.Is(answers[2].err, ErrStuck) {
		t.Fatalf("%+v, want those of 1 and 2, and that 3 is stuck", answers)
	}
	if n := p.Stuck(); n != 1 {
		t.Errorf("%d abandoned reads, want 1", n)
	}

	for _, pid := range pids {
		if pid != 4 {
			if err := os.Symlink(fmt.Sprint("to ", pid), p.Path(pid, "link")); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := p.Readlinks(t.Context(), pids, "link")
	want := []string{"to 1", "to 2", "", "", "to 5"} // 3 is not read, 4 has none
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Readlinks(ended, pids, "link"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
}
