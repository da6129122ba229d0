/*
 * attn_extra.h: the kernels around fused attention: the splits' results made into one, and rows copied to another length. For
 * every vendor. Used by attn_<dtype>.hip.
 */
#ifndef AITERD_KERNELS_ATTN_EXTRA_H
#define AITERD_KERNELS_ATTN_EXTRA_H

#include "attn_rows.h"
#include "device.h"

#define ATTN_EXTRA_THREADS 256
#define ATTN_COMBINE_THREADS (4 * WAVE) /* a row each wave */

/* Where row number `row` of the log-sum-exp lies in out, in elements. */
DEV int64_t
attn_out_place(attn_args_in &a, int64_t row)
{
	int64_t b = 0, head;

	if (!a.cu_q) {
		b = row / a.lse_batch;
		row -= b * a.lse_batch;
	}
	head = row / a.lse_head;
	return b * a.out_stride.batch + (row - head * a.lse_head) * a.out_stride.seq + head * a.out_stride.head;
}

/* A wave makes one row: the splits' outputs, weighed with what their maxima say. */
template <class T>
DEV void
attn_combine(attn_args_in &a)
{
	int lane = thread_id() % WAVE;
	int64_t row = (int64_t)(uint32_t)group_x() * (ATTN_COMBINE_THREADS / WAVE) + uniform(thread_id() / WAVE);
	const float *m = a.partial + (int64_t)a.splits * a.rows * a.dim_v + row, *l = m + (int64_t)a.splits * a.rows;
	float top = -INF, sum = 0;
	uint32_t factor;
	bool empty;
	T *out;

	if (row >= a.rows)
		return;
	for (int i = 0; i < a.splits; i++) {
		float x = m[i * a.rows];

		top = x > top ? x : top;
	}
	for (int i = 0; i < a.splits; i++) {
		/* Where no key is seen, m is -Inf and l 0: nothing to weigh. */
		float x = m[i * a.rows], y = l[i * a.rows];

		if (!bits_zero(BITS(y)))
			sum += y * exp2_fast(x - top);
	}
	empty = bits_zero(BITS(sum));
	factor = empty ? (top > -INF ? BITS_NAN : 0) : BITS(1 / sum);
	out = (T *)a.out + attn_out_place(a, row);
	for (int column = lane; column < a.dim_v; column += WAVE) {
		float x = 0;

		for (int i = 0; i < a.splits; i++)
			if (!bits_zero(BITS(l[i * a.rows])))
				x += a.partial[(i * a.rows + row) * a.dim_v + column] * exp2_fast(m[i * a.rows] - top);
		out[column] = rounded<T>::from(x * FROM_BITS(factor));
	}
	if (a.lse && lane == 0)
		((uint32_t *)a.lse)[row] = empty ? (top > -INF ? BITS_NAN : BITS_MINUS_INF)
						 : BITS((top + log2_fast(sum)) * 0.69314718056f);
}

template <class T>
DEV void
attn_pad(const attn_pad_args &a)
{
	int64_t i = (int64_t)(uint32_t)group_x() * ATTN_EXTRA_THREADS + thread_id(), row = i / a.dim_to;
	int column = (int)(i - row * a.dim_to);

	if (row >= a.rows)
		return;
	((T *)a.to)[i] = column < a.dim ? ((const T *)a.from)[row * a.dim + column] : T{};
}

#define ATTN_COMBINE(name, T)                                                                                          \
	KERNEL BOUNDS(ATTN_COMBINE_THREADS, 4) void name(ARGUMENT attn_args a)                                         \
	{                                                                                                              \
		attn_combine<T>(ATTN_ARGS(a));                                                                         \
	}
#define ATTN_PAD(name, T)                                                                                              \
	KERNEL BOUNDS(ATTN_EXTRA_THREADS, 4) void name(ARGUMENT attn_pad_args a)                                       \
	{                                                                                                              \
		attn_pad<T>(a);                                                                                        \
	}

#endif
