package verdict

import "xentrace/internal/slots"

// A pattern is one way in which packets come by more slots than they should have.
type pattern struct {
	requires func(*shape) bool
	says     string // what makes such packets, after a colon; "" where the numbers do not tell
}

// usualFrags is MAX_SKB_FRAGS of kernels that are not configured for more.
const usualFrags = 17

// patterns stand in the order in which they are tried; the last is always met. Each
// claims no more than what it requires shows.
var patterns = []pattern{
	{
		func(s *shape) bool { return !s.overLimit && s.bounced },
		"too little of the Ethernet header is in the first page, so the driver copies the packet",
	},
	{
		func(s *shape) bool { return !s.overLimit && s.gatherOff && s.frags == 0 && s.headSlots == 2 },
		"the memory that the kernel gave for the head lies across a page boundary, and without scatter-gather one slot is all",
	},
	{
		func(s *shape) bool { return !s.overLimit && s.gatherOff && s.frags > 0 },
		"it came in pieces to an interface without scatter-gather, as when the feature is turned off at that moment or the sender goes past the queue",
	},
	{
		func(s *shape) bool { return s.straddling > 0 && s.farthest > largestBlock && !s.forwarded },
		"memory that was handed over without a copy from huge pages, as MSG_ZEROCOPY does",
	},
	{
		func(s *shape) bool { return s.straddling > 0 && s.farthest > largestBlock },
		"parts of pages of more than 64 KiB, as others hand them over without a copy",
	},
	{
		func(s *shape) bool { return s.straddling == 0 && s.frags > usualFrags },
		"more fragments than 17, which only kernels with a larger CONFIG_MAX_SKB_FRAGS allow",
	},
	{
		func(s *shape) bool {
			return s.straddling == 0 && s.headSlots > 1 && s.largest <= slots.PageSize && s.forwarded && s.segmented
		},
		"one of the packets that were merged on their way in (GRO) and are forwarded; the head across a page boundary is what is too much",
	},
	{
		func(s *shape) bool { return s.straddling == 0 && s.headSlots > 1 && s.largest <= slots.PageSize },
		"one page or less each, as sendfile and splice make them; the head across a page boundary is what is too much",
	},
	{
		func(s *shape) bool { return s.scattered() && s.largest < slots.PageSize },
		"many small writes interleaved with another connection of the same thread",
	},
	{
		func(s *shape) bool { return s.scattered() },
		"large writes that begin at odd places of a page, since another connection of the same thread takes its memory in between",
	},
	{func(*shape) bool { return true }, ""},
}

// scattered tells whether copied data lies in blocks so that it straddles pages, and
// most of its pieces do not follow each other, as the pieces of one connection alone would.
func (s *shape) scattered() bool {
	return s.straddling > 0 && s.frags > 1 && 2*s.apart >= s.frags-1
}
