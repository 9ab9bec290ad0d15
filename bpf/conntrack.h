/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The addresses of a packet before NAT, by the connection tracking entry that the packet
 * carries: nothing is looked up, and no namespace entered.
 */
#ifndef XENTRACE_CONNTRACK_H
#define XENTRACE_CONNTRACK_H

#include "flow.h"

/* The lowest bits of sk_buff._nfct: enum ip_conntrack_info, by the packet's direction. */
#define NFCT_INFO 7u
#define IP_CT_IS_REPLY 3u

/* Of enum ip_conntrack_status. */
#define IPS_SRC_NAT (1u << 4)
#define IPS_DST_NAT (1u << 5)

/* struct nf_conntrack_tuple, which is laid out so since 2.6.25. */
struct conntrack_tuple {
	__u8 saddr[16];
	__be16 sport;
	__u16 family;
	__u8 daddr[16];
	__be16 dport;
	__u8 proto;
	__u8 direction;
};

static __always_inline __u64 tracked_connection(struct sk_buff *skb)
{
	if (!bpf_core_field_exists(skb->_nfct) || !bpf_core_type_exists(struct nf_conn))
		return 0;
	return BPF_CORE_READ(skb, _nfct);
}

/*
 * Each direction has the addresses with which its packets arrive. ICMP errors belong to the
 * connection that they report on, which is of another protocol.
 */
static __noinline int original_read(struct packet_event *event, struct sk_buff *skb)
{
	__u64 tracked = tracked_connection(skb), at = tracked & ~(__u64)NFCT_INFO;
	__u64 size = bpf_core_type_size(struct nf_conntrack_tuple_hash);
	struct nf_conn *connection = (void *)at;
	struct conntrack_tuple tuple;
	struct flow *flow = &event->inner;

	event->before_nat = 0;
	if (!at || flow->family ||
	    !(BPF_CORE_READ(connection, status) & (IPS_SRC_NAT | IPS_DST_NAT)))
		return 0;
	at += bpf_core_field_offset(struct nf_conn, tuplehash) + size - sizeof(tuple);
	if ((tracked & NFCT_INFO) >= IP_CT_IS_REPLY)
		at += size;
	if (bpf_probe_read_kernel(&tuple, sizeof(tuple), (void *)at) ||
	    tuple.proto != event->flow.proto)
		return 0;
	event->before_nat = 1;
	flow->family = tuple.family == AF_INET ? 4 : 6;
	flow->proto = tuple.proto;
	__builtin_memcpy(flow->saddr, tuple.saddr, sizeof(tuple.saddr));
	__builtin_memcpy(flow->daddr, tuple.daddr, sizeof(tuple.daddr));
	if (has_ports(flow->proto)) {
		flow->sport = bpf_ntohs(tuple.sport);
		flow->dport = bpf_ntohs(tuple.dport);
	}
	return 0;
}

#endif
