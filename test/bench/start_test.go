package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

const (
	starts       = 9
	startGoal    = 400 * time.Millisecond
	residentGoal = 40 << 10 // KiB
	idleTime     = 10 * time.Second
	ringfuls     = 20_000 // events: more than the default ring holds
	trickle      = time.Millisecond
)

// BenchmarkStart measures how long it takes from the start of the program until
// it has counted a packet: from just before the process is made to the time, taken
// in the kernel, of the first record, while a packet over the limit goes out every
// millisecond.
func BenchmarkStart(b *testing.B) {
	l := newLab(b)
	stop := l.trickle()
	defer stop()
	for b.Loop() {
		var first, ready, other []float64
		for range starts {
			began := time.Now()
			run := tool.Start(b, xentrace, "watch", "-i", "near", "-o", "json")
			time.Sleep(50 * time.Millisecond)
			output := run.Stop()
			if len(output.Packets) == 0 {
				b.Fatalf("no packet was reported; standard error:\n%s", output.Stderr)
			}
			first = append(first, milliseconds(output.Packets[0].Time.Sub(began)))
			ready = append(ready, milliseconds(run.Ready))
			began = time.Now()
			detach := attachBpftrace(b, l.ifindex)
			other = append(other, milliseconds(time.Since(began)))
			time.Sleep(50 * time.Millisecond)
			detach()
		}
		t := table{
			title: fmt.Sprintf("Start, ms (medians of %d)", starts),
			head:  []string{"first counted packet", "ready file", "bpftrace attached"},
		}
		t.add(fmt.Sprintf("%.0f", median(first)), fmt.Sprintf("%.0f", median(ready)), fmt.Sprintf("%.0f", median(other)))
		findings.add(t)
		measured := median(first)
		findings.goal("start to first counted packet", fmt.Sprintf("< %d ms", startGoal.Milliseconds()), fmt.Sprintf("%.0f ms", measured), measured < milliseconds(startGoal))
		b.ReportMetric(measured, "ms-to-first-packet")
	}
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// trickle sends packets over the limit, one after the other, until it is stopped.
func (l *lab) trickle() (stop func()) {
	l.tb.Helper()
	sender, err := rocket.NewUDP(l.tb.Context(), netip.AddrPortFrom(l.nobody(), 9), rocket.Options{})
	must(l.tb, err)
	ending, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			if _, err := sender.Send(l.tb.Context()); err != nil {
				ended <- err
				return
			}
			select {
			case <-ending:
				ended <- nil
				return
			case <-time.After(trickle):
			}
		}
	}()
	return func() {
		close(ending)
		must(l.tb, <-ended)
		must(l.tb, sender.Close())
	}
}

// BenchmarkIdle measures the memory of the program, with the default ring, and the
// CPU time it takes where nothing happens.
func BenchmarkIdle(b *testing.B) {
	l := newLab(b)
	_, sender := l.rockets()
	for b.Loop() {
		run := tool.Start(b, xentrace, "watch", "-i", "near", "-o", "json")
		time.Sleep(time.Second)
		fresh := run.Resident()
		for sent := 0; sent < ringfuls; sent += stormClones {
			_, err := sender.Send(b.Context())
			must(b, err)
		}
		time.Sleep(time.Second)
		full := run.Resident()
		before := processorTime(b, run.PID())
		time.Sleep(idleTime)
		idle := processorTime(b, run.PID()) - before
		run.Stop()
		t := table{
			title: "Memory with the default ring, and CPU time while idle",
			head:  []string{"resident after the start", fmt.Sprintf("after %d events", ringfuls), fmt.Sprintf("CPU time in %v without packets", idleTime)},
			notes: []string{"The ring buffer is kernel memory: the 128 KiB of it that are mapped at a time are counted."},
		}
		t.add(mebibytes(fresh), mebibytes(full), fmt.Sprintf("%.2f ms (%.4f %%)", milliseconds(idle), 100*idle.Seconds()/idleTime.Seconds()))
		findings.add(t)
		findings.goal("resident memory with the default ring, used once around", "< 40 MiB", mebibytes(full), full < residentGoal)
		b.ReportMetric(float64(full)/1024, "MiB")
		b.ReportMetric(milliseconds(idle), "idle-ms")
	}
}

func mebibytes(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// processorTime returns what the threads of a process have run for, to the
// nanosecond: the first number of schedstat.
func processorTime(tb testing.TB, pid int) (sum time.Duration) {
	tb.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(tb, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		must(tb, err)
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		must(tb, err)
		sum += time.Duration(n)
	}
	return sum
}
