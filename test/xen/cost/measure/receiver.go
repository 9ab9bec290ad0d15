package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/xen/peer/counts"
)

const (
	receivePort   = 7100
	receiveBursts = 20
	receiveBuffer = 8 << 20
	patience      = time.Minute
)

// receiver has the peer send datagrams.
type receiver struct {
	peer   string
	meter  *softirqMeter
	socket int
}

func newReceiver(peer string, meter *softirqMeter) (*receiver, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return nil, fmt.Errorf("SO_RCVBUFFORCE: %w", err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Port: receivePort}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return &receiver{peer: peer, meter: meter, socket: socket}, nil
}

// measure returns the instructions of the softirq per packet: the median of its runs
// with one burst.
func (r *receiver) measure(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := counts.Ask(ctx, r.peer, "counts")
	if err != nil {
		return 0, err
	}
	if _, err := counts.Ask(ctx, r.peer, fmt.Sprintf("do stream %d %d %d", receiveBursts, burst, receivePort)); err != nil {
		return 0, err
	}
	if err := r.meter.reset(); err != nil {
		return 0, err
	}
	if err := r.drain(ctx); err != nil {
		return 0, err
	}
	runs, err := r.meter.read()
	if err != nil {
		return 0, err
	}
	for answer.Doing != "" || answer.Done == 0 {
		if answer, err = counts.Ask(ctx, r.peer, "counts"); err != nil {
			return 0, err
		}
		rest(10 * pause)
	}
	var values []float64
	for _, run := range runs {
		if run.Packets == burst {
			values = append(values, float64(run.Instructions)/burst)
		}
	}
	if len(values) < 3 {
		return 0, fmt.Errorf("only %d bursts of %d arrived at once", len(values), receiveBursts)
	}
	return median(values), nil
}

// drain takes all datagrams that the peer sends, between bursts.
func (r *receiver) drain(ctx context.Context) error {
	buffer := make([]byte, payload)
	for left := receiveBursts * burst; left > 0; {
		switch _, err := unix.Read(r.socket, buffer); {
		case err == nil:
			left--
		case errors.Is(err, unix.EAGAIN):
			if ctx.Err() != nil {
				return fmt.Errorf("%d of %d datagrams did not arrive: %w", left, receiveBursts*burst, ctx.Err())
			}
			rest(pause)
		default:
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}
