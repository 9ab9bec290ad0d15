package output

import "xentrace/internal/event"

// FlowSentence names a flow and says how it stands, in one line.
func FlowSentence(f *event.FlowHistory) string {
	return flowName(f) + " " + f.State.String() + ": " + flowWords(f)
}
