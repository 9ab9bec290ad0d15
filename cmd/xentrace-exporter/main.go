// Xentrace-exporter counts what the Xen network frontend does to packets, and serves it as
// Prometheus metrics. It is a program of its own so that xentrace links no HTTP.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"xentrace/internal/cli"
	"xentrace/internal/exporter"
	"xentrace/internal/exporter/feed"
)

// Set by the linker, with -X main.version=... and -X main.commit=...
var version, commit string

func main() {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		signal.Ignore(unix.SIGHUP) // there is nothing to read again
	}
	system := cli.Running(version, commit)
	system.Export = export
	err := cli.RunExporter(context.Background(), os.Args[1:], system)
	cli.Report(os.Stderr, err)
	os.Exit(cli.Status(err))
}

func export(ctx context.Context, options feed.Options) (cli.Exporter, error) {
	e, err := exporter.Open(ctx, options, os.Getenv)
	if err != nil {
		return nil, err
	}
	return e, nil
}
