/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets in flight: from the entry of xennet_start_xmit() until their fate is known.
 *
 * There is no hook at the return. The driver frees a packet in flight by the any-context
 * free if it drops it or continues with a copy, and not at all if it sends it; in flight
 * means that this CPU owns the xmit lock of the packet's queue. A packet that is to be
 * reported though it was not dropped is settled by the next entry on its CPU, or by a
 * program that userspace runs there.
 *
 * Softirqs are off in between, so a packet stays on its CPU and no other task transmits
 * there. (With PREEMPT_RT one may: such kernels are refused.) Only netpoll in a hard
 * interrupt may transmit on another queue meanwhile; it may also update the same
 * counters, and a count may be lost then.
 */
#ifndef XENTRACE_INFLIGHT_H
#define XENTRACE_INFLIGHT_H

#include "cause.h"
#include "record.h"

static __always_inline struct inflight *inflight_at(struct cpu_state *cpu, __u64 slot)
{
	AT_MOST(slot, INFLIGHT_SLOTS - 1);
	return &cpu->inflight[slot];
}

/* Whether this CPU is in the transmit function of a queue: HARD_TX_LOCK() says so. */
static __always_inline bool transmits_here(struct net_device *dev, __u32 queue)
{
	struct netdev_queue *tx = (void *)BPF_CORE_READ(dev, _tx) +
				  (__u64)queue * bpf_core_type_size(struct netdev_queue);
	__u32 owner;

	return !bpf_core_read(&owner, sizeof(owner), &tx->xmit_lock_owner) &&
	       owner == bpf_get_smp_processor_id();
}

static __always_inline bool in_flight(const struct inflight *inflight)
{
	return transmits_here((void *)inflight->dev, inflight->queue);
}

/* The same at the transmit of another packet: on the packet's own queue that is a later one. */
static __always_inline bool still_in_flight(const struct inflight *inflight, __u64 dev, __u32 queue)
{
	return !(inflight->dev == dev && inflight->queue == queue) && in_flight(inflight);
}

static __always_inline void identify(struct inflight *inflight, struct net_device *dev, __u32 queue)
{
	inflight->dev = (__u64)dev;
	inflight->queue = queue;
	barrier(); /* before it is pending */
}

/* The slot of the packet in flight that skb is, or is the copy of; -1 if there is none. */
static __noinline int inflight_find(struct cpu_state *cpu, struct sk_buff *skb)
{
	for (__u32 slot = 0; slot < INFLIGHT_SLOTS; slot++) {
		struct inflight *inflight = &cpu->inflight[slot];
		bool original = inflight->skb == (__u64)skb;
		struct net_device *dev;
		__u32 queue;

		if (!original && !(inflight->flags & INFLIGHT_BOUNCED))
			continue;
		dev = BPF_CORE_READ(skb, dev);
		queue = BPF_CORE_READ(skb, queue_mapping);
		if ((!original && (__u64)dev != inflight->dev) || !transmits_here(dev, queue))
			continue;
		identify(inflight, dev, queue);
		return slot;
	}
	return -1;
}

/*
 * The fate of a packet is known: sends its record, or counts it. The cause is read from
 * memory, so that the verifier does not follow each one through the capture before.
 */
static __always_inline void conclude(struct inflight *inflight, struct workspace *work,
				     __u32 verdict)
{
	__u32 cause = READ_ONCE(inflight->cause);

	if (config.rate && inflight->flags & INFLIGHT_SUPPRESSED)
		suppressed(inflight->index, verdict, cause);
	else if (config.records && inflight->flags & INFLIGHT_CAPTURED)
		emit(work, inflight->index, verdict, cause);
	inflight->flags = 0;
}

/* Reports a packet that was not dropped. */
static __noinline int settle(struct cpu_state *cpu, __u32 slot)
{
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &slot);
	struct inflight *inflight = inflight_at(cpu, slot);
	__u32 flags = inflight->flags, verdict = VERDICT_SENT;

	if (!work || !(flags & INFLIGHT_PENDING))
		return 0;
	if (flags & INFLIGHT_OVER_LIMIT)
		verdict = VERDICT_LINEARIZED;
	else if (flags & INFLIGHT_BOUNCED)
		verdict = VERDICT_BOUNCED;
	inflight->cause = CAUSE_NONE;
	conclude(inflight, work, verdict);
	return 0;
}

