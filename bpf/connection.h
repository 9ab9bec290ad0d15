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
 * The memory of a TCP socket stays one (SLAB_TYPESAFE_BY_RCU): a freed one reads as
 * closed, or as its successor. So whether it ended is read last.
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

static __always_inline int connections_read(void)
{
	struct questions *questions = ONLY_ENTRY(asked);

	if (!questions)
		return -1;
	for (__u32 i = 0; i < ASKED_CONNECTIONS; i++) {
		if (!questions->sockets[i])
			break;
		connection_read(&questions->connections[i], questions->sockets[i]);
	}
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
