/*
 * rmsnorm.hip: root mean square normalisation of rows, out = x / sqrt(mean(x^2) + eps) * weight. Geometry and names: rmsnorm.h.
 * A row is read once, 16 bytes a load; the sum of squares is fp32. Where that overflows, vanishes, or meets an Inf or NaN, the
 * row is made in fp64 instead, so results are what float64 gives for any finite input.
 */
#include "device.h"
#include "rmsnorm.h"

/* BYTES of a row: 16, or a single element where rows may begin anywhere and the architecture minds. */
template <class T, int BYTES> struct piece : elements<T> {
};

template <class T> struct piece<T, (int)sizeof(T)> {
	enum { COUNT = 1 };
	T x;

	DEV_MEMBER void
	load(const T *from)
	{
		x = *from;
	}

	DEV_MEMBER void
	store(T *to) const
	{
		*to = x;
	}

	DEV_MEMBER float
	get(int) const
	{
		return to_float(x);
	}

	DEV_MEMBER void
	keep()
	{
	}
};

/*
 * Sum over the `threads` threads of a row, the same in all of them. S is float or double. `once`: the workgroup calls it no
 * second time.
 */
template <int threads, bool once = false, class S>
DEV S
row_sum(S x)
{
	SHARED S part[threads / WAVE];
	S sum = 0;

#pragma unroll
	for (int mask = 1; mask < WAVE; mask <<= 1)
		x += lane_xor(x, mask);
	if constexpr (threads == WAVE)
		return x;
	if constexpr (!once)
		barrier(); /* the last row's reading of `part` */
	part[thread_id() / WAVE] = x;
	barrier();
#pragma unroll
	for (int i = 0; i < threads / WAVE; i++)
		sum += part[i];
	return sum;
}

/* Is fp32 good enough for a row of this sum? */
DEV bool
plain(uint32_t sum)
{
	return sum > 0x0d000000u && sum < BITS_INF; /* 3.9e-31; far above what denormal squares lose */
}

template <class T, int BYTES>
DEV void
scale(piece<T, BYTES> &p, const piece<T, BYTES> &weight, float factor)
{
	if constexpr (BYTES == (int)sizeof(T)) {
		p.x = rounded<T>::from(p.get(0) * factor * weight.get(0));
	} else {
#pragma unroll
		for (int i = 0; i < piece<T, BYTES>::COUNT; i += 2)
			p.put(i, p.get(i) * factor * weight.get(i), p.get(i + 1) * factor * weight.get(i + 1));
	}
}

/* Without the first `skip` elements, which another thread has too. */
template <class T, int BYTES>
DEV float
square(const piece<T, BYTES> &p, int skip, float sum)
{
#pragma unroll
	for (int i = 0; i < piece<T, BYTES>::COUNT; i++) {
		float x = p.get(i);

		sum = __builtin_fmaf(x, i < skip ? 0 : x, sum);
	}
	return sum;
}

/* One row in fp64, element by element: for what fp32 cannot do, and rows of any length. */
template <class T, int threads>
DEV void
wide_row(const rmsnorm_args &a, const T *from, T *to)
{
	double sum = 0;

	for (int64_t i = thread_id() % threads; i < a.n; i += threads)
		sum += (double)to_float(from[i]) * (double)to_float(from[i]);
	sum = 1 / sqrt_wide(row_sum<threads>(sum) / (double)a.n + a.eps);
	for (int64_t i = thread_id() % threads; i < a.n; i += threads)
		to[i] = rounded<T>::from(
			(float)((double)to_float(from[i]) * sum * (double)to_float(((const T *)a.weight)[i])));
}

