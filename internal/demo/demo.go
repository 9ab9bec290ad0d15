// Package demo shows xentrace on a machine without Xen: it sends packets of many
// slots over a veth pair of its own and has them traced and counted.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/rocket"
	"xentrace/internal/trace"
)

// A Command runs one of xentrace's commands in the network namespace of the calling
// thread: it traces the interface until ctx ends, writes its output, and returns the
// totals. It calls attached once every hook is attached.
type Command func(ctx context.Context, ifname string, attached func()) (event.Totals, error)

// Options are what the demo needs from outside.
type Options struct {
	Out   io.Writer
	Width func() int // columns of Out
	Watch Command    // with a record of each packet over the limit
	Hist  Command
}

// Timing: 15 s in all, with setup.
const (
	reading       = 2 * time.Second // time to read the text before each part
	watched       = 12              // packets over the limit, each with a record
	watchInterval = 450 * time.Millisecond
	counted       = 100 // rounds of traffic for the histogram
	countInterval = 45 * time.Millisecond
)

// Run makes the network, sends traffic, has it traced and explains the result. The
// network is removed before it returns, or by the kernel when the process ends. The
// end of ctx ends it early, without an error. Errors that wrap trace.ErrCannotRun
// say what this machine lacks.
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
		// Errors after the interrupt follow from it.
		return errors.Join(d.say("", "Interrupted: the demo's network is removed."), n.close())
	}
	return explain(errors.Join(err, n.close()))
}

// explain adds what to do about an error.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM) && !errors.Is(err, trace.ErrCannotRun):
		return fmt.Errorf("%w: %w; %s", trace.ErrCannotRun, err, kernel.HowToGain(os.Geteuid()))
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w: this kernel lacks veth interfaces, or its module veth is not installed", trace.ErrCannotRun, err)
	case errors.Is(err, rocket.ErrSinglePages):
		return fmt.Errorf("%w: %w: the demo needs blocks of several pages", trace.ErrCannotRun, err)
	}
	return err
}

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

type part struct {
	sent        sent
	transmitted uint64 // packets, by the interface's own counter
	totals      event.Totals
}

func (p *part) interfaceTotals() event.InterfaceTotals {
	if len(p.totals.Interfaces) == 0 {
		return event.InterfaceTotals{}
	}
	return p.totals.Interfaces[0]
}

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

// ignoringEnd returns the error of a sender, unless the command failed first and ended
// both.
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

// The names are unique: the namespaces are the demo's own.
const (
	nearName = "demo0"
	farName  = "demo1"
	mtu      = 1500
)

var (
	nearPrefix = netip.MustParsePrefix("192.0.2.1/24") // TEST-NET-1
	farPrefix  = netip.MustParsePrefix("192.0.2.2/24")
)

type link struct{ near, far network.End }

func newLink() (*link, error) {
	near, err := network.NewNamespace()
	if err != nil {
		return nil, err
	}
	far, err := network.NewNamespace()
	if err != nil {
		return nil, errors.Join(err, near.Close())
	}
	n := &link{
		near: network.End{Namespace: near, Name: nearName, Addresses: []netip.Prefix{nearPrefix}},
		far:  network.End{Namespace: far, Name: farName, Addresses: []netip.Prefix{farPrefix}},
	}
	if err := network.Join(n.near, n.far, mtu); err != nil {
		return nil, errors.Join(err, near.Close(), far.Close())
	}
	return n, nil
}

func (n *link) transmitted() (uint64, error) {
	sent, dropped, err := n.near.Transmitted()
	return sent + dropped, err
}

func (n *link) close() error {
	return errors.Join(n.near.Remove(), n.near.Namespace.Close(), n.far.Namespace.Close())
}
