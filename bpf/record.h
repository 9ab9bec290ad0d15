/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of a packet: taken while the packet is whole, sent when its fate is known.
 */
#ifndef XENTRACE_RECORD_H
#define XENTRACE_RECORD_H

#include "conntrack.h"
#include "count.h"
#include "owner.h"
#include "rate.h"
#include "tunnel.h"

/* The reader is woken when it has nothing left to read, and every so many bytes. */
#define WAKE_EVERY (64u << 10)

/* Length of a record with a call stack. */
#define STACKED_PACKET (__builtin_offsetof(struct workspace, stack) + sizeof(struct call_stack))

_Static_assert(__builtin_offsetof(struct workspace, cursor) >= STACKED_PACKET + MAX_SNAP,
	       "there is room for the first bytes of a packet behind its call stack");

/*
 * A wake-up costs more than the record. If it is left out because the reader was just
 * finishing, the record is read late, not never: the reader also polls.
 */
static __always_inline __u64 wake_flags(__u32 size)
{
	__u64 unread = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	if (!unread)
		return 0;
	if (unread / WAKE_EVERY != (unread + size) / WAKE_EVERY)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Atomic: the response hooks may interrupt a transmit. */
static __always_inline void count_lost(__u32 index)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);

	if (counters)
		ATOMIC_ADD(counters->ring_lost, 1);
}

/* Sends a record of which the workspace's event begins after so many bytes. */
static __always_inline void record_send(void *record, const __u64 before, struct workspace *work,
					__u32 index)
{
	__u64 size = work->length;

	AT_MOST(size, STACKED_PACKET + MAX_SNAP);
	size += before;
	if (bpf_ringbuf_output(&events, record, size, wake_flags(size)))
		count_lost(index);
}

static __noinline int emit(struct workspace *work, __u32 index, __u32 verdict, __u32 cause)
{
	work->event.verdict = verdict;
	work->event.cause = cause;
	record_send(work, 0, work, index);
	return 0;
}

/* The idle task sends no packet. */
static __noinline int stack_capture(void *ctx, struct workspace *work)
{
	struct call_stack *stack = &work->stack;
	long bytes;

	stack->nr_kernel = 0;
	stack->nr_user = 0;
	stack->tgid = bpf_get_current_pid_tgid() >> 32;
	if (!stack->tgid)
		return 0;
	bytes = bpf_get_stack(ctx, stack->kernel, sizeof(stack->kernel), 0);
	if (bytes <= 0)
		return 0;
	stack->nr_kernel = bytes / sizeof(stack->kernel[0]);
	bytes = bpf_get_stack(ctx, stack->user, sizeof(stack->user), BPF_F_USER_STACK);
	if (bytes > 0)
		stack->nr_user = bytes / sizeof(stack->user[0]);
	work->length = STACKED_PACKET;
	work->event.stacked = 1;
	return 0;
}

static __noinline int frags_capture(struct workspace *work, __u64 frags, __u32 nr_frags)
{
	nr_frags = frags_read(work->frags, frags, nr_frags);
	work->event.nr_frags = nr_frags;
	work->event.stacked = 0;
	work->length = __builtin_offsetof(struct packet_event, frags) +
		       nr_frags * sizeof(struct event_frag);
	for (__u32 i = 0; i < MAX_FRAGS && i < nr_frags; i++) {
		work->event.frags[i].offset = work->frags[i].offset;
		work->event.frags[i].size = work->frags[i].len;
	}
	return 0;
}

/* Records everything but the stack and the fate of a packet that is still whole. */
static __noinline int capture(struct workspace *work, struct sk_buff *skb, __u32 slots)
{
	struct packet_event *event = &work->event;
	struct skb_shared_info *info = skb_info(skb);
	struct sock *sk = BPF_CORE_READ(skb, sk);

	header_fill(&event->header, EVENT_PACKET, BPF_CORE_READ(skb, dev));
	event->time_ns = bpf_ktime_get_boot_ns();
	event->len = BPF_CORE_READ(skb, len);
	event->head_len = event->len - BPF_CORE_READ(skb, data_len);
	event->head_offset = offset_in_page((__u64)BPF_CORE_READ(skb, data), config.page_size);
	event->slots = slots;
	event->queue = BPF_CORE_READ(skb, queue_mapping);
	event->gso_size = BPF_CORE_READ(info, gso_size);
	event->gso_segs = BPF_CORE_READ(info, gso_segs);
	frags_capture(work, (__u64)info + bpf_core_field_offset(struct skb_shared_info, frags),
		      BPF_CORE_READ(info, nr_frags));
	flows_read(work, skb);
	tcp_state_read(&event->tcp, sk);
	connection_flow(event, sk);
	original_read(event, skb);
	sender_read(&event->sender, socket_read(&event->socket, skb));
	return 0;
}

