package cli

import (
	"context"
	"errors"
	"io"

	"xentrace/internal/output"
	"xentrace/internal/trace"
)

// follow is a whole run of a command that traces: attach, read until the end,
// stop, read what is left, write what finish makes of the final counts, detach.
// It returns those counts.
//
// The tracer is read also where no records are asked for: what it learns of
// interfaces may come the same way.
func follow(ctx context.Context, in *invocation, records bool,
	finish func(output.Format, []byte, *trace.Totals) []byte) (trace.Totals, error) {
	s, err := open(ctx, in, records)
	if s == nil {
		return trace.Totals{}, err
	}
	last := context.WithoutCancel(ctx) // an interrupt does not cut the end short
	reader, abandon := context.WithCancel(last)
	defer abandon()
	reading := make(chan error, 1)
	go func() { reading <- s.read(reader) }()

	err, ended := s.wait(ctx, reading)
	stopped := s.tracer.Stop(last)
	if stopped != nil {
		abandon()
	}
	if !ended {
		err = <-reading
	}
	return s.end(last, errors.Join(stopped, err), finish)
}

// read writes records until the tracer is stopped and drained, --count is
// reached, or reading fails. A failure of standard output ends it too; the one
// who closes that is told of it.
func (s *session) read(ctx context.Context) error {
	var line []byte
	for n := 0; s.in.count == 0 || n < s.in.count; n++ {
		packet, err := s.tracer.Read(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		line = s.format.AppendPacket(line[:0], &packet)
		if _, err := s.out.Write(line); err != nil {
			return nil
		}
	}
	return nil
}
