package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/internal/rocket"
	"xentrace/test/xen/cost"
)

// rockets is how many packets over the slot limit are sent.
const rockets = 200

// settling is how long the driver's code may take to be read, and the last reports: none is
// made before it is known what the driver does.
const settling = 3 * time.Second

// reported measures what a packet costs that the command reports.
func (b *bench) reported(ctx context.Context, row cost.Row) (*cost.Report, error) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stats.Close() }()
	before, err := runTimes()
	if err != nil {
		return nil, err
	}
	c, err := b.start(ctx, append([]string{b.program}, row.Args...))
	if err != nil {
		return nil, err
	}
	sent, err := c.sendRockets(ctx, before)
	return sent, errors.Join(err, c.detach(&cost.Result{}))
}

func (c *command) sendRockets(ctx context.Context, others map[ebpf.ProgramID]int64) (*cost.Report, error) {
	peer, err := netip.ParseAddr(os.Getenv("XENTRACE_PEER"))
	if err != nil {
		return nil, err
	}
	sender, err := rocket.NewUDP(ctx, netip.AddrPortFrom(peer, discardPort), rocket.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = sender.Close() }()
	rest(settling)
	programs, process, err := c.used(others)
	if err != nil {
		return nil, err
	}
	for range rockets {
		if _, err := sender.Send(ctx); err != nil {
			return nil, err
		}
		rest(pause)
	}
	rest(settling)
	programsAfter, processAfter, err := c.used(others)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(outputFile)
	if err != nil {
		return nil, err
	}
	n := bytes.Count(text, []byte(`"type":"packet"`))
	if n < rockets/2 {
		return nil, fmt.Errorf("%d of %d packets were reported: %s", n, rockets, text)
	}
	return &cost.Report{
		Packets: n, BPF: (programsAfter - programs) / int64(n), Userspace: (processAfter - process) / int64(n),
	}, nil
}

// used returns the instructions of the command's BPF programs and of its process.
func (c *command) used(others map[ebpf.ProgramID]int64) (programs, process int64, err error) {
	times, err := runTimes()
	if err != nil {
		return 0, 0, err
	}
	for id, time := range times {
		if _, other := others[id]; !other {
			programs += time
		}
	}
	process, err = c.processTime()
	return programs, process, err
}

// runTimes returns what every BPF program of the machine has run for.
func runTimes() (map[ebpf.ProgramID]int64, error) {
	times := make(map[ebpf.ProgramID]int64)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return times, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s, err := program.Stats()
		_ = program.Close()
		if err != nil {
			return nil, err
		}
		times[id] = s.Runtime.Nanoseconds()
	}
}
