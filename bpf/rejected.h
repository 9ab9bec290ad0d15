/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that the backend rejected. The driver counts and frees them as sent: only the
 * status of a TX response shows it, which xennet_tx_buf_gc() does not look at.
 *
 * All callers hold the queue's tx_lock with interrupts off (5.10 to 7.2): from its entry
 * to the return of the hooks nothing nests on this CPU, no request is added to the ring,
 * and the responses stay there. dev_kfree_skb_irq() only queues a packet for a later
 * softirq: at the return it is still whole, but for skb->next.
 */
#ifndef XENTRACE_REJECTED_H
#define XENTRACE_REJECTED_H

#include "record.h"
#include "tx_ring.h"

/* One run of xennet_tx_buf_gc(). */
struct collection {
	__u64 queue; /* 0: none */
	__u64 ring;  /* its first entry, in the page shared with the backend */
	__u32 cons;  /* rsp_cons at its entry */
	__u32 pad;
	__u64 skbs[RING_SLOTS]; /* tx_skbs at its entry: it clears them */
	struct ring_entry entries[RING_SLOTS];
	struct workspace work; /* its own: this may interrupt a transmit */
};

MAP(collections, PERCPU_ARRAY, 1, __u32, struct collection);

/*
 * Outstanding requests of a queue whose packet was reported already: it has a response
 * for each of its requests, and they may come in several runs. One entry for each queue
 * with such requests, written under its tx_lock only. Full: a packet may be reported
 * again for a later response.
 */
struct reported {
	__u64 ids[RING_SLOTS / 64];
	__u32 cons; /* rsp_cons at the end of the last run; another one means a new connection */
	__u32 pad;
};

#define REPORTED_QUEUES 256

MAP(reported_of, HASH, REPORTED_QUEUES, __u64, struct reported); /* struct netfront_queue */

/*
 * How many queues are in the map, by a hash of their address. Nearly always 0: a run
 * without errors is done early then. A queue that went away with an entry makes only
 * those of the same hash look, until its address is used again.
 */
__u32 reported_queues[REPORTED_QUEUES];

/* struct netfront_queue is larger than a page, so the queues of an interface do not meet. */
static __always_inline __u32 *reported_count(__u64 queue)
{
	return &reported_queues[(queue >> 12) % REPORTED_QUEUES];
}

static __always_inline struct reported *reported_find(const struct collection *run)
{
	return bpf_map_lookup_elem(&reported_of, &run->queue);
}

/* The entry of the queue, made if there is none; NULL if the map is full. */
static __always_inline struct reported *reported_add(const struct collection *run)
{
	struct reported *reported = reported_find(run), fresh = {};

	if (reported)
		return reported;
	if (!bpf_map_update_elem(&reported_of, &run->queue, &fresh, BPF_NOEXIST))
		ATOMIC_ADD(*reported_count(run->queue), 1);
	return reported_find(run);
}

static __always_inline void reported_remove(const struct collection *run)
{
	if (!bpf_map_delete_elem(&reported_of, &run->queue))
		ATOMIC_ADD(*reported_count(run->queue), -1);
}

/* Clears the mark of a request; returns whether it had one. */
static __always_inline bool reported_clear(const struct collection *run, __u32 id)
{
	struct reported *reported = reported_find(run);
	__u64 mark = 1ull << (id % 64), *ids;

	if (!reported)
		return false;
	ids = &reported->ids[id / 64 % (RING_SLOTS / 64)];
	if (!(*ids & mark))
		return false;
	*ids &= ~mark;
	return true;
}

/* The index of the queue's counters; false if they are not watched. */
static __always_inline bool queue_counted(__u32 *index, __u64 queue)
{
	struct interface *interface = queue_interface(queue);

	*index = interface ? interface->index : 0;
	return interface || config.any_interface;
}

/*
 * Global functions from here on: each is verified once, by itself. As one function they
 * exceed the verifier of 6.1, which follows every path again after a loop.
 */

/* Reports a packet, with VERDICT_REJECTED or VERDICT_ACCEPTED. */
__noinline int response_report(__u64 skb, __u32 index, __u32 verdict)
{
	struct collection *run = ONLY_ENTRY(collections);
	struct packet_event *event;

	if (!run)
		return 0;
	event = &run->work.event;
	capture(&run->work, (void *)skb, 0);
	if (config.snap)
		snap_capture(&run->work, (void *)skb);
	event->slots = captured_slots(event);
	event->queue = queue_u32(run->queue, ring_layout.id);
	return emit(&run->work, index, verdict, CAUSE_NONE);
}

__noinline int rejected(__u64 skb)
{
	struct collection *run = ONLY_ENTRY(collections);
	struct counters *counters;
	__u32 index;

	if (!run || !queue_counted(&index, run->queue))
		return 0;
	counters = bpf_map_lookup_elem(&counters_of, &index);
	if (!counters)
		return 0;
	counters->rejected++;
	if (!config.records)
		return 0;
	if (config.rate && !record_allowed((void *)skb))
		return suppressed(index, VERDICT_REJECTED, CAUSE_NONE);
	return response_report(skb, index, VERDICT_REJECTED);
}

/* A request that the backend accepted is reported if it is the probe's. */
__noinline int accepted(__u64 skb)
{
	struct collection *run = ONLY_ENTRY(collections);
	__u32 index;

	if (!run || !is_probe((void *)skb) || !queue_counted(&index, run->queue))
		return 0;
	return response_report(skb, index, VERDICT_ACCEPTED);
}

