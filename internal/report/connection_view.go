package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// A connectionView is one row of the table of connections, and what unfolds below it.
type connectionView struct {
	Name, Owner, OwnerNote, Interface string
	State, Class                      string
	Drops, Other, Resent              uint64
	OtherText                         string
	Stalled                           string
	StalledMS                         int64
	Slots                             string
	MaxSlots                          int
	First                             string
	FirstMS                           int64
	Spark                             sparkView
	Facts                             [][2]string
	Stack                             []string
	StackNote                         string
	Advice                            []event.Advice
}

// A sparkView is the timeline of one connection, in a box of 1000 by 100.
type sparkView struct {
	Path   string
	Stalls []sparkStall
	Title  string
	From   string
	To     string
	Rows   [][2]string
}

type sparkStall struct{ X, Width int }

func (c *Collector) connectionViews(l limits) (all []connectionView, note string) {
	ranked := c.table.ranked()
	var drops uint64
	for i, known := range ranked {
		if i < l.connections {
			all = append(all, c.connectionView(known, l))
			continue
		}
		drops += known.drops()
	}
	more := uint64(len(ranked)-len(all)) + c.table.evicted
	switch {
	case len(ranked) == 0:
		return nil, "No packet that went wrong names a connection."
	case more > 0:
		return all, fmt.Sprintf("The %d worst of %s. %s with %s not shown.", len(all), plural(uint64(len(ranked))+c.table.evicted, "connection"),
			plural(more, "more connection"), plural(drops+c.table.drops, "drop"))
	}
	return all, ""
}

func (c *Collector) connectionView(k *connection, l limits) connectionView {
	v := connectionView{
		Name: k.name(), Interface: output.Escape(k.ifname), State: "troubled", Class: "warn",
		Drops: k.drops(), Resent: max(k.resent, k.retransmits), First: c.clock(k.first), FirstMS: k.first.UnixMilli(),
		MaxSlots: k.slots[1], Spark: c.sparkView(k), Advice: k.advice,
	}
	v.Owner = "unknown"
	if k.process != nil {
		v.Owner, v.OwnerNote = ownerName(k.process), clip(output.Escape(cmp.Or(k.process.Container, k.process.Unit)), 64)
	}
	if k.known {
		v.State = k.state.String()
	}
	if !k.stalledSince.IsZero() || k.drops() > 0 {
		v.Class = "bad"
	}
	if k.known && k.state == event.Recovered {
		v.Class = "good"
	}
	if v.Slots = strconv.Itoa(k.slots[1]); k.slots[0] != k.slots[1] {
		v.Slots = fmt.Sprintf("%d-%d", k.slots[0], k.slots[1])
	}
	var other []string
	for _, verdict := range []event.Verdict{event.Linearized, event.Bounced, event.Rejected, event.OverLimit} {
		if n := k.counts[verdict]; n > 0 {
			v.Other += n
			other = append(other, number(n)+" "+strings.ReplaceAll(verdict.String(), "_", " "))
		}
	}
	if v.OtherText = strings.Join(other, ", "); v.Other == 0 {
		v.OtherText = "0"
	}
	if v.StalledMS = k.stalledFor.Milliseconds(); k.stalledFor > 0 {
		v.Stalled = lasted(k.stalledFor)
	}
	v.Facts = c.connectionFacts(k)
	v.Stack, v.StackNote = frames(k.stack, l.frames)
	return v
}

func frames(stack []string, most int) (all []string, note string) {
	for i, frame := range stack {
		if i == most {
			return all, plural(uint64(len(stack)-most), "more frame") + " not shown."
		}
		all = append(all, clip(output.Printable(frame), 160))
	}
	return all, ""
}

func (c *Collector) connectionFacts(k *connection) (facts [][2]string) {
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, [2]string{name, value})
		}
	}
	add("causes", causesOf(&k.causes))
	if k.elsewhere > 0 {
		add("dropped before the driver", number(k.elsewhere))
	}
	for i, s := range k.stalls {
		if i < 3 {
			add("stalled", fmt.Sprintf("%s to %s (%s)", c.clock(s.from), c.clock(s.to), lasted(s.to.Sub(s.from))))
		}
	}
	if more := len(k.stalls) - 3; more > 0 {
		add("stalled", plural(uint64(k.stallCount-3), "more time"))
	}
	if !k.stalledSince.IsZero() {
		add("stalled since", c.clock(k.stalledSince)+", until the end of the recording")
	}
	if k.unacked > 0 {
		add("unacknowledged", output.ByteSize(k.unacked))
	}
	if p := k.process; p != nil {
		add("systemd unit", clip(output.Escape(p.Unit), 100))
		add("container", clip(output.Escape(p.Container), 100))
		add("uid", strconv.Itoa(int(p.UID)))
	}
	add("network namespace", strconv.Itoa(int(k.NetNS)))
	add("fragment layout", clip(output.Printable(cmp.Or(k.description, k.layout.Sentence())), 400))
	return facts
}

// sparkView draws a connection over its own time, stalls below.
func (c *Collector) sparkView(k *connection) sparkView {
	from, to := k.first, k.last
	if !k.stalledSince.IsZero() {
		to = c.last
	}
	width := k.spark.width
	if !k.spark.base.IsZero() {
		if start := k.spark.base; start.Before(from) {
			from = start
		}
		to = later(to, k.first.Add(width))
	}
	v := sparkView{From: c.clock(k.first), To: c.clock(to)}
	length := max(to.Sub(from).Seconds(), 1e-3)
	x := func(t time.Time) int { return int(1000 * min(max(t.Sub(from).Seconds()/length, 0), 1)) }
	most, _ := peak(k.spark.counts[:])
	var b strings.Builder
	for i, n := range k.spark.counts {
		if n == 0 {
			continue
		}
		left := x(k.spark.start(i))
		wide := max(x(k.spark.start(i+1))-left, 8)
		fmt.Fprintf(&b, "M%d 84v-%dh%dV84z", min(left, 992), max(8, int(80*n/most)), wide)
		v.Rows = append(v.Rows, [2]string{clockOf(k.spark.start(i), 0, from), number(n)})
	}
	v.Path = b.String()
	stalls := k.stalls
	if !k.stalledSince.IsZero() {
		stalls = append(slices.Clone(stalls), stall{k.stalledSince, to})
	}
	for _, s := range stalls {
		v.Stalls = append(v.Stalls, sparkStall{min(x(s.from), 990), max(x(s.to)-x(s.from), 10)})
	}
	v.Title = fmt.Sprintf("%s that went wrong from %s to %s", plural(k.spark.total(), "packet"), v.From, v.To)
	if k.stalledFor > 0 {
		v.Title += fmt.Sprintf("; stalled for %s", lasted(k.stalledFor))
	}
	return v
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
