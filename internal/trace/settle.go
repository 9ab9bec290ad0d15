package trace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/ringread"
)

// settleInterval is how long the record of a packet over the limit that was not dropped
// may wait for the next packet of its CPU before it is asked for.
const settleInterval = 100 * time.Millisecond

const runOnCPU = 1 // BPF_F_TEST_RUN_ON_CPU, since 5.10

// pendingFlag is INFLIGHT_PENDING in bpf/maps.h.
const pendingFlag = 16

// settles reports whether packets are to be settled: only those of the driver are.
func (a *attachment) settles() bool {
	return a.collection.Programs[bpf.XentraceProgSettlePackets] != nil
}

// settle makes the BPF programs send the records of packets that turned out not to be
// dropped. There is no hook at the return of the transmit function: only the next packet
// of the CPU shows it, or this. open reports that there were such packets, of which some
// may be in flight.
func (a *attachment) settle() (open bool, err error) {
	if !a.settles() {
		return false, nil
	}
	var cpus []bpf.XentraceCpuState
	if err := a.collection.Maps[bpf.XentraceMapCpuStates].Lookup(uint32(0), &cpus); err != nil {
		return false, fmt.Errorf("packets in flight: %w", err)
	}
	program := a.collection.Programs[bpf.XentraceProgSettlePackets]
	for cpu := range cpus {
		pending := (cpus[cpu].Inflight[0].Flags | cpus[cpu].Inflight[1].Flags) & pendingFlag
		if pending == 0 && cpus[cpu].Announced == 0 {
			continue
		}
		open = true
		_, err := program.Run(&ebpf.RunOptions{Context: [1]uint64{}, CPU: uint32(cpu), Flags: runOnCPU})
		if err != nil && !errors.Is(err, unix.ENXIO) { // the CPU went offline
			return open, fmt.Errorf("settle packets in flight: %w", err)
		}
	}
	return open, nil
}

// trySettling runs the program once. A kernel that does not run programs of its type leaves
// the settling to the next packet of each CPU, and the error wraps ebpf.ErrNotSupported.
func (a *attachment) trySettling() error {
	if !a.settles() {
		return nil
	}
	program := a.collection.Programs[bpf.XentraceProgSettlePackets]
	_, err := program.Run(&ebpf.RunOptions{Context: [1]uint64{}})
	if errors.Is(err, ebpf.ErrNotSupported) {
		delete(a.collection.Programs, bpf.XentraceProgSettlePackets)
		return errors.Join(err, program.Close())
	}
	return err
}

// startSettling settles packets from now on, until Close.
func (t *Tracer) startSettling() error {
	err := t.attachment.trySettling()
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.notify(event.Notice{ID: event.NoticeSettleFailed, Reason: err.Error()})
		return nil
	}
	if err != nil {
		return fmt.Errorf("settle packets in flight: %w", err)
	}
	if !t.attachment.settles() {
		return nil
	}
	if t.unsettled, err = ringread.New(t.attachment.collection.Maps[bpf.XentraceMapUnsettled]); err != nil {
		return fmt.Errorf("ring buffer of packets in flight: %w", err)
	}
	t.following.Go(func() { t.settlePackets(t.background) })
	return nil
}

// settlePackets does so until ctx ends. The BPF programs wake it when a packet is pending, so
// that a quiet run does not wake up.
func (t *Tracer) settlePackets(ctx context.Context) {
	var cpu []byte
	for {
		if err := t.unsettled.ReadInto(&cpu); err != nil {
			return // Close
		}
		if t.unsettled.Available() > 0 {
			continue
		}
		for open := true; open; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(settleInterval):
			}
			var err error
			if open, err = t.attachment.settle(); err != nil {
				t.notify(event.Notice{ID: event.NoticeSettleFailed, Reason: err.Error()})
				return
			}
		}
	}
}