/* An interrupt that transmits uses entry 1. */
static __always_inline void settle_first(struct cpu_state *cpu)
{
	WRITE_ONCE(cpu->settling, 1);
	barrier();
	settle(cpu, 0);
	barrier();
	WRITE_ONCE(cpu->settling, 0);
}

/*
 * Chooses the slot where slot 0 is not free. Slot 1 it is if this transmit interrupts
 * one whose fate is open, or the settling of one.
 */
static __noinline __u32 slot_settled(struct cpu_state *cpu, __u64 dev, __u32 queue)
{
	if (!cpu->settling && !still_in_flight(&cpu->inflight[0], dev, queue)) {
		settle_first(cpu);
		return 0;
	}
	settle(cpu, 1);
	return 1;
}

/* Run by userspace on each CPU, in a hard interrupt or in its own context. */
static __always_inline int settle_all(void)
{
	struct cpu_state *cpu = ONLY_ENTRY(cpu_states);

	if (!cpu || cpu->settling)
		return 0;
	WRITE_ONCE(cpu->announced, 0);
	barrier();
	if (cpu->inflight[0].flags & INFLIGHT_PENDING && !in_flight(&cpu->inflight[0]))
		settle_first(cpu);
	if (cpu->inflight[1].flags & INFLIGHT_PENDING && !in_flight(&cpu->inflight[1]))
		settle(cpu, 1);
	return 0;
}

static __noinline int announce(struct cpu_state *cpu)
{
	__u32 number = bpf_get_smp_processor_id();

	if (!bpf_ringbuf_output(&unsettled, &number, sizeof(number), BPF_RB_FORCE_WAKEUP))
		WRITE_ONCE(cpu->announced, 1);
	return 0;
}

/* What could not be captured is not reported. */
static __always_inline void pending_set(struct cpu_state *cpu, struct inflight *inflight)
{
	if (!(inflight->flags & INFLIGHT_DECIDED))
		return;
	inflight->flags |= INFLIGHT_PENDING;
	barrier();
	if (!READ_ONCE(cpu->announced))
		announce(cpu);
}

static __noinline int capture_inflight(void *ctx, struct cpu_state *cpu, struct sk_buff *skb,
				       __u32 slot)
{
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &slot);
	struct inflight *inflight = inflight_at(cpu, slot);

	if (!work)
		return 0;
	if (config.rate && !record_allowed(skb)) {
		inflight->flags |= INFLIGHT_SUPPRESSED;
		return 0;
	}
	capture_at(ctx, work, slot, skb, inflight->slots);
	inflight->flags |= INFLIGHT_CAPTURED;
	return 0;
}

/* A packet of another driver, or of this one without the hooks that show a drop. */
static __noinline int report_observed(void *ctx, struct sk_buff *skb, __u32 index, __u32 slots)
{
	struct workspace *work = ONLY_ENTRY(workspaces);
	__u32 verdict = slots > SLOT_LIMIT ? VERDICT_OVER_LIMIT : VERDICT_SENT;

	if (!work)
		return 0;
	if (config.rate && !record_allowed(skb))
		return suppressed(index, verdict, CAUSE_NONE);
	capture_at(ctx, work, 0, skb, slots);
	return emit(work, index, verdict, CAUSE_NONE);
}

static __always_inline __u32 flags_of(struct sk_buff *skb, const struct layout *layout)
{
	return (layout->slots > SLOT_LIMIT ? INFLIGHT_OVER_LIMIT : 0) |
	       (is_probe(skb) ? INFLIGHT_PROBE : 0);
}

static __always_inline void inflight_set(struct inflight *inflight, struct sk_buff *skb,
					 const struct layout *layout, __u32 index, __u32 flags)
{
	inflight->skb = (__u64)skb;
	inflight->index = index;
	inflight->slots = layout->slots;
	inflight->flags = flags;
}

/* Whether slot 0 is taken. A packet is pending until its settling is done with the slot. */
static __always_inline bool crowded(const struct cpu_state *cpu)
{
	return cpu->inflight[0].flags & INFLIGHT_PENDING;
}

