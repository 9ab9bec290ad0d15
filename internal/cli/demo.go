package cli

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

type demoOptions struct {
	*app
	writing
}

func (a *app) demoCommand() *cobra.Command {
	o := &demoOptions{app: a, writing: newWriting()}
	c := &cobra.Command{
		Use: "demo [flags]", Short: "Show xentrace at work on a veth pair; needs no Xen",
		Long: `Sends many-slot and ordinary packets over a veth pair between two network
namespaces, and runs watch and hist on it. Takes about 15 s and needs root. The
namespaces are anonymous and disappear with the process.`,
		Args: none, Example: "  sudo xentrace demo",
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	colorFlag(c, &o.writing)
	toggle(c, &o.verbose, "verbose", "v", "more details on stderr")
	return c
}

func (o *demoOptions) run(ctx context.Context) error {
	return demo.Run(ctx, demo.Options{
		Out:   o.stdout(),
		Width: func() int { return o.columns(o.Stdout, output.DefaultWidth) },
		Watch: func(ctx context.Context, ifname string, attached func()) (event.Totals, error) {
			w := &watchOptions{tracing: o.tracing(ifname, attached)}
			result, err := w.watch(ctx)
			return result.Totals, err
		},
		Hist: func(ctx context.Context, ifname string, attached func()) (event.Totals, error) {
			h := o.tracing(ifname, attached)
			h.duration = histDuration
			return h.hist(ctx)
		},
	})
}

// tracing are the options of a command on an interface; attached is called once it is attached.
func (o *demoOptions) tracing(ifname string, attached func()) tracing {
	a := *o.app
	a.Start = func(ctx context.Context, options trace.Options) (Tracer, error) {
		tracer, err := o.Start(ctx, options)
		if err == nil {
			attached()
		}
		return tracer, err
	}
	t := a.newTracing()
	t.writing, t.interfaces = o.writing, []string{ifname}
	// To send from the demo's namespaces and remove them, and to attach once more, by
	// fentry and kprobe at first.
	t.keep = []kernel.Capability{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SYSLOG}
	return t
}
