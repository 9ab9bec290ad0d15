/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which socket a packet belongs to, as far as the socket itself tells: user space
 * finds its owner. Only for packets that went wrong, and only while they are whole.
 */
#ifndef XENTRACE_SOCKET_H
#define XENTRACE_SOCKET_H

#include "sender.h"

/* Not the request and time-wait kinds, which are smaller. */
static __always_inline bool is_full_socket(struct sock *sk)
{
	unsigned char state = BPF_CORE_READ(sk, __sk_common.skc_state);

	return state != BPF_TCP_TIME_WAIT && state != BPF_TCP_NEW_SYN_RECV;
}

/* NULL for sockets of the kernel itself, and those that no process has got yet, or any more. */
static __always_inline struct file *socket_file(struct sock *sk)
{
	struct socket *socket = BPF_CORE_READ(sk, sk_socket);

	return socket ? BPF_CORE_READ(socket, file) : NULL;
}

static __always_inline __u64 socket_cgroup(struct sock *sk)
{
	struct sock_cgroup_data___before_5_16 *before;
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

#endif
