/*
 * attn_tf32_kernel.h: the body of an attn_fwd kernel for fp32 on Hopper: loads, loop over tiles, results. Used by attn_fp32.hip.
 */
#ifndef AITERD_KERNELS_ATTN_TF32_KERNEL_H
#define AITERD_KERNELS_ATTN_TF32_KERNEL_H

#include "attn_tf32.h"

/* The tile that begins at `key`: K, and V behind it; zeros where there is none. */
template <class C>
DEV void
attn_load(attn_args_in &a, const attn_work &w, char *to, int key)
{
	const char *k = w.k + key * a.k_stride.seq * 4, *v = w.v + key * a.v_stride.seq * 4;
	int keys = w.key_end - key;

#pragma unroll
	for (int u = thread_id(); u < C::KEYS * C::DQ / 4; u += C::THREADS) {
		int row = u / (C::DQ / 4), column = u % (C::DQ / 4) * 4;
		bool there = row < keys && column < a.dim;

		copy_16(to + row * C::K_STRIDE + column * 4, there ? k + (row * a.k_stride.seq + column) * 4 : w.k,
			there);
	}
	to += C::K_BYTES;
#pragma unroll
	for (int u = thread_id(); u < C::KEYS * C::DV / 4; u += C::THREADS) {
		int row = u / (C::DV / 4), column = u % (C::DV / 4) * 4;
		bool there = row < keys && column < a.dim_v;

		copy_16(to + row * C::V_STRIDE + column * 4, there ? v + (row * a.v_stride.seq + column) * 4 : w.v,
			there);
	}
}

/* A row of the workgroup's. */
struct attn_row {
	int token, head;
	bool there;

	DEV_MEMBER
	attn_row(attn_args_in &a, const attn_work &w, int row)
	{
		row += w.first_row;
		there = row < w.rows;
		row = there ? row : w.rows - 1;
		token = token_of(a, row);
		head = row - token * a.pack;
	}

	DEV_MEMBER const char *
	query(attn_args_in &a, const attn_work &w) const
	{
		return w.q + (token * a.q_stride.seq + head * a.q_stride.head) * 4;
	}

	/* Its number, as the log-sum-exp counts. */
	DEV_MEMBER int64_t
	index(attn_args_in &a, const attn_work &w) const
	{
		return w.row + token + head * a.lse_head;
	}

	DEV_MEMBER float *
	place(attn_args_in &a, const attn_work &w) const
	{
		if (a.partial)
			return a.partial + ((int64_t)w.split * a.rows + index(a, w)) * a.dim_v;
		return (float *)w.out + token * a.out_stride.seq + head * a.out_stride.head;
	}

	/* Maximum and sum to memory. Returns what outputs are to be multiplied by. `sees`: any key at all; of the split's. */
	DEV_MEMBER float
	finish(attn_args_in &a, const attn_work &w, float maximum, float sum, bool sees, bool sees_split,
	       bool write) const
	{
		bool empty = bits_zero(BITS(sum));

		write = write && there;
		if (a.partial) {
			float *m = a.partial + (int64_t)a.splits * a.rows * a.dim_v + w.split * a.rows + index(a, w);

			if (write) {
				m[0] = sees_split ? maximum : -INF;
				m[(int64_t)a.splits * a.rows] = sum;
			}
			return 1;
		}
		if (a.lse && write)
			a.lse[index(a, w)] = FROM_BITS(empty ? (sees ? BITS_NAN : BITS_MINUS_INF)
							     : BITS((maximum + log2_fast(sum)) * 0.69314718056f));
		return empty ? FROM_BITS(sees ? BITS_NAN : 0) : 1 / sum;
	}
};

/* Rows of Q, negated if the scale is: to registers, or to SHARED memory. */
template <class C>
DEV void
attn_load_q(attn_args_in &a, const attn_work &work, attn_wave<C> &w, char *to)
{
	uint32_t sign = a.flags & ATTN_NEGATE ? 0x80000000u : 0;

	if constexpr (C::Q_KEPT) {
#pragma unroll
		for (int p = 0; p < C::PARTS; p++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				const char *from = attn_row(a, work, w.row(p, i)).query(a, work);

#pragma unroll
				for (int c = 0; c < C::DIMS; c++) {
					int column = c * 16 + thread_id() % 4 * 4;
					uint4 x = make_uint4(0, 0, 0, 0);

					if (column < a.dim)
						x = *(const uint4 *)(from + column * 4);
					w.q[c][p][i][0] = FROM_BITS(x.x ^ sign);
					w.q[c][p][i][1] = FROM_BITS(x.y ^ sign);
					w.q[c][p][i][2] = FROM_BITS(x.z ^ sign);
					w.q[c][p][i][3] = FROM_BITS(x.w ^ sign);
				}
			}
	} else {
		for (int u = thread_id(); u < C::ROWS * C::DQ / 4; u += C::THREADS) {
			int row = u / (C::DQ / 4), column = u % (C::DQ / 4) * 4;
			uint4 x = make_uint4(0, 0, 0, 0);

			if (column < a.dim)
				x = *(const uint4 *)(attn_row(a, work, row).query(a, work) + column * 4);
			*(uint4 *)(to + row * C::K_STRIDE + column * 4) = make_uint4(x.x ^ sign, x.y ^ sign, x.z ^ sign,
										     x.w ^ sign);
		}
	}
}

/* A lane's score of a key, by fp32 alone. */
DEV float
attn_score(attn_args_in &a, const attn_work &w, const attn_repair_row &r, int key)
{
	const float *q = (const float *)r.q, *k = (const float *)w.k + key * a.k_stride.seq;
	float s = 0;

	for (int d = 0; d < a.dim; d++)
		s = fmaf(q[d], k[d], s);
	return a.flags & ATTN_NEGATE ? -s : s;
}

