/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which process is sending a packet, for the many that are gone before user space
 * could look for the socket's owner.
 *
 * The process that a CPU is in says little. Most packets of a busy connection are
 * sent by an interrupt that brought an acknowledgement, on top of whoever was
 * running; and a process that transmits its own packet takes other sockets'
 * packets from the queue along, or polls the receiving side on their behalf. So the
 * process counts only outside of interrupts, and if its own table of files holds the
 * file of the packet's socket.
 */
#ifndef XENTRACE_SENDER_H
#define XENTRACE_SENDER_H

#include "maps.h"

struct thread_info {
	__u64 preempt_count; /* arm64: its low half */
} KERNEL_TYPE;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} KERNEL_TYPE;

struct files_struct {
	struct fdtable *fdt;
} KERNEL_TYPE;

typedef struct {
	atomic64_t refcnt; /* 0 for one */
} KERNEL_TYPE file_ref_t;

struct file {
	atomic64_t f_count; /* up to 6.12 */
	file_ref_t f_ref;   /* from 6.13 on */
	struct inode *f_inode;
} KERNEL_TYPE;

struct css_set {
	struct cgroup *dfl_cgrp; /* in the cgroup v2 hierarchy */
} KERNEL_TYPE;

struct task_struct___owner {
	struct thread_info thread_info;
	unsigned int flags;
	__s32 tgid;
	struct task_struct___owner *group_leader;
	__u64 start_boottime;
	char comm[16];
	struct files_struct *files;
	struct css_set *cgroups;
} KERNEL_TYPE;

#define PF_KTHREAD 0x00200000

/* Of preempt_count, as they are since 5.8. */
#define SOFTIRQ_SERVING 0x100
#define HARDIRQ_OFFSET 0x10000
#define HARDIRQ_MASK 0xf0000
#define NMI_OFFSET 0x100000
#define NMI_MASK 0xf00000

/*
 * Where preempt_count is: it is kept per CPU, alone or in pcpu_hot (6.2 to 6.14), and
 * this object does not know by which name, so user space puts the variable's number in
 * the kernel's types in place of the constant.
 */
#define PREEMPT_VARIABLE 0x7072656d

struct sender_configuration {
	__u32 preempt_known;  /* the constant was replaced */
	__u32 preempt_offset; /* of the count in the variable */
};

const volatile struct sender_configuration sender_config;

/* More files than these are not looked through: user space looks for the owner then. */
#define FILES_AT_ONCE 64
#define FILES_CHUNKS 16

struct file_chunk {
	__u64 files[FILES_AT_ONCE];
};

/*
 * One for a CPU is enough, though transmissions nest: only those in process context
 * look for a file, and they have softirqs off.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_chunk);
} file_chunks SEC(".maps");

static __always_inline bool preempt_count_read(__u32 *count, struct task_struct___owner *task)
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

/* Whether a process runs here by itself, with no interrupt on top of it. */
static __always_inline bool in_process(__u32 count)
{
	if (count & NMI_MASK) /* the breakpoint of a kprobe counts as one, and as an interrupt */
		count -= NMI_OFFSET + HARDIRQ_OFFSET;
	return !(count & (NMI_MASK | HARDIRQ_MASK | SOFTIRQ_SERVING));
}

/* Whether a file is among the first of a table. Not static: verified once, not at each call. */
__noinline int table_holds(__u64 table, __u32 length, __u64 file)
{
	__u32 zero = 0;
	struct file_chunk *chunk = bpf_map_lookup_elem(&file_chunks, &zero);

	if (!chunk)
		return 0;
	for (__u32 i = 0; i < FILES_CHUNKS && i * FILES_AT_ONCE < length; i++) {
		__u64 found = 0;

		/* Tables are as long as a multiple of this. */
		if (bpf_probe_read_kernel(chunk, sizeof(*chunk),
					  (void *)(table + i * sizeof(*chunk))))
			return 0;
#pragma clang loop unroll(disable) /* unrolled it would take most of the stack */
		for (__u32 n = 0; n < FILES_AT_ONCE; n++) {
			__u64 difference = chunk->files[n] ^ file;

			found |= (difference - 1) & ~difference; /* without a branch for each */
		}
		if (found >> 63)
			return 1;
	}
	return 0;
}

static __always_inline bool task_holds(struct task_struct___owner *task, struct file *file)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);

	return table && table_holds((__u64)BPF_CORE_READ(table, fd), BPF_CORE_READ(table, max_fds),
				    (__u64)file);
}

/* Whether nobody but one process can hold the file; by one thread alone, if it is in a call. */
static __always_inline bool held_once(struct file *file)
{
	if (bpf_core_field_exists(file->f_count))
		return BPF_CORE_READ(file, f_count.counter) == 1;
	return bpf_core_field_exists(file->f_ref) && !BPF_CORE_READ(file, f_ref.refcnt.counter);
}

/* The process of a thread. */
static __noinline int task_tell(struct sender *sender, struct task_struct___owner *task)
{
	struct task_struct___owner *leader = BPF_CORE_READ(task, group_leader);

	sender->tgid = BPF_CORE_READ(task, tgid);
	sender->started = BPF_CORE_READ(leader, start_boottime);
	sender->cgroup = BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn, id);
	BPF_CORE_READ_INTO(&sender->comm, leader, comm);
	return 0;
}

/*
 * Whether the current process certainly is the sender of a packet of this file. Whoever holds
 * it alone is, interrupted or not.
 */
static __noinline int is_sender(__u64 file)
{
	struct task_struct___owner *task = (void *)bpf_get_current_task();
	__u32 count;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	if (preempt_count_read(&count, task) ? !in_process(count) : !held_once((void *)file))
		return 0;
	return task_holds(task, (void *)file);
}

/* Notes the process that sends a packet of this file, if it is sure. */
static __always_inline void sender_read(struct sender *sender, __u64 file)
{
	__builtin_memset(sender, 0, sizeof(*sender));
	if (file && is_sender(file))
		task_tell(sender, (void *)bpf_get_current_task());
}

#endif
