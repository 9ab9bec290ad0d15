package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"xentrace/internal/event"
)

// A rate differs if the 95 % interval of the ratio excludes 1 and the counts are more than
// 5 events from what one rate predicts.
func TestNoise(t *testing.T) {
	for _, test := range []struct {
		name      string
		a, b      uint64
		inA, inB  float64
		differs   bool
		low, high float64 // of the ratio, to 1 %
	}{
		{"nothing", 0, 0, 1e6, 1e6, false, math.NaN(), math.NaN()},
		{"equal", 100, 100, 1e6, 1e6, false, 0.759, 1.318},
		{"chance", 100, 120, 1e6, 1e6, false, 0.922, 1.562},
		{"more", 100, 150, 1e6, 1e6, true, 1.166, 1.929},
		{"gone", 40, 0, 1e6, 1e6, true, 0, 0.096},
		{"new", 0, 40, 1e6, 1e6, true, 10.41, math.Inf(1)},
		{"few", 0, 8, 1e6, 1e6, false, 2.083, math.Inf(1)},
		{"same rate in ten times the traffic", 50, 500, 1e6, 1e7, false, 0.751, 1.332},
		{"same count in ten times the traffic", 50, 50, 1e6, 1e7, true, 0.0676, 0.1479},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := testRates(count(test.a, test.inA, 1), count(test.b, test.inB, 1))
			near := func(x, y float64) bool {
				return x == y || math.IsNaN(x) && math.IsNaN(y) || math.Abs(x-y) < 0.01*y
			}
			if got.Differs != test.differs || !near(got.Low, test.low) || !near(got.High, test.high) {
				t.Errorf("%+v, want differs %v, %v to %v", got, test.differs, test.low, test.high)
			}
		})
	}
	if got := testRates(Count{Events: 3}, count(3, 1, 1)); got.Differs || !math.IsNaN(got.Ratio) {
		t.Errorf("without exposure: %+v", got)
	}
}

func row(t *testing.T, rows []Row, key string) Row {
	t.Helper()
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Key == key })
	if i < 0 {
		t.Fatalf("no row %s", key)
	}
	return rows[i]
}

// afterFix is the night of a machine that linearizes.
func afterFix() []event.Event {
	all := night(0, 0)
	start := all[0].(*event.Start)
	start.Kernel, start.Interfaces[0].Linearizes = "6.1.0-18-amd64", addressOf(true)
	start.Interfaces[0].Features["tx-gso-robust"] = true
	start.Check[0].Status = event.OK
	return all
}

func TestBeforeAndAfterAFix(t *testing.T) {
	c := Compare(collected(t, night(30, 40)), collected(t, afterFix()), "before.jsonl", "after.jsonl")
	if r := row(t, c.Rows, "dropped_too_many_slots"); !r.Differs || r.A.Events != 1200 || r.B.Events != 0 || math.Abs(r.A.Rate-45.96) > 0.01 {
		t.Errorf("drops %+v", r)
	}
	if r := row(t, c.Rows, "packets"); r.Differs || r.Unit != "per second" || math.Abs(r.Ratio-1) > 0.001 {
		t.Errorf("packets %+v", r)
	}
	if r := row(t, c.Rows, "stalls"); !r.Differs || r.A.Rate != 3 || r.B.Rate != 0 {
		t.Errorf("stalls %+v", r)
	}
	if r := row(t, c.Rows, "linearized"); r.Differs || r.A.Events != 300 {
		t.Errorf("linearized %+v", r)
	}
	if r := row(t, c.Slots, "2"); r.Differs {
		t.Errorf("2 slots %+v", r)
	}
	if r := row(t, c.Slots, "over_limit"); !r.Differs || r.A.Events != 1200 {
		t.Errorf("over the limit %+v", r)
	}
	want := []Fact{{"kernel", "3.16.0-4-amd64", "6.1.0-18-amd64"}, {"eth0 linearizes", "no", "yes"}, {"eth0 tx-gso-robust", "off", "on"}}
	if !slices.Equal(c.Facts, want) {
		t.Errorf("facts %+v, want %+v", c.Facts, want)
	}
	if want := []Fact{{"linearize eth0", "FAIL", "OK"}}; !slices.Equal(c.Checks, want) {
		t.Errorf("checks %+v", c.Checks)
	}
	text := string(c.AppendText(nil))
	for _, part := range []string{
		"A  before.jsonl: web-7, from 2026-11-22 22:00:00 UTC, 10h 0m 0s counted, 26,110,182 packets\n",
		"dropped: too_many_slots, per million packets              46           0    gone  0 to 0.0032   *\n",
		"stalls, per hour                                           3           0    gone  0 to 0.128    *\n", "kernel                             3.16.0-4-amd64 -> 6.1.0-18-amd64\n",
		"linearize eth0                     FAIL -> OK\n", "rates differ by more than noise.\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 101 || strings.HasSuffix(line, " \n") {
			t.Errorf("line %q", line)
		}
	}
}

