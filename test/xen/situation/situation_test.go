package situation

import (
	"reflect"
	"strings"
	"testing"
)

// What is written among other output is read again.
func TestParse(t *testing.T) {
	want := Situation{Release: "6.12.1", Driver: "prefix", VCPUs: 2, What: "a, b", MTU: 9001, ScatterGather: true,
		SGMTU: Answer{"SUCCESS", false}, Rocket: Answer{"SUCCESS", false}, Ours: "FAIL linearize",
		OverLimit: Traffic{20, 20}, Small: Traffic{480, 0}, Defect: Traffic{20, 20}}
	var output strings.Builder
	output.WriteString("=== RUN   TestX\nsituation that is none\n    x_test.go:1: some")
	if err := want.Write(&output); err != nil {
		t.Fatal(err)
	}
	output.WriteString("--- PASS: TestX (1.0s)\n")
	got, err := Parse(output.String())
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("%+v, error %v; want %+v", got, err, want)
	}
	if _, err := Parse("situation {\n"); err == nil {
		t.Error("half a line is read")
	}
}

// A verdict is right if it warns where packets are lost, and only there.
func TestIsRight(t *testing.T) {
	some, none := Traffic{20, 20}, Traffic{20, 0}
	for name, test := range map[string]struct {
		s             Situation
		sgmtu, rocket bool
	}{
		"nothing lost, nothing said":        {Situation{SGMTU: Answer{Verdict: "SUCCESS"}, Rocket: Answer{Verdict: "SUCCESS"}, OverLimit: none, Small: none, Defect: none}, true, true},
		"nothing lost, both warn":           {Situation{SGMTU: Answer{Verdict: "WARN"}, Rocket: Answer{Verdict: "FAILURE"}, OverLimit: none, Small: none, Defect: none}, false, false},
		"over the limit lost, nothing said": {Situation{SGMTU: Answer{Verdict: "SUCCESS"}, Rocket: Answer{Verdict: "SUCCESS"}, OverLimit: some, Small: none, Defect: some}, false, false},
		"small ones lost, warned of":        {Situation{SGMTU: Answer{Verdict: "WARN"}, Rocket: Answer{Verdict: "SUCCESS"}, OverLimit: none, Small: some, Defect: none}, true, true},
	} {
		if test.s.SGMTUIsRight() != test.sgmtu || test.s.RocketIsRight() != test.rocket {
			t.Errorf("%s: %v and %v, want %v and %v", name, test.s.SGMTUIsRight(), test.s.RocketIsRight(), test.sgmtu, test.rocket)
		}
	}
}
