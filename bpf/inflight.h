/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets in flight: from the entry of xennet_start_xmit() to the verdict.
 *
 * Softirqs are off in between, so a packet stays on its CPU and no other task transmits
 * there. (With PREEMPT_RT one may: such kernels are refused.) Transmits nest where one
 * device sends through another (VLAN, bridge or bond, with the tracepoints; netpoll in
 * an interrupt), hence a stack of them. One whose end was missed is settled when its
 * device and queue, which are locked meanwhile, come by again. netpoll in a hard
 * interrupt may send on another queue of the interface and update the same counters:
 * a count may be lost then.
 */
#ifndef XENTRACE_INFLIGHT_H
#define XENTRACE_INFLIGHT_H

#include "cause.h"
#include "record.h"

/* The mask is for the verifier, which does not see that depth is below MAX_INFLIGHT. */
static __always_inline struct inflight *inflight_at(struct cpu_state *cpu, __u64 depth)
{
	barrier_var(depth);
	return &cpu->inflight[depth % MAX_INFLIGHT];
}

/* The innermost one, if it is of the device that this packet is on. */
static __always_inline struct inflight *inflight_of(struct cpu_state *cpu, struct sk_buff *skb)
{
	struct inflight *inflight;

	if (!cpu || !cpu->depth)
		return NULL;
	inflight = inflight_at(cpu, cpu->depth - 1);
	return (__u64)BPF_CORE_READ(skb, dev) == inflight->dev ? inflight : NULL;
}

/* The verdict on a packet that was not dropped. */
static __noinline int settle(struct inflight *inflight, __u32 depth)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &inflight->index);
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	__u32 verdict = VERDICT_BOUNCED;

	if (inflight->flags & INFLIGHT_DROPPED || !counters || !work)
		return 0;
	if (inflight->flags & INFLIGHT_OVER_LIMIT) {
		counters->linearized++;
		verdict = VERDICT_LINEARIZED;
	} else if (!(inflight->flags & INFLIGHT_BOUNCED)) {
		if (!(inflight->flags & INFLIGHT_PROBE))
			return 0;
		verdict = VERDICT_SENT;
	}
	/* Every packet is bounced if the backend is not trusted: counted, not reported. */
	if (verdict == VERDICT_BOUNCED &&
	    !(inflight->flags & (INFLIGHT_WANTS_BOUNCE | INFLIGHT_PROBE)))
		return 0;
	if (config.records && inflight->flags & INFLIGHT_CAPTURED)
		emit(work, inflight->index, verdict, CAUSE_NONE);
	return 0;
}

/* Settles those from this depth up. */
static __noinline int settle_from(struct cpu_state *cpu, __u32 first)
{
	for (__u32 i = 0; i < MAX_INFLIGHT; i++) {
		if (i < first || i >= cpu->depth)
			continue;
		settle(&cpu->inflight[i], i);
	}
	cpu->depth = first;
	return 0;
}

/*
 * Settles what was missed on this device and queue; returns the depth for the next
 * packet. If the device is gone and another has its address, which the index shows, it
 * gets no verdict.
 */
static __noinline int settle_stale(struct cpu_state *cpu, __u64 dev, __u32 queue, __u32 index)
{
	__u32 depth = cpu->depth;

	for (__u32 i = 0; i < MAX_INFLIGHT; i++) {
		struct inflight *inflight = &cpu->inflight[i];

		if (i >= depth)
			break;
		if (inflight->dev == dev && inflight->queue == queue) {
			if (inflight->index == index)
				settle_from(cpu, i);
			return i;
		}
	}
	if (depth >= MAX_INFLIGHT) {
		settle_from(cpu, 0);
		return 0;
	}
	return depth;
}

/* Settles this packet, and those above it whose end was missed. */
static __noinline int settle_missed(struct cpu_state *cpu, __u64 skb)
{
	__u32 depth = cpu->depth;

	for (__u32 i = 0; i < MAX_INFLIGHT; i++) {
		if (i >= depth)
			break;
		if (cpu->inflight[i].skb == skb) {
			settle_from(cpu, i);
			break;
		}
	}
	return 0;
}

