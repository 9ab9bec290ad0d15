package probe

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/rocket"
	"xentrace/internal/trace"
)

// fakeTracer hands on the records that the fake senders put in.
type fakeTracer struct {
	records chan event.Packet
	cookie  uint64
	missing string
	err     error // of reading, instead of records
}

func (f *fakeTracer) Read(ctx context.Context) (event.Packet, error) {
	if f.err != nil {
		return event.Packet{}, f.err
	}
	select {
	case p := <-f.records:
		return p, nil
	case <-ctx.Done():
		return event.Packet{}, ctx.Err()
	}
}

func (f *fakeTracer) SetProbe(cookie uint64) error { f.cookie = cookie; return nil }
func (f *fakeTracer) MissingAnswers() string       { return f.missing }

// A late record is one that comes some time after its datagram was sent.
type reported struct {
	packet event.Packet
	after  time.Duration
}

// fakeSenders play the kernel: each datagram has the fate that is next.
type fakeSenders struct {
	tracer *fakeTracer
	fates  []fate // the last one again and again
	made   []string
}

type fate struct {
	reported []reported
	err      error // of sending
}

func (f *fakeSenders) next(kind string) (sender, error) {
	f.made = append(f.made, kind)
	return &fakeSender{f, uint64(len(f.made))}, nil
}

func (f *fakeSenders) many(context.Context, int) (sender, error) { return f.next("many") }
func (f *fakeSenders) head(context.Context) (sender, error)      { return f.next("head") }
func (f *fakeSenders) small(context.Context) (sender, error)     { return f.next("small") }
func (f *fakeSenders) close() error                              { return nil }

type fakeSender struct {
	*fakeSenders
	cookie uint64
}

func (f *fakeSender) Cookie() (uint64, error) { return f.cookie, nil }
func (f *fakeSender) Local() netip.AddrPort   { return netip.MustParseAddrPort("192.0.2.2:40000") }
func (f *fakeSender) Close() error            { return nil }

func (f *fakeSender) Send(context.Context) error {
	if f.made[len(f.made)-1] == "small" {
		return nil
	}
	now := f.fates[0]
	if len(f.fates) > 1 {
		f.fates = f.fates[1:]
	}
	go func() {
		for _, r := range now.reported {
			time.Sleep(r.after)
			if r.packet.Socket == nil {
				r.packet.Socket = &event.Socket{Cookie: f.cookie}
			}
			r.packet.Interface.Index, r.packet.Time = eth0Index, time.Now()
			f.tracer.records <- r.packet
		}
	}()
	return now.err
}

func record(v event.Verdict, c event.Cause, slots int) reported {
	return reported{packet: event.Packet{Verdict: v, Cause: c, Slots: slots, Limit: 18, Len: 1162}}
}

func dropElsewhere(reason string, stack ...string) reported {
	return reported{packet: event.Packet{Layer: event.LayerElsewhere, Verdict: event.Dropped, Reason: reason, Stack: stack}}
}

// foreign is another socket's packet.
func foreign() reported {
	r := record(event.Dropped, event.TooManySlots, 30)
	r.packet.Socket = &event.Socket{Cookie: 4711}
	return r
}

// after has a record come later than the one before.
func after(d time.Duration, r reported) reported { r.after = d; return r }

func fates(all ...fate) []fate  { return all }
func fateOf(r ...reported) fate { return fate{reported: r} }

var known = []netdev.Neighbour{netdev.NeighbourKnown}

// one makes one probe in a world of fakes, whose time is not the world's.
func one(t *testing.T, o Options, tracer *fakeTracer, network *fakeNetwork, all []fate) (event.Probe, *fakeSenders, error) {
	t.Helper()
	var r event.Probe
	var err error
	senders := &fakeSenders{tracer: tracer, fates: all}
	synctest.Test(t, func(t *testing.T) {
		tracer.records = make(chan event.Packet, 64)
		ctx, cancel := context.WithCancel(t.Context())
		o.Destination.Address = netip.MustParseAddrPort("192.0.2.1:9")
		p := New(ctx, tracer, network, o)
		p.senders = senders
		r, err = p.Once(ctx)
		time.Sleep(2 * time.Hour) // late records
		if closed := p.Close(); closed != nil || ctx.Err() != nil {
			t.Errorf("close: %v; %v", closed, ctx.Err())
		}
		if _, more := <-p.records; more {
			t.Error("the tracer is read after the prober was closed")
		}
		cancel()
	})
	return r, senders, err
}

