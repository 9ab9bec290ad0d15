package trace

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// A queue is stuck if the driver stopped it because the ring is full, and no packet was sent
// since. netback returns slots within milliseconds, but not once it has disabled the
// interface ("fatal error; disabling device" in dom0's log). The guest's log does not show
// that: the driver has no watchdog.
const (
	queuePollInterval = time.Second
	stuckPolls        = 4 // in a row: a guest that was paused needs them, too
	stuckTime         = 3 * time.Second
)

// stuckWatch finds the interfaces whose backend accepts nothing any more. It sees only what
// each poll of the queues returns; times are in jiffies.
type stuckWatch struct {
	jiffy time.Duration

	mu         sync.Mutex
	interfaces map[deviceKey]*stuckInterface
	missing    string // why nothing is known; empty: it is
}

type stuckInterface struct {
	queues []stuckQueue
	now    uint64 // of the last poll
	since  uint64 // when it got stuck; 0: no queue is
	before uint64 // how long it was stuck before that, in jiffies
}

type stuckQueue struct {
	polls  int    // polls that found it stopped, without a packet in between
	packet uint64 // when it took the last packet
	stuck  bool
	since  uint64 // when it took its last packet before that
	moves  int    // polls that found it stopped again after another packet
	down   bool   // the interface was down or disconnected at the last poll
	reset  bool   // it was before that, and the queue took no packet since
}

func newStuckWatch(jiffy time.Duration) *stuckWatch {
	return &stuckWatch{jiffy: jiffy, interfaces: make(map[deviceKey]*stuckInterface), missing: "the queues were not polled yet"}
}

func (w *stuckWatch) poll(key deviceKey, there bool, queues *bpf.XentraceQueues) []event.Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.interfaces[key]
	if !there {
		if i != nil {
			i.forget()
		}
		return nil
	}
	if i == nil {
		i = &stuckInterface{}
		w.interfaces[key] = i
	}
	i.now = queues.Jiffies
	if queues.Ready == 0 {
		i.notReady()
		return nil
	}
	count := min(int(queues.Count), len(queues.Queue))
	i.resize(count)
	var notices []event.Notice
	for n := range count {
		q := &i.queues[n]
		stopped, packet := queues.Queue[n].Stopped != 0, queues.Queue[n].TransStart
		switch {
		case q.recovers(stopped, packet):
			notices = append(notices, event.Notice{ID: event.NoticeQueueRecovered, Queue: &n, DurationMS: w.time(i.now - q.since).Milliseconds()})
		case q.sticks(stopped, packet) && w.time(i.now-packet) >= stuckTime:
			q.stuck, q.since = true, packet
			notices = append(notices, event.Notice{ID: event.NoticeQueueStuck, Queue: &n, DurationMS: w.time(i.now - packet).Milliseconds()})
		}
	}
	i.account()
	return notices
}

// sticks notes one poll and reports whether enough of them found the queue stopped.
func (q *stuckQueue) sticks(stopped bool, packet uint64) bool {
	switch {
	case !stopped:
		q.polls = 0
	case q.polls == 0 || packet != q.packet:
		q.polls = 1
	default:
		q.polls++
	}
	q.packet, q.down = packet, false
	return !q.stuck && q.polls >= stuckPolls
}

// recovers reports whether a stuck queue recovered. One that was reopened by setting its
// interface up accepts a packet and is full again.
func (q *stuckQueue) recovers(stopped bool, packet uint64) bool {
	if !q.stuck {
		return false
	}
	switch {
	case q.down: // setting it up sets the time of the last packet, too
		q.packet, q.down, q.reset = packet, false, true
	case packet != q.packet:
		q.packet, q.reset = packet, false
		if stopped {
			q.moves++
		}
	}
	if stopped && q.moves < stuckPolls || q.reset {
		return false
	}
	*q = stuckQueue{packet: packet, since: q.since}
	return true
}

// notReady: the driver also stops its queues when the interface is set down, and without
// a connected backend.
func (i *stuckInterface) notReady() {
	for n := range i.queues {
		i.queues[n].polls, i.queues[n].down = 0, true
	}
}

