package verdict

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
)

// A LimitID names what keeps an interface from doing more.
type LimitID string

// What may be the limit.
const (
	LimitRing        LimitID = "ring"         // the backend takes its time, and the ring is full
	LimitOneQueue    LimitID = "one_queue"    // one processor serves the one queue while others idle
	LimitCopies      LimitID = "copies"       // the frontend copies packets before it sends them
	LimitSteal       LimitID = "steal"        // the hypervisor runs others meanwhile
	LimitAcceptQueue LimitID = "accept_queue" // an application accepts its connections too slowly
	LimitNone        LimitID = "none"
)

// A Figure is one piece of evidence.
type Figure struct {
	Key   string // in snake_case, with its unit
	Value any    // a string, a number or a bool
}

// A Limit is what was found to be one, with advice ranked by effect, its commands complete.
type Limit struct {
	ID       LimitID
	Meaning  string
	Evidence []Figure
	Advice   []event.Advice
}

// A Judgment is what the figures of a report mean.
type Judgment struct {
	Limits []Limit // never empty: LimitNone if nothing is
	// SmallPackets: most packets carry little, and what each of them takes whatever it
	// carries, slots of the ring or one processor's time, is a limit.
	SmallPackets bool
	Sentence     string // says it by the numbers; empty if it is not so
}

// From which figures on something is a limit. Below them it may be busy, and is not
// what keeps the interface from doing more.
const (
	fewPackets     = 100         // and fewer do not tell anything
	fullMuch       = 0.05        // of the time that a queue was stopped
	slowLong       = time.Second // to an answer, if that is also fullMuch of the time
	boundNear      = 0.8         // of what the ring lets through at this latency
	boundOccupancy = 64          // slots in use by then: fewer are no pressure, however slow the backend
	copiesMany     = 0.1         // of the packets
	stealMuch      = 0.1         // of the time
	busyMuch       = 0.8         // of the time of the hottest processor that was not idle
	restIdle       = 0.5         // of it: the others have done less than this
	oneCPU         = 0.95        // of the interrupts of several queues go to one processor
	mostOfOne      = 0.5         // of those of one queue, which has one for each direction
	overflowsMany  = 0.01        // of the connections that came in
	smallMany      = 0.5         // of the packets
	smallSlot      = 512         // bytes of payload in a slot
)

// limitRule is how a limit is known, and what to do about it.
type limitRule struct {
	id       LimitID
	holds    func(*congestion.Report) bool
	meaning  string
	evidence func(*congestion.Report) []Figure
	advice   []event.Advice
}

// OfCongestion says what the limit is now. A figure that could not be measured never
// makes one.
func OfCongestion(r *congestion.Report) Judgment {
	var j Judgment
	var used []string // up by packets, not by bytes
	for _, rule := range limitRules {
		if !rule.holds(r) {
			continue
		}
		if rule.id == LimitRing || rule.id == LimitOneQueue {
			used = append(used, string(rule.id))
		}
		j.Limits = append(j.Limits, Limit{rule.id, rule.meaning, rule.evidence(r), complete(rule.advice, r)})
	}
	if len(j.Limits) == 0 {
		j.Limits = []Limit{{ID: LimitNone, Meaning: "None of the ring, the queues, copies, steal time and the accept queues is a limit now."}}
	}
	t := &r.Total
	if len(used) > 0 && t.Packets >= fewPackets && t.SmallShare() >= smallMany && t.BytesPerSlot() < smallSlot {
		j.SmallPackets, j.Sentence = true, smallSentence(r, used)
	}
	return j
}

func smallSentence(r *congestion.Report, limits []string) string {
	t := &r.Total
	s := fmt.Sprintf("Small packet congestion detected: %.0f %% of %.0f packets/s carry less than 256 bytes, a slot carries %.0f bytes of payload, and the limit is %s",
		100*t.SmallShare(), r.Rate(t.Packets), t.BytesPerSlot(), strings.Join(limits, " and "))
	if full := r.FullShare(); full > 0 {
		s += fmt.Sprintf("; the ring was full %.0f %% of the time", 100*full)
	}
	return s + "."
}

// complete puts the interface, its listener and its processors into commands.
func complete(advice []event.Advice, r *congestion.Report) []event.Advice {
	port, mask := "PORT", "1"
	if r.TCP != nil && len(r.TCP.Listeners) > 0 {
		port = strconv.Itoa(int(r.TCP.Listeners[0].Port))
	}
	if r.CPU != nil {
		mask = processors(r.CPU.Count)
	}
	queues := "8"
	if r.CPU != nil {
		queues = strconv.Itoa(min(r.CPU.Count, 8))
	}
	all := make([]event.Advice, len(advice))
	for i, a := range advice {
		a.Command = strings.NewReplacer("{port}", port, "{processors}", mask, "{queues}", queues).Replace(a.For(r.Name))
		all[i] = a
	}
	return all
}

