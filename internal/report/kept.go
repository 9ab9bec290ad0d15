package report

import (
	"slices"
	"strings"

	"xentrace/internal/event"
)

// Bounds of what is kept of one event. A page shows less of each; a recording may hold more.
const (
	keptInterfaces = 1024 // of a start
	keptFeatures   = 64   // of an interface
	keptFrames     = 64
	keptBytes      = 16 << 10 // of the frames of a stack, and of a command line
	keptEvidence   = 64
	keptAdvice     = 16
	keptSentence   = 1 << 10 // bytes
	keptName       = 256     // bytes
	keptMissing    = 64
)

// kept is a text of at most n bytes, in memory of its own.
func kept(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:n]), "")
}

// keptTexts are the first ones, at most n, of keptBytes together.
func keptTexts(all []string, n int) []string {
	size := 0
	for i, text := range all {
		if size += len(text); i == n || size > keptBytes {
			return slices.Clone(all[:i])
		}
	}
	return all
}

func keptProcess(p *event.Process) *event.Process {
	made := *p
	made.Comm, made.Unit, made.Container = kept(p.Comm, keptName), kept(p.Unit, keptName), kept(p.Container, keptName)
	return &made
}

func keptRemedies(all []event.Advice) []event.Advice {
	made := slices.Clone(all[:min(len(all), keptAdvice)])
	for i := range made {
		a := &made[i]
		a.ID, a.Command, a.Effect, a.Cost = kept(a.ID, keptName), kept(a.Command, keptSentence), kept(a.Effect, keptSentence), kept(a.Cost, keptSentence)
	}
	return made
}

func keptFinding(f event.Finding) event.Finding {
	f.Message, f.Advice = kept(f.Message, 4*keptSentence), keptRemedies(f.Advice)
	f.Evidence = slices.Clone(f.Evidence[:min(len(f.Evidence), keptEvidence)])
	for i := range f.Evidence {
		if text, is := f.Evidence[i].Value.(string); is {
			f.Evidence[i].Value = kept(text, keptSentence)
		}
	}
	return f
}

// keptStart leaves out the findings, which are kept apart.
func keptStart(s event.Start) event.Start {
	s.Check = nil
	s.Command = keptTexts(s.Command, keptFrames)
	s.Interfaces = slices.Clone(s.Interfaces[:min(len(s.Interfaces), keptInterfaces)])
	for i := range s.Interfaces {
		n := &s.Interfaces[i]
		n.Name, n.Driver = kept(n.Name, keptName), kept(n.Driver, keptName)
		if len(n.Features) > keptFeatures {
			n.Features = nil
		}
	}
	return s
}
