/*
 * rmsnorm.h: what the host planner (server/ops/gpu_rmsnorm.c) and the RMSNorm kernels (kernels/rmsnorm.hip) agree on. Plain C.
 *
 * rmsnorm_<dtype>_<threads>x<vectors>: `threads` threads make a row and keep it in registers, up to `vectors` of 16 bytes each:
 *   16 / element size <= n <= threads * vectors * 16 / element size. Rows may lie anywhere and n be odd.
 * rmsnorm_<dtype>_long: 1024 threads make a row of any length, element by element, and read it twice.
 * block max(256, threads), grid x = groups, any number; workgroups take rows in turn, block / threads at a time.
 */
#ifndef AITERD_KERNELS_RMSNORM_H
#define AITERD_KERNELS_RMSNORM_H

#include <stdint.h>

/* X(threads a row, vectors a thread) */
#define RMSNORM_INSTANCES(X)                                                                                           \
	X(64, 1)                                                                                                       \
	X(64, 2)                                                                                                       \
	X(64, 4)                                                                                                       \
	X(256, 2)                                                                                                      \
	X(256, 4)                                                                                                      \
	X(256, 8)                                                                                                      \
	X(1024, 4)                                                                                                     \
	X(1024, 8)
#define RMSNORM_LONG_THREADS 1024

struct rmsnorm_args {
	const void *x, *weight;
	void *out;
	int64_t rows, n;
	double eps;
	int32_t groups; /* grid x */
	int32_t reserved;
};

#endif
