/*
 * attn.h: what the host planner (server/ops/gpu_attn.c) and the attention kernels (kernels/attn_*.hip) agree on: arguments,
 * instances, launch geometry. Plain C.
 *
 * attn_fwd_<dtype>_d<dim>x<dim of v>_w<waves> (instances below, dims padded), fused attention:
 *   block  (64 * waves, 1, 1); SHARED memory is static
 *   grid   x = batch * heads_k
 *          y = groups * splits, groups = heads_q / heads_k / pack
 *          z = ceil(longest seqlen_q * pack / (32 * waves)); tiles past a sequence's end leave at once
 *   `pack` query heads that share a key/value head are handled as rows of one tile (row = token * pack + head), which
 *   pays when there are few tokens; it divides heads_q / heads_k.
 *   Wants: dim and dim_v at most the instance's; rows of q, k, v, out on 16-byte boundaries (pointers, strides and dims
 *   times size multiples of 16); strides of a row of k and v at most ATTN_STRIDE_MAX bytes.
 * attn_fwd_<dtype>_d<dim>x<dim of v>_g<warpgroups>, the same for 16-bit types on Hopper, with struct attn_sm90_args:
 *   block  128 * (warpgroups + 1); dynamic shared memory ATTN_SM90_SHARED
 *   grid   x = as many as there are multiprocessors, at most: workgroups take tile after tile of 64 * warpgroups rows,
 *          of batch * heads_k * groups * splits * tiles; splits begin at multiples of the instance's keys
 * attn_combine_<dtype>, after attn_fwd with splits > 1: block 4 waves, grid x = ceil(rows / 4). A row is one query of one head,
 *   numbered as in the log-sum-exp: rows = batch * heads_q * seqlen_q, or heads_q * total_q.
 *   Workspace `partial`: float o[splits][rows][dim_v], then m[splits][rows], then l[splits][rows]. m is a row's maximum (times
 *   log2(e)), -Inf where it sees no key of the split; l its sum.
 * attn_pad_<dtype>, before attn_fwd for tensors it does not take and after it for out: block 256, grid x =
 *   ceil(rows * dim_to / 256).
 */
#ifndef AITERD_KERNELS_ATTN_H
#define AITERD_KERNELS_ATTN_H

#include <stdint.h>

/*
 * X(padded dim of q and k, padded dim of v, waves, blocks of 32 keys a step, steps a tile, tiles buffered, waves a SIMD).
 * In order of preference: of the same dims, fewer waves for problems too small to give every compute unit a workgroup.
 * `waves` fixes the rows of a workgroup (32 each); the rest is what fits registers (512 for the waves of a SIMD) and 64 KiB.
 */
#define ATTN_INSTANCES_16BIT(X)                                                                                        \
	X(32, 32, 8, 2, 2, 2, 2)                                                                                       \
	X(64, 64, 8, 2, 2, 2, 2)                                                                                       \
	X(64, 64, 4, 2, 2, 2, 1)                                                                                       \
	X(96, 96, 8, 1, 2, 2, 2)                                                                                       \
	X(128, 128, 8, 1, 2, 2, 2)                                                                                     \
	X(128, 128, 4, 1, 2, 2, 1)                                                                                     \
	X(160, 160, 4, 1, 1, 2, 1)                                                                                     \
	X(192, 128, 8, 1, 1, 2, 2)                                                                                     \
	X(192, 192, 4, 1, 1, 2, 1)                                                                                     \
	X(256, 256, 4, 1, 1, 2, 1)
#define ATTN_INSTANCES_32BIT(X)                                                                                        \
	X(32, 32, 8, 1, 2, 2, 2)                                                                                       \
	X(64, 64, 8, 1, 2, 2, 2)                                                                                       \
	X(96, 96, 4, 1, 1, 2, 1)                                                                                       \
	X(128, 128, 4, 1, 1, 2, 1)                                                                                     \
	X(160, 160, 4, 1, 1, 1, 1)                                                                                     \
	X(192, 192, 4, 1, 1, 1, 1)                                                                                     \
	X(256, 256, 4, 1, 1, 1, 1)

