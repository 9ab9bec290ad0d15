/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Completion time of a packet, read at the return of xennet_tx_buf_gc(): the
 * responses that it consumed stay on the ring, see rejected.h.
 */
#ifndef XENTRACE_TX_COMPLETION_H
#define XENTRACE_TX_COMPLETION_H

#include "tx_queue.h"

/* The response to a timed packet's first request. */
static __noinline int timed_end(__u32 index, __u64 sent)
{
	struct queue_counters *counters = queue_counters_find(index);
	struct transmit_state *state = transmit_state_find(index);

	if (!counters || !state)
		return 0;
	timed_add(state, -1);
	completion_count(counters, bpf_ktime_get_ns() - sent);
	return 0;
}

/* One response, that was found when so many requests had been made. Verified by itself. */
__noinline int completed(__u64 ring, __u32 index, __u32 cons, __u32 req_prod_pvt)
{
	struct transmit_state *state = transmit_state_find(index);
	__u32 entry; /* id, and above it the status */
	__u64 sent;

	if (!tx_queue_config.exchange)
		return 0;
	entry = word_at(ring + cons % RING_SLOTS * sizeof(struct ring_entry), config.typed_reads);
	if (!state || (__s16)(entry >> 16) == RESPONSE_NULL)
		return 0;
	sent = EXCHANGE(state->sent[entry % RING_SLOTS], RESPONDED | req_prod_pvt);
	return is_time(sent) ? timed_end(index, sent) : 0;
}

__noinline int completed_all(__u64 ring, __u32 index, __u32 cons, __u32 count, __u32 req_prod_pvt)
{
	for (__u32 i = 0; i < RING_SLOTS && i < count; i++)
		completed(ring, index, cons + i, req_prod_pvt);
	return 0;
}

/* Requests of an earlier connection of the frontend have no responses in this one. */
__noinline int sent_forget(__u32 index)
{
	struct transmit_state *state = transmit_state_find(index);

	if (!state || !tx_queue_config.exchange)
		return 0;
	for (__u32 i = 0; i < RING_SLOTS; i++)
		if (is_time(EXCHANGE(state->sent[i], 0)))
			timed_add(state, -1);
	return 0;
}

/* Up to 6.1.148 and 6.12.42 it also runs in each transmit, mostly without a response. */
static __always_inline bool nothing_responded(struct queue_cpu *cpu, __u64 queue, __u32 rsp_cons)
{
	if (cpu->completed == queue && cpu->rsp_cons == rsp_cons)
		return true;
	cpu->completed = queue;
	cpu->rsp_cons = rsp_cons;
	return false;
}

/* netdev_priv() backwards, which needs half as many reads as queue_interface(). */
static __always_inline struct interface *interface_completed(struct queue_cpu *cpu, __u64 queue)
{
	__u64 dev = word_at(queue + ring_layout.info, config.typed_reads) - config.priv_offset;

	if (config.priv_offset < 0)
		return queue_interface(queue);
	if (config.typed_reads)
		return interface_cached(&cpu->cache, TYPED(struct net_device, (void *)dev), true);
	return interface_cached(&cpu->cache, (void *)dev, false);
}

/* xennet_tx_buf_gc() has returned. */
static __always_inline int completion_end(__u64 queue)
{
	struct queue_cpu *cpu = ONLY_ENTRY(queue_cpus);
	struct queue_counters *counters;
	struct transmit_state *state;
	struct interface *interface;
	struct ring_indices indices;
	__u32 before, index;

	if (!enabled || !cpu || indices_read(&indices, queue) ||
	    nothing_responded(cpu, queue, indices.rsp_cons))
		return 0;
	interface = interface_completed(cpu, queue);
	if (!interface)
		return 0;
	index = index_of(interface, queue_u32(queue, ring_layout.id));
	counters = queue_counters_find(index);
	state = transmit_state_find(index);
	if (!counters || !state)
		return 0;
	before = state->rsp_cons;
	state->rsp_cons = indices.rsp_cons;
	/* The first run, or the frontend was connected again. */
	if (state->queue != queue || indices.rsp_cons - before > RING_SLOTS) {
		sent_forget(index);
		WRITE_ONCE(state->queue, queue);
		return 0;
	}
	if (indices.rsp_cons == before)
		return 0;
	counters->responses += indices.rsp_cons - before;
	counters->response_runs++;
	/* A packet that is timed from now on is put on the ring after this. */
	if (!READ_ONCE(state->timed))
		return 0;
	return completed_all(ring_of(queue), index, before, indices.rsp_cons - before,
			     indices.req_prod_pvt);
}

struct rings_now {
	__u32 count;
	__u32 pad;
	struct ring_indices indices[MAX_QUEUES];
};

MAP(rings_now, ARRAY, 1, __u32, struct rings_now);

/*
 * Reads the ring indices of an interface for userspace. Returns 0 with them in rings_now,
 * 1 if there is no such interface. begin: responses are counted from these on.
 */
static __always_inline int rings_read(__u32 ifindex, __u32 inum, const bool begin)
{
	struct net_device *dev = device_find(ifindex, inum);
	struct interface *interface = interface_find(ifindex, inum);
	struct rings_now *rings = ONLY_ENTRY(rings_now);

	if (!dev || !rings || !interface)
		return 1;
	rings->count = BPF_CORE_READ(dev, real_num_tx_queues);
	for (__u32 i = 0; i < MAX_QUEUES && i < rings->count; i++) {
		__u64 queue = netfront_queue_of(dev, i);
		struct transmit_state *state;

		if (!queue || indices_read(&rings->indices[i], queue))
			return 1;
		state = begin ? transmit_state_find(index_of(interface, i)) : NULL;
		if (!state)
			continue;
		state->queue = queue;
		state->rsp_cons = rings->indices[i].rsp_cons;
	}
	return 0;
}

#endif
