// Package verdict says in sentences what happened to a packet, why, and what to
// do about it. The rules are data; nothing here looks at the machine.
package verdict

import (
	"strings"

	"xentrace/internal/event"
)

// A Rule explains one verdict or one cause of a drop.
type Rule struct {
	Name    string // as in the JSON output
	Meaning string // one sentence: what the driver did, and why
	Advice  []Advice
}

// Advice is one thing to do.
type Advice struct {
	Command string // for a root shell; {ifname} stands for the interface. Empty where no command does it.
	Effect  string // what it brings, a sentence
	Cost    string // what it costs, a sentence; empty where it costs nothing
}

// For returns the command for one interface, quoted for a shell where the
// name needs it. Interface names may hold any byte but space, slash and colon.
func (a Advice) For(ifname string) string {
	return strings.ReplaceAll(a.Command, "{ifname}", Quote(ifname))
}

// OfInterface tells whether the command differs from interface to interface.
func (a Advice) OfInterface() bool {
	return strings.Contains(a.Command, "{ifname}")
}

// OfCause returns the rule for a drop with this cause.
func OfCause(c event.Cause) Rule {
	if rule, ok := causeRules[c]; ok {
		rule.Name = c.String()
		return rule
	}
	rule := causeRules[event.UnknownCause]
	rule.Name = event.UnknownCause.String()
	return rule
}

// OfPacket returns the rule for a packet that was dropped, by the driver or elsewhere.
func OfPacket(p *event.Packet) Rule {
	if p.Layer == event.LayerElsewhere {
		return OfReason(p.Reason)
	}
	return OfCause(p.Cause)
}

// OfVerdict returns the rule for a verdict. It is empty but for the name for
// those that need no explaining, and for Dropped, which OfCause explains.
func OfVerdict(v event.Verdict) Rule {
	rule := verdictRules[v]
	rule.Name = v.String()
	return rule
}

// Quote makes one word for a shell of a name that may hold anything.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			r == '.' || r == '_' || r == '-' || r == '@' || r == '/'
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
