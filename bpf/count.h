/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every packet pays for: finding its interface, counting its slots.
 */
#ifndef XENTRACE_COUNT_H
#define XENTRACE_COUNT_H

#include "maps.h"

/* A packet as the driver sees it at its entry. */
struct layout {
	__u32 len;
	__u32 head_len;
	__u32 head_offset; /* offset_in_page(skb->data) */
	__u32 slots;
};

/* Length and offset of a fragment are the second word of both kinds of skb_frag_t. */
static __always_inline __u32 frag_slots_typed(__u64 frags, __u32 nr_frags)
{
	__u32 slots = 0;

	for (__u32 i = 0; i < MAX_FRAGS && i < nr_frags; i++) {
		__u64 frag = words_at(frags + i * sizeof(struct frag))->tv_nsec;

		slots += slots_of(frag >> 32, (__u32)frag);
	}
	return slots;
}

/* Reads the fragments into the workspace; returns how many were read. */
static __always_inline __u32 frags_read(struct workspace *work, __u64 frags, __u64 nr_frags)
{
	AT_MOST(nr_frags, MAX_FRAGS);
	if (bpf_probe_read_kernel(work->frags, nr_frags * sizeof(struct frag), (void *)frags))
		return 0;
	return nr_frags;
}

static __always_inline __u32 frag_slots_read(__u64 frags, __u32 nr_frags, __u32 depth)
{
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &depth);
	__u32 slots = 0;

	if (!work)
		return 0;
	nr_frags = frags_read(work, frags, nr_frags);
	for (__u32 i = 0; i < MAX_FRAGS && i < nr_frags; i++)
		slots += slots_of(work->frags[i].offset, work->frags[i].len);
	return slots;
}

static __always_inline void layout_of(struct layout *layout, struct sk_buff *skb,
				      const struct skb_memory *memory, const bool direct)
{
	layout->len = LOAD(direct, skb, len);
	layout->head_len = layout->len - LOAD(direct, skb, data_len);
	layout->head_offset = offset_in_page(memory->data, config.page_size);
	layout->slots = slots_of(layout->head_offset, layout->head_len);
}

static __always_inline int layout_read(struct layout *layout, struct sk_buff *skb, __u32 depth,
				       const bool direct)
{
	__u32 frags = bpf_core_field_offset(struct skb_shared_info, frags);
	struct skb_memory memory;
	__u32 nr_frags;
	__u64 shared;

	if (config.typed_reads) {
		skb_memory_typed(skb, &memory);
		layout_of(layout, skb, &memory, true);
		shared = shared_info(&memory);
		nr_frags = TYPED(struct skb_shared_info, (void *)shared)->nr_frags;
		layout->slots += frag_slots_typed(shared + frags, nr_frags);
		return 0;
	}
	if (skb_memory(skb, &memory, direct))
		return -1;
	layout_of(layout, skb, &memory, direct);
	shared = shared_info(&memory);
	nr_frags = BPF_CORE_READ((struct skb_shared_info *)shared, nr_frags);
	if (nr_frags)
		layout->slots += frag_slots_read(shared + frags, nr_frags, depth);
	return 0;
}

static __always_inline void count(struct counters *counters, const struct layout *layout)
{
	__u64 bucket = layout->slots;

	AT_MOST(bucket, SLOT_BUCKETS - 1);
	counters->slots[bucket]++;
	counters->bytes += layout->len;
	if (layout->slots > SLOT_LIMIT)
		counters->over_limit++;
}

static __always_inline struct interface *interface_find(__u32 ifindex, __u32 netns)
{
	__u32 hash = (ifindex ^ netns << 8) * 0x9e3779b1u >> INTERFACE_SHIFT;

	for (__u32 i = 0; i < INTERFACE_PROBES; i++) {
		__u32 index = (hash + i) % INTERFACE_ENTRIES;
		struct interface *entry = bpf_map_lookup_elem(&interfaces, &index);
		__u32 entry_ifindex, entry_netns;

		if (!entry)
			return NULL;
		entry_ifindex = READ_ONCE(entry->ifindex);
		entry_netns = READ_ONCE(entry->netns);
		if (!entry_ifindex && !entry_netns)
			return NULL;
		if (entry_ifindex == ifindex && entry_netns == netns)
			return entry;
	}
	return NULL;
}

/* The interface of a device, NULL if it is not registered. */
static __always_inline struct interface *interface_of(struct net_device *dev, const bool direct)
{
	return interface_find(LOAD(direct, dev, ifindex), netns_inum(dev, direct));
}

static __always_inline struct cpu_state *cpu_state_here(void)
{
	return ONLY_ENTRY(cpu_states);
}

static __always_inline void header_fill(struct event_header *header, __u32 kind,
					struct net_device *dev)
{
	header->kind = kind;
	header->ifindex = BPF_CORE_READ(dev, ifindex);
	header->netns = netns_inum(dev, false);
	header->cpu = bpf_get_smp_processor_id();
}

/* Reports an interface to userspace, again every 1024 packets until it is registered. */
static __noinline int report_unregistered(struct net_device *dev, __u32 ifindex, __u32 netns)
{
	struct cpu_state *cpu = cpu_state_here();
	struct interface_event *event;

	if (!cpu)
		return 0;
	event = &cpu->unregistered;
	if (event->header.ifindex == ifindex && event->header.netns == netns &&
	    ++cpu->unregistered_packets % 1024)
		return 0;
	header_fill(&event->header, EVENT_INTERFACE, dev);
	bpf_core_read(&event->name, sizeof(event->name), &dev->name);
	bpf_ringbuf_output(&events, event, sizeof(*event), BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* A device whose packets are counted. */
struct watched {
	__u32 index; /* into counters_of */
	__u32 netfront;
};

static __always_inline bool is_netfront(struct net_device *dev, const bool direct)
{
	const struct net_device_ops *ops;
	__u64 xmit = netfront_xmit;

	if (!xmit)
		return false;
	ops = LOAD(direct, dev, netdev_ops);
	return (__u64)BPF_CORE_READ(ops, ndo_start_xmit) == xmit;
}

static __always_inline bool watched_find(struct watched *watched, struct net_device *dev,
					 const bool in_driver, const bool direct)
{
	struct interface *interface = interface_of(dev, direct);

	if (interface) {
		watched->index = interface->index;
		watched->netfront = in_driver || interface->netfront;
		return true;
	}
	if (!config.any_interface || !(in_driver || is_netfront(dev, direct)))
		return false;
	report_unregistered(dev, LOAD(direct, dev, ifindex), netns_inum(dev, direct));
	watched->index = 0;
	watched->netfront = 1;
	return true;
}

#endif
