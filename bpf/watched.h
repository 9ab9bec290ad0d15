/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which interfaces are watched, and where their packets are counted.
 */
#ifndef XENTRACE_WATCHED_H
#define XENTRACE_WATCHED_H

#include "capture.h"
#include "window.h"

/* Tells user space of an interface it does not know yet, now and then until it does. */
static __noinline int tell_unregistered(struct net_device *dev, __u32 ifindex, __u32 netns)
{
	struct transmit *transmit = transmit_here();
	struct interface_event *event;

	if (!transmit)
		return 0;
	event = &transmit->unregistered;
	if (event->header.ifindex == ifindex && event->header.netns == netns &&
	    ++transmit->unregistered_packets % 1024)
		return 0;
	header_fill(&event->header, EVENT_INTERFACE, dev);
	bpf_core_read(&event->name, sizeof(event->name), &dev->name);
	bpf_ringbuf_output(&events, event, sizeof(*event), BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* Where the packets of a device are counted. */
struct watched {
	__u32 index; /* into counters_of */
	__u32 netfront;
};

static __always_inline bool is_netfront(struct net_device *dev, const bool direct)
{
	const struct net_device_ops *ops;
	__u64 xmit = netfront_xmit;

	if (!xmit)
		return false;
	ops = LOAD(direct, dev, netdev_ops);
	return (__u64)BPF_CORE_READ(ops, ndo_start_xmit) == xmit;
}

static __always_inline bool watched_find(struct watched *watched, struct net_device *dev,
					 const bool in_driver, const bool direct)
{
	__u32 ifindex = LOAD(direct, dev, ifindex);
	__u32 netns = netns_inum(dev, direct);
	struct interface *interface = interface_find(ifindex, netns);

	if (interface) {
		watched->index = interface->index;
		watched->netfront = in_driver || interface->netfront;
		return true;
	}
	if (!config.any_interface || !(in_driver || is_netfront(dev, direct)))
		return false;
	tell_unregistered(dev, ifindex, netns);
	watched->index = 0;
	watched->netfront = 1;
	return true;
}

#endif