static __always_inline int capture_with_stack(void *ctx, struct workspace *work,
					      struct sk_buff *skb, __u32 slots)
{
	if (capture(work, skb, slots))
		return -1;
	if (config.stacks)
		stack_capture(ctx, &work->stack);
	return 0;
}

static __noinline int capture_inflight(void *ctx, struct cpu_state *cpu, struct sk_buff *skb)
{
	__u32 depth = cpu->depth - 1;
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	struct inflight *inflight = inflight_at(cpu, depth);

	if (work && !capture_with_stack(ctx, work, skb, inflight->slots))
		inflight->flags |= INFLIGHT_CAPTURED;
	return 0;
}

/* A packet of another driver; over the limit, xen-netfront would not send it as it is. */
static __noinline int report_observed(void *ctx, struct sk_buff *skb, __u32 index, __u32 slots)
{
	struct workspace *work = ONLY_ENTRY(workspaces);

	if (work && !capture_with_stack(ctx, work, skb, slots))
		emit(work, index, slots > SLOT_LIMIT ? VERDICT_OVER_LIMIT : VERDICT_SENT,
		     CAUSE_NONE);
	return 0;
}

/* The entry of another driver, or of this one without the hooks that show a packet's fate. */
static __always_inline int observe(void *ctx, struct sk_buff *skb, __u32 index, const bool direct)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);
	struct layout layout;

	if (!counters || layout_read(&layout, skb, 0, direct))
		return 0;
	count(counters, &layout);
	if (config.records && (layout.slots > SLOT_LIMIT || is_probe(skb)))
		report_observed(ctx, skb, index, layout.slots);
	return 0;
}

/* in_driver: the hook is on xennet_start_xmit() itself. */
static __always_inline int transmit_begin(void *ctx, struct sk_buff *skb, struct net_device *dev,
					  const bool in_driver, const bool direct)
{
	struct inflight *inflight;
	struct cpu_state *cpu;
	struct watched watched;
	struct counters *counters;
	struct layout layout;
	__u32 depth, queue;
	__u16 flags = 0;

	if (!enabled || !watched_find(&watched, dev, in_driver, direct))
		return 0;
	if (!watched.netfront || !config.driver_hooks)
		return observe(ctx, skb, watched.index, direct);
	counters = bpf_map_lookup_elem(&counters_of, &watched.index);
	cpu = cpu_state_here();
	if (!counters || !cpu)
		return 0;
	queue = LOAD(direct, skb, queue_mapping);
	depth = cpu->depth;
	if (depth)
		depth = settle_stale(cpu, (__u64)dev, queue, watched.index);
	depth %= MAX_INFLIGHT;
	if (layout_read(&layout, skb, depth, direct))
		return 0;
	count(counters, &layout);
	if (layout.slots > SLOT_LIMIT)
		flags |= INFLIGHT_OVER_LIMIT;
	if (head_wants_bounce(layout.head_offset, config.page_size))
		flags |= INFLIGHT_WANTS_BOUNCE;
	if (is_probe(skb))
		flags |= INFLIGHT_PROBE;
	inflight = inflight_at(cpu, depth);
	inflight->skb = (__u64)skb;
	inflight->dev = (__u64)dev;
	inflight->index = watched.index;
	inflight->slots = layout.slots;
	inflight->queue = queue;
	inflight->flags = flags;
	cpu->depth = depth + 1;
	if (config.records && flags & (INFLIGHT_OVER_LIMIT | INFLIGHT_PROBE))
		capture_inflight(ctx, cpu, skb);
	return 0;
}

static __always_inline int transmit_begin_untyped(void *ctx, void *skb, void *dev,
						  const bool in_driver)
{
	if (config.typed_reads)
		return transmit_begin(ctx, TYPED(struct sk_buff, skb),
				      TYPED(struct net_device, dev), in_driver, true);
	return transmit_begin(ctx, skb, dev, in_driver, false);
}

