/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The TX ring shared by xen-netfront and its backend.
 */
#ifndef XENTRACE_TX_RING_H
#define XENTRACE_TX_RING_H

#include "count.h"

/* NET_TX_RING_SIZE: requests, and ids of requests, of one queue. */
#define RING_SLOTS 256u

/* XEN_NETIF_RSP_NULL: the response to an extra info, without an id. Errors are negative. */
#define RESPONSE_NULL 1

/* Offsets in struct netfront_queue unless noted otherwise. */
struct ring_layout {
	__u32 id;
	__u32 info;
	__u32 netdev;	/* in struct netfront_info */
	__u32 rsp_cons; /* of tx */
	__u32 sring;	/* of tx */
	__u32 ring;	/* in the shared page */
	__u32 tx_skbs;
	__u32 req_prod_pvt; /* of tx */
	__u32 queues;	    /* the array of queues, in struct netfront_info */
	__u32 queue_size;   /* sizeof(struct netfront_queue); 0: layout unknown */
};

const volatile struct ring_layout ring_layout = {};

/* An entry of the ring as a response. A request is longer: 12 bytes. */
struct ring_entry {
	__u16 id;
	__s16 status;
	__u64 rest __attribute__((packed, aligned(4)));
};

/* Of a request: past what a response overwrites. */
#define REQUEST_ID_OFFSET 8

static __always_inline __u32 queue_u32(__u64 queue, __u32 offset)
{
	return word_at(queue + offset, config.typed_reads);
}

/* Address of the ring's first entry, 0 if it cannot be read. */
static __always_inline __u64 ring_of(__u64 queue)
{
	__u64 sring = word_at(queue + ring_layout.sring, config.typed_reads);

	return sring ? sring + ring_layout.ring : 0;
}

/* Of the request at an index of the ring. */
static __always_inline __u16 request_id(__u64 ring, __u32 index)
{
	__u64 address = ring + index % RING_SLOTS * sizeof(struct ring_entry) + REQUEST_ID_OFFSET;
	__u16 id = 0;

	if (config.typed_reads)
		return words_at(address)->tv_sec;
	bpf_probe_read_kernel(&id, sizeof(id), (void *)address);
	return id;
}

/* The registered interface of a struct netfront_queue, or NULL. */
static __always_inline struct interface *queue_interface(__u64 queue)
{
	__u64 info = word_at(queue + ring_layout.info, config.typed_reads);
	__u64 dev = word_at(info + ring_layout.netdev, config.typed_reads);

	if (config.typed_reads)
		return interface_of(TYPED(struct net_device, (void *)dev), true);
	return interface_of((void *)dev, false);
}

#endif
