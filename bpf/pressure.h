/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pressure on a transmit queue: how much is sent and in what pieces, how full the
 * ring is meanwhile, when the driver stops the queue, and how long the backend takes.
 *
 * Between the two tracepoints around the driver's transmit function bottom halves are
 * off, so a window stays on its CPU; they nest where one device sends through another.
 */
#ifndef XENTRACE_PRESSURE_H
#define XENTRACE_PRESSURE_H

#include "count.h"
#include "payload.h"
#include "pressure_maps.h"
#include "queues.h"

/* dev_xmit_complete(): above this the driver has not taken the packet. */
#define NET_XMIT_MASK 0x0f

struct napi_struct {
	struct net_device *dev;
} KERNEL_TYPE;

struct netdev_queue___device {
	struct net_device *dev;
} KERNEL_TYPE;

#define BUCKET(histogram, value)                                                                   \
	({                                                                                         \
		__u64 bucket = log2_bucket(value);                                                 \
                                                                                                   \
		AT_MOST(bucket, sizeof(histogram) / sizeof((histogram)[0]) - 1);                   \
		&(histogram)[bucket];                                                              \
	})

/* Transmits and xennet_tx_buf_gc() in a hard interrupt update some per-CPU fields both. */
#define ATOMIC_ADD(field, n) __sync_fetch_and_add(&(field), n)

static __always_inline struct pressure *pressure_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pressures, &zero);
}

static __always_inline struct pressure_window *pressure_window_at(struct pressure *pressure,
								  __u64 depth)
{
	barrier_var(depth);
	return &pressure->windows[depth % WINDOWS];
}

static __always_inline __u32 place_of(const struct interface *interface, __u32 queue)
{
	__u32 last = pressure_config.queues_each - 1;

	return interface->index * pressure_config.queues_each + (queue < last ? queue : last);
}

/* Both indices at once: they lie next to each other, which user space has made sure of. */
struct ring_indices {
	__u32 req_prod_pvt;
	__u32 rsp_cons;
};

static __always_inline int indices_read(struct ring_indices *indices, __u64 queue)
{
	return bpf_probe_read_kernel(indices, sizeof(*indices),
				     (void *)queue + ring_layout.req_prod_pvt);
}

static __always_inline __u64 netfront_queue_of(struct net_device *dev, __u32 queue)
{
	__u64 queues = 0;

	if (!ring_layout.queue_size || config.priv_offset < 0)
		return 0;
	bpf_probe_read_kernel(&queues, sizeof(queues),
			      (void *)dev + config.priv_offset + ring_layout.queues);
	return queues ? queues + (__u64)queue * ring_layout.queue_size : 0;
}

/* How full the ring is when the packet comes. */
static __always_inline void occupancy_note(struct pressure_window *window,
					   struct queue_counters *counters, struct net_device *dev)
{
	struct ring_indices indices;
	__u64 queue = netfront_queue_of(dev, window->queue);

	window->netfront_queue = 0;
	if (!queue || indices_read(&indices, queue))
		return;
	window->netfront_queue = queue;
	window->req_prod_pvt = indices.req_prod_pvt;
	window->begin_ns = bpf_ktime_get_ns();
	(*BUCKET(counters->occupancy, indices.req_prod_pvt - indices.rsp_cons))++;
}

/* A driver is handed a packet. */
static __always_inline int pressure_begin(struct sk_buff *skb, struct net_device *dev,
					  const bool direct)
{
	struct queue_counters *counters;
	struct pressure_window *window;
	struct interface *interface;
	struct pressure *pressure;
	struct layout layout;
	__u32 place, depth;

	if (!enabled)
		return 0;
	interface = interface_find(LOAD(direct, dev, ifindex), netns_inum(dev, direct));
	pressure = pressure_here();
	if (!interface || !pressure)
		return 0;
	depth = pressure->depth % WINDOWS;
	if (layout_read(&layout, skb, depth, direct))
		return 0;
	window = pressure_window_at(pressure, depth);
	window->queue = LOAD(direct, skb, queue_mapping);
	place = place_of(interface, window->queue);
	counters = bpf_map_lookup_elem(&queue_counters_of, &place);
	if (!counters)
		return 0;
	pressure->depth = depth + 1;
	window->place = place;
	window->skb = (__u64)skb;
	window->dev = (__u64)dev;
	window->len = layout.len;
	window->slots = layout.slots;
	window->payload = payload_of(skb, layout.len, direct);
	window->netfront = interface->netfront;
	window->bounced = 0;
	window->dropped = 0;
	window->netfront_queue = 0;
	if (interface->netfront)
		occupancy_note(window, counters, dev);
	return 0;
}

/* The queue runs again after this long. */
static __always_inline void queue_runs(struct transmit_state *state,
				       struct queue_counters *counters, __u64 lasted)
{
	WRITE_ONCE(state->stopped_ns, 0);
	ATOMIC_ADD(counters->wakes, 1);
	ATOMIC_ADD(counters->full_ns, lasted);
	ATOMIC_ADD(*BUCKET(counters->wake_us, lasted / 1000), 1);
}

