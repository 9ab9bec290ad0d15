package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/congestion"
)

func pointer[T any](value T) *T { return &value }

// healthy is a busy interface that nothing holds back.
func healthy() *congestion.Report {
	full, latency, copied, overflows := time.Duration(0), 200*time.Microsecond, uint64(0), uint64(0)
	total := congestion.Queue{
		Packets: 10000, Bytes: 1_500_000, Payload: 1_000_000, Small: 9000, Slots: 10000,
		Full: &full, MeanLatency: &latency, Copied: &copied, Occupancy: congestion.Histogram{9000, 1000},
	}
	return &congestion.Report{
		Duration: time.Second, Name: "eth0", Driver: Netfront, Total: total,
		Queues: []congestion.Queue{total, {Number: 1, Full: &full}},
		CPU:    &congestion.CPU{Count: 2, HottestInterrupts: 0.4, HottestBusy: 0.5, RestBusy: 0.4, InterruptShare: pointer(0.6)},
		TCP:    &congestion.TCP{Established: 1000, Overflows: &overflows, Drops: &overflows},
		Bound:  &congestion.RingBound{PacketsPerSecond: 1_000_000, Queues: 2, SlotsPerPacket: 1, Latency: latency, Share: 0.01},
	}
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		change func(*congestion.Report)
		limits []LimitID
		small  bool
	}{
		{"healthy", func(*congestion.Report) {}, []LimitID{LimitNone}, false},
		{"a queue stopped for a tenth of the time", func(r *congestion.Report) {
			r.Total.Stops, r.Queues[0].Full = 40, pointer(100*time.Millisecond)
		}, []LimitID{LimitRing}, true},
		{"stopped for less than a twentieth", func(r *congestion.Report) {
			r.Total.Stops, r.Queues[0].Full = 4, pointer(40*time.Millisecond)
		}, []LimitID{LimitNone}, false},
		{"stopped, and nothing sent to speak of", func(r *congestion.Report) {
			r.Total.Packets, r.Total.Stops, r.Queues[0].Full = 99, 1, pointer(time.Second)
		}, []LimitID{LimitNone}, false},
		{"large packets and a full ring", func(r *congestion.Report) {
			r.Total.Stops, r.Queues[0].Full = 40, pointer(100*time.Millisecond)
			r.Total.Small, r.Total.Payload = 100, 30_000_000
		}, []LimitID{LimitRing}, false},
		{"an answer that takes a second, with the ring not full", func(r *congestion.Report) {
			r.Total.Latency = congestion.Histogram{0: 9999, 22: 1} // from 1.05 to 2.1 s
		}, []LimitID{LimitRing}, true},
		{"an answer that takes less", func(r *congestion.Report) {
			r.Total.Latency = congestion.Histogram{0: 9999, 21: 1}
		}, []LimitID{LimitNone}, false},
		{"an answer that takes a second once in a minute", func(r *congestion.Report) {
			r.Duration, r.Total.Latency = time.Minute, congestion.Histogram{0: 9999, 22: 1}
		}, []LimitID{LimitNone}, false},
		{"near the bound, with the ring mostly in use", func(r *congestion.Report) {
			r.Bound.Share, r.Total.Occupancy = 0.9, congestion.Histogram{0, 0, 0, 0, 0, 0, 0, 0, 10000}
		}, []LimitID{LimitRing}, true},
		{"near the bound by numbers, with an empty ring", func(r *congestion.Report) { r.Bound.Share = 0.9 }, []LimitID{LimitNone}, false},
		{"one queue and one hot processor", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(1.0)
		}, []LimitID{LimitOneQueue}, true},
		{"two queues whose interrupts go to one processor", func(r *congestion.Report) {
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(1.0)
		}, []LimitID{LimitOneQueue}, true},
		{"one queue whose interrupts are spread", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(0.4)
		}, []LimitID{LimitNone}, false},
		{"one queue whose interrupts go mostly there", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(0.6)
		}, []LimitID{LimitOneQueue}, true},
		{"two queues whose interrupts go mostly there", func(r *congestion.Report) {
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, pointer(0.6)
		}, []LimitID{LimitNone}, false},
		{"the interrupts on another processor than the hot one", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare, r.CPU.InterruptsCPU = 0.95, 0.1, pointer(1.0), 1
		}, []LimitID{LimitNone}, false},
		{"one queue whose interrupts are not told", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy, r.CPU.InterruptShare = 0.95, 0.1, nil
		}, []LimitID{LimitOneQueue}, true},
		{"one queue, and all processors busy", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.HottestBusy, r.CPU.RestBusy = 0.95, 0.9
		}, []LimitID{LimitNone}, false},
		{"one queue and one processor", func(r *congestion.Report) {
			r.Queues = r.Queues[:1]
			r.CPU.Count, r.CPU.HottestBusy, r.CPU.RestBusy = 1, 1, 0
		}, []LimitID{LimitNone}, false},
		{"every packet copied", func(r *congestion.Report) { *r.Total.Copied = 10000 }, []LimitID{LimitCopies}, false},
		{"a packet copied now and then", func(r *congestion.Report) { *r.Total.Copied = 999 }, []LimitID{LimitNone}, false},
		{"steal", func(r *congestion.Report) { r.CPU.Steal = 0.3 }, []LimitID{LimitSteal}, false},
		{"a full accept queue", func(r *congestion.Report) { *r.TCP.Overflows = 100 }, []LimitID{LimitAcceptQueue}, false},
		{"one connection of thousands lost", func(r *congestion.Report) { *r.TCP.Overflows = 9 }, []LimitID{LimitNone}, false},
		{"two at once", func(r *congestion.Report) { *r.TCP.Overflows, r.CPU.Steal = 100, 0.3 }, []LimitID{LimitSteal, LimitAcceptQueue}, false},
		{"a full ring, and steal", func(r *congestion.Report) {
			r.Total.Stops, r.Queues[0].Full = 40, pointer(100*time.Millisecond)
			r.CPU.Steal = 0.3
		}, []LimitID{LimitRing, LimitSteal}, true},
		{"nothing could be measured", func(r *congestion.Report) {
			*r = congestion.Report{Name: "eth0", Total: congestion.Queue{Packets: 10000}}
		}, []LimitID{LimitNone}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := healthy()
			test.change(r)
			j := OfCongestion(r)
			var limits []LimitID
			for _, limit := range j.Limits {
				limits = append(limits, limit.ID)
				if limit.ID != LimitNone && (len(limit.Evidence) < 2 || len(limit.Advice) == 0) {
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

func TestSmallPacketSentence(t *testing.T) {
	r := healthy()
	r.Total.Stops, r.Queues[0].Full = 40, pointer(410*time.Millisecond)
	want := "Small packet congestion detected: 90 % of 10000 packets/s carry less than 256 bytes, a slot carries 100 bytes of payload, and the limit is ring; the ring was full 41 % of the time."
	if got := OfCongestion(r).Sentence; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProcessorsAsAMask(t *testing.T) {
	for n, want := range map[int]string{1: "1", 2: "3", 8: "ff", 32: "ffffffff", 33: "1,ffffffff", 70: "3f,ffffffff,ffffffff"} {
		if got := processors(n); got != want {
			t.Errorf("%d processors: %s, want %s", n, got, want)
		}
	}
}
