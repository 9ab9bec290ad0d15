/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads the kernel's own code for user space, which decides from it whether the
 * driver linearizes. Run by BPF_PROG_TEST_RUN, never attached.
 */
#ifndef XENTRACE_CODE_H
#define XENTRACE_CODE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define CODE_CHUNK 4096u

struct code_chunk {
	__u8 bytes[CODE_CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct code_chunk);
} code SEC(".maps");

static __always_inline int code_read(__u64 address, __u32 size)
{
	__u32 zero = 0;
	struct code_chunk *chunk = bpf_map_lookup_elem(&code, &zero);

	if (!chunk || size > CODE_CHUNK)
		return -1;
	return bpf_probe_read_kernel(chunk->bytes, size, (void *)address);
}

#endif
