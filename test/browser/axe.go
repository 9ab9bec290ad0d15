package browser

import (
	"fmt"
	"os"

	"xentrace/test/need"
)

// A Violation is a rule of axe-core that a page breaks.
type Violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string
		FailureSummary string
	}
}

func (v Violation) String() string {
	text := fmt.Sprintf("%s (%s): %s, %d times", v.ID, v.Impact, v.Help, len(v.Nodes))
	if len(v.Nodes) > 0 {
		text += fmt.Sprintf(", e.g. %.300s: %.300s", v.Nodes[0].HTML, v.Nodes[0].FailureSummary)
	}
	return text
}

// Violations returns the rules of axe-core that the page breaks; axe is the path of
// axe.min.js, which .ci/browser fetches.
func (b *Browser) Violations(axe string) (found []Violation) {
	b.t.Helper()
	need.File(b.t, axe)
	script, err := os.ReadFile(axe)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Eval(string(script)+"; null", nil)
	b.Eval(`axe.run(document, { resultTypes: ["violations"] }).then(r => r.violations.map(v => (
		{ ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.map(n => ({ HTML: n.html, FailureSummary: n.failureSummary })) })))`, &found)
	return found
}
