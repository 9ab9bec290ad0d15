/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why the driver dropped a packet: its own tests, in its own order, asked again
 * at the moment of the drop.
 */
#ifndef XENTRACE_CAUSE_H
#define XENTRACE_CAUSE_H

#include "maps.h"

#define NETIF_F_SG 1 /* 1 << NETIF_F_SG_BIT, the first of all features */

/* A bool in struct netfront_info, which is private to the driver; 0 where it is not known. */
static __always_inline __u8 netfront_flag(struct net_device *dev, __s32 offset)
{
	__u8 value = 0;

	if (offset < 0 || config.priv_offset < 0)
		return 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)dev + config.priv_offset + offset);
	return value;
}

static __always_inline int no_carrier(struct net_device *dev)
{
	unsigned long state = BPF_CORE_READ(dev, state);

	return state >> bpf_core_enum_value(enum netdev_state_t, __LINK_STATE_NOCARRIER) & 1;
}

/* The driver keeps the number of slots that it counted first, also of a packet made linear. */
static __always_inline int sg_off(struct net_device *dev, __u32 slots)
{
	return slots > 1 && !(BPF_CORE_READ(dev, features) & NETIF_F_SG);
}

static __always_inline int is_gso(struct sk_buff *skb)
{
	struct skb_memory memory;

	if (skb_memory(skb, &memory, false))
		return 0;
	return BPF_CORE_READ((struct skb_shared_info *)shared_info(&memory), gso_size) != 0;
}

/* The tests that come after a bounce; skb may be the copy. */
static __always_inline enum cause late_cause(struct sk_buff *skb, struct net_device *dev,
					     __u32 slots)
{
	if (no_carrier(dev))
		return CAUSE_NO_CARRIER;
	if (sg_off(dev, slots))
		return CAUSE_SG_OFF;
	if (is_gso(skb))
		return CAUSE_NEEDS_GSO;
	return CAUSE_UNKNOWN;
}

/* The packet as it is now begins too close to the end of a page, or is not to be shown as it is. */
static __always_inline int bounce_wanted(struct window *window, struct sk_buff *skb)
{
	struct net_device *dev = (void *)window->dev;
	struct skb_memory memory;

	if (netfront_flag(dev, config.bounce_offset))
		return 1;
	if (skb_memory(skb, &memory, false))
		return 0;
	return head_wants_bounce(offset_in_page(memory.data, config.page_size), config.page_size);
}

/* skb is what the driver frees: the packet, or its bounce copy. */
static __noinline int drop_cause(struct window *window, struct sk_buff *skb)
{
	struct net_device *dev = (void *)window->dev;

	if (!BPF_CORE_READ(dev, real_num_tx_queues))
		return CAUSE_NO_QUEUES;
	if (netfront_flag(dev, config.broken_offset))
		return CAUSE_DEVICE_BROKEN;
	if (BPF_CORE_READ(skb, len) > MAX_PACKET_LEN)
		return CAUSE_TOO_BIG;
	/* User space knows whether it was tried to linearize the packet. */
	if (window->slots > SLOT_LIMIT && BPF_CORE_READ(skb, data_len))
		return CAUSE_TOO_MANY_SLOTS;
	if (!(window->flags & WINDOW_BOUNCED) && bounce_wanted(window, skb))
		return CAUSE_BOUNCE_FAILED;
	return late_cause(skb, dev, window->slots);
}

#endif
