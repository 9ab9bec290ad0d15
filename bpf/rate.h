/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The limit of records per second, decided before a record is made. Counts do not depend
 * on it, and a packet that is not reported never comes here.
 *
 * Userspace raises the limits ten times a second so that no second has more records than
 * asked for; see internal/trace/rate.go. A quarter of them is reserved, in equal shares by
 * the user of the packet's socket: one user's storm leaves the others theirs.
 */
#ifndef XENTRACE_RATE_H
#define XENTRACE_RATE_H

#include "flow.h"

/* The first is for all. Users whose numbers have the same hash have one share. */
#define RATE_SHARES 32
#define RATE_SHIFT 27 /* 32 - log2(RATE_SHARES) */
#define RATE_POOLS (1 + RATE_SHARES)

/* Records since the start, of each pool. */
struct rate_pools {
	__u64 records[RATE_POOLS];
};

enum rate_entry {
	RATE_TAKEN, /* refused ones too, where CPUs met at the limit */
	RATE_LIMIT, /* written by userspace only */
	RATE_ENTRIES,
};

MAP(rates, ARRAY, RATE_ENTRIES, enum rate_entry, struct rate_pools);

/*
 * The number is read after the addition, so it is at least that of this record: CPUs that
 * meet at the limit may all be refused, never too many allowed.
 */
static __always_inline bool rate_take(__u64 *taken, const __u64 *limit)
{
	__u64 most = READ_ONCE(*limit);

	if (READ_ONCE(*taken) >= most)
		return false;
	ATOMIC_ADD(*taken, 1);
	return READ_ONCE(*taken) <= most;
}

/* Whether a record of that share may be made. Not static: verified once, not at each call. */
__noinline int rate_allows(__u64 share)
{
	enum rate_entry first = RATE_TAKEN, second = RATE_LIMIT;
	struct rate_pools *taken = bpf_map_lookup_elem(&rates, &first);
	struct rate_pools *limit = bpf_map_lookup_elem(&rates, &second);

	if (!taken || !limit)
		return 0;
	AT_MOST(share, RATE_POOLS - 1);
	return rate_take(&taken->records[share], &limit->records[share]) ||
	       rate_take(&taken->records[0], &limit->records[0]);
}

/* Packets without a full socket, such as forwarded ones, have the share of user 0. */
static __noinline int record_allowed(struct sk_buff *skb)
{
	struct sock *sk = BPF_CORE_READ(skb, sk);
	__u32 uid = sk && is_full_socket(sk) ? BPF_CORE_READ(sk, sk_uid.val) : 0;

	return rate_allows(1 + (uid * 0x9e3779b1u >> RATE_SHIFT));
}

/* Counts a record that was not made. Atomic: the response hooks may interrupt a transmit. */
static __noinline int suppressed(__u32 index, __u32 verdict, __u32 cause)
{
	struct counters *counters = bpf_map_lookup_elem(&counters_of, &index);
	__u64 kind = verdict == VERDICT_DROPPED ? VERDICTS + cause : verdict;

	if (!counters)
		return 0;
	AT_MOST(kind, SUPPRESSIONS - 1);
	ATOMIC_ADD(counters->suppressed[kind], 1);
	return 0;
}

#endif
