/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP connections: how many are opened, accepted and closed, and the time from the SYN to
 * accept(). By network namespace, since a listener belongs to no interface.
 */
#ifndef XENTRACE_TCP_ACCEPT_H
#define XENTRACE_TCP_ACCEPT_H

#include <linux/in.h>
#include "tx_queue.h"

/* Of one namespace on one CPU. */
struct tcp_counters {
	__u64 accepts;
	__u64 established; /* passively opened */
	__u64 opened;	   /* actively or passively */
	__u64 closed;
	__u64 accept_us[TIME_BUCKETS];
};

/* Of the watched interfaces; more are not counted. 0 ends the list. */
#define NAMESPACES 16

volatile __u32 namespaces[NAMESPACES];

MAP(tcp_counters_of, PERCPU_ARRAY, NAMESPACES, __u32, struct tcp_counters);

/* A connection that is established and not accepted yet. */
struct accept_wait {
	__u64 established_ns;
	__u64 handshake_us;
};

/* Full: the oldest are dropped, and their accepts have no time. */
MAP(accept_wait_of, LRU_HASH, 16384, __u64, struct accept_wait); /* struct sock */

struct listener_key {
	__u32 netns;
	__u32 port;
};

/* The maxima race; they only name a listener. */
struct listener {
	__u64 accepts;
	__u32 longest; /* accept queue at an accept() */
	__u32 limit;   /* of the queue; one more fits */
	__u64 full;    /* accepts that found the queue full */
};

MAP(listeners, LRU_HASH, 256, struct listener_key, struct listener);

static __always_inline struct tcp_counters *tcp_counters_find(struct sock *sk, __u32 *netns)
{
	*netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	for (__u32 i = 0; i < NAMESPACES; i++) {
		__u32 index = i, inum = namespaces[i];

		if (!inum)
			return NULL;
		if (inum == *netns)
			return bpf_map_lookup_elem(&tcp_counters_of, &index);
	}
	return NULL;
}

static __always_inline void established_record(struct sock *sk)
{
	struct accept_wait wait = {};
	__u64 key = (__u64)sk;

	wait.established_ns = bpf_ktime_get_ns();
	/* Until data is sent, the time from the SYN-ACK to its ACK, times 8. */
	wait.handshake_us = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3;
	bpf_map_update_elem(&accept_wait_of, &key, &wait, BPF_ANY);
}

/* A socket changes its state. */
static __always_inline int state_changed(struct sock *sk, __u32 before, __u32 after)
{
	struct tcp_counters *counters;
	__u64 key = (__u64)sk;
	__u32 netns;

	if (!enabled || (after != BPF_TCP_ESTABLISHED && after != BPF_TCP_CLOSE) ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	counters = tcp_counters_find(sk, &netns);
	if (!counters)
		return 0;
	if (after == BPF_TCP_CLOSE) {
		if (before == BPF_TCP_SYN_SENT || before == BPF_TCP_SYN_RECV ||
		    before == BPF_TCP_LISTEN || before == BPF_TCP_CLOSE)
			return 0;
		counters->closed++;
		bpf_map_delete_elem(&accept_wait_of, &key);
		return 0;
	}
	counters->opened++;
	if (before == BPF_TCP_SYN_RECV) {
		counters->established++;
		established_record(sk);
	}
	return 0;
}

static __always_inline void listener_count(struct sock *sk, __u32 netns)
{
	struct listener_key key = {.netns = netns};
	struct listener *listener, fresh = {};
	/* Without the one that was just accepted. */
	__u32 length = BPF_CORE_READ(sk, sk_ack_backlog) + 1;

	key.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener) {
		bpf_map_update_elem(&listeners, &key, &fresh, BPF_NOEXIST);
		listener = bpf_map_lookup_elem(&listeners, &key);
	}
	if (!listener)
		return;
	ATOMIC_ADD(listener->accepts, 1);
	listener->limit = BPF_CORE_READ(sk, sk_max_ack_backlog);
	if (length > listener->longest)
		listener->longest = length;
	if (length > listener->limit)
		ATOMIC_ADD(listener->full, 1);
}

/* inet_csk_accept() has returned. */
static __always_inline int accepted(struct sock *listening, struct sock *sk)
{
	struct tcp_counters *counters;
	struct accept_wait *wait;
	__u64 key = (__u64)sk;
	__u32 netns;

	if (!enabled || !sk)
		return 0;
	counters = tcp_counters_find(listening, &netns);
	if (!counters)
		return 0;
	counters->accepts++;
	listener_count(listening, netns);
	wait = bpf_map_lookup_elem(&accept_wait_of, &key);
	if (!wait)
		return 0;
	(*BUCKET(counters->accept_us,
		 (bpf_ktime_get_ns() - wait->established_ns) / 1000 + wait->handshake_us))++;
	bpf_map_delete_elem(&accept_wait_of, &key);
	return 0;
}

#endif
