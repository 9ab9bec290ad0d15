//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One program for each hook of the congestion command: fetch the arguments, call into a
 * header, nothing else.
 */
#include "accept.h"
#include "completion.h"
#include "pressure.h"
#include "ring_now.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Makes plain loads possible through a pointer that came untyped. */
#define TYPED(type, pointer) ((type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(type)))

SEC("raw_tp/net_dev_start_xmit")
int congestion_begin(struct bpf_raw_tracepoint_args *ctx)
{
	void *skb = (void *)ctx->args[0], *dev = (void *)ctx->args[1];

	if (config.typed_reads)
		return pressure_begin(TYPED(struct sk_buff, skb), TYPED(struct net_device, dev),
				      true);
	return pressure_begin(skb, dev, false);
}

SEC("raw_tp/net_dev_xmit")
int congestion_end(struct bpf_raw_tracepoint_args *ctx)
{
	return pressure_end(ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("raw_tp/napi_poll")
int congestion_poll(struct bpf_raw_tracepoint_args *ctx)
{
	return pressure_poll((void *)ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("raw_tp/inet_sock_set_state")
int congestion_state(struct bpf_raw_tracepoint_args *ctx)
{
	return state_changed((void *)ctx->args[0], ctx->args[1], ctx->args[2]);
}

/* What it returned comes behind its arguments: two since 6.10, four before. */

SEC("fexit/inet_csk_accept")
int congestion_accept(__u64 *ctx)
{
	return accepted((void *)ctx[0], (void *)ctx[2]);
}

SEC("fexit/inet_csk_accept")
int congestion_accept_of_four(__u64 *ctx)
{
	return accepted((void *)ctx[0], (void *)ctx[4]);
}

SEC("fexit/netif_tx_wake_queue")
int congestion_wake(__u64 *ctx)
{
	return pressure_wake((void *)ctx[0]);
}

SEC("fentry/notify_remote_via_irq")
int congestion_notify(__u64 *ctx)
{
	return pressure_notify();
}

/* User space attaches it to the name that this kernel gives the function. */
SEC("fentry/dev_kfree_skb_any_reason")
int congestion_free(__u64 *ctx)
{
	return pressure_free(ctx[0], ctx[1]);
}

SEC("fexit/xennet_tx_buf_gc")
int congestion_completion(__u64 *ctx)
{
	return completion_end(ctx[0]);
}

/* Never attached. */

SEC("raw_tp/sys_enter")
int read_rings(struct bpf_raw_tracepoint_args *ctx)
{
	return rings_read(ctx->args[0], ctx->args[1], false);
}

SEC("raw_tp/sys_enter")
int begin_rings(struct bpf_raw_tracepoint_args *ctx)
{
	return rings_read(ctx->args[0], ctx->args[1], true);
}
