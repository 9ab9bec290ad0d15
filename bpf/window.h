/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The transmit window: what is known between the entry of xennet_start_xmit()
 * and the verdict on its packet.
 *
 * Bottom halves are off in between, so a window stays on its CPU and no other task
 * transmits there. (With PREEMPT_RT one may: such kernels are refused.) Windows nest
 * where one device's transmission is inside another's (VLAN, bridge or bond with
 * the tracepoints; netpoll in an interrupt), hence the stack of them. One whose
 * end was missed is settled when its device and queue, which are locked
 * meanwhile, come by again. netpoll in a hard interrupt may transmit on another queue
 * of the interface and update the same counters: a count may be lost then.
 */
#ifndef XENTRACE_WINDOW_H
#define XENTRACE_WINDOW_H

#include "capture.h"

static __always_inline struct transmit *transmit_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&transmits, &zero);
}

/* The mask is for the verifier, which does not see that a depth stays below WINDOWS. */
static __always_inline struct window *window_at(struct transmit *transmit, __u64 depth)
{
	barrier_var(depth);
	return &transmit->windows[depth % WINDOWS];
}

/* Gives the verdict on a packet that was not dropped. */
static __noinline int settle(struct window *window, __u32 depth)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &window->index);
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	__u32 verdict = VERDICT_BOUNCED;

	if (window->flags & WINDOW_DROPPED || !counters || !work)
		return 0;
	if (window->flags & WINDOW_OVER_LIMIT) {
		counters->linearized++;
		verdict = VERDICT_LINEARIZED;
	} else if (!(window->flags & WINDOW_BOUNCED)) {
		if (!(window->flags & WINDOW_PROBE))
			return 0;
		verdict = VERDICT_SENT;
	}
	/* Every packet is bounced if the backend is not trusted: counted, not told. */
	if (verdict == VERDICT_BOUNCED && !(window->flags & (WINDOW_WANTS_BOUNCE | WINDOW_PROBE)))
		return 0;
	if (config.records && window->flags & WINDOW_CAPTURED)
		emit(work, window->index, verdict, CAUSE_NONE);
	return 0;
}

/* Settles the windows from this depth up and closes them. */
static __noinline int close_from(struct transmit *transmit, __u32 first)
{
	for (__u32 i = 0; i < WINDOWS; i++) {
		if (i < first || i >= transmit->depth)
			continue;
		settle(&transmit->windows[i], i);
	}
	transmit->depth = first;
	return 0;
}

/*
 * Makes room for a window of this device and queue; returns its depth. One that is left
 * of a device which is gone, and had this one's address, gets no verdict any more: its
 * interface was counted elsewhere.
 */
static __noinline int close_stale(struct transmit *transmit, __u64 dev, __u32 queue, __u32 index)
{
	__u32 depth = transmit->depth;

	for (__u32 i = 0; i < WINDOWS; i++) {
		struct window *window = &transmit->windows[i];

		if (i >= depth)
			break;
		if (window->dev == dev && window->queue == queue) {
			if (window->index == index)
				close_from(transmit, i);
			return i;
		}
	}
	if (depth >= WINDOWS) {
		close_from(transmit, 0);
		return 0;
	}
	return depth;
}

/* Closes the window of this packet, and those above it whose end was missed. */
static __noinline int close_missed(struct transmit *transmit, __u64 skb)
{
	__u32 depth = transmit->depth;

	for (__u32 i = 0; i < WINDOWS; i++) {
		if (i >= depth)
			break;
		if (transmit->windows[i].skb == skb) {
			close_from(transmit, i);
			break;
		}
	}
	return 0;
}

static __always_inline void open_window(struct transmit *transmit, __u32 depth, struct sk_buff *skb,
					struct net_device *dev, const struct layout *layout,
					__u32 index, __u32 queue)
{
	struct window *window;
	__u16 flags = 0;

	if (layout->slots > SLOT_LIMIT)
		flags |= WINDOW_OVER_LIMIT;
	if (head_wants_bounce(layout->head_offset, config.page_size))
		flags |= WINDOW_WANTS_BOUNCE;
	window = window_at(transmit, depth);
	window->skb = (__u64)skb;
	window->dev = (__u64)dev;
	window->index = index;
	window->slots = layout->slots;
	window->queue = queue;
	window->flags = flags;
	transmit->depth = depth + 1;
}

#endif
