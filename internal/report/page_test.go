package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"xentrace/internal/event"
)

func pageOf(t testing.TB, events []event.Event, o Options) []byte {
	t.Helper()
	page, err := collected(t, events).Page(o)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := page.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatal(n, err)
	}
	return b.Bytes()
}

func samples() map[string][]event.Event {
	return map[string][]event.Event{
		"night": night(30, 40), "large": night(2500, 40), "quiet": night(0, 0)[:400], "empty": nil, "hostile": hostileEvents(),
		"short": night(0, 0)[:1], "live": {packetOf(midnight, 1, 1), packetOf(midnight.Add(time.Second), 1, 1)},
	}
}

// With XENTRACE_REPORT_SAMPLES=DIRECTORY the samples are written there, to be looked at.
func TestSamples(t *testing.T) {
	directory := os.Getenv("XENTRACE_REPORT_SAMPLES")
	for name, events := range samples() {
		page := pageOf(t, events, optionsOf())
		if directory == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(directory, name+".html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A document is a parsed page.
type document struct{ *html.Node }

func parsed(t testing.TB, page []byte) document {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return document{root}
}

// all returns the elements with a name, in the order of the page.
func (d document) all(name string) (found []document) {
	for n := range d.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			found = append(found, document{n})
		}
	}
	return found
}

func (d document) attribute(key string) string {
	for _, a := range d.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func (d document) text() string {
	var b strings.Builder
	for n := range d.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.TrimSpace(b.String())
}

func (d document) id(id string) (document, bool) {
	for n := range d.Descendants() {
		if e := (document{n}); n.Type == html.ElementNode && e.attribute("id") == id {
			return e, true
		}
	}
	return document{}, false
}

// Whatever the events are, a page loads nothing, and its policy allows its own style and
// script alone.
func TestPageLoadsNothing(t *testing.T) {
	for name, events := range samples() {
		d := parsed(t, pageOf(t, events, optionsOf()))
		allowed := []string{"a", "body", "b", "button", "caption", "circle", "code", "dd", "defs", "desc", "details", "div", "dl", "dt", "footer", "g", "h1", "h2", "h3", "head", "header", "html",
			"input", "label", "li", "line", "main", "meta", "nav", "p", "path", "pattern", "pre", "rect", "script", "section", "span", "strong", "style", "summary", "svg", "table", "tbody", "td",
			"text", "th", "thead", "title", "tr", "tspan", "ul"}
		for n := range d.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			if !slices.Contains(allowed, n.Data) {
				t.Errorf("%s: element %s", name, n.Data)
			}
			for _, a := range n.Attr {
				if a.Key == "src" || a.Key == "style" || strings.HasPrefix(a.Key, "on") || a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
					t.Errorf("%s: %s %s=%q", name, n.Data, a.Key, a.Val)
				}
			}
		}
		if n, m := len(d.all("script")), len(d.all("style")); n != 1 || m != 1 {
			t.Errorf("%s: %d scripts, %d styles", name, n, m)
		}
		policy := ""
		for _, meta := range d.all("meta") {
			if meta.attribute("http-equiv") == "Content-Security-Policy" {
				policy = meta.attribute("content")
			}
		}
		script, style := d.all("script")[0].FirstChild.Data, d.all("style")[0].FirstChild.Data
		for _, want := range []string{"default-src 'none'", "script-src '" + sourceHash([]byte(script)) + "'", "style-src '" + sourceHash([]byte(style)) + "'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %q", name, policy, want)
			}
		}
	}
}

// Every plot has a sentence for those who do not see it, and its numbers in a table.
func TestPlotsHaveTextAndNumbers(t *testing.T) {
	d := parsed(t, pageOf(t, night(30, 40), optionsOf()))
	plots := 0
	for _, svg := range d.all("svg") {
		if svg.Parent.Data == "svg" || svg.attribute("aria-hidden") == "true" {
			continue
		}
		plots++
		text := svg.attribute("aria-label")
		for _, id := range strings.Fields(svg.attribute("aria-labelledby")) {
			e, _ := d.id(id)
			text += e.text()
		}
		if svg.attribute("role") != "img" || len(text) < 20 {
			t.Errorf("plot with role %q and text %q", svg.attribute("role"), text)
		}
		around := document{svg.Parent}
		for around.Data != "section" && around.Data != "tbody" {
			around = document{around.Parent}
		}
		if numbers := around.all("table"); len(numbers) == 0 || len(numbers[0].all("td")) == 0 {
			t.Errorf("plot %q has no numbers", text)
		}
	}
	if plots != 2+30 {
		t.Errorf("%d plots, want the timeline, the histogram and 30 connections", plots)
	}
}

