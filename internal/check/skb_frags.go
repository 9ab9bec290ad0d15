package check

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/slots"
)

// skbFrags compares how many pieces this kernel's packets can have with the
// driver's limit.
func (m *Machine) skbFrags() event.Finding {
	f := event.Finding{ID: SkbFrags, Evidence: []event.Fact{{Key: "max_skb_frags", Value: nil}, {Key: "limit", Value: slots.Limit}}}
	frags := m.SharedInfo.Value.MaxFrags
	if m.SharedInfo.Missing == "" {
		f.Evidence[0].Value = frags
	}
	switch {
	case m.SharedInfo.Missing != "":
		f.Status, f.Message = event.Unknown, "How many fragments a packet of this kernel can have is not known: "+m.SharedInfo.Missing+"."
	case frags < slots.Limit:
		f.Message = fmt.Sprintf("A packet of this kernel has at most %d fragments and a head: no more than the %d slots, as long as no piece crosses a page.", frags, slots.Limit)
	case m.Code.linearizes() == netfront.Drops:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("A packet of this kernel can have %d fragments and a head, more than the %d slots even if no piece crosses a page, and this driver drops what is over.", frags, slots.Limit)
	case m.Code.linearizes() == netfront.Linearizes:
		f.Message = fmt.Sprintf("A packet of this kernel can have %d fragments and a head, more than the %d slots even if no piece crosses a page; the driver copies what is over.", frags, slots.Limit)
	default:
		f.Status = event.Unknown
		f.Message = fmt.Sprintf("A packet of this kernel can have %d fragments and a head, more than the %d slots; what the driver does with those is not known.", frags, slots.Limit)
	}
	return f
}
