/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The 5-tuple from a packet's own headers (its socket's may differ: unconnected UDP,
 * resets, NAT, tunnels), and the state of its TCP socket.
 */
#ifndef XENTRACE_FLOW_H
#define XENTRACE_FLOW_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include "maps.h"

/* The headers that define these need a C library, or do not have them. */
#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1

#define MAX_VLAN_TAGS 3
#define MAX_EXTENSION_HEADERS 8

#define IPV4_OFFSET_MASK 0x1fff
#define IPV6_OFFSET_MASK 0xfff8

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

struct extension_header {
	__u8 next_header;
	__u8 length;
	__be16 fragment; /* of the fragment header */
	__be32 id;
};

static __always_inline int peek(const struct cursor *cursor, void *to, __u32 size)
{
	if (cursor->offset + size > cursor->end)
		return -1;
	return bpf_probe_read_kernel(to, size, (void *)(cursor->data + cursor->offset));
}

/* Outside the driver the link header may not be there yet, or not any more. */
static __always_inline bool at_network_header(const struct cursor *cursor, struct sk_buff *skb)
{
	__u64 head = (__u64)BPF_CORE_READ(skb, head);

	return cursor->data == head + BPF_CORE_READ(skb, network_header) &&
	       cursor->data != head + BPF_CORE_READ(skb, mac_header);
}

static __always_inline bool is_vlan(__u16 protocol)
{
	return protocol == ETH_P_8021Q || protocol == ETH_P_8021AD || protocol == ETH_P_QINQ1;
}

/* Moves past an Ethernet header and its VLAN tags; returns the protocol that follows. */
static __noinline int ethernet_protocol(struct cursor *cursor)
{
	struct ethhdr ethernet;
	struct vlan_tag tag;
	__u16 protocol;

	if (peek(cursor, &ethernet, sizeof(ethernet)))
		return 0;
	cursor->offset += sizeof(ethernet);
	protocol = bpf_ntohs(ethernet.h_proto);
	for (int i = 0; i < MAX_VLAN_TAGS && is_vlan(protocol); i++) {
		if (peek(cursor, &tag, sizeof(tag)))
			return 0;
		cursor->offset += sizeof(tag);
		protocol = bpf_ntohs(tag.protocol);
	}
	return protocol;
}

/* Moves to the network header; returns its protocol. */
static __always_inline __u16 link_protocol(struct cursor *cursor, struct packet_event *event,
					   struct sk_buff *skb)
{
	unsigned short type = BPF_CORE_READ(skb, dev, type);

	event->linkless = 0;
	if ((type == ARPHRD_ETHER || type == ARPHRD_LOOPBACK) && !at_network_header(cursor, skb))
		return ethernet_protocol(cursor);
	cursor->offset = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header) -
			 (unsigned char *)cursor->data;
	event->linkless = !cursor->offset;
	return bpf_ntohs(BPF_CORE_READ(skb, protocol));
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

/* 0 for a pure ACK. */
static __always_inline __u32 seq_length(const struct cursor *cursor)
{
	struct tcphdr tcp;
	__u32 headers;

	if (peek(cursor, &tcp, __builtin_offsetof(struct tcphdr, window)))
		return 0;
	headers = cursor->offset + tcp.doff * 4;
	return (headers < cursor->len ? cursor->len - headers : 0) + tcp.syn + tcp.fin;
}

static __always_inline void transport(struct flow *flow, const struct cursor *cursor)
{
	struct tcphdr header = {}; /* the ports are in the same place everywhere */

	if (!has_ports(flow->proto))
		return;
	if (peek(cursor, &header, flow->proto == IPPROTO_TCP ? 8 : 4))
		return;
	flow->sport = bpf_ntohs(header.source);
	flow->dport = bpf_ntohs(header.dest);
	if (flow->proto == IPPROTO_TCP) {
		flow->seq = bpf_ntohl(header.seq);
		flow->has_seq = 1;
		flow->seq_length = seq_length(cursor);
	}
}

