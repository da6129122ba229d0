/*
 * gpu_rmsnorm.h: launches of our own RMSNorm kernels (kernels/rmsnorm.h) for a problem. Pure functions; called by GPU workers.
 */
#ifndef AITERD_GPU_RMSNORM_H
#define AITERD_GPU_RMSNORM_H

#include "launch.h"
#include "ops/rmsnorm.h"

/* Pointers in p are the device's and are not followed. */
int gpu_rmsnorm_plan(const struct rmsnorm_problem *p, const struct launch_device *d, struct launch_plan *plan,
		     struct err *e);

/* The same by separate kernels that keep squares and factors in memory; workspace as in gpu_attn_plan. */
int gpu_rmsnorm_naive_plan(const struct rmsnorm_problem *p, const struct launch_device *d, void *workspace,
			   struct launch_plan *plan, struct err *e);

#endif
