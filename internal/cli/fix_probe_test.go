package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
	"xentrace/test/schema"
)

// A singlePaged machine has the setting that single-pages makes.
type singlePaged struct{ *mendable }

func (singlePaged) Sysctl(string) (string, error) { return "1", nil }

// A probed run of fix is what it wrote, and what it asked of the tracer and the prober.
type probedFix struct {
	status  int
	lines   []map[string]any
	options trace.Options
	asked   []string
}

// line returns the one line of this step with another status than planned, nil if
// there is none.
func (p *probedFix) line(t *testing.T, step string) map[string]any {
	t.Helper()
	var found map[string]any
	for _, line := range p.lines {
		if line["step"] == step && line["status"] != "planned" {
			if found != nil {
				t.Fatalf("several lines of %s", step)
			}
			found = line
		}
	}
	return found
}

// fixProbing runs fix --apply on a machine whose scatter-gather is off, where a probe
// comes to this.
func fixProbing(t *testing.T, machine fix.Machine, m *mendable, r event.Probe, failure error, args string) *probedFix {
	t.Helper()
	p := &probedFix{}
	fake := newFake()
	fake.records = 0
	var stdout, stderr bytes.Buffer
	err := Run(t.Context(), strings.Fields("fix --apply --watch 10ms -o json --state "+filepath.Join(t.TempDir(), "s")+" "+args), System{
		Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: fakeSource(m),
		Changeable: func() (fix.Machine, error) { return machine, nil },
		Start: func(ctx context.Context, o trace.Options) (Tracer, error) {
			p.options = o
			return fake.start(ctx, o)
		},
		Probe: func(ctx context.Context, tracer probe.Tracer, namespace uint32, index, _ int) (event.Probe, error) {
			if !m.features["tx-scatter-gather"].Active {
				t.Error("probed before the change")
			}
			if tracer != probe.Tracer(fake) {
				t.Error("another tracer than the one that watches")
			}
			p.asked = append(p.asked, fmt.Sprintf("%d in %d", index, namespace))
			return r, failure
		},
	})
	p.status = Status(err)
	schema.Check(t, stdout.String())
	for line := range strings.Lines(stdout.String()) {
		var step map[string]any
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		p.lines = append(p.lines, step)
	}
	if stderr.Len() > 0 {
		t.Errorf("says %s", &stderr)
	}
	return p
}

func TestFixTellsWhatAProbeFound(t *testing.T) {
	t.Parallel()
	seen := func(v event.Verdict, c event.Cause, slots, attempts int, reached bool) event.Probe {
		return event.Probe{
			Interface: event.Device{Name: "eth0"}, Netfront: true, Seen: true, Verdict: v, Cause: c, Slots: slots, Limit: 18,
			Attempts: attempts, Reached: reached, Answer: event.AnswerAccepted, Flow: &event.Flow{Destination: netip.MustParseAddrPort("192.0.2.1:9")},
		}
	}
	single := event.Probe{Limit: 18, Attempts: 32, SinglePages: true, Unseen: "page fragments are single pages"}
	for _, c := range []struct {
		name        string
		result      event.Probe
		failure     error
		singlePages bool
		line        string // status of the probe's line; "" for no line
		says        string // in that line, else in the watch's
		status      int
	}{
		{name: "linearized", result: seen(event.Linearized, event.CauseNone, 27, 1, true), line: "verified",
			says: "A datagram to the default gateway, 192.0.2.1, had 27 slots (the limit is 18). The packet was over the slot limit (18); the driver copied it into one buffer and sent it. Nothing is lost while memory for the copies is found. The backend accepted it."},
		{name: "sent", result: seen(event.Sent, event.CauseNone, 27, 1, true), line: "verified", says: "sent the datagram as it was"},
		{name: "dropped", result: seen(event.Dropped, event.TooManySlots, 27, 1, true), line: "failed", says: "What was applied stays.", status: 1},
		{name: "dropped though pages are single", result: seen(event.Dropped, event.TooManySlots, 27, 1, true), singlePages: true, line: "failed", says: "27 slots", status: 1},
		{name: "rejected", result: seen(event.Rejected, event.CauseNone, 27, 1, true), line: "failed", says: "What was applied stays.", status: 1},
		{name: "never over the limit", result: seen(event.Sent, event.CauseNone, 17, 32, false), line: "applied", says: "so this proves nothing"},
		{name: "never over the limit, by single pages", result: seen(event.Sent, event.CauseNone, 17, 32, false), singlePages: true, line: "verified",
			says: "In 32 attempts no datagram of more than 18 slots could be made"},
		{name: "not to be made, by single pages", result: single, singlePages: true, line: "verified",
			says: "In 32 attempts no datagram of more than 18 slots could be made: new page fragments are single pages, so copied data stays within the limit."},
		{name: "memory is short", result: single, says: "A probe out of eth0 shows nothing: page fragments are single pages."},
		{name: "no neighbour", result: event.Probe{Unseen: "192.0.2.1 does not answer"}, singlePages: true, says: "A probe out of eth0 shows nothing: 192.0.2.1 does not answer."},
		{name: "no gateway", failure: fmt.Errorf("%w: it has no default gateway", trace.ErrCannotRun), says: "No probe was made out of eth0: it has no default gateway."},
		{name: "failure", failure: errors.New("ring buffer: torn"), says: "No probe was made out of eth0: ring buffer: torn."},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMendable()
			var machine fix.Machine = m
			if c.singlePages {
				machine = singlePaged{m}
			}
			got := fixProbing(t, machine, m, c.result, c.failure, "")
			if got.status != c.status || fmt.Sprint(got.asked) != "[2 in 4026531840]" {
				t.Errorf("status %d, want %d; probed %v", got.status, c.status, got.asked)
			}
			o := got.options
			if !o.Probe || !o.Records || !o.Rejected || o.Drops != event.DropsAll {
				t.Errorf("the tracer was started with %+v", o)
			}
			line, watch := got.line(t, "probe"), got.line(t, "watch")
			if watch == nil || watch["status"] != "verified" {
				t.Fatalf("watch: %v", watch)
			}
			if c.line == "" {
				if line != nil || !strings.HasSuffix(fmt.Sprint(watch["message"]), " "+c.says) {
					t.Errorf("%v\n%v\nwant no line of the probe, and %q", line, watch, c.says)
				}
				return
			}
			if line == nil || line["status"] != c.line || line["ifname"] != "eth0" || line["netns"] != 4026531840. || !strings.Contains(fmt.Sprint(line["message"]), c.says) {
				t.Errorf("%v\nwant %s and %q", line, c.line, c.says)
			}
			if strings.Contains(fmt.Sprint(watch["message"]), "probe") {
				t.Errorf("the watch reports the probe, too: %v", watch)
			}
		})
	}
}

// What the user does not want sent is not sent.
func TestFixSendsNoProbe(t *testing.T) {
	for args, watched := range map[string]bool{"--no-probe": true, "--watch 0": false} {
		m := newMendable()
		got := fixProbing(t, m, m, event.Probe{}, nil, args)
		if got.status != 0 || len(got.asked) > 0 || got.options.Probe || got.options.Records || got.line(t, "probe") != nil {
			t.Errorf("%s: status %d, probed %v, %+v", args, got.status, got.asked, got.options)
		}
		if watch := got.line(t, "watch"); (watch != nil) != watched || watched && strings.Contains(fmt.Sprint(watch["message"]), "probe") {
			t.Errorf("%s: %v", args, watch)
		}
	}
}
