// Package trace chooses a backend, loads and attaches the BPF programs, reads
// their records and counts what was lost.
package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/ringread"
)

// ErrCannotRun marks errors that mean this machine cannot run the tracer as
// asked: no privilege, lockdown, no BTF, no interface. The text names what is
// missing and how to get it.
var ErrCannotRun = errors.New("cannot run here")

// MaxSnap is the largest Options.Snap, in bytes.
const MaxSnap = 256 // MAX_SNAP in bpf/event.h

// Options select what to trace and how.
type Options struct {
	// Interfaces names interfaces in the caller's network namespace. Empty
	// means every interface driven by xen-netfront in any namespace, those that
	// appear later too.
	Interfaces []string
	Backend    event.Backend
	BTF        string // file of the kernel's types; empty for those it shows, or that are found
	Records    bool   // false: count only, no record is made
	Drops      event.Drops
	DropsHook  DropsHook // what reports drops outside the driver
	RingBytes  int       // size of the ring buffer, a power of two and a multiple of the page size; 0 for [DefaultRing]
	Wait       bool      // wait for an interface to appear instead of failing
	Stacks     bool      // record the stack of the call that sent a packet
	Rejected   bool      // hook the TX responses, too: packets that the backend rejected
	Writes     string    // directory in which the caller makes files once privileges are dropped; empty for none
	Probe      bool      // record every packet of one socket, see SetProbe
	Serves     bool      // the caller accepts connections once privileges are dropped
	Reads      []string  // directories that the caller reads then
	Snap       int       // record so many bytes of a packet, at most MaxSnap; 0 for none
	// Rate limits the records: at most so many are made in any second, and those beyond are
	// counted in Totals.Suppressed. Of 128 and more a quarter is reserved in 32 equal shares
	// by user, so that the packets of one do not suppress all records of others. 0: no limit.
	Rate int

	// Notify receives what a user should know while the tracer runs. It is called from
	// several goroutines, one at a time.
	Notify func(event.Notice)
}

// A Tracer is attached to the driver until it is closed.
type Tracer struct {
	options     Options
	selector    selector
	choice      Choice
	losses      lossCounters
	elsewhere   *elsewhere // nil unless drops outside the driver are counted
	stacks      stacks
	calls       *calls // nil without Options.Stacks
	driver      driverModule
	gaps        gaps
	rejections  rejections
	stuck       *stuckWatch
	connections *Connections
	holders     *holderFinder // nil unless records are made
	fileTypes   *kernel.Types // nil: the kernel shows its types
	attachment  *attachment
	registry    *registry
	reader      *ringread.Reader
	decoder     recordDecoder
	pending     pending
	unsettled   *ringread.Reader // wakes settlePackets; nil: nothing is settled
	record      []byte
	recordRead  chan struct{}   // holds one value if a record was read since it was received
	waking      context.Context // the one whose end wakes the reader
	stopWaking  func() bool

	sharedInfo    kernel.SharedInfo
	sharedMissing error // why it is not known

	started time.Time
	ended   atomic.Pointer[time.Time] // set by Stop
	events  atomic.Uint64             // records delivered
	probe   atomic.Uint64             // cookie of the probe's socket, 0 while there is none

	background context.Context // ends at Close
	cancel     context.CancelFunc
	following  sync.WaitGroup
	notifying  sync.Mutex
	heldNotice sync.Once
}

// Start attaches the tracer. It returns once every hook is attached and the
// counting has begun. Errors that wrap ErrCannotRun name what this machine
// lacks.
func Start(ctx context.Context, o Options) (*Tracer, error) {
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRing()
	}
	if o.Snap < 0 || o.Snap > MaxSnap {
		return nil, fmt.Errorf("bytes of each packet: %d: must be 0 to %d", o.Snap, MaxSnap)
	}
	if o.Rate < 0 || o.Rate > 0 && o.Probe {
		return nil, fmt.Errorf("limit of records per second: %d: must be >= 0, and 0 for a probe", o.Rate)
	}
	types, err := CheckKernel(o.BTF)
	if err != nil {
		return nil, err
	}
	t := &Tracer{options: o, selector: selector{o.Interfaces}, pending: pending{limit: maxPending}, recordRead: make(chan struct{}, 1)}
	// Not the caller's context: background work ends at Close.
	t.background, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if types.Path() != "" {
		t.fileTypes = types
	}
	if err := t.start(ctx, types); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// start does it. Close undoes what was done before an error.
