/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets dropped outside the driver on their way out through a watched interface: by
 * the network stack, netfilter, traffic control or a qdisc.
 */
#ifndef XENTRACE_ELSEWHERE_H
#define XENTRACE_ELSEWHERE_H

#include "inflight.h"

#define PACKET_OUTGOING 4 /* skb->pkt_type of a copy for packet sockets */

#define MAX_FRAMES 32

/* Innermost frames that may belong to the free and to BPF itself. */
#define INNER_FRAMES 8

/* Fixed at load. */
struct elsewhere_configuration {
	__u32 consumed;		    /* the reason that does not mean "dropped" */
	__u8 has_reason;	    /* this kernel has drop reasons */
	__u8 net_tx_action_unknown; /* its address is hidden */
};

const volatile struct elsewhere_configuration elsewhere_config;

/*
 * The address of net_tx_action. As the location of the tracepoint it means that
 * dev_kfree_skb_irq() was called, as netfront does for every packet that was sent. A
 * drop has a return address as its location. Set by userspace, else found here.
 */
volatile __u64 net_tx_action;

struct elsewhere_head {
	struct event_header header; /* with the interface that the packet would have left by */
	__u64 location;		    /* that the packet was freed from, 0 if unknown */
	__u32 reason;
	__u32 nr_frames;
	__u64 frames[MAX_FRAMES]; /* return addresses, innermost first */
};

/* Cut off after the last fragment. */
struct elsewhere_event {
	struct elsewhere_head head;
	struct packet_event packet; /* without its header */
};

/*
 * Counters by reason: those of the core by their number, then the first 32 of every
 * subsystem (the upper half of the number); the last one counts all others.
 */
#define CORE_REASONS 256
#define SUBSYSTEM_REASONS 32
#define REASONS 512

struct elsewhere_counters {
	__u64 dropped;
	__u64 reasons[REASONS];
};

MAP(elsewhere_counters_of, PERCPU_ARRAY, COUNTED_INTERFACES, __u32, struct elsewhere_counters);

/* A record in the making. */
struct elsewhere_space {
	struct elsewhere_head head;
	struct workspace work;
};

_Static_assert(__builtin_offsetof(struct elsewhere_space, work.event) ==
		       __builtin_offsetof(struct elsewhere_event, packet),
	       "the packet follows its head");

/* Frees nest: task, softirq, hard interrupt. Deeper, the record is lost and counted so. */
#define CONTEXTS 3

MAP(elsewhere_spaces, PERCPU_ARRAY, CONTEXTS, __u32, struct elsewhere_space);

MAP(elsewhere_depth, PERCPU_ARRAY, 1, __u32, __u32);

/* The interface that a packet was on its way to. */
struct way_out {
	struct net_device *dev;
	__u32 index; /* into counters_of */
};

/*
 * Whether the packet came in by this device. Before the stack sets skb_iif, the data of
 * a received packet is already past the link header; that of one being sent is not.
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

static __always_inline bool leaves_by(struct way_out *out, struct net_device *dev)
{
	const struct interface *interface = watched(interface_of(dev, false), dev, false, false);

	if (!interface)
		return false;
	out->dev = dev;
	out->index = interface->index;
	return true;
}

static __always_inline struct net_device *route_device(struct sk_buff *skb)
{
	struct dst_entry *dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & ~1ul);

	return dst ? BPF_CORE_READ(dst, dev) : NULL;
}

/*
 * Finds the watched interface that the packet would have left by: its device unless it
 * came in there, else that of its route. A route to loopback may also be that of a
 * packet received for this machine.
 */
static __noinline bool find_way_out(struct way_out *out, struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct net_device *route = route_device(skb);
	__u32 iif = BPF_CORE_READ(skb, skb_iif);

	if (BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type) == PACKET_OUTGOING)
		return false;
	if (dev && (route || !empty_buffer(skb)) && !received(skb, dev, iif) && leaves_by(out, dev))
		return true;
	if (!route || route == dev)
		return false;
	if (iif && (iif == (__u32)BPF_CORE_READ(route, ifindex) ||
		    BPF_CORE_READ(route, type) == ARPHRD_LOOPBACK))
		return false;
	return leaves_by(out, route);
}

