package cli

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/flow"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
	"xentrace/internal/trace"
)

// TestMain is xentrace itself, on a fake tracer, where a test runs this binary
// for what needs a process of its own: signals, closed pipes, terminals.
func TestMain(m *testing.M) {
	if os.Getenv("XENTRACE_FAKE") == "" {
		_ = flag.Set("test.parallel", "8") // most of these tests wait for a process, not for a CPU
		os.Exit(m.Run())
	}
	fake := fakeFromEnvironment()
	err := Run(context.Background(), os.Args[1:], System{
		Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Start: fake.start, grace: fake.grace,
	})
	Report(os.Stderr, err)
	if path := os.Getenv("XENTRACE_FAKE_CLOSED"); path != "" && fake.closed.Load() {
		_ = os.WriteFile(path, []byte("closed\n"), 0o644)
	}
	os.Exit(Status(err))
}

// A fakeTracer makes records at a steady pace and counts them.
type fakeTracer struct {
	options  trace.Options
	choice   trace.Choice
	records  int           // how many it makes; it then waits to be stopped
	pace     time.Duration // between two records
	startup  time.Duration // until hooks are attached
	before   func()        // called just before they are; may be nil
	verdict  event.Verdict
	name     string
	owned    bool          // every second packet has an owner
	err      error         // of start
	readErr  error         // of Read, after all records
	waits    bool          // no interface is there during startup
	grace    time.Duration // of System
	starting string        // a file that is made when it starts; "" for none
	notice   string        // interface that is gone a while after the start; "" for none

	began   time.Time
	stop    chan struct{}
	once    sync.Once
	made    atomic.Int64
	closed  atomic.Bool
	stopped atomic.Bool
}

func fakeFromEnvironment() *fakeTracer {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	f := newFake()
	f.records = number("XENTRACE_FAKE_RECORDS", 10)
	f.pace = time.Duration(number("XENTRACE_FAKE_PACE_US", 0)) * time.Microsecond
	f.startup = time.Duration(number("XENTRACE_FAKE_STARTUP_MS", 0)) * time.Millisecond
	if text := os.Getenv("XENTRACE_FAKE_READ_ERROR"); text != "" {
		f.readErr = errors.New(text)
	}
	f.grace = time.Duration(number("XENTRACE_FAKE_GRACE_MS", 0)) * time.Millisecond
	f.starting = os.Getenv("XENTRACE_FAKE_STARTING")
	f.waits = os.Getenv("XENTRACE_FAKE_WAITS") != ""
	f.notice = os.Getenv("XENTRACE_FAKE_NOTICE")
	if os.Getenv("XENTRACE_FAKE_CANNOT") != "" {
		f.err = errors.Join(trace.ErrCannotRun)
	}
	return f
}

func newFake() *fakeTracer {
	return &fakeTracer{
		choice: trace.Choice{Backend: event.Kprobe, Refusals: []trace.Refusal{
			{Backend: event.Fentry, Err: errors.New("xen-netfront: the driver has no BTF")},
		}},
		records: 3, verdict: event.Dropped, name: "eth0", stop: make(chan struct{}),
	}
}

func (f *fakeTracer) start(ctx context.Context, o trace.Options) (Tracer, error) {
	f.options = o
	if f.err != nil {
		return nil, f.err
	}
	if f.waits {
		o.Notify(event.Notice{ID: event.NoticeWaiting})
	}
	if f.starting != "" {
		if err := os.WriteFile(f.starting, nil, 0o600); err != nil {
			return nil, err
		}
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(f.startup):
	}
	if f.before != nil {
		f.before()
	}
	f.began = time.Now()
	const aWhile = 500 * time.Millisecond
	if f.notice != "" {
		time.AfterFunc(aWhile, func() { o.Notify(event.Notice{ID: event.NoticeInterfaceRemoved, Device: event.Device{Name: f.notice}}) })
	}
	return f, nil
}

func (f *fakeTracer) SetProbe(uint64) error { return nil }

func (f *fakeTracer) DriverCode(context.Context) (netfront.Answer, error) {
	return netfront.Answer{Value: netfront.Linearizes, Evidence: "xennet_start_xmit+0x81a calls __pskb_pull_tail"}, nil
}

