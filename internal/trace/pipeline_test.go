package trace

import (
	"context"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/flow"
	"xentrace/internal/output"
	"xentrace/internal/session"
)

// records is a tracer that reads the same records again and again.
type records struct {
	decoder *recordDecoder
	pending pending
	raw     [][]byte
	left    int
}

func (r *records) Read(context.Context) (event.Packet, error) {
	if r.left == 0 {
		return event.Packet{}, io.EOF
	}
	r.left--
	p, err := r.decoder.decodePacket(r.raw[r.left%len(r.raw)])
	if err != nil {
		return p, err
	}
	r.pending.add(&p, nil)
	p, _ = r.pending.next()
	return p, nil
}

func (r *records) Holders(event.Wanted) ([]event.Holder, error) { return nil, nil }
func (r *records) Totals(context.Context) (event.Totals, error) { return event.Totals{}, nil }
func (r *records) Stop(context.Context) error                   { return nil }
func (r *records) Close() error                                 { return nil }

// What a record costs from the ring to a line of JSON, of senders whose packets are over the
// limit, as watch does it.
func BenchmarkPipeline(b *testing.B) {
	b.Run("UDP, 29 fragments", func(b *testing.B) {
		pipelineOf(b, 29, func(e *bpf.XentracePacketEvent) {
			e.Flow.Proto, e.Flow.HasSeq = 17, 0
			e.Tcp = bpf.XentraceTcpState{}
		})
	})
	b.Run("TCP, 17 fragments", func(b *testing.B) { pipelineOf(b, 17, func(*bpf.XentracePacketEvent) {}) })
}

func pipelineOf(b *testing.B, frags int, change func(*bpf.XentracePacketEvent)) {
	const senders = 2
	source := &records{decoder: newDecoder(), left: b.N}
	for n := range senders {
		e := tcpEvent(frags)
		change(e)
		e.Flow.Sport, e.Verdict, e.Cause = uint16(40000+n), bpf.XentraceVerdictVERDICT_LINEARIZED, bpf.XentraceCauseCAUSE_NONE
		e.Socket = bpf.XentraceSocketIdentity{Address: uint64(n + 1), Inode: uint64(n + 1), Uid: 1000}
		e.Sender = bpf.XentraceSender{Tgid: uint32(n + 1), Started: 5}
		copy(e.Sender.Comm[:], "sender")
		source.raw = append(source.raw, raw(e, frags))
	}
	stream := output.NewStream(io.Discard)
	lines := output.NewJSON(stream)
	b.ReportAllocs()
	before := processTime(b)
	_, err := session.Run(b.Context(), session.Options{
		Source: session.Live(source), Flows: flow.NewTable(0, nil),
		Sink: struct {
			*output.Lines
			io.Closer
		}{lines, stream},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// processTime is the CPU time of this process: all its goroutines, whatever else the machine does.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
