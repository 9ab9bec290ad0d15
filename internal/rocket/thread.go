package rocket

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// thread is a thread of the operating system that nobody else sends from.
type thread struct{ jobs chan func() }

// newThread returns a thread that was made for it, so that its page fragment is
// empty. A new goroutine may get a thread that has run others, and sent for them:
// such a one is held until the runtime has made a new one. Before that one is
// found to be new, nothing else is known to run on it, but the runtime does not
// promise that; what it would spoil is the first packet.
func newThread() (*thread, error) {
	old, err := threads()
	if err != nil {
		return nil, err
	}
	t := &thread{jobs: make(chan func())}
	found := make(chan struct{})
	go t.seek(old, found)
	<-found
	return t, nil
}

// seek does the jobs if its thread is not among the old ones, else it keeps the
// thread busy until another call has found one.
func (t *thread) seek(old map[int]bool, found chan struct{}) {
	runtime.LockOSThread()
	if old[unix.Gettid()] {
		go t.seek(old, found)
		<-found
		runtime.UnlockOSThread()
		return
	}
	close(found)
	for job := range t.jobs {
		job()
	}
	// The goroutine ends locked, and the runtime ends the thread with it.
}

// run runs fn on the thread.
func (t *thread) run(fn func() error) error {
	result := make(chan error, 1)
	t.jobs <- func() { result <- fn() }
	return <-result
}

// close ends the thread.
func (t *thread) close() { close(t.jobs) }

// threads returns the threads that the process has.
func threads() (map[int]bool, error) {
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("threads: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("threads: %w", err)
	}
	ids := make(map[int]bool, len(names))
	for _, name := range names {
		id, err := strconv.Atoi(name)
		if err != nil {
			return nil, fmt.Errorf("threads: %w", err)
		}
		ids[id] = true
	}
	return ids, nil
}
