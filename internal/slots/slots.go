// Package slots holds the arithmetic of Xen transmit slots on the Go side: how
// many a packet needs and how many the frontend accepts.
//
// The BPF programs count in bpf/slots.h; both are tested against the same vectors.
package slots

const (
	// Limit is the number of slots that xennet_start_xmit accepts for one packet:
	// MAX_XEN_SKB_FRAGS + 1. Since Linux 4.4 it is computed from Xen's own page
	// size and does not follow MAX_SKB_FRAGS.
	Limit = 18

	// PageSize is XEN_PAGE_SIZE: a slot carries at most one Xen page, also on
	// kernels with larger pages.
	PageSize = 4096
)

// Of returns the slots that size bytes need when they start offset bytes into
// their page or compound page, as gnttab_count_grant counts them. An empty range that
// does not start on a page boundary is counted as one, as the driver does.
func Of(offset, size uint32) uint32 {
	return uint32((uint64(offset%PageSize) + uint64(size) + PageSize - 1) / PageSize)
}
