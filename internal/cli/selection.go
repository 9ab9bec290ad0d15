package cli

import (
	"xentrace/internal/event"
	"xentrace/internal/filter"
)

// A selection hands on what passes the filter, and counts. Counting in the kernel and the
// history of flows are not its business: they take in every packet.
type selection struct {
	sink
	filter *filter.Filter

	packets int    // that passed
	dropped bool   // one of them was dropped
	leftOut uint64 // packets and changes of flows that did not pass
}

func (s *selection) packet(p *event.Packet) error {
	if !s.filter.Match(p) {
		s.leftOut++
		return nil
	}
	s.packets++
	s.dropped = s.dropped || p.Verdict == event.Dropped
	return s.sink.packet(p)
}

// event judges a flow by the last of its packets that went wrong.
func (s *selection) event(e *event.FlowEvent) error {
	if !s.filter.MatchOf(&e.Flow.Packet, e.Flow.Process) {
		s.leftOut++
		return nil
	}
	return s.sink.event(e)
}