/*
 * 0 that the compiler does not know. A function that returns nothing else is compiled to leave
 * r0 as it is: "cannot return stack pointer to the caller".
 */
static __always_inline int done(void)
{
	int zero = 0;

	barrier_var(zero);
	return zero;
}

/* Counts a packet, and sets its slot. Returns its flags. Its stack is left before more calls. */
static __noinline int inflight_count(struct cpu_state *cpu, struct sk_buff *skb, __u32 slot,
				     __u32 index)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);
	struct layout layout;
	__u32 flags;

	if (!counters || layout_of(&layout, skb, &cpu->copies[slot & 1]))
		return 0;
	count(counters, &layout);
	flags = flags_of(skb, &layout);
	if (flags & INFLIGHT_OVER_LIMIT)
		counters->linearized++; /* until it is dropped */
	inflight_set(inflight_at(cpu, slot), skb, &layout, index, flags);
	return flags;
}

/* A packet that is to be reported, or that finds slot 0 taken. */
static __noinline int transmit_unusual(void *ctx, struct cpu_state *cpu, struct sk_buff *skb,
				       struct net_device *dev, __u32 index)
{
	__u32 queue = BPF_CORE_READ(skb, queue_mapping), slot = 0;

	if (crowded(cpu))
		slot = slot_settled(cpu, (__u64)dev, queue);
	if (!inflight_count(cpu, skb, slot, index) || !config.records)
		return done();
	identify(inflight_at(cpu, slot), dev, queue);
	capture_inflight(ctx, cpu, skb, slot);
	pending_set(cpu, inflight_at(cpu, slot));
	return done();
}

/* in_driver: the hook is on xennet_start_xmit() itself, and the others are there. */
static __always_inline int transmit_begin(void *ctx, struct sk_buff *skb, struct net_device *dev,
					  const bool in_driver, const enum reads reads)
{
	struct cpu_state *cpu = ONLY_ENTRY(cpu_states);
	const bool direct = reads != READ_PROBED;
	const struct interface *interface;
	struct counters *counters;
	struct layout layout;
	bool judged = true;
	__u32 index;

	if (!cpu)
		return 0;
	if (in_driver) {
		index = device_index(cpu, dev);
		if ((__s32)index < 0)
			return 0;
	} else {
		if (!enabled)
			return 0;
		interface = watched(interface_cached(&cpu->cache, dev, direct), dev, false, direct);
		if (!interface)
			return 0;
		index = interface->index;
		judged = config.driver_hooks && interface->netfront;
	}
	if (judged && (config.probe || crowded(cpu)))
		return transmit_unusual(ctx, cpu, skb, dev, index);
	if (layout_read(&layout, skb, &cpu->copies[0], reads))
		return 0;
	if (judged && layout.slots > SLOT_LIMIT)
		return transmit_unusual(ctx, cpu, skb, dev, index);
	counters = bpf_map_lookup_elem(&counters_of, &index);
	if (!counters)
		return 0;
	if (judged) {
		count_within(counters, &layout);
		inflight_set(&cpu->inflight[0], skb, &layout, index, 0);
		return 0;
	}
	count(counters, &layout);
	if (config.records && flags_of(skb, &layout))
		return report_observed(ctx, skb, index, layout.slots);
	return 0;
}

/* With arguments of types that the verifier knows. */
static __always_inline int transmit_begin_typed(void *ctx, struct sk_buff *skb,
						struct net_device *dev, const bool in_driver)
{
	if (config.typed_reads)
		return transmit_begin(ctx, skb, dev, in_driver, READ_TYPED);
	return transmit_begin(ctx, skb, dev, in_driver, READ_DIRECT);
}

static __always_inline int transmit_begin_untyped(void *ctx, void *skb, void *dev,
						  const bool in_driver)
{
	if (config.typed_reads)
		return transmit_begin(ctx, TYPED(struct sk_buff, skb),
				      TYPED(struct net_device, dev), in_driver, READ_TYPED);
	return transmit_begin(ctx, skb, dev, in_driver, READ_PROBED);
}

