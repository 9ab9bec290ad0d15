package cli

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/flow"
)

// recorder is a sink that keeps what it is told, in order, and may refuse.
type recorder struct {
	told []string
	err  error
}

func (r *recorder) packet(p *event.Packet) error {
	r.told = append(r.told, "packet "+p.Verdict.String())
	return r.err
}

func (r *recorder) event(e *event.FlowEvent) error {
	r.told = append(r.told, e.Flow.State.String())
	return r.err
}

// goingOn is a kernel in which every connection has gone on, and then ends.
type goingOn struct{ asked int }

func (*goingOn) Follow(event.Socket) error { return nil }
func (*goingOn) Forget(event.Socket)       {}

func (k *goingOn) Endings() (uint64, error) { return uint64(k.asked), nil }

func (k *goingOn) Ask(sockets []event.Socket) ([]event.Connection, error) {
	k.asked++
	tcp := event.TCP{State: 1, SndUna: 5000, SndNxt: 5000, WriteSeq: 5000, TotalRetransmits: 1}
	return slices.Repeat([]event.Connection{{Time: time.Now(), Known: true, Ended: k.asked > 1, TCP: tcp}}, len(sockets)), nil
}

// dropped is the record of a segment that is dropped each time.
func dropped() *event.Packet {
	p := newFake().packet(0)
	p.Time, p.Verdict, p.Cause = time.Now(), event.Dropped, event.TooManySlots
	p.Flow.Seq, p.Flow.SeqKnown, p.Flow.SeqLength = 1000, true, 1448
	p.TCP.Seq, p.TCP.SndUna, p.TCP.SndNxt, p.TCP.WriteSeq = 1000, 1000, 2448, 2448
	p.Socket = &event.Socket{Address: 7}
	return &p
}

// Packets and events come in the order in which they happened, each event behind the
// packet that made it one.
func TestFeedKeepsTheOrder(t *testing.T) {
	r := &recorder{}
	f := &feed{table: flow.NewTable(0, &goingOn{}), sink: r}
	for _, do := range []func() error{
		func() error { return f.packet(dropped()) },
		func() error { return f.packet(dropped()) },
		f.poll,
		f.poll,
		f.poll,
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"packet dropped", "packet dropped", "stalled", "recovered", "closed"}
	if !slices.Equal(r.told, want) {
		t.Errorf("told %q, want %q", r.told, want)
	}
}

// A sink that refuses ends the feeding.
func TestFeedEndsWithItsSink(t *testing.T) {
	refused := errors.New("nobody listens")
	f := &feed{table: flow.NewTable(0, nil), sink: &recorder{err: refused}}
	if err := f.packet(dropped()); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if err := f.poll(); err != nil {
		t.Errorf("error %v with nothing to tell", err)
	}
}

// watch has numbers of flows in its summary, hist has none and says why.
func TestSummariesTellOfFlows(t *testing.T) {
	for _, command := range []string{"watch", "hist"} {
		got := runWith(t, newFake(), command, "-o", "json", "-d", "50ms")
		lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
		var summary struct {
			FlowsStalled *uint64 `json:"flows_stalled"`
			Lost         struct{ Flows *uint64 }
			Missing      map[string]string
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &summary); err != nil {
			t.Fatalf("%v: %s", err, got.stdout)
		}
		known := summary.FlowsStalled != nil && *summary.FlowsStalled == 0 && summary.Lost.Flows != nil && *summary.Lost.Flows == 0
		if known != (command == "watch") || (summary.Missing["flows"] == "") != (command == "watch") {
			t.Errorf("%s: %s", command, lines[len(lines)-1])
		}
	}
}
