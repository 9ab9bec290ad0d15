// Xentrace sees what the Xen network frontend does to every packet it is
// handed, and reports those that went wrong.
package main

import (
	"context"
	"os"

	"xentrace/internal/cli"
	"xentrace/internal/fix"
	"xentrace/internal/probe"
)

// Set by the linker, with -X main.version=... and -X main.commit=...
var version, commit string

func main() {
	system := cli.Running(version, commit)
	system.Probe, system.Changeable = probe.Gateway, fix.Open
	err := cli.Run(context.Background(), os.Args[1:], system)
	cli.Report(os.Stderr, err)
	os.Exit(cli.Status(err))
}
