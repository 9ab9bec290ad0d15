package live

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"xentrace/internal/event"
)

// hostileNames are what others may call their processes and interfaces.
var hostileNames = []string{
	"\x1b[2J\x1b[31m", "a\nb\tc", "\xff\xfe", "漢字漢字漢字", "e\u0301e\u0301", "\u0301\u0301", "👨\u200d👩\u200d👧", "🇩🇪🇩🇪", "\u202eevil",
	"ൎx", "가각", "", strings.Repeat("w", 300), strings.Repeat("界", 100), "\u202e\x9b31m",
}

func hostileModel(flows int) *model {
	m := sampleModel(5, flows)
	s := m.latest
	for i := range s.Totals.Interfaces {
		s.Totals.Interfaces[i].Packets = 12_345_678_901
		s.Totals.Interfaces[i].Name, s.Totals.Interfaces[i].Driver = hostileNames[i%len(hostileNames)], hostileNames[(i+5)%len(hostileNames)]
	}
	for i := range s.Flows {
		f := &s.Flows[i]
		f.Process = &event.Process{PID: 1, Comm: hostileNames[i%len(hostileNames)], Unit: hostileNames[(i+1)%len(hostileNames)]}
		f.Interface.Name, f.Layout = hostileNames[(i+2)%len(hostileNames)], hostileNames[(i+3)%len(hostileNames)]
		f.Stack = hostileNames
		if i%2 == 0 {
			f.Source = netip.AddrPortFrom(netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"), uint16(60000+i))
		}
	}
	m.update(s)
	for i, hostile := range hostileNames {
		p := samplePacket(i)
		p.Layer, p.Reason, p.Interface.Name = event.LayerElsewhere, hostile, hostile
		m.log.packet(p)
		m.log.say(sampleTime, hostile)
	}
	return m
}

func checkFrame(t *testing.T, m *model, columns, rows int) {
	t.Helper()
	frame := m.frame(columns, rows)
	if len(frame) != rows {
		t.Fatalf("%dx%d: %d lines", columns, rows, len(frame))
	}
	for y, l := range frame {
		text := l.String()
		if l.width() > columns || width(text) != l.width() {
			t.Fatalf("%dx%d: line %d takes %d columns in parts and %d as a whole: %q", columns, rows, y, l.width(), width(text), text)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%dx%d: line %d does not print: %q", columns, rows, y, text)
		}
	}
	if columns < leastColumns || rows < leastRows {
		return
	}
	text := frameText(frame)
	for _, part := range []string{"packets ", "dropped ", "linearized ", "bounced ", "over_limit ", "rejected ", "lost 9 (ring 7, flows 2, recursion 0, missed ?)", "stalled now ", "1:00:00", "backend fentry", "TX_DROPPED", "q quit"} {
		if !strings.Contains(text, part) {
			t.Fatalf("%dx%d: no %q in\n%s", columns, rows, part, text)
		}
	}
	if m.page == overview && len(m.flows) > 0 && strings.Count(text, "\n> ") != 1 {
		t.Fatalf("%dx%d: no chosen flow in\n%s", columns, rows, text)
	}
}

func TestEverySizeIsFilledAndNothingIsWider(t *testing.T) {
	// The details show one flow, and the help none: they need not be drawn for each number of flows.
	for flows, pages := range map[int][]page{0: {overview, details, help}, 1: {overview, details}, 500: {overview}} {
		for name, m := range map[string]*model{"plain": sampleModel(2, flows), "hostile": hostileModel(flows)} {
			t.Run(fmt.Sprintf("%s %d", name, flows), func(t *testing.T) {
				t.Parallel()
				for _, p := range pages {
					m.page = p
					for _, rows := range []int{1, 14, 15, 24, 40, 80} {
						for columns := 1; columns <= 250; columns++ {
							checkFrame(t, m, columns, rows)
						}
					}
					for _, columns := range []int{1, 60, 61, 80, 120, 200, 250} {
						for rows := 1; rows <= 80; rows++ {
							checkFrame(t, m, columns, rows)
						}
					}
				}
			})
		}
	}
}

func TestTheScreen(t *testing.T) {
	m := sampleModel(1, 4)
	want := `xentrace watch   1:00:00   backend fentry
packets    1,234,567  1,500/s  dropped            0      0/s
linearized     1,024      0/s  bounced            5      0/s
over_limit     2,048      0/s  rejected           3      0/s
lost 9 (ring 7, flows 2, recursion 0, missed ?)   stalled now 2
INTERFACE  DRIVER        PACKETS/S  DROPPED  LINEARIZED  OVER_LIMIT  TX_DROPPED
eth0       xen-netfront      1,500        0       1,024       2,048           0
── flows with losses, by stalled time: 4 ───────────────────────────────────────
  STATE          DROPS  FLOW                                    PROCESS
> stalled 4.0 s      4  172.31.0.3:40003 > 172.31.200.100:5001  1003 worker-3
  stalled 1.0 s      1  172.31.0.0:40000 > 172.31.200.100:5001  1000 worker-0
  troubled           3  172.31.0.2:40002 > 172.31.200.100:5001  1002 worker-2
  troubled           2  172.31.0.1:40001 > 172.31.200.100:5001  1001 worker-1
── last events ─────────────────────────────────────────────────────────────────
12:07:20 dropped too_many_slots 19/18 172.31.0.0:40000 > 172.31.200.100:5001 tcp
12:07:21 dropped too_many_slots 20/18 172.31.0.1:40001 > 172.31.200.100:5001 tcp
12:07:22 dropped too_many_slots 21/18 172.31.0.2:40002 > 172.31.200.100:5001 tcp
12:07:23 dropped too_many_slots 22/18 172.31.0.3:40003 > 172.31.200.100:5001 tcp
12:07:20 stalled for 1.0 s 172.31.0.0:40000 > 172.31.200.100:5001 tcp of 1000
         worker-0
12:07:20 eth1 was detached


up/down  enter details  s sort  p pause  ? help  q quit
`
	if got := screenText(m, 80, 24); got != want {
		t.Errorf("got\n%s", got)
	}
}

// chosen is the row of the chosen flow, and where it stands among those in sight.
func chosen(m *model, columns, rows int) (text string, at int) {
	in := false
	for _, l := range m.frame(columns, rows) {
		text := l.String()
		switch {
		case strings.Contains(text, "STATE"):
			in = true
		case in && strings.HasPrefix(text, "> "):
			return text, at
		case in:
			at++
		}
	}
	return "", -1
}

func TestKeysMoveThroughFlows(t *testing.T) {
	for name, c := range map[string]struct {
		keys []key
		want int // of 500 in order of time stalled; even those are not
		at   int // row of the list
	}{
		"none":                  {nil, 0, 0},
		"down":                  {[]key{keyDown, keyDown}, 2, 2},
		"up at the top":         {[]key{keyUp}, 0, 0},
		"down, up":              {[]key{keyDown, keyDown, keyUp}, 1, 1},
		"page down":             {[]key{keyPageDown}, 18, 18},
		"page down twice":       {[]key{keyPageDown, keyPageDown}, 36, 18},
		"page down, up":         {[]key{keyPageDown, keyPageDown, keyPageUp}, 18, 0},
		"end":                   {[]key{keyEnd}, 499, 18},
		"down at the end":       {[]key{keyEnd, keyDown}, 499, 18},
		"end, up":               {[]key{keyEnd, keyUp}, 498, 17},
		"end, home":             {[]key{keyEnd, keyHome}, 0, 0},
		"to details and back":   {[]key{keyDown, keyEnter, keyDown, keyEscape}, 1, 1},
		"to help and back":      {[]key{keyDown, keyHelp, keyEnd, keyHelp}, 1, 1},
		"details and enter":     {[]key{keyDown, keyEnter, keyEnter, keyDown}, 2, 2},
		"escape where it stays": {[]key{keyEscape, keyDown}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := sampleModel(3, 500)
			m.frame(120, 40)
			for _, k := range c.keys {
				m.press(k)
				m.frame(120, 40)
			}
			sorted := sampleFlows(500)
			slices.SortStableFunc(sorted, byStalled.compare)
			text, at := chosen(m, 120, 40)
			if want := sorted[c.want].Source.String(); !strings.Contains(text, " "+want+" ") || at != c.at {
				t.Errorf("row %d is %q, want row %d with %s", at, text, c.at, want)
			}
		})
	}
}

