package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

type watchOptions struct {
	tracing
	filter   filter.Filter
	exitCode bool
	live     bool
}

func (a *app) watchCommand() *cobra.Command {
	o := &watchOptions{tracing: a.newTracing()}
	c := &cobra.Command{
		Use: "watch [flags] [EXPRESSION]", Short: "Show each dropped, linearized or bounced packet, and a summary",
		Long: `Prints a line for each packet that xen-netfront drops, linearizes or bounces, a
line for each TCP connection that stalls or recovers, and a summary with advice.
Filters and EXPRESSION, a pcap filter, select what is printed, not what counts.`,
		Args: expressionArgument(&o.filter), ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  xentrace watch                           every Xen interface
  xentrace watch -i eth0 -d 1m -o json     one minute of eth0, as JSON lines
  xentrace watch --comm nginx tcp port 443 and net 10.0.0.0/8
  xentrace watch -o pcapng | tshark -r -`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.chooseSnap(c); err != nil {
				return err
			}
			return o.run(c.Context())
		},
	}
	o.formats = append(o.formats, formatPcapng)
	o.tracing.flags(c)
	toggle(c, &o.live, "live", "", "full-screen view: counters, worst flows, last events")
	o.recording.flags(c)
	parsed(c, &o.recording.snap, "snap", "", "BYTES", "0", snapUsage, parseSnap)
	o.eventFlags(c)
	parsed(c, &o.count, "count", "", "N", "", "stop after this many reported packets", parseCount)
	toggle(c, &o.exitCode, "exit-code", "", "exit 1 if a matching packet was dropped")
	return c
}

// eventFlags choose what is reported.
func (o *watchOptions) eventFlags(c *cobra.Command) {
	word(c, &o.drops, "drops", "", "WHICH", "drops: driver, all (elsewhere too)", string(event.DropsDriver), string(event.DropsAll))
	word(c, &o.dropsHook, "drops-hook", "", "NAME", "hook of --drops all", string(trace.DropsTracepoint), string(trace.DropsKprobe))
	toggle(c, &o.stack, "stack", "", "with the kernel and user stack of the sender")
	parsed(c, &o.ringBytes, "ring-size", "", "BYTES", "auto", "ring buffer size, e.g. 16MiB", parseRingSize)
	filterFlags(c, &o.filter)
}

// validate refuses flags that would do nothing.
func (o *watchOptions) validate() error {
	if o.dropsHook != string(trace.DropsTracepoint) && o.drops != string(event.DropsAll) {
		return usageError{errors.New("--drops-hook: needs --drops all")}
	}
	if slices.Contains(o.filter.Verdicts, event.Rejected) && !o.rejected {
		return usageError{errors.New("--verdict rejected: needs --rejected")}
	}
	if err := o.refuseTerminal(&o.writing); err != nil {
		return err
	}
	return nil
}

func (o *watchOptions) run(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return err
	}
	wanted, err := o.wantsScreen()
	if err != nil {
		return err
	}
	o.live = wanted
	result, err := o.watch(ctx)
	if ignoringPipe(err) == nil && o.exitCode && result.Dropped {
		return errFinding
	}
	return err
}

// watch reports packets until the end.
func (o *watchOptions) watch(ctx context.Context) (session.Result, error) {
	var options session.Options
	var screen *screen
	t, err := attach(ctx, &o.tracing, true, func(t *traced) {
		options = t.followed(&o.filter)
		if o.live {
			screen = t.openScreen(options.Flows, &o.filter)
		}
	})
	if t == nil {
		return session.Result{}, o.neverAttached(ctx, false, err)
	}
	return t.run(ctx, t.stream(false), screen, options)
}

func filterFlags(c *cobra.Command, f *filter.Filter) {
	none := cobra.NoFileCompletions
	list(c, &f.Hosts, "host", "", "ADDRESS", "only packets of this address or network", none, filter.ParseHost)
	list(c, &f.Ports, "port", "", "N", "only packets from or to this port", none, filter.ParsePort)
	list(c, &f.PIDs, "pid", "", "N", "only packets of this process's sockets", none, filter.ParsePID)
	list(c, &f.Comms, "comm", "", "NAME", "only packets of processes with this name", none, filter.ParseComm)
	list(c, &f.Causes, "cause", "", "NAME", "only drops with this cause: "+strings.Join(filter.CauseWords(), ", "), fixed(filter.CauseWords()...), filter.ParseCause)
	list(c, &f.Verdicts, "verdict", "", "NAME", "only packets with this verdict: "+strings.Join(filter.VerdictWords(), ", "), fixed(filter.VerdictWords()...), filter.ParseVerdict)
	parsed(c, &f.MinSlots, "min-slots", "", "N", "", "only packets of at least this many slots", filter.ParseMinSlots)
}
