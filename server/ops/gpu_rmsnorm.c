/*
 * gpu_rmsnorm.c: plans RMSNorm on a GPU: how many threads make a row. The kernels' side of the contract is kernels/rmsnorm.h.
 */
#include "ops/gpu_rmsnorm.h"

#include <stdio.h>
#include <string.h>

#include "../kernels/rmsnorm.h"

#define WAVES_A_UNIT 32 /* resident; more workgroups than fit only take turns */

struct instance {
	int threads, vectors;
};

#define X(threads, vectors) {threads, vectors},
static const struct instance instances[] = {RMSNORM_INSTANCES(X)};
#undef X

static const char *
dtype_word(enum dtype dt)
{
	return dt == DT_FP16 ? "fp16" : dt == DT_BF16 ? "bf16" : dt == DT_FP32 ? "fp32" : NULL;
}

int
gpu_rmsnorm_plan(const struct rmsnorm_problem *p, const struct launch_device *d, struct launch_plan *plan, struct err *e)
{
	struct launch *l = &plan->launch[0];
	const char *word = dtype_word(p->dtype);
	int64_t rows_each = 1, groups, most;
	struct rmsnorm_args a;

	memset(plan, 0, sizeof *plan);
	if (!word)
		return err_set(e, ERR_UNAVAILABLE_IMPL, "there is no GPU rmsnorm kernel for %s",
			       dtype_info(p->dtype)->name);
	if (p->rows == 0)
		return 0;
	l->object = "rmsnorm.co";
	l->block[0] = RMSNORM_LONG_THREADS;
	snprintf(l->symbol, sizeof l->symbol, "rmsnorm_%s_long", word);
	for (size_t i = 0; i < sizeof instances / sizeof instances[0]; i++)
		if (p->n >= 16 / dtype_info(p->dtype)->size &&
		    p->n <= (int64_t)instances[i].threads * instances[i].vectors * 16 / dtype_info(p->dtype)->size) {
			snprintf(l->symbol, sizeof l->symbol, "rmsnorm_%s_%dx%d", word, instances[i].threads,
				 instances[i].vectors);
			l->block[0] = instances[i].threads < 256 ? 256 : (uint32_t)instances[i].threads;
			rows_each = l->block[0] / (uint32_t)instances[i].threads;
			break;
		}
	l->block[1] = l->block[2] = l->grid[1] = l->grid[2] = 1;
	groups = (p->rows + rows_each - 1) / rows_each;
	most = (int64_t)d->compute_units * WAVES_A_UNIT * 64 / l->block[0] * 4;
	l->grid[0] = (uint32_t)(groups < most ? groups : most);

	memset(&a, 0, sizeof a);
	a.x = p->x;
	a.weight = p->weight;
	a.out = p->out;
	a.rows = p->rows;
	a.n = p->n;
	a.eps = p->eps;
	a.groups = (int32_t)l->grid[0];
	l->arg_len = sizeof a;
	memcpy(l->arg, &a, sizeof a);
	plan->count = 1;
	return 0;
}
