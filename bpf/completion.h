/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How long the backend takes for a packet, read at the return of xennet_tx_buf_gc():
 * the responses that it took stay on the ring then, see response.h.
 */
#ifndef XENTRACE_COMPLETION_H
#define XENTRACE_COMPLETION_H

#include "pressure.h"

/* One run, for the functions below, which are verified each by itself. */
struct completion_run {
	__u64 ring; /* its first entry */
	__u64 now;
	__u32 place;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct completion_run);
} completion_runs SEC(".maps");

static __always_inline struct completion_run *completion_run_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&completion_runs, &zero);
}

/* Looks at one response. Only that of a packet's first request has a time. */
__noinline int completed(__u32 cons)
{
	struct completion_run *run = completion_run_here();
	struct queue_counters *counters;
	struct transmit_state *state;
	__u32 entry = 0; /* id, and above it the status */
	__u64 sent;

	if (!run)
		return 0;
	counters = bpf_map_lookup_elem(&queue_counters_of, &run->place);
	state = bpf_map_lookup_elem(&transmit_state_of, &run->place);
	bpf_probe_read_kernel(&entry, sizeof(entry),
			      (void *)run->ring + cons % RING_SLOTS * sizeof(struct ring_entry));
	if (!counters || !state || (__s16)(entry >> 16) == RESPONSE_NULL)
		return 0;
	sent = READ_ONCE(state->sent_ns[entry % RING_SLOTS]);
	if (!sent)
		return 0;
	WRITE_ONCE(state->sent_ns[entry % RING_SLOTS], 0);
	completion_count(counters, run->now - sent);
	return 0;
}

__noinline int completed_all(__u32 cons, __u32 count)
{
	for (__u32 i = 0; i < RING_SLOTS && i < count; i++)
		completed(cons + i);
	return 0;
}

/* Which place the queue is counted in. */
static __always_inline int completion_place(__u32 *place, __u64 queue)
{
	struct net_device *dev = NULL;
	struct interface *interface;
	__u64 info = 0;
	__u32 id = 0;

	bpf_probe_read_kernel(&info, sizeof(info), (void *)queue + ring_layout.info);
	bpf_probe_read_kernel(&dev, sizeof(dev), (void *)info + ring_layout.netdev);
	bpf_probe_read_kernel(&id, sizeof(id), (void *)queue + ring_layout.id);
	interface = interface_find(BPF_CORE_READ(dev, ifindex), netns_inum(dev, false));
	if (!interface)
		return -1;
	*place = place_of(interface, id);
	return 0;
}

/* xennet_tx_buf_gc() has returned. */
static __always_inline int completion_end(__u64 queue)
{
	struct completion_run *run = completion_run_here();
	struct queue_counters *counters;
	struct ring_indices indices;
	struct transmit_state *state;
	__u64 sring = 0;
	__u32 before;

	if (!enabled || !run || completion_place(&run->place, queue) ||
	    indices_read(&indices, queue))
		return 0;
	counters = bpf_map_lookup_elem(&queue_counters_of, &run->place);
	state = bpf_map_lookup_elem(&transmit_state_of, &run->place);
	if (!counters || !state)
		return 0;
	before = state->rsp_cons;
	state->rsp_cons = indices.rsp_cons;
	/* The first run that is seen; or the frontend was connected anew. */
	if (state->queue != queue || indices.rsp_cons - before > RING_SLOTS) {
		state->queue = queue;
		return 0;
	}
	if (indices.rsp_cons == before)
		return 0;
	counters->responses += indices.rsp_cons - before;
	counters->response_runs++;
	bpf_probe_read_kernel(&sring, sizeof(sring), (void *)queue + ring_layout.sring);
	run->ring = sring + ring_layout.ring;
	run->now = bpf_ktime_get_ns();
	return completed_all(before, indices.rsp_cons - before);
}

#endif
