package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/netdev"
	"xentrace/internal/verdict"
)

// A Meter measures congestion until it is closed.
type Meter interface {
	// Interfaces returns what is measured.
	Interfaces() []netdev.Interface
	// Reports returns one for each interface, of the time since the last call.
	Reports(context.Context) ([]event.CongestionReport, error)
	// Missing says which figures cannot be had on this kernel, and why.
	Missing() map[string]string
	// DropPrivileges gives up what the process does not need any more.
	DropPrivileges() error
	// Close detaches every hook.
	Close() error
}

const (
	congestionDuration = 10 * time.Second
	watchInterval      = time.Second // of --watch
)

func congestionCommand() *command {
	return &command{
		name:  "congestion",
		short: "tell whether small packets, a full ring or a slow accept hold an interface back",
		long: []string{
			"Measures for a while how many packets are sent and in what pieces, how full the transmit ring is, how often and how long the driver stops a queue for want of room, how long the backend takes for a packet, how busy the processors are, and how long connections wait to be accepted. Then it tells what the limit is, what says so, and what to do, and draws the histograms. Everything is added up in the kernel; no packet makes a record.",
			"The limit is one or more of: ring (the backend is slow), one_queue (one processor does it all), copies (the frontend copies packets), steal (the hypervisor runs others), accept_queue (an application accepts too slowly), or none.",
			"It measures for 10 s if --duration does not say otherwise. With --watch it tells the figures of each second, until it is interrupted or --duration is over. With --baseline it also tells how they differ from an earlier run that was written with --output json.",
			"On an interface of another driver than xen-netfront, named with --interface, it tells everything but what concerns the ring.",
		},
		flags:    congestionFlags(),
		duration: congestionDuration,
		examples: []example{
			{"xentrace congestion", "10 seconds of every Xen interface"},
			{"xentrace congestion -i eth0 --watch", "eth0 every second, until interrupted"},
			{"xentrace congestion -o json > before.json", "for a script, or for later:"},
			{"xentrace congestion --baseline before.json", "what has changed since"},
		},
		run: runCongestion,
	}
}

// congestionFlags are those of other commands that trace, less what chooses a backend.
func congestionFlags() []*flag {
	flags := slices.DeleteFunc(traceFlags("10s; with --watch until interrupted"), func(f *flag) bool {
		return f.name == "backend" || f.name == "rejected"
	})
	for _, f := range flags {
		if f.name == "verbose" {
			f.usage = "tell on standard error what this kernel does not let be measured"
		}
	}
	return append(flags,
		&flag{name: "watch", usage: "tell the figures of each second",
			bind: switchValue(func(s *settings) *bool { return &s.everySecond })},
		&flag{name: "baseline", value: "PATH", completes: fileNames, usage: "compare with what an earlier run wrote with --output json",
			bind: pathValue(func(s *settings) *string { return &s.baseline })})
}

func runCongestion(ctx context.Context, in *invocation) error {
	baseline, err := readBaseline(in.baseline)
	if err != nil {
		return err
	}
	ready, err := prepareReadyFile(in.readyFile)
	if err != nil {
		return err
	}
	defer ready.discard()
	console := in.console()
	meter, err := in.Measure(ctx, congestion.Options{Interfaces: in.interfaces, Wait: in.wait, Notify: console.Notify})
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	if in.verbose {
		missing := meter.Missing()
		for _, what := range slices.Sorted(maps.Keys(missing)) {
			console.Say(what + " cannot be measured: " + missing[what])
		}
	}
	m := &measuring{in: in, meter: meter, baseline: baseline}
	err = errors.Join(ready.create(), keptPrivileges(meter.DropPrivileges(), console))
	if err == nil {
		err = m.run(ctx)
	}
	return errors.Join(err, meter.Close())
}

// readBaseline reads an earlier run; an empty path means that there is none.
func readBaseline(path string) (congestion.Baseline, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("baseline: %w", err)}
	}
	defer file.Close()
	baseline, err := congestion.ReadBaseline(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("baseline %s: %w", path, err)}
	}
	return baseline, nil
}

// measuring is a run of the command.
type measuring struct {
	in       *invocation
	meter    Meter
	baseline congestion.Baseline
	facts    facts.Cache
}

// run tells what was measured when the time is up or it is interrupted, and with
// --watch every second before.
func (m *measuring) run(ctx context.Context) error {
	last := context.WithoutCancel(ctx)
	var end <-chan time.Time
	if m.in.duration > 0 && !(m.in.everySecond && !m.in.durationGiven) {
		timer := time.NewTimer(m.in.duration)
		defer timer.Stop()
		end = timer.C
	}
	var tick <-chan time.Time
	if m.in.everySecond {
		ticker := time.NewTicker(watchInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-tick:
			if err := m.tell(last); err != nil {
				return err
			}
			continue
		case <-ctx.Done():
		case <-end:
		}
		return m.tell(last)
	}
}

// tell writes a report of each interface.
func (m *measuring) tell(ctx context.Context) error {
	reports, err := m.meter.Reports(ctx)
	if err != nil {
		return err
	}
	lines := m.in.reportLines()
	for i := range reports {
		if i > 0 && m.in.format != "json" && !m.in.everySecond {
			err = m.in.print("\n")
		}
		c := &event.Congestion{Report: &reports[i], Judgment: verdict.OfCongestion(&reports[i], m.facts.Of(event.Device{Name: reports[i].Name, Index: reports[i].Index, NetNS: reports[i].NetNS})), Changes: m.baseline.Changes(&reports[i])}
		if err = errors.Join(err, lines.Emit(c)); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
	return nil
}
