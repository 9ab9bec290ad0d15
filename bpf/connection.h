/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of connections that lost packets. Userspace asks by the address of the
 * socket, which it has from a record: no namespace has to be entered, and NAT makes no
 * difference. The end of a connection is recorded when it happens, with its last values,
 * before its memory becomes another's.
 */
#ifndef XENTRACE_CONNECTION_H
#define XENTRACE_CONNECTION_H

#include "flow.h"

/* Connections whose end is recorded; more may be asked about, but their end is not seen. */
#define FOLLOWED_CONNECTIONS 4096

struct connection {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	struct tcp_state tcp;
	__u32 hash; /* of its addresses and ports */
	__u32 ended;
};

/* By the address of the socket. Userspace adds an entry, its end fills it. */
MAP(followed, HASH, FOLLOWED_CONNECTIONS, __u64, struct connection);

#define ASKED_CONNECTIONS 64

struct questions {
	__u64 sockets[ASKED_CONNECTIONS];		  /* addresses; 0 ends the list */
	struct connection connections[ASKED_CONNECTIONS]; /* now, or at their end */
};

MAP(asked, ARRAY, 1, __u32, struct questions);

/* How many in the map have ended. */
MAP(endings, ARRAY, 1, __u32, __u64);

static __always_inline void connection_fill(struct connection *connection, struct sock *sk)
{
	connection->time_ns = bpf_ktime_get_boot_ns();
	connection->hash = BPF_CORE_READ(sk, __sk_common.skc_hash);
	tcp_state_read(&connection->tcp, sk);
}

/*
 * Answers one question. The memory of a TCP socket stays one (SLAB_TYPESAFE_BY_RCU): a freed
 * one reads as closed, or as its successor. So whether it ended is read last. Not static:
 * verified once, not for each question.
 */
__noinline int connection_read(__u32 question)
{
	struct questions *questions = ONLY_ENTRY(asked);
	struct connection *now, *last;
	__u64 address;

	if (!questions || question >= ASKED_CONNECTIONS)
		return 1;
	address = questions->sockets[question];
	if (!address)
		return 1;
	now = &questions->connections[question];
	connection_fill(now, (void *)address);
	now->ended = 0;
	last = bpf_map_lookup_elem(&followed, &address);
	if (last && last->ended)
		*now = *last;
	return 0;
}

static __always_inline int connections_read(void)
{
	for (__u32 i = 0; i < ASKED_CONNECTIONS; i++)
		if (connection_read(i))
			break;
	return 0;
}

/* Every connection goes to TCP_CLOSE at its end, before its socket is freed. */
static __always_inline int connection_ends(struct sock *sk, __u32 state)
{
	__u64 address = (__u64)sk;
	struct connection *connection;
	__u64 *count = ONLY_ENTRY(endings);

	if (state != BPF_TCP_CLOSE)
		return 0;
	connection = bpf_map_lookup_elem(&followed, &address);
	if (!connection || !count || connection->ended)
		return 0;
	connection_fill(connection, sk);
	connection->ended = 1;
	ATOMIC_ADD(*count, 1);
	return 0;
}

#endif
