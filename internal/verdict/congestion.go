package verdict

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// Thresholds from which something is a bottleneck. Below them it may be busy.
const (
	fewPackets     = 100         // fewer show nothing
	fullMuch       = 0.05        // of the time that a queue was stopped
	slowLong       = time.Second // to a TX response, if that is also fullMuch of the time
	boundNear      = 0.8         // of the packet rate bound
	boundOccupancy = 64          // slots in use at that rate; fewer are no pressure, however slow the backend
	copiesMany     = 0.1         // of the packets
	stealMuch      = 0.1         // of the time
	busyMuch       = 0.8         // of the busiest CPU's time
	restIdle       = 0.5         // of it: the other CPUs are less busy than this
	oneCPU         = 0.95        // of the interrupts of several queues go to one CPU
	mostOfOne      = 0.5         // of those of one queue, which has an interrupt per direction
	overflowsMany  = 0.01        // of the incoming connections
	smallMany      = 0.5         // of the packets
	smallSlot      = 512         // bytes of payload in a slot
)

type limitRule struct {
	id       event.LimitID
	holds    func(*event.CongestionReport) bool
	meaning  string
	evidence func(*event.CongestionReport) []event.Fact
	remedies []remedy.ID
}

// limitRules are in the order of the output.
var limitRules = []limitRule{
	{
		id: event.LimitRing, holds: ringHolds, evidence: ringEvidence,
		meaning:  "The backend is the bottleneck: its TX responses are slow, so the TX ring or the send buffers of a few senders are full.",
		remedies: []remedy.ID{remedy.BypassDevice, remedy.Dom0Weight, remedy.Dom0Pin, remedy.SpuriousFix, remedy.SpuriousThreshold, remedy.SpuriousHost, remedy.FewerPackets, remedy.OffloadOn, remedy.MaxQueues, remedy.QueuesBuiltIn, remedy.QueuesSet, remedy.QueuesPending, remedy.BackendQueues},
	},
	{
		id: event.LimitOneQueue, holds: oneQueueHolds, evidence: oneQueueEvidence,
		meaning:  "One CPU is the bottleneck: it handles the interface's interrupts and is busy, the others are not.",
		remedies: []remedy.ID{remedy.MaxQueues, remedy.QueuesBuiltIn, remedy.QueuesSet, remedy.QueuesPending, remedy.BackendQueues, remedy.RPS, remedy.Irqbalance, remedy.GetIrqbalance, remedy.SpuriousFix, remedy.SpuriousThreshold, remedy.BypassDevice},
	},
	{
		id: event.LimitCopies, holds: copiesHold, evidence: copiesEvidence,
		meaning:  "Copies are a bottleneck: the frontend copies packets before sending them.",
		remedies: []remedy.ID{remedy.TrustSet, remedy.TrustBackend, remedy.SinglePages},
	},
	{
		id: event.LimitSteal, holds: stealHolds, evidence: stealEvidence,
		meaning:  "The hypervisor is the bottleneck: the vCPUs were ready to run while it ran others.",
		remedies: []remedy.ID{remedy.LessLoadedHost, remedy.GuestWeight},
	},
	{
		id: event.LimitAcceptQueue, holds: acceptQueueHolds, evidence: acceptQueueEvidence,
		meaning:  "An application is the bottleneck: it accepts connections more slowly than they arrive, its accept queue is full, and connections are dropped.",
		remedies: []remedy.ID{remedy.AcceptFaster, remedy.Somaxconn},
	},
}

