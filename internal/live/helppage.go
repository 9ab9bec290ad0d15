package live

// What keys do and what is to be seen, for the page of help.
var helpTexts = []struct{ what, means string }{
	{"up down", "choose the flow above or below, also k and j; scroll where a page is longer than the screen"},
	{"page up/down", "go a screen further, also b and space"},
	{"home end", "go to the first and the last, also g and G"},
	{"enter", "all that is known of the chosen flow, and what would help it; again, or esc, goes back"},
	{"s", "sort by the next of stalled time, drops, last seen and sndq"},
	{"p", "pause the display, or let it go on; counting goes on all the time"},
	{"^L", "draw the screen anew"},
	{"^Z", "suspend; fg goes on. What finds no room in the ring buffer meanwhile is told of in lost"},
	{"?", "this page, also h"},
	{"q", "end, also ^C: the summary is written as in lines"},
	{"", ""},
	{"over_limit", "packets that needed more slots than a Xen frontend may use, whatever became of them"},
	{"tx_dropped", "what the interface's own counter moved by since the start"},
	{"lost", "what was not recorded: ring, no room in the ring buffer; flows, no room to remember a flow (the counts are right all the same); recursion and missed, the kernel skipped a program, and its packet may not be counted. ? is what this kernel does not tell"},
	{"stalled", "the same sequence number was dropped at least twice, and nothing was acknowledged since the first time; recovered: that is over"},
	{"flow", "its two ends; a TCP connection unless it says otherwise"},
	{"sndq", "bytes written to the socket and not acknowledged"},
	{"retrans", "segments sent again since the first drop"},
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
