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
	__u32 slots;
	__u64 data; /* address */
};

/* Length and offset of a fragment are the second word of both kinds of skb_frag_t. */
static __always_inline __u32 word_slots(__u64 frag)
{
	return slots_of(frag >> 32, (__u32)frag);
}

/* By fours: the loop and the casts are a third of the instructions otherwise. */
static __always_inline __u32 frag_slots_typed(__u64 frags, __u32 nr_frags)
{
	__u64 before = bpf_core_field_offset(struct rusage, ru_maxrss);
	__u32 slots = 0, i = 0;

	for (; i + 4 <= MAX_FRAGS && i + 4 <= nr_frags; i += 4) {
		struct rusage *four =
			TYPED(struct rusage, (void *)(frags + i * sizeof(struct frag) - before));

		slots += word_slots(four->ru_ixrss) + word_slots(four->ru_isrss) +
			 word_slots(four->ru_majflt) + word_slots(four->ru_inblock);
	}
	for (; i < MAX_FRAGS && i < nr_frags; i++)
		slots += word_slots(words_at(frags + i * sizeof(struct frag))->tv_nsec);
	return slots;
}

/* Reads the fragments; returns how many were read. */
static __always_inline __u32 frags_read(struct frag *to, __u64 frags, __u64 nr_frags)
{
	AT_MOST(nr_frags, MAX_FRAGS);
	if (bpf_probe_read_kernel(to, nr_frags * sizeof(struct frag), (void *)frags))
		return 0;
	return nr_frags;
}

static __always_inline __u32 frag_slots(const struct frag *frag)
{
	return slots_of(frag->offset, frag->len);
}

static __always_inline __u32 four_slots(const struct frag *frag)
{
	return frag_slots(frag) + frag_slots(frag + 1) + frag_slots(frag + 2) +
	       frag_slots(frag + 3);
}

/* By eights, then by the low bits of the number: the loop is a third of the instructions otherwise.
 */
static __always_inline __u32 frag_slots_read(struct frag *frag, __u64 frags, __u32 nr_frags)
{
	const struct frag *last = frag + MAX_FRAGS / 8 * 8;
	__u32 slots = 0, left;

	nr_frags = frags_read(frag, frags, nr_frags);
	for (left = nr_frags; left >= 8 && frag < last; left -= 8, frag += 8)
		slots += four_slots(frag) + four_slots(frag + 4);
	if (left & 4) {
		slots += four_slots(frag);
		frag += 4;
	}
	if (left & 2) {
		slots += frag_slots(frag) + frag_slots(frag + 1);
		frag += 2;
	}
	if (left & 1)
		slots += frag_slots(frag);
	return slots;
}

/*
 * The same number, of which the verifier knows nothing: it would follow the rest of the
 * program once for each number of fragments.
 */
static __always_inline __u32 forgotten(struct frag *space, __u32 slots)
{
	WRITE_ONCE(space->len, slots);
	return READ_ONCE(space->len);
}

/*
 * skb_is_nonlinear() decides whether there are fragments: reading their number costs a fifth
 * of everything else here, a probe read as much. (It misses empty fragments of a packet that
 * has no others, which no kernel code makes.)
 */
static __always_inline int layout_read(struct layout *layout, struct sk_buff *skb,
				       struct packet_copy *copy, const enum reads reads)
{
	__u32 first = bpf_core_field_offset(struct skb_shared_info, frags);
	const bool direct = reads != READ_PROBED, typed = reads == READ_TYPED;
	struct skb_members members = {};
	__u64 info;

	if (!direct && skb_read(&members, skb, copy->skb, config.skb_span))
		return -1;
	if (direct) {
		members.len = skb->len;
		members.data_len = skb->data_len;
		members.data = skb_data(skb, true, typed);
	}
	layout->len = members.len;
	layout->data = members.data;
	layout->slots = slots_of(members.data, members.len - members.data_len);
	if (!members.data_len)
		return 0;
	info = direct ? skb_head(skb, true, typed) + skb->end : members.head + members.end;
	if (typed)
		layout->slots += frag_slots_typed(
			info + first, TYPED(struct skb_shared_info, (void *)info)->nr_frags);
	else
		layout->slots +=
			frag_slots_read(copy->frags, info + first,
					BPF_CORE_READ((struct skb_shared_info *)info, nr_frags));
	layout->slots = forgotten(copy->frags, layout->slots);
	return 0;
}

/* The same of any pointer to a packet. */
static __always_inline int layout_of(struct layout *layout, struct sk_buff *skb,
				     struct packet_copy *copy)
{
	if (config.typed_reads)
		return layout_read(layout, TYPED(struct sk_buff, skb), copy, READ_TYPED);
	return layout_read(layout, skb, copy, READ_PROBED);
}

/* A packet that is within the limit. */
static __always_inline void count_within(struct counters *counters, const struct layout *layout)
{
	__u64 bucket = layout->slots;

	AT_MOST(bucket, SLOT_BUCKETS - 1);
	counters->slots[bucket]++;
	counters->bytes += layout->len;
}

static __always_inline void count(struct counters *counters, const struct layout *layout)
{
	count_within(counters, layout);
	if (layout->slots > SLOT_LIMIT)
		counters->over_limit++;
}

