/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket of a packet, and the process that sends it.
 *
 * The current process alone proves little: an interrupt that brought an ACK may send on
 * top of it, and a process dequeues other sockets' packets from the qdisc along with its
 * own. So it counts as the sender outside of interrupts only, and if its file table
 * holds the socket's file.
 */
#ifndef XENTRACE_OWNER_H
#define XENTRACE_OWNER_H

#include "flow.h"

#define PF_KTHREAD 0x00200000
#define SOCKFS_MAGIC 0x534f434b

/* Of preempt_count, since 5.8. */
#define SOFTIRQ_SERVING 0x100
#define HARDIRQ_OFFSET 0x10000
#define HARDIRQ_MASK 0xf0000
#define NMI_OFFSET 0x100000
#define NMI_MASK 0xf00000

/*
 * preempt_count is a per-CPU variable on x86: __preempt_count, or in pcpu_hot from 6.2
 * to 6.14. Userspace replaces this constant by the variable's BTF id.
 */
#define PREEMPT_VARIABLE 0x7072656d

struct sender_configuration {
	__u32 preempt_known;  /* the constant was replaced */
	__u32 preempt_offset; /* of the count in the variable */
};

const volatile struct sender_configuration sender_config;

/* Longer file tables are not searched to their end: userspace looks for the owner then. */
#define FILES_AT_ONCE 64
#define FILES_CHUNKS 16

struct file_chunk {
	__u64 files[FILES_AT_ONCE];
};

/* One per CPU: only transmits in process context search, with softirqs off. */
MAP(file_chunks, PERCPU_ARRAY, 1, __u32, struct file_chunk);

static __always_inline bool preempt_count_read(__u32 *count, struct task_struct *task)
{
	void *variable;

	if (bpf_core_field_exists(task->thread_info.preempt_count)) {
		*count = BPF_CORE_READ(task, thread_info.preempt_count);
		return true;
	}
	if (!sender_config.preempt_known)
		return false;
	asm volatile("%0 = %1 ll" : "=r"(variable) : "i"(PREEMPT_VARIABLE));
	variable = bpf_this_cpu_ptr(variable);
	return !bpf_probe_read_kernel(count, sizeof(*count),
				      variable + sender_config.preempt_offset);
}

/* The breakpoint of a kprobe counts as an NMI and as an interrupt. */
static __always_inline bool in_process(__u32 count)
{
	if (count & NMI_MASK)
		count -= NMI_OFFSET + HARDIRQ_OFFSET;
	return !(count & (NMI_MASK | HARDIRQ_MASK | SOFTIRQ_SERVING));
}

/* Whether a file is in the chunk that was read. Not static: verified once, not at each call. */
__noinline int chunk_holds(__u64 file)
{
	struct file_chunk *chunk = ONLY_ENTRY(file_chunks);
	__u64 found = 0;

	if (!chunk)
		return 0;
#pragma clang loop unroll(disable) /* unrolled it would take most of the stack */
	for (__u32 n = 0; n < FILES_AT_ONCE; n++)
		found |= 1 ^ nonzero(chunk->files[n] ^ file);
	return found;
}

/* Whether a file is among the first of a table. Not static either. */
__noinline int table_holds(__u64 table, __u32 length, __u64 file)
{
	struct file_chunk *chunk = ONLY_ENTRY(file_chunks);

	if (!chunk)
		return 0;
	for (__u32 i = 0; i < FILES_CHUNKS && i * FILES_AT_ONCE < length; i++) {
		/* The length of a table is a multiple of 64. */
		if (bpf_probe_read_kernel(chunk, sizeof(*chunk),
					  (void *)(table + i * sizeof(*chunk))))
			return 0;
		if (chunk_holds(file))
			return 1;
	}
	return 0;
}

/*
 * Whether the current process certainly is the sender of a packet of this file. Inline: calls
 * nest 8 deep.
 */
static __always_inline int is_sender(__u64 file)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table;
	__u32 count;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	/* Without the count: whoever holds the file alone is the sender, interrupted or not. */
	if (preempt_count_read(&count, task) ? !in_process(count) : !file_held_once((void *)file))
		return 0;
	table = BPF_CORE_READ(task, files, fdt);
	return table &&
	       table_holds((__u64)BPF_CORE_READ(table, fd), BPF_CORE_READ(table, max_fds), file);
}

static __noinline int process_read(struct sender *sender, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	sender->tgid = BPF_CORE_READ(task, tgid);
	sender->started = BPF_CORE_READ(leader, start_boottime);
	sender->cgroup = BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn, id);
	BPF_CORE_READ_INTO(&sender->comm, leader, comm);
	return 0;
}

/* The sending process of a packet of this file; all zero if uncertain. */
static __always_inline void sender_read(struct sender *sender, __u64 file)
{
	__builtin_memset(sender, 0, sizeof(*sender));
	if (file && is_sender(file))
		process_read(sender, (void *)bpf_get_current_task());
}

