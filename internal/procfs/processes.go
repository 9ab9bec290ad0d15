package procfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ErrStuck means that a process did not let its file be read, or that its user has made
// too many reads wait.
var ErrStuck = errors.New("the process does not let its files be read")

const (
	// patience is how long a read may take. It normally takes microseconds, and tens of
	// milliseconds where the machine is busy or emulated.
	patience = 500 * time.Millisecond
	// patienceWithRoot is how long one of a process of root's may take: reads of PID 1 took
	// over 500 ms on an overloaded machine, and every tracing command needs its namespaces.
	patienceWithRoot = 10 * time.Second
	// maxStuck bounds the abandoned reads, each of which holds a thread, and
	// maxStuckOfUser those of one real user.
	maxStuck       = 32
	maxStuckOfUser = 4
	// A user may make others wait this long in each waitWindow.
	maxWaited  = 2 * time.Second
	waitWindow = 10 * time.Second
	// countedWait is the least wait that counts.
	countedWait = 50 * time.Millisecond
)

// Processes reads files of other processes. A process can make reads of its maps, stat,
// ns/*, root, exe, cwd and fd/* block for ever, e.g. with a FUSE file system in a user
// namespace; cgroup, comm, status, cmdline and the list of fd do not block. So a read is
// abandoned after a deadline, and no read begins while that process or its user has too
// many abandoned ones. Its methods may be called from several goroutines.
type Processes struct {
	root             string
	patience         time.Duration
	patienceWithRoot time.Duration

	mu    sync.Mutex
	stuck map[int]uint32 // PIDs of abandoned reads, and the real user of each
	users map[uint32]*account
}

// An account is what a user has cost.
type account struct {
	stuck  int
	waited time.Duration
	since  time.Time
}

// NewProcesses returns the processes of a procfs mounted at root.
func NewProcesses(root string) *Processes {
	return &Processes{root: root, patience: patience, patienceWithRoot: patienceWithRoot, stuck: make(map[int]uint32), users: make(map[uint32]*account)}
}

// machine is shared: abandoned reads hold threads of this process, however many callers
// there are.
var machine = sync.OnceValue(func() *Processes { return NewProcesses("/proc") })

// Machine returns the processes of /proc.
func Machine() *Processes { return machine() }

// List returns the PIDs in ascending order, i.e. mostly long-lived processes first.
func (p *Processes) List() ([]int, error) {
	directory, err := os.Open(p.root)
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	defer func() { _ = directory.Close() }() // only read from
	names, err := directory.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// Path returns the path of a file of a process, which only these methods should read.
func (p *Processes) Path(pid int, name string) string {
	return filepath.Join(p.root, strconv.Itoa(pid), name)
}

// ReadFile returns at most limit bytes of a file.
func (p *Processes) ReadFile(pid int, name string, limit int64) ([]byte, error) {
	return Guard(p, pid, func() ([]byte, error) {
		file, err := os.Open(p.Path(pid, name))
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // only read from
		return io.ReadAll(io.LimitReader(file, limit))
	}, nil)
}

// Readlink returns what a link leads to.
func (p *Processes) Readlink(pid int, name string) (string, error) {
	return Guard(p, pid, func() (string, error) { return os.Readlink(p.Path(pid, name)) }, nil)
}

// Open opens a file. Reads of it are not guarded.
func (p *Processes) Open(pid int, name string) (*os.File, error) {
	return Guard(p, pid, func() (*os.File, error) { return os.Open(p.Path(pid, name)) },
		func(file *os.File) { _ = file.Close() })
}

// StartTime returns when a process was started, see [StartTime].
func (p *Processes) StartTime(pid int) (time.Duration, error) {
	const limit = 4096
	stat, err := p.ReadFile(pid, "stat", limit)
	if err != nil {
		return 0, err
	}
	started, ok := StartTime(stat)
	if !ok {
		return 0, fmt.Errorf("%s: no start time", p.Path(pid, "stat"))
	}
	return started, nil
}

// Stuck returns how many abandoned reads have not returned.
func (p *Processes) Stuck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.stuck)
}

// Guard runs a read of a process's files, and returns an error that wraps [ErrStuck] if it
// takes too long. The result of an abandoned read goes to discard, if not nil.
func Guard[T any](p *Processes, pid int, read func() (T, error), discard func(T)) (T, error) {
	r := reading[T]{processes: p, pids: []int{pid}, read: func(int) (T, error) { return read() }, discard: discard}
	a := r.run(context.Background())[0] // bounded by the patience
	return a.value, a.err
}

// Readlinks returns what a link of each process leads to, "" where that cannot be read. It
// costs a tenth of as many calls of [Processes.Readlink].
func (p *Processes) Readlinks(ctx context.Context, pids []int, name string) ([]string, error) {
	targets := make([]string, 0, len(pids))
	for len(targets) < len(pids) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := reading[string]{processes: p, pids: pids[len(targets):], read: func(pid int) (string, error) { return os.Readlink(p.Path(pid, name)) }}
		for _, a := range r.run(ctx) {
			targets = append(targets, a.value)
		}
	}
	return targets, nil
}