// The numbers of the timeline are those of the events.
func TestTimelineCountsEverything(t *testing.T) {
	events := night(30, 40)
	d := parsed(t, pageOf(t, events, optionsOf()))
	table, found := d.id("timeline-numbers")
	if !found {
		t.Fatal("no numbers")
	}
	var names []string
	for _, th := range table.all("thead")[0].all("th")[1:] {
		names = append(names, th.text())
	}
	sums := make(map[string]uint64)
	for _, row := range table.all("tbody")[0].all("tr") {
		for i, td := range row.all("td") {
			n, err := strconv.ParseUint(strings.ReplaceAll(td.text(), ",", ""), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sums[names[i]] += n
		}
	}
	packets := uint64(0)
	for _, e := range events {
		if i, is := e.(*event.Interval); is {
			packets += i.Interfaces[0].Packets
		}
	}
	want := map[string]uint64{"packets": packets, "dropped: too_many_slots": 1200, "linearized": 300, "retransmissions": 30 * 39, "records lost": 12, "records suppressed": 4321}
	for name, n := range want {
		if sums[name] != n {
			t.Errorf("%s: the table has %d, the events %d", name, sums[name], n)
		}
	}
	if len(names) != len(want)+1 || !slices.Contains(names, "stalled connections") {
		t.Errorf("lanes %q", names)
	}
}

// 100,000 events fit into 300 kB, and what was left out is stated.
func TestSizeOfALargeRecording(t *testing.T) {
	events := night(4100, 24)
	for i := range events { // as long and as different as names can be
		switch e := events[i].(type) {
		case *event.Packet:
			e.Process = &event.Process{PID: i, Comm: "a-long-name-", Container: strings.Repeat("f", 64), Unit: strings.Repeat("u", 200)}
		case *event.FlowEvent:
			e.Flow.Stack = slices.Repeat(e.Flow.Stack, 6)
		}
	}
	if len(events) < 100_000 {
		t.Fatalf("%d events", len(events))
	}
	page := pageOf(t, events, optionsOf())
	if len(page) > 300_000 {
		t.Errorf("%d bytes for %d events", len(page), len(events))
	}
	d := parsed(t, page)
	connections, _ := d.id("connections")
	if rows := len(connections.all("svg")); rows < 10 || !strings.Contains(connections.text(), fmt.Sprintf("The %d worst of ", rows)) {
		t.Errorf("%d connections: %.200q", rows, connections.text())
	}
}

// However long names are, and however many machines, interfaces and findings: a page is
// bounded.
func TestSizeOfAStrangeRecording(t *testing.T) {
	long := strings.Repeat("<&\"x", 5_000)
	var events []event.Event
	for i := range 100 {
		s := startOf(midnight.Add(time.Duration(i) * time.Second))
		s.Hostname, s.Kernel = fmt.Sprint(i, long), long
		for j := range 100 {
			n := s.Interfaces[0]
			n.Name = fmt.Sprint("eth", j)
			s.Interfaces = append(s.Interfaces, n)
			f := s.Check[0]
			f.Interface, f.Message = n.Name, long
			s.Check = append(s.Check, f)
		}
		p := packetOf(s.Time, i, 1)
		p.Process.Comm, p.Interface.Name, p.Stack = long, long, slices.Repeat([]string{long}, 100)
		interval := intervalOf(s.Time.Add(10*time.Second), 10, 1)
		interval.Interfaces[0].Name, interval.Interfaces[0].Driver = fmt.Sprint(i, long), long
		interval.Explained[0].Name, interval.Explained[0].Meaning = fmt.Sprint(i, long), long
		interval.Missing = map[string]string{"missed": long}
		events = append(events, s, p, interval, stalledOf(s.Time, p, 3, event.Stalled, time.Second), &event.Notice{Time: s.Time, ID: event.NoticeUnmonitored, Reason: fmt.Sprint(i, long)})
	}
	o := optionsOf()
	o.Damage = slices.Repeat([]string{long}, 10)
	o.Files = slices.Repeat([]File{{Path: long}}, 5000)
	page := pageOf(t, events, o)
	if len(page) > 300_000 {
		t.Errorf("%d bytes", len(page))
	}
	text := parsed(t, page).text()
	for _, part := range []string{"more are not shown", "more interfaces are not shown", "more starts not shown", "more connections with ", "more intervals not shown", "more notices not shown", "more files not shown", "more frames not shown"} {
		if !strings.Contains(text, part) {
			t.Errorf("the page does not say %q", part)
		}
	}
}

// Names that others control stay text, and what does not print is escaped.
func TestNamesAreEscaped(t *testing.T) {
	page := pageOf(t, hostileEvents(), Options{Files: []File{{Path: hostile}}, Commands: []string{hostile}, Damage: []string{hostile}, Version: hostile})
	if bytes.Contains(page, []byte("<img")) {
		t.Error("a name became an element")
	}
	if n := bytes.Count(page, []byte("</script>")); n != 1 {
		t.Errorf("%d ends of scripts", n)
	}
	if bytes.ContainsRune(page, '\u202e') {
		t.Error("the page holds a character that reverses text")
	}
	for _, code := range parsed(t, page).all("code") {
		if strings.Contains(code.text(), "\n") {
			t.Errorf("a command that is copied runs when it is pasted: %q", code.text())
		}
	}
	if text := parsed(t, page).text(); strings.Count(text, "<img src=x onerror=alert(1)>") < 20 {
		t.Errorf("the names are shown %d times", strings.Count(text, "<img src=x onerror=alert(1)>"))
	}
}

func topOf(t *testing.T, events []event.Event) string {
	t.Helper()
	return strings.Join(strings.Fields(parsed(t, pageOf(t, events, optionsOf())).all("section")[0].text()), " ")
}

// The top of the page is what happened, and what to run.
func TestStory(t *testing.T) {
	linearized := intervalOf(midnight.Add(10*time.Second), 1000, 0)
	linearized.Interfaces[0].Linearized, linearized.Interfaces[0].OverLimit = 7, 7
	dropped := intervalOf(midnight.Add(10*time.Second), 1000, 4)
	stuck := intervalOf(midnight.Add(10*time.Second), 1000, 0)
	stuck.Interfaces[0].Stuck = addressOf(4200 * time.Millisecond)
	other := intervalOf(midnight.Add(10*time.Second), 1000, 0)
	other.Interfaces[0].Driver, other.Interfaces[0].OverLimit = "veth", 9
	other.Explained = []event.Explanation{{Name: "over_limit", Verdict: event.OverLimit, Count: 9, Meaning: "This driver sent the packet."}}
	whole := &event.Summary{Totals: intervalOf(midnight.Add(20*time.Second), 1500, 6).Totals} // 500 packets more than the interval
	whole.Duration = 20 * time.Second
	for name, test := range map[string]struct {
		events []event.Event
		want   []string
	}{
		"stalls": {night(30, 40), []string{
			"STALLED 10 connections are stalled at the end, 1,200 packets dropped by the driver",
			"In 10h 0m 0s on web-7 (eth0) the driver was handed 26,110,182 packets; 1,200 (0.0046 % of them) were lost.",
			"30 connections stalled; the longest, 10.0.0.5:32770 > 10.0.0.2:5001 tcp of postgres[802], for 5h 56m 10s from Nov 23 02:03:50; 10 are still stalled at the end.",
			"Most frequent cause, too_many_slots: The packet is over the slot limit (18)",
			"Run first ip link set dev eth0 mtu 1500", "Unmonitored for 16m 0s in 1 interval", "12 records lost", "4,321 records suppressed by --rate",
		}},
		"drops": {[]event.Event{dropped}, []string{
			"LOST 4 packets dropped by the driver", "In 10.0 s (eth0) the driver was handed 1,000 packets; 4 (0.4 % of them) were lost.",
			"The events name no connection.", "Run first apt-get install --only-upgrade linux-image-amd64",
		}},
		"stuck":      {[]event.Event{stuck}, []string{"STUCK A TX queue was stuck for 4.2 s", "eth0: a TX queue was full, and the backend accepted nothing, for 4.2 s."}},
		"summary":    {[]event.Event{dropped, whole}, []string{"LOST 6 packets dropped", "In 20.0 s (eth0) the driver was handed 1,500 packets; 6 (0.4 % of them) were lost."}},
		"linearized": {[]event.Event{linearized}, []string{"OK No packet lost; 7 packets over the slot limit linearized", "none was lost. No connection was affected."}},
		"other":      {[]event.Event{other}, []string{"AT RISK 9 packets over the slot limit of xen-netfront (18)", "No connection was affected. This driver sent the packet."}},
		"quiet":      {night(0, 0)[1:400], []string{"OK No packet lost", "Nothing needs to be done."}},
		"at risk":    {night(0, 0)[:100], []string{"AT RISK No packet lost, but check found 1 fault", "check reported: This driver drops packets", "Run first apt-get"}},
		"empty":      {nil, []string{"EMPTY Nothing was counted The recording holds no event."}},
		"short":      {night(0, 0)[:1], []string{"EMPTY", "The recording ends before its first interval (10 s): nothing was counted yet."}},
		"idle":       {[]event.Event{intervalOf(midnight, 0, 0)}, []string{"EMPTY", "No packet was handed to the driver in 10.0 s: eth0 sent nothing."}},
		"cut": {[]event.Event{packetOf(midnight, 1, 1), packetOf(midnight.Add(time.Second), 1, 1)}, []string{
			"LOST 2 packets dropped by the driver", "In 1.0 s 2 packets that went wrong were recorded; the recording ends before the first count of all packets.",
			"No connection stalled; packets of 1 connection went wrong.",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := topOf(t, test.events)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}
