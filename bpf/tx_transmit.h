/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The load of a transmit queue: what is sent, how full the TX ring is, when the driver
 * stops the queue.
 *
 * Between the two tracepoints around the driver's transmit function softirqs are off, so
 * a packet stays on its CPU. Transmits nest where one device sends through another.
 */
#ifndef XENTRACE_TX_TRANSMIT_H
#define XENTRACE_TX_TRANSMIT_H

#include "tx_queue.h"
#include <linux/if_ether.h>
#include <linux/in.h>

/* dev_xmit_complete(): above this the driver did not accept the packet. */
#define NET_XMIT_MASK 0x0f

/* A packet with less payload is a small one. */
#define SMALL_PAYLOAD 256

#define UDP_HEADER 8

/* Bytes after the transport header of TCP and UDP, after the link header of the rest. */
static __always_inline __u32 payload_of(struct sk_buff *skb, const struct layout *layout,
					const bool direct)
{
	__u32 network = LOAD(direct, skb, network_header);
	__u32 transport = LOAD(direct, skb, transport_header);
	__u16 protocol = bpf_ntohs(LOAD(direct, skb, protocol));
	__u64 head = skb_head(skb, direct, config.typed_reads);
	__u32 headers = head + transport - layout->data, len = layout->len;
	__u8 byte;

	if (protocol != ETH_P_IP && protocol != ETH_P_IPV6)
		return len;
	byte = byte_at(head + network + (protocol == ETH_P_IP ? 9 : 6), config.typed_reads);
	if (byte == IPPROTO_UDP)
		headers += UDP_HEADER;
	else if (byte == IPPROTO_TCP)
		headers += byte_at(head + transport + 12, config.typed_reads) >> 4 << 2;
	return headers < len ? len - headers : 0;
}

/* How full the ring is when the packet comes. */
static __always_inline void ring_read(struct queued_packet *packet, struct net_device *dev)
{
	__u64 queue = netfront_queue_of(dev, packet->queue);

	if (queue && !indices_read(&packet->ring, queue))
		packet->netfront_queue = queue;
}

static __always_inline __u32 slots_used(const struct queued_packet *packet)
{
	return packet->ring.req_prod_pvt - packet->ring.rsp_cons;
}

static __noinline int timed_begin(struct queued_packet *packet)
{
	struct transmit_state *state = transmit_state_find(packet->index);

	if (!state)
		return 0;
	timed_add(state, 1);
	packet->begin_ns = bpf_ktime_get_ns();
	return 0;
}

/* A timed packet that was not put on the ring, or whose end was missed. */
static __noinline int timed_cancel(struct queued_packet *packet)
{
	struct transmit_state *state = transmit_state_find(packet->index);

	if (state)
		timed_add(state, -1);
	packet->begin_ns = 0;
	return 0;
}

/* Times one packet in completion_sample, the first one too. */
static __always_inline void timed_choose(struct queue_cpu *cpu, struct queued_packet *packet)
{
	if (cpu->untimed) {
		cpu->untimed--;
		return;
	}
	cpu->untimed = tx_queue_config.completion_sample - 1;
	timed_begin(packet);
}

static __always_inline int queue_begin(struct sk_buff *skb, struct net_device *dev,
				       const enum reads reads)
{
	const bool direct = reads != READ_PROBED;
	struct queued_packet *packet;
	struct interface *interface;
	struct queue_cpu *cpu;
	struct layout layout;
	__u32 depth;

	if (!enabled)
		return 0;
	cpu = ONLY_ENTRY(queue_cpus);
	interface = cpu ? interface_cached(&cpu->cache, dev, direct) : NULL;
	if (!interface)
		return 0;
	depth = cpu->depth % MAX_INFLIGHT;
	if (layout_read(&layout, skb, &cpu->copies[depth], reads))
		return 0;
	packet = packet_at(cpu, depth);
	packet->queue = LOAD(direct, skb, queue_mapping);
	packet->index = index_of(interface, packet->queue);
	cpu->depth = depth + 1;
	packet->skb = (__u64)skb;
	packet->dev = (__u64)dev;
	packet->len = layout.len;
	packet->slots = layout.slots;
	packet->payload = payload_of(skb, &layout, direct);
	packet->netfront = interface->netfront;
	packet->bounced = 0;
	packet->dropped = 0;
	packet->netfront_queue = 0;
	packet->begin_ns = 0;
	if (!interface->netfront)
		return 0;
	ring_read(packet, dev);
	if (packet->netfront_queue && tx_queue_config.exchange)
		timed_choose(cpu, packet);
	return 0;
}

/* With arguments of types that the verifier knows. */
static __always_inline int queue_begin_typed(struct sk_buff *skb, struct net_device *dev)
{
	if (config.typed_reads)
		return queue_begin(skb, dev, READ_TYPED);
	return queue_begin(skb, dev, READ_DIRECT);
}

