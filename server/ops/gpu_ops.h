/*
 * gpu_ops.h: which launch planners an operator has: the GPU side of the operator table, apart from it so that programs that
 * never plan need no planners. Called by GPU workers.
 */
#ifndef AITERD_GPU_OPS_H
#define AITERD_GPU_OPS_H

#include "launch.h"
#include "ops/op.h"

/*
 * Launches for a call whose tensors' data point to device memory; none is followed. workspace: plan->workspace bytes of
 * device memory, aligned to 256; to learn how many, plan once with NULL. Refuses what the kernels do not take.
 */
typedef int (*gpu_plan_f)(const struct op_call *c, const struct launch_device *d, void *workspace,
			  struct launch_plan *plan, struct err *e);

struct gpu_op {
	const struct op *op;
	gpu_plan_f own, naive; /* our kernels; the unfused baseline; NULL: none */
	/* AITER's, where it has any; refuses with ERR_UNAVAILABLE_IMPL what they do not take. Needs no workspace. */
	gpu_plan_f aiter;
};

/* NULL: the operator has no planner at all. */
const struct gpu_op *gpu_op_find(const struct op *op);

#endif
