package session

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/flow"
)

// A recorder is a sink that keeps what it was given, in order, and may fail.
type recorder struct {
	emitted []string
	summary *event.Summary
	err     error
	closed  int
}

func (r *recorder) Emit(e event.Event) error {
	switch e := e.(type) {
	case *event.Packet:
		r.emitted = append(r.emitted, "packet "+e.Verdict.String())
	case *event.FlowEvent:
		r.emitted = append(r.emitted, e.Flow.State.String())
	case *event.Summary:
		r.summary = e
	}
	return r.err
}

func (r *recorder) Close() error {
	r.closed++
	return r.err
}

// recovering is a kernel in which every connection recovers, and then ends.
type recovering struct{ asked int }

func (*recovering) Follow(event.Socket) error { return nil }
func (*recovering) Forget(event.Socket)       {}

func (k *recovering) Endings() (uint64, error) { return uint64(k.asked), nil }

func (k *recovering) Ask(sockets []event.Socket) ([]event.Connection, error) {
	k.asked++
	tcp := event.TCP{State: 1, SndUna: 5000, SndNxt: 5000, WriteSeq: 5000, TotalRetransmits: 1}
	return slices.Repeat([]event.Connection{{Time: time.Now(), Known: true, Ended: k.asked > 1, TCP: tcp}}, len(sockets)), nil
}

// dropped is the record of a segment that is dropped each time.
func dropped() *event.Packet {
	return &event.Packet{
		Time: time.Now(), Interface: event.Device{Name: "eth0", Index: 2, NetNS: 4026531840},
		Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 19, Limit: 18, Len: 1514,
		Flow: &event.Flow{
			Proto: 6, Source: netip.MustParseAddrPort("10.0.0.1:49152"), Destination: netip.MustParseAddrPort("10.0.0.9:5001"),
			Seq: 1000, SeqKnown: true, SeqLength: 1448,
		},
		TCP:    &event.TCP{State: 1, Seq: 1000, SndUna: 1000, SndNxt: 2448, WriteSeq: 2448},
		Socket: &event.Socket{Address: 7},
	}
}

// Packets and flow events come in the order in which they happened, each flow event
// behind the packet that caused it.
func TestOrderOfEvents(t *testing.T) {
	r := &recorder{}
	p := &pipeline{flows: flow.NewTable(0, &recovering{}), sink: r}
	for _, do := range []func() error{
		func() error { return p.add(dropped()) },
		func() error { return p.add(dropped()) },
		p.poll,
		p.poll,
		p.poll,
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"packet dropped", "packet dropped", "stalled", "recovered", "closed"}
	if !slices.Equal(r.emitted, want) {
		t.Errorf("emitted %q, want %q", r.emitted, want)
	}
}

// A filter chooses what is shown, of packets and of flows; histories take in every packet.
func TestFilteredEventsAreCounted(t *testing.T) {
	r := &recorder{}
	p := &pipeline{flows: flow.NewTable(0, nil), filter: &filter.Filter{Ports: []uint16{443}}, sink: r}
	for range 3 {
		if err := p.add(dropped()); err != nil {
			t.Fatal(err)
		}
	}
	shown := dropped()
	shown.Verdict, shown.Cause, shown.Flow.Destination = event.Linearized, event.CauseNone, netip.MustParseAddrPort("10.0.0.9:443")
	if err := p.add(shown); err != nil {
		t.Fatal(err)
	}
	if want := []string{"packet linearized"}; !slices.Equal(r.emitted, want) {
		t.Errorf("emitted %q, want %q", r.emitted, want)
	}
	summary := p.summary(&event.Totals{})
	// 3 packets, and that their flow stalled.
	if summary.LeftOut != 4 || summary.Flows.EverStalled != 1 || p.packets != 1 {
		t.Errorf("%d left out, %d stalled, %d packets shown; want 4, 1, 1", summary.LeftOut, summary.Flows.EverStalled, p.packets)
	}
	if totals := (&event.Totals{Interfaces: []event.InterfaceTotals{{Counts: event.Counts{Dropped: 3}}}}); p.anyDropped(totals) {
		t.Error("a drop that did not pass the filter is reported")
	}
}

// A finite source ends with what the test says.
type finite struct {
	packets int
	err     error
	stopped chan struct{}
	closed  int
}

func (f *finite) Next(ctx context.Context) (event.Event, error) {
	if f.packets > 0 {
		f.packets--
		return dropped(), nil
	}
	if f.err != nil {
		return nil, f.err
	}
	select {
	case <-f.stopped:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *finite) Totals(context.Context) (event.Totals, error) { return event.Totals{Events: 5}, nil }

func (f *finite) Stop(context.Context) error {
	close(f.stopped)
	return nil
}

func (f *finite) Close() error {
	f.closed++
	return nil
}

// Whatever ends a run, the source is stopped and drained, the summary is the last event,
// and both ends are closed once.
func TestEndOfARun(t *testing.T) {
	failure := errors.New("ring buffer: gone")
	full := errors.New("disk full")
	for _, test := range []struct {
		name    string
		options Options
		source  finite
		sink    recorder
		cancel  bool
		packets int
		err     error
	}{
		{"interrupted: what was read before is drained", Options{}, finite{packets: 5}, recorder{}, true, 5, nil},
		{"its time is up", Options{Duration: time.Millisecond}, finite{}, recorder{}, false, 0, nil},
		{"as many packets as asked for", Options{Count: 2}, finite{packets: 5}, recorder{}, false, 2, nil},
		{"the source fails", Options{}, finite{packets: 1, err: failure}, recorder{}, false, 1, failure},
		{"the sink fails", Options{}, finite{packets: 5}, recorder{err: full}, false, 1, full},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.cancel {
				cancel()
			}
			source, sink := test.source, test.sink
			source.stopped = make(chan struct{})
			test.options.Source, test.options.Sink = &source, &sink
			result, err := Run(ctx, test.options)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if len(sink.emitted) != test.packets || sink.summary == nil || sink.summary.Events != 5 || result.Totals.Events != 5 {
				t.Errorf("%d packets, summary %v, totals of %d events; want %d packets and 5 events", len(sink.emitted), sink.summary, result.Totals.Events, test.packets)
			}
			if source.closed != 1 || sink.closed != 1 {
				t.Errorf("source closed %d times, sink %d times", source.closed, sink.closed)
			}
		})
	}
}
