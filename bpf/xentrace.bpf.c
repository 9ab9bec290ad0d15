//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One program for each hook of each backend. Userspace loads those of the backend it chose.
 */
#include "connection.h"
#include "elsewhere.h"
#include "inspect.h"
#include "rejected.h"
#include "xdp.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* fentry */

SEC("fentry/xennet_start_xmit")
int BPF_PROG(fentry_begin, struct sk_buff *skb, struct net_device *dev)
{
	return transmit_begin_typed(ctx, skb, dev, true);
}

SEC("fentry/xennet_open")
int BPF_PROG(fentry_open)
{
	return device_opened();
}

/* Userspace attaches it to the name that this kernel gives the function. */
SEC("fentry/dev_kfree_skb_any_reason")
int BPF_PROG(fentry_free, struct sk_buff *skb, __u64 reason)
{
	return any_free(ctx, skb, reason);
}

/*
 * Also with the kprobe backend: a hard interrupt during a kprobe's handler misses every
 * other kprobe of its CPU, and this function runs in one.
 */
SEC("fentry/xennet_tx_buf_gc")
int BPF_PROG(fentry_gc_begin, __u64 queue)
{
	return collect_begin(queue);
}

SEC("fexit/xennet_tx_buf_gc")
int BPF_PROG(fentry_gc_end)
{
	return collect_end();
}

/* kprobe */

SEC("kprobe/xennet_start_xmit")
int BPF_KPROBE(kprobe_begin, void *skb, void *dev)
{
	return transmit_begin_untyped(ctx, skb, dev, true);
}

SEC("kprobe/xennet_open")
int kprobe_open(void *ctx)
{
	return device_opened();
}

SEC("kprobe/dev_kfree_skb_any_reason")
int BPF_KPROBE(kprobe_free, struct sk_buff *skb, __u64 reason)
{
	return any_free(ctx, skb, reason);
}

/* tracepoint */

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(tracepoint_begin_typed, struct sk_buff *skb, struct net_device *dev)
{
	return transmit_begin_typed(ctx, skb, dev, false);
}

/* Where the kernel refuses the one above. */
SEC("raw_tp/net_dev_start_xmit")
int BPF_PROG(tracepoint_begin, void *skb, void *dev)
{
	return transmit_begin_untyped(ctx, skb, dev, false);
}

SEC("raw_tp/kfree_skb")
int BPF_PROG(tracepoint_free, struct sk_buff *skb)
{
	return traced_free(ctx, skb, false);
}

SEC("raw_tp/consume_skb")
int BPF_PROG(tracepoint_consume, struct sk_buff *skb)
{
	return traced_free(ctx, skb, true);
}

/* Drops outside the driver, with any backend: one of these. */

SEC("raw_tp/kfree_skb")
int elsewhere_free(struct bpf_raw_tracepoint_args *ctx)
{
	return elsewhere_traced(ctx);
}

SEC("kprobe/kfree_skb_reason")
int BPF_KPROBE(kprobe_elsewhere, struct sk_buff *skb, __u32 reason)
{
	return elsewhere_called(ctx, skb, reason);
}

SEC("kprobe/sk_skb_reason_drop")
int BPF_KPROBE(kprobe_elsewhere_socket, void *sk, struct sk_buff *skb, __u32 reason)
{
	return elsewhere_called(ctx, skb, reason);
}

SEC("kprobe/kfree_skb_list_reason")
int BPF_KPROBE(kprobe_elsewhere_list, struct sk_buff *first, __u32 reason)
{
	return elsewhere_called_list(ctx, first, reason);
}

/* Frames of XDP programs, with the backend of the same name. */

SEC("fexit/xennet_xdp_xmit")
int BPF_PROG(fexit_xdp, struct net_device *dev, int n, void *frames, __u32 flags, int sent)
{
	return xdp_sent(dev, n, sent);
}

SEC("kprobe/xennet_xdp_xmit")
int BPF_KPROBE(kprobe_xdp, struct net_device *dev, int n)
{
	return xdp_begin(dev, n);
}

/* Those that are redirected: arguments since 58aa94f922c1 (5.6). */
SEC("raw_tp/xdp_devmap_xmit")
int BPF_PROG(tracepoint_xdp, void *from, struct net_device *to, int sent, int dropped)
{
	return xdp_count(to, sent, dropped, false);
}

/* Attached while a connection is in trouble. */

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(connection_end, struct sock *sk, int before, int after)
{
	return connection_ends(sk, after);
}

/* Run by a read. */

SEC("iter/task_file")
int find_holders(struct bpf_iter__task_file *ctx)
{
	return holder_visit(ctx);
}

/* Run by BPF_PROG_TEST_RUN, never attached. */

SEC("raw_tp/sys_enter")
int BPF_PROG(settle_packets)
{
	return settle_all();
}

SEC("raw_tp/sys_enter")
int BPF_PROG(read_connections)
{
	return connections_read();
}

SEC("raw_tp/sys_enter")
int BPF_PROG(read_code, __u64 address, __u32 size)
{
	return code_read(address, size);
}

SEC("raw_tp/sys_enter")
int BPF_PROG(read_queues, __u32 ifindex, __u32 netns)
{
	return queues_read(ifindex, netns);
}
