/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets freed as dropped outside the driver: in the network stack, netfilter,
 * traffic control or a queueing discipline, on their way out through a watched
 * interface.
 */
#ifndef XENTRACE_ELSEWHERE_H
#define XENTRACE_ELSEWHERE_H

#include "xmit.h"

#define PACKET_OUTGOING 4 /* skb->pkt_type of a copy for packet sockets */
#define MAC_HEADER_UNSET 0xffff

#define MAX_FRAMES 32

/* How many of the innermost frames may belong to the freeing and to BPF itself. */
#define INNER_FRAMES 8

/* Fixed at load, as config is. */
struct elsewhere_configuration {
	__u32 consumed;		 /* the reason that does not mean "dropped" */
	__u8 has_reason;	 /* this kernel tells reasons */
	__u8 completion_unknown; /* the address of net_tx_action is hidden */
};

const volatile struct elsewhere_configuration elsewhere_config;

/*
 * The address of net_tx_action. With it as the location the tracepoint is called
 * for packets that dev_kfree_skb_irq() was given, as netfront gives every packet
 * that was sent. Real drops have a return address for a location. Set by user space,
 * else found by the first such packet.
 */
volatile __u64 completion;

struct elsewhere_head {
	struct event_header
		header; /* the interface is the one that the packet would have left by */
	__u64 location; /* the address that the packet was freed from; 0 if not known */
	__u32 reason;
	__u32 nr_frames;
	__u64 frames[MAX_FRAMES]; /* return addresses, innermost first */
};

/* Cut off behind the last fragment. */
struct elsewhere_event {
	struct elsewhere_head head;
	struct packet_event packet; /* its own header is not filled */
};

/*
 * One place for each reason: those of the core by their number, then the first few of
 * every subsystem, which has the upper half of the number; the last place is for all
 * others. User space reads it the same way.
 */
#define CORE_REASONS 256
#define SUBSYSTEM_REASONS 32
#define REASONS 512

struct elsewhere_counters {
	__u64 dropped;
	__u64 reasons[REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTED_INTERFACES);
	__type(key, __u32);
	__type(value, struct elsewhere_counters);
} elsewhere_counters_of SEC(".maps");

/* What is being made of a packet: the event, then what capture() works with. */
struct elsewhere_space {
	struct elsewhere_head head;
	struct workspace work;
};

_Static_assert(__builtin_offsetof(struct elsewhere_space, work.event) ==
		       __builtin_offsetof(struct elsewhere_event, packet),
	       "the packet follows its head");

/*
 * One for each context of a CPU: unlike a transmission, a free may be interrupted by
 * another. Deeper than that the record is lost, and counted as such.
 */
#define CONTEXTS 3

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CONTEXTS);
	__type(key, __u32);
	__type(value, struct elsewhere_space);
} elsewhere_spaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} elsewhere_depth SEC(".maps");

/* The interface that a packet was on its way to. */
struct way_out {
	struct net_device *dev;
	struct watched watched;
};

/*
 * The packet came in by this device. Before the stack notes that in skb_iif, its
 * data has already moved behind the link header; that of a packet being sent is
 * at it, or there is none yet.
 */
static __always_inline bool received(struct sk_buff *skb, struct net_device *dev, __u32 iif)
{
	__u16 mac = BPF_CORE_READ(skb, mac_header);

	if (iif)
		return iif == (__u32)BPF_CORE_READ(dev, ifindex);
	return mac != MAC_HEADER_UNSET &&
	       (__u64)BPF_CORE_READ(skb, data) > (__u64)BPF_CORE_READ(skb, head) + mac;
}

/* A buffer that nothing was received into yet also has a device. */
static __always_inline bool empty_buffer(struct sk_buff *skb)
{
	return BPF_CORE_READ(skb, mac_header) == MAC_HEADER_UNSET &&
	       !BPF_CORE_READ(skb, network_header);
}

