/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that the backend refused: the driver frees them as it frees those that
 * were sent, and counts them as sent. Only the statuses of the responses tell,
 * which xennet_tx_buf_gc() takes from the shared ring and does not look at.
 *
 * All of its callers hold the queue's tx_lock with interrupts off (5.10 to 7.2), so
 * that from its entry to the return of the hooks nothing nests on this CPU, no request
 * is added to the ring, and the responses that it took stay there. It frees by
 * dev_kfree_skb_irq(), which only queues the packet for a later softirq of this CPU:
 * at its return a packet is still whole, but for skb->next.
 */
#ifndef XENTRACE_RESPONSE_H
#define XENTRACE_RESPONSE_H

#include "capture.h"
#include "probe.h"
#include "ring.h"

/* One run of xennet_tx_buf_gc(). */
struct collection {
	__u64 queue; /* 0: none */
	__u64 ring;  /* its first entry, in the page shared with the backend */
	__u32 cons;  /* rsp_cons at its entry */
	__u32 pad;
	__u64 skbs[RING_SLOTS]; /* tx_skbs at its entry: it clears them */
	struct ring_entry entries[RING_SLOTS];
	struct workspace work; /* not one of the workspaces: this may interrupt a transmission */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct collection);
} collections SEC(".maps");

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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, REPORTED_QUEUES);
	__type(key, __u64); /* struct netfront_queue */
	__type(value, struct reported);
} reported_of SEC(".maps");

/*
 * How many queues are in the map, by a hash of their address. Nearly always 0: a run
 * without errors is done early then. A queue that went away with an entry makes only
 * those of the same hash look, until its address is used again.
 */
__u32 reported_queues[REPORTED_QUEUES];

static __always_inline struct collection *collection_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&collections, &zero);
}

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
		__sync_fetch_and_add(reported_count(run->queue), 1);
	return reported_find(run);
}

