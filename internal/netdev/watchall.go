package netdev

import (
	"context"
	"errors"
	"sync"
	"time"
)

// WatchAll watches every network namespace, those that come later too: it looks
// for them at every interval (a second is a fair one), since the kernel announces
// none. A namespace that no process is in and no mount shows any more is let go
// at the next look; its interfaces are told as [Disappeared]. Until then the
// watch keeps it alive. A namespace that cannot be watched gives one [Failed] event.
//
// The channel is closed when ctx has ended. [Synced] with Namespace 0 follows when
// the namespaces that were there at the start have been told.
func WatchAll(ctx context.Context, interval time.Duration) (<-chan Event, error) {
	found, err := Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	m := &multiWatch{events: make(chan Event), open: make(map[uint32]*watched), refused: make(map[uint32]bool)}
	go m.run(ctx, interval, found)
	return m.events, nil
}

// multiWatch follows the namespaces of the machine.
type multiWatch struct {
	events  chan Event
	open    map[uint32]*watched
	refused map[uint32]bool // those that could not be watched, told once
}

// watched is one namespace being watched.
type watched struct {
	watcher *watcher
	cancel  context.CancelFunc
	synced  chan struct{}     // closed with its first Synced, or at its end
	done    chan struct{}     // closed when its goroutines have ended
	told    map[int]Interface // by index; read it after done
}

// run is the watch.
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

// update begins to watch the namespaces that are new and lets go of those that went.
func (m *multiWatch) update(ctx context.Context, found []Found) {
	present := make(map[uint32]bool, len(found))
	for _, f := range found {
		present[f.Inum] = true
		if m.open[f.Inum] != nil || m.refused[f.Inum] {
			continue
		}
		switch w, err := m.start(ctx, f); {
		case errors.Is(err, ErrNamespaceNotFound): // gone already
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
			for _, iface := range w.told {
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

// start watches one more namespace.
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
		synced: make(chan struct{}), done: make(chan struct{}), told: make(map[int]Interface)}
	own := make(chan Event)
	go func() {
		defer close(own)
		watcher.run(ctx, own)
	}()
	go w.forward(ctx, own, m.events)
	return w, nil
}

// forward passes a namespace's events on, and notes the first Synced.
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
			w.told[event.Interface.Index] = event.Interface
		case Disappeared, Moved:
			delete(w.told, event.Interface.Index)
		}
	}
}

// close ends the watch of the namespace and lets go of it.
func (w *watched) close() {
	w.cancel()
	<-w.done
	w.watcher.ns.Close()
}

// closeAll ends the watch of every namespace.
func (m *multiWatch) closeAll() {
	for inum, w := range m.open {
		w.close()
		delete(m.open, inum)
	}
}

// send hands an event over, or gives up when ctx ends.
func (m *multiWatch) send(ctx context.Context, event Event) {
	select {
	case m.events <- event:
	case <-ctx.Done():
	}
}
