package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/verdict"
)

// logarithm is 1 for 1, so that a single packet has a bar.
func logarithm(n uint64) float64 { return 1 + math.Log10(float64(n)) }

// A view is what the template of the page is filled with.
type view struct {
	Host, Range, Length string
	Story               story
	Tiles               []tile
	Timeline            *timelineView
	Slots               *slotsView
	Explained           []explainView
	Connections         []connectionView
	ConnectionsNote     string
	Findings            []findingView
	FindingsNote        string
	Machines            []machineView
	Interfaces          []interfaceView
	InterfacesNote      string
	Spans               []spanView
	SpansNote           string
	Losses              []lossView
	Notices             []noticeView
	NoticesNote         string
	Options             *Options
	Files               filesView
	Raw                 string
	RawNote             string
}

type tile struct{ Name, Value, Note, Class string }

type explainView struct {
	Name, Meaning, Count, Class string
	Advice                      []event.Advice
}

type findingView struct {
	Status, Class, Name, Message, Evidence string
	Advice                                 []event.Advice
}

type machineView struct {
	Name string
	Rows [][2]string
}

type interfaceView struct {
	Name, Driver                                              string
	Packets, Bytes, Dropped, Causes, Linearized, Bounced, Max string
	Rejected, TxDropped, Note                                 string
}

type spanView struct{ From, To, Length, Why string }
type lossView struct{ What, Count, Why string }
type noticeView struct{ Time, Text string }

type filesView struct {
	Shown []File
	More  string
}

// viewOfFiles shows the first ones, by paths that others may have chosen.
func viewOfFiles(files []File, most int) (v filesView) {
	v.Shown = slices.Clone(files[:min(len(files), most)])
	for i := range v.Shown {
		v.Shown[i].Path = clip(output.Printable(v.Shown[i].Path), 300)
	}
	if more := len(files) - len(v.Shown); more > 0 {
		v.More = plural(uint64(more), "more file") + " not shown."
	}
	return v
}

func (c *Collector) view(o Options, l limits) *view {
	o.Commands, o.Damage = slices.Clone(o.Commands), slices.Clone(o.Damage)
	v := &view{
		Story: c.story(&o), Timeline: c.timelineView(), Slots: c.slotsView(), Options: &o,
		Host: strings.Join(c.hosts(), ", "), Tiles: c.tiles(), Explained: c.explainViews(),
		Losses: c.losses(), Files: viewOfFiles(o.Files, l.rows),
	}
	if !c.first.IsZero() {
		v.Range, v.Length = stamp(c.first)+" to "+stamp(c.last)+" UTC", lasted(c.last.Sub(c.first))
	}
	v.Connections, v.ConnectionsNote = c.connectionViews(l)
	v.Findings, v.FindingsNote = c.findingViews(l)
	v.Interfaces, v.InterfacesNote = c.interfaceViews(l)
	v.Machines = c.machineViews(l)
	c.addSpans(v, l)
	c.addNotices(v, l)
	v.Raw, v.RawNote = c.extract.text(l.extractBytes, c.events)
	return v
}

func (c *Collector) tiles() []tile {
	t := &c.timeline
	class := func(n uint64, bad string) string {
		if n == 0 {
			return ""
		}
		return bad
	}
	packets := number(t.sums[packetSeries])
	if c.intervals+uint64(c.summaries) == 0 {
		packets = "not counted"
	}
	lost := c.lostPackets()
	note := ""
	if n := t.sums[packetSeries]; lost > 0 && n > 0 {
		note = share(lost, n) + " of packets"
	}
	rate := ""
	if c.duration > 0 {
		rate = number(output.PerSecond(t.sums[packetSeries], c.duration)) + " packets/s"
	}
	stalls := max(c.stalls, c.everStalled)
	tiles := []tile{
		{"packets", packets, rate, ""},
		{"lost", number(lost), note, class(lost, "bad")},
		{"linearized", number(t.sums[linearizedSeries]), "sent after a copy", class(t.sums[linearizedSeries], "warn")},
		{"stalls", number(stalls), plural(uint64(len(c.table.all))+c.table.evicted, "connection") + " affected", class(stalls, "bad")},
	}
	unmonitored := c.spans.length()
	name := "0 s"
	if unmonitored > 0 {
		name = lasted(unmonitored)
	}
	missing := t.sums[lostSeries] + t.sums[suppressedSeries]
	return append(tiles, tile{"unmonitored", name, plural(missing, "record") + " missing", class(uint64(unmonitored)+missing, "warn")})
}

