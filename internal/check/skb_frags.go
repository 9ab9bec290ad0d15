package check

import (
	"fmt"

	"xentrace/internal/kernel"
	"xentrace/internal/slots"
)

// skbFrags compares how many pieces this kernel's packets can have with the
// driver's limit.
func (m *Machine) skbFrags() Finding {
	f := Finding{ID: SkbFrags, Evidence: []Fact{{"max_skb_frags", nil}, {"limit", slots.Limit}}}
	frags := m.SharedInfo.Value.MaxFrags
	if m.SharedInfo.Missing == "" {
		f.Evidence[0].Value = frags
	}
	switch {
	case m.SharedInfo.Missing != "":
		f.Status, f.Message = Unknown, "How many fragments a packet of this kernel can have is not known: "+m.SharedInfo.Missing+"."
	case frags < slots.Limit:
		f.Message = fmt.Sprintf("A packet of this kernel has at most %d fragments and a head: no more than the %d slots, as long as no piece crosses a page.", frags, slots.Limit)
	case m.Code.linearizes() == kernel.Drops:
		f.Status = Warn
		f.Message = fmt.Sprintf("A packet of this kernel can have %d fragments and a head, more than the %d slots even if no piece crosses a page, and this driver drops what is over.", frags, slots.Limit)
	case m.Code.linearizes() == kernel.Linearizes:
		f.Message = fmt.Sprintf("A packet of this kernel can have %d fragments and a head, more than the %d slots even if no piece crosses a page; the driver copies what is over.", frags, slots.Limit)
	default:
		f.Status = Unknown
		f.Message = fmt.Sprintf("A packet of this kernel can have %d fragments and a head, more than the %d slots; what the driver does with those is not known.", frags, slots.Limit)
	}
	return f
}
