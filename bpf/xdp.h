/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames that XDP programs send (XDP_TX, XDP_REDIRECT). The driver puts each into one slot and
 * counts it in tx_packets, but it never enters xennet_start_xmit().
 */
#ifndef XENTRACE_XDP_H
#define XENTRACE_XDP_H

#include "cause.h"
#include "count.h"

/* Of one interface on one CPU. */
struct xdp_counters {
	__u64 packets;
	__u64 dropped; /* not accepted: the caller frees them, and tx_dropped does not move */
};

MAP(xdp_counters_of, PERCPU_ARRAY, COUNTED_INTERFACES, __u32, struct xdp_counters);

static __always_inline int xdp_count(struct net_device *dev, __s64 sent, __s64 dropped,
				     const bool in_driver)
{
	const struct interface *interface;
	struct xdp_counters *counters;
	__u32 index;

	if (!enabled)
		return 0;
	interface = watched(interface_of(dev, false), dev, in_driver, false);
	if (!interface)
		return 0;
	index = interface->index;
	counters = bpf_map_lookup_elem(&xdp_counters_of, &index);
	if (!counters)
		return 0;
	if (sent > 0)
		counters->packets += sent;
	if (dropped > 0)
		counters->dropped += dropped;
	return 0;
}

/* The return of ndo_xdp_xmit: how many of n were sent, or an error. */
static __always_inline int xdp_sent(struct net_device *dev, int n, int sent)
{
	return xdp_count(dev, sent, (__s64)n - (sent > 0 ? sent : 0), true);
}

/* Its entry: nothing is sent through an interface that the driver disabled. */
static __always_inline int xdp_begin(struct net_device *dev, int n)
{
	const bool broken = netfront_broken(dev);

	return xdp_count(dev, broken ? 0 : n, broken ? n : 0, true);
}

#endif