#ifndef __CUDACC__
template <class T, int BYTES, int threads, int vectors>
DEV void
rmsnorm(const rmsnorm_args &a)
{
	constexpr int count = piece<T, BYTES>::COUNT, block = RMSNORM_BLOCK(threads);
	int lane = thread_id() % threads, n = (int)a.n;
	piece<T, BYTES> weight[vectors], x[vectors];
	constexpr bool keep = vectors <= 4; /* the weights in registers, too */
	int at[vectors];

	/* The last piece ends with the row: where n is no multiple of a piece's length it overlaps the one before. */
#pragma unroll
	for (int i = 0; i < vectors; i++) {
		at[i] = (i * threads + lane) * count;
		if (keep && at[i] < n)
			weight[i].load((const T *)a.weight + (at[i] < n - count ? at[i] : n - count));
	}
	for (int64_t row = (int64_t)(uint32_t)group_x() * (block / threads) + uniform(thread_id() / threads);
	     row < a.rows; row += (int64_t)a.groups * (block / threads)) {
		const T *from = (const T *)a.x + row * a.n;
		T *to = (T *)a.out + row * a.n;
		float sum = 0, factor;

		/* Otherwise what is known of each place, for each element, would be kept in registers from row to row. */
#pragma unroll
		for (int i = 0; i < vectors; i++)
			KEEP(at[i]);
#pragma unroll
		for (int i = 0; i < vectors; i++)
			if (at[i] < n)
				x[i].load(from + (at[i] < n - count ? at[i] : n - count));
#pragma unroll
		for (int i = 0; i < vectors; i++)
			if (at[i] < n)
				sum = square(x[i], at[i] - (n - count), sum);
		sum = row_sum<threads>(sum);
		if (!plain(BITS(sum))) {
			wide_row<T, threads>(a, from, to);
			continue;
		}
		factor = rsqrt_fast(sum / (float)n + (float)a.eps);
#pragma unroll
		for (int i = 0; i < vectors; i++)
			if (at[i] < n) {
				if (!keep)
					weight[i].load((const T *)a.weight + (at[i] < n - count ? at[i] : n - count));
				scale(x[i], weight[i], factor);
				x[i].store(to + (at[i] < n - count ? at[i] : n - count));
			}
	}
}
#else
/* A workgroup makes `block / threads` rows and ends: while it waits for memory or stores, others begin. Pieces never overlap. */
template <class T, int BYTES, int threads, int vectors>
DEV void
rmsnorm(const rmsnorm_args &a)
{
	constexpr int count = piece<T, BYTES>::COUNT, block = RMSNORM_BLOCK(threads);
	int64_t row = (int64_t)blockIdx.x * (block / threads) + thread_id() / threads;
	int first = thread_id() % threads * count, n = (int)a.n;
	const T *from = (const T *)a.x + row * a.n;
	T *to = (T *)a.out + row * a.n;
	piece<T, BYTES> weight, x[vectors];
	float sum = 0, factor;

	/* Threads behind the row's end load its last piece, for nothing: conditions would cost more. */
	if (row >= a.rows)
		return;
#pragma unroll
	for (int i = 0; i < vectors; i++)
		x[i].load(from + min(first + i * threads * count, n - count));
#pragma unroll
	for (int i = 0; i < vectors; i++) {
		float more = square(x[i], 0, sum);

		sum = first + i * threads * count < n ? more : sum;
	}
	sum = row_sum<threads, true>(sum);
	if (!plain(BITS(sum))) {
		wide_row<T, threads>(a, from, to);
		return;
	}
	factor = rsqrt_fast(sum / (float)n + (float)a.eps);
#pragma unroll
	for (int i = 0; i < vectors; i++) {
		int at = first + i * threads * count;

		if (at >= n)
			continue;
		x[i].keep();
		weight.load((const T *)a.weight + at);
		scale(x[i], weight, factor);
		x[i].store(to + at);
	}
}
#endif

template <class T>
DEV void
rmsnorm_long(const rmsnorm_args &a)
{
	for (int64_t row = (uint32_t)group_x(); row < a.rows; row += a.groups)
		wide_row<T, RMSNORM_LONG_THREADS>(a, (const T *)a.x + row * a.n, (T *)a.out + row * a.n);
}

/* Element i's place in its row. */
DEV int64_t
row_of(const rmsnorm_naive_args &a, int64_t i)
{
	return (uint64_t)i >> 32 ? i / a.n : (uint32_t)i / (uint32_t)a.n;
}

template <class T, int BYTES>
DEV void
squares_pieces(const rmsnorm_naive_args &a)
{
	constexpr int count = piece<T, BYTES>::COUNT;
	int64_t total = a.rows * a.n, step = (int64_t)a.groups * RMSNORM_NAIVE_THREADS * count;

	for (int64_t i = ((int64_t)group_x() * RMSNORM_NAIVE_THREADS + thread_id()) * count; i < total; i += step) {
		piece<T, BYTES> x;
		float y[count];

		x.load((const T *)a.x + i);
#pragma unroll
		for (int e = 0; e < count; e++)
			y[e] = x.get(e) * x.get(e);
		if constexpr (count == 1) {
			a.squares[i] = y[0];
		} else {
#pragma unroll
			for (int e = 0; e < count; e += 4) {
				const float four[4] = {y[e], y[e + 1], y[e + 2], y[e + 3]};

				store_together(a.squares + i + e, four);
			}
		}
	}
}

template <class T, int BYTES>
DEV void
scale_pieces(const rmsnorm_naive_args &a)
{
	constexpr int count = piece<T, BYTES>::COUNT;
	int64_t total = a.rows * a.n, step = (int64_t)a.groups * RMSNORM_NAIVE_THREADS * count;

	for (int64_t i = ((int64_t)group_x() * RMSNORM_NAIVE_THREADS + thread_id()) * count; i < total; i += step) {
		int64_t row = row_of(a, i);
		piece<T, BYTES> x, weight;

		x.load((const T *)a.x + i);
		weight.load((const T *)a.weight + (i - row * a.n));
		scale(x, weight, a.factors[row]);
		x.store((T *)a.out + i);
	}
}

