package verdict

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

var (
	unexplained = Rule{
		Meaning:  "The kernel dropped the packet and reports no reason; the function that dropped it shows where.",
		Remedies: []remedy.ID{remedy.WatchElsewhere, remedy.QdiscState},
	}
	queueFull = Rule{
		Meaning:  "The qdisc of the interface dropped the packet: its queue was full, it limits the rate, or the interface has no carrier.",
		Remedies: []remedy.ID{remedy.QdiscState, remedy.ClassState, remedy.LinkState, remedy.QueueLength},
	}
	neighbour = Rule{
		Meaning:  "The link-layer address of the next hop is unknown: it did not answer, or too many packets were queued for its answer.",
		Remedies: []remedy.ID{remedy.Neighbours},
	}
	noMemory = Rule{
		Meaning:  "There was no memory for the packet, or for a copy of it.",
		Remedies: []remedy.ID{remedy.MemoryReserve},
	}
	noSegments = Rule{
		Meaning:  "The packet could not be segmented: no memory, or it is malformed.",
		Remedies: []remedy.ID{remedy.FeatureState},
	}
)

// reasonRules explain the kernel's drop reasons for a packet on its way out, by the names of
// enum skb_drop_reason and the enums of its subsystems.
var reasonRules = map[string]Rule{
	"QDISC_DROP":        queueFull,
	"QDISC_BURST_DROP":  queueFull,
	"NETFILTER_DROP":    {Meaning: "A netfilter rule, or connection tracking, dropped the packet.", Remedies: []remedy.ID{remedy.NFTRules, remedy.IPTablesRules, remedy.ConntrackState}},
	"FULL_RING":         {Meaning: "The queue of a tun or tap interface is full: its reader is slower than its senders.", Remedies: []remedy.ID{remedy.LinkState}},
	"TAP_TXFILTER":      {Meaning: "The filter of a tap interface, which its reader set (TUNSETTXFILTER), dropped the packet.", Remedies: []remedy.ID{remedy.LinkNesting}},
	"TAP_FILTER":        {Meaning: "The BPF filter of a tap interface dropped the packet.", Remedies: []remedy.ID{remedy.LinkNesting}},
	"TC_EGRESS":         {Meaning: "A tc filter on egress dropped the packet.", Remedies: []remedy.ID{remedy.EgressFilters}},
	"BPF_CGROUP_EGRESS": {Meaning: "A BPF program of the sender's cgroup dropped the packet.", Remedies: []remedy.ID{remedy.CgroupPrograms}},
	"NEIGH_FAILED":      neighbour,
	"NEIGH_QUEUEFULL":   neighbour,
	"NEIGH_DEAD":        neighbour,
	"NEIGH_CREATEFAIL":  neighbour,
	"NEIGH_HH_FILLFAIL": neighbour,
	"IP_OUTNOROUTES":    {Meaning: "There is no route to the destination any more.", Remedies: []remedy.ID{remedy.Routes}},
	"XFRM_POLICY":       {Meaning: "An IPsec policy does not let the packet pass.", Remedies: []remedy.ID{remedy.XfrmPolicy}},
	"PKT_TOO_BIG":       {Meaning: "The packet is longer than the MTU and must not be fragmented.", Remedies: []remedy.ID{remedy.PathMTU}},
	"DEV_READY":         {Meaning: "The interface is down, or not ready to send.", Remedies: []remedy.ID{remedy.LinkState}},
	"QUEUE_PURGE":       {Meaning: "The packet was in a queue that was purged, as when an interface goes down or a socket is closed.", Remedies: []remedy.ID{remedy.LinkState}},
	"RECURSION_LIMIT":   {Meaning: "Stacked interfaces were nested too deep, or in a loop.", Remedies: []remedy.ID{remedy.LinkNesting}},
	"IP_INHDR":          {Meaning: "A forwarded packet has a bad header, or its TTL expired.", Remedies: []remedy.ID{remedy.RouteLoop}},
	"NOMEM":             noMemory,
	"SKB_UCOPY_FAULT":   noMemory,
	"SKB_GSO_SEG":       noSegments,
	"SKB_BAD_GSO":       noSegments,
	"NOT_SPECIFIED":     unexplained,
	"other":             {Meaning: "Packets were dropped for reasons that are not counted separately; each record has its own.", Remedies: unexplained.Remedies},
}

// OfReason returns the rule for a packet that was dropped outside the driver for this drop
// reason; the empty reason is that of kernels that report none.
func OfReason(reason string) Rule {
	rule, known := reasonRules[reason]
	switch {
	case known:
	case strings.HasPrefix(reason, "QDISC_DROP_"):
		rule = queueFull
	case reason == "":
		rule = unexplained
		reason = "elsewhere"
	default:
		rule = unexplained
		rule.Meaning = "The kernel, or the interface's own driver, dropped the packet for the reason of this name in the kernel's source."
	}
	rule.Name = reason
	return rule
}

