/*
 * gpu_attn.h: launches of our own attention kernels (kernels/attn*.h) for a problem. Pure functions; called by GPU workers and
 * by what shows plans (dry_run).
 */
#ifndef AITERD_GPU_ATTN_H
#define AITERD_GPU_ATTN_H

#include "launch.h"
#include "ops/flash_attn.h"

/*
 * Fused attention. Pointers in p, cu_q and cu_k too, are the device's; they are not followed. tokens_k: rows of k and v in
 * all, batch * seqlen_k or cu_k's last. workspace: plan->workspace bytes of device memory; to learn how many, plan
 * once with NULL. Refuses what the kernels cannot address.
 */
int gpu_attn_plan(const struct attn_problem *p, int64_t tokens_k, const struct launch_device *d, void *workspace,
		  struct launch_plan *plan, struct err *e);

/* The same by separate kernels that keep scores and probabilities in memory: what fusing is compared with. */
int gpu_attn_naive_plan(const struct attn_problem *p, int64_t tokens_k, const struct launch_device *d, void *workspace,
			struct launch_plan *plan, struct err *e);

#endif
