package main

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// netRx is the number of the softirq that receives packets (NET_RX_SOFTIRQ).
const netRx = 3

// samples is how many runs of the softirq the meter keeps; a power of two.
const samples = 4096

// softirqMeter measures each run of the receiving softirq, and counts its packets: three
// raw tracepoints, which every kernel has. What it costs itself is in every row alike.
type softirqMeter struct {
	state, runs *ebpf.Map
	links       []link.Link
}

// meterState is the value of the map that the programs share.
type meterState struct {
	Began, Packets, Runs uint64
}

// softirqRun is one run of the softirq.
type softirqRun struct {
	Packets, Instructions uint64
}

func newSoftirqMeter() (*softirqMeter, error) {
	m := &softirqMeter{}
	var err error
	if m.state, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 24, MaxEntries: 1}); err != nil {
		return nil, fmt.Errorf("softirq meter: %w", err)
	}
	if m.runs, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: samples}); err != nil {
		return nil, fmt.Errorf("softirq meter: %w", err)
	}
	for name, body := range map[string]asm.Instructions{"softirq_entry": m.entry(), "napi_poll": m.poll(), "softirq_exit": m.exit()} {
		l, err := attachRaw(name, body)
		if err != nil {
			return nil, fmt.Errorf("softirq meter: %w", err)
		}
		m.links = append(m.links, l)
	}
	return m, nil
}

func (m *softirqMeter) close() {
	for _, l := range m.links {
		_ = l.Close()
	}
}

const out = "out"

// lookup leaves the address of the map's value for the key in R1 in R0.
func lookup(of *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.StoreMem(asm.R10, -4, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, of.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, out),
	}
}

func ending() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol(out), asm.Return()}
}

func join(parts ...asm.Instructions) (all asm.Instructions) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// timed begins a program for the receiving softirq only, with the time in R7 and the
// state's address in R0.
func (m *softirqMeter) timed() asm.Instructions {
	return join(asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
		asm.JNE.Imm(asm.R2, netRx, out),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Imm(asm.R1, 0),
	}, lookup(m.state))
}

func (m *softirqMeter) entry() asm.Instructions {
	return join(m.timed(), asm.Instructions{
		asm.StoreMem(asm.R0, 0, asm.R7, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R0, 8, asm.R1, asm.DWord),
	}, ending())
}

// poll adds the packets of one call of a driver's poll function.
func (m *softirqMeter) poll() asm.Instructions {
	return join(asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 8, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
	}, lookup(m.state), asm.Instructions{
		asm.LoadMem(asm.R1, asm.R0, 8, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R6),
		asm.StoreMem(asm.R0, 8, asm.R1, asm.DWord),
	}, ending())
}

// exit keeps what the run took.
func (m *softirqMeter) exit() asm.Instructions {
	return join(m.timed(), asm.Instructions{
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, out), // began before the reset
		asm.Sub.Reg(asm.R7, asm.R1),
		asm.LoadMem(asm.R8, asm.R0, 8, asm.DWord),
		asm.LoadMem(asm.R1, asm.R0, 16, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R1), asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R0, 16, asm.R2, asm.DWord),
		asm.And.Imm(asm.R1, samples-1),
	}, lookup(m.runs), asm.Instructions{
		asm.StoreMem(asm.R0, 0, asm.R8, asm.DWord),
		asm.StoreMem(asm.R0, 8, asm.R7, asm.DWord),
	}, ending())
}

// read returns the runs since the last call, and the next one's begin.
func (m *softirqMeter) read() ([]softirqRun, error) {
	var state meterState
	if err := m.state.Lookup(uint32(0), &state); err != nil {
		return nil, fmt.Errorf("softirq meter: %w", err)
	}
	found := make([]softirqRun, min(state.Runs, samples))
	for i := range found {
		if err := m.runs.Lookup(uint32(i), &found[i]); err != nil {
			return nil, fmt.Errorf("softirq meter: %w", err)
		}
	}
	return found, nil
}

// reset forgets all runs.
func (m *softirqMeter) reset() error { return m.state.Put(uint32(0), meterState{}) }