func TestSorting(t *testing.T) {
	const flows = 60
	worst := func(by func(a, b event.FlowHistory) bool) event.FlowHistory {
		all := sampleFlows(flows)
		best := all[0]
		for _, f := range all[1:] {
			if by(f, best) {
				best = f
			}
		}
		return best
	}
	m := sampleModel(1, flows)
	for _, c := range []struct {
		name   string
		column string
		worst  event.FlowHistory
		cell   string
	}{
		{"stalled time", "STATE", worst(func(a, b event.FlowHistory) bool { return a.StalledFor > b.StalledFor }), "stalled 58.0 s"},
		{"drops", "DROPS", worst(func(a, b event.FlowHistory) bool { return a.Drops > b.Drops }), " 50 "},
		{"last seen", "LAST", worst(func(a, b event.FlowHistory) bool { return a.Last.After(b.Last) }), " 0 s "},
		{"sndq", "SNDQ", worst(func(a, b event.FlowHistory) bool { return sndQ(a) > sndQ(b) }), "66.1 kB"},
	} {
		// As narrow as it may be, the column that it is sorted by is shown.
		for _, columns := range []int{80, 200} {
			text := screenText(m, columns, 24)
			if !strings.Contains(text, "by "+c.name+": 1 to ") || !strings.Contains(text, " "+c.column) {
				t.Errorf("%s: not reported, or no column %s:\n%s", c.name, c.column, text)
			}
			row, _ := chosen(m, columns, 24)
			if !strings.Contains(row, c.worst.Source.String()) || !strings.Contains(row, c.cell) {
				t.Errorf("%s: the first is %q, want %s with %q", c.name, row, c.worst.Source, c.cell)
			}
		}
		press(m, keySort)
	}
	if m.order != byStalled {
		t.Errorf("after all orders comes %v", m.order)
	}
}