// processors is the mask of the first n, in words of 32 bits as the kernel takes it.
func processors(n int) string {
	var words []string
	for ; n > 0; n -= 32 {
		words = append([]string{strconv.FormatUint(1<<min(n, 32)-1, 16)}, words...)
	}
	return strings.Join(words, ",")
}

func ringHolds(r *congestion.Report) bool {
	if r.Total.Packets < fewPackets {
		return false
	}
	if r.Total.Stops > 0 && r.FullShare() >= fullMuch {
		return true
	}
	// A few senders wait for room in their send buffers before they have filled the ring.
	if long := longestAnswer(&r.Total); long >= slowLong && float64(long) >= fullMuch*float64(r.Duration) {
		return true
	}
	return r.Bound != nil && r.Bound.Share >= boundNear && r.Total.Occupancy.Quantile(0.5) >= boundOccupancy
}

// longestAnswer is how long the backend took at least to answer one of the packets.
func longestAnswer(q *congestion.Queue) time.Duration {
	return time.Duration(q.Latency.Quantile(1)/2) * time.Microsecond
}

func oneQueueHolds(r *congestion.Report) bool {
	c := r.CPU
	if c == nil || c.Count < 2 || r.Total.Packets < fewPackets {
		return false
	}
	hot := c.HottestBusy >= busyMuch && c.RestBusy <= restIdle*c.HottestBusy
	if c.InterruptShare == nil {
		return hot && len(r.Queues) == 1
	}
	// An application that keeps another processor busy by itself is not it.
	enough := oneCPU
	if len(r.Queues) == 1 {
		enough = mostOfOne
	}
	return hot && *c.InterruptShare >= enough && c.InterruptsCPU == c.Hottest
}

func copiesHold(r *congestion.Report) bool {
	return r.Total.Packets >= fewPackets && r.Total.Copied != nil && congestion.Ratio(*r.Total.Copied, r.Total.Packets) >= copiesMany
}

func stealHolds(r *congestion.Report) bool { return r.CPU != nil && r.CPU.Steal >= stealMuch }

func acceptQueueHolds(r *congestion.Report) bool {
	if r.TCP == nil || r.TCP.Overflows == nil || *r.TCP.Overflows == 0 {
		return false
	}
	return congestion.Ratio(*r.TCP.Overflows, *r.TCP.Overflows+r.TCP.Established) >= overflowsMany
}

func ringEvidence(r *congestion.Report) []Figure {
	figures := []Figure{{"full_share", share(r.FullShare())}, {"stops", r.Total.Stops}}
	if r.Total.MeanLatency != nil {
		figures = append(figures, Figure{"completion_mean_us", r.Total.MeanLatency.Microseconds()}, Figure{"completion_longest_us", r.Total.Latency.Quantile(1)})
	}
	if r.Bound != nil {
		figures = append(figures, Figure{"pps_bound", int64(r.Bound.PacketsPerSecond)}, Figure{"pps_bound_share", share(r.Bound.Share)})
	}
	if len(r.Total.Wake) > 0 && r.Total.Wake.Count() > 0 {
		figures = append(figures, Figure{"wake_p99_us", r.Total.Wake.Quantile(0.99)})
	}
	return figures
}

func oneQueueEvidence(r *congestion.Report) []Figure {
	figures := []Figure{
		{"queues", len(r.Queues)}, {"cpus", r.CPU.Count}, {"hottest_cpu", r.CPU.Hottest},
		{"hottest_busy_share", share(r.CPU.HottestBusy)}, {"hottest_softirq_share", share(r.CPU.HottestInterrupts)}, {"rest_busy_share", share(r.CPU.RestBusy)},
	}
	if r.CPU.InterruptShare != nil {
		figures = append(figures, Figure{"interrupts_cpu", r.CPU.InterruptsCPU}, Figure{"interrupts_share", share(*r.CPU.InterruptShare)})
	}
	return figures
}

func copiesEvidence(r *congestion.Report) []Figure {
	return []Figure{{"copied", *r.Total.Copied}, {"copied_share", share(congestion.Ratio(*r.Total.Copied, r.Total.Packets))}}
}

func stealEvidence(r *congestion.Report) []Figure {
	return []Figure{{"steal_share", share(r.CPU.Steal)}, {"cpus", r.CPU.Count}}
}

func acceptQueueEvidence(r *congestion.Report) []Figure {
	figures := []Figure{{"listen_overflows", *r.TCP.Overflows}, {"established", r.TCP.Established}}
	if len(r.TCP.Listeners) > 0 {
		l := r.TCP.Listeners[0]
		figures = append(figures, Figure{"port", l.Port}, Figure{"longest_queue", l.Longest}, Figure{"backlog", l.Limit})
	}
	if len(r.TCP.Accept) > 0 && r.TCP.Accept.Count() > 0 {
		p99 := time.Duration(r.TCP.Accept.Quantile(0.99)) * time.Microsecond
		figures = append(figures, Figure{"accept_p99_us", p99.Microseconds()})
	}
	return figures
}

// share rounds to what is worth telling.
func share(value float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'f', 4, 64), 64)
	return rounded
}
