package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/verdict"
)

// A Meter measures congestion until it is closed.
type Meter interface {
	// Interfaces returns what is measured.
	Interfaces() []netdev.Interface
	// Reports returns one for each interface, of the time since the last call.
	Reports(context.Context) ([]event.CongestionReport, error)
	// Missing returns which figures cannot be measured on this kernel, and why.
	Missing() map[string]string
	// DropPrivileges becomes the user and drops all privileges that measuring does not need.
	DropPrivileges(kernel.User) error
	// Close detaches every hook.
	Close() error
}

const (
	congestionDuration = 10 * time.Second
	watchInterval      = time.Second // of --watch
)

type congestionOptions struct {
	*app
	writing
	interfaces  []string
	btf         string
	wait        bool
	duration    time.Duration // 0: until interrupted
	limit       time.Duration // the duration, if it was given: bounds the wait too
	everySecond bool
	baseline    string // path of an earlier run's JSON
	readyFile   string
	user        kernel.User
}

func (a *app) congestionCommand() *cobra.Command {
	o := &congestionOptions{app: a, writing: newWriting(), duration: congestionDuration, user: kernel.Nobody}
	c := &cobra.Command{
		Use: "congestion [flags]", Short: "Find the bottleneck: TX ring, one CPU, copies, steal or accept",
		Long: `Measures packet rate and sizes, TX ring occupancy, stopped queues, backend
latency, CPU load and accept queues. Reports the bottleneck with evidence and
remedies: ring (slow backend), one_queue (one CPU handles all interrupts),
copies, steal (the host gives this VM too little CPU), accept_queue (slow
application), or none.`,
		Args: none,
		Example: `  xentrace congestion                         10 seconds of every Xen interface
  xentrace congestion -i eth0 --watch         eth0, every second
  xentrace congestion -o json > before.json   for a later comparison:
  xentrace congestion --baseline before.json`,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case c.Flags().Changed("duration"):
				o.limit = o.duration
			case o.everySecond:
				o.duration = 0
			}
			return o.run(c.Context())
		},
	}
	interfaceFlag(c, &o.interfaces, "interface in this network namespace; without it, every xen-netfront interface")
	btfFlag(c, &o.btf)
	toggle(c, &o.wait, "wait", "", "wait for an interface instead of failing")
	parsed(c, &o.duration, "duration", "d", "TIME", "10s; with --watch until interrupted", "stop after this time, e.g. 30s; 0: never", parseDuration)
	toggle(c, &o.everySecond, "watch", "", "report every second")
	path(c, &o.baseline, "baseline", "", "compare with this output of an earlier run with -o json")
	readyFlag(c, &o.readyFile)
	userFlag(c, &o.user)
	o.writing.flags(c, "report on stderr what this kernel cannot measure")
	return c
}

func (o *congestionOptions) run(ctx context.Context) error {
	baseline, err := readBaseline(ctx, o.baseline)
	if err != nil {
		return err
	}
	ready, err := prepareReadyFile(o.readyFile)
	if err != nil {
		return err
	}
	defer ready.discard()
	console := o.console()
	starting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	waited := wait{limit: o.limit, giveUp: giveUp}
	meter, err := o.Measure(starting, congestion.Options{Interfaces: o.interfaces, BTF: o.btf, Wait: o.wait, Notify: waited.notify(console.Notify)})
	if late := waited.end(); late != nil {
		err = late
		if meter != nil {
			err = errors.Join(err, meter.Close())
		}
	}
	if err != nil {
		return err
	}
	o.duration = waited.rest(o.duration)
	if o.verbose {
		missing := meter.Missing()
		for _, what := range slices.Sorted(maps.Keys(missing)) {
			console.Say(what + " cannot be measured: " + missing[what])
		}
	}
	m := &measuring{in: o, meter: meter, baseline: baseline}
	err = errors.Join(ready.create(), keptPrivileges(meter.DropPrivileges(o.user), console))
	if err == nil {
		err = m.run(ctx)
	}
	return errors.Join(err, meter.Close())
}

// readBaseline reads an earlier run, until ctx ends; an empty path means that there is none.
func readBaseline(ctx context.Context, path string) (congestion.Baseline, error) {
	if path == "" {
		return nil, nil
	}
	var baseline congestion.Baseline
	read := make(chan error, 1)
	go func() { // open(2) of a named pipe without a writer blocks
		var err error
		baseline, err = readBaselineFile(path)
		read <- err
	}()
	select {
	case err := <-read:
		return baseline, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func readBaselineFile(path string) (congestion.Baseline, error) {
	var baseline congestion.Baseline
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		baseline, err = congestion.ReadBaseline(file)
	}
	var failure *fs.PathError
	if errors.As(err, &failure) {
		err = failure.Err // the path is named as it was given
	}
	if err != nil {
		return nil, ofPath(fmt.Errorf("baseline %s: %w", path, err))
	}
	return baseline, nil
}

type measuring struct {
	in       *congestionOptions
	meter    Meter
	baseline congestion.Baseline
	facts    facts.Cache
}

// run reports what was measured when the time is up or it is interrupted, and with
// --watch every second before.
func (m *measuring) run(ctx context.Context) error {
	last := context.WithoutCancel(ctx)
	var end <-chan time.Time
	if m.in.duration > 0 {
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
			if err := m.report(last); err != nil {
				return err
			}
			continue
		case <-ctx.Done():
		case <-end:
		}
		return m.report(last)
	}
}

// report writes a report of each interface.
func (m *measuring) report(ctx context.Context) error {
	reports, err := m.meter.Reports(ctx)
	if err != nil {
		return err
	}
	lines := m.in.reportSink(&m.in.writing, false, m.in.everySecond)
	for i := range reports {
		if i > 0 && !m.in.json() && !m.in.everySecond {
			err = m.in.print("\n")
		}
		c := &event.Congestion{Report: &reports[i], Judgment: verdict.OfCongestion(&reports[i], m.facts.Of(event.Device{Name: reports[i].Name, Index: reports[i].Index, NetNS: reports[i].NetNS})), Changes: m.baseline.Changes(&reports[i])}
		if err = errors.Join(err, lines.Emit(c)); err != nil {
			return err
		}
	}
	return nil
}
