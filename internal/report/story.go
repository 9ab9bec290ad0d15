package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/verdict"
)

// A story is the top of the page: what happened, how bad it is, and what to run first.
type story struct {
	Kind      string // bad, warn, good or empty: the shape and colour of the verdict
	Word      string // the same for a reader
	Headline  string
	Sentences []string // three
	Advice    *event.Advice
	Caveats   []string // stuck queues, and what this page does not show
}

func (c *Collector) story(o *Options) story {
	s := story{Sentences: []string{c.whatWasCounted(), c.whatItDid(), c.why()}, Caveats: c.caveats(o)}
	s.Kind, s.Word, s.Headline = c.verdict()
	if s.Kind != "good" && s.Kind != "empty" {
		s.Advice = c.firstAdvice()
	}
	return s
}

// lostPackets is how many packets did not get out.
func (c *Collector) lostPackets() uint64 {
	return c.timeline.allDropped() + c.timeline.sums[elsewhereSeries] + c.timeline.sums[rejectedSeries]
}

func (c *Collector) stalledNow() (n uint64) {
	for _, known := range c.table.all {
		if !known.stalledSince.IsZero() {
			n++
		}
	}
	return n
}

func (c *Collector) verdict() (kind, word, headline string) {
	t := &c.timeline
	switch now := c.stalledNow(); {
	case now > 0:
		return "bad", "STALLED", fmt.Sprintf("%s stalled at the end, %s", are(now, "connection"), lostWords(c))
	case c.stalls > 0 || c.everStalled > 0:
		return "bad", "STALLED", fmt.Sprintf("%s stalled, %s", plural(max(c.stalls, c.everStalled), "connection"), lostWords(c))
	case c.lostPackets() > 0:
		return "bad", "LOST", lostWords(c)
	case c.stuck() > 0:
		return "bad", "STUCK", "A TX queue was stuck for " + lasted(c.stuck())
	case c.empty() != "":
		return "empty", "EMPTY", "Nothing was counted"
	}
	if n := c.failed(); n > 0 {
		return "warn", "AT RISK", fmt.Sprintf("No packet lost, but check found %s", plural(n, "fault"))
	}
	if n := t.sums[linearizedSeries]; n > 0 {
		return "good", "OK", fmt.Sprintf("No packet lost; %s over the slot limit linearized", plural(n, "packet"))
	}
	if n := t.sums[overLimitSeries]; n > 0 {
		return "warn", "AT RISK", plural(n, "packet") + " over the slot limit of xen-netfront (18)"
	}
	return "good", "OK", "No packet lost"
}

// stuck is how long queues were full while the backend accepted nothing.
func (c *Collector) stuck() (sum time.Duration) {
	for i := range c.interfaces {
		if stuck := c.interfaces[i].Stuck; stuck != nil {
			sum += *stuck
		}
	}
	return sum
}

func lostWords(c *Collector) string {
	var parts []string
	for _, lost := range []struct {
		n    uint64
		what string
	}{
		{c.timeline.allDropped(), "dropped by the driver"},
		{c.timeline.sums[elsewhereSeries], "dropped before the driver"},
		{c.timeline.sums[rejectedSeries], "rejected by the backend"},
	} {
		if lost.n > 0 {
			parts = append(parts, plural(lost.n, "packet")+" "+lost.what)
		}
	}
	if len(parts) == 0 {
		return "no packet lost"
	}
	return strings.Join(parts, ", ")
}

func (c *Collector) failed() (n uint64) {
	for i := range c.findings {
		if c.findings[i].Status == event.Fail {
			n++
		}
	}
	return n
}

// whatWasCounted is the first sentence: where, how long, how many packets.
func (c *Collector) whatWasCounted() string {
	if why := c.empty(); why != "" {
		return why
	}
	where := ""
	if hosts := c.hosts(); len(hosts) > 0 {
		where = " on " + strings.Join(hosts, ", ")
	}
	if names := c.interfaceNames(); names != "" {
		where += " (" + names + ")"
	}
	packets := c.timeline.sums[packetSeries]
	if c.intervals+uint64(c.summaries) == 0 {
		return fmt.Sprintf("In %s%s %s recorded; the recording ends before the first count of all packets.", lasted(c.last.Sub(c.first)), where, were(c.packets, "packet that went wrong", "packets that went wrong"))
	}
	sentence := fmt.Sprintf("In %s%s the driver was handed %s", lasted(c.duration), where, plural(packets, "packet"))
	if lost := c.lostPackets(); lost > 0 && packets > 0 {
		verb := "were"
		if lost == 1 {
			verb = "was"
		}
		return sentence + fmt.Sprintf("; %s (%s of them) %s lost.", number(lost), share(lost, packets), verb)
	}
	return sentence + "; none was lost."
}

// whatItDid is the second: which connections stalled, and for how long.
func (c *Collector) whatItDid() string {
	ranked := c.table.ranked()
	var stalled []*connection
	for _, known := range ranked {
		if known.stallCount > 0 {
			stalled = append(stalled, known)
		}
	}
	if len(stalled) == 0 {
		switch n := uint64(len(ranked)) + c.table.evicted; {
		case n == 0 && c.lostPackets() == 0:
			return "No connection was affected."
		case n == 0:
			return "The events name no connection."
		default:
			return fmt.Sprintf("No connection stalled; packets of %s went wrong.", plural(n, "connection"))
		}
	}
	longest := slices.MaxFunc(stalled, func(a, b *connection) int { return int(a.stalledFor - b.stalledFor) })
	sentence := fmt.Sprintf("%s stalled; the longest, %s%s, for %s from %s", plural(uint64(len(stalled)), "connection"),
		longest.name(), ownerWords(longest.process), lasted(longest.stalledFor), c.clock(longest.firstStall()))
	if now := c.stalledNow(); now > 0 {
		return sentence + fmt.Sprintf("; %s still stalled at the end.", are(now, ""))
	}
	return sentence + "; none is stalled at the end."
}

