/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is counted of a transmit queue, in per-CPU arrays: no packet makes a record.
 */
#ifndef XENTRACE_TX_QUEUE_H
#define XENTRACE_TX_QUEUE_H

#include "inspect.h"
#include "tx_ring.h"

/* Fixed at load. */
struct tx_queue_configuration {
	__u32 queues_each; /* per interface; queues above share the last index */
	/*
	 * One packet in so many is timed: where Xen emulates the TSC, reading the clock costs
	 * 1,300 instructions.
	 */
	__u32 completion_sample;
	__u8 exchange; /* the kernel has BPF's atomic exchange: since 5.12 */
	__u8 pad[3];
};

const volatile struct tx_queue_configuration tx_queue_config = {.queues_each = 1,
								.completion_sample = 1};

/* Bounds of the buckets: 0, 1, 2, 4 and so on; the last also counts what is above. */
#define SIZE_BUCKETS 18	     /* bytes, to 65,536 */
#define SLOTS_BUCKETS 8	     /* slots of a packet, to 64 */
#define OCCUPANCY_BUCKETS 10 /* slots of the ring, to 256 */
#define TIME_BUCKETS 26	     /* microseconds, to 16.8 s */

/* Of one transmit queue on one CPU. */
struct queue_counters {
	__u64 packets;
	__u64 bytes;
	__u64 payload;
	__u64 small_packets;
	__u64 slots;
	__u64 bounced;
	__u64 linearized;
	__u64 dropped;
	__u64 busy; /* NETDEV_TX_BUSY */
	__u64 notifications;
	__u64 stops;
	__u64 wakes;
	__u64 full_ns; /* of the stops that have ended */
	__u64 responses;
	__u64 response_runs; /* runs of xennet_tx_buf_gc() that found any */
	__u64 completions;   /* timed packets that got their response */
	__u64 completion_ns;
	__u64 sizes[SIZE_BUCKETS];
	__u64 slots_each[SLOTS_BUCKETS];
	__u64 occupancy[OCCUPANCY_BUCKETS];
	__u64 wake_us[TIME_BUCKETS];
	__u64 completion_us[TIME_BUCKETS];
};

/* Index: that of the interface times queues_each, plus the queue. Userspace sets the size. */
MAP(queue_counters_of, PERCPU_ARRAY, 1, __u32, struct queue_counters);

/* Of one transmit queue on all CPUs. */
struct transmit_state {
	__u64 stopped_ns; /* when the queue was found stopped; 0: it runs */
	__u64 queue;	  /* struct netfront_queue that rsp_cons is of */
	__u32 rsp_cons;	  /* at the end of the last run of xennet_tx_buf_gc() */
	__u32 fence;	  /* see full_barrier() */
	__u32 timed;	  /* see timed_add() */
	__u32 pad;
	__u64 sent[RING_SLOTS]; /* by id of the request */
};

/*
 * An entry of sent: when the timed packet whose first request has this id was sent, in ns.
 * Or, with this bit, that a response with the id was taken while a packet was timed, and
 * the req_prod_pvt of that moment.
 */
#define RESPONDED (1ull << 63)

MAP(transmit_state_of, ARRAY, 1, __u32, struct transmit_state);

/* Of an interface on one CPU. */
struct receive_counters {
	__u64 polls;
	__u64 packets;
	__u64 exhausted; /* polls that used up their budget */
};

MAP(receive_counters_of, PERCPU_ARRAY, 1, __u32, struct receive_counters);

/* One read: userspace checked that they are adjacent. */
struct ring_indices {
	__u32 req_prod_pvt;
	__u32 rsp_cons;
};

/* A packet between net_dev_start_xmit and net_dev_xmit. */
struct queued_packet {
	__u64 skb;
	__u64 dev;
	__u64 netfront_queue; /* 0: unknown */
	struct ring_indices ring;
	__u64 begin_ns; /* 0: not timed */
	__u32 index;	/* into queue_counters_of */
	__u32 queue;
	__u32 len;
	__u32 slots;
	__u32 payload;
	__u8 netfront;
	__u8 bounced;
	__u8 dropped;
	__u8 pad;
};

/* Nested transmits of one CPU: stacked devices, netpoll in an interrupt. */
#define MAX_INFLIGHT 4

struct queue_cpu {
	__u64 address;	 /* see number_of() */
	__u64 completed; /* struct netfront_queue that rsp_cons is of */
	__u32 rsp_cons;	 /* when xennet_tx_buf_gc() last returned here */
	__u32 depth;
	__u32 untimed; /* packets until one is timed */
	__u32 pad;
	struct interface_cache cache;
	struct queued_packet packets[MAX_INFLIGHT];
	struct packet_copy copies[MAX_INFLIGHT];
};

