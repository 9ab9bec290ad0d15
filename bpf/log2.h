/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Histograms whose buckets double. Pure, and compiled for the host too by its test.
 */
#ifndef XENTRACE_LOG2_H
#define XENTRACE_LOG2_H

/* 1 if it is not 0, without a branch: each would double the verifier's paths. */
static inline unsigned long long log2_nonzero(unsigned long long value)
{
	return (value | -value) >> 63;
}

/*
 * Which bucket a value is counted in: the first holds 0, the second 1, and each after
 * it what is above half of its upper bound, which is twice that of the one before.
 */
static inline unsigned long long log2_bucket(unsigned long long value)
{
	unsigned long long there = log2_nonzero(value), bits = 0, step;

	value -= there;
	step = log2_nonzero(value >> 32) << 5;
	value >>= step;
	bits += step;
	step = log2_nonzero(value >> 16) << 4;
	value >>= step;
	bits += step;
	step = log2_nonzero(value >> 8) << 3;
	value >>= step;
	bits += step;
	step = log2_nonzero(value >> 4) << 2;
	value >>= step;
	bits += step;
	step = log2_nonzero(value >> 2) << 1;
	value >>= step;
	bits += step;
	step = log2_nonzero(value >> 1);
	value >>= step;
	bits += step + log2_nonzero(value);
	return there + bits;
}

#endif
