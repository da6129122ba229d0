/*
 * rmsnorm_cpu_body.h: RMS normalisation of a row, and the single steps of the unfused baseline. Included by
 * rmsnorm_cpu_{scalar,avx2,avx512}.c, each compiled with its own flags; RMSNORM_KERNEL names the table it
 * defines. Sums are float in 4 vectors of accumulators, and float64 over blocks of a long row; a row whose sum of
 * squares leaves float's comfortable range (overflow, underflow, NaN) is done over in float64.
 */
#include "ops/rmsnorm_cpu_kernel.h"
#include "ops/simd.h"

#include <math.h>

#define SUM_LEAST 1e-20 /* below, squares may have been lost to underflow */
#define SUM_BLOCK 2048	/* elements summed as floats; over millions roundings of the same sign would add up */

_Static_assert(SUM_BLOCK % (4 * LANES) == 0, "whole vectors in every block but the last");

SIMD_INLINE vf
load_at(const char *p, int64_t i, int64_t n, enum dtype dt)
{
	const char *at = p + (size_t)i * vf_dtype_size(dt);

	return i + LANES <= n ? vf_load_dtype(at, dt) : vf_load_part(at, n - i, dt);
}

SIMD_INLINE void
store_at(char *p, int64_t i, int64_t n, vf x, enum dtype dt)
{
	char *at = p + (size_t)i * vf_dtype_size(dt);

	if (i + LANES <= n)
		vf_store_dtype(at, x, dt);
	else
		vf_store_part(at, x, n - i, dt);
}

SIMD_INLINE float
sum_block(const char *x, int64_t n, enum dtype dt)
{
	vf sum[4] = {vf_set1(0.0F), vf_set1(0.0F), vf_set1(0.0F), vf_set1(0.0F)};
	int64_t i = 0;

	for (; i + 4 * LANES <= n; i += 4 * LANES) {
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++) {
			vf v = vf_load_dtype(x + (size_t)(i + j * LANES) * vf_dtype_size(dt), dt);

			sum[j] = vf_fma(v, v, sum[j]);
		}
	}
	for (; i < n; i += LANES) {
		vf v = load_at(x, i, n, dt);

		sum[0] = vf_fma(v, v, sum[0]);
	}
	return vf_hsum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

SIMD_INLINE double
sum_squares(const char *x, int64_t n, enum dtype dt)
{
	double sum = 0;

	for (int64_t at = 0; at < n; at += SUM_BLOCK)
		sum += (double)sum_block(x + (size_t)at * vf_dtype_size(dt), n - at < SUM_BLOCK ? n - at : SUM_BLOCK,
					 dt);
	return sum;
}

/* For a row that float cannot do. */
SIMD_INLINE void
exact_row(const struct rmsnorm_problem *p, const char *x, char *out, enum dtype dt)
{
	double sum = 0, factor;
	float a[LANES], w[LANES];

	for (int64_t i = 0; i < p->n; i += LANES) {
		vf_store(a, load_at(x, i, p->n, dt));
		for (int j = 0; j < LANES; j++)
			sum += (double)a[j] * (double)a[j];
	}
	factor = 1 / sqrt(sum / (double)p->n + p->eps);
	for (int64_t i = 0; i < p->n; i += LANES) {
		vf_store(a, load_at(x, i, p->n, dt));
		vf_store(w, load_at(p->weight, i, p->n, dt));
		for (int j = 0; j < LANES; j++)
			a[j] = (float)((double)a[j] * factor * (double)w[j]);
		store_at(out, i, p->n, vf_load(a), dt);
	}
}