static __always_inline __u32 drv_xoff(void)
{
	return bpf_core_enum_value(enum netdev_queue_state_t, __QUEUE_STATE_DRV_XOFF);
}

static __always_inline bool queue_stopped(struct net_device *dev, __u32 queue)
{
	__u64 offset = (__u64)queue * bpf_core_type_size(struct netdev_queue) +
		       bpf_core_field_offset(struct netdev_queue, state);
	struct net_device___queues *device = (void *)dev;
	__u64 state = 0;

	if (config.typed_reads) {
		__u64 tx = words_at((__u64)dev + bpf_core_field_offset(device->_tx))->tv_sec;

		state = words_at(tx + offset)->tv_sec;
	} else {
		bpf_probe_read_kernel(&state, sizeof(state),
				      (void *)BPF_CORE_READ(device, _tx) + offset);
	}
	return state >> drv_xoff() & 1;
}

/*
 * Completes earlier stores before later loads: on x86 a locked add does. On arm64 it does
 * not; a race that is missed there lasts until the next packet of the queue.
 */
static __always_inline void full_barrier(struct transmit_state *state)
{
	__sync_fetch_and_add(&state->fence, 1);
}

/*
 * Whether the driver stopped the queue behind this packet. It was running before, so a
 * stop that is still noted was woken before it was noted: it took no time. So was one
 * whose queue runs again after the store. (Both sides may count such a wake: an exchange
 * would tell, but BPF has none before 5.12.)
 */
static __always_inline void stop_note(const struct pressure_window *window,
				      struct transmit_state *state, struct queue_counters *counters)
{
	bool stopped = queue_stopped((void *)window->dev, window->queue);

	if (READ_ONCE(state->stopped_ns))
		queue_runs(state, counters, 0);
	if (!stopped)
		return;
	counters->stops++;
	WRITE_ONCE(state->stopped_ns, bpf_ktime_get_ns());
	full_barrier(state);
	if (!queue_stopped((void *)window->dev, window->queue) && READ_ONCE(state->stopped_ns))
		queue_runs(state, counters, 0);
}

static __always_inline void completion_count(struct queue_counters *counters, __u64 lasted)
{
	ATOMIC_ADD(counters->completions, 1);
	ATOMIC_ADD(counters->completion_ns, lasted);
	ATOMIC_ADD(*BUCKET(counters->completion_us, lasted / 1000), 1);
}

/* Whether the backend's response to the packet's first request was taken. */
static __always_inline bool response_taken(const struct pressure_window *window,
					   const struct ring_indices *indices)
{
	return (__s32)(indices->rsp_cons - window->req_prod_pvt) > 0;
}

/*
 * Notes when the packet's first request was put on the ring, under its id. A response
 * that xennet_tx_buf_gc() took before the store found no time: it is counted here. (Both
 * may count it if its hook runs at this moment.)
 */
static __noinline int sent_note(struct pressure_window *window)
{
	struct queue_counters *counters = bpf_map_lookup_elem(&queue_counters_of, &window->place);
	struct transmit_state *state = bpf_map_lookup_elem(&transmit_state_of, &window->place);
	struct ring_indices indices;
	__u64 sring = 0, *sent;
	__u16 id = 0;

	if (!state || !counters || indices_read(&indices, window->netfront_queue) ||
	    indices.req_prod_pvt == window->req_prod_pvt)
		return 0; /* not put on the ring */
	if (response_taken(window, &indices)) {
		completion_count(counters, bpf_ktime_get_ns() - window->begin_ns);
		return 0;
	}
	bpf_probe_read_kernel(&sring, sizeof(sring),
			      (void *)window->netfront_queue + ring_layout.sring);
	if (bpf_probe_read_kernel(&id, sizeof(id),
				  (void *)sring + ring_layout.ring +
					  window->req_prod_pvt % RING_SLOTS *
						  sizeof(struct ring_entry) +
					  REQUEST_ID_OFFSET))
		return 0;
	sent = &state->sent_ns[id % RING_SLOTS];
	WRITE_ONCE(*sent, window->begin_ns);
	full_barrier(state);
	if (indices_read(&indices, window->netfront_queue) || !response_taken(window, &indices) ||
	    !READ_ONCE(*sent))
		return 0;
	WRITE_ONCE(*sent, 0);
	completion_count(counters, bpf_ktime_get_ns() - window->begin_ns);
	return 0;
}

static __always_inline void packet_count(const struct pressure_window *window,
					 struct queue_counters *counters)
{
	counters->packets++;
	counters->bytes += window->len;
	counters->payload += window->payload;
	counters->slots += window->slots;
	counters->small_packets += window->payload < SMALL_PAYLOAD;
	(*BUCKET(counters->sizes, window->len))++;
	(*BUCKET(counters->pieces, window->slots))++;
	if (!window->netfront)
		return;
	counters->bounced += window->bounced;
	counters->dropped += window->dropped;
	if (window->slots > SLOT_LIMIT && !window->dropped)
		counters->linearized++;
}

