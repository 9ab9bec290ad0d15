/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map, with what bounds it. None is a hash: the programs that every
 * packet runs look things up by index only.
 */
#ifndef XENTRACE_MAPS_H
#define XENTRACE_MAPS_H

#include "event.h"
#include "skb.h"

/* One configuration for all programs, fixed at load: what is off is pruned by the verifier. */
struct configuration {
	__u32 page_size;
	__u32 consumed;	     /* second argument of the free function that does not mean "dropped" */
	__s32 priv_offset;   /* of netdev_priv() from the device, -1 if unknown */
	__s32 broken_offset; /* of netfront_info.broken, -1 if unknown */
	__s32 bounce_offset; /* of netfront_info.bounce, -1 if unknown */
	__u8 typed_reads;    /* bpf_rdonly_cast() works in these programs */
	__u8 any_interface;  /* watch what is driven by xen-netfront, registered or not */
	__u8 records;	     /* tell of single packets, not only count */
	__u8 driver_hooks;   /* the free and return hooks are attached */
	__u8 stacks;	     /* tell what sent a packet that went wrong */
	__u8 consume_is_drop; /* this kernel frees dropped packets as consumed, see traced_free() */
};

const volatile struct configuration config = {.page_size = 4096};

/* Set once every hook is attached, so that no packet is seen by half of them. */
volatile __u32 enabled;

/* Address of xennet_start_xmit, 0 if unknown: another one each time the module is loaded. */
volatile __u64 netfront_xmit;

/*
 * The registered interfaces: open addressing, written by user space only. An
 * empty place ends a search; a place whose interface is gone has ifindex 0 and
 * netns 1. Full means that a 65th interface is counted as index 0.
 */
#define INTERFACE_PLACES 256
#define INTERFACE_PROBES 8
#define INTERFACE_SHIFT 24 /* 32 - log2(INTERFACE_PLACES) */

struct interface {
	__u32 ifindex;
	__u32 netns;
	__u32 index;	/* into counters_of */
	__u32 netfront; /* driven by xen-netfront */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, INTERFACE_PLACES);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces SEC(".maps");

/* Slots per packet; the last bucket also takes what is above, see slots.Buckets. */
#define SLOT_BUCKETS 256

/* What was counted for one interface on one CPU. Packets are the sum over slots. */
struct counters {
	__u64 bytes;
	__u64 over_limit;
	__u64 dropped;
	__u64 linearized;
	__u64 bounced;
	__u64 rejected;
	__u64 ring_lost;
	__u64 causes[CAUSES];
	__u64 slots[SLOT_BUCKETS];
};

/* Index 0 is for packets of interfaces that are not registered yet, or did not fit. */
#define COUNTED_INTERFACES 65

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTED_INTERFACES);
	__type(key, __u32);
	__type(value, struct counters);
} counters_of SEC(".maps");

/* How deep transmissions may nest on one CPU: a stack of devices, netpoll in an interrupt. */
#define WINDOWS 4

/* What is known of a packet that is not sent as usual; none for nearly all. */
enum window_flag {
	WINDOW_OVER_LIMIT = 1,
	WINDOW_CAPTURED = 2, /* the workspace of this depth holds the packet as it was */
	WINDOW_BOUNCED = 4,
	WINDOW_DROPPED = 8,
	WINDOW_WANTS_BOUNCE = 16, /* the head begins too close to the end of a page */
};

/* Between entry and verdict of one packet on one CPU. */
struct window {
	__u64 skb;
	__u64 dev;
	__u32 index; /* into counters_of */
	__u16 slots;
	__u16 queue;
	__u16 flags; /* enum window_flag */
	__u16 pad[3];
};

struct transmit {
	struct interface_event unregistered; /* the interface that user space was last told of */
	__u32 unregistered_packets;
	__u32 depth; /* windows open */
	struct window windows[WINDOWS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct transmit);
} transmits SEC(".maps");

/* What is being made of a packet, one for each depth. */
struct workspace {
	struct packet_event event;
	struct call_stack stack;      /* behind the event, as in a record */
	struct frag frags[MAX_FRAGS]; /* as the kernel holds them, for one bulk read */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WINDOWS);
	__type(key, __u32);
	__type(value, struct workspace);
} workspaces SEC(".maps");

/* Its size is set by user space. What finds no room is counted in ring_lost. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} events SEC(".maps");

#endif