func TestComparisonInJSON(t *testing.T) {
	line := Compare(collected(t, night(30, 40)), collected(t, nil), "a", "b").AppendJSON(nil)
	var got struct {
		Type  string
		A, B  struct{ Packets uint64 }
		Rates []struct {
			Key   string
			A, B  struct{ Rate *float64 }
			Ratio *float64
		}
	}
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "comparison" || got.A.Packets != 26_110_182 || got.B.Packets != 0 || got.Rates[0].A.Rate == nil || got.Rates[0].B.Rate != nil || got.Rates[0].Ratio != nil {
		t.Errorf("%s", line)
	}
}

// What recordings, and their paths, are named by others stays in its line, and moves nothing.
func TestComparisonOfHostileRecordings(t *testing.T) {
	const forged = "e\x1b[31m\u009b2J\r\n<3>forged\u202e\x00"
	side := func(on bool, status event.Status) *Collector {
		s := startOf(midnight)
		s.Hostname, s.Interfaces[0].Name, s.Interfaces[0].Features = forged, forged, map[string]bool{forged: on}
		s.Check[0].ID, s.Check[0].Interface, s.Check[0].Status = forged, forged, status
		return collected(t, []event.Event{s, intervalOf(midnight.Add(10*time.Second), 100, 1)})
	}
	c := Compare(side(true, event.OK), side(false, event.Fail), forged, forged)
	if len(c.Facts) != 1 || len(c.Checks) != 1 {
		t.Fatalf("%d facts and %d findings differ, want 1 each", len(c.Facts), len(c.Checks))
	}
	page, err := c.Page(optionsOf())
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]string{"text": string(c.AppendText(nil)), "JSON": string(c.AppendJSON(nil)), "page": string(page.html)} {
		at := strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' })
		if at >= 0 || strings.Contains(shown, "\n<3>") || strings.Contains(shown, "<3>") && name == "page" {
			t.Errorf("%s: %q at %d", name, shown[max(at-60, 0):max(at+10, 0)], at)
		}
	}
}

// However many files there are, and facts that differ, a page is bounded.
func TestSizeOfAStrangeComparison(t *testing.T) {
	side := func(mtu int) *Collector {
		s := startOf(midnight)
		n := s.Interfaces[0]
		for i := range 1000 {
			n.Name, n.MTU = fmt.Sprint("eth", i+1), mtu
			s.Interfaces = append(s.Interfaces, n)
		}
		return collected(t, []event.Event{s})
	}
	o := optionsOf()
	o.Files = slices.Repeat(o.Files, 5000)
	page, err := Compare(side(1500), side(9000), "a", "b").Page(o)
	if err != nil {
		t.Fatal(err)
	}
	text := parsed(t, page.html).text()
	if len(page.html) > mostBytes || !strings.Contains(text, "4,900 more files not shown.") || !strings.Contains(text, "900 more facts not shown.") {
		t.Errorf("%d bytes", len(page.html))
	}
}

func TestPageOfAComparison(t *testing.T) {
	for name, test := range map[string]struct {
		a, b []event.Event
		want string
	}{
		"better": {night(30, 40), afterFix(), "BETTER B loses fewer packets than A"},
		"worse":  {afterFix(), night(30, 40), "WORSE B loses more packets than A"},
		"same":   {night(30, 40), night(30, 40), "SAME Losses and stalls do not differ by more than noise Nothing differs by more than noise."},
		"empty":  {night(30, 40), nil, "EMPTY Nothing to compare two: no packet was counted."},
	} {
		page, err := Compare(collected(t, test.a), collected(t, test.b), "one", "two").Page(optionsOf())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := page.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if directory := os.Getenv("XENTRACE_REPORT_SAMPLES"); directory != "" {
			if err := os.WriteFile(filepath.Join(directory, "compare-"+name+".html"), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if text := strings.Join(strings.Fields(parsed(t, b.Bytes()).text()), " "); !strings.Contains(text, test.want) {
			t.Errorf("%s: no %q in %.300s", name, test.want, text)
		}
		if b.Len() > mostBytes {
			t.Errorf("%s: %d bytes", name, b.Len())
		}
	}
}
