package cli

import (
	"context"
	"errors"
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
		Use: "watch [flags]", Short: "Show each dropped, linearized or bounced packet, and a summary",
		Long: `Prints a line for each packet that xen-netfront drops, linearizes or bounces, a
line for each TCP connection that stalls or recovers, and a summary with causes
and what to do. Filters select what is printed; every packet is counted.`,
		Args: arguments("", 0, 0),
		Example: `  xentrace watch                           every Xen interface
  xentrace watch -i eth0 -d 1m -o json     one minute of eth0, as JSON lines
  xentrace watch -i eth0 --drops all -v    also drops before the driver
  xentrace watch --host 10.0.0.0/8 --comm nginx`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.tracing.flags(c)
	toggle(c, &o.live, "live", "", "full-screen view: counters, worst flows, last events")
	word(c, &o.drops, "drops", "", "WHICH", "drops to report, by the driver or also before it", string(event.DropsDriver), string(event.DropsAll))
	word(c, &o.dropsHook, "drops-hook", "", "NAME", "hook of --drops all", string(trace.DropsTracepoint), string(trace.DropsKprobe))
	toggle(c, &o.stack, "stack", "", "show the kernel and user stack of the sender")
	o.filterFlags(c)
	parsed(c, &o.count, "count", "", "N", "", "stop after this many reported packets", parseCount)
	toggle(c, &o.exitCode, "exit-code", "", "exit 1 if a matching packet was dropped")
	parsed(c, &o.ringBytes, "ring-size", "", "BYTES", "4MiB", "ring buffer size, a power of two (KiB, MiB)", parseRingSize)
	return c
}

func (o *watchOptions) run(ctx context.Context) error {
	if o.dropsHook != string(trace.DropsTracepoint) && o.drops != string(event.DropsAll) {
		return usageError{errors.New("watch: --drops-hook: needs --drops all; see xentrace help watch")}
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
		return session.Result{}, err
	}
	return t.run(ctx, t.stream(false), screen, options)
}

func (o *watchOptions) filterFlags(c *cobra.Command) {
	f := &o.filter
	none := cobra.NoFileCompletions
	list(c, &f.Hosts, "host", "", "ADDRESS", "only packets from or to this address or network", none, filter.ParseHost)
	list(c, &f.Ports, "port", "", "N", "only packets from or to this port", none, filter.ParsePort)
	list(c, &f.PIDs, "pid", "", "N", "only packets of this process's sockets", none, filter.ParsePID)
	list(c, &f.Comms, "comm", "", "NAME", "only packets of processes with this name", none, filter.ParseComm)
	list(c, &f.Causes, "cause", "", "NAME", "only drops with this cause: "+strings.Join(filter.CauseWords(), ", "), fixed(filter.CauseWords()...), filter.ParseCause)
	list(c, &f.Verdicts, "verdict", "", "NAME", "only packets with this verdict: "+strings.Join(filter.VerdictWords(), ", "), fixed(filter.VerdictWords()...), filter.ParseVerdict)
	parsed(c, &f.MinSlots, "min-slots", "", "N", "", "only packets of at least this many slots", filter.ParseMinSlots)
}
