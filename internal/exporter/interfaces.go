package exporter

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// otherReasons is the reason of drops elsewhere that have no series of their own.
const otherReasons = "other"

// labels are those of the series of one account, and when it began.
type labels struct {
	began   *timestamppb.Timestamp
	base    []*dto.LabelPair
	causes  [][]*dto.LabelPair
	reasons [][]*dto.LabelPair
}

// labelsOf returns the labels of an account. They are made once.
func (c *collector) labelsOf(n *event.InterfaceTotals) *labels {
	for len(c.labels) <= n.Index {
		c.labels = append(c.labels, nil)
	}
	if l := c.labels[n.Index]; l != nil {
		return l
	}
	netns, f := netnsLabel(n.NetNS), c.families
	l := &labels{began: timestamppb.New(c.ledger.began[n.Index]), base: f.packets.pairs(n.Name, netns)}
	for _, cause := range c.causes {
		l.causes = append(l.causes, f.dropped.pairs(cause.String(), n.Name, netns))
	}
	for _, reason := range c.reasons {
		l.reasons = append(l.reasons, f.elsewhere.pairs(n.Name, netns, reason))
	}
	c.labels[n.Index] = l
	return l
}

// seriesEach is how many series an interface has at most, with its findings, and those of a
// namespace of its own.
func (c *collector) seriesEach() int {
	const (
		counters = 11 // packets, bytes, linearized, bounced, 2 of XDP, tx_dropped, stalled, stalls, stuck, present
		slots    = slotBuckets + 3
		code     = 1
	)
	n := counters + len(event.Causes()) + slots + code + check.InterfaceFindings + len(c.reasons)
	if c.options.Rejected {
		n++
	}
	if c.options.Congestion {
		n += 2 + len(occupancyBounds) + 3 + len(timeBounds) + 3
		n += 3 + len(timeBounds) + 3
	}
	return n
}

func (c *collector) writeInterface(w *writer, n *event.InterfaceTotals) {
	f, l := c.families, c.labelsOf(n)
	began := l.began
	count := func(f *family, labels []*dto.LabelPair, value uint64) { w.counter(f, labels, float64(value), began) }
	count(f.packets, l.base, n.Packets)
	count(f.bytes, l.base, n.Bytes)
	for i, cause := range c.causes {
		count(f.dropped, l.causes[i], n.Causes[cause])
	}
	count(f.linearized, l.base, n.Linearized)
	count(f.bounced, l.base, n.Bounced)
	count(f.stalls, l.base, c.ledger.stalls[n.Index])
	w.gauge(f.stalled, l.base, float64(c.stalled[n.Index]))
	w.histogram(f.slots, l.base, w.slotsHistogram(&n.Slots), began)
	if n.Rejected != nil {
		count(f.rejected, l.base, *n.Rejected)
	}
	if n.XDP {
		count(f.xdp, l.base, n.XDPPackets)
		count(f.xdpDropped, l.base, n.XDPDropped)
	}
	if n.TxDroppedDelta != nil {
		count(f.txDropped, l.base, *n.TxDroppedDelta)
	}
	if n.Stuck != nil {
		w.counter(f.stuck, l.base, n.Stuck.Seconds(), began)
	}
	for i, counted := range c.byReason(n) {
		count(f.elsewhere, l.reasons[i], counted)
	}
	if p := c.pressure.interfaces[n.Index]; p != nil {
		p.write(w, f, l.base, began)
	}
	if n.Index == 0 {
		return
	}
	w.gauge(f.present, l.base, boolean(c.ledger.present[n.Index]))
	if known := c.checks.linearizes; known != nil && n.Driver == netdev.DriverNetfront {
		w.gauge(f.linearizes, l.base, boolean(*known))
	}
}

// byReason returns the drops elsewhere in the order of the reasons. No count is a difference
// from Elsewhere: a CPU that drops meanwhile counts there first, so it could go back.
func (c *collector) byReason(n *event.InterfaceTotals) []uint64 {
	if len(c.reasons) == 0 {
		return nil
	}
	counted := make([]uint64, len(c.reasons))
	if n.Reasons == nil { // the kernel has none
		counted[len(counted)-1] = n.Elsewhere
	}
	for reason, packets := range n.Reasons {
		counted[c.placeOf(reason)] += packets
	}
	return counted
}

// placeOf returns which of the reasons one is counted as. Single qdiscs have reasons of their
// own.
func (c *collector) placeOf(reason string) int {
	if strings.HasPrefix(reason, "QDISC_DROP_") {
		reason = "QDISC_DROP"
	}
	if i := slices.Index(c.reasons, reason); i >= 0 {
		return i
	}
	return len(c.reasons) - 1
}
