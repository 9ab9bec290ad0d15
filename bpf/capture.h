/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of a packet that went wrong: taken while the packet is whole, sent
 * when its fate is known.
 */
#ifndef XENTRACE_CAPTURE_H
#define XENTRACE_CAPTURE_H

#include "callstack.h"
#include "count.h"
#include "flow.h"

/* The reader is woken when it has nothing left to read, and every so many bytes. */
#define WAKE_EVERY (64u << 10)

static __always_inline void header_fill(struct event_header *header, __u32 kind,
					struct net_device *dev)
{
	header->kind = kind;
	header->ifindex = BPF_CORE_READ(dev, ifindex);
	header->netns = netns_inum(dev, false);
	header->cpu = bpf_get_smp_processor_id();
}

/*
 * A wake-up costs more than the record. One that is left out because the reader
 * was just finishing comes late, not never: the reader looks by itself as well.
 */
static __always_inline __u64 wake_flags(__u32 size)
{
	__u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	if (!waiting)
		return 0;
	if (waiting / WAKE_EVERY != (waiting + size) / WAKE_EVERY)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __noinline int frags_capture(struct workspace *work, __u64 frags, __u32 nr_frags)
{
	nr_frags = frags_read(work, frags, nr_frags);
	work->event.nr_frags = nr_frags;
	for (__u32 i = 0; i < MAX_FRAGS && i < nr_frags; i++) {
		work->event.frags[i].offset = work->frags[i].offset;
		work->event.frags[i].size = work->frags[i].len;
	}
	return 0;
}

/* Notes everything about a packet that is still whole. */
static __noinline int capture(struct workspace *work, struct sk_buff *skb, __u32 slots)
{
	struct packet_event *event = &work->event;
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct skb_memory memory;
	struct skb_shared_info *info;

	if (skb_memory(skb, &memory, false))
		return -1;
	info = (void *)shared_info(&memory);
	header_fill(&event->header, EVENT_PACKET, dev);
	event->time_ns = bpf_ktime_get_boot_ns();
	event->len = BPF_CORE_READ(skb, len);
	event->head_len = event->len - BPF_CORE_READ(skb, data_len);
	event->head_offset = offset_in_page(memory.data, config.page_size);
	event->slots = slots;
	event->queue = BPF_CORE_READ(skb, queue_mapping);
	event->gso_size = BPF_CORE_READ(info, gso_size);
	event->gso_segs = BPF_CORE_READ(info, gso_segs);
	frags_capture(work, (__u64)info + bpf_core_field_offset(struct skb_shared_info, frags),
		      BPF_CORE_READ(info, nr_frags));
	flow_read(&event->flow, skb);
	tcp_read(&event->tcp, skb);
	sender_read(&event->sender, socket_read(&event->socket, skb));
	return 0;
}

/* What its parts add up to, for a packet that the driver was handed before, or never. */
static __noinline int captured_slots(struct packet_event *event)
{
	__u32 slots = slots_of(event->head_offset, event->head_len);

	for (__u32 i = 0; i < MAX_FRAGS && i < event->nr_frags; i++)
		slots += slots_of(event->frags[i].offset, event->frags[i].size);
	return slots;
}

/* How long the record of a packet with a stack is. */
#define STACKED_PACKET (__builtin_offsetof(struct workspace, stack) + sizeof(struct call_stack))

static __noinline int emit(struct workspace *work, __u32 index, __u32 verdict, __u32 cause)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);
	struct packet_event *event = &work->event;
	__u64 size = event->nr_frags;
	long lost;

	AT_MOST(size, MAX_FRAGS);
	event->verdict = verdict;
	event->cause = cause;
	size = __builtin_offsetof(struct packet_event, frags) + size * sizeof(struct event_frag);
	if (config.stacks && work->stack.nr_kernel)
		lost = bpf_ringbuf_output(&events, event, STACKED_PACKET,
					  wake_flags(STACKED_PACKET));
	else
		lost = bpf_ringbuf_output(&events, event, size, wake_flags(size));
	if (lost && counters)
		__sync_fetch_and_add(&counters->ring_lost,
				     1); /* the response hooks may interrupt */
	return 0;
}

#endif
