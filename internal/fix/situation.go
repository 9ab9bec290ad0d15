package fix

import (
	"xentrace/internal/check"
	"xentrace/internal/remedy"
)

// A situation is the facts about one interface, as the rules ask for them.
type situation struct {
	remedy.Facts
	iface *check.Interface

	switchElsewhere bool // net.core is not shown in this network namespace
	otherDriver     bool
}

func (s *situation) drops() bool      { return s.Linearizes == remedy.Off }
func (s *situation) linearizes() bool { return s.Linearizes == remedy.On }
func (s *situation) single() bool     { return s.SinglePages == remedy.On }
func (s *situation) sgOff() bool      { return s.SG == remedy.Off }

// applies reports whether the remedy would change something here.
func (s *situation) applies(id remedy.ID) bool { return remedy.Of(id).Applies(&s.Facts) }

// canBeSingle reports that the switch is there.
func (s *situation) canBeSingle() bool { return s.single() || s.SinglePages == remedy.Off }

// situations are one for each interface that is checked.
func situations(m *check.Machine) []*situation {
	var all []*situation
	for n := range m.Interfaces {
		i := &m.Interfaces[n]
		all = append(all, &situation{
			Facts: m.FactsOf(i), iface: i, otherDriver: !i.IsNetfront(), switchElsewhere: m.SinglePages.Missing == check.SwitchElsewhere,
		})
	}
	return all
}

// has reports which features can be changed, of those that check reads.
func (s *situation) has() map[string]bool {
	f := s.iface.Features.Value
	return map[string]bool{
		"tx-scatter-gather": f.ScatterGather.Changeable, "tx-tcp-segmentation": f.TSO.Changeable,
		"tx-tcp6-segmentation": f.TSO6.Changeable, "tx-generic-segmentation": f.GSO.Changeable,
	}
}
