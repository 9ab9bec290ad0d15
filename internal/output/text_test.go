package output

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"xentrace/internal/event"
)

var update = flag.Bool("update", false, "write testdata anew from what the tests get")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func text(width int) *Text {
	return &Text{Width: func() int { return width }, Blocks: true, Location: time.UTC}
}

func lines(f *Text) []byte {
	var b []byte
	for _, p := range samplePackets() {
		b = f.AppendPacket(b, &p)
	}
	return b
}

func TestTextGolden(t *testing.T) {
	plain := text(80)
	plain.Blocks = false
	whole := text(80)
	whole.Whole = true
	colour := text(100)
	colour.Color = true
	stacks := text(100)
	stacks.Stacks = true
	for name, got := range map[string][]byte{
		"lines-100.txt":         lines(text(100)),
		"lines-80.txt":          lines(text(80)),
		"lines-130.txt":         lines(text(130)),
		"lines-file.txt":        lines(whole),
		"lines-colour.txt":      lines(colour),
		"summary-100.txt":       text(100).AppendSummary(nil, summaryOf(sampleTotals())),
		"summary-80.txt":        text(80).AppendSummary(nil, summaryOf(sampleTotals())),
		"summary-quiet.txt":     text(100).AppendSummary(nil, summaryOf(quietTotals())),
		"summary-colour.txt":    colour.AppendSummary(nil, summaryOf(sampleTotals())),
		"lines-stacks.txt":      lines(stacks),
		"summary-elsewhere.txt": text(100).AppendSummary(nil, summaryOf(elsewhereTotals())),
		"hist-100.txt":          text(100).AppendHistogram(nil, summaryOf(sampleTotals())),
		"hist-80.txt":           text(80).AppendHistogram(nil, summaryOf(sampleTotals())),
		"hist-ascii.txt":        plain.AppendHistogram(nil, summaryOf(sampleTotals())),
		"hist-quiet.txt":        text(100).AppendHistogram(nil, summaryOf(quietTotals())),
		"hist-colour.txt":       colour.AppendHistogram(nil, summaryOf(sampleTotals())),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, got) })
	}
}

// No line may be wider than the terminal, down to widths nobody has. Commands
// are left whole, to be copied.
func TestTextStaysWithinItsWidth(t *testing.T) {
	totals := sampleTotals()
	for i := range totals.Interfaces {
		for c := range totals.Interfaces[i].Causes {
			totals.Interfaces[i].Causes[c] = 1
		}
	}
	for width := 72; width <= 140; width++ {
		f := text(width)
		all := string(lines(f)) + string(f.AppendSummary(nil, summaryOf(totals))) + string(f.AppendHistogram(nil, summaryOf(totals)))
		for line := range strings.Lines(all) {
			line = strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(line); n > width && !isCommandOrAddress(line) {
				t.Errorf("width %d: %d columns in %q", width, n, line)
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("width %d: space at the end of %q", width, line)
			}
		}
	}
}

// isCommandOrAddress reports the lines that are not broken: a command to copy,
// and an arrow with one long IPv6 address and what follows it.
func isCommandOrAddress(line string) bool {
	return strings.HasPrefix(strings.TrimSpace(line), "# ") || strings.HasPrefix(strings.TrimSpace(line), "> [")
}

func TestEveryPacketIsOneLineInAFile(t *testing.T) {
	f := text(20)
	f.Whole = true
	if got, want := strings.Count(string(lines(f)), "\n"), 1+len(samplePackets()); got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
}

func TestColumnsStayWhereALongNameTurnsUp(t *testing.T) {
	f := text(100)
	f.WidenTo("enX0-long-name")
	p := samplePackets()[0]
	header, short, _ := strings.Cut(string(f.AppendPacket(nil, &p)), "\n")
	p.Interface.Name = "enX0-long-name"
	long := string(f.AppendPacket(nil, &p))
	at := strings.Index(header, "VERDICT")
	if at != strings.Index(short, "dropped") || at != strings.Index(long, "dropped") {
		t.Errorf("columns are torn:\n%s\n%s%s", header, short, long)
	}
}

