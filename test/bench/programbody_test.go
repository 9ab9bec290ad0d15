package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What the body of the program may take beyond an empty one, in nanoseconds.
const (
	bodyGoal      = 30
	bodyGoalFrags = 80
)

// BenchmarkBody measures how long the programs themselves run for a packet, as
// the kernel sees it (kernel.bpf_stats_enabled), during the same traffic. What the
// taking of the time costs is in the empty program's too.
func BenchmarkBody(b *testing.B) {
	l := newLab(b)
	all := observers(b, l)[1:] // nothing has no program
	s := newSender(l, newFlood(l), newMirrored(l))
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	must(b, err)
	defer func() { must(b, stats.Close()) }()
	for b.Loop() {
		t := table{
			title: fmt.Sprintf("Body of the program at the driver's entry, ns for each run (medians of %d interleaved rounds)", rounds),
			head:  []string{"traffic", "empty", "hist", "watch", "bpftrace", "hist adds", "watch adds", "bpftrace adds"},
			notes: []string{"All \"adds\" are over the empty program. Of bpftrace it is the program alone, not what the kernel prepares for it."},
		}
		for i, bodies := range s.bodies(b, all) {
			t.rows = append(t.rows, bodyRow(b, s.kinds[i], bodies))
		}
		findings.add(t)
	}
}

func bodyRow(b *testing.B, kind traffic, bodies map[string]samples) []string {
	row := []string{kind.name}
	for _, name := range []string{emptyRaw, histogram, watching, bpftraceJob} {
		row = append(row, fmt.Sprintf("%.0f", median(bodies[name])))
	}
	limit := float64(bodyGoal)
	if kind.frags > 0 {
		limit = bodyGoalFrags
	}
	for _, name := range []string{histogram, watching, bpftraceJob} {
		middle, spread := added(bodies[name], bodies[emptyRaw])
		row = append(row, fmt.Sprintf("%.1f ± %.1f", middle, spread))
		if name == bpftraceJob {
			continue
		}
		findings.goal(fmt.Sprintf("body of %s over an empty program: %s", name, kind.name),
			fmt.Sprintf("≤ %.0f ns", limit), fmt.Sprintf("%.1f ns", middle), middle <= limit)
		b.ReportMetric(middle, metric(name+"-body-ns", kind))
	}
	return row
}

// bodies is like costs, but returns the run time of the observers' programs.
func (s *sender) bodies(tb testing.TB, all []observer) []map[string]samples {
	tb.Helper()
	bodies := make([]map[string]samples, len(s.kinds))
	for i := range bodies {
		bodies[i] = make(map[string]samples)
	}
	for range rounds {
		for _, o := range all {
			before := programs(tb)
			detach := o.attach()
			program := newProgram(tb, o, before)
			for i := range s.kinds {
				bodies[i][o.name] = append(bodies[i][o.name], s.bodyRound(tb, i, program))
			}
			must(tb, program.Close())
			detach()
		}
	}
	return bodies
}

// bodyRound is the least of several readings.
func (s *sender) bodyRound(tb testing.TB, kind int, program *ebpf.Program) float64 {
	tb.Helper()
	least := math.Inf(1)
	for range perRound {
		before, err := program.Stats()
		must(tb, err)
		_, err = s.reading(s.kinds[kind], s.batch[kind])
		must(tb, err)
		after, err := program.Stats()
		must(tb, err)
		least = min(least, float64((after.Runtime-before.Runtime).Nanoseconds())/float64(after.RunCount-before.RunCount))
		time.Sleep(drainTime)
	}
	return least
}

// programs returns all BPF programs that are loaded.
func programs(tb testing.TB) map[ebpf.ProgramID]bool {
	tb.Helper()
	found := make(map[ebpf.ProgramID]bool)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return found
		}
		must(tb, err)
		id = next
		found[id] = true
	}
}

// newProgram returns the observer's one program, which was not there before.
func newProgram(tb testing.TB, o observer, before map[ebpf.ProgramID]bool) *ebpf.Program {
	tb.Helper()
	found := newPrograms(tb, o, before)
	if len(found) != 1 {
		tb.Fatalf("%s: %d programs, want 1", o.name, len(found))
	}
	return found[0]
}

// newPrograms returns the observer's, none of which was there before.
func newPrograms(tb testing.TB, o observer, before map[ebpf.ProgramID]bool) (found []*ebpf.Program) {
	tb.Helper()
	for id := range programs(tb) {
		if before[id] {
			continue
		}
		program, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // ended meanwhile
		}
		must(tb, err)
		info, err := program.Info()
		must(tb, err)
		if (o.kind == ebpf.UnspecifiedProgram || info.Type == o.kind) && strings.HasPrefix(info.Name, o.program) {
			found = append(found, program)
			continue
		}
		must(tb, program.Close())
	}
	return found
}
