// Package exporter serves what xentrace counts as Prometheus metrics over HTTP.
package exporter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
)

// An Exporter serves metrics until it is closed. It is a sink of the run that counts: stalls
// and notices are counted as they come, everything else is read when it is scraped.
type Exporter struct {
	options   feed.Options
	collector *collector
	listeners []net.Listener
	manager   *manager
	server    *server
	recheck   chan struct{} // the driver was loaded again, or an interface or its name is new
	delay     time.Duration // checkDelay
	pause     time.Duration // checkPause

	background context.Context // ends at Close
	stop       context.CancelFunc
	started    bool
	running    sync.WaitGroup
	once       sync.Once
	failed     chan struct{} // closed when nothing can be served any more
	err        error         // why; valid once failed is closed
}

// Open listens, and connects to the service manager if there is one. Nothing is served
// before Start. getenv reads the environment.
func Open(ctx context.Context, o feed.Options, getenv func(string) string) (*Exporter, error) {
	listeners, err := listen(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &Exporter{
		options: o, collector: newCollector(o), listeners: listeners,
		recheck: make(chan struct{}, 1), delay: checkDelay, pause: checkPause, failed: make(chan struct{}),
	}
	e.background, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	if e.manager, err = openManager(ctx, getenv); err == nil {
		e.server, err = newServer(o, e.collector)
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(listeners))
	}
	return e, nil
}

// Start begins to serve. It is not ready, and has no counts, before Attached.
func (e *Exporter) Start() {
	e.started = true
	e.running.Go(func() {
		if err := e.server.serve(e.listeners); err != nil {
			e.err = fmt.Errorf("HTTP server: %w", err)
			close(e.failed)
		}
	})
	e.running.Go(func() { e.manager.feedWatchdog(e.background, e.collector.read) })
	e.manager.send("READY=1\nSTATUS=starting")
}

// Addresses returns where it listens, each with what a person should know of it.
func (e *Exporter) Addresses() []string {
	var all []string
	for _, l := range e.listeners {
		address := l.Addr().String()
		if _, is := l.(awaited); is {
			address += " (not an address of this machine yet)"
		}
		all = append(all, address)
	}
	return all
}

// Attached has metrics read from the source from now on. It is called once, after privileges
// were dropped.
func (e *Exporter) Attached(ctx context.Context, source feed.Source) error {
	if err := e.server.validate(); err != nil {
		return err
	}
	if source.Findings != nil {
		e.collector.found(source.Findings, time.Now())
	}
	e.collector.source.Store(&source)
	e.collector.update(ctx)
	e.server.ready.Store(true)
	e.manager.send("STATUS=attached, backend " + string(source.Backend))
	if source.Check != nil {
		e.running.Go(func() { e.followChecks(e.background, source.Check) })
	}
	return nil
}

// Emit implements session.Sink. It never fails.
func (e *Exporter) Emit(v event.Event) error {
	switch v := v.(type) {
	case *event.FlowEvent:
		if v.Flow.State == event.Stalled {
			e.collector.stall(v.Flow.Interface)
		}
	case *event.Notice:
		e.collector.notice(v)
		switch v.ID {
		case event.NoticeWaiting:
			e.manager.send("STATUS=waiting for an interface")
		case event.NoticeDriverReloaded, event.NoticeInterfaceAdded, event.NoticeInterfaceRenamed:
			select {
			case e.recheck <- struct{}{}:
			default: // it is due already
			}
		}
	}
	return nil
}

// Failed is closed when nothing can be served any more: Close returns why.
func (e *Exporter) Failed() <-chan struct{} { return e.failed }

// Close stops serving. The source may be closed after it.
func (e *Exporter) Close() error {
	e.once.Do(func() {
		e.manager.send("STOPPING=1")
		e.server.ready.Store(false)
		e.stop()
		e.server.close()
		if !e.started {
			e.err = closeAll(e.listeners)
		}
		e.collector.close()
		e.running.Wait()
		e.manager.close()
	})
	return e.err
}

func closeAll(listeners []net.Listener) error {
	var err error
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}