static __noinline int ipv4_flow(struct flow *flow, struct cursor *cursor)
{
	struct iphdr ip;

	if (peek(cursor, &ip, sizeof(ip)) || ip.version != 4)
		return 0;
	flow->family = 4;
	flow->proto = ip.protocol;
	__builtin_memcpy(flow->saddr, &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(flow->daddr, &ip.daddr, sizeof(ip.daddr));
	/* Of a header shorter than itself the ports would be read from its addresses. */
	if (ip.ihl < 5 || bpf_ntohs(ip.frag_off) & IPV4_OFFSET_MASK)
		return 0;
	cursor->offset += ip.ihl * 4;
	transport(flow, cursor);
	return 1;
}

/* Returns the transport protocol; sets *rest for a fragment that is not the first. */
static __always_inline __u8 skip_extensions(struct cursor *cursor, __u8 next, __u8 *rest)
{
	struct extension_header header;

	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH && next != IPPROTO_MH)
			break;
		if (peek(cursor, &header, sizeof(header)))
			break;
		if (next == IPPROTO_FRAGMENT) {
			cursor->offset += sizeof(header);
			*rest = (bpf_ntohs(header.fragment) & IPV6_OFFSET_MASK) != 0;
		} else if (next == IPPROTO_AH) {
			cursor->offset += (header.length + 2) * 4;
		} else {
			cursor->offset += (header.length + 1) * 8;
		}
		next = header.next_header;
		if (*rest)
			break;
	}
	return next;
}

static __noinline int ipv6_flow(struct flow *flow, struct cursor *cursor)
{
	struct ipv6hdr ip;
	__u8 rest = 0;

	if (peek(cursor, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	flow->family = 6;
	__builtin_memcpy(flow->saddr, &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(flow->daddr, &ip.daddr, sizeof(ip.daddr));
	cursor->offset += sizeof(ip);
	flow->proto = skip_extensions(cursor, ip.nexthdr, &rest);
	if (rest)
		return 0;
	transport(flow, cursor);
	return 1;
}

/* Reads a flow; returns whether the cursor is at its transport header then. */
static __always_inline int network_flow(struct flow *flow, struct cursor *cursor, __u32 protocol)
{
	if (protocol == ETH_P_IP)
		return ipv4_flow(flow, cursor);
	if (protocol == ETH_P_IPV6)
		return ipv6_flow(flow, cursor);
	return 0;
}

/* Not a request or time-wait socket, which are smaller. */
static __always_inline bool is_full_socket(struct sock *sk)
{
	unsigned char state = BPF_CORE_READ(sk, __sk_common.skc_state);

	return state != BPF_TCP_TIME_WAIT && state != BPF_TCP_NEW_SYN_RECV;
}

/* Nor the raw socket that resets are sent from, whose protocol is IPPROTO_TCP too. */
static __always_inline int is_full_tcp(struct sock *sk)
{
	unsigned short family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (!is_full_socket(sk))
		return 0;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP &&
	       BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;
}

/* The addresses of a connected socket of TCP or UDP. */
static __noinline int socket_flow(struct flow *flow, struct sock *sk)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->proto = BPF_CORE_READ(sk, sk_protocol);
	flow->sport = BPF_CORE_READ(sk, __sk_common.skc_num);
	flow->dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		flow->family = 4;
		BPF_CORE_READ_INTO((__be32 *)flow->saddr, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((__be32 *)flow->daddr, sk, __sk_common.skc_daddr);
	} else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		flow->family = 6;
		BPF_CORE_READ_INTO(&flow->saddr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&flow->daddr, sk, __sk_common.skc_v6_daddr);
	}
	return 0;
}

/* All zero for another kind of socket, or none. */
static __noinline int tcp_state_read(struct tcp_state *tcp, struct sock *sk)
{
	struct inet_connection_sock *connection = (void *)sk;
	struct tcp_sock *tp = (void *)sk;

	__builtin_memset(tcp, 0, sizeof(*tcp));
	if (!sk || !is_full_tcp(sk))
		return 0;
	tcp->present = 1;
	tcp->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	tcp->snd_una = BPF_CORE_READ(tp, snd_una);
	tcp->snd_nxt = BPF_CORE_READ(tp, snd_nxt);
	tcp->write_seq = BPF_CORE_READ(tp, write_seq);
	tcp->srtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;
	tcp->rto_jiffies = BPF_CORE_READ(connection, icsk_rto);
	tcp->retransmits = BPF_CORE_READ(connection, icsk_retransmits);
	tcp->backoff = BPF_CORE_READ(connection, icsk_backoff);
	tcp->total_retrans = BPF_CORE_READ(tp, total_retrans);
	tcp->bytes_acked = BPF_CORE_READ(tp, bytes_acked);
	return 0;
}

#endif
