package output

import (
	"maps"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

// A seen rule is one that explains something that was counted, with how often
// and on which interfaces.
type seen struct {
	rule       verdict.Rule
	colour     colour
	count      uint64
	interfaces []string
}

// seenRules lists what needs explaining, drops first.
func seenRules(totals *event.Totals) []seen {
	var all []seen
	collect := func(rule verdict.Rule, c colour, count func(*event.InterfaceTotals) uint64) {
		s := seen{rule: rule, colour: c}
		for i := range totals.Interfaces {
			if n := count(&totals.Interfaces[i]); n != 0 {
				s.count += n
				s.interfaces = append(s.interfaces, totals.Interfaces[i].Name)
			}
		}
		if s.count != 0 {
			all = append(all, s)
		}
	}
	for _, cause := range event.Causes() {
		collect(verdict.OfCause(cause), verdictColour(event.Dropped),
			func(t *event.InterfaceTotals) uint64 { return t.Causes[cause] })
	}
	for _, reason := range reasonsOf(totals) {
		collect(verdict.OfReason(reason), verdictColour(event.Dropped),
			func(t *event.InterfaceTotals) uint64 { return countOfReason(t, reason) })
	}
	collect(verdict.OfVerdict(event.Rejected), verdictColour(event.Rejected),
		func(t *event.InterfaceTotals) uint64 {
			if t.Rejected == nil {
				return 0
			}
			return *t.Rejected
		})
	collect(verdict.OfVerdict(event.Linearized), verdictColour(event.Linearized),
		func(t *event.InterfaceTotals) uint64 { return t.Linearized })
	collect(verdict.OfVerdict(event.Bounced), verdictColour(event.Bounced),
		func(t *event.InterfaceTotals) uint64 { return t.Bounced })
	collect(verdict.OfVerdict(event.OverLimit), verdictColour(event.OverLimit),
		func(t *event.InterfaceTotals) uint64 {
			if t.Driver == verdict.Netfront {
				return 0 // counted by what the driver did with them
			}
			return t.OverLimit
		})
	return all
}

// appendRules appends a paragraph for each thing that was seen.
func (t *Text) appendRules(b []byte, totals *event.Totals) []byte {
	for _, s := range seenRules(totals) {
		b = append(b, '\n')
		heading := s.rule.Name + " (" + Grouped(s.count) + "): "
		start := len(b)
		b = appendWrapped(b, heading+s.rule.Meaning, 0, t.width())
		if t.Color {
			rest := string(b[start+len(s.rule.Name):])
			b = append(t.appendColoured(b[:start], s.colour, s.rule.Name), rest...)
		}
		for _, a := range s.rule.Advice {
			b = t.appendAdvice(b, a, s.interfaces)
		}
	}
	return b
}

func (t *Text) appendAdvice(b []byte, a event.Advice, interfaces []string) []byte {
	const indent = 4
	if a.Command != "" {
		if !a.OfInterface() {
			interfaces = interfaces[:1]
		}
		for _, name := range interfaces {
			b = t.appendCommand(b, a.For(name), 2)
		}
	}
	return appendWrapped(b, AboutAdvice(a), indent, t.width())
}

// AboutAdvice is what following it does, and what it costs.
func AboutAdvice(a event.Advice) string {
	if a.Cost == "" {
		return a.Effect
	}
	return a.Effect + " Cost: " + strings.ToLower(a.Cost[:1]) + a.Cost[1:]
}

// reasonsOf lists the reasons of all interfaces; "" stands for drops without one.
func reasonsOf(totals *event.Totals) []string {
	all := make(map[string]bool)
	for i := range totals.Interfaces {
		t := &totals.Interfaces[i]
		for reason := range t.Reasons {
			all[reason] = true
		}
		if t.Reasons == nil && t.Elsewhere != 0 {
			all[""] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func countOfReason(t *event.InterfaceTotals, reason string) uint64 {
	if t.Reasons == nil && reason == "" {
		return t.Elsewhere
	}
	return t.Reasons[reason]
}