// Numbers move while one reads: the flow that was chosen stays so.
func TestTheChosenFlowStaysChosen(t *testing.T) {
	m := sampleModel(1, 100)
	m.frame(120, 40)
	press(m, keyDown, keyDown, keyDown)
	before := m.chosen
	flows := sampleFlows(100)
	for i := range flows {
		flows[i].StalledFor = time.Duration(1000-i) * time.Second // all the other way round
	}
	m.update(Snapshot{Totals: sampleTotals(1), Flows: flows})
	if text, _ := chosen(m, 120, 40); m.chosen != before || !strings.Contains(text, before.Source.String()) {
		t.Errorf("now %v and %q, before %v", m.chosen, text, before)
	}
	press(m, keyHome)
	slices.SortStableFunc(flows, byDrops.compare)
	for i := range flows {
		flows[i].StalledFor = time.Duration(i+1) * time.Second
	}
	m.update(Snapshot{Totals: sampleTotals(1), Flows: flows})
	if text, at := chosen(m, 120, 40); at != 0 || m.chosen == before || !strings.Contains(text, m.flows[0].Source.String()) {
		t.Errorf("none being chosen, it is %q in row %d, not the worst", text, at)
	}
	press(m, keyDown)
	before = m.chosen
	press(m, keyEnter)
	flows = slices.DeleteFunc(flows, func(f event.FlowHistory) bool { return f.FlowKey == before })
	m.update(Snapshot{Totals: sampleTotals(1), Flows: flows})
	text := screenText(m, 120, 40)
	if !strings.Contains(text, before.Source.String()+" > ") || !strings.Contains(text, "No longer tracked") {
		t.Errorf("its details became another's:\n%s", text)
	}
	press(m, keyEscape)
	m.update(Snapshot{Totals: sampleTotals(1), Flows: flows})
	if text, _ := chosen(m, 120, 40); text == "" {
		t.Error("none is chosen after the chosen one went")
	}
}

