package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

func checkCommand() *command {
	return &command{
		name:  "check",
		short: "tell whether this machine loses packets in Xen's frontend, and why",
		long: []string{
			"Looks at what decides whether the Xen network frontend loses packets: what the driver's machine code does with a packet of too many slots, the features and the MTU of its interfaces, their counters, the kernel's log, queues and interrupts, and more. Each finding is OK, WARN, FAIL or UNKNOWN, with the evidence it stands on and advice; those that matter most come first. With --verbose the evidence of what is OK is told too.",
			"It takes less than a second and changes nothing. What needs root is UNKNOWN without it, and the finding says so: the driver's code is then read from the module on disk, the interfaces of other network namespaces are not looked at.",
			"With --driver-file it answers for one file only whether the driver in it linearizes: a module (also .xz, .zst or .gz) or a vmlinux with symbols, for amd64 or arm64. That needs neither root nor Xen.",
			"The exit status is 1 if there is a WARN or a FAIL.",
		},
		flags: []*flag{
			{name: "interface", short: "i", value: "NAME", completes: interfaceNames,
				usage:   "this interface of the caller's network namespace; may be given again for more",
				initial: "every interface driven by xen-netfront in any namespace",
				bind:    interfaceValue},
			{name: "driver-file", value: "PATH", completes: fileNames, usage: "look at the driver in this file only",
				bind: pathValue(func(s *settings) *string { return &s.driverFile })},
			{name: "ec2rl", usage: "tell too what two modules of EC2 Rescue for Linux would say here, and whether that is right",
				bind: switchValue(func(s *settings) *bool { return &s.ec2rl })},
			{name: "observe", value: "TIME", usage: "trace the interfaces for this time first, such as 5s, and tell how often small packets cross a page (needs root)",
				bind: observeValue},
			{name: "ready-file", value: "PATH", completes: fileNames, usage: "with --observe, create this file once every hook is attached",
				bind: pathValue(func(s *settings) *string { return &s.readyFile })},
			outputFlag(),
			colorFlag(),
			{name: "verbose", short: "v", usage: "tell the evidence of findings that are OK too",
				bind: switchValue(func(s *settings) *bool { return &s.verbose })},
		},
		examples: []example{
			{"sudo xentrace check", "everything about this machine"},
			{"xentrace check --driver-file ./xen-netfront.ko.xz", "one driver, for whoever builds images"},
			{"sudo xentrace check --ec2rl --observe 5s -o json", "for a script, beside what ec2rl says"},
		},
		run: runCheck,
	}
}

func runCheck(ctx context.Context, in *invocation) error {
	report, err := in.report(ctx)
	if err != nil {
		return err
	}
	if err := in.reportLines().Emit(report); err != nil {
		return err
	}
	if check.Worst(report.Findings) >= event.Warn {
		return errFinding
	}
	return nil
}

// report is what the flags ask for.
func (in *invocation) report(ctx context.Context) (*event.Report, error) {
	if in.driverFile != "" {
		if len(in.interfaces) > 0 || in.ec2rl || in.observe > 0 {
			return nil, usageError{errors.New("check: --driver-file looks at that file only: it goes with none of --interface, --ec2rl and --observe")}
		}
		return fileReport(ctx, in.driverFile)
	}
	if in.readyFile != "" && in.observe == 0 {
		return nil, usageError{errors.New("check: --ready-file goes with --observe: nothing else attaches anything")}
	}
	source, err := in.Machine()
	if err != nil {
		return nil, err
	}
	var observed *observation
	if in.observe > 0 {
		if observed, err = in.observeFor(ctx); err != nil {
			return nil, err
		}
		ctx = context.WithoutCancel(ctx) // an interrupt ends the observing
	}
	machine, err := check.Read(ctx, source, in.interfaces)
	if err != nil {
		return nil, err
	}
	observed.addTo(machine)
	report := &event.Report{Findings: check.Judge(machine)}
	if in.ec2rl {
		report.EC2RL = check.EC2RL(machine)
	}
	return report, nil
}

// fileReport is the report on one driver's file.
func fileReport(ctx context.Context, path string) (*event.Report, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, usageError{fmt.Errorf("driver file %s: not a regular file", path)}
	}
	file, err := check.ReadFile(ctx, os.DirFS(filepath.Dir(path)), filepath.Base(path))
	var failure *fs.PathError
	if errors.As(err, &failure) {
		err = failure.Err // the path as it was given says more
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("driver file %s: %w", path, err)}
	}
	file.Path = path
	return &event.Report{Findings: []event.Finding{check.OfFile(file)}}, nil
}

// reportLines returns the sink that --output asks for, of commands that look and do not trace.
func (in *invocation) reportLines() *output.Lines {
	if in.format == "json" {
		return output.NewJSON(in.Stdout)
	}
	return output.NewText(in.Stdout, &output.Text{
		Width:    func() int { return in.columns(in.Stdout, reportWidth) },
		Color:    in.coloured(in.color, in.Stdout),
		Blocks:   in.blocks(),
		Evidence: in.verbose || in.driverFile != "",
		Short:    in.everySecond,
	})
}

// reportWidth is how wide a report is where no terminal tells.
const reportWidth = 80

// An observation is what the tracer counted, or why it did not.
type observation struct {
	totals event.Totals
	err    error
}

// observeFor traces for a while. What keeps the tracer from it is part of the
// observation; the error is about the ready file.
func (in *invocation) observeFor(ctx context.Context) (*observation, error) {
	ready, err := prepareReadyFile(in.readyFile)
	if err != nil {
		return nil, err
	}
	defer ready.discard()
	tracer, err := in.Start(ctx, trace.Options{Interfaces: in.interfaces, Backend: event.Auto})
	if err != nil {
		return &observation{err: err}, nil
	}
	if err := ready.create(); err != nil {
		return nil, errors.Join(err, tracer.Close())
	}
	timer := time.NewTimer(in.observe)
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
	if o == nil {
		return
	}
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
