package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"xentrace/test/schema"

	"golang.org/x/sys/unix"
)

// Log2 is a histogram: upper bound to count.
type Log2 map[uint64]uint64

// Count returns how many values were counted.
func (h Log2) Count() uint64 {
	var sum uint64
	for _, n := range h {
		sum += n
	}
	return sum
}

// TransmitQueue is one queue of an object of type "congestion".
type TransmitQueue struct {
	Queue            int
	Packets, Bytes   uint64
	Slots, Busy      uint64
	Occupancy        Log2
	FullMs           *uint64 `json:"full_ms"`
	Stops            uint64
	WakeUs           Log2    `json:"wake_us"`
	CompletionUs     Log2    `json:"completion_us"`
	CompletionMeanUs *uint64 `json:"completion_mean_us"`
	Responses        *uint64
	ResponseRuns     *uint64 `json:"response_runs"`
	Notifications    *uint64
	Copied           *uint64
	Interrupts       *uint64
}

// Congestion is an object of type "congestion".
type Congestion struct {
	Type             string
	Ifname, Driver   string
	DurationMs       uint64 `json:"duration_ms"`
	Packets, Bytes   uint64
	PacketsPerSecond float64 `json:"packets_per_second"`
	Queues           []TransmitQueue
	SizeBytes        Log2 `json:"size_bytes"`
	Slots            Log2
	SmallPacketShare float64  `json:"small_packet_share"`
	BytesPerSlot     float64  `json:"bytes_per_slot"`
	PayloadBytes     uint64   `json:"payload_bytes"`
	FullShare        *float64 `json:"full_share"`
	Copied           *uint64
	PpsBound         *float64 `json:"pps_bound"`
	PpsBoundShare    *float64 `json:"pps_bound_share"`
	Receive          *struct {
		Polls, Packets  uint64
		PacketsPerPoll  float64 `json:"packets_per_poll"`
		BudgetExhausted uint64  `json:"budget_exhausted"`
	}
	CPU *struct {
		Count            int
		Hottest          int
		HottestBusyShare float64 `json:"hottest_busy_share"`
		RestBusyShare    float64 `json:"rest_busy_share"`
		StealShare       float64 `json:"steal_share"`
	}
	TCP *struct {
		Accepts         *uint64
		AcceptUs        Log2    `json:"accept_us"`
		ListenOverflows *uint64 `json:"listen_overflows"`
		ListenDrops     *uint64 `json:"listen_drops"`
		Established     uint64
		Opened, Closed  uint64
		Listeners       []struct {
			Port          int
			Accepts, Full uint64
			LongestQueue  uint64 `json:"longest_queue"`
			Backlog       uint64
		}
	}
	SmallPacketCongestion bool `json:"small_packet_congestion"`
	Verdict               []struct {
		ID       string
		Message  string
		Evidence map[string]any
		Advice   []struct{ Command, Effect, Cost *string }
	}
	Baseline map[string]struct{ Before, Now *float64 }
	Lost     struct{ Recursion *uint64 }
	Missing  map[string]string
}

// Limits returns the ids of the verdict.
func (c *Congestion) Limits() []string {
	var ids []string
	for _, v := range c.Verdict {
		ids = append(ids, v.ID)
	}
	return ids
}

// Is reports whether the verdict is this alone.
func (c *Congestion) Is(id string) bool { return slices.Equal(c.Limits(), []string{id}) }

// StopText interrupts the program and returns what it wrote, whatever that is.
func (r *Run) StopText() string {
	r.t.Helper()
	if err := r.cmd.Process.Signal(unix.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Fatal(err)
	}
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("not ended %v after the interrupt\n%s", patience, r.stderr.String())
	}
	return r.stdout.String()
}

// StopMeasuring interrupts xentrace congestion and returns its reports, which must be JSON.
func (r *Run) StopMeasuring() []Congestion {
	r.t.Helper()
	return ParseCongestion(r.t, []byte(r.StopText()))
}

// ParseCongestion reads lines of type congestion; each must have every key.
func ParseCongestion(t testing.TB, text []byte) []Congestion {
	t.Helper()
	schema.Check(t, text)
	var all []Congestion
	for line := range bytes.Lines(text) {
		decoder := json.NewDecoder(bytes.NewReader(line))
		var c Congestion
		if err := decoder.Decode(&c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if c.Type != "congestion" {
			t.Fatalf("type %q: %s", c.Type, line)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		t.Fatal("no report")
	}
	return all
}
