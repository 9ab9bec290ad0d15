// Xentrace-exporter counts what the Xen network frontend does to packets, and serves it as
// Prometheus metrics. It is a program of its own so that xentrace links no HTTP.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/check"
	"xentrace/internal/cli"
	"xentrace/internal/congestion"
	"xentrace/internal/exporter"
	"xentrace/internal/exporter/feed"
	"xentrace/internal/flow"
	"xentrace/internal/trace"
)

// Set by the linker, with -X main.version=... and -X main.commit=...; where it
// does not, what the Go tool recorded is printed.
var version, commit string

func main() {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		signal.Ignore(unix.SIGHUP) // there is nothing to read again
	}
	err := cli.RunExporter(context.Background(), os.Args[1:], cli.System{
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Start:   start,
		Measure: measure,
		Export:  export,
		Machine: check.Running,

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

func export(ctx context.Context, options feed.Options) (cli.Exporter, error) {
	e, err := exporter.Open(ctx, options, os.Getenv)
	if err != nil {
		return nil, err
	}
	return e, nil
}
