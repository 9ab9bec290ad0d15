package output

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

func addressOf[T any](value T) *T { return &value }

// busyFrontend is an interface with a full ring and small packets.
func busyFrontend() *event.Congestion {
	latency := 1234 * time.Microsecond
	queue := event.CongestionQueue{
		Packets: 400_000, Bytes: 40_000_000, Payload: 20_000_000, Small: 390_000, Slots: 420_000, Stops: 321,
		Full: addressOf(4100 * time.Millisecond), Wake: event.Log2{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200, 21},
		Occupancy: event.Log2{1000, 2000, 0, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 145_000},
		Latency:   event.Log2{0, 0, 0, 0, 0, 0, 0, 0, 0, 100_000, 200_000, 90_000, 10_000}, MeanLatency: &latency, Completed: 400_000,
		Responses: addressOf(uint64(420_000)), Runs: addressOf(uint64(10_000)), Notifications: addressOf(uint64(50_000)),
		Copied: addressOf(uint64(12)), Interrupts: addressOf(uint64(11_000)),
	}
	idle := event.CongestionQueue{Number: 1, Full: addressOf(time.Duration(0))}
	r := &event.CongestionReport{
		Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Duration: 10 * time.Second, Name: "eth0", Index: 2, NetNS: 4026531840, Driver: "xen-netfront",
		Queues: []event.CongestionQueue{queue, idle}, Total: queue, Sizes: event.Log2{7: 390_000, 8: 0, 9: 10_000}, Slots: event.Log2{0, 380_000, 20_000},
		Receive: &event.Receive{Polls: 1000, Packets: 3500, Exhausted: 2},
		CPU:     &event.CPULoad{Count: 2, Hottest: 1, HottestInterrupts: 0.4, HottestBusy: 0.7, RestBusy: 0.5, InterruptShare: addressOf(0.98), InterruptsCPU: 1},
		TCP: &event.Accepts{Accepts: addressOf(uint64(5000)), Accept: event.Log2{0, 0, 0, 0, 0, 0, 0, 0, 0, 4000, 1000}, Established: 5000, Opened: 5010, Closed: 4990,
			Overflows: addressOf(uint64(300)), Drops: addressOf(uint64(310)), Listeners: []event.Listener{{Port: 80, Accepts: 5000, Longest: 129, Limit: 128, Full: 40}}},
		Bound:   &event.RingBound{PacketsPerSecond: 182_914, Queues: 1, SlotsPerPacket: 1.05, Latency: latency, Share: 0.219},
		Missing: map[string]string{},
	}
	facts := sampleFacts(event.Device{Name: r.Name})
	facts.TSO, facts.GSO, facts.Linearizes = remedy.Off, remedy.Off, remedy.On
	return &event.Congestion{Report: r, Judgment: verdict.OfCongestion(r, facts), Changes: []event.Change{
		{Key: "packets_per_second", Before: addressOf(80_000.0), Now: addressOf(40_000.0)}, {Key: "full_share", Before: addressOf(0.0), Now: addressOf(0.41)},
		{Key: "steal_share", Before: nil, Now: addressOf(0.0)}, {Key: "bytes_per_slot", Before: addressOf(47.6), Now: addressOf(47.6)},
	}}
}