SIMD_INLINE void
rows_as(const struct rmsnorm_problem *p, int64_t row, int64_t rows, enum dtype dt)
{
	size_t bytes = (size_t)p->n * vf_dtype_size(dt);
	const char *x = (const char *)p->x + (size_t)row * bytes, *w = p->weight;
	char *out = (char *)p->out + (size_t)row * bytes;

	for (; rows > 0; rows--, x += bytes, out += bytes) {
		double sum = sum_squares(x, p->n, dt);
		vf by;
		int64_t i = 0;

		if (!isfinite(sum) || sum < SUM_LEAST) {
			exact_row(p, x, out, dt);
			continue;
		}
		by = vf_set1((float)(1 / sqrt(sum / (double)p->n + p->eps)));
		for (; i + LANES <= p->n; i += LANES) {
			size_t at = (size_t)i * vf_dtype_size(dt);
			vf y = vf_mul(vf_load_dtype(x + at, dt), by);

			vf_store_dtype(out + at, vf_mul(y, vf_load_dtype(w + at, dt)), dt);
		}
		if (i < p->n)
			store_at(out, i, p->n, vf_mul(vf_mul(load_at(x, i, p->n, dt), by), load_at(w, i, p->n, dt)), dt);
	}
}

static void
norm_rows(const struct rmsnorm_problem *p, int64_t row, int64_t rows)
{
	if (p->dtype == DT_FP32)
		rows_as(p, row, rows, DT_FP32);
	else if (p->dtype == DT_FP16)
		rows_as(p, row, rows, DT_FP16);
	else
		rows_as(p, row, rows, DT_BF16);
}

SIMD_INLINE void
load_as(float *dst, const char *src, int64_t n, enum dtype dt)
{
	for (int64_t i = 0; i < n; i += LANES)
		store_at((char *)dst, i, n, load_at(src, i, n, dt), DT_FP32);
}

static void
load_step(float *dst, const void *src, int64_t n, enum dtype dt)
{
	if (dt == DT_FP32)
		load_as(dst, src, n, DT_FP32);
	else if (dt == DT_FP16)
		load_as(dst, src, n, DT_FP16);
	else
		load_as(dst, src, n, DT_BF16);
}

SIMD_INLINE void
store_as(char *dst, const float *src, int64_t n, enum dtype dt)
{
	for (int64_t i = 0; i < n; i += LANES)
		store_at(dst, i, n, load_at((const char *)src, i, n, DT_FP32), dt);
}

static void
store_step(void *dst, const float *src, int64_t n, enum dtype dt)
{
	if (dt == DT_FP32)
		store_as(dst, src, n, DT_FP32);
	else if (dt == DT_FP16)
		store_as(dst, src, n, DT_FP16);
	else
		store_as(dst, src, n, DT_BF16);
}

static void
multiply_step(float *dst, const float *a, const float *b, int64_t n)
{
	for (int64_t i = 0; i < n; i += LANES)
		store_at((char *)dst, i, n,
			 vf_mul(load_at((const char *)a, i, n, DT_FP32), load_at((const char *)b, i, n, DT_FP32)),
			 DT_FP32);
}

static void
square_step(float *dst, const float *src, int64_t n)
{
	multiply_step(dst, src, src, n);
}

static float
mean_step(const float *src, int64_t n)
{
	double total = 0;

	for (int64_t at = 0; at < n; at += SUM_BLOCK) {
		vf sum[4] = {vf_set1(0.0F), vf_set1(0.0F), vf_set1(0.0F), vf_set1(0.0F)};

		for (int64_t i = at; i < n && i < at + SUM_BLOCK; i += LANES)
			sum[i / LANES % 4] = vf_add(sum[i / LANES % 4], load_at((const char *)src, i, n, DT_FP32));
		total += (double)vf_hsum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
	}
	return (float)(total / (double)n);
}

static void
scale_step(float *dst, const float *src, float by, int64_t n)
{
	for (int64_t i = 0; i < n; i += LANES)
		store_at((char *)dst, i, n, vf_mul(load_at((const char *)src, i, n, DT_FP32), vf_set1(by)), DT_FP32);
}

const struct rmsnorm_kernel RMSNORM_KERNEL = {
	.name = RMSNORM_KERNEL_NAME,
	.rows = norm_rows,
	.load = load_step,
	.square = square_step,
	.mean = mean_step,
	.scale = scale_step,
	.multiply = multiply_step,
	.store = store_step,
};
