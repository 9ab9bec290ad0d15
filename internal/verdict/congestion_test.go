package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

func pointer[T any](value T) *T { return &value }

// healthy is a busy interface that nothing holds back.
func healthy() *event.CongestionReport {
	full, latency, copied, overflows := time.Duration(0), 200*time.Microsecond, uint64(0), uint64(0)
	total := event.CongestionQueue{
		Packets: 10000, Bytes: 1_500_000, Payload: 1_000_000, Small: 9000, Slots: 10000,
		Full: &full, MeanLatency: &latency, Copied: &copied, Occupancy: event.Log2{9000, 1000},
	}
	return &event.CongestionReport{
		Duration: time.Second, Name: "eth0", Driver: Netfront, Total: total,
		Queues: []event.CongestionQueue{total, {Number: 1, Full: &full}},
		CPU:    &event.CPULoad{Count: 2, HottestInterrupts: 0.4, HottestBusy: 0.5, RestBusy: 0.4, InterruptShare: pointer(0.6)},
		TCP:    &event.Accepts{Established: 1000, Overflows: &overflows, Drops: &overflows},
		Bound:  &event.RingBound{PacketsPerSecond: 1_000_000, Queues: 2, SlotsPerPacket: 1, Latency: latency, Share: 0.01},
	}
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		change func(*event.CongestionReport)
		limits []event.LimitID
		small  bool
	}{
		{"healthy", func(*event.CongestionReport) {}, []event.LimitID{event.LimitNone}, false},
		{"a queue stopped for a tenth of the time", func(r *event.CongestionReport) {
			r.Total.Stops, r.Queues[0].Full = 40, pointer(100*time.Millisecond)
		}, []event.LimitID{event.LimitRing}, true},
		{"stopped for less than a twentieth", func(r *event.CongestionReport) {
			r.Total.Stops, r.Queues[0].Full = 4, pointer(40*time.Millisecond)
		}, []event.LimitID{event.LimitNone}, false},
		{"stopped, and nothing sent to speak of", func(r *event.CongestionReport) {
			r.Total.Packets, r.Total.Stops, r.Queues[0].Full = 99, 1, pointer(time.Second)
		}, []event.LimitID{event.LimitNone}, false},
		{"large packets and a full ring", func(r *event.CongestionReport) {
			r.Total.Stops, r.Queues[0].Full = 40, pointer(100*time.Millisecond)
			r.Total.Small, r.Total.Payload = 100, 30_000_000
		}, []event.LimitID{event.LimitRing}, false},
		{"an answer that takes a second, with the ring not full", func(r *event.CongestionReport) {
			r.Total.Latency = event.Log2{0: 9999, 22: 1} // from 1.05 to 2.1 s
		}, []event.LimitID{event.LimitRing}, true},
		{"an answer that takes less", func(r *event.CongestionReport) {
			r.Total.Latency = event.Log2{0: 9999, 21: 1}
		}, []event.LimitID{event.LimitNone}, false},
		{"an answer that takes a second once in a minute", func(r *event.CongestionReport) {
			r.Duration, r.Total.Latency = time.Minute, event.Log2{0: 9999, 22: 1}
		}, []event.LimitID{event.LimitNone}, false},
		{"near the bound, with the ring mostly in use", func(r *event.CongestionReport) {
			r.Bound.Share, r.Total.Occupancy = 0.9, event.Log2{0, 0, 0, 0, 0, 0, 0, 0, 10000}
		}, []event.LimitID{event.LimitRing}, true},
		{"near the bound by numbers, with an empty ring", func(r *event.CongestionReport) { r.Bound.Share = 0.9 }, []event.LimitID{event.LimitNone}, false},
		{"one queue and one hot CPU", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(1.0)
		}, []event.LimitID{event.LimitOneQueue}, true},
		{"two queues whose interrupts go to one CPU", func(r *event.CongestionReport) {
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(1.0)
		}, []event.LimitID{event.LimitOneQueue}, true},
		{"one queue whose interrupts are spread", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(0.4)
		}, []event.LimitID{event.LimitNone}, false},
		{"one queue whose interrupts go mostly there", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(0.6)
		}, []event.LimitID{event.LimitOneQueue}, true},
		{"two queues whose interrupts go mostly there", func(r *event.CongestionReport) {
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(0.6)
		}, []event.LimitID{event.LimitNone}, false},
		{"the interrupts on another CPU than the hot one", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare, r.CPU.InterruptsCPU = 0.95, 0.1, pointer(1.0), 1
		}, []event.LimitID{event.LimitNone}, false},
		{"one queue whose interrupts are not reported", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, nil
		}, []event.LimitID{event.LimitOneQueue}, true},
		{"one queue, and all CPUs busy", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy = 0.95, 0.9
		}, []event.LimitID{event.LimitNone}, false},
		{"one queue and one CPU", func(r *event.CongestionReport) {
			r.Queues = r.Queues[:1]
			r.CPU.Count, r.CPU.HottestBusy, r.CPU.RestBusy = 1, 1, 0
		}, []event.LimitID{event.LimitNone}, false},
		{"every packet copied", func(r *event.CongestionReport) { *r.Total.Copied = 10000 }, []event.LimitID{event.LimitCopies}, false},
		{"a packet copied now and then", func(r *event.CongestionReport) { *r.Total.Copied = 999 }, []event.LimitID{event.LimitNone}, false},
		{"steal", func(r *event.CongestionReport) { r.CPU.Steal = 0.3 }, []event.LimitID{event.LimitSteal}, false},
		{"a full accept queue", func(r *event.CongestionReport) { *r.TCP.Overflows = 100 }, []event.LimitID{event.LimitAcceptQueue}, false},
		{"one connection of thousands lost", func(r *event.CongestionReport) { *r.TCP.Overflows = 9 }, []event.LimitID{event.LimitNone}, false},
		{"two at once", func(r *event.CongestionReport) { *r.TCP.Overflows, r.CPU.Steal = 100, 0.3 }, []event.LimitID{event.LimitSteal, event.LimitAcceptQueue}, false},
		{"a full ring, and steal", func(r *event.CongestionReport) {
			r.Total.Stops, r.Queues[0].Full = 40, pointer(100*time.Millisecond)
			r.CPU.Steal = 0.3
		}, []event.LimitID{event.LimitRing, event.LimitSteal}, true},
		{"nothing could be measured", func(r *event.CongestionReport) {
			*r = event.CongestionReport{Name: "eth0", Total: event.CongestionQueue{Packets: 10000}}
		}, []event.LimitID{event.LimitNone}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := healthy()
			test.change(r)
			j := OfCongestion(r, remedy.Facts{CPUs: []int{0, 1}, Driver: remedy.Module})
			var limits []event.LimitID
			for _, limit := range j.Limits {
				limits = append(limits, limit.ID)
				if limit.ID != event.LimitNone && (len(limit.Evidence) < 2 || len(limit.Advice) == 0) {
					t.Errorf("%s: evidence %v, %d pieces of advice", limit.ID, limit.Evidence, len(limit.Advice))
				}
				for _, a := range limit.Advice {
					if strings.Contains(a.Command, "{") || a.Effect == "" {
						t.Errorf("%s: advice %+v is not complete", limit.ID, a)
					}
				}
			}
			if !slices.Equal(limits, test.limits) || j.SmallPackets != test.small || (j.Sentence != "") != test.small {
				t.Errorf("limits %v, small packets %v (%q): want %v, %v", limits, j.SmallPackets, j.Sentence, test.limits, test.small)
			}
		})
	}
}

