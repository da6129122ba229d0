/*
 * gpu_aiter.h: launches of AITER's assembly attention kernels (fmha_v3_fwd on gfx942) for a problem. A pure function; called by
 * GPU workers through gpu_ops.c.
 */
#ifndef AITERD_GPU_AITER_H
#define AITERD_GPU_AITER_H

#include "launch.h"
#include "ops/flash_attn.h"

/*
 * Pointers in p are the device's and are not followed. tokens_q, tokens_k: rows of q, and of k and v, in all. What AITER's
 * kernels do not take, or would compute wrongly, is refused with ERR_UNAVAILABLE_IMPL and the reason: our own kernels do it.
 */
int gpu_aiter_attn_plan(const struct attn_problem *p, int64_t tokens_q, int64_t tokens_k, const struct launch_device *d,
			struct launch_plan *plan, struct err *e);

#endif
