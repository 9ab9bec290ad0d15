/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections: how many are opened, accepted and closed, and how long one waits from its
 * SYN until the application accepts it. By network namespace, since a listener
 * belongs to no interface.
 */
#ifndef XENTRACE_ACCEPT_H
#define XENTRACE_ACCEPT_H

#include "pressure.h"

enum {
	STATE_ESTABLISHED = 1,
	STATE_SYN_SENT = 2,
	STATE_SYN_RECV = 3,
	STATE_CLOSE = 7,
	STATE_LISTEN = 10,
};

#define TCP_PROTOCOL 6

struct sock_common___place {
	__u16 skc_num; /* local port */
	possible_net_t skc_net;
} KERNEL_TYPE;

struct sock___listener {
	struct sock_common___place __sk_common;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
} KERNEL_TYPE;

/* What was counted in one namespace on one CPU. */
struct tcp_counters {
	__u64 accepts;
	__u64 established; /* of those that came in: the handshake is done */
	__u64 opened;	   /* from here or to here */
	__u64 closed;
	__u64 accept_us[TIME_BUCKETS];
};

/* The namespaces of the watched interfaces; more are not looked at. 0: a free place. */
#define NAMESPACES 16

volatile __u32 namespaces[NAMESPACES];

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NAMESPACES);
	__type(key, __u32);
	__type(value, struct tcp_counters);
} tcp_counters_of SEC(".maps");

/* A connection that is established and not accepted yet. */
struct waiting {
	__u64 established_ns;
	__u64 handshake_us;
};

/* Full: the oldest are forgotten, and their accepts have no time. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* struct sock */
	__type(value, struct waiting);
} waiting_of SEC(".maps");

struct listener_key {
	__u32 netns;
	__u32 port;
};

/* Racy maxima: they are for naming a listener, not for adding up. */
struct listener {
	__u64 accepts;
	__u32 longest; /* of its queue, when a connection was taken from it */
	__u32 limit;   /* of its queue; one more fits */
	__u64 full;    /* accepts that found the queue full */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct listener_key);
	__type(value, struct listener);
} listeners SEC(".maps");

static __always_inline struct tcp_counters *tcp_counters_find(struct sock *sk, __u32 *netns)
{
	struct net *net = BPF_CORE_READ((struct sock___listener *)sk, __sk_common.skc_net.net);

	*netns = BPF_CORE_READ(net, ns.inum);
	for (__u32 i = 0; i < NAMESPACES; i++) {
		__u32 place = i, inum = namespaces[i];

		if (!inum)
			return NULL;
		if (inum == *netns)
			return bpf_map_lookup_elem(&tcp_counters_of, &place);
	}
	return NULL;
}

static __always_inline void established_note(struct sock *sk)
{
	struct waiting waiting = {};
	__u64 key = (__u64)sk;

	waiting.established_ns = bpf_ktime_get_ns();
	/* Until a packet is sent this is the time from the SYN-ACK to its answer, times 8. */
	waiting.handshake_us = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3;
	bpf_map_update_elem(&waiting_of, &key, &waiting, BPF_ANY);
}

/* A socket changes its state. */
static __always_inline int state_changed(struct sock *sk, __u32 before, __u32 after)
{
	struct tcp_counters *counters;
	__u64 key = (__u64)sk;
	__u32 netns;

	if (!enabled || (after != STATE_ESTABLISHED && after != STATE_CLOSE) ||
	    BPF_CORE_READ(sk, sk_protocol) != TCP_PROTOCOL)
		return 0;
	counters = tcp_counters_find(sk, &netns);
	if (!counters)
		return 0;
	if (after == STATE_CLOSE) {
		if (before == STATE_SYN_SENT || before == STATE_SYN_RECV ||
		    before == STATE_LISTEN || before == STATE_CLOSE)
			return 0;
		counters->closed++;
		bpf_map_delete_elem(&waiting_of, &key);
		return 0;
	}
	counters->opened++;
	if (before == STATE_SYN_RECV) {
		counters->established++;
		established_note(sk);
	}
	return 0;
}

static __always_inline void listener_note(struct sock *sk, __u32 netns)
{
	struct sock___listener *listening = (void *)sk;
	struct listener_key key = {.netns = netns};
	struct listener *listener, fresh = {};
	/* The one that was just taken is not counted any more. */
	__u32 length = BPF_CORE_READ(listening, sk_ack_backlog) + 1;

	key.port = BPF_CORE_READ(listening, __sk_common.skc_num);
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener) {
		bpf_map_update_elem(&listeners, &key, &fresh, BPF_NOEXIST);
		listener = bpf_map_lookup_elem(&listeners, &key);
	}
	if (!listener)
		return;
	__sync_fetch_and_add(&listener->accepts, 1);
	listener->limit = BPF_CORE_READ(listening, sk_max_ack_backlog);
	if (length > listener->longest)
		listener->longest = length;
	if (length > listener->limit)
		__sync_fetch_and_add(&listener->full, 1);
}

/* inet_csk_accept() has returned. */
static __always_inline int accepted(struct sock *listening, struct sock *sk)
{
	struct tcp_counters *counters;
	struct waiting *waiting;
	__u64 key = (__u64)sk;
	__u32 netns;

	if (!enabled || !sk)
		return 0;
	counters = tcp_counters_find(listening, &netns);
	if (!counters)
		return 0;
	counters->accepts++;
	listener_note(listening, netns);
	waiting = bpf_map_lookup_elem(&waiting_of, &key);
	if (!waiting)
		return 0;
	(*BUCKET(counters->accept_us,
		 (bpf_ktime_get_ns() - waiting->established_ns) / 1000 + waiting->handshake_us))++;
	bpf_map_delete_elem(&waiting_of, &key);
	return 0;
}

#endif