// Spurious events are evidence of a full ring, and many of them have a remedy.
func TestSpuriousEventsInCongestion(t *testing.T) {
	for _, test := range []struct {
		events *event.Events
		fixed  bool
		facts  int // of the evidence
		advice string
	}{
		{nil, false, 0, ""},
		{&event.Events{Total: 90000}, false, 0, ""},
		{&event.Events{Device: "vif-0", Total: 90000, Spurious: 800, Threshold: 1}, false, 3, ""},
		{&event.Events{Device: "vif-0", Total: 90000, Spurious: 9000, DelayedJiffies: 70, Threshold: 1}, false, 3, "spurious-fix spurious-threshold spurious-host"},
		{&event.Events{Device: "vif-0", Total: 90000, Spurious: 9000, DelayedJiffies: 70, Threshold: 20}, true, 3, "spurious-host"},
	} {
		r := healthy()
		r.Total.Stops, r.Queues[0].Full, r.Events = 40, pointer(100*time.Millisecond), test.events
		limit := OfCongestion(r, remedy.Facts{SpuriousFix: test.fixed}).Limits[0]
		count := 0
		for _, fact := range limit.Evidence {
			if fact.Key == "events" || fact.Key == "spurious_events" || fact.Key == "jiffies_eoi_delayed" {
				count++
			}
		}
		var advice []string
		for _, a := range limit.Advice {
			if strings.HasPrefix(a.ID, "spurious") {
				advice = append(advice, a.ID)
			}
		}
		if got := strings.Join(advice, " "); limit.ID != event.LimitRing || count != test.facts || got != test.advice {
			t.Errorf("%+v: %s, %d facts, advice %q; want %d, %q", test.events, limit.ID, count, got, test.facts, test.advice)
		}
	}
}

func TestSmallPacketSentence(t *testing.T) {
	r := healthy()
	r.Total.Stops, r.Queues[0].Full = 40, pointer(410*time.Millisecond)
	want := "Small packet congestion detected: 90 % of 10000 packets/s carry under 256 bytes, a slot carries 100 bytes of payload, and the bottleneck is ring; the ring was full 41 % of the time."
	if got := OfCongestion(r, remedy.Facts{CPUs: []int{0, 1}, Driver: remedy.Module}).Sentence; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