/* Returns the socket's file. */
static __noinline __u64 socket_read(struct socket_identity *identity, struct sk_buff *skb)
{
	struct sock *sk = BPF_CORE_READ(skb, sk);
	struct file *file;

	__builtin_memset(identity, 0, sizeof(*identity));
	if (!sk || !is_full_socket(sk))
		return 0;
	identity->address = (__u64)sk;
	identity->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	file = socket_file(sk);
	identity->inode = file ? BPF_CORE_READ(file, f_inode, i_ino) : 0;
	identity->cgroup = socket_cgroup(sk);
	identity->uid = BPF_CORE_READ(sk, sk_uid.val);
	identity->hash = BPF_CORE_READ(sk, __sk_common.skc_hash);
	return (__u64)file;
}

/* A process that holds a socket. */
struct holder {
	__u64 inode;
	struct sender process;
	struct flow flow; /* read only if sockets are asked for by their addresses */
	__u32 uid;	  /* likewise */
	__u32 pad;
};

#define MAX_WANTED 1024

/*
 * Holders of one socket that are reported: the first HOLDERS_OF_SOCKET, then only those
 * that were started before all reported ones. Any user can have a socket held by very
 * many files and processes.
 */
#define HOLDERS_OF_SOCKET 16
#define MAX_HOLDERS 32

/* A socket whose holders userspace asks for. */
struct wanted {
	__u64 oldest; /* start of the holder that was started first, among those reported */
	__u32 tgid;   /* of the last one visited */
	__u32 holders;
};

/* By inode. */
MAP(wanted_sockets, HASH, MAX_WANTED, __u64, struct wanted);

/*
 * By addresses as a packet has them, without sequence numbers: of connections of this
 * machine that another network namespace forwards.
 */
MAP(wanted_flows, HASH, MAX_WANTED, struct flow, struct wanted);

/* Entries of wanted_flows: without any, no socket's addresses are read. */
volatile __u32 flows_wanted;

/* Whether to report a holder. */
static __always_inline bool is_wanted(struct wanted *wanted, __u64 started)
{
	if (wanted->holders >= HOLDERS_OF_SOCKET && started >= wanted->oldest)
		return false;
	if (!wanted->holders || started < wanted->oldest)
		wanted->oldest = started;
	wanted->holders++;
	return true;
}

/* Out of line so that bpf2go finds the type. */
static __noinline int holder_fill(struct holder *holder, struct task_struct *task)
{
	return process_read(&holder->process, task);
}

/* IPv4 of an IPv6 socket is IPv4 in packets. */
static __always_inline void unmap(struct flow *flow)
{
	const __u32 *from = (void *)flow->saddr, *to = (void *)flow->daddr;

	if (flow->family != 6 || to[0] || to[1] || to[2] != bpf_htonl(0xffff))
		return;
	flow->family = 4;
	__builtin_memcpy(flow->saddr, &from[3], 4);
	__builtin_memcpy(flow->daddr, &to[3], 4);
	__builtin_memset(flow->saddr + 4, 0, 12);
	__builtin_memset(flow->daddr + 4, 0, 12);
}

/* What is asked of a socket by its addresses. */
static __noinline struct wanted *wanted_by_flow(struct holder *holder, struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(socket, sk);
	unsigned short family;

	if (!sk || !is_full_socket(sk))
		return NULL;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return NULL;
	socket_flow(&holder->flow, sk);
	unmap(&holder->flow);
	holder->uid = BPF_CORE_READ(sk, sk_uid.val);
	return bpf_map_lookup_elem(&wanted_flows, &holder->flow);
}

/* Run by a read of the iterator, for each open file of each process. */
static __always_inline int holder_visit(struct bpf_iter__task_file *visit)
{
	struct task_struct *task = visit->task;
	struct file *file = visit->file;
	struct holder holder = {};
	struct wanted *wanted, *by_flow = NULL;

	if (!task || !file || file->f_inode->i_sb->s_magic != SOCKFS_MAGIC)
		return 0;
	holder.inode = file->f_inode->i_ino;
	wanted = bpf_map_lookup_elem(&wanted_sockets, &holder.inode);
	if (flows_wanted)
		by_flow = wanted_by_flow(&holder, file);
	if (!wanted)
		wanted = by_flow;
	if (!wanted || wanted->holders >= MAX_HOLDERS)
		return 0;
	/* The files of a task are visited in a row: of a million duplicates all but one end here.
	 */
	if (wanted->tgid == (__u32)task->tgid)
		return 0;
	wanted->tgid = task->tgid;
	holder_fill(&holder, task);
	if (is_wanted(wanted, holder.process.started))
		bpf_seq_write(visit->meta->seq, &holder, sizeof(holder));
	return 0;
}

#endif
