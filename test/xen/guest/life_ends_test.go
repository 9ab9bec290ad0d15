//go:build xenlab

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"xentrace/test/tool"
)

// held is what the kernel holds of tracers: BPF programs, maps and links, kprobes, and
// what is pinned.
func held(t *testing.T) string {
	t.Helper()
	var all []string
	each := func(kind string, next func(uint32) (uint32, error)) {
		for id := uint32(0); ; {
			var err error
			if id, err = next(id); errors.Is(err, os.ErrNotExist) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s %d", kind, id))
		}
	}
	each("program", func(id uint32) (uint32, error) {
		next, err := ebpf.ProgramGetNextID(ebpf.ProgramID(id))
		return uint32(next), err
	})
	each("map", func(id uint32) (uint32, error) {
		next, err := ebpf.MapGetNextID(ebpf.MapID(id))
		return uint32(next), err
	})
	links := new(bpflink.Iterator)
	defer links.Close()
	for links.Next() {
		all = append(all, fmt.Sprintf("link %d", links.ID))
	}
	if err := links.Err(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/sys/kernel/debug/kprobes/list", "/sys/kernel/tracing/kprobe_events"} {
		all = append(all, readFile(t, file))
	}
	pins, err := filepath.Glob("/sys/fs/bpf/*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.Join(append(all, pins...), "\n"))
}

// lets waits until the kernel holds what it held before. It frees programs a moment
// after their last descriptor is closed.
func lets(t *testing.T, before string) {
	t.Helper()
	var now string
	for range 100 {
		if now = held(t); now == before {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("left behind:\n%s\nbefore:\n%s", now, before)
}

// However it ends, nothing stays behind: neither hooks in the driver, nor programs.
func TestLifeEnds(t *testing.T) {
	for _, backend := range backends(t) {
		for _, end := range []struct {
			name   string
			signal unix.Signal
			says   string
		}{
			{"interrupted", unix.SIGINT, "exit status 0"},
			{"terminated", unix.SIGTERM, "exit status 0"},
			{"kill -9", unix.SIGKILL, "signal: killed"},
		} {
			t.Run(backend+" "+end.name, func(t *testing.T) {
				before := held(t)
				l := beginLife(t, backend)
				if held(t) == before {
					t.Fatal("the kernel shows nothing of the tracer")
				}
				l.traffic(2, 20)
				l.run.Signal(end.signal)
				if state := l.run.Exit(); state.String() != end.says {
					t.Errorf("it ended with %s, want %s", state, end.says)
				}
				lets(t, before)
			})
		}
	}
}

// A reader that has seen enough ends it.
func TestLifeHead(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			before := held(t)
			pipe := exec.Command("bash", "-c", `set -o pipefail; "$0" watch -o json --backend "$1" | head -n 1`, program(t), backend)
			output := make(chan []byte, 1)
			failed := make(chan error, 1)
			go func() {
				out, err := pipe.Output()
				output <- out
				failed <- err
			}()
			l := &life{t: t, at: place{name: ifname}}
			began := time.Now()
			for len(output) == 0 {
				l.traffic(1, 10)
				if time.Since(began) > time.Minute {
					_ = pipe.Process.Kill()
					t.Fatal("it keeps running though nobody reads")
				}
			}
			if err := <-failed; err != nil {
				t.Errorf("the pipe ended with %v, want status 0", err)
			}
			if line := string(<-output); strings.Count(line, "\n") != 1 || !strings.Contains(line, `"type":"packet"`) {
				t.Errorf("head wrote %q, want one record", line)
			}
			lets(t, before)
		})
	}
}

// Stopped and continued, it continues where it was; so does an interrupt that came while
// it was stopped.
func TestLifeStoppedAndContinued(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			before := held(t)
			l := beginLife(t, backend)
			for range 3 {
				l.run.Signal(unix.SIGSTOP)
				l.traffic(10, 100)
				l.run.Signal(unix.SIGCONT)
				time.Sleep(100 * time.Millisecond)
			}
			output := l.end(0)
			noGap(t, &output)
			lets(t, before)

			run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
			run.Signal(unix.SIGSTOP)
			run.Signal(unix.SIGINT)
			run.Signal(unix.SIGCONT)
			if state := run.Exit(); state.String() != "exit status 0" {
				t.Errorf("interrupted while stopped it ended with %s", state)
			}
			lets(t, before)
		})
	}
}
