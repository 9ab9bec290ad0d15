/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much a packet carries behind its headers.
 */
#ifndef XENTRACE_PAYLOAD_H
#define XENTRACE_PAYLOAD_H

#include "skb.h"

/* Payload below this makes a packet a small one. */
#define SMALL_PAYLOAD 256

#define ETHERNET_IPV4 0x0800
#define ETHERNET_IPV6 0x86dd
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define UDP_HEADER 8

struct sk_buff___transport {
	__u16 transport_header;
} KERNEL_TYPE;

/* One byte of kernel memory. */
static __always_inline __u8 byte_at(__u64 address, const bool direct)
{
	__u8 byte = 0;

	if (direct)
		return words_at(address)->tv_sec;
	bpf_probe_read_kernel(&byte, sizeof(byte), (void *)address);
	return byte;
}

/* Bytes behind the transport header of TCP and UDP, behind the link header of the rest. */
static __always_inline __u32 payload_of(struct sk_buff *skb, __u32 len, const bool direct)
{
	struct sk_buff___transport *transport = (void *)skb;
	__u32 network = LOAD(direct, skb, network_header);
	__u32 begin =
		direct ? transport->transport_header : BPF_CORE_READ(transport, transport_header);
	__u16 protocol = LOAD(direct, skb, protocol);
	struct skb_memory memory;
	__u32 headers;
	__u8 byte;

	if (direct)
		skb_memory_typed(skb, &memory);
	else if (skb_memory(skb, &memory, false))
		return len;
	if (protocol == __builtin_bswap16(ETHERNET_IPV4))
		byte = byte_at(memory.head + network + 9, direct);
	else if (protocol == __builtin_bswap16(ETHERNET_IPV6))
		byte = byte_at(memory.head + network + 6, direct);
	else
		return len;
	headers = memory.head + begin - memory.data;
	if (byte == PROTOCOL_UDP)
		headers += UDP_HEADER;
	else if (byte == PROTOCOL_TCP)
		headers += byte_at(memory.head + begin + 12, direct) >> 4 << 2;
	return headers < len ? len - headers : 0;
}

#endif
