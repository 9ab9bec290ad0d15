/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds the processes that hold certain sockets, by walking through the files of all
 * processes in the kernel: a BPF iterator, which user space reads when it has sockets
 * to ask for. Nothing but their holders crosses to user space.
 */
#ifndef XENTRACE_HOLDERS_H
#define XENTRACE_HOLDERS_H

#include "sender.h"

#define SOCKFS_MAGIC 0x534f434b

struct super_block {
	unsigned long s_magic;
} KERNEL_TYPE;

struct inode___holder {
	struct super_block *i_sb;
	unsigned long i_ino;
} KERNEL_TYPE;

struct file___holder {
	struct inode___holder *f_inode;
} KERNEL_TYPE;

struct seq_file;

/* The kernel's own; every member takes eight bytes. */
struct bpf_iter_meta {
	__bpf_md_ptr(struct seq_file *, seq);
};

struct bpf_iter__task_file {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct task_struct___owner *, task);
	__u64 fd;
	__bpf_md_ptr(struct file___holder *, file);
};

/* One process that holds a socket; once for each of its files that lead there. */
struct holder {
	__u64 inode;
	struct sender process;
};

#define MAX_WANTED 1024

/* Inodes of the sockets that are asked for; a hash, since no packet passes by here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WANTED);
	__type(key, __u64);
	__type(value, __u8);
} wanted_sockets SEC(".maps");

static __noinline int holder_fill(struct holder *holder, struct task_struct___owner *task,
				  __u64 inode)
{
	holder->inode = inode;
	task_tell(&holder->process, task);
	return 0;
}

static __always_inline int holder_visit(struct bpf_iter__task_file *visit)
{
	struct task_struct___owner *task = visit->task;
	struct file___holder *file = visit->file;
	struct holder holder = {};
	__u64 inode;

	if (!task || !file || file->f_inode->i_sb->s_magic != SOCKFS_MAGIC)
		return 0;
	inode = file->f_inode->i_ino;
	if (!bpf_map_lookup_elem(&wanted_sockets, &inode))
		return 0;
	holder_fill(&holder, task, inode);
	bpf_seq_write(visit->meta->seq, &holder, sizeof(holder));
	return 0;
}

#endif
