package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

type checkOptions struct {
	*app
	writing
	interfaces []string
	driverFile string
	btf        string
	ec2rl      bool
	observe    time.Duration
	readyFile  string
	user       kernel.User
}

func (a *app) checkCommand() *cobra.Command {
	o := &checkOptions{app: a, writing: newWriting(), user: kernel.Nobody}
	o.formats = append(o.formats, formatPrometheus, formatNagios)
	c := &cobra.Command{
		Use: "check [flags]", Short: "Check whether this machine is susceptible to drops, and to which",
		Long: `Checks the driver's machine code, interface features, MTU, counters, kernel log,
queues and interrupts. Each finding is OK, WARN, FAIL or UNKNOWN, with evidence
and remedies. Changes nothing. Without root some findings are UNKNOWN. Exits 1
if a finding is WARN or FAIL.`,
		Args: none,
		Example: `  sudo xentrace check
  sudo xentrace check --observe 5s -o json
  sudo xentrace check -o nagios                      exits 0, 1, 2 or 3
  xentrace check --driver-file xen-netfront.ko.xz    needs no root, no Xen`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	interfaceFlag(c, &o.interfaces, "interface in this network namespace; without it, every xen-netfront interface")
	path(c, &o.driverFile, "driver-file", "", "check only this driver: a module (.ko, .xz, .zst, .gz) or vmlinux")
	btfFlag(c, &o.btf)
	toggle(c, &o.ec2rl, "ec2rl", "", "also show what EC2 Rescue for Linux would report")
	parsed(c, &o.observe, "observe", "", "TIME", "", "also trace this long; count packets that straddle a page boundary (root)", parseObservation)
	readyFlag(c, &o.readyFile)
	userFlag(c, &o.user)
	o.writing.flags(c, "also show the evidence of findings that are OK")
	return c
}

func parseObservation(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err == nil && d == 0 {
		return 0, errors.New("must be > 0")
	}
	return d, err
}

// Formats of check for monitoring: node_exporter's textfile collector, and Nagios plugins.
const (
	formatPrometheus = "prometheus"
	formatNagios     = "nagios"
)

func (o *checkOptions) run(ctx context.Context) error {
	report, err := o.report(ctx)
	switch {
	case o.format == formatNagios:
		return o.printNagios(report, err)
	case err != nil:
		return err
	case o.format == formatPrometheus:
		return o.print(string(output.AppendPrometheus(nil, report.Findings, time.Now())))
	}
	if err := o.reportSink(&o.writing, o.verbose || o.driverFile != "", false).Emit(report); err != nil {
		return err
	}
	if check.Worst(report.Findings) >= event.Warn {
		return errFinding
	}
	return nil
}

// A nagiosStatus is what a Nagios plugin exits with.
type nagiosStatus int

func (nagiosStatus) Error() string { return "a finding is not OK" }

// printNagios writes what was found, or why nothing was.
func (o *checkOptions) printNagios(report *event.Report, failure error) error {
	if failure != nil {
		return errors.Join(nagiosStatus(output.MetricStatus(event.Unknown)), o.print(output.NagiosFailure(failure)))
	}
	if err := o.print(string(output.AppendNagios(nil, report.Findings))); err != nil {
		return err
	}
	if status := output.MetricStatus(check.Worst(report.Findings)); status != 0 {
		return nagiosStatus(status)
	}
	return nil
}

func (o *checkOptions) report(ctx context.Context) (*event.Report, error) {
	if o.driverFile != "" {
		if len(o.interfaces) > 0 || o.ec2rl || o.observe > 0 {
			return nil, usageError{errors.New("--driver-file checks only that file; drop --interface, --ec2rl and --observe")}
		}
		return fileReport(ctx, o.driverFile)
	}
	if o.readyFile != "" && o.observe == 0 {
		return nil, usageError{errors.New("--ready-file needs --observe; nothing else attaches")}
	}
	source, err := o.Machine()
	if err != nil {
		return nil, err
	}
	if o.btf != "" {
		source = source.WithTypes(o.btf)
	}
	if o.observe > 0 {
		if err := o.anyToObserve(ctx, source); err != nil {
			return nil, err
		}
	}
	machine, err := check.Read(ctx, source, o.interfaces)
	if err != nil {
		return nil, err
	}
	if o.observe > 0 { // last, since it drops the privileges that reading takes
		observed, err := o.observeFor(ctx)
		if err != nil {
			return nil, err
		}
		observed.addTo(machine)
	}
	report := &event.Report{Findings: check.Judge(machine)}
	if o.ec2rl {
		report.EC2RL = check.EC2RL(machine)
	}
	return report, nil
}

// anyToObserve is an error unless there is an interface whose packets --observe is about.
func (o *checkOptions) anyToObserve(ctx context.Context, source check.Source) error {
	links, err := source.Links(ctx, o.interfaces)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(links.Judged, func(i check.Interface) bool { return i.IsNetfront() }) {
		return fmt.Errorf("%w: --observe: no xen-netfront interface found; run check without it", trace.ErrCannotRun)
	}
	return nil
}

func fileReport(ctx context.Context, path string) (*event.Report, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, usageError{fmt.Errorf("driver file %s: not a regular file", path)}
	}
	file, err := check.ReadFile(ctx, os.DirFS(filepath.Dir(path)), filepath.Base(path))
	var failure *fs.PathError
	if errors.As(err, &failure) {
		err = failure.Err // the path is named as it was given
	}
	if err != nil {
		return nil, ofPath(fmt.Errorf("driver file %s: %w", path, err))
	}
	file.Path = path
	return &event.Report{Findings: []event.Finding{check.OfFile(file)}}, nil
}

// reportWidth is how wide a report is where no terminal shows.
const reportWidth = 80

// An observation is what the tracer counted, or why it did not.
type observation struct {
	totals event.Totals
	err    error
}

// observeFor traces for a while. What keeps the tracer from it is part of the
// observation; the error is about the ready file.
func (o *checkOptions) observeFor(ctx context.Context) (*observation, error) {
	ready, err := prepareReadyFile(o.readyFile)
	if err != nil {
		return nil, err
	}
	defer ready.discard()
	tracer, err := o.Start(ctx, trace.Options{Interfaces: o.interfaces, Backend: event.Auto, BTF: o.btf})
	if err != nil {
		return &observation{err: err}, nil
	}
	err = errors.Join(ready.create(), keptPrivileges(tracer.DropPrivileges(context.WithoutCancel(ctx), o.user), o.console()))
	if err != nil {
		return nil, errors.Join(err, tracer.Close())
	}
	timer := time.NewTimer(o.observe)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	last := context.WithoutCancel(ctx)
	stopped := tracer.Stop(last)
	totals, err := tracer.Totals(last)
	return &observation{totals, errors.Join(stopped, err, tracer.Close())}, nil
}

// addTo gives each interface what was counted on it.
func (o *observation) addTo(m *check.Machine) {
	for n := range m.Interfaces {
		i := &m.Interfaces[n]
		i.Observed = &check.Observation{Missing: "the interface was not there"}
		if o.err != nil {
			i.Observed.Missing = o.err.Error()
		}
		for t := range o.totals.Interfaces {
			if totals := &o.totals.Interfaces[t]; o.err == nil && totals.Index == i.Index && totals.NetNS == i.Namespace {
				i.Observed = &check.Observation{Duration: o.totals.Duration, Totals: *totals}
			}
		}
	}
}