/*
 * Hopper, 16-bit: X(padded dim of q and k, padded dim of v, warpgroups that multiply, keys a tile, tiles of K and of V buffered, tiles
 * of Q buffered, whether warpgroups take turns at the matrix unit). Of the same dims, those with fewer rows come later.
 */
#define ATTN_SM90_INSTANCES(X)                                                                                         \
	X(64, 64, 3, 128, 4, 2, 1)                                                                                     \
	X(64, 64, 2, 128, 4, 2, 1)                                                                                     \
	X(64, 64, 1, 128, 4, 2, 0)                                                                                     \
	X(96, 96, 2, 128, 2, 2, 1)                                                                                     \
	X(128, 128, 2, 128, 2, 2, 1)                                                                                   \
	X(128, 128, 1, 128, 2, 2, 0)                                                                                   \
	X(192, 128, 2, 96, 2, 1, 1)                                                                                    \
	X(192, 192, 2, 96, 2, 1, 1)                                                                                    \
	X(256, 256, 2, 64, 2, 1, 1)
/* Bytes of dynamic shared memory: tiles in blocks of 64 columns, barriers, descriptions of tiles. */
#define ATTN_SM90_ROW(dim) (((dim) + 63) / 64 * 128)
#define ATTN_SM90_TILES(dq, dv, groups, keys, stages, q_tiles)                                                         \
	((q_tiles) * (groups)*64 * ATTN_SM90_ROW(dq) + (stages) * (keys) * (ATTN_SM90_ROW(dq) + ATTN_SM90_ROW(dv)))
#define ATTN_SM90_SHARED(dq, dv, groups, keys, stages, q_tiles)                                                        \
	(ATTN_SM90_TILES(dq, dv, groups, keys, stages, q_tiles) + 256 + 512)

#define ATTN_WAVE_ROWS 32
#define ATTN_STRIDE_MAX 0x800000 /* 128 rows stay below 2^31 bytes */
#define ATTN_LENGTH_MAX 0x3fffffff

/* In elements; the last dimension is dense. As struct attn_strides in server/ops/flash_attn.h. */
struct attn_args_strides {
	int64_t batch, seq, head;
};

enum { ATTN_NEGATE = 1 }; /* the scale is negative: scores are made from -q */

struct attn_args {
	const void *q, *k, *v;
	void *out;
	float *lse;		    /* or null */
	const int32_t *cu_q, *cu_k; /* batch + 1 starts; null: dense */
	float *partial;		    /* null: one split, results go to out and lse */
	struct attn_args_strides q_stride, k_stride, v_stride, out_stride;
	int64_t lse_batch, lse_head; /* strides of lse; a token's is 1 */
	int64_t rows;		     /* of the workspace */
	int32_t heads_q, heads_k, pack, splits;
	int32_t groups; /* heads_q / heads_k / pack */
	int32_t dim, dim_v;
	int32_t seqlen_q, seqlen_k; /* dense */
	int32_t left, right;	    /* window around the diagonal; -1: no limit */
	uint32_t flags;
	float scale; /* positive: abs(softmax scale) * log2(e) */
	int32_t batch;
	int32_t tiles; /* grid z */
	int32_t chunk; /* sm_90: heads (times splits) whose tiles follow each other */
};

/* attn_fwd for 16-bit types on Hopper has more: the copy engine's maps of q (if pack is 1), k and v, made before the launch. */
#define ATTN_SM90_MAPS_AT 256
struct attn_sm90_args {
	struct attn_args a;
	char fill[ATTN_SM90_MAPS_AT - sizeof(struct attn_args)];
#ifdef __CUDACC__
	alignas(64)
#endif
		char maps[3][128];
};

/* Rows of `dim` elements to rows of `dim_to`, cut or filled with zeros. */
struct attn_pad_args {
	const void *from;
	void *to;
	int64_t rows;
	int32_t dim, dim_to;
};

#endif