// OfCongestion names the bottlenecks. A figure that could not be measured never is one.
func OfCongestion(r *event.CongestionReport, f remedy.Facts) event.Judgment {
	var j event.Judgment
	var used []string // up by packets, not by bytes
	f.Interface, f.Queues = r.Name, len(r.Queues)
	if r.TCP != nil && len(r.TCP.Listeners) > 0 {
		f.Port, f.Backlog = r.TCP.Listeners[0].Port, int(r.TCP.Listeners[0].Limit)
	}
	if r.Events != nil {
		f.Spurious, f.SpuriousThreshold, f.Vif = ManySpurious(r.Events.Total, r.Events.Spurious), r.Events.Threshold, r.Events.Device
	}
	for _, rule := range limitRules {
		if !rule.holds(r) {
			continue
		}
		if rule.id == event.LimitRing || rule.id == event.LimitOneQueue {
			used = append(used, string(rule.id))
		}
		j.Limits = append(j.Limits, event.Bottleneck{ID: rule.id, Meaning: rule.meaning, Evidence: rule.evidence(r), Advice: remedy.For(f, rule.remedies...)})
	}
	if len(j.Limits) == 0 {
		j.Limits = []event.Bottleneck{{ID: event.LimitNone, Meaning: "No bottleneck found."}}
	}
	t := &r.Total
	if len(used) > 0 && t.Packets >= fewPackets && t.SmallShare() >= smallMany && t.BytesPerSlot() < smallSlot {
		j.SmallPackets, j.Sentence = true, smallSentence(r, used)
	}
	return j
}

func smallSentence(r *event.CongestionReport, limits []string) string {
	t := &r.Total
	s := fmt.Sprintf("Small packet congestion detected: %.0f %% of %.0f packets/s carry under 256 bytes, a slot carries %.0f bytes of payload, and the bottleneck is %s",
		100*t.SmallShare(), r.Rate(t.Packets), t.BytesPerSlot(), strings.Join(limits, " and "))
	if full := r.FullShare(); full > 0 {
		s += fmt.Sprintf("; the ring was full %.0f %% of the time", 100*full)
	}
	return s + "."
}

// Spurious events are many from this number and share on.
const (
	spuriousSome = 1000
	spuriousMany = 0.01
)

// ManySpurious reports whether so many events of an interface were spurious that the delays of
// XSA-332 matter.
func ManySpurious(events, spurious uint32) bool {
	return spurious >= spuriousSome && event.Ratio(uint64(spurious), uint64(events)) >= spuriousMany
}

func ringHolds(r *event.CongestionReport) bool {
	if r.Total.Packets < fewPackets {
		return false
	}
	if r.Total.Stops > 0 && r.FullShare() >= fullMuch {
		return true
	}
	// A few senders fill their send buffers before they fill the ring.
	if long := longestAnswer(&r.Total); long >= slowLong && float64(long) >= fullMuch*float64(r.Duration) {
		return true
	}
	return r.Bound != nil && r.Bound.Share >= boundNear && r.Total.Occupancy.Quantile(0.5) >= boundOccupancy
}

func longestAnswer(q *event.CongestionQueue) time.Duration {
	return time.Duration(q.Latency.Quantile(1)/2) * time.Microsecond
}

func oneQueueHolds(r *event.CongestionReport) bool {
	c := r.CPU
	if c == nil || c.Count < 2 || r.Total.Packets < fewPackets {
		return false
	}
	hot := c.HottestBusy >= busyMuch && c.RestBusy <= restIdle*c.HottestBusy
	if c.InterruptShare == nil {
		return hot && len(r.Queues) == 1
	}
	// A CPU kept busy by an application, without the interrupts, is not it.
	enough := oneCPU
	if len(r.Queues) == 1 {
		enough = mostOfOne
	}
	return hot && *c.InterruptShare >= enough && c.InterruptsCPU == c.Hottest
}

func copiesHold(r *event.CongestionReport) bool {
	return r.Total.Packets >= fewPackets && r.Total.Copied != nil && event.Ratio(*r.Total.Copied, r.Total.Packets) >= copiesMany
}

func stealHolds(r *event.CongestionReport) bool { return r.CPU != nil && r.CPU.Steal >= stealMuch }

