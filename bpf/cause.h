/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why the driver dropped a packet: the tests of xennet_start_xmit() in their order,
 * made again at the moment of the drop.
 */
#ifndef XENTRACE_CAUSE_H
#define XENTRACE_CAUSE_H

#include "maps.h"

#define NETIF_F_SG 1 /* 1 << NETIF_F_SG_BIT, the first of all features */

/*
 * A bool in struct netfront_info, which is private to the driver: at an offset that its types
 * tell, or one from netfront_flags. 0 if neither is known.
 */
static __always_inline __u8 netfront_flag(struct net_device *dev, __s32 offset, __u32 in_code)
{
	const __u32 flags = netfront_flags;

	if (offset >= 0 && config.priv_offset >= 0)
		return byte_at((__u64)dev + config.priv_offset + offset, false);
	return flags ? byte_at((__u64)dev + flags + in_code, false) : 0;
}

static __always_inline __u8 netfront_broken(struct net_device *dev)
{
	return netfront_flag(dev, config.broken_offset, 0);
}

static __always_inline __u8 netfront_bounces(struct net_device *dev)
{
	return netfront_flag(dev, config.bounce_offset, 1);
}

/*
 * The tests after a bounce; skb may be the copy. The driver does not recount the slots
 * of a packet that it linearized.
 */
static __always_inline enum cause late_cause(struct sk_buff *skb, struct net_device *dev,
					     __u32 slots)
{
	if (!has_carrier(dev))
		return CAUSE_NO_CARRIER;
	if (slots > 1 && !(BPF_CORE_READ(dev, features) & NETIF_F_SG))
		return CAUSE_SG_OFF;
	if (BPF_CORE_READ(skb_info(skb), gso_size))
		return CAUSE_NEEDS_GSO;
	return CAUSE_UNKNOWN;
}

static __always_inline bool head_straddles(struct sk_buff *skb)
{
	__u64 data = (__u64)BPF_CORE_READ(skb, data);

	return head_wants_bounce(offset_in_page(data, config.page_size), config.page_size);
}

/* The head begins too close to the end of a page, or the backend is not trusted. */
static __always_inline int bounce_wanted(struct inflight *inflight, struct sk_buff *skb)
{
	return netfront_bounces((void *)inflight->dev) || head_straddles(skb);
}

/* skb is what the driver frees: the packet, or its bounce copy. */
static __noinline int drop_cause(struct inflight *inflight, struct sk_buff *skb)
{
	struct net_device *dev = (void *)inflight->dev;

	if (!BPF_CORE_READ(dev, real_num_tx_queues))
		return CAUSE_NO_QUEUES;
	if (netfront_broken(dev))
		return CAUSE_DEVICE_BROKEN;
	if (BPF_CORE_READ(skb, len) > MAX_PACKET_LEN)
		return CAUSE_TOO_BIG;
	/* Userspace knows whether the driver tries to linearize. */
	if (inflight->slots > SLOT_LIMIT && BPF_CORE_READ(skb, data_len))
		return CAUSE_TOO_MANY_SLOTS;
	if (!(inflight->flags & INFLIGHT_BOUNCED) && bounce_wanted(inflight, skb))
		return CAUSE_BOUNCE_FAILED;
	return late_cause(skb, dev, inflight->slots);
}

#endif
