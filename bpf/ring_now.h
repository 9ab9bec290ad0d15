/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads how full the transmit rings of an interface are now, beside everything that is
 * added up at its packets. Run by BPF_PROG_TEST_RUN, never attached.
 */
#ifndef XENTRACE_RING_NOW_H
#define XENTRACE_RING_NOW_H

#include "pressure.h"

struct rings_now {
	__u32 count;
	__u32 pad;
	struct ring_indices indices[MAX_QUEUES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rings_now);
} rings_now SEC(".maps");

/* From here on the responses of the queue are counted. */
static __always_inline void ring_begin(__u32 place, __u64 queue, const struct ring_indices *indices)
{
	struct transmit_state *state = bpf_map_lookup_elem(&transmit_state_of, &place);

	if (!state)
		return;
	state->queue = queue;
	state->rsp_cons = indices->rsp_cons;
}

/*
 * Returns 0 with the indices in rings_now, 1 if there is no such interface. begin: they
 * are also what is counted from.
 */
static __always_inline int rings_read(__u32 ifindex, __u32 inum, const bool begin)
{
	struct net___list *net = netns_find(inum);
	struct net_device___queues *dev = net ? device_find(net, ifindex) : NULL;
	struct interface *interface = interface_find(ifindex, inum);
	struct rings_now *rings;
	__u32 zero = 0;

	rings = bpf_map_lookup_elem(&rings_now, &zero);
	if (!dev || !rings || !interface)
		return 1;
	rings->count = BPF_CORE_READ(dev, real_num_tx_queues);
	for (__u32 i = 0; i < MAX_QUEUES && i < rings->count; i++) {
		__u64 queue = netfront_queue_of((void *)dev, i);

		if (!queue || indices_read(&rings->indices[i], queue))
			return 1;
		if (begin)
			ring_begin(place_of(interface, i), queue, &rings->indices[i]);
	}
	return 0;
}

#endif
