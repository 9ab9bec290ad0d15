// Package demo shows what xentrace does, on a machine without Xen: it sends
// packets of many slots over a veth pair of its own and has them watched and
// counted.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/rocket"
	"xentrace/internal/trace"
)

// A Command is a command of xentrace's, to be run in the network namespace of
// the calling thread: it traces the interface until ctx ends, writes what it has
// to tell, and returns what was counted. It calls attached once every hook is
// attached.
type Command func(ctx context.Context, ifname string, attached func()) (event.Totals, error)

// Options are what the demo needs from outside.
type Options struct {
	Out   io.Writer
	Width func() int // columns of Out
	Watch Command    // with a record of each packet
	Hist  Command
}

// The course of the demo: 15 s in all, with what is made before.
const (
	reading       = 2 * time.Second // time to read what is said before it begins
	watched       = 12              // rockets that are told of one by one
	watchInterval = 450 * time.Millisecond
	counted       = 100 // rounds of traffic for the histogram
	countInterval = 45 * time.Millisecond
)

// Run makes the network, sends the traffic, has it traced and says what it
// shows. When it returns the network is gone; it goes with the process in any
// case. The end of ctx ends it early, without an error. Errors that wrap
// trace.ErrCannotRun tell what this machine lacks.
func Run(ctx context.Context, o Options) error {
	n, err := newLink()
	if err != nil {
		return explain(err)
	}
	d := &demonstration{Options: o, net: n}
	d.traffic, err = newTraffic(ctx, n)
	if err == nil {
		err = errors.Join(d.run(ctx), d.traffic.close())
	}
	if ctx.Err() != nil {
		// What was under way when the interrupt came may have failed of it.
		return errors.Join(d.say("", "Interrupted: what the demo made is removed."), n.close())
	}
	return explain(errors.Join(err, n.close()))
}

// explain says how to get what the machine lacks.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM) && !errors.Is(err, trace.ErrCannotRun):
		return fmt.Errorf("%w: %w: run it as root, with sudo", trace.ErrCannotRun, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w: this kernel lacks veth interfaces, or its module veth is not installed", trace.ErrCannotRun, err)
	case errors.Is(err, rocket.ErrSinglePages):
		return fmt.Errorf("%w: %w: the demo needs blocks of several pages", trace.ErrCannotRun, err)
	}
	return err
}

// A demonstration under way.
type demonstration struct {
	Options
	net     *link
	traffic *traffic
}

func (d *demonstration) run(ctx context.Context) error {
	if err := d.introduce(); err != nil {
		return err
	}
	if err := pause(ctx, reading); err != nil {
		return err
	}
	first, err := d.part(ctx, "watch", d.Watch, d.traffic.few)
	if err != nil {
		return err
	}
	if err := errors.Join(d.judge(first), d.announceCount()); err != nil {
		return err
	}
	if err := pause(ctx, reading); err != nil {
		return err
	}
	second, err := d.part(ctx, "hist", d.Hist, d.traffic.many)
	if err != nil {
		return err
	}
	return d.compare(first, second)
}

// A part is what one command was shown, and what it made of it.
type part struct {
	sent        sent
	transmitted uint64 // packets, by the interface's own counter
	totals      event.Totals
}

// interfaceTotals are those of the one interface.
func (p *part) interfaceTotals() event.InterfaceTotals {
	if len(p.totals.Interfaces) == 0 {
		return event.InterfaceTotals{}
	}
	return p.totals.Interfaces[0]
}

// part has a command watch the traffic, from its first packet to its last.
func (d *demonstration) part(ctx context.Context, name string, command Command,
	send func(context.Context) (sent, error)) (*part, error) {
	if err := d.say("", "$ xentrace "+name+" -i "+nearName); err != nil {
		return nil, err
	}
	p := &part{}
	before, err := d.net.transmitted()
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var sending chan error // nil before the hooks are attached
	attached := func() {
		sending = make(chan error, 1)
		go func() {
			var err error
			p.sent, err = send(running)
			sending <- err
			stop()
		}()
	}
	err = d.net.near.Namespace.Do(func() (err error) {
		p.totals, err = command(running, nearName, attached)
		return err
	})
	stop()
	if sending != nil {
		err = errors.Join(err, ignoringEnd(<-sending, err))
	}
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, err
	}
	after, err := d.net.transmitted()
	p.transmitted = after - before
	return p, err
}

// ignoringEnd returns the error of a sender, unless it is that the command
// failed before it, which ended both.
func ignoringEnd(sending, command error) error {
	if command != nil && errors.Is(sending, context.Canceled) {
		return nil
	}
	return sending
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
