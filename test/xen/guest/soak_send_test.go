//go:build xenlab

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/role"
)

// soakSent is what one sender has handed to the kernel, and how often it could not: the
// interface was down, or a connection was stuck.
type soakSent struct {
	Rockets, TCPRockets, Datagrams, Segments, BulkBytes, Refused uint64
}

func (s *soakSent) add(other soakSent) {
	s.Rockets, s.TCPRockets = s.Rockets+other.Rockets, s.TCPRockets+other.TCPRockets
	s.Datagrams, s.Segments = s.Datagrams+other.Datagrams, s.Segments+other.Segments
	s.BulkBytes, s.Refused = s.BulkBytes+other.BulkBytes, s.Refused+other.Refused
}

// soakSender is a process that sends from one CPU until its input ends.
type soakSender struct {
	cmd    *exec.Cmd
	stop   io.WriteCloser
	output io.ReadCloser
}

func startSoakSender(t *testing.T, cpu int) soakSender {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(peerAddr(t, "ipv4"), uint16(7013+cpu))
	s := soakSender{cmd: role.CommandOf("soak sender", "taskset", fmt.Sprintf("%x", 1<<cpu), self, to.String())}
	s.cmd.Stderr = os.Stderr
	if s.stop, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if s.output, err = s.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

// end stops the sender and returns what it sent.
func (s soakSender) end(t *testing.T) soakSent {
	t.Helper()
	if err := s.stop.Close(); err != nil {
		t.Fatal(err)
	}
	var sent soakSent
	err := json.NewDecoder(s.output).Decode(&sent)
	_, rest := io.Copy(io.Discard, s.output)
	if err := errors.Join(err, rest, s.cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	return sent
}

// playSoakSender is the process that startSoakSender starts: it sends to that address until
// its input ends, and prints what it sent.
func playSoakSender(args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var sent soakSent
	var all sync.WaitGroup
	for _, send := range []func(context.Context, netip.AddrPort, *soakSent) error{
		sendSoakDatagrams, sendSoakRockets, sendSoakTCPRocket, sendSoakStream,
	} {
		all.Go(func() {
			for ctx.Err() == nil {
				// Each attempt in a time of its own: a connection may be stuck for good.
				attempt, done := context.WithTimeout(ctx, 5*time.Second)
				if err := send(attempt, to, &sent); err != nil && ctx.Err() == nil {
					atomic.AddUint64(&sent.Refused, 1)
					time.Sleep(20 * time.Millisecond)
				}
				done()
			}
		})
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(sent)
}

// sendSoakDatagrams sends ordinary datagrams of many lengths.
func sendSoakDatagrams(ctx context.Context, to netip.AddrPort, sent *soakSent) error {
	datagrams, err := rocket.NewDatagrams(ctx, to, rocket.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = datagrams.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		if err := datagrams.Send(ctx, 20, 60+n%1200); err != nil {
			return err
		}
		atomic.AddUint64(&sent.Datagrams, 20)
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func sendSoakRockets(ctx context.Context, to netip.AddrPort, sent *soakSent) error {
	rockets, err := rocket.NewUDP(ctx, to, rocket.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = rockets.Close() }()
	for ctx.Err() == nil {
		if _, err := rockets.Send(ctx); err != nil {
			return err
		}
		atomic.AddUint64(&sent.Rockets, 1)
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// sendSoakTCPRocket sends one segment over a connection of its own, which a driver that
// drops it leaves stuck.
func sendSoakTCPRocket(ctx context.Context, to netip.AddrPort, sent *soakSent) error {
	tcp, err := rocket.NewTCP(ctx, to, rocket.Options{})
	if err != nil {
		return err
	}
	if _, err := tcp.Send(ctx); err != nil {
		return errors.Join(err, tcp.Abort())
	}
	atomic.AddUint64(&sent.TCPRockets, 1)
	time.Sleep(100 * time.Millisecond)
	return tcp.Abort()
}

// sendSoakStream sends bulk and small segments over one connection.
func sendSoakStream(ctx context.Context, to netip.AddrPort, sent *soakSent) error {
	stream, err := rocket.NewStream(ctx, to, rocket.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for ctx.Err() == nil {
		const bulk, segments = 50_000, 10
		if err := stream.Segments(ctx, segments, 100); err != nil {
			return err
		}
		atomic.AddUint64(&sent.Segments, segments)
		if err := stream.Bulk(ctx, bulk); err != nil {
			return err
		}
		atomic.AddUint64(&sent.BulkBytes, bulk)
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}
