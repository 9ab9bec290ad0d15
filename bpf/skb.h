/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types this program looks into, reduced to the members it reads
 * (CO-RE finds their offsets in the running kernel), and the accessors that
 * hide how they differ between versions.
 *
 * A pointer is read in one of two ways. "direct" is a plain load, which the
 * verifier allows through the typed arguments of fentry programs and through
 * bpf_rdonly_cast(). Otherwise every load is a bpf_probe_read_kernel().
 */
#ifndef XENTRACE_SKB_H
#define XENTRACE_SKB_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "slots.h"

/* Memory that other CPUs or userspace write: exactly one load or store. */
#define READ_ONCE(value) (*(const volatile typeof(value) *)&(value))
#define WRITE_ONCE(value, now) (*(volatile typeof(value) *)&(value) = (now))

#define KERNEL_TYPE __attribute__((preserve_access_index))

struct ns_common {
	__u32 inum;
} KERNEL_TYPE;

struct net {
	struct ns_common ns;
} KERNEL_TYPE;

typedef struct {
	struct net *net;
} KERNEL_TYPE possible_net_t;

struct net_device_ops {
	void *ndo_start_xmit;
} KERNEL_TYPE;

struct net_device {
	char name[16];
	const struct net_device_ops *netdev_ops;
	unsigned long state;
	__u64 features;
	int ifindex;
	unsigned short type;
	unsigned int real_num_tx_queues;
	possible_net_t nd_net;
} KERNEL_TYPE;

enum netdev_state_t { /* the running kernel's values are used */
	__LINK_STATE_PRESENT = 1,
	__LINK_STATE_NOCARRIER = 2,
};

typedef struct {
	__s64 counter;
} KERNEL_TYPE atomic64_t;

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned int skc_hash;
	atomic64_t skc_cookie; /* 0 until somebody asked for it */
} KERNEL_TYPE;

typedef struct {
	__u32 val;
} KERNEL_TYPE kuid_t;

struct kernfs_node {
	__u64 id;
} KERNEL_TYPE;

struct cgroup {
	struct kernfs_node *kn;
} KERNEL_TYPE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} KERNEL_TYPE;

/* Before 5.16 a number that is odd where it holds other data than the cgroup. */
struct sock_cgroup_data___before_5_16 {
	__u64 val;
} KERNEL_TYPE;

struct file;

struct socket {
	struct file *file; /* NULL: it is the kernel's own, or no process has got it yet */
} KERNEL_TYPE;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket; /* NULL: no file of user space leads to it (any more) */
	kuid_t sk_uid;
	struct sock_cgroup_data sk_cgrp_data;
	__u16 sk_type;
	__u16 sk_protocol;
} KERNEL_TYPE;

struct inode {
	unsigned long i_ino;
} KERNEL_TYPE;

struct inet_connection_sock {
	__u32 icsk_rto;
	__u8 icsk_retransmits;
	__u8 icsk_backoff;
} KERNEL_TYPE;

struct tcp_sock {
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
	__u32 srtt_us;
	__u32 total_retrans;
	__u64 bytes_acked;
} KERNEL_TYPE;

struct dst_entry {
	struct net_device *dev;
} KERNEL_TYPE;

typedef struct {
	int counter;
} KERNEL_TYPE atomic_t;

typedef struct refcount_struct {
	atomic_t refs;
} KERNEL_TYPE refcount_t;

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst; /* the lowest bit tells whether a reference is held */
	int skb_iif; /* the interface it was received on, 0 before and if it was not */
	__u8 pkt_type : 3;
	refcount_t users;
	unsigned int len;
	unsigned int data_len;
	__u16 queue_mapping;
	__be16 protocol;
	__u16 network_header;
	__u16 mac_header;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
} KERNEL_TYPE;

/*
 * Caps a 64-bit variable at a constant. In assembly, because the verifiers of 5.10
 * and 6.1 lose what the compiler knows when it compares one copy of a value and
 * uses another: "unbounded memory access, make sure to bounds check".
 */
#define AT_MOST(value, most) asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(value) : "i"(most))

/* skb_frag_t: a struct bio_vec from 5.4 to 6.8 and a struct skb_frag later, of the same bytes. */
struct frag {
	__u64 page;
	__u32 len;
	__u32 offset;
};

struct skb_shared_info {
	__u8 nr_frags;
	unsigned short gso_size;
	unsigned short gso_segs;
	struct frag frags[1]; /* only their place is asked for */
} KERNEL_TYPE;

/* Two numbers of 64 bits, in every kernel: see words_at(). */
struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
} KERNEL_TYPE;

/* Where an skb's bytes are, as numbers. */
struct skb_memory {
	__u64 head;
	__u64 data;
	__u32 end;
};

/* Since 6.2; a weak symbol, so that older kernels load the programs all the same. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define LOAD(direct, pointer, member)                                                              \
	((direct) ? (pointer)->member : BPF_CORE_READ(pointer, member))

/*
 * Kernel memory as numbers, by plain loads. 6.18 forbids arithmetic on pointers that
 * were loaded through their own type; loaded as the members of this one they are
 * numbers, which user space's config.typed_reads allows.
 */
static __always_inline struct timespec64 *words_at(__u64 address)
{
	return bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct timespec64));
}

static __always_inline void skb_memory_typed(struct sk_buff *skb, struct skb_memory *memory)
{
	__u32 head = bpf_core_field_offset(struct sk_buff, head);
	__u32 data = bpf_core_field_offset(struct sk_buff, data);

	memory->end = skb->end;
	memory->head = words_at((__u64)skb + head)->tv_sec;
	memory->data = words_at((__u64)skb + data)->tv_sec;
}

static __always_inline int skb_memory(struct sk_buff *skb, struct skb_memory *memory,
				      const bool direct)
{
	__u32 head = bpf_core_field_offset(struct sk_buff, head);
	__u32 data = bpf_core_field_offset(struct sk_buff, data);

	memory->end = LOAD(direct, skb, end);
	if (data == head + sizeof(memory->head)) /* in all kernels seen, at half the cost */
		return bpf_probe_read_kernel(memory, 2 * sizeof(__u64), (void *)skb + head);
	return bpf_probe_read_kernel(&memory->head, sizeof(memory->head), (void *)skb + head) ||
	       bpf_probe_read_kernel(&memory->data, sizeof(memory->data), (void *)skb + data);
}

/* offset_in_page(skb->data) */
static __always_inline __u32 offset_in_page(__u64 address, __u32 page_size)
{
	return (__u32)address & (page_size - 1);
}

static __always_inline __u64 shared_info(const struct skb_memory *memory)
{
	return memory->head + memory->end;
}

static __always_inline __u32 netns_inum(struct net_device *dev, const bool direct)
{
	struct net *net;

	if (direct)
		return dev->nd_net.net->ns.inum;
	net = BPF_CORE_READ(dev, nd_net.net);
	return BPF_CORE_READ(net, ns.inum);
}

#endif
