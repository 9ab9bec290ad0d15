//go:build !cgo

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/test/need"
)

// scrapesEvery is 100 scrapes per second.
const scrapesEvery = 10 * time.Millisecond

// 100 scrapes per second under traffic, of 1 and of 64 interfaces, for XENTRACE_SCRAPES: what
// they cost is logged, memory stays as it is, and no record is lost. With one interface they
// take less than 3 % of a CPU.
func TestScrapesUnderTraffic(t *testing.T) {
	need.Asked(t, "XENTRACE_SCRAPES", "make test-scrapes")
	length, err := time.ParseDuration(os.Getenv("XENTRACE_SCRAPES"))
	if err != nil {
		t.Fatal(err)
	}
	for _, interfaces := range []int{1, 64} {
		t.Run(fmt.Sprintf("interfaces=%d", interfaces), func(t *testing.T) {
			l := newLab(t)
			used, scrapes := l.scrapeUnderTraffic(interfaces, length)
			share := 100 * used.Seconds() / length.Seconds()
			t.Logf("%d scrapes in %v: %.2f %% of a CPU, %v each", scrapes, length, share, (used / time.Duration(scrapes)).Round(time.Microsecond))
			if interfaces == 1 && share >= 3 {
				t.Errorf("%.2f %% of a CPU, want less than 3", share)
			}
			for _, name := range []string{"xentrace_lost_records_total", "xentrace_collect_errors_total"} {
				if n := l.metric(name, ""); n != 0 {
					t.Errorf("%s is %g", name, n)
				}
			}
		})
	}
}

// scrapeUnderTraffic returns the CPU time of the exporter, less what it takes for the traffic
// alone, and how often it was scraped.
func (l *lab) scrapeUnderTraffic(interfaces int, length time.Duration) (used time.Duration, scrapes int) {
	l.t.Helper()
	var more []string
	for n := range interfaces - 1 {
		near := network.End{Namespace: l.near.Namespace, Name: fmt.Sprintf("near%d", n)}
		far := network.End{Namespace: l.far.Namespace, Name: fmt.Sprintf("far%d", n)}
		if err := network.Join(near, far, 1500); err != nil {
			l.t.Fatal(err)
		}
		more = append(more, "-i", near.Name)
	}
	l.start(more...)
	stop := traffic(l.t, l.sender())
	defer stop()
	time.Sleep(2 * time.Second) // what the start leaves behind
	idle := l.processorTime()
	time.Sleep(length / 6)
	alone := l.processorTime() - idle
	began, memory := l.processorTime(), []int{}
	ticker := time.NewTicker(scrapesEvery)
	defer ticker.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); scrapes++ {
		<-ticker.C
		if status := l.status("/metrics"); status != 200 {
			l.t.Fatalf("status %d", status)
		}
		if scrapes%50 == 0 {
			memory = append(memory, l.residentKiB())
		}
	}
	used = l.processorTime() - began - 6*alone
	if want := int(length / scrapesEvery); scrapes < want*9/10 {
		l.t.Fatalf("%d scrapes, want %d: the machine is too busy to measure", scrapes, want)
	}
	third := len(memory) / 3
	before, last := slices.Max(memory[third:2*third]), slices.Max(memory[2*third:])
	l.t.Logf("RSS: %d KiB at most in the second third, %d KiB in the last; traffic alone %v", before, last, 6*alone)
	const leeway = 2 << 10
	if last > before+leeway {
		l.t.Errorf("RSS grew from %d to %d KiB", before, last)
	}
	return used, scrapes
}

// processorTime is what the exporter has used, in user and kernel mode.
func (l *lab) processorTime() time.Duration {
	l.t.Helper()
	const scheduler = 2 // CPUCLOCK_SCHED: of all threads, in nanoseconds
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^l.process.Process.Pid<<3|scheduler), &used); err != nil {
		l.t.Fatal(err)
	}
	return time.Duration(used.Nano())
}

func (l *lab) residentKiB() int {
	l.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Process.Pid))
	if err != nil {
		l.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}