/* The driver is done with a packet. */
static __always_inline int transmit_end(struct sk_buff *skb)
{
	struct cpu_state *cpu = cpu_state_here();
	struct inflight *inflight;
	__u32 depth;

	if (!cpu || !cpu->depth)
		return 0;
	depth = cpu->depth - 1;
	inflight = inflight_at(cpu, depth);
	if (skb && inflight->skb != (__u64)skb)
		return settle_missed(cpu, (__u64)skb);
	cpu->depth = depth;
	if (inflight->flags & (INFLIGHT_OVER_LIMIT | INFLIGHT_BOUNCED | INFLIGHT_PROBE))
		settle(inflight, depth);
	return 0;
}

/* The driver goes on with a copy of the packet. */
static __noinline int bounced(void *ctx, struct cpu_state *cpu, struct inflight *inflight,
			      struct sk_buff *skb)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &inflight->index);

	inflight->flags |= INFLIGHT_BOUNCED;
	if (counters)
		counters->bounced++;
	if (!config.records || inflight->flags & INFLIGHT_CAPTURED)
		return 0;
	/* The copy has no socket: capture the original if the copy will be dropped. */
	if (inflight->flags & INFLIGHT_WANTS_BOUNCE ||
	    late_cause(skb, (void *)inflight->dev, inflight->slots) != CAUSE_UNKNOWN)
		capture_inflight(ctx, cpu, skb);
	return 0;
}

/* The driver drops the packet, or its copy. */
static __noinline int dropped(void *ctx, struct cpu_state *cpu, struct inflight *inflight,
			      struct sk_buff *skb)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &inflight->index);
	__u32 depth = cpu->depth - 1;
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	__u32 cause = drop_cause(inflight, skb);

	if (!counters || !work || cause >= CAUSES)
		return 0;
	inflight->flags |= INFLIGHT_DROPPED;
	counters->dropped++;
	counters->causes[cause]++;
	if (!config.records)
		return 0;
	if (!(inflight->flags & INFLIGHT_CAPTURED))
		capture_inflight(ctx, cpu, skb);
	if (inflight->flags & INFLIGHT_CAPTURED)
		emit(work, inflight->index, VERDICT_DROPPED, cause);
	return 0;
}

/* The any-context free: a packet that is dropped here is the one in flight, or its copy. */
static __always_inline int any_free(void *ctx, struct sk_buff *skb, __u32 reason)
{
	struct cpu_state *cpu = cpu_state_here();
	struct inflight *inflight = inflight_of(cpu, skb);

	if (!inflight)
		return 0;
	if (reason != config.consumed)
		return dropped(ctx, cpu, inflight, skb);
	if ((__u64)skb == inflight->skb)
		return bounced(ctx, cpu, inflight, skb);
	return 0;
}

/* Stands in for the any-context free where there are only tracepoints. */
static __always_inline int traced_free(void *ctx, struct sk_buff *skb, bool consumed)
{
	struct cpu_state *cpu = cpu_state_here();
	struct inflight *inflight = inflight_of(cpu, skb);
	bool original;

	if (!inflight)
		return 0;
	original = (__u64)skb == inflight->skb;
	if (!original && !(inflight->flags & INFLIGHT_BOUNCED))
		return 0;
	/*
	 * Before "net: fix __dev_kfree_skb_any() vs drop monitor" (6.3, 6.1.18, 5.10.173)
	 * a dropped packet was freed as consumed: then it is a bounce only if the driver
	 * had reason for one.
	 */
	if (consumed && config.consume_is_drop)
		consumed = original && bounce_wanted(inflight, skb);
	if (!consumed)
		return dropped(ctx, cpu, inflight, skb);
	return original ? bounced(ctx, cpu, inflight, skb) : 0;
}

#endif
