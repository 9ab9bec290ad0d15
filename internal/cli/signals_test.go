package cli

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A second signal within a second of the first is the same request; a later one kills.
func TestSignalsOfOneRequest(t *testing.T) {
	type arrival struct {
		after  time.Duration // since the first
		signal os.Signal
	}
	for name, c := range map[string]struct {
		signals []arrival
		kills   []os.Signal
	}{
		"one":                        {[]arrival{{0, unix.SIGINT}}, nil},
		"twice at once":              {[]arrival{{0, unix.SIGINT}, {time.Millisecond, unix.SIGINT}}, nil},
		"three within a second":      {[]arrival{{0, unix.SIGTERM}, {1, unix.SIGTERM}, {999 * time.Millisecond, unix.SIGTERM}}, nil},
		"again after a second":       {[]arrival{{0, unix.SIGINT}, {time.Second, unix.SIGINT}}, []os.Signal{unix.SIGINT}},
		"twice, then after a second": {[]arrival{{0, unix.SIGINT}, {1, unix.SIGINT}, {2 * time.Second, unix.SIGINT}}, []os.Signal{unix.SIGINT}},
		"another kind at once":       {[]arrival{{0, unix.SIGINT}, {1, unix.SIGQUIT}}, []os.Signal{unix.SIGQUIT}},
		"end of a login session":     {[]arrival{{0, unix.SIGTERM}, {1, unix.SIGHUP}}, nil},
		"hangup after a second":      {[]arrival{{0, unix.SIGTERM}, {time.Second, unix.SIGHUP}}, []os.Signal{unix.SIGHUP}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			signals := make(chan os.Signal, len(c.signals))
			began := time.Now()
			var times []time.Time
			for _, s := range c.signals {
				signals <- s.signal
				times = append(times, began.Add(s.after))
			}
			close(signals)
			n := 0
			clock := func() time.Time { n++; return times[n-1] }
			var killed []os.Signal
			endAtSignal(ctx, cancel, signals, clock, func(s os.Signal) { n++; killed = append(killed, s) })
			if ctx.Err() == nil || !slices.Equal(killed, c.kills) {
				t.Errorf("ended: %v; killed by %v, want %v", ctx.Err() != nil, killed, c.kills)
			}
		})
	}
}

// A run that ended otherwise, by a key, is killed by the first signal.
func TestSignalAfterTheEndKills(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	signals := make(chan os.Signal, 1)
	signals <- unix.SIGINT
	close(signals)
	killed := 0
	endAtSignal(ctx, cancel, signals, time.Now, func(os.Signal) { killed++ })
	if killed != 1 {
		t.Errorf("killed %d times, want 1", killed)
	}
}

// timeout(1) sends its signal to the process and to the process group.
func TestSignalSentTwiceEndsWithASummary(t *testing.T) {
	t.Parallel()
	p := newProcess(t, []string{"XENTRACE_FAKE_RECORDS=2000", "XENTRACE_FAKE_PACE_US=200"}, "watch", "-o", "json")
	var stdout bytes.Buffer
	p.Stdout = &stdout
	p.attached(t)
	p.signal(t, unix.SIGINT)
	time.Sleep(5 * time.Millisecond) // two that are pending at once are one
	_ = p.Process.Signal(unix.SIGINT)
	if status := p.wait(t); !status.Exited() || status.ExitStatus() != 0 || !strings.Contains(stdout.String(), `"type":"summary"`) {
		t.Errorf("ended with %v; no summary in %d bytes", status, stdout.Len())
	}
}
