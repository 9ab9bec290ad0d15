/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Slot arithmetic and histogram buckets. Pure; its tests compile it for the host too.
 */
#ifndef XENTRACE_SLOTS_H
#define XENTRACE_SLOTS_H

/* XEN_PAGE_SIZE: a slot carries at most one, whatever the kernel's page size. */
#define XEN_PAGE_SIZE 4096u

/* MAX_XEN_SKB_FRAGS + 1, the limit in xennet_start_xmit() since Linux 4.4. */
#define SLOT_LIMIT 18u

/* XEN_NETIF_MAX_TX_SIZE: tested before the slots are. */
#define MAX_PACKET_LEN 65535u

/* ETH_HLEN: the first slot must hold at least this much, or the head is bounced. */
#define MIN_FIRST_SLOT 14u

/* CONFIG_MAX_SKB_FRAGS at its largest (Linux 6.4 and later). */
#define MAX_FRAGS 45u

/*
 * gnttab_count_grant(), from which xennet_count_skb_slots() adds up. An empty fragment
 * that does not begin on a page boundary counts as one.
 */
static inline unsigned int slots_of(unsigned int offset, unsigned int size)
{
	return ((offset & (XEN_PAGE_SIZE - 1)) + size + XEN_PAGE_SIZE - 1) / XEN_PAGE_SIZE;
}

/* The head is granted page by page of the kernel, which may be larger than Xen's. */
static inline int head_wants_bounce(unsigned int head_offset, unsigned int page_size)
{
	return page_size - head_offset < MIN_FIRST_SLOT;
}

/* 1 if it is not 0, without a branch: each would double the verifier's paths. */
static inline unsigned long long nonzero(unsigned long long value)
{
	return (value | -value) >> 63;
}

/* Bucket 0 holds 0, bucket 1 holds 1, each bucket after it (bound of the last, twice that]. */
static inline unsigned long long log2_bucket(unsigned long long value)
{
	unsigned long long bucket = nonzero(value), step;

	value -= bucket;
	for (unsigned int bits = 5; bits > 0; bits--) {
		step = nonzero(value >> (1u << bits)) << bits;
		value >>= step;
		bucket += step;
	}
	step = nonzero(value >> 1);
	return bucket + step + nonzero(value >> step);
}

/* The same of numbers up to TABLED: 5 instructions instead of 37. */
#define TABLED 256u

static const unsigned char log2_buckets[TABLED + 1] = {
	[1] = 1,	 [2] = 2,	  [3 ... 4] = 3,    [5 ... 8] = 4,     [9 ... 16] = 5,
	[17 ... 32] = 6, [33 ... 64] = 7, [65 ... 128] = 8, [129 ... 256] = 9,
};

#endif
