/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every kernel type that the programs read, reduced to the members they read (CO-RE
 * finds the offsets in the running kernel), and accessors for what differs by version.
 *
 * "direct" is a plain load: the verifier allows it through the typed arguments of fentry
 * programs and through bpf_rdonly_cast(). Otherwise each load is a probe read.
 */
#ifndef XENTRACE_KERNEL_H
#define XENTRACE_KERNEL_H

/* bpf_tracing.h then uses the kernel's names of registers, as in struct pt_regs below. */
#define __VMLINUX_H__

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

/* skb_frag_t: bio_vec from 5.4, skb_frag since 21d2e6737c97 (6.9), of the same layout. */
struct frag {
	__u64 page;
	__u32 len;
	__u32 offset;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long dx;
	unsigned long si;
	unsigned long di;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs;
struct user_pt_regs {
	__u64 regs[31];
};
#endif

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct refcount_struct {
	atomic_t refs;
} refcount_t;

struct list_head {
	struct list_head *next;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

/* Two 64-bit numbers in every kernel: see words_at(). */
struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

/* 14 longs in a row in every kernel, of which these are the first: see frag_slots_typed(). */
struct rusage {
	long ru_maxrss;
	long ru_ixrss;
	long ru_idrss;
	long ru_isrss;
	long ru_minflt;
	long ru_majflt;
	long ru_nswap;
	long ru_inblock;
};

/* Network devices */

struct ns_common {
	__u32 inum;
};

struct net {
	struct list_head list; /* all network namespaces */
	struct ns_common ns;
	struct hlist_head *dev_index_head; /* by the low bits of ifindex: NETDEV_HASHBITS, 8 */
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device_ops {
	void *ndo_start_xmit;
};

struct netdev_queue {
	struct net_device *dev;
	unsigned long trans_start; /* jiffies of the last transmit */
	unsigned long state;
	int xmit_lock_owner; /* the CPU that transmits, or -1 */
};

struct net_device {
	char name[16];
	const struct net_device_ops *netdev_ops;
	unsigned long state;
	__u64 features;
	int ifindex;
	unsigned int flags;
	unsigned short type;
	unsigned int real_num_tx_queues;
	struct netdev_queue *_tx;
	struct hlist_node index_hlist;
	possible_net_t nd_net;
};

struct napi_struct {
	struct net_device *dev;
};

/* The running kernel's values are used. */
enum netdev_state_t {
	__LINK_STATE_PRESENT = 1,
	__LINK_STATE_NOCARRIER = 2,
};

enum netdev_queue_state_t {
	__QUEUE_STATE_DRV_XOFF = 0,
};

struct dst_entry {
	struct net_device *dev;
};

/* Sockets */

struct v6_address {
	__u8 bytes[16];
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	struct v6_address skc_v6_daddr; /* not without CONFIG_IPV6 */
	struct v6_address skc_v6_rcv_saddr;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned int skc_hash;
	__u16 skc_num; /* local port */
	possible_net_t skc_net;
	atomic64_t skc_cookie; /* 0 until it is first requested */
};

typedef struct {
	__u32 val;
} kuid_t;

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

/* Up to 5.15; 8520e224f547 (5.16) made it a pointer. Odd: other data than the cgroup. */
struct sock_cgroup_data___5_15 {
	__u64 val;
};

struct sock;

struct socket {
	struct sock *sk;
	struct file *file; /* NULL: a socket of the kernel, or not given to a process yet */
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket; /* NULL: orphaned */
	kuid_t sk_uid;
	struct sock_cgroup_data sk_cgrp_data;
	__u16 sk_type;
	__u16 sk_protocol;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
};

struct inet_connection_sock {
	__u32 icsk_rto;
	__u8 icsk_retransmits;
	__u8 icsk_backoff;
};

struct tcp_sock {
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
	__u32 srtt_us;
	__u32 total_retrans;
	__u64 bytes_acked;
};

/* Packets */

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst; /* lowest bit: whether a reference is held */
	unsigned long _nfct;	   /* struct nf_conn, with enum ip_conntrack_info in 3 bits */
	int skb_iif;		   /* the interface it was received on, or 0 */
	__u8 pkt_type : 3;
	refcount_t users;
	unsigned int len;
	unsigned int data_len;
	__u16 queue_mapping;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};

#define MAC_HEADER_UNSET 0xffff

/* Connection tracking, in vmlinux or a module */

struct nf_conntrack_tuple_hash {
	void *hnnode; /* only its size is used: it ends with a tuple, see conntrack.h */
};

struct nf_conn {
	unsigned long status;
	struct nf_conntrack_tuple_hash tuplehash[2];
};

struct skb_shared_info {
	__u8 nr_frags;
	unsigned short gso_size;
	unsigned short gso_segs;
	struct frag frags[1]; /* only its offset is used */
};

/* Tasks and files */

struct thread_info {
	__u64 preempt_count; /* arm64: its low half */
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct super_block {
	unsigned long s_magic;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
};

typedef struct {
	atomic64_t refcnt; /* 0 for one reference */
} file_ref_t;

struct file {
	struct inode *f_inode;
	void *private_data; /* of a socket: its struct socket */
	file_ref_t f_ref;
};

/* Up to 6.12; 90ee6ed776c0 (6.13) made it f_ref. */
struct file___6_12 {
	atomic64_t f_count;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* in the cgroup v2 hierarchy */
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	__s32 tgid;
	struct task_struct *group_leader;
	__u64 start_boottime;
	char comm[16];
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
};

#pragma clang attribute pop

/* The context of iter/task_file, as BPF programs are shown it. */
struct seq_file;

struct bpf_iter_meta {
	__bpf_md_ptr(struct seq_file *, seq);
};

struct bpf_iter__task_file {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct task_struct *, task);
	__u64 fd;
	__bpf_md_ptr(struct file *, file);
};

/* Since 6.2; weak, so that older kernels load the programs. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* Memory that other CPUs or userspace write: exactly one load or store. */
#define READ_ONCE(value) (*(const volatile typeof(value) *)&(value))
#define WRITE_ONCE(value, now) (*(volatile typeof(value) *)&(value) = (now))

/* Memory that an interrupt or another CPU updates too. */
#define ATOMIC_ADD(value, n) __sync_fetch_and_add(&(value), n)

/* Stores, and gives what was there; a full barrier. Not before 5.12. */
#define EXCHANGE(value, now) __sync_lock_test_and_set(&(value), now)

/*
 * Caps a 64-bit variable at a constant. In assembly, because the verifiers of 5.10
 * and 6.1 lose what the compiler knows when it compares one copy of a value and
 * uses another: "unbounded memory access, make sure to bounds check".
 */
#define AT_MOST(value, most) asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(value) : "i"(most))

#define MAP(name, kind, entries, key_type, value_type)                                             \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##kind);                                                 \
		__uint(max_entries, entries);                                                      \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

/* The only entry of an array or per-CPU array. */
#define ONLY_ENTRY(map)                                                                            \
	({                                                                                         \
		__u32 zero = 0;                                                                    \
		bpf_map_lookup_elem(&(map), &zero);                                                \
	})

#define LOAD(direct, pointer, member)                                                              \
	((direct) ? (pointer)->member : BPF_CORE_READ(pointer, member))

/* How a packet is read; a constant where it is known: a test of config costs each packet. */
enum reads {
	READ_PROBED, /* by probe reads */
	READ_DIRECT, /* by plain loads, of what is not in an argument's type by probe reads */
	READ_TYPED,  /* by plain loads, see config.typed_reads */
};

/* Allows plain loads through a pointer without a type. */
#define TYPED(type, pointer) ((type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(type)))

/*
 * Kernel memory as numbers, by plain loads. 6.18 forbids arithmetic on pointers that
 * were loaded through their own type; loaded as members of this one they are numbers.
 */
static __always_inline struct timespec64 *words_at(__u64 address)
{
	return TYPED(struct timespec64, (void *)address);
}

/* 64 or 8 bits of kernel memory; 0 if it cannot be read. */
static __always_inline __u64 word_at(__u64 address, const bool direct)
{
	__u64 word = 0;

	if (direct)
		return words_at(address)->tv_sec;
	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

static __always_inline __u8 byte_at(__u64 address, const bool direct)
{
	__u8 byte = 0;

	if (direct)
		return words_at(address)->tv_sec;
	bpf_probe_read_kernel(&byte, sizeof(byte), (void *)address);
	return byte;
}

/* Addresses in an skb, as numbers; typed reads or, up to 6.1, direct loads give them. */
static __always_inline __u64 skb_head(struct sk_buff *skb, const bool direct, const bool typed)
{
	if (direct && typed)
		return words_at((__u64)skb + bpf_core_field_offset(skb->head))->tv_sec;
	return (__u64)LOAD(direct, skb, head);
}

static __always_inline __u64 skb_data(struct sk_buff *skb, const bool direct, const bool typed)
{
	if (direct && typed)
		return words_at((__u64)skb + bpf_core_field_offset(skb->data))->tv_sec;
	return (__u64)LOAD(direct, skb, data);
}

/* What every packet's judgement needs of an skb. */
struct skb_members {
	__u64 head;
	__u64 data;
	__u32 len;
	__u32 data_len;
	__u32 end;
};

/* Room for skb_members as they lie in an sk_buff: 96 bytes in all kernels up to 7.2. */
#define SKB_SPAN 128u

/*
 * One probe read of so many bytes instead of five, each of which costs about 75 instructions
 * and 7 for every 8 bytes; span 0: they lie too far apart. (A member is loaded from the copy
 * by its relocated offset: the difference of two would be taken at each packet.)
 */
static __always_inline int skb_read(struct skb_members *members, struct sk_buff *skb, void *copy,
				    const __u32 span)
{
	const struct sk_buff *image = copy - bpf_core_field_offset(struct sk_buff, len);

	if (!span) {
		members->len = BPF_CORE_READ(skb, len);
		members->data_len = BPF_CORE_READ(skb, data_len);
		members->end = BPF_CORE_READ(skb, end);
		members->head = (__u64)BPF_CORE_READ(skb, head);
		members->data = (__u64)BPF_CORE_READ(skb, data);
		return 0;
	}
	if (bpf_core_read(copy, span, &skb->len))
		return -1;
	members->len = image->len;
	members->data_len = image->data_len;
	members->end = image->end;
	members->head = (__u64)image->head;
	members->data = (__u64)image->data;
	return 0;
}

static __always_inline struct skb_shared_info *skb_info(struct sk_buff *skb)
{
	return (void *)BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end);
}

/* offset_in_page(skb->data) */
static __always_inline __u32 offset_in_page(__u64 address, __u32 page_size)
{
	return (__u32)address & (page_size - 1);
}

static __always_inline __u32 netns_inum(struct net_device *dev, const bool direct)
{
	return direct ? dev->nd_net.net->ns.inum : BPF_CORE_READ(dev, nd_net.net, ns.inum);
}

static __always_inline bool has_carrier(struct net_device *dev)
{
	return !(BPF_CORE_READ(dev, state) >>
			 bpf_core_enum_value(enum netdev_state_t, __LINK_STATE_NOCARRIER) &
		 1);
}

/* Of netdev_queue.state: whether the driver stopped the queue. */
static __always_inline bool is_stopped(unsigned long state)
{
	return state >> bpf_core_enum_value(enum netdev_queue_state_t, __QUEUE_STATE_DRV_XOFF) & 1;
}

/* Whether the file has one reference only. */
static __always_inline bool file_held_once(struct file *file)
{
	struct file___6_12 *counted = (void *)file;

	if (bpf_core_field_exists(counted->f_count))
		return BPF_CORE_READ(counted, f_count.counter) == 1;
	return bpf_core_field_exists(file->f_ref) && !BPF_CORE_READ(file, f_ref.refcnt.counter);
}

/* NULL for sockets of the kernel, and those without a process. */
static __always_inline struct file *socket_file(struct sock *sk)
{
	struct socket *socket = BPF_CORE_READ(sk, sk_socket);

	return socket ? BPF_CORE_READ(socket, file) : NULL;
}

/* The id of the socket's cgroup, 0 if unknown. */
static __always_inline __u64 socket_cgroup(struct sock *sk)
{
	struct sock_cgroup_data___5_15 *before;
	struct cgroup *cgroup;
	__u64 value;

	if (!bpf_core_field_exists(sk->sk_cgrp_data))
		return 0;
	before = (void *)sk + bpf_core_field_offset(sk->sk_cgrp_data);
	if (bpf_core_field_exists(before->val)) {
		value = BPF_CORE_READ(before, val);
		cgroup = value & 1 ? NULL : (void *)value;
	} else {
		cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	}
	return cgroup ? BPF_CORE_READ(cgroup, kn, id) : 0;
}

#endif
