package live

// helpTexts are the keys and columns on the page of help.
var helpTexts = []struct{ what, means string }{
	{"up down", "select a flow, also k and j; scroll a page that is longer than the screen"},
	{"page up/down", "one screen up or down, also b and space"},
	{"home end", "first and last, also g and G"},
	{"enter", "details of the selected flow, and what to do about it; enter or esc returns"},
	{"s", "sort by stalled time, drops, last seen or sndq in turn"},
	{"p", "pause or resume the display; counting continues"},
	{"^L", "redraw the screen"},
	{"^Z", "suspend; fg resumes. Events that find the ring buffer full meanwhile count in lost"},
	{"?", "this page, also h"},
	{"q", "quit, also ^C; prints the summary"},
	{"", ""},
	{"over_limit", "packets over the slot limit (18), whatever their verdict"},
	{"tx_dropped", "delta of the interface's own counter since the start"},
	{"lost", "not recorded. ring: ring buffer full; flows: flow table full (the counts are right in both cases); recursion and missed: the kernel skipped a BPF program, and its packet may not be counted. ?: this kernel does not report it"},
	{"stalled", "the same sequence number was dropped at least twice, and nothing was acknowledged since the first drop; recovered: it was acknowledged"},
	{"flow", "source and destination; TCP unless it says otherwise"},
	{"sndq", "unacknowledged bytes (write_seq - snd_una)"},
	{"retrans", "segments retransmitted since the first drop"},
}

// helpLines is the page of help.
func (m *model) helpLines(columns int) []line {
	const indent = 14
	lines := []line{m.rule("help", columns)}
	for _, h := range helpTexts {
		what := h.what
		for _, part := range wrap(h.means, columns-indent) {
			lines = append(lines, line{{left(what, indent), heading}, {part, plain}})
			what = ""
		}
	}
	return lines
}
