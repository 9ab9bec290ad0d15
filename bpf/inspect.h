/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Kernel memory that userspace asks for by BPF_PROG_TEST_RUN; never attached. A device is
 * looked up each time, so no pointer to one that may go is kept. All of it runs under
 * rcu_read_lock(), and every load may fail.
 */
#ifndef XENTRACE_INSPECT_H
#define XENTRACE_INSPECT_H

#include "kernel.h"

/* Beyond these bounds nothing is found. */
#define MAX_NAMESPACES 512
#define MAX_INDEX_CHAIN 64
#define MAX_QUEUES 64

#define IFF_UP 1
#define NETDEV_HASHENTRIES 256

#define CODE_CHUNK 4096u

struct code_chunk {
	__u8 bytes[CODE_CHUNK];
};

MAP(code, ARRAY, 1, __u32, struct code_chunk);

/* Reads machine code. */
static __always_inline int code_read(__u64 address, __u32 size)
{
	struct code_chunk *chunk = ONLY_ENTRY(code);

	if (!chunk || size > CODE_CHUNK)
		return -1;
	return bpf_probe_read_kernel(chunk->bytes, size, (void *)address);
}

struct queue_state {
	__u64 trans_start; /* jiffies of the last transmit */
	__u64 stopped;	   /* by the driver */
};

struct queues {
	__u64 jiffies; /* now */
	__u32 ready;   /* up, present and with carrier: else a stopped queue means nothing */
	__u32 count;
	struct queue_state queue[MAX_QUEUES];
};

MAP(queues_now, ARRAY, 1, __u32, struct queues);

/* The list is a ring through all namespaces and its head, which is none. */
static __always_inline struct net *netns_find(__u32 inum)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);

	for (__u32 i = 0; i < MAX_NAMESPACES; i++) {
		if (BPF_CORE_READ(net, ns.inum) == inum)
			return net;
		net = (void *)BPF_CORE_READ(net, list.next) -
		      bpf_core_field_offset(struct net, list);
	}
	return NULL;
}

static __always_inline struct net_device *device_find(__u32 ifindex, __u32 inum)
{
	struct net *net = netns_find(inum);
	struct hlist_head *heads;
	struct hlist_node *node;

	if (!net)
		return NULL;
	heads = BPF_CORE_READ(net, dev_index_head);
	node = BPF_CORE_READ(&heads[ifindex % NETDEV_HASHENTRIES], first);
	for (__u32 i = 0; i < MAX_INDEX_CHAIN && node; i++) {
		struct net_device *dev =
			(void *)node - bpf_core_field_offset(struct net_device, index_hlist);

		if ((__u32)BPF_CORE_READ(dev, ifindex) == ifindex)
			return dev;
		node = BPF_CORE_READ(node, next);
	}
	return NULL;
}

static __always_inline bool device_ready(struct net_device *dev)
{
	return BPF_CORE_READ(dev, flags) & IFF_UP && has_carrier(dev) &&
	       BPF_CORE_READ(dev, state) >>
			       bpf_core_enum_value(enum netdev_state_t, __LINK_STATE_PRESENT) &
		       1;
}

/* Of one struct netdev_queue. Not static: verified once, not for each queue. */
__noinline int queue_state_read(__u64 address, __u32 index)
{
	struct netdev_queue *queue = (void *)address;
	struct queues *queues = ONLY_ENTRY(queues_now);

	if (!queues || index >= MAX_QUEUES)
		return 0;
	queues->queue[index].trans_start = BPF_CORE_READ(queue, trans_start);
	queues->queue[index].stopped = is_stopped(BPF_CORE_READ(queue, state));
	return 0;
}

/* Returns 0 with the state in queues_now, 1 if there is no such interface. */
static __always_inline int queues_read(__u32 ifindex, __u32 inum)
{
	struct net_device *dev = device_find(ifindex, inum);
	struct queues *queues = ONLY_ENTRY(queues_now);
	__u32 size = bpf_core_type_size(struct netdev_queue);
	__u64 tx;

	if (!queues)
		return -1;
	if (!dev)
		return 1;
	queues->jiffies = bpf_jiffies64();
	queues->ready = device_ready(dev);
	queues->count = BPF_CORE_READ(dev, real_num_tx_queues);
	tx = (__u64)BPF_CORE_READ(dev, _tx);
	for (__u32 i = 0; i < MAX_QUEUES && i < queues->count; i++, tx += size)
		queue_state_read(tx, i);
	return 0;
}

#endif