func (c *connection) firstStall() time.Time {
	if len(c.stalls) > 0 {
		return c.stalls[0].from
	}
	return c.stalledSince
}

// why is the third: the most frequent cause, and what it means.
func (c *Collector) why() string {
	if c.empty() != "" {
		return "There is nothing to explain."
	}
	var worst *event.Explanation
	for i := range c.explain {
		if e := &c.explain[i]; (e.Verdict == event.Dropped || e.Verdict == event.Rejected) && (worst == nil || e.Count > worst.Count) {
			worst = e
		}
	}
	if worst != nil {
		return fmt.Sprintf("Most frequent cause, %s: %s", worst.Name, worst.Meaning)
	}
	if cause := c.topCause(); cause != event.CauseNone {
		rule := verdict.OfCause(cause)
		return fmt.Sprintf("Most frequent cause, %s: %s", rule.Name, rule.Meaning)
	}
	for i := range c.findings {
		if f := &c.findings[i]; f.Status == event.Fail {
			return "check reported: " + f.Message
		}
	}
	if c.timeline.sums[linearizedSeries] > 0 {
		return "The driver linearizes packets over the slot limit (18) instead of dropping them."
	}
	for i := range c.explain {
		if e := &c.explain[i]; e.Verdict == event.OverLimit {
			return e.Meaning
		}
	}
	return "Nothing needs to be done."
}

func (c *Collector) topCause() (top event.Cause) {
	most := uint64(0)
	for _, cause := range event.Causes() {
		if n := c.timeline.sums[causeSeries+series(cause)]; n > most {
			top, most = cause, n
		}
	}
	return top
}

// empty is why there is nothing to show; "" if there is something.
func (c *Collector) empty() string {
	switch {
	case c.events == 0:
		return "The recording holds no event."
	case c.timeline.sums[packetSeries] > 0 || c.packets > 0 || c.stalls > 0:
		return ""
	case c.intervals+uint64(c.summaries) == 0:
		return "The recording ends before its first interval (10 s): nothing was counted yet."
	case len(c.interfaces) == 0:
		return fmt.Sprintf("No interface was watched in %s.", lasted(c.duration))
	}
	return fmt.Sprintf("No packet was handed to the driver in %s: %s sent nothing.", lasted(c.duration), c.interfaceNames())
}

// firstAdvice is what to run first: what frees the worst connection, then what removes the
// most frequent cause, then what check advises.
func (c *Collector) firstAdvice() *event.Advice {
	var lists [][]event.Advice
	for _, known := range c.table.ranked() {
		if known.stallCount > 0 {
			lists = append(lists, known.advice)
		}
	}
	explained := slices.Clone(c.explain)
	slices.SortStableFunc(explained, func(a, b event.Explanation) int {
		return truth(b.Verdict == event.Dropped) - truth(a.Verdict == event.Dropped)
	})
	for _, e := range explained {
		lists = append(lists, e.Advice)
	}
	for _, status := range []event.Status{event.Fail, event.Warn} {
		for i := range c.findings {
			if c.findings[i].Status == status {
				lists = append(lists, c.findings[i].Advice)
			}
		}
	}
	for _, list := range lists {
		for i := range list {
			if list[i].Command != "" {
				return &list[i]
			}
		}
	}
	return nil
}

// caveats are what the page cannot show.
func (c *Collector) caveats(o *Options) (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, damage := range o.Damage {
		add("%s", damage)
	}
	for _, run := range o.Unfinished {
		add("%s", run)
	}
	for i := range c.interfaces {
		if n := &c.interfaces[i]; n.Stuck != nil && *n.Stuck > 0 {
			add("%s: a TX queue was full, and the backend accepted nothing, for %s.", output.Escape(n.Name), lasted(*n.Stuck))
		}
	}
	if length := c.spans.length(); length > 0 {
		add("Unmonitored for %s in %s; see below.", lasted(length), plural(uint64(len(c.spans.all)+c.spans.more), "interval"))
	}
	if n := c.timeline.sums[lostSeries]; n > 0 {
		add("%s lost; counts include their packets.", plural(n, "record"))
	}
	if n := c.timeline.sums[suppressedSeries]; n > 0 {
		add("%s suppressed by --rate; counts include their packets.", plural(n, "record"))
	}
	if len(c.filters) > 0 {
		add("Filter %s: %s left out; counts are of all packets.", strings.Join(c.filters, " "), plural(c.leftOut, "event"))
	}
	if c.lostFlows+c.table.evicted > 0 {
		add("%s not tracked (table full); their packets are counted.", plural(c.lostFlows+c.table.evicted, "connection"))
	}
	if o.Redacted {
		add("Addresses and names are replaced consistently (--redact).")
	}
	return all
}

func (c *Collector) hosts() (names []string) {
	for i := range c.starts {
		if name := output.Escape(c.starts[i].Hostname); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 4 {
		names = append(names[:4], fmt.Sprintf("%d more", len(names)-4))
	}
	return names
}

func (c *Collector) interfaceNames() string {
	var names []string
	for i := range c.interfaces {
		if name := output.Escape(c.interfaces[i].Name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 6 {
		names = append(names[:6], fmt.Sprintf("%d more", len(names)-6))
	}
	return strings.Join(names, ", ")
}
