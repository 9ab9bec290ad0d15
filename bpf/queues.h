/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads how the transmit queues of an interface stand, for user space, which decides
 * from it whether the backend still takes anything. Run by BPF_PROG_TEST_RUN, never
 * attached. The interface is looked up each time, so that no pointer is kept to one
 * that may go; all of it is under rcu_read_lock() and every load may fail.
 */
#ifndef XENTRACE_QUEUES_H
#define XENTRACE_QUEUES_H

#include "skb.h"

/* More namespaces, more interfaces whose index has the same low byte, more queues are not looked
 * at. */
#define MAX_NAMESPACES 512
#define MAX_INDEX_CHAIN 64
#define MAX_QUEUES 64

struct list_head {
	struct list_head *next;
} KERNEL_TYPE;

struct hlist_node {
	struct hlist_node *next;
} KERNEL_TYPE;

struct hlist_head {
	struct hlist_node *first;
} KERNEL_TYPE;

struct net___list {
	struct list_head list; /* all network namespaces */
	struct ns_common ns;
	struct hlist_head *dev_index_head; /* by the low bits of ifindex: NETDEV_HASHBITS, 8 */
} KERNEL_TYPE;

struct nsproxy {
	struct net___list *net_ns;
} KERNEL_TYPE;

struct task_struct {
	struct nsproxy *nsproxy;
} KERNEL_TYPE;

struct netdev_queue {
	unsigned long trans_start;
	unsigned long state;
} KERNEL_TYPE;

struct net_device___queues {
	__u32 ifindex;
	unsigned int flags;
	unsigned long state;
	struct hlist_node index_hlist;
	struct netdev_queue *_tx;
	unsigned int real_num_tx_queues;
} KERNEL_TYPE;

enum netdev_queue_state_t {
	__QUEUE_STATE_DRV_XOFF = 0, /* the running kernel's value is used */
};

#define IFF_UP 1
#define NETDEV_HASHENTRIES 256

struct queue_state {
	__u64 trans_start; /* in jiffies: when the driver was handed the last packet */
	__u64 stopped;	   /* by the driver */
};

struct queues {
	__u64 jiffies; /* now */
	__u32 ready; /* set up, there and with carrier: only then a stopped queue means anything */
	__u32 count;
	struct queue_state queue[MAX_QUEUES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct queues);
} queues_now SEC(".maps");

/* The list is a ring through all namespaces, the caller's is in it; its head is no namespace. */
static __always_inline struct net___list *netns_find(__u32 inum)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct net___list *net = BPF_CORE_READ(task, nsproxy, net_ns);

	for (__u32 i = 0; i < MAX_NAMESPACES; i++) {
		if (BPF_CORE_READ(net, ns.inum) == inum)
			return net;
		net = (void *)BPF_CORE_READ(net, list.next) -
		      bpf_core_field_offset(struct net___list, list);
	}
	return NULL;
}

static __always_inline struct net_device___queues *device_find(struct net___list *net,
							       __u32 ifindex)
{
	struct hlist_head *heads = BPF_CORE_READ(net, dev_index_head);
	struct hlist_node *node = BPF_CORE_READ(&heads[ifindex % NETDEV_HASHENTRIES], first);

	for (__u32 i = 0; i < MAX_INDEX_CHAIN && node; i++) {
		struct net_device___queues *dev =
			(void *)node -
			bpf_core_field_offset(struct net_device___queues, index_hlist);

		if (BPF_CORE_READ(dev, ifindex) == ifindex)
			return dev;
		node = BPF_CORE_READ(node, next);
	}
	return NULL;
}

static __always_inline bool device_ready(struct net_device___queues *dev)
{
	unsigned long state = BPF_CORE_READ(dev, state);

	return BPF_CORE_READ(dev, flags) & IFF_UP &&
	       !(state >> bpf_core_enum_value(enum netdev_state_t, __LINK_STATE_NOCARRIER) & 1) &&
	       state >> bpf_core_enum_value(enum netdev_state_t, __LINK_STATE_PRESENT) & 1;
}

/* Returns 0 with the state in queues_now, 1 if there is no such interface. */
static __always_inline int queues_read(__u32 ifindex, __u32 inum)
{
	__u32 zero = 0, size = bpf_core_type_size(struct netdev_queue);
	struct queues *queues = bpf_map_lookup_elem(&queues_now, &zero);
	struct net_device___queues *dev;
	struct net___list *net;
	void *tx;

	if (!queues)
		return -1;
	net = netns_find(inum);
	dev = net ? device_find(net, ifindex) : NULL;
	if (!dev)
		return 1;
	queues->jiffies = bpf_jiffies64();
	queues->ready = device_ready(dev);
	queues->count = BPF_CORE_READ(dev, real_num_tx_queues);
	tx = BPF_CORE_READ(dev, _tx);
	for (__u32 i = 0; i < MAX_QUEUES && i < queues->count; i++, tx += size) {
		struct netdev_queue *queue = tx;
		unsigned long state = BPF_CORE_READ(queue, state);

		queues->queue[i].trans_start = BPF_CORE_READ(queue, trans_start);
		queues->queue[i].stopped = state >> bpf_core_enum_value(enum netdev_queue_state_t,
									__QUEUE_STATE_DRV_XOFF) &
					   1;
	}
	return 0;
}

#endif
