/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What crosses the ring buffer. bpf2go writes the Go types from these; a record
 * is cut off behind its last fragment. Only if a stack follows it is not: the stack
 * lies behind the room for all fragments.
 */
#ifndef XENTRACE_EVENT_H
#define XENTRACE_EVENT_H

#include <linux/types.h>
#include "slots.h"

enum event_kind {
	EVENT_PACKET = 1,
	EVENT_INTERFACE, /* traffic on an interface that is not registered yet */
	EVENT_ELSEWHERE, /* a packet dropped outside the driver, see elsewhere.h */
};

enum verdict {
	VERDICT_NONE,
	VERDICT_SENT,
	VERDICT_DROPPED,
	VERDICT_LINEARIZED,
	VERDICT_BOUNCED,
	VERDICT_OVER_LIMIT,
	VERDICT_REJECTED,
};

/* In the order of the tests in xennet_start_xmit(). */
enum cause {
	CAUSE_NONE,
	CAUSE_NO_QUEUES,
	CAUSE_DEVICE_BROKEN,
	CAUSE_TOO_BIG,
	CAUSE_TOO_MANY_SLOTS,
	CAUSE_LINEARIZE_FAILED, /* told apart from the one above by user space only */
	CAUSE_BOUNCE_FAILED,
	CAUSE_NO_CARRIER,
	CAUSE_SG_OFF,
	CAUSE_NEEDS_GSO,
	CAUSE_UNKNOWN,
	CAUSES,
};

struct tcp_state {
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
	__u32 rto_jiffies;
	__u32 srtt_us; /* already divided by eight */
	__u32 total_retrans;
	__u64 bytes_acked; /* moves as snd_una does */
	__u8 state;
	__u8 retransmits;
	__u8 backoff;
	__u8 present;
	__u32 pad;
};

#define MAX_KERNEL_FRAMES 48
#define MAX_USER_FRAMES 32

/*
 * What ran when a packet was handed over: whether that is the call which sent it, user
 * space tells by the kernel's frames. Return addresses, innermost first.
 */
struct call_stack {
	__u32 tgid;
	__u16 nr_kernel; /* 0: not taken */
	__u16 nr_user;
	__u64 kernel[MAX_KERNEL_FRAMES];
	__u64 user[MAX_USER_FRAMES]; /* as far as frame pointers lead */
};

/* The socket that a packet belongs to; all zero for one without, as forwarded packets are. */
struct socket_identity {
	__u64 address; /* of the struct sock: tells sockets apart as long as they live */
	__u64 cookie;  /* 0: the kernel has not numbered it yet */
	__u64 inode;   /* of sockfs, 0: no file leads to it */
	__u64 cgroup;  /* id in the cgroup v2 hierarchy, 0: unknown */
	__u32 uid;
	__u32 hash; /* of a connection's addresses and ports */
};

/* The process that was sending the packet, where that is sure; see sender.h. */
struct sender {
	__u64 started; /* after boot, by CLOCK_BOOTTIME: with tgid it tells processes apart */
	__u64 cgroup;  /* its own, in the cgroup v2 hierarchy */
	__u32 tgid;    /* 0: not known */
	__u32 pad;
	__u8 comm[16];
};

struct flow {
	__u8 saddr[16]; /* IPv4: the first four bytes */
	__u8 daddr[16];
	__u16 sport; /* host byte order */
	__u16 dport;
	__u32 seq;
	__u32 seq_length; /* sequence numbers taken: the payload, and one each for SYN and FIN */
	__u8 family;	  /* 4, 6, or 0 for neither */
	__u8 proto;
	__u8 has_seq;
	__u8 pad;
};

struct event_frag {
	__u32 offset;
	__u32 size;
};

struct event_header {
	enum event_kind kind;
	__u32 ifindex;
	__u32 netns;
	__u32 cpu;
};

struct interface_event {
	struct event_header header;
	__u8 name[16];
};

struct packet_event {
	struct event_header header;
	__u64 time_ns; /* CLOCK_BOOTTIME, which a machine that was saved does not lose */
	__u32 len;
	__u32 head_offset;
	__u32 head_len;
	__u16 slots;
	__u16 queue;
	__u16 gso_size;
	__u16 gso_segs;
	enum verdict verdict;
	enum cause cause;
	__u32 nr_frags;
	struct tcp_state tcp;
	struct socket_identity socket;
	struct sender sender;
	struct flow flow;
	struct event_frag frags[MAX_FRAGS];
};

#endif