func TestProbes(t *testing.T) {
	other := eth0
	other.Driver = "veth"
	sgOn := Options{Interface: eth0, ScatterGather: true}
	asked := func(n int) Options { return Options{Interface: eth0, ScatterGather: true, Slots: n} }
	sent := record(event.Sent, event.CauseNone, 18)
	linearized := record(event.Linearized, event.CauseNone, 27)
	oneSlot := record(event.Sent, event.CauseNone, 1)
	accepted, rejected := record(event.Accepted, event.CauseNone, 2), record(event.Rejected, event.CauseNone, 27)
	for _, test := range []struct {
		name    string
		options Options
		missing string
		fates   []fate
		want    event.Probe // Verdict, Cause, Slots, Attempts, Seen, Reached, Answer
		says    string      // in AnswerMissing or Unseen
	}{
		{name: "dropped", options: sgOn, fates: fates(fateOf(record(event.Dropped, event.TooManySlots, 27))),
			want: event.Probe{Seen: true, Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 27, Attempts: 1, Reached: true}},
		{name: "linearized and accepted", options: sgOn, fates: fates(fateOf(linearized, accepted, accepted)),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 1, Reached: true, Answer: event.AnswerAccepted}},
		{name: "accepted before it is known what the driver did", options: sgOn, fates: fates(fateOf(accepted, after(150*time.Millisecond, linearized))),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 1, Reached: true, Answer: event.AnswerAccepted}},
		{name: "accepted, and what the driver did is lost", options: sgOn, fates: fates(fateOf(accepted)),
			want: event.Probe{Attempts: 1, Answer: event.AnswerAccepted}, says: "the backend accepted the datagram, but what the driver did with it was not reported"},
		{name: "rejected, and what the driver did is lost", options: sgOn, fates: fates(fateOf(rejected)),
			want: event.Probe{Verdict: event.Rejected, Attempts: 1, Answer: event.AnswerRejected}, says: "the backend rejected the datagram, but"},
		{name: "one request refused, another taken, before it is known what the driver did", options: sgOn,
			fates: fates(fateOf(rejected, accepted, after(150*time.Millisecond, linearized))),
			want:  event.Probe{Seen: true, Verdict: event.Rejected, Slots: 27, Attempts: 1, Reached: true, Answer: event.AnswerRejected}},
		{name: "another's records are not taken", options: sgOn, fates: fates(fateOf(foreign(), linearized, foreign(), accepted)),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 1, Reached: true, Answer: event.AnswerAccepted}},
		{name: "rejected", options: sgOn, fates: fates(fateOf(record(event.Sent, event.CauseNone, 27), after(time.Second, rejected))),
			want: event.Probe{Seen: true, Verdict: event.Rejected, Slots: 27, Attempts: 1, Reached: true, Answer: event.AnswerRejected}},
		{name: "one request taken, another refused", options: sgOn, fates: fates(fateOf(linearized, accepted, after(50*time.Millisecond, rejected))),
			want: event.Probe{Seen: true, Verdict: event.Rejected, Slots: 27, Attempts: 1, Reached: true, Answer: event.AnswerRejected}},
		{name: "no answer in time", options: sgOn, fates: fates(fateOf(linearized)),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 1, Reached: true}, says: "the backend did not answer in 2s"},
		{name: "answers cannot be seen", options: sgOn, missing: "no BTF", fates: fates(fateOf(linearized)),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 1, Reached: true}, says: "no BTF"},
		{name: "a copy is sent", options: sgOn, fates: fates(fateOf(record(event.Bounced, event.CauseNone, 27))),
			want: event.Probe{Seen: true, Verdict: event.Bounced, Slots: 27, Attempts: 1, Reached: true}, says: "whose owner is unknown"},
		{name: "another driver", options: Options{Interface: other, ScatterGather: true}, fates: fates(fateOf(record(event.OverLimit, event.CauseNone, 27))),
			want: event.Probe{Seen: true, Verdict: event.OverLimit, Slots: 27, Attempts: 1, Reached: true}, says: "no Xen backend"},
		{name: "too few slots at first", options: sgOn, missing: "x", fates: fates(fateOf(sent), fateOf(sent), fateOf(linearized)),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 3, Reached: true}, says: "x"},
		{name: "always too few", options: sgOn, missing: "x", fates: fates(fateOf(sent)),
			want: event.Probe{Seen: true, Verdict: event.Sent, Slots: 18, Attempts: 32}, says: "x"},
		{name: "as many as asked", options: asked(18), missing: "x", fates: fates(fateOf(record(event.Dropped, event.TooManySlots, 19)), fateOf(sent)),
			want: event.Probe{Seen: true, Verdict: event.Sent, Slots: 18, Attempts: 2, Reached: true}, says: "x"},
		{name: "scatter-gather off", options: Options{Interface: eth0}, missing: "x",
			fates: fates(fateOf(slices.Repeat([]reported{oneSlot}, headBurst)...), fateOf(oneSlot, oneSlot, record(event.Dropped, event.SGOff, 2))),
			want:  event.Probe{Seen: true, Verdict: event.Dropped, Cause: event.SGOff, Slots: 2, Attempts: 2, Reached: true}},
		{name: "scatter-gather off, answers between", options: Options{Interface: eth0},
			fates: fates(fateOf(append(slices.Repeat([]reported{oneSlot, accepted}, headBurst-1), record(event.Dropped, event.SGOff, 2))...)),
			want:  event.Probe{Seen: true, Verdict: event.Dropped, Cause: event.SGOff, Slots: 2, Attempts: 1, Reached: true}},
		{name: "scatter-gather off, the last reported after its answer", options: Options{Interface: eth0},
			fates: fates(fateOf(append(slices.Repeat([]reported{oneSlot, accepted}, headBurst-1), after(150*time.Millisecond, record(event.Dropped, event.SGOff, 2)))...)),
			want:  event.Probe{Seen: true, Verdict: event.Dropped, Cause: event.SGOff, Slots: 2, Attempts: 1, Reached: true}},
		{name: "scatter-gather off, the first dropped before the driver", options: Options{Interface: eth0},
			fates: fates(fateOf(append(append([]reported{dropElsewhere("QDISC_DROP")}, slices.Repeat([]reported{oneSlot}, headBurst-2)...), record(event.Dropped, event.SGOff, 2))...)),
			want:  event.Probe{Seen: true, Verdict: event.Dropped, Cause: event.SGOff, Slots: 2, Attempts: 1, Reached: true}},
		{name: "scatter-gather off, each freed as dropped by another driver", options: Options{Interface: other},
			fates: fates(fateOf(append(slices.Repeat([]reported{oneSlot, dropElsewhere("NOT_SPECIFIED")}, headBurst-1), record(event.Sent, event.CauseNone, 2))...)),
			want:  event.Probe{Seen: true, Verdict: event.Sent, Slots: 2, Attempts: 1, Reached: true}, says: "no Xen backend"},
		{name: "scatter-gather off, an answer to one and a copy of another", options: Options{Interface: eth0},
			fates: fates(fateOf(oneSlot, accepted, record(event.Bounced, event.CauseNone, 2))),
			want:  event.Probe{Seen: true, Verdict: event.Bounced, Slots: 2, Attempts: 1, Reached: true}, says: "whose owner is unknown"},
		{name: "scatter-gather off, and no head across a page", options: Options{Interface: eth0}, missing: "x",
			fates: fates(fateOf(slices.Repeat([]reported{oneSlot}, headBurst)...)),
			want:  event.Probe{Seen: true, Verdict: event.Sent, Slots: 1, Attempts: 32}, says: "x"},
		{name: "dropped before the driver", options: sgOn, fates: fates(fateOf(dropElsewhere("QDISC_DROP", "pfifo_enqueue+0x1"))),
			want: event.Probe{Attempts: 1}, says: "for the reason QDISC_DROP, at pfifo_enqueue+0x1"},
		{name: "refused by the kernel, which tells why", options: sgOn, fates: fates(fate{[]reported{dropElsewhere("NETFILTER_DROP")}, os.ErrPermission}),
			want: event.Probe{Attempts: 1}, says: "for the reason NETFILTER_DROP"},
		{name: "refused by the kernel, which does not", options: sgOn, fates: fates(fate{nil, os.ErrPermission}),
			want: event.Probe{Attempts: 1}, says: "as a packet filter may want it"},
		{name: "not seen", options: sgOn, fates: fates(fateOf(after(time.Hour, sent))),
			want: event.Probe{Attempts: 1}, says: "was not handed the datagram within 10s"},
		{name: "seen late but in time", options: sgOn, missing: "x", fates: fates(fateOf(after(2900*time.Millisecond, linearized))),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 1, Reached: true}, says: "x"},
		{name: "single pages for a moment", options: sgOn, missing: "x", fates: fates(fate{nil, rocket.ErrSinglePages}, fateOf(linearized)),
			want: event.Probe{Seen: true, Verdict: event.Linearized, Slots: 27, Attempts: 2, Reached: true}, says: "x"},
		{name: "single pages only", options: sgOn, fates: fates(fate{nil, rocket.ErrSinglePages}),
			want: event.Probe{Attempts: 32, SinglePages: true}, says: "high_order_alloc_disable"},
		{name: "sent, then freed as dropped by another driver", options: Options{Interface: other, ScatterGather: true, Slots: 18},
			fates: fates(fateOf(sent, dropElsewhere("NOT_SPECIFIED"))),
			want:  event.Probe{Seen: true, Verdict: event.Sent, Slots: 18, Attempts: 1, Reached: true}, says: "no Xen backend"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _, err := one(t, test.options, &fakeTracer{missing: test.missing}, &fakeNetwork{neighbours: known}, test.fates)
			if err != nil {
				t.Fatal(err)
			}
			got := event.Probe{Seen: r.Seen, Verdict: r.Verdict, Cause: r.Cause, Slots: r.Slots, Attempts: r.Attempts, Reached: r.Reached, SinglePages: r.SinglePages, Answer: r.Answer}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if says := r.AnswerMissing + r.Unseen; !strings.Contains(says, test.says) || test.says == "" && says != "" {
				t.Errorf("says %q, want %q", says, test.says)
			}
			if r.Time.IsZero() {
				t.Error("no time")
			}
			wantLost := test.want.Verdict == event.Dropped || test.want.Verdict == event.Rejected
			if r.Lost() != wantLost {
				t.Errorf("lost %t, want %t", r.Lost(), wantLost)
			}
		})
	}
}