/* Whether a request is the packet's: 1 or 0, without a branch. */
static __always_inline __u64 is_of(const struct collection *run, __u32 id, __u64 skb)
{
	return 1 ^ nonzero(run->skbs[id] ^ skb);
}

/* Marks the requests of a packet but the one whose response was just read. */
__noinline int reported_note(__u64 skb, __u32 answered)
{
	struct collection *run = ONLY_ENTRY(collections);
	struct reported *reported;
	__u64 found = 0;

	if (!run)
		return 0;
	run->skbs[answered % RING_SLOTS] = 0;
	for (__u32 id = 0; id < RING_SLOTS; id++)
		found |= is_of(run, id, skb);
	if (!found) /* most packets have one request, or all responses in one run */
		return 0;
	reported = reported_add(run);
	if (!reported)
		return 0;
	for (__u32 word = 0; word < RING_SLOTS / 64; word++) {
		__u64 ids = 0;

		for (__u32 bit = 0; bit < 64; bit++)
			ids |= is_of(run, 64 * word + bit, skb) << bit;
		reported->ids[word] |= ids;
	}
	return 0;
}

/* Looks at one response of the run. */
__noinline int responded(__u32 cons)
{
	struct collection *run = ONLY_ENTRY(collections);
	struct ring_entry *entry;
	__u64 skb;

	if (!run)
		return 0;
	entry = &run->entries[cons % RING_SLOTS];
	/* An id that is out of range the driver does not take either: it breaks off. */
	if (entry->status == RESPONSE_NULL || entry->id >= RING_SLOTS)
		return 0;
	if (reported_clear(run, entry->id))
		return 0;
	skb = run->skbs[entry->id % RING_SLOTS];
	if (!skb) /* a frame from xennet_xdp_xmit() has none */
		return 0;
	if (entry->status >= 0)
		return config.probe ? accepted(skb) : 0;
	rejected(skb);
	return reported_note(skb, entry->id);
}

/* Looks at every response of a run, where one is an error or may follow one. */
__noinline int run_judge(__u32 count)
{
	struct collection *run = ONLY_ENTRY(collections);
	struct reported *reported;

	if (!run)
		return 0;
	reported = reported_find(run);
	if (reported && reported->cons != run->cons) /* of a queue that had this address */
		reported_remove(run);
	for (__u32 i = 0; i < RING_SLOTS && i < count; i++)
		responded(run->cons + i);
	reported = reported_find(run);
	if (!reported)
		return 0;
	reported->cons = run->cons + count;
	if (!(reported->ids[0] | reported->ids[1] | reported->ids[2] | reported->ids[3]))
		reported_remove(run);
	return 0;
}

/* Up to so many responses it costs less to read them one by one than the whole ring. */
#define FEW_RESPONSES 12

/* Reads a few responses, each to its entry; returns whether one is an error. */
__noinline int few_errors(__u32 count)
{
	struct collection *run = ONLY_ENTRY(collections);
	__u32 errors = 0;

	if (!run)
		return 0;
	for (__u32 i = 0; i < FEW_RESPONSES && i < count; i++) {
		struct ring_entry *entry = &run->entries[(run->cons + i) % RING_SLOTS];

		bpf_probe_read_kernel(entry, sizeof(*entry),
				      (void *)run->ring +
					      (run->cons + i) % RING_SLOTS * sizeof(*entry));
		errors |= entry->status < 0;
	}
	return errors;
}

/* The same for any number of them. */
__noinline int many_errors(__u32 count)
{
	struct collection *run = ONLY_ENTRY(collections);
	__u32 errors = 0;

	if (!run || bpf_probe_read_kernel(run->entries, sizeof(run->entries), (void *)run->ring))
		return 0;
	for (__u32 i = 0; i < RING_SLOTS && i < count; i++)
		errors |= run->entries[(run->cons + i) % RING_SLOTS].status < 0;
	return errors;
}

/* xennet_tx_buf_gc() begins. */
static __always_inline int collect_begin(__u64 queue)
{
	struct collection *run = ONLY_ENTRY(collections);

	if (!enabled || !run)
		return 0;
	run->queue = 0;
	if (bpf_probe_read_kernel(run->skbs, sizeof(run->skbs),
				  (void *)queue + ring_layout.tx_skbs))
		return 0;
	run->cons = queue_u32(queue, ring_layout.rsp_cons);
	run->queue = queue;
	return 0;
}

/*
 * xennet_tx_buf_gc() is done. It took at most RING_SLOTS responses, since no request was
 * added. Where it stops at a bad one, rsp_cons stays and the device is disabled.
 */
static __always_inline int collect_end(void)
{
	struct collection *run = ONLY_ENTRY(collections);
	__u32 count;
	int errors;

	if (!enabled || !run || !run->queue)
		return 0;
	count = queue_u32(run->queue, ring_layout.rsp_cons) - run->cons;
	if (count && count <= RING_SLOTS) {
		run->ring = ring_of(run->queue);
		errors = count <= FEW_RESPONSES ? few_errors(count) : many_errors(count);
		if (errors || *reported_count(run->queue) || config.probe)
			run_judge(count);
	}
	run->queue = 0;
	return 0;
}

#endif