static __always_inline struct net_device *route_device(struct sk_buff *skb)
{
	struct dst_entry *dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & ~1ul);

	return dst ? BPF_CORE_READ(dst, dev) : NULL;
}

/*
 * Finds the watched interface that the packet would have left by: the device that it
 * is on, unless it came in there, else that of its route. A route to the loopback
 * device is also what a packet has that is received by this machine.
 */
static __noinline bool find_way_out(struct way_out *out, struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct net_device *route = route_device(skb);
	__u32 iif = BPF_CORE_READ(skb, skb_iif);

	if (BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type) == PACKET_OUTGOING)
		return false;
	if (dev && (route || !empty_buffer(skb)) && !received(skb, dev, iif) &&
	    watched_find(&out->watched, dev, false, false)) {
		out->dev = dev;
		return true;
	}
	if (!route || route == dev)
		return false;
	if (iif && (iif == (__u32)BPF_CORE_READ(route, ifindex) ||
		    BPF_CORE_READ(route, type) == ARPHRD_LOOPBACK))
		return false;
	out->dev = route;
	return watched_find(&out->watched, route, false, false);
}

/* The driver itself frees it: that is reported as the driver's. */
static __always_inline bool freed_by_driver(struct sk_buff *skb)
{
	struct window *window = window_of(transmit_here(), skb);

	return window && (window->skb == (__u64)skb || window->flags & WINDOW_BOUNCED);
}

static __always_inline __u64 reason_place(__u32 reason)
{
	__u64 subsystem = reason >> 16, number = reason & 0xffff;

	if (!subsystem)
		return number < CORE_REASONS ? number : REASONS - 1;
	if (number >= SUBSYSTEM_REASONS)
		return REASONS - 1;
	return CORE_REASONS + (subsystem - 1) * SUBSYSTEM_REASONS + number;
}

/* Atomic, since a softirq may come in between. */
static __always_inline void count_elsewhere(__u32 index, __u32 reason)
{
	struct elsewhere_counters *counters = bpf_map_lookup_elem(&elsewhere_counters_of, &index);
	__u64 place = reason_place(reason);

	if (!counters)
		return;
	__sync_fetch_and_add(&counters->dropped, 1);
	AT_MOST(place, REASONS - 1);
	__sync_fetch_and_add(&counters->reasons[place], 1);
}

static __always_inline void lose_elsewhere(__u32 index)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);

	if (counters)
		__sync_fetch_and_add(&counters->ring_lost, 1);
}

static __always_inline void stack_capture(void *ctx, struct elsewhere_head *head)
{
	long bytes = bpf_get_stack(ctx, head->frames, sizeof(head->frames), 0);

	head->nr_frames = bytes > 0 ? bytes / sizeof(head->frames[0]) : 0;
}

/*
 * A location that no frame returns to is a function's own address, hence the
 * completion. Asked only where addresses are hidden.
 */
static __noinline bool is_completion(struct elsewhere_head *head, __u64 location)
{
	for (__u32 i = 0; i < INNER_FRAMES && i < head->nr_frames; i++)
		if (head->frames[i] == location)
			return false;
	completion = location;
	return true;
}

/* How long the record of a drop with the stack of a call is. */
#define STACKED_ELSEWHERE (__builtin_offsetof(struct elsewhere_space, work) + STACKED_PACKET)

static __noinline int emit_elsewhere(struct elsewhere_event *event, __u32 index)
{
	struct elsewhere_space *space = (void *)event;
	__u64 size = event->packet.nr_frags;
	long lost;

	AT_MOST(size, MAX_FRAGS);
	event->packet.verdict = VERDICT_DROPPED;
	event->packet.cause = CAUSE_NONE;
	size = __builtin_offsetof(struct elsewhere_event, packet.frags) +
	       size * sizeof(struct event_frag);
	if (config.stacks && space->work.stack.nr_kernel)
		lost = bpf_ringbuf_output(&events, event, STACKED_ELSEWHERE,
					  wake_flags(STACKED_ELSEWHERE));
	else
		lost = bpf_ringbuf_output(&events, event, size, wake_flags(size));
	if (lost)
		lose_elsewhere(index);
	return 0;
}

