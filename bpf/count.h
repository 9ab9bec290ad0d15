/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many slots a packet needs, and the counting of it. This is what every
 * packet pays for.
 */
#ifndef XENTRACE_COUNT_H
#define XENTRACE_COUNT_H

#include "maps.h"

/* What the driver sees of a packet when it decides. */
struct layout {
	__u32 len;
	__u32 head_len;
	__u32 head_offset; /* offset_in_page(skb->data) */
	__u32 slots;
};

/* The length and the offset of a fragment are the second word of both kinds of skb_frag_t. */
static __always_inline __u32 frag_slots_typed(__u64 frags, __u32 nr_frags)
{
	__u32 slots = 0;

	for (__u32 i = 0; i < MAX_FRAGS && i < nr_frags; i++) {
		__u64 piece = words_at(frags + i * sizeof(struct frag))->tv_nsec;

		slots += slots_of(piece >> 32, (__u32)piece);
	}
	return slots;
}

/* Reads the fragments into the workspace; returns how many are there. */
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
		struct skb_shared_info *info;

		skb_memory_typed(skb, &memory);
		layout_of(layout, skb, &memory, true);
		shared = shared_info(&memory);
		info = bpf_rdonly_cast((void *)shared,
				       bpf_core_type_id_kernel(struct skb_shared_info));
		layout->slots += frag_slots_typed(shared + frags, info->nr_frags);
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

static __always_inline struct interface *interface_find(__u32 ifindex, __u32 netns)
{
	__u32 hash = (ifindex ^ netns << 8) * 0x9e3779b1u >> INTERFACE_SHIFT;

	for (__u32 i = 0; i < INTERFACE_PROBES; i++) {
		__u32 place = (hash + i) % INTERFACE_PLACES;
		struct interface *entry = bpf_map_lookup_elem(&interfaces, &place);
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

static __always_inline void count(struct counters *counters, const struct layout *layout)
{
	__u64 bucket = layout->slots;

	AT_MOST(bucket, SLOT_BUCKETS - 1);
	counters->slots[bucket]++;
	counters->bytes += layout->len;
	if (layout->slots > SLOT_LIMIT)
		counters->over_limit++;
}

#endif
