/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the connections stand that lost packets. User space asks by the address of the
 * socket, which it has from a record: no namespace has to be entered, and NAT or a
 * mapped address makes no difference. The end of a connection is seen as it happens,
 * so that its last values are right and its memory is not taken for another's.
 */
#ifndef XENTRACE_CONNECTION_H
#define XENTRACE_CONNECTION_H

#include "flow.h"

/* Connections whose end is looked for; those beyond are asked about, too, but may end unseen. */
#define FOLLOWED_CONNECTIONS 4096

struct connection {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	struct tcp_state tcp;
	__u32 hash; /* of its addresses and ports */
	__u32 ended;
};

/*
 * By the address of the socket; written by user space, filled at the end of one. No
 * program that a packet runs refers to it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FOLLOWED_CONNECTIONS);
	__type(key, __u64);
	__type(value, struct connection);
} followed SEC(".maps");

/* How many connections are asked about at once. */
#define ASKED_CONNECTIONS 64

struct questions {
	__u64 sockets[ASKED_CONNECTIONS]; /* addresses; a zero ends them */
	struct connection
		connections[ASKED_CONNECTIONS]; /* how they stand, or stood at their end */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct questions);
} asked SEC(".maps");

/* How many of those in the map have ended. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} endings SEC(".maps");

static __always_inline void connection_fill(struct connection *connection, struct sock *sk)
{
	connection->time_ns = bpf_ktime_get_boot_ns();
	connection->hash = BPF_CORE_READ(sk, __sk_common.skc_hash);
	tcp_state_read(&connection->tcp, sk);
}

/*
 * The memory of a TCP socket stays one: what was freed reads as a closed one, or as its
 * successor. Whether it ended is looked at last.
 */
static __noinline int connection_read(struct connection *now, __u64 address)
{
	struct connection *last;

	connection_fill(now, (void *)address);
	now->ended = 0;
	last = bpf_map_lookup_elem(&followed, &address);
	if (last && last->ended)
		*now = *last;
	return 0;
}

/* Answers all questions. */
static __always_inline int connections_read(void)
{
	__u32 zero = 0;
	struct questions *questions = bpf_map_lookup_elem(&asked, &zero);

	if (!questions)
		return -1;
	for (__u32 i = 0; i < ASKED_CONNECTIONS; i++) {
		if (!questions->sockets[i])
			break;
		connection_read(&questions->connections[i], questions->sockets[i]);
	}
	return 0;
}

/* Every connection comes to TCP_CLOSE at its end, whoever ends it, before its socket goes. */
static __always_inline int connection_ends(struct sock *sk, __u32 state)
{
	__u64 address = (__u64)sk;
	struct connection *connection;
	__u64 *count;
	__u32 zero = 0;

	if (state != BPF_TCP_CLOSE)
		return 0;
	connection = bpf_map_lookup_elem(&followed, &address);
	count = bpf_map_lookup_elem(&endings, &zero);
	if (!connection || !count || connection->ended)
		return 0;
	connection_fill(connection, sk);
	connection->ended = 1;
	__sync_fetch_and_add(count, 1);
	return 0;
}

#endif
