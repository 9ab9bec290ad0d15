package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"xentrace/test/browser"
)

const axe = "../../build/browser/node_modules/axe-core/axe.min.js"

// writtenAll writes the samples, and a comparison of two of them.
func writtenAll(t *testing.T) (directory string) {
	t.Helper()
	directory = t.TempDir()
	pages := make(map[string][]byte)
	for name, events := range samples() {
		pages[name] = pageOf(t, events, optionsOf())
	}
	page, err := Compare(collected(t, night(30, 40)), collected(t, afterFix()), "before.jsonl", "after.jsonl").Page(optionsOf())
	if err != nil {
		t.Fatal(err)
	}
	pages["compare"] = page.html
	for name, html := range pages {
		if err := os.WriteFile(filepath.Join(directory, name+".html"), html, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// written writes the page of the night.
func written(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "night.html")
	if err := os.WriteFile(path, pageOf(t, night(30, 40), optionsOf()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every page opens from disk without a request or a message, fits windows of every width,
// and breaks no rule of axe-core that matters.
func TestPagesInABrowser(t *testing.T) {
	b := browser.Start(t)
	directory := writtenAll(t)
	shots := os.Getenv("XENTRACE_REPORT_SAMPLES")
	for _, test := range []struct {
		page, scheme string
		width        int
		rules        bool
	}{
		{"night", "light", 1280, true}, {"night", "dark", 360, true}, {"night", "light", 360, false}, {"night", "dark", 1280, false}, {"night", "light", 2560, false}, {"night", "dark", 2560, false},
		{"large", "light", 1280, false}, {"hostile", "dark", 360, true}, {"compare", "light", 1280, false}, {"compare", "dark", 360, true}, {"empty", "light", 360, true},
	} {
		name := fmt.Sprintf("%s-%d-%s", test.page, test.width, test.scheme)
		b.Show(test.width, 900, test.scheme)
		b.Open(filepath.Join(directory, test.page+".html"))
		var wide int
		if b.Eval("document.documentElement.scrollWidth", &wide); wide > test.width {
			t.Errorf("%s is %d pixels wide", name, wide)
		}
		if shots != "" {
			b.Screenshot(filepath.Join(shots, name+".png"))
		}
		if noted := b.Noted(); len(noted) > 0 {
			t.Errorf("%s: %s", name, noted)
		}
		if !test.rules {
			continue
		}
		b.Eval(`document.querySelectorAll("details").forEach((d, i) => { d.open = i < 4; })`, nil)
		for _, v := range b.Violations(axe) {
			if v.Impact == "serious" || v.Impact == "critical" || v.Impact == "moderate" {
				t.Errorf("%s: %v", name, v)
			}
		}
	}
}

// drops are those of the connections shown, from the top.
const drops = `[...document.querySelector("#connection-table").tBodies].filter(b => !b.hidden).map(b => Number(b.rows[0].cells[3].textContent))`

func TestSortingAndFiltering(t *testing.T) {
	events := night(12, 10)
	events = append(events, night(5, 25)...)
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, pageOf(t, events, optionsOf()), 0o644); err != nil {
		t.Fatal(err)
	}
	b := browser.Start(t)
	b.Show(1280, 900, "light")
	b.Open(path)
	header := `[...document.querySelectorAll("#connection-table th")].find(th => th.textContent.startsWith("drops"))`
	for _, want := range []string{"descending", "ascending"} {
		b.Click(header + `.querySelector("button")`)
		var got []int
		var sorted string
		b.Eval(drops, &got)
		b.Eval(header+`.getAttribute("aria-sort")`, &sorted)
		inOrder := slices.Clone(got)
		slices.Sort(inOrder)
		if want == "descending" {
			slices.Reverse(inOrder)
		}
		if sorted != want || len(got) != 12 || got[0] == got[11] || !slices.Equal(got, inOrder) {
			t.Errorf("sorted %q: drops %v", sorted, got)
		}
	}
	b.Click(`document.querySelector("#filter")`)
	b.Type("nginx 5001")
	var owners []string
	var said string
	b.Eval(`[...document.querySelector("#connection-table").tBodies].filter(b => !b.hidden).map(b => b.rows[0].cells[1].textContent)`, &owners)
	b.Eval(`document.querySelector("#filtered").textContent`, &said)
	if len(owners) != 4 || slices.ContainsFunc(owners, func(o string) bool { return !strings.HasPrefix(o, "nginx[") }) || said != "4 of 12 shown" {
		t.Errorf("filtered: %q, %q", owners, said)
	}
	if noted := b.Noted(); len(noted) > 0 {
		t.Error(noted)
	}
}

func TestZoom(t *testing.T) {
	b := browser.Start(t)
	b.Show(1280, 900, "light")
	b.Open(written(t))
	shown := func() (low, high int) {
		t.Helper()
		var range_ [2]int
		b.Eval(`[Number(document.querySelector("#timeline-plot").dataset.low), Number(document.querySelector("#timeline-plot").dataset.high)]`, &range_)
		var box string
		if b.Eval(`document.querySelector("#timeline-plot .lane").getAttribute("viewBox")`, &box); box != fmt.Sprintf("%d 0 %d 100", range_[0], range_[1]-range_[0]) {
			t.Errorf("the plot shows %q of %v", box, range_)
		}
		return range_[0], range_[1]
	}
	button := func(name string) string { return fmt.Sprintf(`document.querySelector('[data-zoom="%s"]')`, name) }
	_, bars := shown()
	for _, step := range []struct {
		do        func()
		low, high float64 // shares
	}{
		{func() { b.Click(button("in")) }, 0.25, 0.75},
		{func() { b.Click(button("left")) }, 0, 0.5},
		{func() { b.Click(button("right")) }, 0.25, 0.75},
		{func() { b.Eval(button("out")+".focus()", nil); b.Type("Enter") }, 0, 1},
		{func() { b.Drag(`document.querySelector("#timeline-plot")`, 0.4, 0.6) }, 0.4, 0.6},
		{func() { b.Click(button("all")) }, 0, 1},
	} {
		step.do()
		low, high := shown()
		if near := func(n int, share float64) bool { d := float64(n) - share*float64(bars); return d > -2.5 && d < 2.5 }; !near(low, step.low) || !near(high, step.high) {
			t.Errorf("%d to %d of %d are shown, want %v to %v", low, high, bars, step.low, step.high)
		}
	}
	var disabled bool
	if b.Eval(button("out")+".disabled", &disabled); !disabled {
		t.Error("zooming out of the whole is possible")
	}
	var read string
	box := b.Box(`document.querySelector("#timeline-plot")`)
	b.Call("Input.dispatchMouseEvent", map[string]any{"type": "mouseMoved", "x": box.X + 0.41*box.Width, "y": box.Y + 50}, nil)
	if b.Eval(`document.querySelector("#readout").textContent`, &read); !regexp.MustCompile(`^2026-11-23 02:0\d:\d\d UTC: packets [0-9,]+, dropped: too_many_slots \d+,`).MatchString(read) {
		t.Errorf("read out: %q", read)
	}
	if noted := b.Noted(); len(noted) > 0 {
		t.Error(noted)
	}
}

// Without a script everything is there but what the script does.
func TestPageWithoutScript(t *testing.T) {
	b := browser.Start(t)
	b.Show(1280, 900, "light")
	b.Call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	b.Open(written(t))
	var document struct {
		Root struct{ NodeID int }
	}
	b.Call("DOM.getDocument", map[string]any{"depth": 0}, &document)
	count := func(selector string) int {
		var found struct{ NodeIDs []int }
		b.Call("DOM.querySelectorAll", map[string]any{"nodeId": document.Root.NodeID, "selector": selector}, &found)
		return len(found.NodeIDs)
	}
	if n := count(".tools:not([hidden])"); n != 0 {
		t.Errorf("%d tools that need a script are shown", n)
	}
	if n, m := count("#connection-table tbody details"), count("#timeline-plot .lane path"); n != 30 || m != 7 {
		t.Errorf("%d connections, %d lanes", n, m)
	}
}

// A page prints on A4, with what is folded.
func TestPageOnPaper(t *testing.T) {
	b := browser.Start(t)
	b.Show(1280, 900, "dark")
	b.Open(written(t))
	path := ""
	if shots := os.Getenv("XENTRACE_REPORT_SAMPLES"); shots != "" {
		path = filepath.Join(shots, "night.pdf")
	}
	pdf := b.PDF(path)
	sheets := len(regexp.MustCompile(`/Type /Page\b`).FindAll(pdf, -1))
	a4 := regexp.MustCompile(`/MediaBox \[0 0 59[456][.0-9]* 84[12][.0-9]*\]`)
	if !bytes.HasPrefix(pdf, []byte("%PDF-")) || !a4.Match(pdf) || sheets < 3 || sheets > 40 {
		t.Errorf("%d sheets, %d bytes, A4 %v", sheets, len(pdf), a4.Match(pdf))
	}
}
