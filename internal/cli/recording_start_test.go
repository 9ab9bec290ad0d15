package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/check"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

// A recording begins with what check finds, without reading again what the tracer read.
func TestRecordingBeginsWithWhatTheTracerKnows(t *testing.T) {
	var reads []string
	machine := func() (check.Source, error) {
		source, err := fakeMachine()
		source.LiveCode = func(context.Context) (netfront.Answer, error) {
			reads = append(reads, "the driver's code")
			return netfront.Answer{}, errors.New("read again")
		}
		source.SharedInfo = func() (kernel.SharedInfo, error) {
			reads = append(reads, "the kernel's types")
			return kernel.SharedInfo{}, errors.New("read again")
		}
		return source, err
	}
	file := filepath.Join(t.TempDir(), "f.jsonl")
	var stdout, stderr bytes.Buffer
	err := Run(t.Context(), []string{"watch", "-d", "1ms", "-w", file}, System{
		Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: machine, Start: newFake().start,
	})
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	start, _, _ := strings.Cut(string(text), "\n")
	for _, want := range []string{`"type":"start"`, `"linearizes":true`, "Driver linearizes", `"max_skb_frags":17`} {
		if !strings.Contains(start, want) {
			t.Errorf("no %s in %s", want, start)
		}
	}
	if len(reads) != 0 {
		t.Errorf("read again: %q", reads)
	}
}