func acceptQueueHolds(r *event.CongestionReport) bool {
	if r.TCP == nil || r.TCP.Overflows == nil || *r.TCP.Overflows == 0 {
		return false
	}
	return event.Ratio(*r.TCP.Overflows, *r.TCP.Overflows+r.TCP.Established) >= overflowsMany
}

func ringEvidence(r *event.CongestionReport) []event.Fact {
	figures := []event.Fact{{Key: "full_share", Value: share(r.FullShare())}, {Key: "stops", Value: r.Total.Stops}}
	if r.Total.MeanLatency != nil {
		figures = append(figures, event.Fact{Key: "completion_mean_us", Value: r.Total.MeanLatency.Microseconds()}, event.Fact{Key: "completion_longest_us", Value: r.Total.Latency.Quantile(1)})
	}
	if r.Bound != nil {
		figures = append(figures, event.Fact{Key: "pps_bound", Value: int64(r.Bound.PacketsPerSecond)}, event.Fact{Key: "pps_bound_share", Value: share(r.Bound.Share)})
	}
	if len(r.Total.Wake) > 0 && r.Total.Wake.Count() > 0 {
		figures = append(figures, event.Fact{Key: "wake_p99_us", Value: r.Total.Wake.Quantile(0.99)})
	}
	return append(figures, eventEvidence(r)...)
}

func oneQueueEvidence(r *event.CongestionReport) []event.Fact {
	figures := []event.Fact{
		{Key: "queues", Value: len(r.Queues)}, {Key: "cpus", Value: r.CPU.Count}, {Key: "hottest_cpu", Value: r.CPU.Hottest},
		{Key: "hottest_busy_share", Value: share(r.CPU.HottestBusy)}, {Key: "hottest_softirq_share", Value: share(r.CPU.HottestInterrupts)}, {Key: "rest_busy_share", Value: share(r.CPU.RestBusy)},
	}
	if r.CPU.InterruptShare != nil {
		figures = append(figures, event.Fact{Key: "interrupts_cpu", Value: r.CPU.InterruptsCPU}, event.Fact{Key: "interrupts_share", Value: share(*r.CPU.InterruptShare)})
	}
	return append(figures, eventEvidence(r)...)
}

// eventEvidence is there where events were spurious.
func eventEvidence(r *event.CongestionReport) []event.Fact {
	if r.Events == nil || r.Events.Spurious == 0 {
		return nil
	}
	return []event.Fact{
		{Key: "events", Value: r.Events.Total}, {Key: "spurious_events", Value: r.Events.Spurious}, {Key: "jiffies_eoi_delayed", Value: r.Events.DelayedJiffies},
	}
}

func copiesEvidence(r *event.CongestionReport) []event.Fact {
	return []event.Fact{{Key: "copied", Value: *r.Total.Copied}, {Key: "copied_share", Value: share(event.Ratio(*r.Total.Copied, r.Total.Packets))}}
}

func stealEvidence(r *event.CongestionReport) []event.Fact {
	return []event.Fact{{Key: "steal_share", Value: share(r.CPU.Steal)}, {Key: "cpus", Value: r.CPU.Count}}
}

func acceptQueueEvidence(r *event.CongestionReport) []event.Fact {
	figures := []event.Fact{{Key: "listen_overflows", Value: *r.TCP.Overflows}, {Key: "established", Value: r.TCP.Established}}
	if len(r.TCP.Listeners) > 0 {
		l := r.TCP.Listeners[0]
		figures = append(figures, event.Fact{Key: "port", Value: l.Port}, event.Fact{Key: "longest_queue", Value: l.Longest}, event.Fact{Key: "backlog", Value: l.Limit})
	}
	if len(r.TCP.Accept) > 0 && r.TCP.Accept.Count() > 0 {
		p99 := time.Duration(r.TCP.Accept.Quantile(0.99)) * time.Microsecond
		figures = append(figures, event.Fact{Key: "accept_p99_us", Value: p99.Microseconds()})
	}
	return figures
}

// share rounds to 4 decimals.
func share(value float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'f', 4, 64), 64)
	return rounded
}
