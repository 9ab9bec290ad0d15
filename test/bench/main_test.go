package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// xentrace is the program that is measured: what XENTRACE_BINARY names, or else
// built from the sources next to.
var xentrace string

// findings is what the benchmarks found, for the tables at the end.
var findings report

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if xentrace = os.Getenv("XENTRACE_BINARY"); xentrace == "" && os.Geteuid() == 0 {
		directory, err := os.MkdirTemp("", "xentrace-bench-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(directory)
		xentrace = filepath.Join(directory, "xentrace")
		build := exec.Command("go", "build", "-o", xentrace, "xentrace/cmd/xentrace")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	status := m.Run()
	findings.write(os.Stdout)
	return status
}
