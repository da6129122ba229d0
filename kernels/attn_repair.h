/*
 * attn_repair.h: what to do about an Inf or NaN in V. A product over a whole tile multiplies also the values of keys that a row
 * does not see, by 0: with an Inf or a NaN that gives NaN where there should be a number. So a wave that finds an output
 * which is not finite, in a row whose probabilities are, computes that row again, slowly: values first, and the
 * probabilities only if all the values that the row sees are finite. Used by attn_fwd.h after its stores.
 */
#ifndef AITERD_KERNELS_ATTN_REPAIR_H
#define AITERD_KERNELS_ATTN_REPAIR_H

#include "attn_rows.h"
#include "device.h"

/* All uniform. Results are v weighed with exp2(score * scale - maximum), times factor. */
struct attn_repair_row {
	const char *q;
	char *out;
	int key, key_end;
	float maximum, factor;
};

/* Sum of p v over the row's keys, for a lane's column of finite values. */
template <class T>
DEV float
attn_repair_sum(attn_args_in &a, const attn_work &w, const attn_repair_row &r, int column)
{
	int lane = thread_id() % WAVE;
	float sum = 0;

	for (int key = r.key; key < r.key_end; key += WAVE) {
		int mine = key + lane < r.key_end ? key + lane : r.key_end - 1;
		const T *q = (const T *)r.q, *k = (const T *)w.k + mine * a.k_stride.seq;
		float s = 0, p;

		for (int d = 0; d < a.dim; d++)
			s = __builtin_fmaf(to_float(q[d]), to_float(k[d]), s);
		s = a.flags & ATTN_NEGATE ? -s : s;
		p = exp2_fast(__builtin_fmaf(s, a.scale, -r.maximum));
		for (int i = 0; i < WAVE && key + i < r.key_end; i++)
			sum = __builtin_fmaf(lane_get(p, i),
					     to_float(((const T *)w.v)[(key + i) * a.v_stride.seq + column]), sum);
	}
	return sum;
}

/* A lane's column of the row, as bits. All lanes take part: each has its key's probability. */
template <class T>
DEV uint32_t
attn_repair_value(attn_args_in &a, const attn_work &w, const attn_repair_row &r, int column)
{
	bool up = false, down = false;
	uint32_t sum = 0;

	for (int key = r.key; key < r.key_end; key++) {
		uint32_t x = BITS(to_float(((const T *)w.v)[key * a.v_stride.seq + column]));
		bool odd = !bits_finite(x), nan = odd && (x & 0x7fffffu);

		up = up || nan || (odd && !(x >> 31));
		down = down || nan || (odd && x >> 31);
	}
	if (wave_ballot(!up && !down))
		sum = BITS(attn_repair_sum<T>(a, w, r, column) * r.factor);
	return up && down ? BITS_NAN : up ? BITS_INF : down ? BITS_MINUS_INF : sum;
}

template <class T>
DEV void
attn_repair(attn_args_in &a, const attn_work &w, const attn_repair_row &r)
{
	for (int column = thread_id() % WAVE; column - thread_id() % WAVE < a.dim_v; column += WAVE) {
		uint32_t x = attn_repair_value<T>(a, w, r, column < a.dim_v ? column : a.dim_v - 1);

		if (column >= a.dim_v)
			continue;
		if (a.partial)
			((uint32_t *)r.out)[column] = x;
		else
			((T *)r.out)[column] = rounded<T>::from(FROM_BITS(x));
	}
}

#endif