static __always_inline void reported_remove(const struct collection *run)
{
	if (!bpf_map_delete_elem(&reported_of, &run->queue))
		__sync_fetch_and_add(reported_count(run->queue), -1);
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

/* The place in the counters, or none. Whatever was refused was sent before, and told of then. */
static __always_inline bool queue_counted(__u32 *index, __u64 queue)
{
	struct net_device *dev = NULL;
	struct interface *interface;
	__u64 info = 0;

	bpf_probe_read_kernel(&info, sizeof(info), (void *)queue + ring_layout.info);
	bpf_probe_read_kernel(&dev, sizeof(dev), (void *)info + ring_layout.netdev);
	interface = interface_find(BPF_CORE_READ(dev, ifindex), netns_inum(dev, false));
	*index = interface ? interface->index : 0;
	return interface || config.any_interface;
}

/*
 * The global functions from here on are verified each by itself and once. In one
 * piece they are too much for 6.1, which follows every path again behind a capture and
 * in each turn of a loop.
 */

/* Notes everything about a packet that the backend has answered. */
__noinline int answered_capture(__u64 skb)
{
	struct collection *run = collection_here();

	return run ? capture(&run->work, (void *)skb, 0) : -1;
}

/* Tells of the packet that was noted, with VERDICT_REJECTED or VERDICT_ACCEPTED. */
__noinline int answered_emit(__u32 index, __u32 verdict)
{
	struct collection *run = collection_here();
	struct packet_event *event;

	if (!run)
		return 0;
	event = &run->work.event;
	event->slots = captured_slots(event);
	bpf_probe_read_kernel(&event->queue, sizeof(event->queue),
			      (void *)run->queue + ring_layout.id);
	return emit(&run->work, index, verdict, CAUSE_NONE);
}

/* Counts a refused packet and tells of it. */
__noinline int rejected(__u64 skb)
{
	struct collection *run = collection_here();
	struct counters *counters;
	__u32 index;

	if (!run || !queue_counted(&index, run->queue))
		return 0;
	counters = bpf_map_lookup_elem(&counters_of, &index);
	if (!counters)
		return 0;
	counters->rejected++;
	if (config.records && !answered_capture(skb))
		answered_emit(index, VERDICT_REJECTED);
	return 0;
}

/* Tells of a request that the backend took, if it is one of the probe's. */
__noinline int accepted(__u64 skb)
{
	struct collection *run = collection_here();
	__u32 index;

	if (!run || !is_probe((void *)skb) || !queue_counted(&index, run->queue))
		return 0;
	if (!answered_capture(skb))
		answered_emit(index, VERDICT_ACCEPTED);
	return 0;
}

/* 1 if they are the same, without a branch: in a loop each would double the verifier's paths. */
static __always_inline __u64 is_same(__u64 a, __u64 b)
{
	__u64 difference = a ^ b;

	return ~(difference | -difference) >> 63;
}

/* Marks the requests of a packet but the one that was just answered. */
__noinline int reported_note(__u64 skb, __u32 answered)
{
	struct collection *run = collection_here();
	struct reported *reported;
	__u64 found = 0;

	if (!run)
		return 0;
	run->skbs[answered % RING_SLOTS] = 0;
	for (__u32 id = 0; id < RING_SLOTS; id++)
		found |= is_same(run->skbs[id], skb);
	if (!found) /* most packets have one request, or all responses in one run */
		return 0;
	reported = reported_add(run);
	if (!reported)
		return 0;
	for (__u32 word = 0; word < RING_SLOTS / 64; word++) {
		__u64 ids = 0;

		for (__u32 bit = 0; bit < 64; bit++)
			ids |= is_same(run->skbs[64 * word + bit], skb) << bit;
		reported->ids[word] |= ids;
	}
	return 0;
}

/* Looks at one response of the run. */
__noinline int responded(__u32 cons)
{
	struct collection *run = collection_here();
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
	struct collection *run = collection_here();
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

/* Fewer responses than this are read one by one, more with the whole ring: what costs less. */
#define FEW_RESPONSES 12

/* Reads a few responses, each to its place in the ring; returns whether one is an error. */
__noinline int few_errors(__u32 count)
{
	struct collection *run = collection_here();
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
	struct collection *run = collection_here();
	__u32 errors = 0;

	if (!run || bpf_probe_read_kernel(run->entries, sizeof(run->entries), (void *)run->ring))
		return 0;
	for (__u32 i = 0; i < RING_SLOTS && i < count; i++)
		errors |= run->entries[(run->cons + i) % RING_SLOTS].status < 0;
	return errors;
}

static __always_inline __u32 rsp_cons_of(__u64 queue)
{
	__u32 cons = 0;

	bpf_probe_read_kernel(&cons, sizeof(cons), (void *)queue + ring_layout.rsp_cons);
	return cons;
}

/* xennet_tx_buf_gc() begins. */
static __always_inline int collect_begin(__u64 queue)
{
	struct collection *run = collection_here();

	if (!enabled || !run)
		return 0;
	run->queue = 0;
	if (bpf_probe_read_kernel(run->skbs, sizeof(run->skbs),
				  (void *)queue + ring_layout.tx_skbs))
		return 0;
	run->cons = rsp_cons_of(queue);
	run->queue = queue;
	return 0;
}

/*
 * xennet_tx_buf_gc() is done. It cannot have taken more responses than there are
 * slots, since no request was added meanwhile. Where it broke off it leaves rsp_cons
 * as it was, and the device is disabled.
 */
static __always_inline int collect_end(void)
{
	struct collection *run = collection_here();
	__u64 sring = 0;
	__u32 count;
	int errors;

	if (!enabled || !run || !run->queue)
		return 0;
	count = rsp_cons_of(run->queue) - run->cons;
	if (count && count <= RING_SLOTS &&
	    !bpf_probe_read_kernel(&sring, sizeof(sring), (void *)run->queue + ring_layout.sring)) {
		run->ring = sring + ring_layout.ring;
		errors = count <= FEW_RESPONSES ? few_errors(count) : many_errors(count);
		if (errors || *reported_count(run->queue) || config.probe)
			run_judge(count);
	}
	run->queue = 0;
	return 0;
}

#endif
