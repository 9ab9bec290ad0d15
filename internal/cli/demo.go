package cli

import (
	"context"

	"xentrace/internal/demo"
	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

func demoCommand() *command {
	return &command{
		name:  "demo",
		short: "show what xentrace does, on a network of its own; no Xen needed",
		long: []string{
			"Makes two network namespaces and a veth pair between them, sends packets of many slots over it, among ordinary ones, runs watch and then hist on it, and says what a Xen frontend would have done to each packet. It takes about 15 s and needs root.",
			"Nothing else on the machine is touched. The namespaces have no name and belong to the process alone, so they are gone when it ends, however it ends.",
		},
		flags:    []*flag{colorFlag(), verboseFlag()},
		examples: []example{{"sudo xentrace demo", "see it work"}},
		run:      runDemo,
	}
}

func runDemo(ctx context.Context, in *invocation) error {
	return demo.Run(ctx, demo.Options{
		Out:   in.Stdout,
		Width: func() int { return in.columns(in.Stdout, output.DefaultWidth) },
		Watch: in.shown(func(ctx context.Context, in *invocation) (event.Totals, error) {
			result, err := watch(ctx, in)
			return result.Totals, err
		}),
		Hist: in.shown(hist),
	})
}

// shown makes a command that the demo can run on an interface.
func (in *invocation) shown(run func(context.Context, *invocation) (event.Totals, error)) demo.Command {
	return func(ctx context.Context, ifname string, attached func()) (event.Totals, error) {
		command := *in
		command.interfaces = []string{ifname}
		command.keepPrivileges = true // the network is still to be taken down
		command.Start = func(ctx context.Context, o trace.Options) (Tracer, error) {
			tracer, err := in.Start(ctx, o)
			if err == nil {
				attached()
			}
			return tracer, err
		}
		return run(ctx, &command)
	}
}