/* What is longer is no link header. */
#define MAX_LINK_HEADER 64u

/* Length of the link header before the data of a packet that begins with its network header. */
static __always_inline __u32 link_before(struct sk_buff *skb)
{
	__u16 mac = BPF_CORE_READ(skb, mac_header);
	__u32 length = (__u32)BPF_CORE_READ(skb, network_header) - mac;

	return mac == MAC_HEADER_UNSET || length > MAX_LINK_HEADER ? 0 : length;
}

/* Reads the packet's first bytes to the end of the record. */
static __noinline int snap_capture(struct workspace *work, struct sk_buff *skb)
{
	struct packet_event *event = &work->event;
	__u64 at = work->length, size = event->head_len;
	__u64 data = (__u64)BPF_CORE_READ(skb, data);
	__u32 before = event->linkless ? link_before(skb) : 0;

	if (before)
		event->linkless = 0;
	size += before;
	if (size > config.snap)
		size = config.snap;
	AT_MOST(size, MAX_SNAP);
	AT_MOST(at, STACKED_PACKET);
	event->snapped = 0;
	if (!bpf_probe_read_kernel((void *)work + at, size, (void *)(data - before)))
		event->snapped = size;
	work->length = at + event->snapped;
	return 0;
}

/* All of a packet that is still whole. */
static __always_inline void capture_all(void *ctx, struct workspace *work, struct sk_buff *skb,
					__u32 slots)
{
	capture(work, skb, slots);
	if (config.stacks)
		stack_capture(ctx, work);
	if (config.snap)
		snap_capture(work, skb);
}

/* Not static: each is verified once, not at each call. */
__noinline int capture_workspace(__u32 slot, __u32 slots)
{
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &slot);

	if (work)
		capture(work, (void *)READ_ONCE(work->skb), slots);
	return 0;
}

__noinline int snap_workspace(__u32 slot)
{
	struct workspace *work = bpf_map_lookup_elem(&workspaces, &slot);

	if (config.snap && work) /* before 6.8 a function is kept although nothing calls it */
		snap_capture(work, (void *)READ_ONCE(work->skb));
	return 0;
}

/* The same into the workspace of a slot. Typed pointers are no arguments of such functions. */
static __always_inline void capture_at(void *ctx, struct workspace *work, __u32 slot,
				       struct sk_buff *skb, __u32 slots)
{
	WRITE_ONCE(work->skb, (__u64)skb);
	capture_workspace(slot, slots);
	if (config.stacks)
		stack_capture(ctx, work);
	if (config.snap)
		snap_workspace(slot);
}

/* Slots of a captured packet, where they were not counted at its transmit. */
static __noinline int captured_slots(struct packet_event *event)
{
	__u32 slots = slots_of(event->head_offset, event->head_len);

	for (__u32 i = 0; i < MAX_FRAGS && i < event->nr_frags; i++)
		slots += slots_of(event->frags[i].offset, event->frags[i].size);
	return slots;
}

/*
 * The probe: a packet that xentrace sends itself and that is reported whatever its fate.
 * 0: no socket yet. Its headers may have been rewritten, so the socket's cookie counts.
 */
volatile __u64 probe_cookie;

static __always_inline bool is_probe(struct sk_buff *skb)
{
	__u64 wanted;
	struct sock *sk;

	if (!config.probe)
		return false;
	wanted = probe_cookie;
	sk = BPF_CORE_READ(skb, sk);
	return wanted && sk && (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == wanted;
}

#endif
