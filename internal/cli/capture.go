package cli

import (
	"errors"
	"io"
	"runtime"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/pcapng"
)

// captureSnap is how many bytes of a packet are read for a capture file.
const captureSnap = 128

const formatPcapng = "pcapng"

// refuseTerminal refuses to write a capture file to a terminal.
func (s System) refuseTerminal(w *writing) error {
	if w.format == formatPcapng && isTerminal(s.Stdout) {
		return usageError{errors.New("-o pcapng: stdout is a terminal; redirect it to a file, or pipe it to tshark -r -")}
	}
	return nil
}

// headerBytes is how many bytes of a packet the run reads: for its output, or its filter.
func (o *watchOptions) headerBytes() int {
	switch {
	case o.format == formatPcapng:
		return captureSnap
	case o.filter.Expression != nil:
		return expressionSnap
	}
	return 0
}

// capture returns a sink that writes a capture file, whose head is written.
func (t *traced) capture(out io.Writer) *pcapng.Sink {
	sink := pcapng.New(out, nil)
	_ = sink.Emit(t.beginning()) // the next write returns the error, too
	return sink
}

// beginning describes this machine and the interfaces that are watched.
func (t *traced) beginning() *event.Start {
	start := &event.Start{Time: time.Now(), Machine: runtime.GOARCH}
	if v, err := versionOf(t.in.Build); err == nil {
		start.Version, start.Kernel = v.Version, v.Kernel
	}
	for i := range t.totals.Interfaces {
		n := &t.totals.Interfaces[i]
		start.Interfaces = append(start.Interfaces, event.StartInterface{Device: n.Device, Driver: n.Driver, Queues: n.Queues})
	}
	return start
}