/* Closes the window of this packet, and those above it whose end was missed. */
static __always_inline struct pressure_window *pressure_close(struct pressure *pressure, __u64 skb,
							      __u64 dev)
{
	for (__u32 i = 0; i < WINDOWS; i++) {
		struct pressure_window *window;
		__u32 depth = pressure->depth;

		if (!depth)
			return NULL;
		window = pressure_window_at(pressure, depth - 1);
		if (window->dev != dev && i == 0)
			return NULL; /* of a device that is not watched */
		pressure->depth = depth - 1;
		if (window->skb == skb && window->dev == dev)
			return window;
	}
	return NULL;
}

/* The driver is done with a packet, which may be gone. */
static __always_inline int pressure_end(__u64 skb, __s32 status, __u64 dev)
{
	struct pressure *pressure = pressure_here();
	struct queue_counters *counters;
	struct pressure_window *window;
	struct transmit_state *state;

	if (!pressure || !pressure->depth)
		return 0;
	window = pressure_close(pressure, skb, dev);
	if (!window)
		return 0;
	counters = bpf_map_lookup_elem(&queue_counters_of, &window->place);
	state = bpf_map_lookup_elem(&transmit_state_of, &window->place);
	if (!counters || !state)
		return 0;
	stop_note(window, state, counters);
	if (status > NET_XMIT_MASK) {
		counters->busy++;
		return 0;
	}
	packet_count(window, counters);
	if (window->netfront_queue)
		sent_note(window);
	return 0;
}

/* The innermost window, if it is netfront's. */
static __always_inline struct pressure_window *netfront_window(struct pressure *pressure)
{
	struct pressure_window *window;

	if (!pressure || !pressure->depth)
		return NULL;
	window = pressure_window_at(pressure, pressure->depth - 1);
	return window->netfront ? window : NULL;
}

/* The driver lets go of a packet: what it drops, or the original of a copy. */
static __always_inline int pressure_free(__u64 skb, __u32 reason)
{
	struct pressure_window *window = netfront_window(pressure_here());

	if (!window)
		return 0;
	if (reason != config.consumed)
		window->dropped = 1;
	else if (skb == window->skb)
		window->bounced = 1;
	return 0;
}

/* The driver tells the backend of requests. */
static __always_inline int pressure_notify(void)
{
	struct pressure_window *window = netfront_window(pressure_here());
	struct queue_counters *counters;

	if (!window)
		return 0;
	counters = bpf_map_lookup_elem(&queue_counters_of, &window->place);
	if (counters)
		ATOMIC_ADD(counters->notifications, 1);
	return 0;
}

/*
 * A typed pointer as a number: 6.1 forbids to take a number that is not constant from it.
 * What comes back from memory has no type any more.
 */
static __always_inline __u64 number_of(struct pressure *pressure, const void *pointer)
{
	*(volatile __u64 *)&pressure->address = (__u64)pointer;
	return *(volatile __u64 *)&pressure->address;
}

/*
 * netif_tx_wake_queue() has returned. The queue may be stopped again by now: then
 * stopped_ns is of the next stop, and stop_note() has counted this wake.
 */
static __always_inline int pressure_wake(struct netdev_queue *tx)
{
	struct net_device *dev = BPF_CORE_READ((struct netdev_queue___device *)tx, dev);
	struct net_device___queues *device = (void *)dev;
	struct pressure *pressure = pressure_here();
	struct queue_counters *counters;
	struct interface *interface;
	struct transmit_state *state;
	__u32 place, queue;
	__u64 since;

	if (!enabled || !pressure)
		return 0;
	interface = interface_find(BPF_CORE_READ(dev, ifindex), netns_inum(dev, false));
	if (!interface)
		return 0;
	queue = (number_of(pressure, tx) - (__u64)BPF_CORE_READ(device, _tx)) /
		bpf_core_type_size(struct netdev_queue);
	place = place_of(interface, queue);
	counters = bpf_map_lookup_elem(&queue_counters_of, &place);
	state = bpf_map_lookup_elem(&transmit_state_of, &place);
	if (!counters || !state)
		return 0;
	since = READ_ONCE(state->stopped_ns);
	if (since && !(BPF_CORE_READ(tx, state) >> drv_xoff() & 1))
		queue_runs(state, counters, bpf_ktime_get_ns() - since);
	return 0;
}

/* A driver has polled for received packets. */
static __always_inline int pressure_poll(struct napi_struct *napi, __u32 work, __u32 budget)
{
	struct net_device *dev = BPF_CORE_READ(napi, dev);
	struct receive_counters *counters;
	struct interface *interface;

	if (!enabled || !dev)
		return 0;
	interface = interface_find(BPF_CORE_READ(dev, ifindex), netns_inum(dev, false));
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
