/*
 * attn_naive.hip: attention without fusing, for comparison: scores, softmax and product are kernels of their own with the
 * scores (fp32) and the probabilities in memory between them. The products are 128 x 128 tiles through LDS on the matrix
 * cores, so it is the traffic that is compared, not the workmanship. Kernels and geometry: attn_naive.h.
 */
#include "attn_naive.h"
#include "attn_rows.h"
#include "device.h"
#ifdef __CUDACC__
#include "attn_naive_sm90.h"
#else
#include "attn_naive_gfx942.h"
#endif

#define THREADS ATTN_NAIVE_THREADS

typedef CONSTANT attn_naive_args args_in;

#ifdef __CUDACC__
#define ARGS(a) (a)
#else
#define ARGS(a) ((void)(a), *(args_in *)__builtin_amdgcn_kernarg_segment_ptr())
#endif

/* Workgroups are numbered by batch and query head in x. Returns the unit. */
template <class T>
DEV int64_t
work_get(attn_args_in &a, attn_work &w)
{
	int unit = group_x(), b = uniform((int)((uint32_t)unit / (uint32_t)a.heads_q));
	int head = unit - b * a.heads_q;

	attn_sequence_get<T>(a, b, head, uniform(head / (a.heads_q / a.heads_k)), w);
	return unit;
}

template <class T>
DEV void
scores(args_in &n)
{
	attn_args_in &a = n.a;
	int first_q = group_y() * ATTN_NAIVE_TILE;
	int first_k = group_z() * ATTN_NAIVE_TILE;
	attn_work w;
	int64_t unit = work_get<T>(a, w);
	float scale = n.scale;
	product<T, false> p;

	if (first_q >= w.len_q || first_k >= w.len_k)
		return;
	p.run(w.k + first_k * a.k_stride.seq * (int)sizeof(T), w.len_k - first_k, (uint32_t)a.k_stride.seq * sizeof(T),
	      a.dim * (int)sizeof(T), w.q + first_q * a.q_stride.seq * (int)sizeof(T), w.len_q - first_q,
	      (uint32_t)a.q_stride.seq * sizeof(T), a.dim);
#pragma unroll
	for (int j = 0; j < p.ROWS; j++) {
		int i_q = first_q + p.row(j), begin, count;
		float *row = n.scores + (unit * a.seqlen_q + i_q) * n.width;

		if (i_q >= w.len_q)
			continue;
		visible(a, w, i_q, &begin, &count);
#pragma unroll
		for (int r = 0; r < p.RUNS; r++) {
			int key = first_k + p.run_at(r);
			vec<float, p.RUN> x;

#pragma unroll
			for (int m = 0; m < p.RUN; m++)
				x[m] = p.value(j, r, m) * scale;
#pragma unroll
			for (int m = 0; m < p.RUN; m++)
				x[m] = (uint32_t)(key + m - begin) < (uint32_t)count ? x[m] : -INF;
			if (key < n.width)
				*(vec<float, p.RUN> *)(row + key) = x;
		}
	}
}

/* Sum or maximum over the workgroup. */
template <bool maximum>
DEV float
reduce(float x)
{
	SHARED static float part[THREADS / WAVE];
	float y = -INF, z = 0;

#pragma unroll
	for (int mask = 1; mask < WAVE; mask <<= 1) {
		float other = lane_xor(x, mask);

		x = maximum ? __builtin_fmaxf(x, other) : x + other;
	}
	part[thread_id() / WAVE] = x;
	barrier();
#pragma unroll
	for (int i = 0; i < THREADS / WAVE; i++) {
		y = __builtin_fmaxf(y, part[i]);
		z += part[i];
	}
	barrier();
	return maximum ? y : z;
}

template <class T>
DEV void
softmax(args_in &n)
{
	attn_args_in &a = n.a;
	int i = group_x(), head = group_y();
	int b = group_z(), begin, count;
	int64_t row = (((int64_t)b * a.heads_q + head) * a.seqlen_q + i) * n.width;
	const float *s = n.scores + row;
	T *p = (T *)n.probabilities + row;
	float top = -INF, sum = 0, log2e = 1.44269504089f;
	uint32_t factor;
	attn_work w;

	attn_sequence_get<T>(a, b, head, 0, w);
	if (i >= w.len_q)
		return;
	visible(a, w, i, &begin, &count);
	for (int key = begin + thread_id(); key < begin + count; key += THREADS)
		top = __builtin_fmaxf(top, s[key]);
	top = reduce<true>(top);
	for (int key = begin + thread_id(); key < begin + count; key += THREADS)
		sum += exp2_fast((s[key] - top) * log2e);
	sum = reduce<false>(sum);
	factor = BITS(1 / sum);
	for (int key = thread_id(); key < n.width; key += THREADS)
		p[key] = (uint32_t)(key - begin) < (uint32_t)count
				 ? rounded<T>::from(exp2_fast((s[key] - top) * log2e) * FROM_BITS(factor))
				 : T{};
	if (a.lse && thread_id() == 0)
		((uint32_t *)a.lse)[w.row + i] = count > 0 ? BITS(top + log2_fast(sum) * 0.69314718056f)
							   : BITS_MINUS_INF;
}

template <class T>
DEV void
weigh(args_in &n)
{
	attn_args_in &a = n.a;
	int first_q = group_y() * ATTN_NAIVE_TILE;
	int first_v = group_z() * ATTN_NAIVE_TILE;
	attn_work w;
	int64_t unit = work_get<T>(a, w);
	product<T, true> p;

	if (first_q >= w.len_q)
		return;
	p.run(w.v + first_v * (int)sizeof(T), w.len_k, (uint32_t)a.v_stride.seq * sizeof(T),
	      (a.dim_v - first_v) * (int)sizeof(T),
	      (const char *)((const T *)n.probabilities + (unit * a.seqlen_q + first_q) * n.width), w.len_q - first_q,
	      (uint32_t)n.width * sizeof(T), w.len_k);
#pragma unroll
	for (int j = 0; j < p.ROWS; j++) {
		int i_q = first_q + p.row(j);
		T *row = (T *)w.out + i_q * a.out_stride.seq;

		if (i_q >= w.len_q)
			continue;
#pragma unroll
		for (int r = 0; r < p.RUNS; r++) {
			int column = first_v + p.run_at(r);
			T y[p.RUN];

#pragma unroll
			for (int m = 0; m < p.RUN; m++)
				y[m] = rounded<T>::from(p.value(j, r, m));
			if (column < a.dim_v)
				store_together(row + column, y);
		}
	}
}

#define NAIVE(name, T)                                                                                                 \
	KERNEL BOUNDS(THREADS, 2) void attn_scores_##name(ARGUMENT attn_naive_args a)                                  \
	{                                                                                                              \
		scores<T>(ARGS(a));                                                                                    \
	}                                                                                                              \
	KERNEL BOUNDS(THREADS, 8) void attn_softmax_##name(ARGUMENT attn_naive_args a)                                 \
	{                                                                                                              \
		softmax<T>(ARGS(a));                                                                                   \
	}                                                                                                              \
	KERNEL BOUNDS(THREADS, 2) void attn_product_##name(ARGUMENT attn_naive_args a)                                 \
	{                                                                                                              \
		weigh<T>(ARGS(a));                                                                                     \
	}

NAIVE(fp16, fp16)
NAIVE(bf16, bf16)
NAIVE(fp32, float)