func (f *fakeTracer) SharedInfo() (kernel.SharedInfo, error) {
	return kernel.SharedInfo{MaxFrags: 17, Bytes: 320}, nil
}

func (f *fakeTracer) MissingAnswers() string { return "" }
func (f *fakeTracer) Hooks() (int, int)      { return 2, 0 }

func (f *fakeTracer) Choice() trace.Choice { return f.choice }

func (f *fakeTracer) Read(ctx context.Context) (event.Packet, error) {
	n := f.made.Load()
	if n >= int64(f.records) || !f.options.Records {
		if f.readErr != nil {
			if os.Getenv("XENTRACE_FAKE_PANIC") != "" {
				panic(f.readErr)
			}
			return event.Packet{}, f.readErr
		}
		select {
		case <-f.stop:
			return event.Packet{}, io.EOF
		case <-ctx.Done():
			return event.Packet{}, ctx.Err()
		}
	}
	if f.pace > 0 {
		select {
		case <-time.After(f.pace):
		case <-f.stop:
		}
	}
	f.made.Add(1)
	return f.packet(int(n)), nil
}

func (f *fakeTracer) packet(n int) event.Packet {
	p := event.Packet{
		Time: f.began.Add(time.Duration(n) * time.Millisecond), Interface: event.Device{Name: f.name, Index: 2, NetNS: 4026531840},
		Verdict: f.verdict, Slots: 19 + n%17, Limit: 18, Len: 1426, HeadOffset: 254, HeadLen: 66,
		Frags: []event.Frag{{Offset: 4056, Size: 80}},
		Flow: &event.Flow{Proto: 6, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), uint16(49152+n%1000)),
			Destination: netip.MustParseAddrPort("10.0.0.9:5001")},
		TCP: &event.TCP{State: 1, Seq: uint32(3012345678 + n)},
	}
	switch {
	case n%7 == 3:
		p.Flow = &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("[2001:db8:1234:5678::1]:443"), Destination: netip.MustParseAddrPort("[2001:db8::9]:5001")}
	case n%7 == 5:
		p.Flow, p.TCP = &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("192.168.122.101:53"), Destination: netip.MustParseAddrPort("192.168.122.1:40000")}, nil
		p.Socket = &event.Socket{Address: 1}
	}
	if f.owned && n%2 == 1 {
		p.Process = &event.Process{PID: 1000 + n, Comm: "odd"}
	}
	if p.Verdict == event.Dropped {
		p.Cause = event.TooManySlots
	}
	return p
}

func (f *fakeTracer) Totals(context.Context) (event.Totals, error) {
	made := uint64(f.made.Load())
	none := uint64(0)
	t := event.InterfaceTotals{
		Device: event.Device{Name: f.name, Index: 2, NetNS: 4026531840}, Driver: "xen-netfront", Backend: f.choice.Backend, Queues: 2,
		Counts: event.Counts{Packets: made + 1000, Bytes: made*1426 + 66000, OverLimit: made},
	}
	t.Slots[1], t.Slots[2], t.Slots[19] = 300, 700, made
	delta := none
	if f.verdict == event.Dropped {
		t.Dropped, t.Causes[event.TooManySlots], delta = made, made, made
	}
	t.TxDroppedDelta = &delta
	return event.Totals{
		Time: time.Now(), Duration: time.Since(f.began), Interfaces: []event.InterfaceTotals{t}, Events: made,
		Lost: event.Lost{Recursion: &none, Missed: &none},
	}, nil
}

func (f *fakeTracer) Stop(context.Context) error {
	f.once.Do(func() { close(f.stop) })
	f.stopped.Store(true)
	return nil
}

func (f *fakeTracer) Holders(event.Wanted) ([]event.Holder, error) { return nil, nil }

func (f *fakeTracer) Connections() flow.Kernel { return nil }

func (f *fakeTracer) DropPrivileges(context.Context, kernel.User, ...kernel.Capability) error {
	return nil
}

func (f *fakeTracer) Close() error {
	f.closed.Store(true)
	return nil
}
