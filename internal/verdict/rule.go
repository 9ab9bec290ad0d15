// Package verdict says in sentences what happened to a packet, why, and what to
// do about it. The rules are data; nothing here looks at the machine.
package verdict

import (
	"xentrace/internal/event"
)

// A Rule explains one verdict or one cause of a drop.
type Rule struct {
	Name    string // as in the JSON output
	Meaning string // one sentence: what the driver did, and why
	Advice  []event.Advice
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
