package owner

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/procfs"
)

// source hands out packets as the test gives them.
type source struct {
	packets chan *event.Packet // closed: reading has ended
}

func (s *source) read(ctx context.Context) (event.Packet, error) {
	select {
	case p, more := <-s.packets:
		if !more {
			return event.Packet{}, io.EOF
		}
		return *p, nil
	case <-ctx.Done():
		return event.Packet{}, ctx.Err()
	}
}

// slowKernel results when the test lets it.
type slowKernel struct {
	mu      sync.Mutex
	asked   [][]uint64
	release chan struct{} // each value lets one answer go
}

func (k *slowKernel) find(w event.Wanted) ([]event.Holder, error) {
	inodes := w.Inodes
	k.mu.Lock()
	k.asked = append(k.asked, slices.Sorted(slices.Values(inodes)))
	k.mu.Unlock()
	<-k.release
	var found []event.Holder
	for _, inode := range inodes {
		if inode%10 != 0 { // nobody holds those
			found = append(found, event.Holder{Inode: inode, Task: event.Task{PID: int(inode), Comm: "holder"}})
		}
	}
	return found, nil
}

func newTestReader(t *testing.T) (*Reader, *source, *slowKernel) {
	t.Helper()
	s := &source{packets: make(chan *event.Packet, 2*maxWaiting)}
	k := &slowKernel{release: make(chan struct{}, 100)}
	r := NewReader(s.read, k.find)
	r.owners.lookups.cgroups.processes = procfs.NewProcesses(t.TempDir())
	t.Cleanup(r.Close)
	return r, s, k
}

func numbered(queue int, p *event.Packet) *event.Packet {
	p.Queue = queue
	return p
}

// next reads the next packet, which must come.
func next(t *testing.T, r *Reader) event.Packet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, err := r.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Packets behind one that waits wait, too; one answer settles all, in order.
func TestPacketsStayInOrder(t *testing.T) {
	r, s, k := newTestReader(t)
	r.now = func() time.Time { return began } // a fixed clock: no wait for a packet ends
	s.packets <- numbered(0, &event.Packet{})
	s.packets <- numbered(1, of(11))
	s.packets <- numbered(2, &event.Packet{})
	s.packets <- numbered(3, of(11))
	s.packets <- numbered(4, of(12, sentBy(child)))
	k.release <- struct{}{}
	for n := range 5 {
		p := next(t, r)
		if p.Queue != n {
			t.Fatalf("packet %d, want %d", p.Queue, n)
		}
		want := map[int]int{1: 11, 3: 11, 4: child.PID}[n]
		if got := p.Process; want == 0 && got != nil || want != 0 && (got == nil || got.PID != want) {
			t.Errorf("packet %d: process %+v, want %d", n, got, want)
		}
	}
	if len(k.asked) != 1 || !slices.Equal(k.asked[0], []uint64{11}) {
		t.Errorf("asked for %v, want once for 11", k.asked)
	}
}

// A packet does not wait forever for an answer that does not come.
func TestWaitingEnds(t *testing.T) {
	r, s, k := newTestReader(t)
	s.packets <- numbered(1, of(11))
	began := time.Now()
	if p := next(t, r); p.Queue != 1 || p.Process != nil {
		t.Errorf("packet %d, process %+v: want the first, without", p.Queue, p.Process)
	}
	if waited := time.Since(began); waited < maxWait {
		t.Errorf("waited %v, want at least %v", waited, maxWait)
	}
	// The answer is not lost.
	k.release <- struct{}{}
	for deadline := time.Now().Add(20 * time.Second); ; {
		s.packets <- numbered(2, of(11))
		if p := next(t, r); p.Process != nil && p.Process.PID == 11 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the late answer was not taken")
		}
	}
}