func (t *Tracer) start(ctx context.Context, types *kernel.Types) error {
	interfaces, err := t.interfaces(ctx)
	if err != nil {
		return err
	}
	moduleEvents := t.watchDriver(t.background)
	f := &facts{types: types, drops: t.options.Drops}
	c := &chooser{options: t.options, interfaces: interfaces, facts: f}
	t.attachment, t.choice, err = c.choose(ctx)
	if err != nil {
		return err
	}
	t.losses = findLossCounters(f.types, t.choice.Backend)
	if t.elsewhere = c.elsewhere; t.elsewhere != nil && errors.Is(t.elsewhere.hidden, kernel.ErrAddressesHidden) {
		t.notify(event.Notice{ID: event.NoticeDropStacksUnavailable, Reason: t.elsewhere.hidden.Error()})
	}
	if t.options.Stacks {
		t.calls = newCalls(&t.stacks)
		if _, err := kernel.ReadFunctions(); err != nil {
			t.notify(event.Notice{ID: event.NoticeStacksUnavailable, Reason: err.Error()})
		}
	}
	t.sharedInfo, t.sharedMissing = f.types.SharedInfo()
	t.rejections = c.rejections
	if t.options.Rejected && !t.options.Probe && !t.rejections.counted() {
		t.notify(event.Notice{ID: event.NoticeRejectedUnavailable, Reason: t.rejections.missing})
	}
	if t.options.Records {
		t.holders = newHolderFinder(f.types)
		if kernel.InPIDNamespace() {
			t.notify(event.Notice{ID: event.NoticeOwnersUnavailable, Reason: "processes outside this PID namespace do not show; run on the machine itself (docker run --pid=host)"})
		}
	}
	first := t.driver.generations.begin(0, "")
	t.choice.HoldsDriver = (t.choice.Backend == event.Fentry || t.rejections.counted()) && t.driver.module.there
	t.driver.follows = c.anyNetfront() && !t.choice.HoldsDriver && t.driver.module.there
	t.driver.config = f.configuration()
	if err := t.begin(ctx, interfaces); err != nil {
		return err
	}
	if t.driver.follows {
		t.following.Go(func() { t.followDriver(t.background, moduleEvents) })
	}
	t.readCode(first, f, c.anyNetfront())
	return nil
}

// learnDelay is how long what is only needed once packets are reported is put off: the
// caller reports first that the tracer is ready.
const learnDelay = 50 * time.Millisecond

// readCode loads in the background what counting does not need. DropPrivileges waits for it.
func (t *Tracer) readCode(g *generation, f *facts, driver bool) {
	if !driver {
		t.stuck.setMissing("only the queues of xen-netfront are polled")
	}
	t.following.Go(func() {
		select {
		case <-time.After(learnDelay):
		case <-t.background.Done():
			g.settle("the tracer ended before the driver's code was read")
			return
		}
		debug.FreeOSMemory() // what starting took: more follows
		if t.holders != nil {
			_ = t.holders.loaded() // Holders returns it
		}
		t.loadConnections(f.types)
		if driver {
			t.startStuckWatch(f.types)
			t.readDriver(g, f)
			return
		}
		g.settle("no interface is driven by xen-netfront")
		f.types = nil
		debug.FreeOSMemory()
	})
}

func (t *Tracer) readDriver(g *generation, f *facts) {
	if g.resolve(f.linearizes(t.background)) && t.background.Err() == nil {
		t.wake()
		t.notify(g.notice())
	}
	if err := t.useFlags(g, f.flags); err != nil {
		t.notify(event.Notice{ID: event.NoticeDriverUnknown, Reason: err.Error()})
	}
	// The kernel's types and symbols are most of what this took.
	f.types, f.symbols = nil, nil
	debug.FreeOSMemory()
}

// interfaces returns those to begin with, and waits for one if asked to.
func (t *Tracer) interfaces(ctx context.Context) ([]netdev.Interface, error) {
	found, err := t.selector.find(ctx)
	switch {
	case len(found) > 0 && (err == nil || t.options.Wait):
		return found, nil
	case err != nil && !errors.Is(err, netdev.ErrNotFound):
		return nil, err
	case t.options.Wait:
		t.notify(event.Notice{ID: event.NoticeWaiting})
		return t.selector.wait(ctx)
	}
	return nil, noInterface(err)
}

