package netdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"xentrace/internal/procfs"
)

const (
	// maxNamespaces bounds the namespaces of processes that are watched. Any user can make
	// namespaces; those that are mounted are root's and always watched.
	maxNamespaces = 4096

	// Reading the namespaces takes at most 1/pollShare of the time, and reading one of
	// them at most 1/(2*pollShare).
	pollShare = 25
)

// WatchAll watches every network namespace, including later ones. The caller's own is
// watched by its notifications. The others are listed and read at every interval (e.g. a
// second): to hold one open would keep it, and its interfaces, alive after its last process.
// So what happens there between two readings is not reported, and an interface that moves
// from one of them to another disappears and appears. A namespace that a process makes for
// itself when it is no longer young is found at one of the next ten intervals.
//
// A [Failed] event with Namespace 0, or that of the only one, means that namespaces are not
// watched, and why. They are tried again at the next interval.
//
// The channel is closed when ctx ends. [Synced] with Namespace 0 follows the interfaces
// of the namespaces that existed at the start.
func WatchAll(ctx context.Context, interval time.Duration) (<-chan Event, error) {
	finder := newFinder(procfs.Machine())
	found, err := finder.find(ctx)
	if err != nil {
		return nil, err
	}
	m := &multiWatch{
		events: make(chan Event), interval: interval, finder: finder,
		others: make(map[uint32]*other), unwatched: make(map[uint32]error),
	}
	go m.run(ctx, found)
	return m.events, nil
}

type multiWatch struct {
	events   chan Event
	interval time.Duration
	finder   *finder

	own     *Namespace   // nil if it is read as the others are
	changes <-chan Event // of own
	others  map[uint32]*other
	cursor  uint32 // the namespace read last, if there was no time for all

	unwatched map[uint32]error // why each is not watched
	reported  int              // how many there were at the last report
}

// An other is a namespace that is read again and again.
type other struct {
	polled
	next time.Time // not earlier
}

func (m *multiWatch) run(ctx context.Context, found []Found) {
	defer close(m.events)
	m.watchOwn(ctx)
	defer m.closeOwn()
	m.read(ctx, found, 0)
	for synced := m.own == nil; !synced; {
		event, more := <-m.changes
		synced = !more || event.Kind == Synced
		m.pass(ctx, event, more)
	}
	m.send(ctx, Event{Kind: Synced})
	timer := time.NewTimer(m.interval)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case event, more := <-m.changes:
			m.pass(ctx, event, more)
		case <-timer.C:
			began := time.Now()
			m.readAll(ctx)
			timer.Reset(max(m.interval, pollShare*time.Since(began)))
		}
	}
}

// watchOwn watches the caller's namespace. If that fails it is read as the others are.
func (m *multiWatch) watchOwn(ctx context.Context) {
	own, err := Current()
	if err != nil {
		return
	}
	if m.changes, err = own.Watch(ctx); err != nil {
		_ = own.Close()
		return
	}
	m.own = own
}

// pass passes an event of the caller's namespace on. Without more it is read from now on.
func (m *multiWatch) pass(ctx context.Context, event Event, more bool) {
	if more {
		m.send(ctx, event)
		return
	}
	m.closeOwn()
}

func (m *multiWatch) closeOwn() {
	if m.own == nil {
		return
	}
	for range m.changes { // until it has ended
	}
	_ = m.own.Close()
	m.own, m.changes = nil, nil
}

// readAll lists the namespaces and reads those whose turn it is.
func (m *multiWatch) readAll(ctx context.Context) {
	began := time.Now()
	found, err := m.finder.find(ctx)
	if err != nil {
		m.unwatched[0] = err
		m.report(ctx)
		return
	}
	delete(m.unwatched, 0)
	// At least as long as listing took: else most of the share would go to that.
	m.read(ctx, found, max(m.interval/pollShare, time.Since(began)))
}

// read reads namespaces until budget has passed, if that is not 0.
func (m *multiWatch) read(ctx context.Context, found []Found, budget time.Duration) {
	events := m.forget(found)
	began := time.Now()
	for _, f := range m.inTurn(found) {
		m.cursor = f.Inum
		if ctx.Err() != nil || budget > 0 && time.Since(began) >= budget {
			break
		}
		events = append(events, m.readOne(f)...)
	}
	for _, event := range events {
		m.send(ctx, event)
	}
	m.report(ctx)
}

// inTurn returns the namespaces to be read, beginning behind the one that was read last.
func (m *multiWatch) inTurn(found []Found) []Found {
	turn := make([]Found, 0, len(found))
	now := time.Now()
	for _, f := range found {
		known := m.others[f.Inum]
		if m.own != nil && f.Inum == m.own.inum || known != nil && now.Before(known.next) {
			continue
		}
		turn = append(turn, f)
	}
	first, _ := slices.BinarySearchFunc(turn, m.cursor+1, func(f Found, inum uint32) int { return cmp.Compare(f.Inum, inum) })
	return slices.Concat(turn[first:], turn[:first])
}

func (m *multiWatch) readOne(f Found) []Event {
	o := m.others[f.Inum]
	if o == nil {
		if len(m.others) >= maxNamespaces && strings.HasPrefix(f.Path, "/proc/") {
			m.unwatched[f.Inum] = fmt.Errorf("%d are watched already", len(m.others))
			return nil
		}
		o = &other{polled: polled{known: make(map[int]Interface)}}
	}
	began := time.Now()
	events, err := o.poll(f)
	o.next = began.Add(2 * pollShare * time.Since(began))
	switch {
	case errors.Is(err, ErrNamespaceNotFound): // ended meanwhile
		return events
	case err != nil:
		m.unwatched[f.Inum] = err
	default:
		delete(m.unwatched, f.Inum)
	}
	m.others[f.Inum] = o
	return events
}

// forget drops the namespaces that are there no more.
func (m *multiWatch) forget(found []Found) (events []Event) {
	present := make(map[uint32]bool, len(found))
	for _, f := range found {
		present[f.Inum] = true
	}
	for inum, o := range m.others {
		if !present[inum] {
			events = append(events, o.gone(inum)...)
			delete(m.others, inum)
		}
	}
	maps.DeleteFunc(m.unwatched, func(inum uint32, _ error) bool { return inum != 0 && !present[inum] })
	return events
}

// report sends that namespaces are not watched: the first time, and when they have doubled.
func (m *multiWatch) report(ctx context.Context) {
	stuck := procfs.Machine().Stuck()
	count := len(m.unwatched) + stuck
	if count == 0 || count >= 2*m.reported {
		before := m.reported
		m.reported = count
		if count == 0 || count == before {
			return
		}
		m.send(ctx, m.failure(stuck))
	}
}

func (m *multiWatch) failure(stuck int) Event {
	inums := slices.Sorted(maps.Keys(m.unwatched))
	switch {
	case len(inums) == 0:
		return Event{Kind: Failed, Err: fmt.Errorf("processes that do not let their network namespace be read: %d", stuck)}
	case len(inums) == 1 && inums[0] != 0:
		return Event{Kind: Failed, Namespace: inums[0], Err: m.unwatched[inums[0]]}
	case inums[0] == 0:
		return Event{Kind: Failed, Err: fmt.Errorf("network namespaces cannot be listed: %w", m.unwatched[0])}
	}
	return Event{Kind: Failed, Err: fmt.Errorf("%d network namespaces are not fully watched, e.g. %d: %w", len(inums), inums[0], m.unwatched[inums[0]])}
}

// send sends an event unless ctx ends.
func (m *multiWatch) send(ctx context.Context, event Event) {
	select {
	case m.events <- event:
	case <-ctx.Done():
	}
}
