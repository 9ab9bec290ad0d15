package trace

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// A queue is stuck if the driver has stopped it for want of free slots and no
// packet got through in all of that time. netback gives slots back within
// milliseconds, but not once it has disabled the interface ("fatal error; disabling
// device" in dom0's log); the guest's log stays silent then, since the driver has
// no watchdog.
const (
	lookInterval = time.Second
	stuckLooks   = 4 // in a row that find it so: a guest that was paused gets them, too
	stuckTime    = 3 * time.Second
)

// stuckWatch finds the interfaces of which the backend takes nothing any more.
// What it is shown of the queues is all that it knows; time is in jiffies.
type stuckWatch struct {
	jiffy time.Duration

	mu         sync.Mutex
	interfaces map[deviceKey]*stuckInterface
	missing    string // why nothing is known; empty: it is
}

// stuckInterface is what is known of one interface.
type stuckInterface struct {
	queues []stuckQueue
	now    uint64 // of the last look
	since  uint64 // when it got stuck; 0: no queue is
	before uint64 // how long it was stuck before that, in jiffies
}

type stuckQueue struct {
	looks  int    // that found it stopped, without a packet in between
	packet uint64 // when it took the last packet
	stuck  bool
	since  uint64 // when it took its last packet before that
	moves  int    // looks that found it stopped again behind another packet
	down   bool   // the interface was down or disconnected at the last look
	reset  bool   // it was before that, and the queue took no packet since
}

func newStuckWatch(jiffy time.Duration) *stuckWatch {
	return &stuckWatch{jiffy: jiffy, interfaces: make(map[deviceKey]*stuckInterface), missing: "the queues were not looked at yet"}
}

// look takes one look at an interface and returns what changed.
func (w *stuckWatch) look(key deviceKey, there bool, queues *bpf.XentraceQueues) []event.Notice {
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

// sticks takes note of one look and reports whether the queue is to be called
// stuck now, if it has lasted long enough.
func (q *stuckQueue) sticks(stopped bool, packet uint64) bool {
	switch {
	case !stopped:
		q.looks = 0
	case q.looks == 0 || packet != q.packet:
		q.looks = 1
	default:
		q.looks++
	}
	q.packet, q.down = packet, false
	return !q.stuck && q.looks >= stuckLooks
}

// recovers reports whether a stuck queue goes on. A queue that was opened again by
// setting its interface up takes a packet and is full again.
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
	if stopped && q.moves < stuckLooks || q.reset {
		return false
	}
	*q = stuckQueue{packet: packet, since: q.since}
	return true
}

// notReady: the driver stops its queues also when the interface is set down, and
// without a backend there is none that could take anything.
func (i *stuckInterface) notReady() {
	for n := range i.queues {
		i.queues[n].looks, i.queues[n].down = 0, true
	}
}

func (i *stuckInterface) resize(count int) {
	for len(i.queues) < count {
		i.queues = append(i.queues, stuckQueue{})
	}
	i.queues = i.queues[:count]
}

// account adds up how long the interface was stuck.
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
			totals.Missing["stuck_ms"] = fmt.Sprintf("the queues of %s were not looked at: only those of xen-netfront are, once a second", t.Name)
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

// startStuckWatch looks at the queues from now on, until Close.
func (t *Tracer) startStuckWatch(types *kernel.Types) {
	reader, err := newQueueReader(types)
	if err != nil {
		t.stuck.setMissing(err.Error())
		return
	}
	t.stuck.setMissing("")
	t.following.Go(func() { t.watchStuck(t.background, reader) })
}

// watchStuck looks at the queues until ctx ends.
func (t *Tracer) watchStuck(ctx context.Context, reader *queueReader) {
	defer reader.close()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		for key, name := range t.registry.netfronts() {
			queues, there, err := reader.read(key)
			if err != nil {
				t.stuck.setMissing(err.Error())
				t.notify(event.Notice{ID: event.NoticeQueuesUnavailable, Reason: err.Error()})
				return
			}
			for _, notice := range t.stuck.look(key, there, &queues) {
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

// netfronts returns the interfaces of xen-netfront that are there, by name.
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
