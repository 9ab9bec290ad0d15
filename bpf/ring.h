/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The transmit ring between xen-netfront and its backend: where the driver keeps
 * it, and what lies on it.
 */
#ifndef XENTRACE_RING_H
#define XENTRACE_RING_H

#include "skb.h"

/* NET_TX_RING_SIZE: requests, and ids of requests, of one queue. */
#define RING_SLOTS 256u

/* XEN_NETIF_RSP_NULL: the slot held extra information, its id is not one. Errors are negative. */
#define RESPONSE_NULL 1

/* Where the driver keeps things, from the start of struct netfront_queue unless said otherwise. */
struct ring_layout {
	__u32 id;
	__u32 info;
	__u32 netdev;	/* from the start of struct netfront_info */
	__u32 rsp_cons; /* of tx */
	__u32 sring;	/* of tx */
	__u32 ring;	/* from the start of the shared page */
	__u32 tx_skbs;
	__u32 req_prod_pvt; /* of tx */
	__u32 queues;	    /* the array of them, from the start of struct netfront_info */
	__u32 queue_size;   /* of struct netfront_queue; 0: nothing of this is known */
};

const volatile struct ring_layout ring_layout = {};

/* One entry of the ring as a response: the wire format, 12 bytes for the request's sake. */
struct ring_entry {
	__u16 id;
	__s16 status;
	__u64 rest __attribute__((packed, aligned(4)));
};

/* Of a request: behind what a response would overwrite. */
#define REQUEST_ID_OFFSET 8

#endif