/* Freed by the driver: reported as its drop. */
static __always_inline bool freed_by_driver(struct sk_buff *skb)
{
	struct cpu_state *cpu = ONLY_ENTRY(cpu_states);

	return cpu && inflight_find(cpu, skb) >= 0;
}

static __always_inline __u64 reason_index(__u32 reason)
{
	__u64 subsystem = reason >> 16, number = reason & 0xffff;

	if (!subsystem)
		return number < CORE_REASONS ? number : REASONS - 1;
	if (number >= SUBSYSTEM_REASONS)
		return REASONS - 1;
	return CORE_REASONS + (subsystem - 1) * SUBSYSTEM_REASONS + number;
}

/* Atomic: an interrupt may free in between. */
static __always_inline void count_elsewhere(__u32 index, __u32 reason)
{
	struct elsewhere_counters *counters = bpf_map_lookup_elem(&elsewhere_counters_of, &index);
	__u64 i = reason_index(reason);

	if (!counters)
		return;
	ATOMIC_ADD(counters->dropped, 1);
	AT_MOST(i, REASONS - 1);
	ATOMIC_ADD(counters->reasons[i], 1);
}

static __always_inline void frames_capture(void *ctx, struct elsewhere_head *head)
{
	long bytes = bpf_get_stack(ctx, head->frames, sizeof(head->frames), 0);

	head->nr_frames = bytes > 0 ? bytes / sizeof(head->frames[0]) : 0;
}

/* A location that no frame returns to is the address of a function: net_tx_action. */
static __noinline bool is_net_tx_action(struct elsewhere_head *head, __u64 location)
{
	for (__u32 i = 0; i < INNER_FRAMES && i < head->nr_frames; i++)
		if (head->frames[i] == location)
			return false;
	net_tx_action = location;
	return true;
}

static __noinline int emit_elsewhere(struct elsewhere_event *event, __u32 index)
{
	struct elsewhere_space *space = (void *)event;

	event->packet.verdict = VERDICT_DROPPED;
	event->packet.cause = CAUSE_NONE;
	record_send(space, __builtin_offsetof(struct elsewhere_space, work), &space->work, index);
	return 0;
}

/* Counts and reports the packet. */
static __always_inline int report_elsewhere(void *ctx, struct elsewhere_space *space,
					    struct way_out *out, struct sk_buff *skb,
					    __u64 location, __u32 reason)
{
	struct elsewhere_head *head = &space->head;

	if (elsewhere_config.net_tx_action_unknown)
		frames_capture(ctx, head);
	if (elsewhere_config.net_tx_action_unknown && location && is_net_tx_action(head, location))
		return 0;
	count_elsewhere(out->index, reason);
	if (!config.records)
		return 0;
	if (config.rate && !record_allowed(skb))
		return suppressed(out->index, VERDICT_DROPPED, CAUSE_NONE);
	if (!elsewhere_config.net_tx_action_unknown)
		frames_capture(ctx, head);
	capture_all(ctx, &space->work, skb, 0);
	header_fill(&head->header, EVENT_ELSEWHERE, out->dev);
	head->location = location;
	head->reason = reason;
	space->work.event.slots = captured_slots(&space->work.event);
	return emit_elsewhere((void *)space, out->index);
}

/* A packet is freed as dropped. */
static __always_inline int elsewhere(void *ctx, struct sk_buff *skb, __u64 location, __u32 reason)
{
	struct elsewhere_space *space;
	struct way_out out;
	__u32 *deep, depth;

	if (!find_way_out(&out, skb) || freed_by_driver(skb))
		return 0;
	deep = ONLY_ENTRY(elsewhere_depth);
	if (!deep)
		return 0;
	depth = *deep;
	space = bpf_map_lookup_elem(&elsewhere_spaces, &depth);
	if (!space) {
		count_elsewhere(out.index, reason);
		count_lost(out.index);
		return 0;
	}
	*deep = depth + 1;
	report_elsewhere(ctx, space, &out, skb, location, reason);
	*deep = depth;
	return 0;
}

/* The tracepoint. Without reasons it has no third argument. */
static __always_inline int elsewhere_traced(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 reason = elsewhere_config.has_reason ? ctx->args[2] : 0;

	if (!enabled || ctx->args[1] == net_tx_action)
		return 0;
	return elsewhere(ctx, (void *)ctx->args[0], ctx->args[1], reason);
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

/* Qdiscs free far fewer at once. */
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
