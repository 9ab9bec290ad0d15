package congestion

import (
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/test/memory"
)

func TestFiguresThatNoRunMeasured(t *testing.T) {
	for _, figure := range []string{"-1", "-1e-320", "1e16", "1e308", "1e999", `"x"`, "true", "[]", "{}", "nan", "Infinity"} {
		line := `{"type":"congestion","ifname":"eth0","packets_per_second":` + figure + `}`
		if _, err := ReadBaseline(strings.NewReader(line)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: error %v, want one about line 1", figure, err)
		}
	}
}

// report is one of that interface, with everything measured.
func report(name string) *event.CongestionReport {
	second, one := time.Second, uint64(1)
	r := &event.CongestionReport{
		Name: name, Duration: time.Second, Total: event.CongestionQueue{Packets: 1e12, Full: &second, MeanLatency: &second},
		Queues: []event.CongestionQueue{{Full: &second}}, CPU: &event.CPULoad{}, TCP: &event.Accepts{Accepts: &one, Overflows: &one},
	}
	return r
}

// lines repeats a text so often.
func repeated(text string, times int) io.Reader {
	readers := make([]io.Reader, times)
	for n := range readers {
		readers[n] = strings.NewReader(text)
	}
	return io.MultiReader(readers...)
}

func TestBaselineIsReadWithinLimits(t *testing.T) {
	var interfaces strings.Builder
	for n := range maxBaselines + 1 {
		fmt.Fprintf(&interfaces, `{"type":"congestion","ifname":"eth%d"}`+"\n", n)
	}
	long := strings.Repeat("x", 1<<19)
	for name, test := range map[string]struct {
		from io.Reader
		want string
	}{
		"a line without end":  {repeated(long, 100), "line of over 1048576 bytes"},
		"too many interfaces": {strings.NewReader(interfaces.String()), "over 4096 interfaces"},
		"long names":          {repeated(`{"type":"congestion","ifname":"`+long+`"}`+"\n", 100), "no line of type congestion"},
	} {
		t.Run(name, func(t *testing.T) {
			memory.Within(t, 192<<20, func() {
				if _, err := ReadBaseline(test.from); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q", err, test.want)
				}
			})
		})
	}
}

func FuzzBaseline(f *testing.F) {
	f.Add(`{"type":"congestion","ifname":"eth0","packets_per_second":100,"full_share":null,"tcp":{"accepts_per_second":50},"cpu":{"steal_share":5e-324}}`)
	f.Add(`{"type":"congestion","ifname":"eth0","packets_per_second":-1e-320}`)
	f.Add(`{"type":"congestion","ifname":"eth0","packets_per_second":1e999}`)
	f.Add(strings.Repeat("[", 10_000))
	f.Add("{}\n{}\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		memory.Within(t, 4<<20+128*uint64(len(text)), func() {
			baseline, err := ReadBaseline(strings.NewReader(text))
			if err != nil {
				return
			}
			for name := range baseline {
				for _, change := range baseline.Changes(report(name)) {
					if b := change.Before; b != nil && (math.IsNaN(*b) || *b < 0 || *b > maxFigure) {
						t.Errorf("%s was %v", change.Key, *b)
					}
				}
			}
		})
	})
}
