/*
 * gpu_plan_fixture.h: attention problems for the planners' tests, which are never run: their addresses mean nothing.
 */
#ifndef AITERD_GPU_PLAN_FIXTURE_H
#define AITERD_GPU_PLAN_FIXTURE_H

#include "ops/gpu_attn.h"

/* Addresses that are never followed. */
#define AT(n) ((void *)(uintptr_t)(n))

/* [B, S, H, D] tensors, as flash_attn_func gives them. */
static inline struct attn_problem
dense(enum dtype dt, int64_t b, int64_t sq, int64_t sk, int64_t hq, int64_t hk, int64_t d, int64_t dv)
{
	return (struct attn_problem){
		.dtype = dt,
		.batch = b,
		.heads_q = hq,
		.heads_k = hk,
		.dim = d,
		.dim_v = dv,
		.seqlen_q = sq,
		.seqlen_k = sk,
		.q = AT(0x10000),
		.k = AT(0x20000),
		.v = AT(0x30000),
		.out = AT(0x40000),
		.lse = AT(0x50000),
		.q_stride = {sq * hq * d, hq * d, d},
		.k_stride = {sk * hk * d, hk * d, d},
		.v_stride = {sk * hk * dv, hk * dv, dv},
		.out_stride = {sq * hq * dv, hq * dv, dv},
		.lse_stride = {sq * hq, 1, sq},
		.scale = 0.125,
		.left = -1,
		.right = -1,
	};
}

#endif