/*
 * A row, by the whole wave, once more and slowly: its output or sum is not finite. That may be right, or be the work of an Inf or
 * NaN among the keys that it does not see, or of an Inf cut in two (Inf - Inf is no number).
 */
DEV void
attn_again(attn_args_in &a, const attn_work &w, int in_group)
{
	attn_row row(a, w, in_group);
	attn_repair_row r;
	float top = ATTN_NO_MAXIMUM, sum = 0;
	int begin, count;
	bool sees_split;

	visible(a, w, row.token, &begin, &count);
	r.q = row.query(a, w);
	r.out = (char *)row.place(a, w);
	r.key = begin > w.key ? begin : w.key;
	r.key_end = begin + count < w.key_end ? begin + count : w.key_end;
	sees_split = r.key < r.key_end;
	for (int key = r.key + thread_id() % WAVE; key < r.key_end; key += WAVE)
		top = fmaxf(top, attn_score(a, w, r, key) * a.scale);
	for (int mask = 1; mask < WAVE; mask <<= 1)
		top = fmaxf(top, lane_xor(top, mask));
	for (int key = r.key + thread_id() % WAVE; key < r.key_end; key += WAVE)
		sum += exp2_fast(fmaf(attn_score(a, w, r, key), a.scale, -top));
	for (int mask = 1; mask < WAVE; mask <<= 1)
		sum += lane_xor(sum, mask);
	r.maximum = top;
	r.factor = row.finish(a, w, top, sum, count > 0, sees_split, thread_id() % WAVE == 0);
	if (bits_finite(BITS(sum)) && !bits_zero(BITS(sum))) {
		attn_repair<float>(a, w, r);
		return;
	}
	for (int column = thread_id() % WAVE; column < a.dim_v; column += WAVE)
		((float *)r.out)[column] = FROM_BITS(bits_zero(BITS(sum)) && (a.partial || count == 0) ? 0 : BITS_NAN);
}

template <class C>
DEV void
attn_finish(attn_args_in &a, const attn_work &work, const attn_wave<C> &w)
{
#pragma unroll
	for (int p = 0; p < C::PARTS; p++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			attn_row row(a, work, w.row(p, i));
			int begin = w.begin[p][i], count = w.count[p][i];
			bool sees_split = begin < work.key_end && begin + count > work.key && count > 0;
			float sum = w.sum[p][i], factor;
			uint64_t odd;

			sum += lane_xor(sum, 1);
			sum += lane_xor(sum, 2);
			factor = row.finish(a, work, w.maximum[p][i], sum, count > 0, sees_split, thread_id() % 4 == 0);
			if (row.there)
				w.store(row.place(a, work), a.dim_v, p, i, factor);
			odd = wave_ballot(row.there && (!bits_finite(BITS(sum)) || w.odd(p, i)));
			while (odd) {
				int quad = (__ffsll((long long)odd) - 1) / 4;

				odd &= ~(UINT64_C(15) << quad * 4);
				__syncwarp();
				attn_again(a, work, thread_id() / WAVE * C::WAVE_ROWS + p * 16 + i * 8 + quad);
			}
		}
}

template <class C>
DEV void
attn_fwd(attn_args_in &a)
{
	extern __shared__ uint4 attn_lds[];
	char *lds = (char *)attn_lds, *q_tile = lds + 2 * (C::K_BYTES + C::V_BYTES);
	int begin, count, wave_begin, wave_end;
	attn_wave<C> w;
	attn_work work;

	if (!attn_work_get<float>(a, C::ROWS, C::KEYS, work))
		return;
	attn_load<C>(a, work, lds, work.key);
	copy_commit();
	w.init();
#pragma unroll
	for (int p = 0; p < C::PARTS; p++)
#pragma unroll
		for (int i = 0; i < 2; i++)
			visible(a, work, attn_row(a, work, w.row(p, i)).token, &w.begin[p][i], &w.count[p][i]);
	/* The wave's first and last row tell which keys any and all of its rows see. */
	visible(a, work, attn_row(a, work, thread_id() / WAVE * C::WAVE_ROWS).token, &wave_begin, &count);
	w.all_end = wave_begin + count;
	visible(a, work, attn_row(a, work, (thread_id() / WAVE + 1) * C::WAVE_ROWS - 1).token, &begin, &count);
	w.all_begin = begin;
	wave_end = begin + count;
	if (work.first_row + thread_id() / WAVE * C::WAVE_ROWS >= work.rows)
		wave_end = wave_begin;
	w.all_end = w.all_end < work.key_end ? w.all_end : work.key_end;
	attn_load_q(a, work, w, q_tile);

	for (int key = work.key, at = 0; key < work.key_end; key += C::KEYS, at ^= C::K_BYTES + C::V_BYTES) {
		const char *k = lds + at;

		copy_wait<0>();
		barrier();
		if (key + C::KEYS < work.key_end)
			attn_load<C>(a, work, lds + (at ^ (C::K_BYTES + C::V_BYTES)), key + C::KEYS);
		copy_commit();
		if (key < wave_end && key + C::KEYS > wave_begin)
			w.step(a.scale, q_tile, k, k + C::K_BYTES, key);
	}
	attn_finish(a, work, w);
}

#define ATTN_TF32_KERNEL(name, dq, dv, waves, parts, keys, kept, together, groups)                                     \
	KERNEL BOUNDS(waves *WAVE, groups) void name(ARGUMENT attn_args a)                                             \
	{                                                                                                              \
		attn_fwd<attn_config<dq, dv, waves, parts, keys, kept, together>>(a);                                  \
	}

#endif
