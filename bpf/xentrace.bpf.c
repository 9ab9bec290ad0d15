//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One program for each hook of each backend: fetch the arguments, call into a
 * header, nothing else. User space loads only those of the backend it chose.
 */
#include "code.h"
#include "connection.h"
#include "elsewhere.h"
#include "holders.h"
#include "queues.h"
#include "registers.h"
#include "response.h"
#include "xmit.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Makes plain loads possible through a pointer that came untyped. */
#define TYPED(type, pointer) ((type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(type)))

static __always_inline int begin_untyped(void *ctx, void *skb, void *dev, const bool in_driver)
{
	if (config.typed_reads)
		return transmit_begin(ctx, TYPED(struct sk_buff, skb),
				      TYPED(struct net_device, dev), in_driver, true);
	return transmit_begin(ctx, skb, dev, in_driver, false);
}

/* fentry: the arguments come typed. */

SEC("fentry/xennet_start_xmit")
int fentry_begin(__u64 *ctx)
{
	return transmit_begin(ctx, (void *)ctx[0], (void *)ctx[1], true, true);
}

SEC("fexit/xennet_start_xmit")
int fentry_end(__u64 *ctx)
{
	return transmit_end((void *)ctx[0]);
}

/* User space attaches it to the name that this kernel gives the function. */
SEC("fentry/dev_kfree_skb_any_reason")
int fentry_free(__u64 *ctx)
{
	return any_free(ctx, (void *)ctx[0], ctx[1]);
}

/*
 * Also beside kprobes: an interrupt during the handler of one finds no other kprobe
 * on its CPU, and this function runs in one.
 */
SEC("fentry/xennet_tx_buf_gc")
int fentry_gc_begin(__u64 *ctx)
{
	return collect_begin(ctx[0]);
}

SEC("fexit/xennet_tx_buf_gc")
int fentry_gc_end(__u64 *ctx)
{
	return collect_end();
}

/* kprobe */

SEC("kprobe/xennet_start_xmit")
int kprobe_begin(struct pt_regs *ctx)
{
	return begin_untyped(ctx, (void *)FIRST_ARGUMENT(ctx), (void *)SECOND_ARGUMENT(ctx), true);
}

SEC("kretprobe/xennet_start_xmit")
int kprobe_end(struct pt_regs *ctx)
{
	return transmit_end(NULL);
}

SEC("kprobe/dev_kfree_skb_any_reason")
int kprobe_free(struct pt_regs *ctx)
{
	return any_free(ctx, (void *)FIRST_ARGUMENT(ctx), SECOND_ARGUMENT(ctx));
}

/* tracepoint */

SEC("raw_tp/net_dev_start_xmit")
int tracepoint_begin(struct bpf_raw_tracepoint_args *ctx)
{
	return begin_untyped(ctx, (void *)ctx->args[0], (void *)ctx->args[1], false);
}

SEC("raw_tp/net_dev_xmit")
int tracepoint_end(struct bpf_raw_tracepoint_args *ctx)
{
	return transmit_end((void *)ctx->args[0]);
}

SEC("raw_tp/kfree_skb")
int tracepoint_free(struct bpf_raw_tracepoint_args *ctx)
{
	return traced_free(ctx, (void *)ctx->args[0], false);
}

SEC("raw_tp/consume_skb")
int tracepoint_consume(struct bpf_raw_tracepoint_args *ctx)
{
	return traced_free(ctx, (void *)ctx->args[0], true);
}

/* Drops elsewhere: beside any backend, one of these ways. */

SEC("raw_tp/kfree_skb")
int elsewhere_free(struct bpf_raw_tracepoint_args *ctx)
{
	/* Without reasons the tracepoint has no third argument that could be read. */
	__u32 reason = elsewhere_config.has_reason ? ctx->args[2] : 0;

	return elsewhere_traced(ctx, (void *)ctx->args[0], ctx->args[1], reason);
}

SEC("kprobe/kfree_skb_reason")
int kprobe_elsewhere(struct pt_regs *ctx)
{
	return elsewhere_called(ctx, (void *)FIRST_ARGUMENT(ctx), SECOND_ARGUMENT(ctx));
}

SEC("kprobe/sk_skb_reason_drop")
int kprobe_elsewhere_socket(struct pt_regs *ctx)
{
	return elsewhere_called(ctx, (void *)SECOND_ARGUMENT(ctx), THIRD_ARGUMENT(ctx));
}

SEC("kprobe/kfree_skb_list_reason")
int kprobe_elsewhere_list(struct pt_regs *ctx)
{
	return elsewhere_called_list(ctx, (void *)FIRST_ARGUMENT(ctx), SECOND_ARGUMENT(ctx));
}

/* Only while a connection is in trouble. */

SEC("raw_tp/inet_sock_set_state")
int connection_end(struct bpf_raw_tracepoint_args *ctx)
{
	return connection_ends((void *)ctx->args[0], ctx->args[2]);
}

/* Run whenever user space reads from it. */

SEC("iter/task_file")
int find_holders(struct bpf_iter__task_file *ctx)
{
	return holder_visit(ctx);
}

/* Never attached. */

SEC("raw_tp/sys_enter")
int read_connections(struct bpf_raw_tracepoint_args *ctx)
{
	return connections_read();
}

SEC("raw_tp/sys_enter")
int read_code(struct bpf_raw_tracepoint_args *ctx)
{
	return code_read(ctx->args[0], ctx->args[1]);
}

SEC("raw_tp/sys_enter")
int read_queues(struct bpf_raw_tracepoint_args *ctx)
{
	return queues_read(ctx->args[0], ctx->args[1]);
}
