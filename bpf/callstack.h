/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The stack of what runs while a packet goes wrong, kernel and user side. Only if it
 * was asked for; all of it is pruned at load otherwise.
 */
#ifndef XENTRACE_CALLSTACK_H
#define XENTRACE_CALLSTACK_H

#include "maps.h"

/* The idle task has nothing to do with any packet. */
static __noinline int stack_take(void *ctx, struct call_stack *stack)
{
	long bytes;

	stack->nr_kernel = 0;
	stack->nr_user = 0;
	stack->tgid = bpf_get_current_pid_tgid() >> 32;
	if (!stack->tgid)
		return 0;
	bytes = bpf_get_stack(ctx, stack->kernel, sizeof(stack->kernel), 0);
	if (bytes <= 0)
		return 0;
	stack->nr_kernel = bytes / sizeof(stack->kernel[0]);
	bytes = bpf_get_stack(ctx, stack->user, sizeof(stack->user), BPF_F_USER_STACK);
	if (bytes > 0)
		stack->nr_user = bytes / sizeof(stack->user[0]);
	return 0;
}

#endif
