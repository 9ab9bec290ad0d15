package output

import "xentrace/internal/event"

// FlowSentence describes a flow and its state in one line.
func FlowSentence(f *event.FlowHistory) string {
	return flowName(f) + " " + f.State.String() + ": " + flowWords(f)
}
