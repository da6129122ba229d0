/*
 * attn_fp32.h: what the host planner (server/ops/gpu_attn.c) and fused attention for fp32 on Hopper (kernels/attn_tf32.h) agree on,
 * beyond attn.h: instances and shared memory. Plain C.
 *
 * attn_fwd_fp32_d<dim>x<dim of v>_w<waves>: as in attn.h, but a wave is a warp and has 16 * parts rows, so
 *   block  (32 * waves, 1, 1); grid z = ceil(longest seqlen_q * pack / (16 * parts * waves)); SHARED memory is dynamic,
 *   ATTN_TF32_SHARED bytes.
 */
#ifndef AITERD_KERNELS_ATTN_FP32_H
#define AITERD_KERNELS_ATTN_FP32_H

#include "attn.h"

/*
 * X(padded dim of q and k, padded dim of v, waves, parts, keys a tile, whether rows of q stay in registers, blocks of 32 columns of
 * v taken together, workgroups a multiprocessor holds). Of the same dims, fewer rows come later. Shared memory is 227 KiB for all
 * workgroups of a multiprocessor, registers 65536.
 */
#define ATTN_TF32_INSTANCES(X)                                                                                         \
	X(32, 32, 8, 2, 64, 0, 1, 1)                                                                                   \
	X(32, 32, 4, 1, 64, 1, 1, 3)                                                                                   \
	X(64, 64, 8, 2, 64, 0, 2, 1)                                                                                   \
	X(64, 64, 4, 1, 64, 1, 2, 2)                                                                                   \
	X(96, 96, 8, 2, 32, 0, 1, 1)                                                                                   \
	X(96, 96, 4, 1, 32, 1, 1, 2)                                                                                   \
	X(128, 128, 8, 2, 32, 0, 1, 1)                                                                                 \
	X(128, 128, 4, 1, 32, 1, 2, 2)                                                                                 \
	X(160, 160, 8, 1, 32, 0, 1, 1)                                                                                 \
	X(192, 192, 8, 1, 32, 0, 1, 1)                                                                                 \
	X(256, 256, 8, 1, 16, 0, 1, 1)

/* Bytes from row to row in shared memory: eight neighbouring pieces of 16 bytes must not meet in a bank. */
#define ATTN_TF32_K_STRIDE(dq) ((dq)*4 + ((dq) % 32 ? 0 : 64))
#define ATTN_TF32_V_STRIDE(dv) ((dv)*4 + 16)
#define ATTN_TF32_SHARED(dq, dv, waves, parts, keys, kept)                                                             \
	(2 * (keys) * (ATTN_TF32_K_STRIDE(dq) + ATTN_TF32_V_STRIDE(dv)) +                                              \
	 ((kept) ? 0 : 16 * (parts) * (waves)*ATTN_TF32_K_STRIDE(dq)))

#endif