func TestHeaderComesAgainWhereAColumnBecomesWider(t *testing.T) {
	f := text(100)
	all := ""
	p := samplePackets()[0]
	for _, cause := range []event.Cause{event.SGOff, event.TooManySlots, event.SGOff, event.LinearizeFailed, event.TooManySlots} {
		p.Cause = cause
		all += string(f.AppendPacket(nil, &p))
	}
	if got := strings.Count(all, "TIME"); got != 3 {
		t.Errorf("%d headers, want the first and one for each of two longer causes:\n%s", got, all)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"eth0":          "eth0",
		"":              "",
		"a\x1b[31mb":    `a\x1b[31mb`,
		"tab\tnew\n":    `tab\x09new\x0a`,
		"bad\xff\xfe":   `bad\xff\xfe`,
		`back\slash`:    `back\\slash`,
		"für":           "für",
		"left\u202eran": `left\u202eran`,
		"c1\u009b31m":   `c1\u009b31m`,
		"\x7f":          `\x7f`,
		"\ufffd":        "\ufffd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPrintableLeavesBackslashesAlone(t *testing.T) {
	if got := Printable("name \"a\\x1b\" and \x1b"); got != `name "a\x1b" and \x1b` {
		t.Errorf("got %s", got)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 21204: "21,204", 1234567: "1,234,567",
		18446744073709551615: "18,446,744,073,709,551,615"} {
		if got := Grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB",
		31_245_678: "31.2 MB", 18446744073709551615: "18446.7 PB"} {
		if got := ByteSize(n); got != want {
			t.Errorf("byteSize(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0.0 s", 12 * time.Second: "12.0 s", 200 * time.Second: "3m 20s",
		3*time.Hour + 61*time.Second: "3h 1m 1s"} {
		if got := Seconds(d); got != want {
			t.Errorf("Seconds(%v) = %s, want %s", d, got, want)
		}
	}
	if got := PerSecond(10, 0); got != 0 {
		t.Errorf("perSecond over no time is %d", got)
	}
	if got := PerSecond(5, 2*time.Second); got != 3 {
		t.Errorf("perSecond(5, 2s) = %d, want 3", got)
	}
}

func TestShareNeverHidesAPart(t *testing.T) {
	for _, c := range []struct {
		part, whole uint64
		want        string
	}{{0, 10, "0.0"}, {10, 10, "100.0"}, {1, 1_000_000, "<0.1"}, {999_999, 1_000_000, ">99.9"}, {1, 3, "33.3"}} {
		if got := share(c.part, c.whole); got != c.want {
			t.Errorf("share(%d, %d) = %s, want %s", c.part, c.whole, got, c.want)
		}
	}
}

func TestBarIsToScale(t *testing.T) {
	f := text(100)
	for _, c := range []struct {
		value, most uint64
		want        string
	}{{1, 1_000_000, "▏"}, {8, 8, "████████"}, {4, 8, "████"}, {7, 16, "███▌"}} {
		if got := f.bar(c.value, c.most, 8); got != c.want {
			t.Errorf("bar(%d of %d) = %s, want %s", c.value, c.most, got, c.want)
		}
	}
	f.Blocks = false
	if got := f.bar(1, 100, 8); got != "#" {
		t.Errorf("bar(1 of 100) = %s, want #", got)
	}
	if got := f.bar(100, 100, 8); got != "########" {
		t.Errorf("bar(100 of 100) = %s", got)
	}
}

func TestTxDroppedBesideDropsElsewhere(t *testing.T) {
	totals := quietTotals()
	totals.Drops = event.DropsAll
	totals.Interfaces[0].Elsewhere = 7
	got := string(text(300).AppendSummary(nil, summaryOf(totals)))
	for _, part := range []string{"elsewhere        7  dropped outside the driver\n", "tx_dropped       0  delta of the interface's own counter: equals the driver's drops; drops outside it are not in it", "\nelsewhere (7): "} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in\n%s", part, got)
		}
	}
}

// Without packets there is no largest one, and another driver's own drops are not counted.
func TestNotesOfAnInterface(t *testing.T) {
	for name, c := range map[string]struct {
		driver     string
		packets    uint64
		has, hasNo string
	}{
		"nothing sent":                   {"xen-netfront", 0, "over limit  0  no packets", "largest packet"},
		"something sent":                 {"xen-netfront", 1, "largest packet: 1 slot (limit: 18)", "no packets"},
		"xen-netfront's counter":         {"xen-netfront", 1, "counter: equals dropped", ""},
		"another driver's counter":       {"veth", 1, "delta of the interface's own counter\n", "equals dropped"},
		"another driver and nothing yet": {"veth", 0, "over limit  0  no packets", "equals dropped"},
	} {
		none := uint64(0)
		counts := event.InterfaceTotals{Driver: c.driver, TxDroppedDelta: &none, Counts: event.Counts{Packets: c.packets}}
		counts.Slots[1] = c.packets
		totals := &event.Totals{Duration: time.Second, Interfaces: []event.InterfaceTotals{counts}}
		text := string((&Text{Width: func() int { return 100 }}).AppendSummary(nil, &event.Summary{Totals: *totals}))
		if !strings.Contains(text, c.has) || c.hasNo != "" && strings.Contains(text, c.hasNo) {
			t.Errorf("%s: want %q and not %q in\n%s", name, c.has, c.hasNo, text)
		}
	}
}

func TestFilterIsReported(t *testing.T) {
	for _, test := range []struct {
		filter  []string
		leftOut uint64
		want    string
	}{
		{nil, 0, ""},
		{[]string{"--host 10.0.0.9", "--comm a\x1bb"}, 1, `filter --host 10.0.0.9 --comm a\x1bb: 1 event left out; counts are of all packets` + "\n"},
		{[]string{"--port 443"}, 1234, "filter --port 443: 1,234 events left out; counts are of all packets\n"},
	} {
		got := string(text(300).AppendSummary(nil, &event.Summary{Totals: *quietTotals(), Filter: test.filter, LeftOut: test.leftOut}))
		if !strings.Contains(got, test.want) || test.want == "" && strings.Contains(got, "left out") {
			t.Errorf("want %q in\n%s", test.want, got)
		}
		var summary struct {
			Filter  []string
			LeftOut uint64 `json:"left_out"`
		}
		line := JSON{}.AppendSummary(nil, &event.Summary{Totals: *quietTotals(), Filter: test.filter, LeftOut: test.leftOut})
		if err := json.Unmarshal(line, &summary); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(summary.Filter, test.filter) || summary.Filter == nil || summary.LeftOut != test.leftOut {
			t.Errorf("%s: want filter %q, never null, and %d left out", line, test.filter, test.leftOut)
		}
	}
}

func TestAnyDropped(t *testing.T) {
	elsewhere := quietTotals()
	elsewhere.Interfaces[0].Elsewhere = 1
	if !sampleTotals().AnyDropped() || !elsewhere.AnyDropped() || quietTotals().AnyDropped() || (&event.Totals{}).AnyDropped() {
		t.Error("AnyDropped is wrong")
	}
}

// The call that sent a packet stands below its line, whatever its functions and files
// are called.
func TestStackBelowPacket(t *testing.T) {
	p := samplePackets()[0]
	p.Stack = []string{"xennet_start_xmit+0x44 [xen_netfront]", "do_syscall_64+0x71", "send\x1b[2J+0x5 (/opt/a\nb)"}
	for _, test := range []struct {
		name   string
		stacks bool
		want   int
	}{{"asked for", true, 3}, {"not asked for", false, 0}} {
		text := &Text{Stacks: test.stacks, Whole: true}
		lines := strings.Split(strings.TrimSuffix(string(text.AppendPacket(nil, &p)), "\n"), "\n")
		below := lines[2:] // the header and the packet
		if len(below) != test.want {
			t.Fatalf("%s: %d lines below the packet, want %d: %q", test.name, len(below), test.want, lines)
		}
		for i, line := range below {
			if want := Escape(p.Stack[i]); strings.TrimSpace(line) != want || strings.ContainsAny(line, "\x1b") {
				t.Errorf("line %d is %q, want %q", i, line, want)
			}
		}
	}
}
