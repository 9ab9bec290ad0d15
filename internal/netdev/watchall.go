package netdev

import (
	"context"
	"errors"
	"sync"
	"time"
)

// WatchAll watches every network namespace, including later ones: it lists them at
// every interval (e.g. a second), since the kernel does not announce them. A namespace
// without a process and a mount is closed at the next interval, and its interfaces are
// reported as [Disappeared]; until then the watch keeps it alive. A namespace that
// cannot be watched gives one [Failed] event.
//
// The channel is closed when ctx ends. [Synced] with Namespace 0 follows the interfaces
// of the namespaces that existed at the start.
func WatchAll(ctx context.Context, interval time.Duration) (<-chan Event, error) {
	found, err := Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	m := &multiWatch{events: make(chan Event), open: make(map[uint32]*watched), refused: make(map[uint32]bool)}
	go m.run(ctx, interval, found)
	return m.events, nil
}

type multiWatch struct {
	events  chan Event
	open    map[uint32]*watched
	refused map[uint32]bool // those that could not be watched
}

type watched struct {
	watcher *watcher
	cancel  context.CancelFunc
	synced  chan struct{}     // closed with its first Synced, or at its end
	done    chan struct{}     // closed when its goroutines have ended
	known   map[int]Interface // by index; read it after done
}

func (m *multiWatch) run(ctx context.Context, interval time.Duration, found []Found) {
	defer close(m.events)
	defer m.closeAll()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	m.update(ctx, found)
	for _, w := range m.open {
		select {
		case <-w.synced:
		case <-ctx.Done():
			return
		}
	}
	m.send(ctx, Event{Kind: Synced})
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		found, err := Namespaces(ctx)
		if err != nil {
			m.send(ctx, Event{Kind: Failed, Err: err})
			return
		}
		m.update(ctx, found)
	}
}

func (m *multiWatch) update(ctx context.Context, found []Found) {
	present := make(map[uint32]bool, len(found))
	for _, f := range found {
		present[f.Inum] = true
		if m.open[f.Inum] != nil || m.refused[f.Inum] {
			continue
		}
		switch w, err := m.start(ctx, f); {
		case errors.Is(err, ErrNamespaceNotFound): // ended meanwhile
		case err != nil:
			m.refused[f.Inum] = true
			m.send(ctx, Event{Kind: Failed, Namespace: f.Inum, Err: err})
		default:
			m.open[f.Inum] = w
		}
	}
	for inum, w := range m.open {
		if !present[inum] {
			w.close()
			delete(m.open, inum)
			for _, iface := range w.known {
				m.send(ctx, Event{Kind: Disappeared, Namespace: inum, Interface: iface})
			}
		}
	}
	for inum := range m.refused {
		if !present[inum] {
			delete(m.refused, inum)
		}
	}
}

func (m *multiWatch) start(ctx context.Context, f Found) (*watched, error) {
	ns, err := f.Open()
	if err != nil {
		return nil, err
	}
	watcher, err := ns.newWatcher()
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watched{watcher: watcher, cancel: cancel,
		synced: make(chan struct{}), done: make(chan struct{}), known: make(map[int]Interface)}
	own := make(chan Event)
	go func() {
		defer close(own)
		watcher.run(ctx, own)
	}()
	go w.forward(ctx, own, m.events)
	return w, nil
}

// forward passes a namespace's events on and marks the first Synced.
func (w *watched) forward(ctx context.Context, from <-chan Event, to chan<- Event) {
	defer close(w.done)
	synced := sync.OnceFunc(func() { close(w.synced) })
	defer synced()
	for event := range from {
		select {
		case to <- event:
		case <-ctx.Done():
			continue // until from is closed
		}
		switch event.Kind {
		case Synced:
			synced()
		case Appeared, Renamed, Changed:
			w.known[event.Interface.Index] = event.Interface
		case Disappeared, Moved:
			delete(w.known, event.Interface.Index)
		}
	}
}

func (w *watched) close() {
	w.cancel()
	<-w.done
	w.watcher.ns.Close()
}

func (m *multiWatch) closeAll() {
	for inum, w := range m.open {
		w.close()
		delete(m.open, inum)
	}
}

// send sends an event unless ctx ends.
func (m *multiWatch) send(ctx context.Context, event Event) {
	select {
	case m.events <- event:
	case <-ctx.Done():
	}
}
