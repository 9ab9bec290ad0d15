package event

import "slices"

// Advice is one thing to do.
type Advice struct {
	ID      string // of the remedy
	Command string // complete, for a root shell; empty where no command does it
	Effect  string // a sentence
	Cost    string // a sentence; empty where it costs nothing
}

// AppendAdvice appends advice that is not there yet: the same remedy with the same command.
func AppendAdvice(all []Advice, more ...Advice) []Advice {
	for _, a := range more {
		if !slices.ContainsFunc(all, func(b Advice) bool { return a.ID == b.ID && a.Command == b.Command }) {
			all = append(all, a)
		}
	}
	return all
}

// An Explanation says what something that was counted means, and what helps.
type Explanation struct {
	Name    string  // of the cause, drop reason or verdict
	Verdict Verdict // of the packets
	Meaning string  // a sentence
	Count   uint64
	Advice  []Advice
}