// Explain explains everything that was counted and needs it, drops first. facts are those
// about an interface.
func Explain(totals *event.Totals, facts func(event.Device) remedy.Facts) []event.Explanation {
	e := explainer{totals: totals, facts: facts}
	for _, cause := range event.Causes() {
		e.add(OfCause(cause), event.Dropped, func(t *event.InterfaceTotals) uint64 { return t.Causes[cause] })
	}
	for _, reason := range reasonsOf(totals) {
		e.add(ofReason(reason, totals), event.Dropped, func(t *event.InterfaceTotals) uint64 { return countOfReason(t, reason) })
	}
	e.add(OfVerdict(event.Rejected), event.Rejected, func(t *event.InterfaceTotals) uint64 {
		if t.Rejected == nil {
			return 0
		}
		return *t.Rejected
	})
	e.add(OfVerdict(event.Linearized), event.Linearized, func(t *event.InterfaceTotals) uint64 { return t.Linearized })
	e.add(OfVerdict(event.Bounced), event.Bounced, func(t *event.InterfaceTotals) uint64 { return t.Bounced })
	e.add(OfVerdict(event.OverLimit), event.OverLimit, func(t *event.InterfaceTotals) uint64 {
		if t.Driver == Netfront {
			return 0 // explained by what the driver did with them
		}
		return t.OverLimit
	})
	return e.all
}

// ofReason is the rule for a reason, with what the counters show of it.
func ofReason(reason string, totals *event.Totals) Rule {
	rule := OfReason(reason)
	if reason == "NETFILTER_DROP" {
		withConntrack(&rule, totals)
	}
	return rule
}

// withConntrack says what connection tracking dropped in the same time. Its counters are those of a
// network namespace, whatever the interface.
func withConntrack(rule *Rule, totals *event.Totals) {
	spaces := make(map[uint32]*event.Conntrack)
	drops, unknown := uint64(0), false
	for i := range totals.Interfaces {
		t := &totals.Interfaces[i]
		if n := countOfReason(t, rule.Name); n != 0 {
			drops, unknown = drops+n, unknown || t.Conntrack == nil
			spaces[t.NetNS] = t.Conntrack
		}
	}
	if unknown || drops == 0 {
		return
	}
	var clashes, full uint64
	for _, c := range spaces {
		clashes += c.InsertFailed
		if c.Dropped > c.InsertFailed { // drop includes insert_failed, at least on 6.18
			full += c.Dropped - c.InsertFailed
		}
	}
	rules := []remedy.ID{remedy.NFTRules, remedy.IPTablesRules}
	if clashes+full == 0 {
		rule.Meaning, rule.Remedies = "A netfilter rule dropped the packet: connection tracking dropped none in this time.", rules
		return
	}
	var by []string
	rule.Remedies = nil
	if clashes > 0 {
		by = append(by, fmt.Sprintf("%d for a connection that clashed with another (insert_failed)", clashes))
		rule.Remedies = append(rule.Remedies, remedy.NATPorts)
	}
	if full > 0 {
		by = append(by, fmt.Sprintf("%d because its table was full (drop)", full))
		rule.Remedies = append(rule.Remedies, remedy.ConntrackMax)
	}
	rule.Remedies = append(rule.Remedies, remedy.ConntrackState)
	rule.Meaning = "Connection tracking dropped packets in this time, " + strings.Join(by, ", ") + ", and not a netfilter rule."
	if clashes+full < drops {
		rule.Meaning = "Connection tracking dropped some of the packets, " + strings.Join(by, ", ") + "; netfilter rules dropped the others."
		rule.Remedies = append(rule.Remedies, rules...)
	}
}

type explainer struct {
	totals *event.Totals
	facts  func(event.Device) remedy.Facts
	all    []event.Explanation
}

// add explains a rule by what was counted for it on each interface.
func (e *explainer) add(rule Rule, v event.Verdict, count func(*event.InterfaceTotals) uint64) {
	explanation := event.Explanation{Name: rule.Name, Meaning: rule.Meaning, Verdict: v}
	for i := range e.totals.Interfaces {
		t := &e.totals.Interfaces[i]
		if n := count(t); n != 0 {
			explanation.Count += n
			explanation.Advice = event.AppendAdvice(explanation.Advice, remedy.For(e.facts(t.Device), rule.Remedies...)...)
		}
	}
	if explanation.Count != 0 {
		e.all = append(e.all, explanation)
	}
}

// reasonsOf lists the reasons of all interfaces; "" stands for drops without one.
func reasonsOf(totals *event.Totals) []string {
	all := make(map[string]bool)
	for i := range totals.Interfaces {
		t := &totals.Interfaces[i]
		for reason := range t.Reasons {
			all[reason] = true
		}
		if t.Reasons == nil && t.Elsewhere != 0 {
			all[""] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func countOfReason(t *event.InterfaceTotals, reason string) uint64 {
	if t.Reasons == nil && reason == "" {
		return t.Elsewhere
	}
	return t.Reasons[reason]
}

// Reasons returns the drop reasons that have a rule of their own, in the order of the
// alphabet. That of all others is not among them.
func Reasons() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(reasonRules)), func(reason string) bool { return reason == "other" })
}
