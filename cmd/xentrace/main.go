// Xentrace sees what the Xen network frontend does to every packet it is
// handed, and reports those that went wrong.
package main

import (
	"context"
	"os"

	"xentrace/bpf"
	"xentrace/internal/check"
	"xentrace/internal/cli"
	"xentrace/internal/congestion"
	"xentrace/internal/fix"
	"xentrace/internal/flow"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
)

// Set by the linker, with -X main.version=... and -X main.commit=...; where it
// does not, what the Go tool recorded is printed.
var version, commit string

func main() {
	err := cli.Run(context.Background(), os.Args[1:], cli.System{
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Start:   start,
		Measure: measure,
		Machine: check.Running,

		Probe:      probe.Gateway,
		Changeable: fix.Open,

		Build: cli.Build{Version: version, Commit: commit, Clang: bpf.ClangVersion},
	})
	cli.Report(os.Stderr, err)
	os.Exit(cli.Status(err))
}

func start(ctx context.Context, options trace.Options) (cli.Tracer, error) {
	tracer, err := trace.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	return attached{tracer}, nil
}

type attached struct{ *trace.Tracer }

func (a attached) Connections() flow.Kernel { return a.Tracer.Connections() }
func measure(ctx context.Context, options congestion.Options) (cli.Meter, error) {
	meter, err := congestion.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	return meter.NewReader(), nil
}