/* The driver continues with a copy of the packet. */
static __noinline int bounced(void *ctx, struct cpu_state *cpu, __u32 slot, struct sk_buff *skb)
{
	struct inflight *inflight = inflight_at(cpu, slot);
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &inflight->index);
	bool straddles = head_straddles(skb);

	inflight->flags |= INFLIGHT_BOUNCED;
	if (counters)
		counters->bounced++;
	if (!config.records)
		return 0;
	/* The copy has no socket: capture the original if the copy will be dropped. */
	if (!(inflight->flags & INFLIGHT_DECIDED) &&
	    (straddles || late_cause(skb, (void *)inflight->dev, inflight->slots) != CAUSE_UNKNOWN))
		capture_inflight(ctx, cpu, skb, slot);
	/* Every packet is bounced if the backend is not trusted: counted, not reported. */
	if (straddles)
		pending_set(cpu, inflight);
	return 0;
}

/* The driver drops the packet, or its copy. */
static __noinline int dropped(void *ctx, struct cpu_state *cpu, __u32 slot, struct sk_buff *skb)
{
	struct inflight *inflight = inflight_at(cpu, slot);
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &inflight->index);
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &slot);
	__u32 cause = drop_cause(inflight, skb);

	if (!counters || !work || cause >= CAUSES)
		return 0;
	counters->dropped++;
	counters->causes[cause]++;
	inflight->cause = cause;
	if (inflight->flags & INFLIGHT_OVER_LIMIT)
		counters->linearized--;
	if (config.records && !(inflight->flags & INFLIGHT_DECIDED))
		capture_inflight(ctx, cpu, skb, slot);
	conclude(inflight, work, VERDICT_DROPPED);
	return 0;
}

/*
 * A packet that is in flight here but in no slot: a transmit that interrupted it has
 * taken its slot. Its slots are counted again.
 */
static __noinline int inflight_again(struct cpu_state *cpu, struct sk_buff *skb)
{
	__u32 queue = BPF_CORE_READ(skb, queue_mapping);
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct inflight *inflight = &cpu->inflight[1];
	const struct interface *interface;
	struct layout layout;

	if (!transmits_here(dev, queue) ||
	    (inflight->flags & INFLIGHT_PENDING && still_in_flight(inflight, (__u64)dev, queue)))
		return -1;
	interface = watched(interface_of(dev, false), dev, false, false);
	if (!interface || !interface->netfront)
		return -1;
	settle(cpu, 1);
	if (layout_of(&layout, skb, &cpu->copies[1]))
		return -1;
	inflight_set(inflight, skb, &layout, interface->index, flags_of(skb, &layout));
	identify(inflight, dev, queue);
	return 1;
}

/* The any-context free: a packet that is dropped here is the one in flight, or its copy. */
static __always_inline int any_free(void *ctx, struct sk_buff *skb, __u32 reason)
{
	struct cpu_state *cpu = ONLY_ENTRY(cpu_states);
	int slot;

	if (!cpu)
		return 0;
	slot = inflight_find(cpu, skb);
	if (slot < 0)
		slot = inflight_again(cpu, skb);
	if (slot < 0)
		return 0;
	if (reason != config.consumed)
		return dropped(ctx, cpu, slot, skb);
	if ((__u64)skb == inflight_at(cpu, slot)->skb)
		return bounced(ctx, cpu, slot, skb);
	return 0;
}

/* Stands in for the any-context free where there are only tracepoints. */
static __always_inline int traced_free(void *ctx, struct sk_buff *skb, bool consumed)
{
	struct cpu_state *cpu = ONLY_ENTRY(cpu_states);
	struct inflight *inflight;
	bool original;
	int slot;

	if (!cpu)
		return 0;
	slot = inflight_find(cpu, skb);
	if (slot < 0)
		return 0;
	inflight = inflight_at(cpu, slot);
	original = (__u64)skb == inflight->skb;
	/*
	 * Before "net: fix __dev_kfree_skb_any() vs drop monitor" (6.3, 6.1.18, 5.10.173)
	 * a dropped packet was freed as consumed: then it is a bounce only if the driver
	 * had reason for one.
	 */
	if (consumed && config.consume_is_drop)
		consumed = original && bounce_wanted(inflight, skb);
	if (!consumed)
		return dropped(ctx, cpu, slot, skb);
	return original ? bounced(ctx, cpu, slot, skb) : 0;
}

#endif
