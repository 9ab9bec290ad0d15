/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet that another one carries: by VXLAN, Geneve, GRE, IPIP and SIT, or a frame by MPLS
 * and PPPoE, one level. What is encrypted (WireGuard, ESP) only the socket shows.
 */
#ifndef XENTRACE_TUNNEL_H
#define XENTRACE_TUNNEL_H

#include "flow.h"

/* Ports that VXLAN and Geneve are sent to; the second is the default of Linux's driver. */
#define VXLAN_PORT 4789
#define VXLAN_PORT_LINUX 8472
#define GENEVE_PORT 6081

#define VXLAN_HAS_VNI 0x08
#define GENEVE_OPTION_WORDS 0x3f
#define GRE_CHECKSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_VERSION 0x0007

#define UDP_HEADER 8

#define MAX_MPLS_LABELS 8
#define MPLS_BOTTOM 0x100 /* no label follows */
#define PPPOE_SESSION 0x1100
#define PPP_IP 0x0021
#define PPP_IPV6 0x0057

struct vxlan_header {
	__u8 flags;
	__u8 reserved[3];
	__be32 vni;
};

struct geneve_header {
	__u8 options; /* and version */
	__u8 flags;
	__be16 protocol;
	__be32 vni;
};

struct gre_header {
	__be16 flags;
	__be16 protocol;
};

struct pppoe_header {
	__be16 session_data; /* version, type and code */
	__be16 session;
	__be16 length;
	__be16 protocol; /* PPP's */
};

/* Behind a tunnel's header: an Ethernet frame, or a packet of that protocol. */
static __always_inline __u16 carried_protocol(struct cursor *cursor, __be16 protocol)
{
	__u16 carried = bpf_ntohs(protocol);

	return carried == ETH_P_TEB ? ethernet_protocol(cursor) : carried;
}

static __noinline int vxlan_protocol(struct cursor *cursor)
{
	struct vxlan_header vxlan;

	if (peek(cursor, &vxlan, sizeof(vxlan)) || !(vxlan.flags & VXLAN_HAS_VNI))
		return 0;
	cursor->offset += sizeof(vxlan);
	return ethernet_protocol(cursor);
}

static __noinline int geneve_protocol(struct cursor *cursor)
{
	struct geneve_header geneve;

	if (peek(cursor, &geneve, sizeof(geneve)))
		return 0;
	cursor->offset += sizeof(geneve) + (geneve.options & GENEVE_OPTION_WORDS) * 4;
	return carried_protocol(cursor, geneve.protocol);
}

static __noinline int gre_protocol(struct cursor *cursor)
{
	struct gre_header gre;
	__u16 flags;

	if (peek(cursor, &gre, sizeof(gre)))
		return 0;
	flags = bpf_ntohs(gre.flags);
	if (flags & GRE_VERSION)
		return 0;
	cursor->offset += sizeof(gre) + (flags & GRE_CHECKSUM ? 4 : 0) + (flags & GRE_KEY ? 4 : 0) +
			  (flags & GRE_SEQUENCE ? 4 : 0);
	return carried_protocol(cursor, gre.protocol);
}

/* Moves from the transport header to the carried packet; returns its protocol, 0 for none. */
static __always_inline __u16 tunnel_protocol(struct cursor *cursor, const struct flow *outer)
{
	switch (outer->proto) {
	case IPPROTO_IPIP:
		return ETH_P_IP;
	case IPPROTO_IPV6:
		return ETH_P_IPV6;
	case IPPROTO_GRE:
		return gre_protocol(cursor);
	case IPPROTO_UDP:
		cursor->offset += UDP_HEADER;
		if (outer->dport == GENEVE_PORT)
			return geneve_protocol(cursor);
		if (outer->dport == VXLAN_PORT || outer->dport == VXLAN_PORT_LINUX)
			return vxlan_protocol(cursor);
	}
	return 0;
}

/* What labels lead to has no type: the first four bits of IP are its version. */
static __noinline int mpls_protocol(struct cursor *cursor)
{
	__be32 label = 0;
	__u8 version = 0;

	for (int i = 0; i < MAX_MPLS_LABELS && !(bpf_ntohl(label) & MPLS_BOTTOM); i++) {
		if (peek(cursor, &label, sizeof(label)))
			return 0;
		cursor->offset += sizeof(label);
	}
	if (!(bpf_ntohl(label) & MPLS_BOTTOM) || peek(cursor, &version, sizeof(version)))
		return 0;
	version >>= 4;
	return version == 4 ? ETH_P_IP : version == 6 ? ETH_P_IPV6 : 0;
}

static __noinline int pppoe_protocol(struct cursor *cursor)
{
	struct pppoe_header pppoe;

	if (peek(cursor, &pppoe, sizeof(pppoe)) || bpf_ntohs(pppoe.session_data) != PPPOE_SESSION)
		return 0;
	cursor->offset += sizeof(pppoe);
	switch (bpf_ntohs(pppoe.protocol)) {
	case PPP_IP:
		return ETH_P_IP;
	case PPP_IPV6:
		return ETH_P_IPV6;
	}
	return 0;
}

/* Moves to the packet that a frame of another protocol than IP carries; returns its protocol. */
static __always_inline __u16 framed_protocol(struct cursor *cursor, __u16 ether_type)
{
	switch (ether_type) {
	case ETH_P_MPLS_UC:
	case ETH_P_MPLS_MC:
		return mpls_protocol(cursor);
	case ETH_P_PPP_SES:
		return pppoe_protocol(cursor);
	}
	return 0;
}

/* Reads the flow of a packet, and that of the one it carries. Inline: calls nest 8 deep. */
static __always_inline void flows_read(struct workspace *work, struct sk_buff *skb)
{
	struct packet_event *event = &work->event;
	struct cursor *cursor = &work->cursor;
	__u16 carried;

	__builtin_memset(&event->flow, 0, sizeof(event->flow));
	__builtin_memset(&event->inner, 0, sizeof(event->inner));
	cursor->data = (__u64)BPF_CORE_READ(skb, data);
	cursor->offset = 0;
	cursor->len = event->len;
	cursor->end = event->head_len;
	event->ether_type = link_protocol(cursor, event, skb);
	if (network_flow(&event->flow, cursor, event->ether_type))
		carried = tunnel_protocol(cursor, &event->flow);
	else
		carried = framed_protocol(cursor, event->ether_type);
	network_flow(&event->inner, cursor, carried);
}

/* The connection of a packet that does not show it: its addresses by its socket. */
static __noinline int connection_flow(struct packet_event *event, struct sock *sk)
{
	if (!event->tcp.present || event->tcp.state == BPF_TCP_LISTEN ||
	    event->flow.proto == IPPROTO_TCP || event->inner.proto == IPPROTO_TCP)
		return 0;
	return socket_flow(&event->inner, sk);
}

#endif
