// Measure runs in the guest of a machine that counts instructions (test/xen/run
// --icount): CLOCK_THREAD_CPUTIME_ID advances by 1 ns for each instruction. It prints one
// cost.Result per row as a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/cilium/ebpf/rlimit"

	"xentrace/test/xen/cost"
)

type settings struct {
	rows    *regexp.Regexp
	check   bool
	program string
	cycles  int
	rounds  int // in each cycle
}

func main() {
	var s settings
	rows := flag.String("rows", "", "only rows that match this regular expression")
	flag.BoolVar(&s.check, "check", false, "only what CI compares: some rows, attached once, and sent datagrams")
	flag.StringVar(&s.program, "program", "./xentrace", "the xentrace program")
	flag.IntVar(&s.cycles, "cycles", 3, "how often each row is attached")
	flag.Parse()
	if s.rounds = 3; s.check {
		s.cycles, s.rounds = 1, 9
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if s.rows, err = regexp.Compile(*rows); err == nil {
		err = run(ctx, s)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "measure: %v\n", err)
		os.Exit(1)
	}
}

// run measures every row that was asked for, on a thread of its own.
func run(ctx context.Context, s settings) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	if err := urgent(); err != nil {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil { // counts before 5.11
		return err
	}
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	out := json.NewEncoder(os.Stdout)
	for _, row := range cost.Rows() {
		if s.check && !row.Checked || !s.rows.MatchString(row.Name) {
			continue
		}
		result, err := b.measure(ctx, row)
		if err != nil {
			return fmt.Errorf("%s: %w", row.Name, err)
		}
		result.Kernel = os.Getenv("XENTRACE_LAB_KERNEL")
		if err := out.Encode(result); err != nil {
			return err
		}
		runtime.GC()
	}
	return nil
}

// bench is everything that the rows share.
type bench struct {
	settings
	meter  *softirqMeter
	kinds  []sending
	stream *receiver // nil if received packets are not measured
}

func newBench(ctx context.Context, s settings) (*bench, error) {
	b := &bench{settings: s}
	udp, err := newUDP(os.Getenv("XENTRACE_PEER"))
	if err != nil {
		return nil, err
	}
	b.kinds = []sending{udp}
	if !s.check {
		if err := b.measureMore(); err != nil {
			return nil, err
		}
	}
	// The first packets find cold caches and a small congestion window.
	_, err = b.round(ctx)
	return b, err
}

// measureMore has TCP segments and received packets measured, too.
func (b *bench) measureMore() error {
	tcp, err := newTCP(os.Getenv("XENTRACE_PEER"))
	if err != nil {
		return err
	}
	b.kinds = append(b.kinds, tcp)
	if b.meter, err = newSoftirqMeter(); err != nil {
		return err
	}
	b.stream, err = newReceiver(os.Getenv("XENTRACE_PEER"), b.meter)
	return err
}

func (b *bench) close() {
	if b.meter != nil {
		b.meter.close()
	}
}

// measure attaches a row several times, with rounds before, during and after.
func (b *bench) measure(ctx context.Context, row cost.Row) (cost.Result, error) {
	result := cost.Result{Row: row.Name, Packets: make(map[cost.Traffic]*cost.Samples)}
	for range b.cycles {
		if err := b.without(ctx, &result); err != nil {
			return result, err
		}
		if missing, err := b.with(ctx, row, &result); err != nil || missing != "" {
			return cost.Result{Row: row.Name, Missing: missing}, err
		}
	}
	if err := b.without(ctx, &result); err != nil || !row.Reports || b.check {
		return result, err
	}
	var err error
	result.Report, err = b.reported(ctx, row)
	return result, err
}

func (b *bench) without(ctx context.Context, result *cost.Result) error {
	readings, err := b.rounds(ctx)
	for kind, values := range readings {
		s := result.Samples(kind)
		s.Without = append(s.Without, values...)
	}
	return err
}

// with returns why the row cannot be attached on this kernel, if so.
func (b *bench) with(ctx context.Context, row cost.Row, result *cost.Result) (missing string, err error) {
	attached, missing, err := b.attach(ctx, row)
	if err != nil || missing != "" {
		return missing, err
	}
	readings, err := b.rounds(ctx)
	if err != nil {
		return "", err
	}
	for kind, values := range readings {
		s := result.Samples(kind)
		s.With = append(s.With, values...)
	}
	return "", attached.detach(result)
}

func (b *bench) rounds(ctx context.Context) (map[cost.Traffic][]float64, error) {
	all := make(map[cost.Traffic][]float64)
	for range b.settings.rounds {
		one, err := b.round(ctx)
		if err != nil {
			return nil, err
		}
		for kind, value := range one {
			all[kind] = append(all[kind], value)
		}
	}
	return all, nil
}

// round measures each kind of packet once.
func (b *bench) round(ctx context.Context) (map[cost.Traffic]float64, error) {
	readings := make(map[cost.Traffic]float64)
	for _, kind := range b.kinds {
		value, err := measureSending(kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.kind(), err)
		}
		readings[kind.kind()] = value
	}
	if b.stream == nil {
		return readings, nil
	}
	value, err := b.stream.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cost.Receive, err)
	}
	readings[cost.Receive] = value
	return readings, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
