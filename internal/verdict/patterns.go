package verdict

import "xentrace/internal/slots"

// A pattern is one reason why packets need too many slots.
type pattern struct {
	requires func(*shape) bool
	says     string // what makes such packets, after a colon; "" if the numbers do not show it
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