static __always_inline int queue_begin_untyped(void *skb, void *dev)
{
	if (config.typed_reads)
		return queue_begin(TYPED(struct sk_buff, skb), TYPED(struct net_device, dev),
				   READ_TYPED);
	return queue_begin(skb, dev, READ_PROBED);
}

static __always_inline bool queue_stopped(const struct queued_packet *packet)
{
	struct net_device *dev = (void *)packet->dev;
	__u64 tx = (__u64)packet->queue * bpf_core_type_size(struct netdev_queue) +
		   bpf_core_field_offset(struct netdev_queue, state);

	if (config.typed_reads)
		tx += words_at(packet->dev + bpf_core_field_offset(dev->_tx))->tv_sec;
	else
		tx += (__u64)BPF_CORE_READ(dev, _tx);
	return is_stopped(word_at(tx, config.typed_reads));
}

/* Atomic, as all that xennet_tx_buf_gc() in a hard interrupt updates too. */
static __always_inline void wake_count(struct queue_counters *counters, __u64 lasted)
{
	ATOMIC_ADD(counters->wakes, 1);
	if (lasted) /* clang makes an atomic or of an addition of 0: not before 5.12 */
		ATOMIC_ADD(counters->full_ns, lasted);
	ATOMIC_ADD(*BUCKET(counters->wake_us, lasted / 1000), 1);
}

/*
 * Completes earlier stores before later loads: on x86 a locked add does. On arm64 it does
 * not; a race that is missed there lasts until the next packet of the queue.
 */
static __always_inline void full_barrier(struct transmit_state *state)
{
	ATOMIC_ADD(state->fence, 1);
}

/* xen-netfront stops a queue from 237 slots in use on (5.10 to 7.2), not at half of the ring. */
static __always_inline bool may_stop(const struct queued_packet *packet)
{
	return !packet->netfront_queue || slots_used(packet) + packet->slots > RING_SLOTS / 2;
}

/*
 * Whether the driver stopped the queue after this packet. The queue ran before it: a stop
 * still on record was woken before it was recorded, and took no time. So was one whose
 * queue runs again after the store. (Before 5.12 both sides may count such a wake.)
 */
static __always_inline void stop_record(const struct queued_packet *packet,
					struct transmit_state *state,
					struct queue_counters *counters)
{
	bool stopped = may_stop(packet) && queue_stopped(packet);

	if (take(&state->stopped_ns))
		wake_count(counters, 0);
	if (!stopped)
		return;
	counters->stops++;
	WRITE_ONCE(state->stopped_ns, bpf_ktime_get_ns());
	full_barrier(state);
	if (!queue_stopped(packet) && take(&state->stopped_ns))
		wake_count(counters, 0);
}

/*
 * Records when a timed packet's first request was put on the ring, under its id. The response
 * may have been taken already: then more requests had been made than before this packet.
 * (Responses come in any order: rsp_cons does not tell.) xennet_tx_buf_gc() and the driver's
 * transmit function hold tx_lock, so that its hook sees no transmit half done.
 */
static __noinline int sent_record(struct queued_packet *packet)
{
	struct queue_counters *counters = queue_counters_find(packet->index);
	struct transmit_state *state = transmit_state_find(packet->index);
	struct ring_indices indices;
	__u64 *sent, ring, before;
	__u32 first = packet->ring.req_prod_pvt;

	if (!tx_queue_config.exchange || !state || !counters)
		return 0;
	ring = ring_of(packet->netfront_queue);
	if (!ring || READ_ONCE(state->queue) != packet->netfront_queue ||
	    indices_read(&indices, packet->netfront_queue) || indices.req_prod_pvt == first)
		return timed_cancel(packet); /* not put on the ring */
	sent = &state->sent[request_id(ring, first) % RING_SLOTS];
	before = EXCHANGE(*sent, packet->begin_ns);
	if (is_time(before)) /* of a packet that got no response */
		timed_add(state, -1);
	if (!(before & RESPONDED) || (__s32)((__u32)before - first) <= 0)
		return 0;
	if (is_time(EXCHANGE(*sent, 0)))
		timed_add(state, -1);
	completion_count(counters, bpf_ktime_get_ns() - packet->begin_ns);
	return 0;
}

static __always_inline void packet_count(const struct queued_packet *packet,
					 struct queue_counters *counters)
{
	counters->packets++;
	counters->bytes += packet->len;
	counters->payload += packet->payload;
	counters->slots += packet->slots;
	counters->small_packets += packet->payload < SMALL_PAYLOAD;
	(*TABLED_BUCKET(counters->sizes, packet->len))++;
	(*TABLED_BUCKET(counters->slots_each, packet->slots))++;
	if (!packet->netfront)
		return;
	if (packet->netfront_queue)
		(*TABLED_BUCKET(counters->occupancy, slots_used(packet)))++;
	counters->bounced += packet->bounced;
	counters->dropped += packet->dropped;
	if (packet->slots > SLOT_LIMIT && !packet->dropped)
		counters->linearized++;
}

