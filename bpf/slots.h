/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Slot arithmetic: what xennet_count_skb_slots() computes, which the compiler
 * inlines in every driver seen. Pure, and compiled for the host too by its
 * test.
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
 * gnttab_count_grant(). A piece without bytes that does not begin on a page
 * boundary counts as one; the driver does the same.
 */
static inline unsigned int slots_of(unsigned int offset, unsigned int size)
{
	unsigned long long end = (unsigned long long)(offset & (XEN_PAGE_SIZE - 1)) + size;

	return (unsigned int)((end + XEN_PAGE_SIZE - 1) / XEN_PAGE_SIZE);
}

/* The head is granted page by page of the kernel, which may be larger than Xen's. */
static inline int head_wants_bounce(unsigned int head_offset, unsigned int page_size)
{
	return page_size - head_offset < MIN_FIRST_SLOT;
}

#endif