func TestDetails(t *testing.T) {
	m := sampleModel(1, 4)
	m.frame(80, 24)
	press(m, keyEnter)
	want := []string{
		"172.31.0.3:40003 > 172.31.200.100:5001 tcp",
		"state      stalled for 4.0 s, since 12:07:16: sequence number 3000 was dropped 7",
		"           times, and nothing was acknowledged",
		"process    worker-3, pid 1003, uid 33, unit web.service",
		"interface  eth0, network namespace 4026531840",
		"packets    dropped 4 (too_many_slots 4); 19 to 22 slots; first at 11:07:20, last",
		"TCP        ESTABLISHED, 66.0 kB unacknowledged (snd_una 3000, write_seq 69000),",
		"           6 segments retransmitted, RTO 1.6 s, doubled 3 times; read from the",
		"layout     17 fragments of 80 to 256 bytes, all straddling a page boundary: many",
		"  # sysctl -w net.core.high_order_alloc_disable=1",
		"    New fragments are single pages.",
		"    Cost: Bulk senders use a little more CPU.",
		"  # ip link set dev eth0 mtu 1500",
	}
	tall := screenText(m, 80, 40)
	for _, part := range want {
		if !strings.Contains(tall, part+"\n") {
			t.Errorf("no line %q in\n%s", part, tall)
		}
	}
	last := "Queued segments are re-segmented when they are retransmitted."
	if low := screenText(m, 80, 18); strings.Contains(low, last) {
		t.Fatalf("all of it fits:\n%s", low)
	}
	press(m, keyEnd)
	if low := screenText(m, 80, 18); !strings.Contains(low, last) {
		t.Errorf("the end is not reached:\n%s", low)
	}
	press(m, keyHome)
	if low := screenText(m, 80, 18); !strings.Contains(low, want[0]) {
		t.Errorf("the beginning is not reached again:\n%s", low)
	}
}

func TestPause(t *testing.T) {
	m := sampleModel(1, 4)
	now := sampleTime
	m.now = func() time.Time { return now }
	running := screenText(m, 80, 24)
	press(m, keyPause)
	paused := screenText(m, 80, 24)
	if !strings.Contains(paused, "PAUSED at 12:07:20, still counting") || strings.Contains(running, "PAUSED") {
		t.Errorf("running\n%spaused\n%s", running, paused)
	}
	now = now.Add(90 * time.Second)
	totals := sampleTotals(1)
	totals.Time, totals.Duration = now, totals.Duration+90*time.Second
	totals.Interfaces[0].Packets += 9_000_000
	m.log.say(now, "something else")
	m.update(Snapshot{Totals: totals, Flows: sampleFlows(50), Stalled: 17})
	if still := screenText(m, 80, 24); still != paused {
		t.Errorf("it moved:\n%s", still)
	}
	press(m, keyDown, keySort)
	if text := screenText(m, 80, 24); !strings.Contains(text, "by drops: 4") {
		t.Errorf("keys do nothing while it is paused:\n%s", text)
	}
	press(m, keyPause)
	m.update(Snapshot{Totals: totals, Flows: sampleFlows(50), Stalled: 17})
	text := screenText(m, 80, 24)
	for _, part := range []string{"packets    10,234,567 100,000/s", "1:01:30", "stalled now 17", "something else"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

func TestTooSmall(t *testing.T) {
	for _, size := range [][2]int{{59, 40}, {200, 14}} {
		text := strings.Join(strings.Fields(screenText(sampleModel(1, 5), size[0], size[1])), " ")
		want := fmt.Sprintf("The terminal is too small: %dx%d, needs 60x15. Still counting; q quits.", size[0], size[1])
		if text != want {
			t.Errorf("%v: %q", size, text)
		}
	}
}

func TestPlainASCII(t *testing.T) {
	m := sampleModel(3, 500)
	m.blocks = false
	for _, p := range []page{overview, details, help} {
		m.page = p
		if text := screenText(m, 80, 24); strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Errorf("page %d is not plain ASCII:\n%s", p, text)
		}
	}
}

func TestManyInterfaces(t *testing.T) {
	text := screenText(sampleModel(20, 0), 80, 24)
	if !strings.Contains(text, "eth19 ") || !strings.Contains(text, "17 more interfaces") || strings.Contains(text, "eth16 ") {
		t.Errorf("not the three that lost most:\n%s", text)
	}
}