/* Counts the packet and tells of it. */
static __always_inline int tell_elsewhere(void *ctx, struct elsewhere_space *space,
					  struct way_out *out, struct sk_buff *skb, __u64 location,
					  __u32 reason)
{
	struct elsewhere_head *head = &space->head;

	stack_capture(ctx, head);
	if (elsewhere_config.completion_unknown && location && is_completion(head, location))
		return 0;
	count_elsewhere(out->watched.index, reason);
	if (!config.records)
		return 0;
	if (capture(&space->work, skb, 0)) {
		lose_elsewhere(out->watched.index);
		return 0;
	}
	if (config.stacks)
		stack_take(ctx, &space->work.stack);
	header_fill(&head->header, EVENT_ELSEWHERE, out->dev);
	head->location = location;
	head->reason = reason;
	space->work.event.slots = captured_slots(&space->work.event);
	return emit_elsewhere((void *)space, out->watched.index);
}

/* A packet is freed as dropped. */
static __always_inline int elsewhere(void *ctx, struct sk_buff *skb, __u64 location, __u32 reason)
{
	struct elsewhere_space *space;
	struct way_out out;
	__u32 zero = 0, depth;
	__u32 *deep;

	if (!find_way_out(&out, skb) || freed_by_driver(skb))
		return 0;
	deep = bpf_map_lookup_elem(&elsewhere_depth, &zero);
	if (!deep)
		return 0;
	depth = *deep;
	space = bpf_map_lookup_elem(&elsewhere_spaces, &depth);
	if (!space) {
		count_elsewhere(out.watched.index, reason);
		lose_elsewhere(out.watched.index);
		return 0;
	}
	*deep = depth + 1;
	tell_elsewhere(ctx, space, &out, skb, location, reason);
	*deep = depth;
	return 0;
}

/* The tracepoint: for packets whose last reference this was. */
static __always_inline int elsewhere_traced(void *ctx, struct sk_buff *skb, __u64 location,
					    __u32 reason)
{
	if (!enabled || location == completion)
		return 0;
	return elsewhere(ctx, skb, location, reason);
}

/* The entry of a function that frees the packet if this is its last reference. */
static __always_inline bool drops_last(struct sk_buff *skb)
{
	return skb && BPF_CORE_READ(skb, users.refs.counter) == 1;
}

static __always_inline bool is_consumed(__u32 reason)
{
	return elsewhere_config.has_reason && reason == elsewhere_config.consumed;
}

static __always_inline int elsewhere_called(void *ctx, struct sk_buff *skb, __u32 reason)
{
	if (!enabled || is_consumed(reason) || !drops_last(skb))
		return 0;
	return elsewhere(ctx, skb, 0, elsewhere_config.has_reason ? reason : 0);
}

/* A bound for the verifier's and everyone's sake; queueing disciplines free far fewer at once. */
#define MAX_LISTED (1 << 16)

struct listed {
	void *ctx;
	struct sk_buff *skb;
	__u32 reason;
};

static long elsewhere_listed(__u64 i, struct listed *listed)
{
	struct sk_buff *skb = listed->skb;

	if (!skb)
		return 1;
	listed->skb = BPF_CORE_READ(skb, next);
	elsewhere_called(listed->ctx, skb, listed->reason);
	return 0;
}

static __always_inline int elsewhere_called_list(void *ctx, struct sk_buff *first, __u32 reason)
{
	struct listed listed = {.ctx = ctx, .skb = first, .reason = reason};

	if (enabled && first && !is_consumed(reason))
		bpf_loop(MAX_LISTED, elsewhere_listed, &listed, 0);
	return 0;
}

#endif