// The kernel is made to find out the link address first, with one small datagram, and
// nothing more is sent to a neighbour that does not answer.
func TestProbeResolvesFirst(t *testing.T) {
	ask, silent, unknown, known := netdev.NeighbourAsked, netdev.NeighbourUnanswered, netdev.NeighbourUnknown, netdev.NeighbourKnown
	for _, test := range []struct {
		name       string
		neighbours []netdev.Neighbour
		made       string
		says       string
	}{
		{"known", []netdev.Neighbour{known}, "many", ""},
		{"answers", []netdev.Neighbour{unknown, ask, ask, known}, "small many", ""},
		{"fails, and answers now", []netdev.Neighbour{silent, ask, known}, "small many", ""},
		{"a link without link addresses", []netdev.Neighbour{unknown}, "small many", ""},
		{"does not answer", []netdev.Neighbour{unknown, ask, ask, silent}, "small", "192.0.2.1 does not answer ARP requests on interface eth0"},
		{"is asked for too long", []netdev.Neighbour{unknown, ask}, "small", "192.0.2.1 does not answer ARP requests"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Interface: eth0, ScatterGather: true, Destination: Destination{NextHop: netip.MustParseAddr("192.0.2.1")}}
			network := &fakeNetwork{neighbours: test.neighbours}
			r, senders, err := one(t, o, &fakeTracer{}, network, fates(fateOf(record(event.Dropped, event.TooManySlots, 27))))
			if made := strings.Join(senders.made, " "); err != nil || made != test.made {
				t.Errorf("sent %q, %v: want %q", made, err, test.made)
			}
			if r.Seen != (test.says == "") || !strings.Contains(r.Unseen, test.says) {
				t.Errorf("seen %t, %q: want %q", r.Seen, r.Unseen, test.says)
			}
		})
	}
}

