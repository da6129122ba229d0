/*
 * rmsnorm.h: what the host planner (server/ops/gpu_rmsnorm.c) and the RMSNorm kernels (kernels/rmsnorm.hip) agree on. Plain C.
 *
 * rmsnorm_<dtype>_<threads>x<vectors>: `threads` threads make a row and keep it in registers, up to `vectors` of 16 bytes each:
 *   16 / element size <= n <= threads * vectors * 16 / element size. On gfx942 rows may lie anywhere and n be odd; on sm_90 x,
 *   weight and out lie, and a row is long, multiples of 16 bytes. (sm_90) rmsnorm_<dtype>_<threads>x<vectors>_any: rows
 *   that may lie anywhere, of 1 element or more.
 * rmsnorm_<dtype>_long: 1024 threads make a row of any length, element by element, and read it twice.
 * block RMSNORM_BLOCK(threads), grid x = groups, any number; workgroups take rows in turn, block / threads at a time. On sm_90 only
 * those of `long` do: of the others there are ceil(rows / (block / threads)).
 *
 * The unfused baseline, in order of launch; block RMSNORM_NAIVE_THREADS, grid x = groups of each, any number:
 *   rmsnorm_squares_<dtype>  squares of all elements, to memory
 *   rmsnorm_mean             each row's factor, 1 / sqrt(mean + eps), from them: a workgroup makes a row at a time
 *   rmsnorm_scale_<dtype>    elements times factor and weight
 * Workspace: float squares[rows][n], float factors[rows]. In fp32 throughout: squares that overflow make a row 0.
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
#define RMSNORM_INSTANCES_SM90(X)                                                                                      \
	X(32, 1)                                                                                                       \
	X(32, 2)                                                                                                       \
	X(32, 4)                                                                                                       \
	X(128, 2)                                                                                                      \
	X(128, 4)                                                                                                      \
	X(256, 4)                                                                                                      \
	X(512, 4)                                                                                                      \
	X(1024, 4)                                                                                                     \
	X(1024, 8)
#define RMSNORM_INSTANCES_SM90_ANY(X)                                                                                  \
	X(32, 1)                                                                                                       \
	X(128, 1)                                                                                                      \
	X(256, 2)                                                                                                      \
	X(512, 2)                                                                                                      \
	X(1024, 2)
#define RMSNORM_BLOCK(threads) ((threads) < 128 ? 256 : (threads))
#define RMSNORM_LONG_THREADS 1024
#define RMSNORM_NAIVE_THREADS 256

struct rmsnorm_args {
	const void *x, *weight;
	void *out;
	int64_t rows, n;
	double eps;
	int32_t groups; /* grid x */
	int32_t reserved;
};

struct rmsnorm_naive_args {
	const void *x, *weight;
	void *out;
	float *squares, *factors;
	int64_t rows, n;
	double eps;
	int32_t groups;	  /* grid x */
	int32_t together; /* x, weight and out lie, and a row is long, multiples of 16 bytes: elements go by so many */
};

#endif
