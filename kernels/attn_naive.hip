/*
 * attn_naive.hip: attention without fusing, for comparison: scores, softmax and product are kernels of their own with the
 * scores (fp32) and the probabilities in memory between them. The products are 128 x 128 tiles through LDS on the matrix
 * cores, so it is the traffic that is compared, not the workmanship. Kernels and geometry: attn_naive.h.
 */
#include "attn_mfma.h"
#include "attn_naive.h"
#include "attn_rows.h"
#include "device.h"

#define THREADS 256
#define CHUNKS 4 /* of 16 bytes along the summed dimension at a time */

typedef const __attribute__((address_space(4))) attn_naive_args args_in;

DEV args_in &
args_get()
{
	return *(args_in *)__builtin_amdgcn_kernarg_segment_ptr();
}

/* Workgroups are numbered by batch and query head in x. Returns the unit. */
template <class T>
DEV int64_t
work_get(attn_args_in &a, attn_work &w)
{
	int unit = (int)__builtin_amdgcn_workgroup_id_x(), b = uniform((int)((uint32_t)unit / (uint32_t)a.heads_q));
	int head = unit - b * a.heads_q;

	attn_sequence_get<T>(a, b, head, uniform(head / (a.heads_q / a.heads_k)), w);
	return unit;
}

/*
 * acc += A B^T: a wave's 64 x 64 of a 128 x 128 tile. B's rows lie along the summed dimension; A's too, or, `across`, A is given
 * by its columns (keys of V).
 */
