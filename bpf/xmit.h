/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happens to a packet in the driver: it is handed over, it may be bounced
 * or dropped, it is done.
 */
#ifndef XENTRACE_XMIT_H
#define XENTRACE_XMIT_H

#include "cause.h"
#include "watched.h"

/* Another driver sends it; a Xen frontend would not as it is. */
static __noinline int tell_over_limit(void *ctx, struct sk_buff *skb, __u32 index, __u32 slots)
{
	__u32 zero = 0;
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &zero);

	if (!work || capture(work, skb, slots))
		return 0;
	if (config.stacks)
		stack_take(ctx, &work->stack);
	emit(work, index, VERDICT_OVER_LIMIT, CAUSE_NONE);
	return 0;
}

static __noinline int capture_open(void *ctx, struct transmit *transmit, struct sk_buff *skb)
{
	__u32 depth = transmit->depth - 1;
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	struct window *window = window_at(transmit, depth);

	if (!work)
		return 0;
	if (capture(work, skb, window->slots))
		return 0;
	if (config.stacks)
		stack_take(ctx, &work->stack);
	window->flags |= WINDOW_CAPTURED;
	return 0;
}

/* Another driver is handed a packet, or this one while nothing tells what comes of it. */
static __always_inline int observe(void *ctx, struct sk_buff *skb, __u32 index, const bool direct)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);
	struct layout layout;

	if (!counters || layout_read(&layout, skb, 0, direct))
		return 0;
	count(counters, &layout);
	if (config.records && layout.slots > SLOT_LIMIT)
		tell_over_limit(ctx, skb, index, layout.slots);
	return 0;
}

/* The driver is handed a packet. in_driver: the hook is on xennet_start_xmit() itself. */
static __always_inline int transmit_begin(void *ctx, struct sk_buff *skb, struct net_device *dev,
					  const bool in_driver, const bool direct)
{
	struct transmit *transmit;
	struct watched watched;
	struct counters *counters;
	struct layout layout;
	__u32 depth, queue;

	if (!enabled || !watched_find(&watched, dev, in_driver, direct))
		return 0;
	if (!watched.netfront || !config.driver_hooks)
		return observe(ctx, skb, watched.index, direct);
	counters = bpf_map_lookup_elem(&counters_of, &watched.index);
	transmit = transmit_here();
	if (!counters || !transmit)
		return 0;
	queue = LOAD(direct, skb, queue_mapping);
	depth = transmit->depth;
	if (depth)
		depth = close_stale(transmit, (__u64)dev, queue, watched.index);
	depth %= WINDOWS;
	if (layout_read(&layout, skb, depth, direct))
		return 0;
	count(counters, &layout);
	open_window(transmit, depth, skb, dev, &layout, watched.index, queue);
	if (config.records && layout.slots > SLOT_LIMIT)
		capture_open(ctx, transmit, skb);
	return 0;
}

/* The driver is done with a packet. */
static __always_inline int transmit_end(struct sk_buff *skb)
{
	struct transmit *transmit = transmit_here();
	struct window *window;
	__u32 depth;

	if (!transmit || !transmit->depth)
		return 0;
	depth = transmit->depth - 1;
	window = window_at(transmit, depth);
	if (skb && window->skb != (__u64)skb)
		return close_missed(transmit, (__u64)skb);
	transmit->depth = depth;
	if (window->flags & (WINDOW_OVER_LIMIT | WINDOW_BOUNCED))
		settle(window, depth);
	return 0;
}

/* The innermost open window, if it is of the device that this packet is on. */
static __always_inline struct window *window_of(struct transmit *transmit, struct sk_buff *skb)
{
	struct window *window;

	if (!transmit || !transmit->depth)
		return NULL;
	window = window_at(transmit, transmit->depth - 1);
	if ((__u64)BPF_CORE_READ(skb, dev) != window->dev)
		return NULL;
	return window;
}

/* The driver goes on with a copy of the packet. */
static __noinline int bounced(void *ctx, struct transmit *transmit, struct window *window,
			      struct sk_buff *skb)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &window->index);

	window->flags |= WINDOW_BOUNCED;
	if (counters)
		counters->bounced++;
	if (!config.records || window->flags & WINDOW_CAPTURED)
		return 0;
	/* The copy does not tell whose it is: note it now if the copy will be dropped. */
	if (window->flags & WINDOW_WANTS_BOUNCE ||
	    late_cause(skb, (void *)window->dev, window->slots) != CAUSE_UNKNOWN)
		capture_open(ctx, transmit, skb);
	return 0;
}

/* The driver drops the packet, or the copy it went on with. */
static __noinline int dropped(void *ctx, struct transmit *transmit, struct window *window,
			      struct sk_buff *skb)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &window->index);
	__u32 depth = transmit->depth - 1;
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	__u32 cause = drop_cause(window, skb);

	if (!counters || !work || cause >= CAUSES)
		return 0;
	window->flags |= WINDOW_DROPPED;
	counters->dropped++;
	counters->causes[cause]++;
	if (!config.records)
		return 0;
	if (!(window->flags & WINDOW_CAPTURED))
		capture_open(ctx, transmit, skb);
	if (window->flags & WINDOW_CAPTURED)
		emit(work, window->index, VERDICT_DROPPED, cause);
	return 0;
}

/* The any-context free, by its second argument: whatever it drops here is the packet. */
static __always_inline int any_free(void *ctx, struct sk_buff *skb, __u32 reason)
{
	struct transmit *transmit = transmit_here();
	struct window *window = window_of(transmit, skb);

	if (!window)
		return 0;
	if (reason != config.consumed)
		return dropped(ctx, transmit, window, skb);
	if ((__u64)skb == window->skb)
		return bounced(ctx, transmit, window, skb);
	return 0;
}

/* Stands in for the any-context free where there are only tracepoints. */
static __always_inline int traced_free(void *ctx, struct sk_buff *skb, bool consumed)
{
	struct transmit *transmit = transmit_here();
	struct window *window = window_of(transmit, skb);
	bool original;

	if (!window)
		return 0;
	original = (__u64)skb == window->skb;
	if (!original && !(window->flags & WINDOW_BOUNCED))
		return 0;
	/*
	 * Before "net: fix __dev_kfree_skb_any() vs drop monitor" (6.3, 6.1.18,
	 * 5.10.173) a dropped packet was freed as consumed: then it is a bounce
	 * only if the driver had reason for one.
	 */
	if (consumed && config.consume_is_drop)
		consumed = original && bounce_wanted(window, skb);
	if (!consumed)
		return dropped(ctx, transmit, window, skb);
	return original ? bounced(ctx, transmit, window, skb) : 0;
}

#endif
