//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One program for each hook of the congestion command.
 */
#include "tcp_accept.h"
#include "tx_completion.h"
#include "tx_transmit.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(congestion_begin_typed, struct sk_buff *skb, struct net_device *dev)
{
	return queue_begin_typed(skb, dev);
}

/* Where the kernel refuses the one above. */
SEC("raw_tp/net_dev_start_xmit")
int BPF_PROG(congestion_begin, void *skb, void *dev)
{
	return queue_begin_untyped(skb, dev);
}

SEC("raw_tp/net_dev_xmit")
int BPF_PROG(congestion_end, __u64 skb, int status, __u64 dev)
{
	return queue_end(skb, status, dev);
}

SEC("raw_tp/napi_poll")
int BPF_PROG(congestion_poll, struct napi_struct *napi, int work, int budget)
{
	return receive_poll(napi, work, budget);
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(congestion_state, struct sock *sk, int before, int after)
{
	return state_changed(sk, before, after);
}

/* The return value follows the arguments: 2 since 92ef0fd55ac8 (6.10), 4 before. */

SEC("fexit/inet_csk_accept")
int BPF_PROG(congestion_accept, struct sock *listener, void *arg, struct sock *sk)
{
	return accepted(listener, sk);
}

SEC("fexit/inet_csk_accept")
int BPF_PROG(congestion_accept_of_four, struct sock *listener, int flags, int *err, bool kern,
	     struct sock *sk)
{
	return accepted(listener, sk);
}

SEC("fexit/netif_tx_wake_queue")
int BPF_PROG(congestion_wake, struct netdev_queue *tx)
{
	return queue_wake(tx);
}

SEC("fentry/notify_remote_via_irq")
int BPF_PROG(congestion_notify)
{
	return queue_notify();
}

/* Userspace attaches it to the name that this kernel gives the function. */
SEC("fentry/dev_kfree_skb_any_reason")
int BPF_PROG(congestion_free, __u64 skb, __u64 reason)
{
	return queue_free(skb, reason);
}

SEC("fexit/xennet_tx_buf_gc")
int BPF_PROG(congestion_completion, __u64 queue)
{
	return completion_end(queue);
}

/* Run by BPF_PROG_TEST_RUN, never attached. */

SEC("raw_tp/sys_enter")
int BPF_PROG(read_rings, __u32 ifindex, __u32 netns)
{
	return rings_read(ifindex, netns, false);
}

SEC("raw_tp/sys_enter")
int BPF_PROG(begin_rings, __u32 ifindex, __u32 netns)
{
	return rings_read(ifindex, netns, true);
}