template <class T, bool across> struct product {
	enum { SIZE = (int)sizeof(T), COUNT = 16 / SIZE, DEPTH = CHUNKS * COUNT, EACH = 2 };
	typedef typename window_word<4 * SIZE>::type word;
	f16 acc[2][2];
	u4 a[EACH], b[EACH];
	word v[4];

	/* `rows` of them from `from`, `stride` bytes apart; `left` bytes of each are there. */
	DEV_MEMBER static void
	load(u4 (&to)[EACH], const char *from, int rows, uint32_t stride, int left)
	{
		window w = window_make(from, (uint32_t)clamp(rows, 0, ATTN_NAIVE_TILE) * stride);

#pragma unroll
		for (int i = 0; i < EACH; i++) {
			int u = thread_id() + i * THREADS, chunk = u % CHUNKS;

			to[i] = window_word<16>::load(w, chunk * 16 < left ? (uint32_t)(u / CHUNKS) * stride + (uint32_t)chunk * 16
									   : WINDOW_OUTSIDE);
		}
	}

	/* `keys` of them from `from`, each `left` bytes. */
	DEV_MEMBER void
	load_across(const char *from, int keys, uint32_t stride, int left)
	{
		window w = window_make(from, (uint32_t)clamp(keys, 0, (int)DEPTH) * stride);
		int column = thread_id() % 32 * 4 * SIZE, key = thread_id() / 32 * 4;

#pragma unroll
		for (int i = 0; i < 4; i++)
			v[i] = window_word<4 * SIZE>::load(w, column < left && key < DEPTH
								      ? (uint32_t)(key + i) * stride + (uint32_t)column
								      : WINDOW_OUTSIDE);
	}

	DEV_MEMBER static void
	put(LOCAL char *to, const u4 (&from)[EACH])
	{
#pragma unroll
		for (int i = 0; i < EACH; i++) {
			int u = thread_id() + i * THREADS;

			*(LOCAL u4 *)(to + (u % CHUNKS * ATTN_NAIVE_TILE + u / CHUNKS) * 16) = from[i];
		}
	}

	DEV_MEMBER void
	put_across(LOCAL char *to) const
	{
		int column = thread_id() % 32 * 4, keys = thread_id() / 32;

		if (keys * 4 >= DEPTH)
			return;
#pragma unroll
		for (int j = 0; j < 4; j++) {
			if constexpr (SIZE == 2) {
				uint32_t halves = j & 1 ? 0x07060302 : 0x05040100;

				*(LOCAL u2 *)(to + (keys / 2 * ATTN_NAIVE_TILE + column + j) * 16 + keys % 2 * 8) =
					u2{__builtin_amdgcn_perm(v[1][j >> 1], v[0][j >> 1], halves),
					   __builtin_amdgcn_perm(v[3][j >> 1], v[2][j >> 1], halves)};
			} else {
				*(LOCAL u4 *)(to + (keys * ATTN_NAIVE_TILE + column + j) * 16) =
					u4{v[0][j], v[1][j], v[2][j], v[3][j]};
			}
		}
	}

	/*
	 * Over `depth` elements. a_from: rows_a rows of which a_left bytes are there (across: keys of a_left bytes); b_from:
	 * rows_b rows of depth elements.
	 */
	DEV_MEMBER void
	run(const char *a_from, int rows_a, uint32_t a_stride, int a_left, const char *b_from, int rows_b, uint32_t b_stride,
	    int depth)
	{
		SHARED static u4 lds[2 * CHUNKS * ATTN_NAIVE_TILE];
		LOCAL char *a_lds = (LOCAL char *)lds, *b_lds = a_lds + CHUNKS * ATTN_NAIVE_TILE * 16;
		int half = thread_id() >> 5 & 1, l = thread_id() & 31, wave = thread_id() / WAVE;

#pragma unroll
		for (int i = 0; i < 2; i++)
			acc[i][0] = acc[i][1] = f16(0.0f);
		for (int at = 0; at < depth; at += DEPTH) {
			if constexpr (across)
				load_across(a_from + (int64_t)at * a_stride, rows_a - at, a_stride, a_left);
			else
				load(a, a_from + at * SIZE, rows_a, a_stride, a_left - at * SIZE);
			load(b, b_from + at * SIZE, rows_b, b_stride, (depth - at) * SIZE);
			barrier();
			if constexpr (across)
				put_across(a_lds);
			else
				put(a_lds, a);
			put(b_lds, b);
			barrier();
#pragma unroll
			for (int c = 0; c < CHUNKS / 2; c++)
#pragma unroll
				for (int i = 0; i < 2; i++)
#pragma unroll
					for (int j = 0; j < 2; j++) {
						int row = (2 * c + half) * ATTN_NAIVE_TILE + l;
						u4 x = *(LOCAL u4 *)(a_lds + (row + wave / 2 * 64 + i * 32) * 16);
						u4 y = *(LOCAL u4 *)(b_lds + (row + wave % 2 * 64 + j * 32) * 16);

						acc[i][j] = mfma_add<T>(x, y, acc[i][j]);
					}
		}
	}

	/* A's row of acc[i][.][e], and B's of acc[.][j][.], in the tile. */
	DEV_MEMBER static int
	row_a(int i, int e)
	{
		return thread_id() / WAVE / 2 * 64 + i * 32 + (e >> 2) * 8 + (thread_id() >> 5 & 1) * 4 + (e & 3);
	}

	DEV_MEMBER static int
	row_b(int j)
	{
		return thread_id() / WAVE % 2 * 64 + j * 32 + (thread_id() & 31);
	}
};