// noInterface is the error of a start without an interface: notFound of those that are named, if
// any is. It names what may hide one.
func noInterface(notFound error) error {
	if notFound != nil {
		return fmt.Errorf("%w: %w; check the name, or use --wait%s", ErrCannotRun, notFound, kernel.HostNetworkAdvice())
	}
	const none = "no xen-netfront interface found; use -i NAME for another driver, or --wait"
	has, err := kernel.ReadCapabilities()
	if err != nil {
		return err
	}
	if hidden := kernel.HiddenNetworkNamespaces(has); hidden != "" {
		return fmt.Errorf("%w: %s; other network namespaces were not searched: %s", ErrCannotRun, none, hidden)
	}
	return fmt.Errorf("%w: %s", ErrCannotRun, none)
}

func (t *Tracer) begin(ctx context.Context, interfaces []netdev.Interface) error {
	maps := t.attachment.collection.Maps
	t.registry = newRegistry(maps[bpf.XentraceMapInterfaces], maps[bpf.XentraceMapCountersOf], t.attachment.devices, &t.driver.generations)
	t.registry.elsewhere = maps[bpf.XentraceMapElsewhereCountersOf]
	t.registry.xdp = maps[bpf.XentraceMapXdpCountersOf]
	t.registry.home, _ = netdev.Current() // else it is opened for each reading
	for _, i := range interfaces {
		if _, err := t.registry.add(ctx, i, false); err != nil {
			return err
		}
	}
	ticks, err := kernel.TicksPerSecond()
	if err != nil {
		return err
	}
	t.decoder = recordDecoder{jiffy: time.Second / time.Duration(ticks), wallTime: (&kernelClock{}).wallTime, foreignPIDs: !inInitialPIDNamespace()}
	t.stuck = newStuckWatch(t.decoder.jiffy)
	t.connections = newConnections(t.decoder.jiffy)
	if t.reader, err = ringread.New(maps[bpf.XentraceMapEvents]); err != nil {
		return fmt.Errorf("ring buffer: %w", err)
	}
	t.reader.SetDeadline(time.Now()) // the first Read polls before it waits
	events, done, err := t.selector.watch(t.background)
	if err != nil {
		return fmt.Errorf("watch for interfaces: %w", err)
	}
	t.following.Go(func() {
		defer done()
		t.follow(t.background, events)
	})
	if err := t.followClock(t.background); err != nil {
		t.notify(event.Notice{ID: event.NoticeSuspendUnavailable, Reason: err.Error()})
	}
	t.registry.rebase(ctx)
	t.started = time.Now()
	if t.options.Rate > 0 && t.options.Records {
		limit, err := newRateLimit(maps[bpf.XentraceMapRates], t.options.Rate)
		if err != nil {
			return err
		}
		t.following.Go(func() { limit.keep(t.background, t.recordRead) })
	}
	if err := t.startSettling(); err != nil {
		return err
	}
	return t.attachment.enable(true)
}

// Choice returns the backend in use, and why the better ones are not.
func (t *Tracer) Choice() Choice { return t.choice }

func (t *Tracer) notify(n event.Notice) {
	if t.options.Notify == nil {
		return
	}
	t.notifying.Lock()
	defer t.notifying.Unlock()
	n.Time = time.Now()
	t.options.Notify(n)
}

// Stop ends the counting and reads the interfaces' final counters. Read then
// returns what is left, and after that io.EOF.
func (t *Tracer) Stop(ctx context.Context) error {
	if t.ended.Load() != nil {
		return nil
	}
	if err := t.attachment.enable(false); err != nil {
		return err
	}
	_, settled := t.attachment.settle()
	now := time.Now()
	t.registry.finish(context.WithoutCancel(ctx))
	t.ended.Store(&now)
	if err := t.reader.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
		return errors.Join(settled, fmt.Errorf("ring buffer: %w", err))
	}
	return settled
}

// Close detaches every hook and frees what the tracer holds.
func (t *Tracer) Close() error {
	t.cancel()
	var err error
	if t.unsettled != nil {
		err = t.unsettled.Close()
	}
	t.following.Wait()
	if t.reader != nil {
		err = errors.Join(err, t.reader.Close())
	}
	if t.registry != nil {
		err = errors.Join(err, t.registry.close())
	}
	if t.connections != nil {
		err = errors.Join(err, t.connections.close())
	}
	if t.attachment != nil {
		err = errors.Join(err, t.attachment.close())
	}
	err = errors.Join(err, t.holders.close())
	return err
}
