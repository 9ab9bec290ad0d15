package trace

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/kernel"
)

// queueReader reads how the transmit queues of an interface stand. It works on
// every kernel that the tracer works on, whatever the backend.
type queueReader struct {
	collection *ebpf.Collection
}

func newQueueReader(types *kernel.Types) (*queueReader, error) {
	collection, err := loadPrograms(types, bpf.XentraceProgReadQueues)
	if err != nil {
		return nil, fmt.Errorf("reader of transmit queues: %w", err)
	}
	return &queueReader{collection}, nil
}

// read reports whether the interface is there, and how its queues stand.
func (r *queueReader) read(key deviceKey) (bpf.XentraceQueues, bool, error) {
	var queues bpf.XentraceQueues
	arguments := [2]uint64{uint64(key.index), uint64(key.netns)}
	status, err := r.collection.Programs[bpf.XentraceProgReadQueues].Run(&ebpf.RunOptions{Context: arguments})
	if err != nil {
		return queues, false, fmt.Errorf("transmit queues of interface %d: %w", key.index, err)
	}
	if status != 0 {
		return queues, false, nil
	}
	if err := r.collection.Maps[bpf.XentraceMapQueuesNow].Lookup(uint32(0), &queues); err != nil {
		return queues, false, fmt.Errorf("transmit queues of interface %d: %w", key.index, err)
	}
	return queues, true, nil
}

func (r *queueReader) close() { r.collection.Close() }
