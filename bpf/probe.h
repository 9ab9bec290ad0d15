/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet that xentrace sends itself: it is told of whatever becomes of it, also if
 * it is sent as usual. Without config.probe nothing of this is left after loading.
 */
#ifndef XENTRACE_PROBE_H
#define XENTRACE_PROBE_H

#include "maps.h"

/* The cookie of the socket that it is sent from, set by user space; 0: none yet. */
volatile __u64 probe_cookie;

/* A packet of the probe's socket. Its headers may have been rewritten, so they are not asked. */
static __always_inline bool is_probe(struct sk_buff *skb)
{
	__u64 wanted;
	struct sock *sk;

	if (!config.probe)
		return false;
	wanted = probe_cookie;
	sk = BPF_CORE_READ(skb, sk);
	return wanted && sk && (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == wanted;
}

#endif
