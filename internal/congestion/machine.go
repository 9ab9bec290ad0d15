package congestion

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
)

// cpuTimes are one CPU's, in ticks since the machine began (/proc/stat).
type cpuTimes struct {
	number                           int
	user, nice, system, idle, iowait uint64
	interrupt, softInterrupt, stolen uint64
}

func (c cpuTimes) total() uint64 {
	return c.user + c.nice + c.system + c.idle + c.iowait + c.interrupt + c.softInterrupt + c.stolen
}

func (c cpuTimes) minus(b cpuTimes) cpuTimes {
	less := func(now, before uint64) uint64 { return now - min(before, now) } // idle may run backwards
	return cpuTimes{
		c.number, less(c.user, b.user), less(c.nice, b.nice), less(c.system, b.system), less(c.idle, b.idle), less(c.iowait, b.iowait),
		less(c.interrupt, b.interrupt), less(c.softInterrupt, b.softInterrupt), less(c.stolen, b.stolen),
	}
}

func parseCPUs(text string) ([]cpuTimes, error) {
	var all []cpuTimes
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] == "cpu" || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		var n [9]uint64
		for i, field := range append([]string{fields[0][3:]}, fields[1:9]...) {
			var err error
			if n[i], err = strconv.ParseUint(field, 10, 64); err != nil {
				return nil, fmt.Errorf("CPU times: %w", err)
			}
		}
		all = append(all, cpuTimes{int(n[0]), n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]})
	}
	return all, nil
}

type machineCounts struct {
	cpus       []cpuTimes
	interrupts []kernel.Interrupt
	missing    map[string]string
}

func readMachine() machineCounts {
	m := machineCounts{missing: make(map[string]string)}
	if text, err := os.ReadFile("/proc/stat"); err != nil {
		m.missing["cpu"] = err.Error()
	} else if m.cpus, err = parseCPUs(string(text)); err != nil {
		m.missing["cpu"] = err.Error()
	}
	if text, err := os.ReadFile("/proc/interrupts"); err != nil {
		m.missing["interrupts"] = err.Error()
	} else {
		m.interrupts = kernel.ParseInterrupts(string(text))
	}
	return m
}

// listenCounts are a namespace's connections that were refused because the queue was full (/proc/net/netstat).
type listenCounts struct{ overflows, drops uint64 }

// parseListen reads the text of /proc/net/netstat: pairs of lines, the names and the
// numbers.
func parseListen(text string) (listenCounts, error) {
	lines := strings.Split(text, "\n")
	numbers := make(map[string]uint64)
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || names[0] != "TcpExt:" {
			continue
		}
		for n := 1; n < len(names); n++ {
			number, err := strconv.ParseUint(values[n], 10, 64)
			if err == nil {
				numbers[names[n]] = number
			}
		}
	}
	overflows, there := numbers["ListenOverflows"]
	if !there {
		return listenCounts{}, fmt.Errorf("counters of TCP: ListenOverflows is not among them")
	}
	return listenCounts{overflows, numbers["ListenDrops"]}, nil
}

func readListen(ctx context.Context, inum uint32) (listenCounts, error) {
	namespace, err := netdev.OpenNamespace(ctx, inum)
	if err != nil {
		return listenCounts{}, err
	}
	defer func() { _ = namespace.Close() }() // only read from
	var text []byte
	err = namespace.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		return listenCounts{}, fmt.Errorf("counters of TCP: %w", err)
	}
	return parseListen(string(text))
}