// A reading reads files of processes one after the other, on a goroutine of its own: most
// answer at once, and a goroutine for each would cost ten times the read.
type reading[T any] struct {
	processes *Processes
	pids      []int
	read      func(pid int) (T, error)
	discard   func(T)

	mu        sync.Mutex
	answers   []answer[T] // of the first of pids
	abandoned bool
}

type answer[T any] struct {
	value T
	err   error
}

// run returns the answers of all processes, or of those up to one that is stuck, or that was
// read when the context ended.
func (r *reading[T]) run(ctx context.Context) []answer[T] {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, pid := range r.pids {
			if !r.one(pid) {
				return
			}
		}
	}()
	timer := time.NewTimer(r.processes.patience)
	defer timer.Stop()
	answered, since := 0, time.Now()
	for {
		select {
		case <-done:
			return r.answers
		case <-ctx.Done():
			r.abandon(0)
			return r.answers
		case <-timer.C:
			now := r.abandonAt(answered, time.Since(since))
			if now < 0 {
				return r.answers
			}
			if now > answered {
				answered, since = now, time.Now()
			}
			timer.Reset(r.processes.patience)
		}
	}
}

// one reads a process's file. It returns false if nobody waits for it any more.
func (r *reading[T]) one(pid int) bool {
	var a answer[T]
	began := time.Now()
	if a.err = r.processes.admit(pid); a.err == nil {
		a.value, a.err = r.read(pid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned {
		if a.err == nil && r.discard != nil {
			r.discard(a.value)
		}
		r.processes.returned(pid)
		return false
	}
	r.processes.charge(pid, time.Since(began))
	r.answers = append(r.answers, a)
	return true
}

// abandonAt abandons the read if it is still at that process, has taken this long, and may
// not take longer. It returns how many have answered, -1 if it is abandoned.
func (r *reading[T]) abandonAt(process int, taken time.Duration) (answered int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.processes
	if answered = len(r.answers); answered > process || answered == len(r.pids) {
		return answered
	}
	pid := r.pids[process]
	if taken < p.patienceWithRoot && p.realUser(pid) == 0 {
		return answered
	}
	r.abandonNext(taken)
	return -1
}

// abandon abandons the read that is going on, if there is one.
func (r *reading[T]) abandon(taken time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) < len(r.pids) {
		r.abandonNext(taken)
	}
}

// abandonNext is called with mu held.
func (r *reading[T]) abandonNext(taken time.Duration) {
	p, pid := r.processes, r.pids[len(r.answers)]
	p.charge(pid, taken)
	p.abandon(pid)
	r.answers, r.abandoned = append(r.answers, answer[T]{err: p.failure(pid)}), true
}

func (p *Processes) failure(pid int) error { return fmt.Errorf("process %d: %w", pid, ErrStuck) }

// admit refuses a read that would probably wait.
func (p *Processes) admit(pid int) error {
	p.mu.Lock()
	_, stuck := p.stuck[pid]
	refused, anyBlamed := stuck || len(p.stuck) >= maxStuck, len(p.users) > 0
	p.mu.Unlock()
	if refused {
		return p.failure(pid)
	}
	if !anyBlamed {
		return nil
	}
	user := p.realUser(pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.users[user]
	if a == nil {
		return nil
	}
	if time.Since(a.since) >= waitWindow {
		a.waited, a.since = 0, time.Now()
		if a.stuck == 0 {
			delete(p.users, user)
			return nil
		}
	}
	if a.stuck >= maxStuckOfUser || a.waited >= maxWaited {
		return p.failure(pid)
	}
	return nil
}

// charge adds to what a user has made others wait.
func (p *Processes) charge(pid int, waited time.Duration) {
	if waited < countedWait {
		return
	}
	user := p.realUser(pid)
	if user == 0 {
		return // the machine is overloaded: without root's processes nothing could be traced
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account(user).waited += waited
}

// account returns a user's account. Expired ones are dropped when a new one is made.
func (p *Processes) account(user uint32) *account {
	a := p.users[user]
	if a == nil {
		for other, a := range p.users {
			if a.stuck == 0 && time.Since(a.since) >= waitWindow {
				delete(p.users, other)
			}
		}
		a = &account{since: time.Now()}
		p.users[user] = a
	}
	return a
}

func (p *Processes) abandon(pid int) {
	user := p.realUser(pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck[pid] = user
	p.account(user).stuck++
}

func (p *Processes) returned(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account(p.stuck[pid]).stuck--
	delete(p.stuck, pid)
}

// realUser returns who runs a process. Unlike the owner of its directory, which is root
// for a process that is not dumpable, a user cannot change it. Without one it is noUser.
func (p *Processes) realUser(pid int) uint32 {
	const noUser = 1<<32 - 1
	status, err := os.ReadFile(p.Path(pid, "status"))
	if err != nil {
		return noUser
	}
	_, line, found := bytes.Cut(status, []byte("\nUid:\t"))
	if !found {
		return noUser
	}
	digits, _, _ := bytes.Cut(line, []byte("\t"))
	user, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil {
		return noUser
	}
	return uint32(user)
}
