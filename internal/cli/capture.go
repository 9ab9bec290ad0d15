package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"xentrace/internal/facts"
	"xentrace/internal/pcapng"
	"xentrace/internal/record"
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

// chooseSnap has as many bytes of a packet read as the output and the filter need, unless
// --snap sets how many.
func (o *watchOptions) chooseSnap(c *cobra.Command) error {
	e := o.filter.Expression
	if c.Flags().Changed("snap") {
		if e != nil && e.Needs() != "" && o.recording.snap < expressionSnap {
			return usageError{fmt.Errorf("--snap %d: %s in the filter expression needs at least %d", o.recording.snap, e.Needs(), expressionSnap)}
		}
		return nil
	}
	if o.format == formatPcapng {
		o.recording.snap = max(o.recording.snap, captureSnap)
	}
	if e != nil {
		o.recording.snap = max(o.recording.snap, expressionSnap)
	}
	return nil
}

// capture returns a sink that writes a capture file, whose head is written.
func (t *traced) capture(out io.Writer) *pcapng.Sink {
	start := facts.Start(t.totals.Interfaces, record.Uptime())
	if v, err := versionOf(t.in.Build); err == nil {
		start.Version = v.Version
	}
	sink := pcapng.New(out, nil)
	_ = sink.Emit(start) // the next write returns the error, too
	return sink
}
