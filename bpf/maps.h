/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Configuration and the maps that every packet uses, with their bounds. None is a hash.
 */
#ifndef XENTRACE_MAPS_H
#define XENTRACE_MAPS_H

#include "event.h"
#include "kernel.h"

/* Fixed at load: the verifier prunes what is off. */
struct configuration {
	__u32 page_size;
	__u32 consumed;	      /* value of the free's second argument that means "consumed" */
	__s32 priv_offset;    /* of netdev_priv() from the device, -1 if unknown */
	__s32 broken_offset;  /* of netfront_info.broken, -1 if unknown */
	__s32 bounce_offset;  /* of netfront_info.bounce, -1 if unknown */
	__u8 typed_reads;     /* bpf_rdonly_cast() works in these programs */
	__u8 any_interface;   /* count interfaces of xen-netfront before they are registered */
	__u8 records;	      /* report single packets */
	__u8 driver_hooks;    /* the hooks on the free are attached */
	__u8 stacks;	      /* record call stacks */
	__u8 consume_is_drop; /* this kernel frees dropped packets as consumed, see traced_free() */
	__u8 probe;	      /* report every packet of one socket, see is_probe() */
	__u8 rate;	      /* the number of records is limited, see rate.h */
	__u16 snap;	      /* record so many bytes of a packet, at most MAX_SNAP */
	__u16 skb_span;	      /* from sk_buff.len to all of skb_members, at most SKB_SPAN; or 0 */
	__u16 pad;
};

const volatile struct configuration config = {.page_size = 4096};

/* Set once every hook is attached, so that no packet is seen by half of them. */
volatile __u32 enabled;

/*
 * Of what device_cache is known from. A device is opened before it transmits for the first
 * time and after it was moved to another namespace, so the hook on that adds 1; userspace
 * adds 1 << 32 when it changes the interfaces. 0: there is no such hook, nothing is cached.
 */
volatile __u64 generation;

/* Address of xennet_start_xmit, 0 if unknown; changes when the module is loaded again. */
volatile __u64 netfront_xmit;

/*
 * Where netfront_info.broken is, from struct net_device, read from the driver's code where
 * its types are not known; bounce is the next byte. 0 if unknown; changes when the module is
 * loaded again.
 */
volatile __u32 netfront_flags;

/*
 * Registered interfaces: open addressing, written by userspace only. An unused entry
 * ends a search; a removed one has ifindex 0 and netns 1. Full: the 65th interface is
 * counted at index 0.
 */
#define INTERFACE_ENTRIES 256
#define INTERFACE_PROBES 8
#define INTERFACE_SHIFT 24 /* 32 - log2(INTERFACE_ENTRIES) */

struct interface {
	__u32 ifindex;
	__u32 netns;
	__u32 index;	/* into counters_of */
	__u32 netfront; /* driven by xen-netfront */
};

MAP(interfaces, ARRAY, INTERFACE_ENTRIES, __u32, struct interface);

/* Slots per packet; the last bucket also counts what is above, see slots.Buckets. */
#define SLOT_BUCKETS 256

/* Records not made: by verdict, of drops by cause (none: elsewhere). */
#define SUPPRESSIONS (VERDICTS + CAUSES)

/* Of one interface on one CPU. The number of packets is the sum over slots. */
struct counters {
	__u64 bytes;
	__u64 over_limit;
	__u64 dropped;
	__u64 linearized; /* over the limit and not dropped */
	__u64 bounced;
	__u64 rejected;
	__u64 ring_lost;
	__u64 causes[CAUSES];
	__u64 suppressed[SUPPRESSIONS];
	__u64 slots[SLOT_BUCKETS];
};

/* Index 0 is for interfaces that are not registered yet, or for which there is no index left. */
#define COUNTED_INTERFACES 65

MAP(counters_of, PERCPU_ARRAY, COUNTED_INTERFACES, __u32, struct counters);

/* 0 is for nearly all packets; 1 for one that interrupts another, or its settling. */
#define INFLIGHT_SLOTS 2

enum inflight_flag {
	INFLIGHT_OVER_LIMIT = 1,
	INFLIGHT_CAPTURED = 2, /* the workspace of this slot holds the packet as it was */
	INFLIGHT_BOUNCED = 4,
	INFLIGHT_PROBE = 8,	  /* report it whatever its fate */
	INFLIGHT_PENDING = 16,	  /* report it when it is settled */
	INFLIGHT_SUPPRESSED = 32, /* count its record instead of making it */
	INFLIGHT_DECIDED = INFLIGHT_CAPTURED | INFLIGHT_SUPPRESSED,
};

/* The last packet that entered on this CPU, until the next one does. */
struct inflight {
	__u64 skb;
	__u64 dev;   /* set like queue when it is needed: pending, bounced or dropped */
	__u32 index; /* into counters_of */
	__u16 slots;
	__u16 queue;
	__u32 flags; /* enum inflight_flag */
	__u32 cause; /* set with the verdict */
};

/* The interface that was found last. */
struct interface_cache {
	__u64 dev;
	__u64 net;
	__u32 ifindex;
	__u32 netns;
	__u32 entry; /* in interfaces */
	__u32 pad;
};

/* The driver's device that transmitted last. */
struct device_cache {
	__u64 dev;
	__u64 sum; /* of dev and its index: tells whether the two belong together */
	__u64 generation;
};

/* More than MAX_FRAGS: they are counted in powers of two. */
#define FRAG_ROOM 48

/* What is read of a packet at once, as it is in the kernel. */
struct packet_copy {
	__u64 skb[SKB_SPAN / sizeof(__u64)];
	struct frag frags[FRAG_ROOM];
};

/* All that a packet needs of its CPU. */
struct cpu_state {
	struct inflight inflight[INFLIGHT_SLOTS];
	struct device_cache device;   /* of hooks in the driver */
	struct interface_cache cache; /* of other hooks */
	__u32 settling;		      /* the record of slot 0 is being sent */
	__u32 announced;	      /* userspace was woken to settle, and did not do so yet */
	__u32 unregistered_packets;
	__u32 pad;
	struct interface_event unregistered; /* the last one reported */
	struct packet_copy copies[INFLIGHT_SLOTS];
};

MAP(cpu_states, PERCPU_ARRAY, 1, __u32, struct cpu_state);

/* A position in the linear part of a packet; fragments are not read. */
struct cursor {
	__u64 data;
	__u32 offset;
	__u32 end;
	__u32 len; /* of the whole packet */
	__u32 pad;
};

/*
 * A record in the making, one for each slot. The packet's first bytes are read to where
 * the record ends without them, so they may lie over what follows the event.
 */
struct workspace {
	struct packet_event event;
	struct call_stack stack;
	struct frag frags[MAX_FRAGS];
	struct cursor cursor; /* in a map its values are unknown: the verifier prunes more */
	__u64 length;	      /* of the record so far */
	__u64 skb;	      /* to capture, see capture_at() */
};

MAP(workspaces, PERCPU_ARRAY, INFLIGHT_SLOTS, __u32, struct workspace);

/* Userspace sets its size. Full: the record is lost and counted in ring_lost. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} events SEC(".maps");

/*
 * Wakes userspace to settle a packet, so that it does not poll: the number of the CPU, once
 * until it has. Full: the next packet tries again. The size is that of the largest page.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} unsettled SEC(".maps");

#endif