func TestProbeFails(t *testing.T) {
	if _, _, err := one(t, Options{Interface: eth0, ScatterGather: true}, &fakeTracer{err: os.ErrInvalid}, &fakeNetwork{neighbours: known}, fates(fateOf())); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("reading fails: %v", err)
	}
	if _, _, err := one(t, Options{Interface: eth0, ScatterGather: true}, &fakeTracer{err: io.EOF}, &fakeNetwork{neighbours: known}, fates(fateOf())); err == nil {
		t.Error("the tracer is stopped: no error")
	}
	if _, _, err := one(t, Options{Interface: eth0, Slots: 19}, &fakeTracer{}, &fakeNetwork{neighbours: known}, fates(fateOf())); !errors.Is(err, trace.ErrCannotRun) || !strings.Contains(err.Error(), "scatter-gather is off") {
		t.Errorf("slots with scatter-gather off: %v", err)
	}
	for _, n := range []int{0, 2, 31} {
		if err := CheckSlots(n); err != nil {
			t.Errorf("%d slots: %v", n, err)
		}
	}
	for _, n := range []int{-1, 1, 32} {
		if err := CheckSlots(n); !errors.Is(err, ErrOutOfRange) || !strings.Contains(err.Error(), "2 to 31") {
			t.Errorf("%d slots: %v", n, err)
		}
	}
}

func TestHeadPayload(t *testing.T) {
	for size, want := range map[int]int{704: 300, 640: 236, 576: 172, 384: 16, 1024: 340} {
		if got := headPayload(size); got != want {
			t.Errorf("heads of %d: payload of %d, want %d", size, got, want)
		}
	}
	path := t.TempDir() + "/slab_size"
	if err := os.WriteFile(path, []byte("640\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := smallHeadSize(path); got != 640 {
		t.Errorf("small heads of %d, want 640", got)
	}
	if got := smallHeadSize(path + "x"); got != defaultHeadSize {
		t.Errorf("unreadable: %d, want %d", got, defaultHeadSize)
	}
}