func TestCongestionInText(t *testing.T) {
	c := busyFrontend()
	text := &Text{Width: func() int { return 80 }, Blocks: true}
	got := string(text.AppendCongestion(nil, c))
	short := string(text.AppendCongestionShort(nil, c))
	for line := range strings.Lines(got + short) {
		if n := utf8.RuneCountInString(line) - 1; n > 80 && !strings.HasPrefix(line, "  # ") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	for _, part := range []string{
		"Small packet congestion detected: 98 % of 40000 packets/s carry under 256",
		"ring: The backend is the bottleneck", "accept_queue: An application is the bottleneck", "  # ethtool -K eth0 tso on gso on\n", "  # ss -ltnp 'sport = :80'\n",
		"ring full      41.0 % of the time, 321 stops, half of them up to 2.0 ms\n",
		"completion     mean 1.2 ms, 99 % within 2.0 ms (1 packet in 17)\n", "notifications  50,000 (0.12 per packet); 42.0 TX responses per run\n",
		"completion mean 1.2 ms, completion longest 2.0 ms,\n  bound in packets/s 182914, of it sent 21.9 %, wake p99 4.1 ms)\n",
		"bound          182,914/s = 1 x 237 slots / (1.05 slots x 1.2 ms); 21.9 % sent",
		"listener       port 80: 5,000 accepts, longest queue 129 (backlog 128)\n",
		"changed        packets per second 40,000, was 80,000 (-50 %)\n", "changed        full 41.0 %, was 0.0 %\n",
		"ring slots in use at each packet\n", "completion: driver to TX response, 1 packet in 17\n", "SYN to accept\n",
		"   256+  145,000   36.2 %  █",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in\n%s", part, got)
		}
	}
	if strings.Contains(got, "steal share") || strings.Contains(got, "bytes per slot") {
		t.Errorf("a figure that is the same, or was not known, is compared:\n%s", got)
	}
	if lines := strings.Count(short, "\n"); lines > 24 {
		t.Errorf("%d lines every second:\n%s", lines, short)
	}
}

func TestCongestionInJSON(t *testing.T) {
	line := JSON{}.AppendCongestion(nil, busyFrontend())
	var got struct {
		Queues []struct {
			Occupancy map[string]uint64
			FullMs    uint64   `json:"full_ms"`
			WakeUs    struct{} `json:"wake_us"`
		}
		SizeBytes  map[string]uint64 `json:"size_bytes"`
		PpsBound   float64           `json:"pps_bound"`
		SmallShare float64           `json:"small_packet_share"`
		Verdict    []struct {
			ID       string
			Evidence map[string]float64
		}
		Baseline map[string]struct{ Before, Now *float64 }
	}
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if !strings.HasPrefix(string(line), `{"type":"congestion","time":"2026-11-22T12:00:00.000000000Z","ifname":"eth0",`) || strings.Count(string(line), "\n") != 1 {
		t.Errorf("begins with %.90s", line)
	}
	if len(got.Queues) != 2 || got.Queues[0].FullMs != 4100 || got.Queues[0].Occupancy["256"] != 145_000 || got.SizeBytes["64"] != 390_000 || len(got.SizeBytes) != 2 ||
		got.PpsBound != 182_914 || got.SmallShare != 0.975 {
		t.Errorf("%+v", got)
	}
	if len(got.Verdict) != 2 || got.Verdict[0].ID != "ring" || got.Verdict[0].Evidence["full_share"] != 0.41 || got.Verdict[1].Evidence["port"] != 80 {
		t.Errorf("verdict %+v", got.Verdict)
	}
	if b := got.Baseline["steal_share"]; b.Before != nil || b.Now == nil {
		t.Errorf("baseline %+v", got.Baseline)
	}
}

// A change of a figure that was next to nothing has no percentage, which would be Inf.
func TestChangesOfSmallFigures(t *testing.T) {
	for _, before := range []float64{0, 5e-324, 1e-300, 0.04, 0.05, 1, 1e15} {
		for _, now := range []float64{0, 1, 1e15} {
			c := event.Congestion{Report: busyFrontend().Report, Changes: []event.Change{{Key: "packets_per_second", Before: &before, Now: &now}}}
			text := string((&Text{}).AppendCongestion(nil, &c)) + string(JSON{}.AppendCongestion(nil, &c))
			if strings.Contains(text, "Inf") || strings.Contains(text, "NaN") {
				t.Errorf("%v, was %v:\n%s", now, before, text)
			}
			if rows := changeRows(c.Changes); before < 0.05 && len(rows) > 0 && strings.Contains(rows[0].text, "%") {
				t.Errorf("%v, was %v: %s", now, before, rows[0].text)
			}
		}
	}
}
