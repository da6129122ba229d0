/*
 * gpu_rmsnorm.h: the launch of our own RMSNorm kernel (kernels/rmsnorm.h) for a problem. A pure function; called by GPU workers.
 */
#ifndef AITERD_GPU_RMSNORM_H
#define AITERD_GPU_RMSNORM_H

#include "launch.h"
#include "ops/rmsnorm.h"

/* Pointers in p are the device's and are not followed. */
int gpu_rmsnorm_plan(const struct rmsnorm_problem *p, const struct launch_device *d, struct launch_plan *plan,
		     struct err *e);

#endif
