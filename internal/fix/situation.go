package fix

import (
	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
)

// A situation is what check found of one interface, as the rules ask for it.
type situation struct {
	iface *check.Interface
	code  netfront.Linearization

	sgOff     bool // by the administrator
	sgMissing bool // not offered by the backend
	tsoOff    bool // by the administrator
	gsoOff    bool // by the administrator

	crossing     bool // small packets cross a page, some of them
	crossingOpen bool // whether they do is not known

	single      bool   // page fragments are single pages, or this plan makes them so
	singleOpen  string // why that is not known
	otherDriver bool
}

func (s *situation) drops() bool      { return s.code == netfront.Drops }
func (s *situation) linearizes() bool { return s.code == netfront.Linearizes }

// canBeSingle tells that the switch is there.
func (s *situation) canBeSingle() bool { return s.singleOpen == "" }

// situations reads the findings, one for each interface that was judged.
func situations(m *check.Machine, findings []event.Finding) []*situation {
	var all []*situation
	for n := range m.Interfaces {
		i := &m.Interfaces[n]
		s := &situation{
			iface: i, code: linearization(findings), otherDriver: !i.IsNetfront(),
			single: m.SinglePages.Value, singleOpen: m.SinglePages.Missing,
		}
		s.crossing, s.crossingOpen = crossing(findings, i)
		if i.Features.Missing == "" {
			s.readFeatures(i.Features.Value)
		}
		all = append(all, s)
	}
	return all
}

func (s *situation) readFeatures(f netdev.Features) {
	off := func(f netdev.Feature) bool { return !f.Active && !f.Requested }
	s.sgOff, s.sgMissing = off(f.ScatterGather), !f.ScatterGather.Active && f.ScatterGather.Requested
	s.tsoOff, s.gsoOff = off(f.TSO), off(f.GSO)
}

// has tells which features can be changed, of those that check reads.
func (s *situation) has() map[string]bool {
	f := s.iface.Features.Value
	return map[string]bool{
		"tx-scatter-gather": f.ScatterGather.Changeable, "tx-tcp-segmentation": f.TSO.Changeable,
		"tx-tcp6-segmentation": f.TSO6.Changeable, "tx-generic-segmentation": f.GSO.Changeable,
	}
}

// linearization is what the finding about the driver's code says.
func linearization(findings []event.Finding) netfront.Linearization {
	for n := range findings {
		if findings[n].ID != check.LinearizeCode {
			continue
		}
		switch findings[n].Status {
		case event.OK:
			return netfront.Linearizes
		case event.Fail:
			return netfront.Drops
		}
	}
	return netfront.Unknown
}

// crossing is the evidence about small packets.
func crossing(findings []event.Finding, i *check.Interface) (some, open bool) {
	for n := range findings {
		f := &findings[n]
		if f.ID != check.ScatterGather || f.Interface != i.Name || f.NetNS != i.Namespace {
			continue
		}
		count, is := f.Fact("small_heads_crossing").(int)
		return count > 0, !is
	}
	return false, true
}
