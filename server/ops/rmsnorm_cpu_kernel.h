/*
 * rmsnorm_cpu_kernel.h: between rmsnorm_cpu.c, which spreads rows over threads, and the loops over a row, which
 * are one source (rmsnorm_cpu_body.h) compiled once per instruction set.
 */
#ifndef AITERD_RMSNORM_CPU_KERNEL_H
#define AITERD_RMSNORM_CPU_KERNEL_H

#include "ops/rmsnorm.h"

struct rmsnorm_kernel {
	const char *name;
	void (*rows)(const struct rmsnorm_problem *p, int64_t row, int64_t rows);

	/* The steps of the unfused baseline, over n elements. */
	void (*load)(float *dst, const void *src, int64_t n, enum dtype dt);
	void (*square)(float *dst, const float *src, int64_t n);
	float (*mean)(const float *src, int64_t n);
	void (*scale)(float *dst, const float *src, float by, int64_t n);
	void (*multiply)(float *dst, const float *a, const float *b, int64_t n);
	void (*store)(void *dst, const float *src, int64_t n, enum dtype dt);
};

extern const struct rmsnorm_kernel rmsnorm_kernel_scalar, rmsnorm_kernel_avx2, rmsnorm_kernel_avx512;

#endif
