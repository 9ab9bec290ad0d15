/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of the ring buffer; bpf2go makes Go types of them. A record ends after its
 * last fragment, or after the call stack, which follows the room for all fragments.
 * The packet's first bytes come last, if they were asked for.
 */
#ifndef XENTRACE_EVENT_H
#define XENTRACE_EVENT_H

#include <linux/types.h>
#include "slots.h"

enum event_kind {
	EVENT_PACKET = 1,
	EVENT_INTERFACE, /* a packet on an interface that is not registered yet */
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
	VERDICT_ACCEPTED, /* probe only: the backend accepted one of its requests */
	VERDICTS,
};

/* In the order of the tests in xennet_start_xmit(). */
enum cause {
	CAUSE_NONE,
	CAUSE_NO_QUEUES,
	CAUSE_DEVICE_BROKEN,
	CAUSE_TOO_BIG,
	CAUSE_TOO_MANY_SLOTS,
	CAUSE_LINEARIZE_FAILED, /* set by userspace only, instead of the one above */
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
	__u64 bytes_acked;
	__u8 state;
	__u8 retransmits;
	__u8 backoff;
	__u8 present;
	__u32 pad;
};

/* Most bytes of a packet that are recorded. */
#define MAX_SNAP 256u

#define MAX_KERNEL_FRAMES 48
#define MAX_USER_FRAMES 32

/*
 * The stack at a packet's transmit: return addresses, innermost first. Userspace decides
 * by the kernel's frames whether it is that of the sender.
 */
struct call_stack {
	__u32 tgid;
	__u16 nr_kernel; /* 0: no stack */
	__u16 nr_user;
	__u64 kernel[MAX_KERNEL_FRAMES];
	__u64 user[MAX_USER_FRAMES]; /* as far as frame pointers lead */
};

/* The packet's socket; all zero without one, e.g. if forwarded. */
struct socket_identity {
	__u64 address; /* of the struct sock: unique while it lives */
	__u64 cookie;  /* 0: not assigned yet */
	__u64 inode;   /* of sockfs, 0: no file */
	__u64 cgroup;  /* id in the cgroup v2 hierarchy, 0: unknown */
	__u32 uid;
	__u32 hash; /* of a connection's addresses and ports */
};

/* The sending process, where that is certain; see owner.h. */
struct sender {
	__u64 started; /* CLOCK_BOOTTIME ns: unique together with tgid */
	__u64 cgroup;  /* of the process, in the cgroup v2 hierarchy */
	__u32 tgid;    /* 0: unknown */
	__u32 pad;
	__u8 comm[16];
};

struct flow {
	__u8 saddr[16]; /* IPv4: the first four bytes */
	__u8 daddr[16];
	__u16 sport; /* host byte order */
	__u16 dport;
	__u32 seq;
	__u32 seq_length; /* payload, and one each for SYN and FIN */
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
	__u64 time_ns; /* CLOCK_BOOTTIME */
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
	__u16 snapped;	  /* bytes of the packet at the end of the record */
	__u16 ether_type; /* after VLAN tags, 0 if unknown */
	__u8 linkless;	  /* the packet begins with its network header */
	__u8 stacked;	  /* the record has a call stack */
	__u8 before_nat;
	__u8 pad;
	struct tcp_state tcp;
	struct socket_identity socket;
	struct sender sender;
	struct flow flow;
	/*
	 * Of the packet that this one carries, else with before_nat the packet's own before NAT;
	 * of family 0 for neither.
	 */
	struct flow inner;
	struct event_frag frags[MAX_FRAGS];
};

#endif
