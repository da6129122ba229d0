/*
 * attn_naive.h: what the host planner (server/ops/gpu_attn_naive.c) and the unfused attention kernels (kernels/attn_naive.hip)
 * agree on. Plain C. In order of launch, dims as ceil(length / 128) tiles, units = batch * heads_q:
 *   attn_scores_<dtype>   block 256, grid units, tiles of seqlen_q, tiles of seqlen_k: scale and mask too
 *   attn_softmax_<dtype>  block 256, grid seqlen_q, heads_q, batch: one row each
 *   attn_product_<dtype>  block 256, grid units, tiles of seqlen_q, tiles of dim_v
 * Workspace: float scores[units][seqlen_q][width], then <dtype> probabilities[units][seqlen_q][width]; width is seqlen_k rounded
 * up to ATTN_NAIVE_ROUND. Lengths are the longest sequence's. q, k, v, out as attn_fwd wants them (attn.h).
 */
#ifndef AITERD_KERNELS_ATTN_NAIVE_H
#define AITERD_KERNELS_ATTN_NAIVE_H

#include "attn.h"

#define ATTN_NAIVE_TILE 128
#define ATTN_NAIVE_THREADS 256
#define ATTN_NAIVE_ROUND 32

struct attn_naive_args {
	struct attn_args a; /* pack, splits, tiles, groups, scale, flags are not used */
	float *scores;
	void *probabilities;
	int64_t width;
	float scale;
	int32_t reserved;
};

#endif