func (i *stuckInterface) resize(count int) {
	for len(i.queues) < count {
		i.queues = append(i.queues, stuckQueue{})
	}
	i.queues = i.queues[:count]
}

func (i *stuckInterface) account() {
	stuck := slices.IndexFunc(i.queues, func(q stuckQueue) bool { return q.stuck })
	switch {
	case stuck >= 0 && i.since == 0:
		i.since = i.queues[stuck].since
	case stuck < 0 && i.since != 0:
		i.before += i.now - i.since
		i.since = 0
	}
}

// forget ends it: the interface is gone.
func (i *stuckInterface) forget() {
	i.queues = nil
	i.account()
}

func (w *stuckWatch) time(jiffies uint64) time.Duration {
	return time.Duration(jiffies) * w.jiffy
}

// fill adds to the totals how long each interface was stuck.
func (w *stuckWatch) fill(totals *event.Totals) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missing != "" {
		totals.Missing["stuck_ms"] = w.missing
		return
	}
	for n := range totals.Interfaces {
		t := &totals.Interfaces[n]
		i := w.interfaces[deviceKey{t.Index, t.NetNS}]
		if i == nil {
			totals.Missing["stuck_ms"] = fmt.Sprintf("the queues of %s are not polled: only those of xen-netfront are", t.Name)
			continue
		}
		stuck := w.time(i.before)
		if i.since != 0 {
			stuck += w.time(i.now - i.since)
			t.StuckNow = true
		}
		t.Stuck = &stuck
	}
}

func (w *stuckWatch) setMissing(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing = reason
}

// startStuckWatch polls the queues from now on, until Close.
func (t *Tracer) startStuckWatch(types *kernel.Types) {
	if types.Learned() {
		t.stuck.setMissing("xentrace learn does not find the kernel's types of queues")
		return
	}
	reader, err := newQueueReader(types)
	if err != nil {
		t.stuck.setMissing(err.Error())
		return
	}
	t.stuck.setMissing("")
	t.following.Go(func() { t.watchStuck(t.background, reader) })
}

// watchStuck polls the queues until ctx ends.
func (t *Tracer) watchStuck(ctx context.Context, reader *queueReader) {
	defer reader.close()
	ticker := time.NewTicker(queuePollInterval)
	defer ticker.Stop()
	for {
		for key, name := range t.registry.netfronts() {
			queues, there, err := reader.read(key)
			if err != nil {
				t.stuck.setMissing(err.Error())
				t.notify(event.Notice{ID: event.NoticeQueuesUnavailable, Reason: err.Error()})
				return
			}
			for _, notice := range t.stuck.poll(key, there, &queues) {
				notice.Device = event.Device{Name: name, Index: key.index, NetNS: key.netns}
				t.notify(notice)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *registry) netfronts() map[deviceKey]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make(map[deviceKey]string, len(r.active))
	for key, w := range r.active {
		if w.IsNetfront() {
			names[key] = w.Name
		}
	}
	return names
}

type queueReader struct {
	collection *ebpf.Collection
}

func newQueueReader(types *kernel.Types) (*queueReader, error) {
	collection, err := loadPrograms(types, bpf.XentraceProgReadQueues)
	if err != nil {
		return nil, fmt.Errorf("reader of transmit queues: %w", err)
	}
	return &queueReader{collection}, nil
}

func (r *queueReader) read(key deviceKey) (bpf.XentraceQueues, bool, error) {
	var queues bpf.XentraceQueues
	arguments := [2]uint64{uint64(key.index), uint64(key.netns)}
	status, err := r.collection.Programs[bpf.XentraceProgReadQueues].Run(&ebpf.RunOptions{Context: arguments})
	if err != nil {
		return queues, false, fmt.Errorf("transmit queues of interface %d: %w", key.index, err)
	}
	if status != 0 {
		return queues, false, nil
	}
	if err := r.collection.Maps[bpf.XentraceMapQueuesNow].Lookup(uint32(0), &queues); err != nil {
		return queues, false, fmt.Errorf("transmit queues of interface %d: %w", key.index, err)
	}
	return queues, true, nil
}

func (r *queueReader) close() { r.collection.Close() }
