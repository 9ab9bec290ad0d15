//go:build !cgo

package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/record"
	"xentrace/test/leak"
	"xentrace/test/rocket"
)

// kills is how often TestKilledUnderTraffic kills; XENTRACE_KILLS sets it.
const kills = 4

// An exporter that is killed under traffic leaves no BPF object, each one after it counts from
// zero what the interface sends, and all of their recordings can be read.
func TestKilledUnderTraffic(t *testing.T) {
	rounds := kills
	if text := os.Getenv("XENTRACE_KILLS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	l := newLab(t)
	sender := l.sender()
	stop := traffic(t, sender)
	directory := filepath.Join(t.TempDir(), "recording")
	for range rounds {
		before := l.transmitted()
		l.start("--record", directory)
		held := leak.BPFOf(t, l.process.Process.Pid)
		if len(held.Programs) == 0 || len(held.Links) == 0 || len(held.Maps) == 0 {
			t.Fatalf("it holds %+v", held)
		}
		counted := l.metric("xentrace_packets_total", `device="near"`)
		// One that the driver has and has not counted yet.
		if sent := l.transmitted() - before; counted < 1 || counted > float64(sent)+1 {
			t.Errorf("%g packets counted, the interface sent %d since before the start", counted, sent)
		}
		for _, name := range []string{"xentrace_collect_errors_total", "xentrace_unmonitored_seconds_total", "xentrace_recording_paused", "xentrace_hooks_missing"} {
			if got := l.metric(name, ""); got != 0 {
				t.Errorf("%s is %g", name, got)
			}
		}
		if got := l.metric("xentrace_lost_records_total", `reason="ring"`); got != 0 {
			t.Errorf("%g records lost", got)
		}
		l.kill()
		for _, left := range held.Left(t) {
			t.Errorf("%s is left", left)
		}
	}
	stop()
	before := l.transmitted()
	l.start("--record", directory)
	const packets = 100
	for range packets {
		if _, err := sender.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if counted, sent := l.metric("xentrace_packets_total", `device="near"`), l.transmitted()-before; counted != float64(sent) || sent < packets {
		t.Errorf("%g packets counted, the interface sent %d", counted, sent)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	checkRecordings(t, directory, rounds+1, packets)
}

func (l *lab) transmitted() uint64 {
	l.t.Helper()
	sent, _, err := l.near.Transmitted()
	if err != nil {
		l.t.Fatal(err)
	}
	return sent
}

// kill kills the exporter.
func (l *lab) kill() {
	l.t.Helper()
	if err := l.process.Process.Kill(); err != nil {
		l.t.Fatal(err)
	}
	_ = l.process.Wait() // killed
	l.client.CloseIdleConnections()
}

// sender makes one of packets over the slot limit, out of the near end.
func (l *lab) sender() *rocket.UDP {
	l.t.Helper()
	var sink *rocket.UDPSink
	err := l.far.Namespace.Do(func() (err error) {
		sink, err = rocket.NewUDPSink(l.t.Context(), netip.MustParseAddrPort("192.0.2.2:0"))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = sink.Close() })
	var sender *rocket.UDP
	err = l.near.Namespace.Do(func() (err error) {
		sender, err = rocket.NewUDP(l.t.Context(), sink.Local(), rocket.Options{})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = sender.Close() })
	return sender
}

// traffic sends until stop, which returns once the last packet was sent.
func traffic(t *testing.T, sender *rocket.UDP) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			if _, err = sender.Send(ctx); err == nil {
				time.Sleep(time.Millisecond)
			}
		}
		ended <- err
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// checkRecordings reads a directory to its end: it has a start for each run, and at least the
// packets of the last one: those of the last moment before a kill are lost.
func checkRecordings(t *testing.T, directory string, runs, packets int) {
	t.Helper()
	source, err := record.Open(t.Context(), []string{directory}, record.ReadOptions{
		// A segment that was cut off is read to its last whole line.
		Damaged: func(d record.Damage) { t.Log(d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	starts, read := 0, 0
	for {
		e, err := source.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e.(type) {
		case *event.Start:
			starts++
		case *event.Packet:
			read++
		}
	}
	if starts != runs || read < packets {
		t.Errorf("%d starts and %d packets in the recordings, want %d and at least %d", starts, read, runs, packets)
	}
}