/* Takes the packet from the stack, and those above it whose end was missed. */
static __always_inline struct queued_packet *packet_take(struct queue_cpu *cpu, __u64 skb,
							 __u64 dev)
{
	for (__u32 i = 0; i < MAX_INFLIGHT; i++) {
		struct queued_packet *packet;
		__u32 depth = cpu->depth;

		if (!depth)
			return NULL;
		packet = packet_at(cpu, depth - 1);
		if (packet->dev != dev && i == 0)
			return NULL; /* of a device that is not watched */
		cpu->depth = depth - 1;
		if (packet->skb == skb && packet->dev == dev)
			return packet;
		if (packet->begin_ns)
			timed_cancel(packet);
	}
	return NULL;
}

/* The driver is done with a packet, which may be freed. */
static __always_inline int queue_end(__u64 skb, __s32 status, __u64 dev)
{
	struct queue_cpu *cpu = ONLY_ENTRY(queue_cpus);
	struct queue_counters *counters;
	struct transmit_state *state;
	struct queued_packet *packet;

	if (!cpu || !cpu->depth)
		return 0;
	packet = packet_take(cpu, skb, dev);
	if (!packet)
		return 0;
	counters = queue_counters_find(packet->index);
	state = transmit_state_find(packet->index);
	if (!counters || !state)
		return 0;
	stop_record(packet, state, counters);
	if (status > NET_XMIT_MASK) {
		counters->busy++;
		return packet->begin_ns ? timed_cancel(packet) : 0;
	}
	packet_count(packet, counters);
	return packet->begin_ns ? sent_record(packet) : 0;
}

/* The any-context free: of a packet that is dropped, or of the original of a copy. */
static __always_inline int queue_free(__u64 skb, __u32 reason)
{
	struct queued_packet *packet = netfront_packet(ONLY_ENTRY(queue_cpus));

	if (!packet)
		return 0;
	if (reason != config.consumed)
		packet->dropped = 1;
	else if (skb == packet->skb)
		packet->bounced = 1;
	return 0;
}

/* The driver notifies the backend. */
static __always_inline int queue_notify(void)
{
	struct queued_packet *packet = netfront_packet(ONLY_ENTRY(queue_cpus));
	struct queue_counters *counters = packet ? queue_counters_find(packet->index) : NULL;

	if (counters)
		ATOMIC_ADD(counters->notifications, 1);
	return 0;
}

/*
 * A typed pointer as a number, by way of memory: 6.1 forbids to subtract a number that is
 * not constant from it.
 */
static __always_inline __u64 number_of(struct queue_cpu *cpu, const void *pointer)
{
	WRITE_ONCE(cpu->address, (__u64)pointer);
	return READ_ONCE(cpu->address);
}

/*
 * netif_tx_wake_queue() has returned. The queue may be stopped again by now: then
 * stopped_ns is of the next stop, and stop_record() has counted this wake.
 */
static __always_inline int queue_wake(struct netdev_queue *tx)
{
	struct net_device *dev = BPF_CORE_READ(tx, dev);
	struct queue_cpu *cpu = ONLY_ENTRY(queue_cpus);
	struct queue_counters *counters;
	struct interface *interface;
	struct transmit_state *state;
	__u32 index, queue;
	__u64 since;

	if (!enabled || !cpu)
		return 0;
	interface = interface_of(dev, false);
	if (!interface)
		return 0;
	queue = (number_of(cpu, tx) - (__u64)BPF_CORE_READ(dev, _tx)) /
		bpf_core_type_size(struct netdev_queue);
	index = index_of(interface, queue);
	counters = queue_counters_find(index);
	state = transmit_state_find(index);
	if (!counters || !state)
		return 0;
	if (!READ_ONCE(state->stopped_ns) || is_stopped(BPF_CORE_READ(tx, state)))
		return 0;
	since = take(&state->stopped_ns);
	if (since)
		wake_count(counters, bpf_ktime_get_ns() - since);
	return 0;
}

/* A NAPI poll has ended. */
static __always_inline int receive_poll(struct napi_struct *napi, __u32 work, __u32 budget)
{
	struct net_device *dev = BPF_CORE_READ(napi, dev);
	struct receive_counters *counters;
	struct interface *interface;

	if (!enabled || !dev)
		return 0;
	interface = interface_of(dev, false);
	if (!interface)
		return 0;
	counters = bpf_map_lookup_elem(&receive_counters_of, &interface->index);
	if (!counters)
		return 0;
	counters->polls++;
	counters->packets += work;
	counters->exhausted += budget && work >= budget;
	return 0;
}

#endif
