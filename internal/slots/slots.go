// Package slots holds the arithmetic of Xen transmit slots on the Go side: how
// many a packet needs, how many the frontend takes, and the histogram of both.
//
// The kernel side counts in bpf/slots.h; both are tested against the same
// vectors.
package slots

import "iter"

const (
	// Limit is the number of slots that xennet_start_xmit takes for one packet:
	// MAX_XEN_SKB_FRAGS + 1. Since Linux 4.4 it is computed from Xen's own page
	// size and does not follow MAX_SKB_FRAGS.
	Limit = 18

	// PageSize is XEN_PAGE_SIZE: a slot carries at most one Xen page, also on
	// kernels with larger pages.
	PageSize = 4096

	// MaxPacketLen is XEN_NETIF_MAX_TX_SIZE in bytes. A longer packet is dropped
	// before its slots are looked at.
	MaxPacketLen = 65535

	// Buckets is how many different slot counts a Histogram tells apart. The
	// last one also holds everything above it; no packet that a Xen frontend
	// could take comes near.
	Buckets = 256
)

// Of returns the slots that size bytes need when they start offset bytes into
// their page or compound page, as gnttab_count_grant counts them. A piece of no
// bytes that does not start on a page boundary is counted as one, as the
// driver does.
func Of(offset, size uint32) uint32 {
	return uint32((uint64(offset%PageSize) + uint64(size) + PageSize - 1) / PageSize)
}

// Histogram counts packets by the slots they need; the index is the number of
// slots.
type Histogram [Buckets]uint64

// Packets returns how many packets were counted.
func (h *Histogram) Packets() uint64 {
	var n uint64
	for _, count := range h {
		n += count
	}
	return n
}

// OverLimit returns how many packets needed more than Limit slots.
func (h *Histogram) OverLimit() uint64 {
	var n uint64
	for _, count := range h[Limit+1:] {
		n += count
	}
	return n
}

// Add adds the counts of other.
func (h *Histogram) Add(other *Histogram) {
	for i, count := range other {
		h[i] += count
	}
}

// Max returns the largest number of slots seen, 0 if no packet was counted.
func (h *Histogram) Max() int {
	for i := len(h) - 1; i > 0; i-- {
		if h[i] != 0 {
			return i
		}
	}
	return 0
}

// All yields slots and packets of every bucket that is not empty, fewest slots
// first.
func (h *Histogram) All() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, count := range h {
			if count != 0 && !yield(i, count) {
				return
			}
		}
	}
}
