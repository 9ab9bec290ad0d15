package check

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/slots"
)

// skbFrags compares MAX_SKB_FRAGS with the slot limit.
func (m *Machine) skbFrags() event.Finding {
	f := event.Finding{ID: SkbFrags, Evidence: []event.Fact{{Key: "max_skb_frags", Value: nil}, {Key: "limit", Value: slots.Limit}}}
	frags := m.SharedInfo.Value.MaxFrags
	if m.SharedInfo.Missing == "" {
		f.Evidence[0].Value = frags
	}
	switch {
	case m.SharedInfo.Missing != "":
		f.Status, f.Message = event.Unknown, "MAX_SKB_FRAGS of this kernel is unknown: "+m.SharedInfo.Missing+"."
	case frags < slots.Limit:
		f.Message = fmt.Sprintf("Packets have at most %d fragments and a head: within the %d slots unless fragments straddle pages.", frags, slots.Limit)
	case m.Code.linearizes() == netfront.Drops:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("Packets can have %d fragments and a head: over the %d slots even if none straddles a page, and this driver drops those.", frags, slots.Limit)
	case m.Code.linearizes() == netfront.Linearizes:
		f.Message = fmt.Sprintf("Packets can have %d fragments and a head: over the %d slots even if none straddles a page. The driver linearizes those.", frags, slots.Limit)
	default:
		f.Status = event.Unknown
		f.Message = fmt.Sprintf("Packets can have %d fragments and a head: over the %d slots. What the driver does with those is unknown.", frags, slots.Limit)
	}
	return f
}
