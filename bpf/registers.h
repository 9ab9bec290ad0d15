/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The registers in which a probed function finds its arguments, in the layout
 * that BPF programs are shown.
 */
#ifndef XENTRACE_REGISTERS_H
#define XENTRACE_REGISTERS_H

#include "skb.h"

#if defined(__TARGET_ARCH_x86)

struct pt_regs {
	unsigned long dx;
	unsigned long si;
	unsigned long di;
} KERNEL_TYPE;

#define FIRST_ARGUMENT(regs) ((regs)->di)
#define SECOND_ARGUMENT(regs) ((regs)->si)
#define THIRD_ARGUMENT(regs) ((regs)->dx)

#elif defined(__TARGET_ARCH_arm64)

struct pt_regs;

struct user_pt_regs {
	__u64 regs[31];
} KERNEL_TYPE;

#define FIRST_ARGUMENT(context) (((struct user_pt_regs *)(context))->regs[0])
#define SECOND_ARGUMENT(context) (((struct user_pt_regs *)(context))->regs[1])
#define THIRD_ARGUMENT(context) (((struct user_pt_regs *)(context))->regs[2])

#endif

#endif