// Two walks are not done right after each other, but both sockets are found.
func TestAskingIsLimited(t *testing.T) {
	r, s, k := newTestReader(t)
	for range 2 {
		k.release <- struct{}{}
	}
	began := time.Now()
	for inode := range uint64(2) {
		s.packets <- of(inode + 1)
		if p := next(t, r); p.Process == nil || p.Process.PID != int(inode+1) {
			t.Errorf("process %+v, want %d", p.Process, inode+1)
		}
	}
	if took := time.Since(began); len(k.asked) != 2 || took < lookupInterval {
		t.Errorf("asked %v within %v, want twice, %v apart", k.asked, took, lookupInterval)
	}
}

// In a storm what waits is bounded.
func TestWaitingIsBounded(t *testing.T) {
	r, s, _ := newTestReader(t)
	for n := range maxWaiting + 10 {
		s.packets <- numbered(n, of(11))
	}
	r.now = func() time.Time { return began } // time stands still: only their number counts
	for n := range 10 {
		if p := next(t, r); p.Queue != n || p.Process != nil {
			t.Fatalf("packet %d, process %+v: want %d without", p.Queue, p.Process, n)
		}
		if len(r.waiting) >= maxWaiting {
			t.Fatalf("%d wait, want fewer than %d", len(r.waiting), maxWaiting)
		}
	}
	r.lookingUp = false // no answer will come
}

// What waits at the end is settled before the end is reported.
func TestEndOfReading(t *testing.T) {
	r, s, k := newTestReader(t)
	for range 2 {
		k.release <- struct{}{}
	}
	s.packets <- numbered(1, of(11))
	s.packets <- numbered(2, of(20))
	close(s.packets)
	if p := next(t, r); p.Queue != 1 || p.Process == nil || p.Process.PID != 11 {
		t.Errorf("packet %d, process %+v: want the first, of 11", p.Queue, p.Process)
	}
	if p := next(t, r); p.Queue != 2 || p.Process != nil {
		t.Errorf("packet %d, process %+v: want the second, of nobody", p.Queue, p.Process)
	}
	for range 2 {
		if _, err := r.Read(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("%v, want the end", err)
		}
	}
}

// The caller's context ends the reading; nothing that waited is lost.
func TestReadingIsInterrupted(t *testing.T) {
	r, s, k := newTestReader(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
	s.packets <- numbered(1, of(11))
	r.now = func() time.Time { return began } // time stands still: the packet has to wait
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
	r.now = time.Now
	k.release <- struct{}{}
	if p := next(t, r); p.Queue != 1 {
		t.Errorf("packet %d, want the one that waited", p.Queue)
	}
}

// A process whose files block delays no other's records for longer than a record waits,
// and what is known without its files is reported.
func TestProcessThatNeverAnswers(t *testing.T) {
	r, s, _ := newTestReader(t)
	proc := t.TempDir()
	write(t, "0::/user.slice/a.scope\n", proc, "666/cgroup")
	block := filepath.Join(proc, "666/stat")
	if err := unix.Mkfifo(block, 0o644); err != nil {
		t.Fatal(err)
	}
	defer func() { // a writer that ends at once ends the read
		if fd, err := unix.Open(block, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			unix.Close(fd)
		}
	}()
	write(t, stat(200, 2000), proc, "200/stat")
	write(t, "0::/system.slice/b.service\n", proc, "200/cgroup")
	r.owners.lookups.cgroups.processes = procfs.NewProcesses(proc)
	hostile := event.Task{PID: 666, Comm: "hostile"}
	for n := range 3 {
		s.packets <- numbered(2*n, of(11, sentBy(hostile)))
		s.packets <- numbered(2*n+1, of(12, sentBy(child)))
		if p := next(t, r); p.Queue != 2*n || p.Process == nil || p.Process.PID != 666 || p.Process.Unit != "" {
			t.Errorf("packet %d, process %+v: want %d of process 666 without a unit", p.Queue, p.Process, 2*n)
		}
		if p := next(t, r); p.Queue != 2*n+1 || p.Process == nil || p.Process.Unit != "b.service" {
			t.Errorf("packet %d, process %+v: want %d of b.service", p.Queue, p.Process, 2*n+1)
		}
	}
	if stuck := r.owners.lookups.cgroups.processes.Stuck(); stuck != 1 {
		t.Errorf("%d abandoned reads, want 1", stuck)
	}
}