func (c *Collector) explainViews() (all []explainView) {
	for i := range c.explain {
		e := &c.explain[i]
		all = append(all, explainView{e.Name, output.Printable(e.Meaning), plural(e.Count, "packet"), verdictClass(e.Verdict), e.Advice})
	}
	if len(all) > 0 {
		return all
	}
	for _, cause := range event.Causes() {
		if n := c.timeline.sums[causeSeries+series(cause)]; n > 0 {
			rule := verdict.OfCause(cause)
			all = append(all, explainView{rule.Name, rule.Meaning, plural(n, "packet"), "bad", nil})
		}
	}
	return all
}

func verdictClass(v event.Verdict) string {
	switch v {
	case event.Dropped, event.Rejected:
		return "bad"
	case event.Linearized, event.OverLimit:
		return "warn"
	}
	return "note"
}

func statusClass(s event.Status) string {
	return map[event.Status]string{event.Fail: "bad", event.Warn: "warn", event.Unknown: "note", event.OK: "good"}[s]
}

func (c *Collector) findingViews(l limits) (all []findingView, note string) {
	sorted := slices.Clone(c.findings)
	slices.SortStableFunc(sorted, func(a, b event.Finding) int { return cmp.Compare(b.Status, a.Status) })
	counts := map[event.Status]int{}
	for i := range sorted {
		f := &sorted[i]
		counts[f.Status]++
		if len(all) == l.rows {
			continue
		}
		name := string(f.ID)
		if f.Interface != "" {
			name += " " + output.Escape(f.Interface)
		}
		all = append(all, findingView{f.Status.String(), statusClass(f.Status), name, output.Printable(f.Message), clip(evidence(f.Evidence), 600), f.Advice})
	}
	if len(all) == 0 {
		return nil, "The recording holds no findings of check. Run xentrace check on that machine."
	}
	var parts []string
	for _, s := range event.Statuses() {
		parts = append(parts, strconv.Itoa(counts[s])+" "+s.String())
	}
	note = strings.Join(parts, ", ")
	if more := len(sorted) - len(all); more > 0 {
		note += fmt.Sprintf("; %d more are not shown", more)
	}
	return all, note
}

func evidence(facts []event.Fact) string {
	var parts []string
	for _, f := range facts {
		value := "unknown"
		if f.Value != nil {
			value = output.Printable(fmt.Sprint(f.Value))
		}
		if value != "" {
			parts = append(parts, f.Key+": "+value)
		}
	}
	return strings.Join(parts, ", ")
}

func (c *Collector) machineViews(l limits) (all []machineView) {
	for i := range c.starts {
		s := &c.starts[i]
		m := machineView{Name: output.Escape(cmp.Or(s.Hostname, "this machine"))}
		add := func(name, value string) {
			if value != "" {
				m.Rows = append(m.Rows, [2]string{name, output.Printable(value)})
			}
		}
		add("recorded from", stamp(s.Time)+" UTC")
		add("kernel", strings.TrimSpace(s.Kernel+" "+s.Machine))
		if s.Xen != nil {
			add("Xen", strings.TrimSpace(s.Xen.Version+" "+s.Xen.Type))
		}
		add("xentrace", strings.TrimSpace(s.Version+" "+clip(s.Commit, 12)))
		add("command", clip(strings.Join(s.Command, " "), 400))
		add("boot", s.BootID)
		for j := range s.Interfaces {
			if j == l.rows/10+1 {
				add("interfaces", fmt.Sprintf("%d more are not shown", len(s.Interfaces)-j))
				break
			}
			n := &s.Interfaces[j]
			add("interface "+output.Escape(n.Name), startInterface(n))
		}
		all = append(all, m)
		if more := len(c.starts) - len(all) + c.moreStarts; len(all) > l.rows/10 && more > 0 {
			return append(all, machineView{Name: plural(uint64(more), "more start") + " not shown"})
		}
	}
	return all
}

func startInterface(n *event.StartInterface) string {
	parts := []string{cmp.Or(n.Driver, "no driver"), "MTU " + strconv.Itoa(n.MTU)}
	if n.Queues > 0 {
		parts = append(parts, plural(uint64(n.Queues), "queue"))
	}
	switch {
	case n.Linearizes == nil:
		parts = append(parts, "unknown whether it linearizes")
	case *n.Linearizes:
		parts = append(parts, "linearizes packets over the slot limit")
	default:
		parts = append(parts, "drops packets over the slot limit")
	}
	var on, off []string
	for _, name := range slices.Sorted(maps.Keys(n.Features)) {
		if n.Features[name] {
			on = append(on, name)
		} else {
			off = append(off, name)
		}
	}
	if len(on) > 0 {
		parts = append(parts, "on: "+strings.Join(on, " "))
	}
	if len(off) > 0 {
		parts = append(parts, "off: "+strings.Join(off, " "))
	}
	return clip(strings.Join(parts, ", "), 900)
}

