/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the pressure on an interface is made of, added up here: nothing is sent to
 * user space. Arrays, but for what is kept of a connection between its
 * establishment and its accept.
 */
#ifndef XENTRACE_PRESSURE_MAPS_H
#define XENTRACE_PRESSURE_MAPS_H

#include "log2.h"
#include "maps.h"
#include "ring.h"

/* Fixed at load. */
struct pressure_configuration {
	__u32 queues_each; /* places for each interface; queues above share the last */
};

const volatile struct pressure_configuration pressure_config = {.queues_each = 1};

/* Bounds of the buckets: 0, 1, 2, 4 and so on; the last also takes what is above. */
#define SIZE_BUCKETS 18	     /* bytes, to 65,536 */
#define PIECES_BUCKETS 8     /* slots of a packet, to 64 */
#define OCCUPANCY_BUCKETS 10 /* slots of the ring, to 256 */
#define TIME_BUCKETS 26	     /* microseconds, to 16.8 s */

/* One transmit queue on one CPU. */
struct queue_counters {
	__u64 packets;
	__u64 bytes;
	__u64 payload;
	__u64 small_packets;
	__u64 slots;
	__u64 bounced;
	__u64 linearized;
	__u64 dropped;
	__u64 busy; /* handed back by a driver that had no room */
	__u64 notifications;
	__u64 stops;
	__u64 wakes;
	__u64 full_ns; /* of the stops that have ended */
	__u64 responses;
	__u64 response_runs; /* runs of xennet_tx_buf_gc() that found any */
	__u64 completions;   /* packets whose latency is known */
	__u64 completion_ns;
	__u64 sizes[SIZE_BUCKETS];
	__u64 pieces[PIECES_BUCKETS];
	__u64 occupancy[OCCUPANCY_BUCKETS];
	__u64 wake_us[TIME_BUCKETS];
	__u64 completion_us[TIME_BUCKETS];
};

/* Place: interface times queues_each plus queue. Its size is set by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct queue_counters);
} queue_counters_of SEC(".maps");

/* One transmit queue, whichever CPU: written under the driver's locks of the queue. */
struct transmit_state {
	__u64 stopped_ns; /* when it was found stopped; 0: it runs */
	__u64 queue;	  /* struct netfront_queue that rsp_cons is of */
	__u32 rsp_cons;	  /* at the end of the last run */
	__u32 fence;	  /* see full_barrier() */
	__u64 sent_ns[RING_SLOTS]; /* by the id of a packet's first request; 0: none */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct transmit_state);
} transmit_state_of SEC(".maps");

/* The receiving side of an interface on one CPU. */
struct receive_counters {
	__u64 polls;
	__u64 packets;
	__u64 exhausted; /* polls that used up their budget */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct receive_counters);
} receive_counters_of SEC(".maps");

/* A packet between net_dev_start_xmit and net_dev_xmit. */
struct pressure_window {
	__u64 skb;
	__u64 dev;
	__u64 netfront_queue; /* 0: not known */
	__u64 begin_ns;
	__u32 place;
	__u32 queue;
	__u32 len;
	__u32 slots;
	__u32 payload;
	__u32 req_prod_pvt;
	__u8 netfront;
	__u8 bounced;
	__u8 dropped;
	__u8 pad[5];
};

struct pressure {
	__u64 address; /* see number_of() */
	__u32 depth;   /* windows open */
	__u32 pad;
	struct pressure_window windows[WINDOWS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pressure);
} pressures SEC(".maps");

#endif