/* Finds the entry of an interface; returns NULL if it is not registered. */
static __always_inline struct interface *interface_entry(__u32 *entry, __u32 ifindex, __u32 netns)
{
	__u32 hash = (ifindex ^ netns << 8) * 0x9e3779b1u >> INTERFACE_SHIFT;

	for (__u32 i = 0; i < INTERFACE_PROBES; i++) {
		struct interface *interface;
		__u32 found_ifindex, found_netns;

		*entry = (hash + i) % INTERFACE_ENTRIES;
		interface = bpf_map_lookup_elem(&interfaces, entry);
		if (!interface)
			return NULL;
		found_ifindex = READ_ONCE(interface->ifindex);
		found_netns = READ_ONCE(interface->netns);
		if (!found_ifindex && !found_netns)
			return NULL;
		if (found_ifindex == ifindex && found_netns == netns)
			return interface;
	}
	return NULL;
}

static __always_inline struct interface *interface_find(__u32 ifindex, __u32 netns)
{
	__u32 entry;

	return interface_entry(&entry, ifindex, netns);
}

/* The interface of a device, NULL if it is not registered. */
static __always_inline struct interface *interface_of(struct net_device *dev, const bool direct)
{
	return interface_find(LOAD(direct, dev, ifindex), netns_inum(dev, direct));
}

/* Finds the interface of a device and puts it into the cache. */
static __noinline struct interface *interface_enter(struct interface_cache *cache,
						    struct net_device *dev)
{
	__u32 ifindex = BPF_CORE_READ(dev, ifindex), netns = netns_inum(dev, false), entry;
	__u64 net = (__u64)BPF_CORE_READ(dev, nd_net.net);
	struct interface *interface = interface_entry(&entry, ifindex, netns);

	if (!interface)
		return NULL;
	cache->dev = 0; /* an interrupt may look while the rest is written */
	barrier();
	cache->net = net;
	cache->ifindex = ifindex;
	cache->netns = netns;
	cache->entry = entry;
	barrier();
	cache->dev = (__u64)dev;
	return interface;
}

/*
 * The same by the cache. A device that is gone may have left its address to another one;
 * a network namespace, too. The entry still has to be that of the ifindex and namespace.
 */
static __always_inline struct interface *interface_cached(struct interface_cache *cache,
							  struct net_device *dev, const bool direct)
{
	__u32 ifindex = LOAD(direct, dev, ifindex), entry = cache->entry;
	__u64 net = (__u64)LOAD(direct, dev, nd_net.net);
	struct interface *interface;

	if (cache->dev == (__u64)dev && cache->net == net && cache->ifindex == ifindex) {
		interface = bpf_map_lookup_elem(&interfaces, &entry);
		if (interface && READ_ONCE(interface->ifindex) == ifindex &&
		    READ_ONCE(interface->netns) == cache->netns)
			return interface;
	}
	return interface_enter(cache, dev);
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
	struct cpu_state *cpu = ONLY_ENTRY(cpu_states);
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

static __always_inline bool is_netfront(struct net_device *dev, const bool direct)
{
	const struct net_device_ops *ops;
	__u64 xmit = netfront_xmit;

	if (!xmit)
		return false;
	ops = LOAD(direct, dev, netdev_ops);
	return (__u64)BPF_CORE_READ(ops, ndo_start_xmit) == xmit;
}

/* Stands for interfaces that are not registered yet. */
const struct interface unregistered_interface = {.netfront = 1};

/* Where a device is counted; interface is NULL if it is not registered. NULL: nowhere. */
static __always_inline const struct interface *watched(const struct interface *interface,
						       struct net_device *dev, const bool in_driver,
						       const bool direct)
{
	if (interface)
		return interface;
	if (!config.any_interface || !(in_driver || is_netfront(dev, direct)))
		return NULL;
	report_unregistered(dev, LOAD(direct, dev, ifindex), netns_inum(dev, direct));
	return &unregistered_interface;
}

/* The index of a device of the driver, -1 if it is not counted; puts it into the cache. */
static __noinline int device_enter(struct cpu_state *cpu, struct net_device *dev)
{
	const __u64 now = generation; /* before the look at the interfaces */
	const struct interface *registered, *interface;
	struct device_cache *cache = &cpu->device;

	if (!enabled)
		return -1;
	registered = interface_of(dev, false);
	interface = watched(registered, dev, true, false);
	if (!interface)
		return -1;
	if (now && registered) {
		WRITE_ONCE(cache->generation, now);
		WRITE_ONCE(cache->dev, (__u64)dev);
		WRITE_ONCE(cache->sum, (__u64)dev + registered->index);
	}
	return interface->index;
}

/*
 * The same by the cache. An interrupt may replace it meanwhile: then dev and sum differ by
 * more than an index.
 */
static __always_inline int device_index(struct cpu_state *cpu, struct net_device *dev)
{
	const __u64 cached = READ_ONCE(cpu->device.dev);
	const __u64 index = READ_ONCE(cpu->device.sum) - cached;

	if (cached == (__u64)dev && cpu->device.generation == generation &&
	    index < COUNTED_INTERFACES)
		return index;
	return device_enter(cpu, dev);
}

/* The driver opens a device. (No fetch: not before 5.12.) */
static __always_inline int device_opened(void)
{
	if (generation)
		ATOMIC_ADD(*(__u64 *)&generation, 1);
	return 0;
}

#endif
