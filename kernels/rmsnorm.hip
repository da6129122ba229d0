/*
 * rmsnorm.hip: root mean square normalisation of rows, out = x / sqrt(mean(x^2) + eps) * weight. Geometry and names: rmsnorm.h.
 * A row is read once, 16 bytes a load; the sum of squares is fp32. Where that overflows, vanishes, or meets an Inf or NaN, the
 * row is made in fp64 instead, so results are what float64 gives for any finite input.
 */
#include "device.h"
#include "rmsnorm.h"

/* 16 bytes of a row, at any address. */
template <class T> struct piece {
	enum { COUNT = 16 / (int)sizeof(T) };
	struct {
		T e[COUNT];
	} x;

	DEV_MEMBER void
	load(const T *from)
	{
		u4 w;

		__builtin_memcpy(&w, from, 16);
		x = __builtin_bit_cast(decltype(x), w);
	}

	DEV_MEMBER void
	store(T *to) const
	{
		u4 w = __builtin_bit_cast(u4, x);

		__builtin_memcpy(to, &w, 16);
	}
};

/* Sum over the `threads` threads of a row, the same in all of them. S is float or double. */
template <int threads, class S>
DEV S
row_sum(S x)
{
	SHARED static S part[threads / WAVE];
	S sum = 0;

#pragma unroll
	for (int mask = 1; mask < WAVE; mask <<= 1)
		x += lane_xor(x, mask);
	if constexpr (threads == WAVE)
		return x;
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

template <class T>
DEV void
scale(piece<T> &p, const piece<T> &weight, float factor)
{
#pragma unroll
	for (int i = 0; i < piece<T>::COUNT; i++)
		p.x.e[i] = rounded<T>::from(to_float(p.x.e[i]) * factor * to_float(weight.x.e[i]));
}

/* Without the first `skip` elements, which another thread has too. */
template <class T>
DEV float
square(const piece<T> &p, int skip, float sum)
{
#pragma unroll
	for (int i = 0; i < piece<T>::COUNT; i++) {
		float x = to_float(p.x.e[i]);

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
	sum = 1 / __builtin_sqrt(row_sum<threads>(sum) / (double)a.n + a.eps);
	for (int64_t i = thread_id() % threads; i < a.n; i += threads)
		to[i] = rounded<T>::from(
			(float)((double)to_float(from[i]) * sum * (double)to_float(((const T *)a.weight)[i])));
}

template <class T, int threads, int vectors>
DEV void
rmsnorm(const rmsnorm_args &a)
{
	constexpr int count = piece<T>::COUNT, block = threads < 256 ? 256 : threads;
	int lane = thread_id() % threads, n = (int)a.n;
	piece<T> weight[vectors], x[vectors];
	constexpr bool keep = vectors <= 4; /* the weights in registers, too */
	int at[vectors];

	/* The last piece ends with the row: where n is no multiple of a piece's length it overlaps the one before. */
#pragma unroll
	for (int i = 0; i < vectors; i++) {
		at[i] = (i * threads + lane) * count;
		if (keep && at[i] < n)
			weight[i].load((const T *)a.weight + (at[i] < n - count ? at[i] : n - count));
	}
	for (int64_t row = (int64_t)__builtin_amdgcn_workgroup_id_x() * (block / threads) + uniform(thread_id() / threads);
	     row < a.rows; row += (int64_t)a.groups * (block / threads)) {
		const T *from = (const T *)a.x + row * a.n;
		T *to = (T *)a.out + row * a.n;
		float sum = 0, factor;

		/* Otherwise what is known of each place, for each element, would be kept in registers from row to row. */
#pragma unroll
		for (int i = 0; i < vectors; i++)
			__asm__ volatile("" : "+v"(at[i]));
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
		factor = __builtin_amdgcn_rsqf(sum / (float)n + (float)a.eps);
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

template <class T>
DEV void
rmsnorm_long(const rmsnorm_args &a)
{
	for (int64_t row = __builtin_amdgcn_workgroup_id_x(); row < a.rows; row += a.groups)
		wide_row<T, RMSNORM_LONG_THREADS>(a, (const T *)a.x + row * a.n, (T *)a.out + row * a.n);
}

#define RMSNORM(name, T, threads, vectors)                                                                             \
	KERNEL BOUNDS(threads < 256 ? 256 : threads, vectors <= 2 ? 8 : vectors == 4 && threads < 1024 ? 5 : 4) void name(rmsnorm_args a)                 \
	{                                                                                                              \
		rmsnorm<T, threads, vectors>(a);                                                                       \
	}
#define RMSNORM_LONG(name, T)                                                                                          \
	KERNEL BOUNDS(RMSNORM_LONG_THREADS, 4) void name(rmsnorm_args a)                                               \
	{                                                                                                              \
		rmsnorm_long<T>(a);                                                                                    \
	}

#define X(threads, vectors) RMSNORM(rmsnorm_fp16_##threads##x##vectors, fp16, threads, vectors)
RMSNORM_INSTANCES(X)
#undef X
#define X(threads, vectors) RMSNORM(rmsnorm_bf16_##threads##x##vectors, bf16, threads, vectors)
RMSNORM_INSTANCES(X)
#undef X
#define X(threads, vectors) RMSNORM(rmsnorm_fp32_##threads##x##vectors, float, threads, vectors)
RMSNORM_INSTANCES(X)
#undef X
RMSNORM_LONG(rmsnorm_fp16_long, fp16)
RMSNORM_LONG(rmsnorm_bf16_long, bf16)
RMSNORM_LONG(rmsnorm_fp32_long, float)
