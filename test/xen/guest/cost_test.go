//go:build xenlab

package guest

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/test/tool"
)

// A packet that is sent as usual runs one program at its entry, which refers to no hash
// map, and no other.
func TestProgramsOfAnOrdinaryPacket(t *testing.T) {
	const n, port = 500, 7010
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stats.Close() }()
	for _, backend := range backends(t) {
		if backend == "tracepoint" {
			continue // its hooks are not the driver's: completions run them too
		}
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
			time.Sleep(settle)
			before, packets := runCounts(t, backend), counter(t, "tx_packets")
			sendOrdinary(t, port, n)
			time.Sleep(settle)
			after := runCounts(t, backend)
			packets = counter(t, "tx_packets") - packets
			for name, want := range map[string]uint64{"_begin": packets, "_free": 0} {
				if got := after[backend+name] - before[backend+name]; got != want {
					t.Errorf("%s%s ran %d times for %d packets, want %d", backend, name, got, packets, want)
				}
			}
			run.Stop()
		})
	}
}

// With --rejected two more programs run, for each run of xennet_tx_buf_gc and not for
// each packet; what they take, next to that at the driver's entry.
func TestRejectedCost(t *testing.T) {
	const n, port = 2000, 7013
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stats.Close() }()
	for _, backend := range backends(t) {
		if !seesResponses(t, backend) {
			continue // it has no such programs
		}
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "hist", "-d", "0", "-o", "json", "--rejected", "--backend", backend)
			time.Sleep(settle)
			packets := counter(t, "tx_packets")
			sendOrdinary(t, port, n)
			time.Sleep(settle)
			packets = counter(t, "tx_packets") - packets
			runs := programRuns(t, backend)
			output := run.Stop()
			for _, name := range []string{backend + "_begin", "fentry_gc_begin", "fentry_gc_end"} {
				s := runs[name]
				if s.RunCount == 0 {
					t.Errorf("%s did not run", name)
					continue
				}
				t.Logf("%s: %d runs for %d packets, %d ns each", name, s.RunCount, packets, s.Runtime.Nanoseconds()/int64(s.RunCount))
			}
			begins, ends := runs["fentry_gc_begin"].RunCount, runs["fentry_gc_end"].RunCount
			if begins != ends || begins > packets+100 {
				t.Errorf("%d runs at the entry, %d at the return, for %d packets", begins, ends, packets)
			}
			if i := output.Only(t); i.Rejected == nil || *i.Rejected != 0 {
				t.Errorf("%v rejected, want 0", i.Rejected)
			}
		})
	}
}

// With --drops all a packet that was sent costs one more program run, at its
// completion, which is far shorter than that at its entry.
func TestCompletionCostsLittle(t *testing.T) {
	const n, port = 2000, 7014
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stats.Close() }()
	backend := backends(t)[0]
	run := tool.Start(t, program(t), "watch", "-o", "json", "--drops", "all", "--backend", backend)
	sendOrdinary(t, port, n)
	time.Sleep(settle)
	runs := programRuns(t, backend)
	run.Stop()
	completion, begin := runs["elsewhere_free"], runs[backend+"_begin"]
	if completion == nil || begin == nil || completion.RunCount < n || begin.RunCount < n {
		t.Fatalf("runs at completions %+v, at entries %+v, want at least %d", completion, begin, n)
	}
	atCompletion, atBegin := completion.Runtime/time.Duration(completion.RunCount), begin.Runtime/time.Duration(begin.RunCount)
	t.Logf("%d completions at %v, %d entries at %v", completion.RunCount, atCompletion, begin.RunCount, atBegin)
	if atCompletion > atBegin/2 {
		t.Errorf("a completion takes %v, want less than half of the %v of an entry", atCompletion, atBegin)
	}
}

// runCounts returns how often each of the tracer's programs ran, and checks their maps.
func runCounts(t *testing.T, backend string) map[string]uint64 {
	t.Helper()
	counts := make(map[string]uint64)
	for name, s := range programRuns(t, backend) {
		counts[name] = s.RunCount
	}
	return counts
}

// programRuns returns the statistics of every program, and checks the maps of the tracer's.
func programRuns(t *testing.T, backend string) map[string]*ebpf.ProgramStats {
	t.Helper()
	runs := make(map[string]*ebpf.ProgramStats)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		statistics, err := program.Stats()
		if err != nil {
			t.Fatal(err)
		}
		runs[info.Name] = statistics
		if len(info.Name) > len(backend) && info.Name[:len(backend)] == backend {
			checkMaps(t, info)
		}
		if err := program.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return runs
}

func checkMaps(t *testing.T, info *ebpf.ProgramInfo) {
	t.Helper()
	ids, known := info.MapIDs()
	if !known || len(ids) == 0 {
		t.Fatalf("the maps of %s are not known", info.Name)
	}
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		of, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		switch m.Type() {
		case ebpf.Array, ebpf.PerCPUArray, ebpf.RingBuf:
		default:
			// Used only after the backend answered with an error.
			if info.Name != "fentry_gc_end" || of.Name != "reported_of" {
				t.Errorf("%s refers to the map %s of type %s", info.Name, of.Name, m.Type())
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What it costs to have the tracer there: ready within two seconds, small, idle.
func TestFigures(t *testing.T) {
	const idle = 10 * time.Second
	run := tool.Start(t, program(t), "watch", "-o", "json")
	time.Sleep(4 * time.Second) // the driver's code is read next to the counting
	began := run.CPU()
	time.Sleep(idle)
	cpu := run.CPU() - began
	resident := run.Resident()
	t.Logf("figures: ready %d ms after start, %.1f MiB resident, %.1f %% of a CPU while idle",
		run.Ready.Milliseconds(), float64(resident)/1024, 100*cpu.Seconds()/idle.Seconds())
	if resident > 40<<10 {
		t.Errorf("%d KiB resident, want less than 40 MiB", resident)
	}
	run.Stop()
}
