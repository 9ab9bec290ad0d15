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
)

// settleInterval is how long the record of a packet over the limit that was not dropped
// may wait for the next packet of its CPU before it is asked for.
const settleInterval = 100 * time.Millisecond

const runOnCPU = 1 // BPF_F_TEST_RUN_ON_CPU, since 5.10

// pendingFlag is INFLIGHT_PENDING in bpf/maps.h.
const pendingFlag = 16

// settle makes the BPF programs send the records of packets that turned out not to be
// dropped. There is no hook at the return of the transmit function: only the next packet
// of the CPU shows it, or this.
func (a *attachment) settle() error {
	program := a.collection.Programs[bpf.XentraceProgSettlePackets]
	if program == nil { // no records are made
		return nil
	}
	var cpus []bpf.XentraceCpuState
	if err := a.collection.Maps[bpf.XentraceMapCpuStates].Lookup(uint32(0), &cpus); err != nil {
		return fmt.Errorf("packets in flight: %w", err)
	}
	for cpu := range cpus {
		if (cpus[cpu].Inflight[0].Flags|cpus[cpu].Inflight[1].Flags)&pendingFlag == 0 {
			continue
		}
		_, err := program.Run(&ebpf.RunOptions{Context: [1]uint64{}, CPU: uint32(cpu), Flags: runOnCPU})
		if err != nil && !errors.Is(err, unix.ENXIO) { // the CPU went offline
			return fmt.Errorf("settle packets in flight: %w", err)
		}
	}
	return nil
}

// settlePackets does so until ctx ends.
func (t *Tracer) settlePackets(ctx context.Context) {
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := t.attachment.settle(); err != nil {
			t.notify(event.Notice{ID: event.NoticeSettleFailed, Reason: err.Error()})
			return
		}
	}
}