func (c *Collector) interfaceViews(l limits) (all []interfaceView, note string) {
	for i := range c.interfaces {
		if i == l.rows {
			return all, fmt.Sprintf("%d more interfaces are not shown.", len(c.interfaces)-i)
		}
		n := &c.interfaces[i]
		v := interfaceView{
			Name: output.Escape(n.Name), Driver: output.DriverName(n), Packets: number(n.Packets), Bytes: output.ByteSize(n.Bytes),
			Dropped: number(n.Dropped), Causes: causesOf(&n.Causes), Linearized: number(n.Linearized), Bounced: number(n.Bounced), Max: strconv.Itoa(n.Slots.Max()),
			Rejected: orUnknown(n.Rejected), TxDropped: orUnknown(n.TxDroppedDelta), Note: verdict.Difference(n),
		}
		all = append(all, v)
	}
	return all, ""
}

func orUnknown(n *uint64) string {
	if n == nil {
		return "unknown"
	}
	return number(*n)
}

func causesOf(counts *[event.NumCauses]uint64) string {
	var parts []string
	for _, cause := range event.Causes() {
		if n := counts[cause]; n > 0 {
			parts = append(parts, cause.String()+" "+number(n))
		}
	}
	return strings.Join(parts, ", ")
}

func (c *Collector) addSpans(v *view, l limits) {
	all := c.spans.sorted()
	for i, n := range all {
		if i == l.rows {
			break
		}
		v.Spans = append(v.Spans, spanView{stamp(n.from), stamp(n.to), lasted(n.to.Sub(n.from)), clip(output.Printable(n.why), 300)})
	}
	if more := len(all) - len(v.Spans) + c.spans.more; more > 0 {
		v.SpansNote = plural(uint64(more), "more interval") + " not shown."
	}
}

// losses are records that are missing, by cause.
func (c *Collector) losses() (all []lossView) {
	add := func(what string, n *uint64, key, why string) {
		switch {
		case n == nil && c.missing[key] != "":
			all = append(all, lossView{what, "unknown", clip(output.Printable(c.missing[key]), 300)})
		case n != nil && *n > 0:
			all = append(all, lossView{what, number(*n), why})
		}
	}
	add("records lost: ring buffer full", &c.lost.Ring, "ring", "the packets are counted")
	add("program runs skipped: recursion", c.lost.Recursion, "recursion", "the packets may not be counted")
	add("program runs missed by kprobes", c.lost.Missed, "missed", "the packets may not be counted")
	for _, name := range slices.Sorted(maps.Keys(c.suppressed)) {
		n := c.suppressed[name]
		add("records suppressed: "+name, &n, "", "over the rate limit; the packets are counted")
	}
	return all
}

func (c *Collector) addNotices(v *view, l limits) {
	for i := range c.notices {
		n := &c.notices[i]
		text := output.Printable(output.Sentence(n))
		if text == "" {
			text = string(n.ID)
		}
		if len(v.Notices) < l.rows {
			v.Notices = append(v.Notices, noticeView{stamp(n.Time), clip(text, 400)})
		}
	}
	if more := len(c.notices) - len(v.Notices) + c.moreNote; more > 0 {
		v.NoticesNote = plural(uint64(more), "more notice") + " not shown."
	}
}

// text is as many whole lines as fit, escaped as HTML escapes them.
func (x *extract) text(most int, events uint64) (text, note string) {
	var b strings.Builder
	shown, escaped := 0, 0
	for _, line := range x.lines {
		size := len(line)
		for _, c := range line {
			if c == '"' || c == '<' || c == '>' || c == '&' || c == '\'' {
				size += 4
			}
		}
		if escaped += size; escaped > 2*most {
			break
		}
		b.Write(line)
		shown++
	}
	if shown == 0 {
		return "", "No packet went wrong."
	}
	return b.String(), fmt.Sprintf("%d of %s: the first of each verdict and cause, and changes of connections. All: xentrace replay -o json.", shown, plural(events, "event"))
}
