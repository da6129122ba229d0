/*
 * gpu_ops.c: operators' calls to their launch planners. Called by GPU workers.
 */
#include "ops/gpu_ops.h"

#include "ops/gpu_aiter.h"
#include "ops/gpu_attn.h"
#include "ops/gpu_rmsnorm.h"

/* Rows of k and v in all. */
static int64_t
tokens_k(const struct op_call *c, const struct attn_problem *p)
{
	return p->cu_k ? op_dim(c, "Tk") : p->batch * p->seqlen_k;
}

static int
attn_own(const struct op_call *c, const struct launch_device *d, void *workspace, struct launch_plan *plan,
	 struct err *e)
{
	struct attn_problem p;

	attn_problem_get(c, &p);
	return gpu_attn_plan(&p, tokens_k(c, &p), d, workspace, plan, e);
}

static int
attn_naive(const struct op_call *c, const struct launch_device *d, void *workspace, struct launch_plan *plan,
	   struct err *e)
{
	struct attn_problem p;

	attn_problem_get(c, &p);
	return gpu_attn_naive_plan(&p, tokens_k(c, &p), d, workspace, plan, e);
}

static int
attn_aiter(const struct op_call *c, const struct launch_device *d, void *workspace, struct launch_plan *plan,
	   struct err *e)
{
	struct attn_problem p;

	(void)workspace;
	attn_problem_get(c, &p);
	return gpu_aiter_attn_plan(&p, p.cu_q ? op_dim(c, "Tq") : p.batch * p.seqlen_q, tokens_k(c, &p), d, plan, e);
}

static int
rmsnorm_own(const struct op_call *c, const struct launch_device *d, void *workspace, struct launch_plan *plan,
	    struct err *e)
{
	struct rmsnorm_problem p;

	(void)workspace;
	rmsnorm_problem_get(c, &p);
	return gpu_rmsnorm_plan(&p, d, plan, e);
}

static int
rmsnorm_naive(const struct op_call *c, const struct launch_device *d, void *workspace, struct launch_plan *plan,
	      struct err *e)
{
	struct rmsnorm_problem p;

	rmsnorm_problem_get(c, &p);
	return gpu_rmsnorm_naive_plan(&p, d, workspace, plan, e);
}

static const struct gpu_op table[] = {
	{&op_flash_attn_func, attn_own, attn_naive, attn_aiter},
	{&op_flash_attn_varlen_func, attn_own, attn_naive, attn_aiter},
	{&op_rmsnorm, rmsnorm_own, rmsnorm_naive, NULL},
};

const struct gpu_op *
gpu_op_find(const struct op *op)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if (table[i].op == op)
			return &table[i];
	return NULL;
}