DEV void
mean(const rmsnorm_naive_args &a)
{
	for (int64_t row = (uint32_t)group_x(); row < a.rows; row += a.groups) {
		const float *from = a.squares + row * a.n;
		float sum = 0;

		for (int64_t i = thread_id(); i < a.n; i += RMSNORM_NAIVE_THREADS)
			sum += from[i];
		sum = row_sum<RMSNORM_NAIVE_THREADS>(sum);
		if (thread_id() == 0)
			a.factors[row] = rsqrt_fast(sum / (float)a.n + (float)a.eps);
	}
}

/* How many waves each SIMD, or workgroups each multiprocessor, must be able to hold for memory to be kept busy. */
#ifndef __CUDACC__
#define RESIDENT(threads, vectors) (vectors <= 2 ? 8 : vectors == 4 && threads < 1024 ? 5 : 4)
#define RESIDENT_LONG 4
#else
#define RESIDENT(threads, vectors) ((vectors >= 8 ? 1024 : 1536) / RMSNORM_BLOCK(threads))
#define RESIDENT_LONG 2
#endif

#define RMSNORM(name, T, BYTES, threads, vectors)                                                                      \
	KERNEL BOUNDS(RMSNORM_BLOCK(threads), RESIDENT(threads, vectors *(16 / BYTES))) void name(                     \
		ARGUMENT rmsnorm_args a)                                                                               \
	{                                                                                                              \
		rmsnorm<T, BYTES, threads, vectors *(16 / BYTES)>(a);                                                  \
	}
#define RMSNORM_LONG(name, T)                                                                                          \
	KERNEL BOUNDS(RMSNORM_LONG_THREADS, RESIDENT_LONG) void name(ARGUMENT rmsnorm_args a)                          \
	{                                                                                                              \
		rmsnorm_long<T>(a);                                                                                    \
	}

#define RMSNORM_NAIVE(name, T)                                                                                         \
	KERNEL BOUNDS(RMSNORM_NAIVE_THREADS, 4) void rmsnorm_squares_##name(ARGUMENT rmsnorm_naive_args a)             \
	{                                                                                                              \
		if (a.together)                                                                                        \
			squares_pieces<T, 16>(a);                                                                      \
		else                                                                                                   \
			squares_pieces<T, (int)sizeof(T)>(a);                                                          \
	}                                                                                                              \
	KERNEL BOUNDS(RMSNORM_NAIVE_THREADS, 4) void rmsnorm_scale_##name(ARGUMENT rmsnorm_naive_args a)               \
	{                                                                                                              \
		if (a.together)                                                                                        \
			scale_pieces<T, 16>(a);                                                                        \
		else                                                                                                   \
			scale_pieces<T, (int)sizeof(T)>(a);                                                            \
	}

#ifndef __CUDACC__
#define INSTANCES RMSNORM_INSTANCES
#else
#define INSTANCES RMSNORM_INSTANCES_SM90
#endif
#define X(threads, vectors) RMSNORM(rmsnorm_fp16_##threads##x##vectors, fp16, 16, threads, vectors)
INSTANCES(X)
#undef X
#define X(threads, vectors) RMSNORM(rmsnorm_bf16_##threads##x##vectors, bf16, 16, threads, vectors)
INSTANCES(X)
#undef X
#define X(threads, vectors) RMSNORM(rmsnorm_fp32_##threads##x##vectors, float, 16, threads, vectors)
INSTANCES(X)
#undef X
#ifdef __CUDACC__
#define X(threads, vectors) RMSNORM(rmsnorm_fp16_##threads##x##vectors##_any, fp16, 2, threads, vectors)
RMSNORM_INSTANCES_SM90_ANY(X)
#undef X
#define X(threads, vectors) RMSNORM(rmsnorm_bf16_##threads##x##vectors##_any, bf16, 2, threads, vectors)
RMSNORM_INSTANCES_SM90_ANY(X)
#undef X
#define X(threads, vectors) RMSNORM(rmsnorm_fp32_##threads##x##vectors##_any, float, 4, threads, vectors)
RMSNORM_INSTANCES_SM90_ANY(X)
#undef X
#endif
RMSNORM_LONG(rmsnorm_fp16_long, fp16)
RMSNORM_LONG(rmsnorm_bf16_long, bf16)
RMSNORM_LONG(rmsnorm_fp32_long, float)
RMSNORM_NAIVE(fp16, fp16)
RMSNORM_NAIVE(bf16, bf16)
RMSNORM_NAIVE(fp32, float)
KERNEL BOUNDS(RMSNORM_NAIVE_THREADS, 4) void
rmsnorm_mean(ARGUMENT rmsnorm_naive_args a)
{
	mean(a);
}