MAP(queue_cpus, PERCPU_ARRAY, 1, __u32, struct queue_cpu);

#define BUCKET(histogram, value) BUCKET_AT(histogram, log2_bucket(value))

#define BUCKET_AT(histogram, number)                                                               \
	({                                                                                         \
		__u64 bucket = number;                                                             \
                                                                                                   \
		AT_MOST(bucket, sizeof(histogram) / sizeof((histogram)[0]) - 1);                   \
		&(histogram)[bucket];                                                              \
	})

/* log2_bucket() by its table, which ends at 65,536. */
static __always_inline __u64 tabled_bucket(__u64 value)
{
	__u64 above = 0;

	if (value > TABLED) {
		value = (value + TABLED - 1) / TABLED;
		above = 8; /* log2(TABLED) */
	}
	AT_MOST(value, TABLED);
	return log2_buckets[value] + above;
}

#define TABLED_BUCKET(histogram, value) BUCKET_AT(histogram, tabled_bucket(value))

static __always_inline struct queue_counters *queue_counters_find(__u32 index)
{
	return bpf_map_lookup_elem(&queue_counters_of, &index);
}

static __always_inline struct transmit_state *transmit_state_find(__u32 index)
{
	return bpf_map_lookup_elem(&transmit_state_of, &index);
}

/*
 * Empties a word that a transmit and the wake hook on another CPU may both find filled:
 * with the exchange one of them gets the value and the other 0.
 */
static __always_inline __u64 take(__u64 *word)
{
	__u64 value = READ_ONCE(*word);

	if (!value)
		return 0;
	if (tx_queue_config.exchange)
		return EXCHANGE(*word, 0);
	WRITE_ONCE(*word, 0);
	return value;
}

static __always_inline struct queued_packet *packet_at(struct queue_cpu *cpu, __u64 depth)
{
	barrier_var(depth);
	return &cpu->packets[depth % MAX_INFLIGHT];
}

/* The innermost packet, if it is netfront's. */
static __always_inline struct queued_packet *netfront_packet(struct queue_cpu *cpu)
{
	struct queued_packet *packet;

	if (!cpu || !cpu->depth)
		return NULL;
	packet = packet_at(cpu, cpu->depth - 1);
	return packet->netfront ? packet : NULL;
}

static __always_inline __u32 index_of(const struct interface *interface, __u32 queue)
{
	__u32 last = tx_queue_config.queues_each - 1;

	return interface->index * tx_queue_config.queues_each + (queue < last ? queue : last);
}

/* A typed load of memory that is gone gives 0: queues are there while one transmits. */
static __always_inline int indices_read(struct ring_indices *indices, __u64 queue)
{
	if (config.typed_reads) {
		__u64 both = word_at(queue + ring_layout.req_prod_pvt, true);

		indices->req_prod_pvt = both;
		indices->rsp_cons = both >> 32;
		return 0;
	}
	return bpf_probe_read_kernel(indices, sizeof(*indices),
				     (void *)queue + ring_layout.req_prod_pvt);
}

static __always_inline __u64 netfront_queue_of(struct net_device *dev, __u32 queue)
{
	__u64 queues;

	if (!ring_layout.queue_size || config.priv_offset < 0)
		return 0;
	queues = word_at((__u64)dev + config.priv_offset + ring_layout.queues, config.typed_reads);
	return queues ? queues + (__u64)queue * ring_layout.queue_size : 0;
}

/*
 * How many timed packets have no response yet: before the driver's entry 1 is added, and
 * taken off by who finds the packet's end. While it is 0 no response is looked at, so it
 * may be too high, as it is once the end of a timed packet was missed, but not too low.
 */
static __always_inline void timed_add(struct transmit_state *state, __s32 n)
{
	ATOMIC_ADD(state->timed, n);
}

static __always_inline bool is_time(__u64 sent)
{
	return sent && !(sent & RESPONDED);
}

/* Atomic: xennet_tx_buf_gc() in a hard interrupt counts too. */
static __always_inline void completion_count(struct queue_counters *counters, __u64 lasted)
{
	ATOMIC_ADD(counters->completions, 1);
	ATOMIC_ADD(counters->completion_ns, lasted);
	ATOMIC_ADD(*BUCKET(counters->completion_us, lasted / 1000), 1);
}

#endif
