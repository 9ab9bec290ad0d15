package verdict

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// A Layout summarizes the layout of those packets of one flow that went wrong because
// of it: over the slot limit, over 1 slot while scatter-gather is off, or bounced. The
// zero value is empty. Its memory is bounded, however many packets are added.
type Layout struct {
	packets int
	tallies []tally // one per pattern seen
}

type tally struct {
	pattern *pattern
	packets int

	frags, sizes, straddling, slots, heads span
	gsoSize, gsoSegs                       span
	beforeEnd                              span // of a page: where the head begins
	forwarded                              int
}

// Add adds one packet, if it went wrong because of its layout.
func (l *Layout) Add(p *event.Packet) {
	s := shapeOf(p)
	if !s.overLimit && !s.gatherOff && !s.bounced {
		return
	}
	l.packets++
	t := l.tally(s.pattern())
	t.packets++
	t.frags.add(len(p.Frags))
	for _, frag := range p.Frags {
		t.sizes.add(int(frag.Size))
	}
	t.straddling.add(s.straddling)
	t.slots.add(p.Slots)
	t.heads.add(p.HeadLen)
	t.beforeEnd.add(slots.PageSize - p.HeadOffset%slots.PageSize)
	t.gsoSize.add(p.GSOSize)
	t.gsoSegs.add(p.GSOSegs)
	if s.forwarded {
		t.forwarded++
	}
}

func (l *Layout) tally(of *pattern) *tally {
	for i := range l.tallies {
		if l.tallies[i].pattern == of {
			return &l.tallies[i]
		}
	}
	l.tallies = append(l.tallies, tally{pattern: of})
	return &l.tallies[len(l.tallies)-1]
}

// Sentence describes the most frequent layout and, where the numbers show it, what
// makes such packets; "" if there was none.
func (l *Layout) Sentence() string {
	var most *tally
	for i := range l.tallies {
		if most == nil || l.tallies[i].packets > most.packets {
			most = &l.tallies[i]
		}
	}
	if most == nil {
		return ""
	}
	sentence := most.sentence()
	if most.packets < l.packets {
		sentence = fmt.Sprintf("%d of %d packets: %s", most.packets, l.packets, sentence)
	}
	return sentence
}

type shape struct {
	overLimit bool
	gatherOff bool // dropped since scatter-gather is off
	bounced   bool // copied, or dropped for want of a copy, since the head begins too near the end of a page
	forwarded bool // no socket of this machine sent it

	frags      int
	straddling int  // fragments that touch one page more than their length needs
	apart      int  // fragments that do not start where the previous one ends, in a block
	largest    int  // bytes of a fragment
	farthest   int  // where the last byte of a fragment is in its compound page
	headSlots  int  // of the linear part
	segmented  bool // a packet that is to be segmented
}

// block is what the kernel copies data into: 32 KiB that are cut up front to back
// (SKB_FRAG_PAGE_ORDER, on every kernel since 3.7), or one page where pages are larger.
const block = 32 << 10

// largestBlock is the block of a kernel with pages of 64 KiB. No copied data lies
// farther in its compound page than that.
const largestBlock = 64 << 10

// bounceBelow is how far before the end of a page a head may begin: ETH_HLEN.
const bounceBelow = 14

func shapeOf(p *event.Packet) shape {
	s := shape{
		frags:     len(p.Frags),
		forwarded: p.Socket == nil && p.TCP == nil,
		headSlots: int(slots.Of(uint32(p.HeadOffset), uint32(p.HeadLen))),
		segmented: p.GSOSize > 0,
	}
	if p.Layer == event.LayerDriver {
		s.overLimit = p.Slots > p.Limit
		s.gatherOff = p.Verdict == event.Dropped && p.Cause == event.SGOff
		s.bounced = (p.Verdict == event.Bounced || p.Cause == event.BounceFailed) &&
			slots.PageSize-p.HeadOffset%slots.PageSize < bounceBelow
	}
	for i, frag := range p.Frags {
		end := uint64(frag.Offset) + uint64(frag.Size)
		if slots.Of(frag.Offset, frag.Size) > max(1, slots.Of(0, frag.Size)) {
			s.straddling++
		}
		s.largest = max(s.largest, int(frag.Size))
		s.farthest = max(s.farthest, int(end))
		if i > 0 {
			before := uint64(p.Frags[i-1].Offset) + uint64(p.Frags[i-1].Size)
			if before%block != uint64(frag.Offset)%block {
				s.apart++
			}
		}
	}
	return s
}

// pattern returns the first one that matches.
func (s *shape) pattern() *pattern {
	for i := range patterns {
		if patterns[i].requires(s) {
			return &patterns[i]
		}
	}
	return nil
}

// A pattern is one reason why packets need more slots than the limit.
type pattern struct {
	requires func(*shape) bool
	cause    string // what makes such packets, after a colon; "" if the numbers do not show it
}

// usualFrags is MAX_SKB_FRAGS of kernels that are not configured for more.
const usualFrags = 17

// patterns are tried in this order; the last one always matches. Each claims only what
// its condition shows.
var patterns = []pattern{
	{
		func(s *shape) bool { return !s.overLimit && s.bounced },
		"the Ethernet header straddles a page boundary, so the driver copies the packet",
	},
	{
		func(s *shape) bool { return !s.overLimit && s.gatherOff && s.frags == 0 && s.headSlots == 2 },
		"the linear part straddles a page boundary, and without scatter-gather the driver accepts 1 slot",
	},
	{
		func(s *shape) bool { return !s.overLimit && s.gatherOff && s.frags > 0 },
		"fragments on an interface without scatter-gather: it was just turned off, or the sender bypasses the qdisc",
	},
	{
		func(s *shape) bool { return s.straddling > 0 && s.farthest > largestBlock && !s.forwarded },
		"huge pages sent without a copy, as with MSG_ZEROCOPY",
	},
	{
		func(s *shape) bool { return s.straddling > 0 && s.farthest > largestBlock },
		"parts of pages over 64 KiB, passed on without a copy",
	},
	{
		func(s *shape) bool { return s.straddling == 0 && s.frags > usualFrags },
		"over 17 fragments, which needs a kernel with a larger CONFIG_MAX_SKB_FRAGS",
	},
	{
		func(s *shape) bool {
			return s.straddling == 0 && s.headSlots > 1 && s.largest <= slots.PageSize && s.forwarded && s.segmented
		},
		"merged on receive (GRO) and forwarded; the linear part straddles a page boundary, which takes the packet over the limit",
	},
	{
		func(s *shape) bool { return s.straddling == 0 && s.headSlots > 1 && s.largest <= slots.PageSize },
		"at most 1 page each, as sent by sendfile and splice; the linear part straddles a page boundary, which takes the packet over the limit",
	},
	{
		func(s *shape) bool { return s.scattered() && s.largest < slots.PageSize },
		"many small writes interleaved with another connection of the same thread",
	},
	{
		func(s *shape) bool { return s.scattered() },
		"large writes that do not start at a page boundary, interleaved with another connection of the same thread",
	},
	{func(*shape) bool { return true }, ""},
}

// scattered reports whether fragments straddle page boundaries and most of them do not
// follow each other in memory, as those of a single connection would.
func (s *shape) scattered() bool {
	return s.straddling > 0 && s.frags > 1 && 2*s.apart >= s.frags-1
}