template <class T>
DEV void
scores()
{
	args_in &n = args_get();
	attn_args_in &a = n.a;
	int first_q = (int)__builtin_amdgcn_workgroup_id_y() * ATTN_NAIVE_TILE;
	int first_k = (int)__builtin_amdgcn_workgroup_id_z() * ATTN_NAIVE_TILE;
	attn_work w;
	int64_t unit = work_get<T>(a, w);
	product<T, false> p;

	if (first_q >= w.len_q || first_k >= w.len_k)
		return;
	p.run(w.k + first_k * a.k_stride.seq * (int)sizeof(T), w.len_k - first_k, (uint32_t)a.k_stride.seq * sizeof(T),
	      a.dim * (int)sizeof(T), w.q + first_q * a.q_stride.seq * (int)sizeof(T), w.len_q - first_q,
	      (uint32_t)a.q_stride.seq * sizeof(T), a.dim);
#pragma unroll
	for (int j = 0; j < 2; j++) {
		int i_q = first_q + p.row_b(j), begin, count;
		float *row = n.scores + (unit * a.seqlen_q + i_q) * n.width;

		if (i_q >= w.len_q)
			continue;
		visible(a, w, i_q, &begin, &count);
#pragma unroll
		for (int i = 0; i < 2; i++)
#pragma unroll
			for (int e = 0; e < 16; e += 4) {
				int key = first_k + p.row_a(i, e);
				f4 x;

#pragma unroll
				for (int m = 0; m < 4; m++)
					x[m] = (uint32_t)(key + m - begin) < (uint32_t)count ? p.acc[i][j][e + m] * n.scale : -INF;
				if (key < n.width)
					*(f4 *)(row + key) = x;
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
softmax()
{
	args_in &n = args_get();
	attn_args_in &a = n.a;
	int i = (int)__builtin_amdgcn_workgroup_id_x(), head = (int)__builtin_amdgcn_workgroup_id_y();
	int b = (int)__builtin_amdgcn_workgroup_id_z(), begin, count;
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
		((uint32_t *)a.lse)[w.row + i] =
			count > 0 ? BITS(top + log2_fast(sum) * 0.69314718056f) : BITS_MINUS_INF;
}

template <class T>
DEV void
weigh()
{
	args_in &n = args_get();
	attn_args_in &a = n.a;
	int first_q = (int)__builtin_amdgcn_workgroup_id_y() * ATTN_NAIVE_TILE;
	int first_v = (int)__builtin_amdgcn_workgroup_id_z() * ATTN_NAIVE_TILE;
	attn_work w;
	int64_t unit = work_get<T>(a, w);
	product<T, true> p;

	if (first_q >= w.len_q)
		return;
	p.run(w.v + first_v * (int)sizeof(T), w.len_k, (uint32_t)a.v_stride.seq * sizeof(T), (a.dim_v - first_v) * (int)sizeof(T),
	      (const char *)((const T *)n.probabilities + (unit * a.seqlen_q + first_q) * n.width), w.len_q - first_q,
	      (uint32_t)n.width * sizeof(T), w.len_k);
#pragma unroll
	for (int j = 0; j < 2; j++) {
		int i_q = first_q + p.row_b(j);
		T *row = (T *)w.out + i_q * a.out_stride.seq;

		if (i_q >= w.len_q)
			continue;
#pragma unroll
		for (int i = 0; i < 2; i++)
#pragma unroll
			for (int e = 0; e < 16; e += 4) {
				int column = first_v + p.row_a(i, e);
				T y[4];

#pragma unroll
				for (int m = 0; m < 4; m++)
					y[m] = rounded<T>::from(p.acc[i][j][e + m]);
				if (column < a.dim_v)
					__builtin_memcpy(__builtin_assume_aligned(row + column, sizeof y), y, sizeof y);
			}
	}
}

#define NAIVE(name, T)                                                                                                 \
	KERNEL BOUNDS(THREADS, 2) void attn_scores_##name(attn_naive_args a)                                           \
	{                                                                                                              \
		(void)a;                                                                                               \
		scores<T>();                                                                                           \
	}                                                                                                              \
	KERNEL BOUNDS(THREADS, 8) void attn_softmax_##name(attn_naive_args a)                                          \
	{                                                                                                              \
		(void)a;                                                                                               \
		softmax<T>();                                                                                          \
	}                                                                                                              \
	KERNEL BOUNDS(THREADS, 2) void attn_product_##name(attn_naive_args a)                                          \
	{                                                                                                              \
		(void)a;                                                                                               \
		weigh<T>();                                                                                            \
	}

NAIVE(fp16, fp16)
NAIVE(bf16, bf16)
NAIVE(fp32, float)
