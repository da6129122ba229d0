/*
 * gpu_rmsnorm.c: plans RMSNorm on a GPU: how many threads make a row; and the unfused baseline. The kernels' side of the
 * contract is kernels/rmsnorm.h.
 */
#include "ops/gpu_rmsnorm.h"

#include <stdio.h>
#include <string.h>

#include "../kernels/rmsnorm.h"

#define THREADS_A_UNIT 2048 /* resident on a unit of CDNA; more workgroups than fit only take turns, */
#define TURNS 4 /* as many here; on Hopper each makes one row, which is faster: new ones begin while others end */
#define GROUPS_MAX INT32_MAX
#define NAIVE_GROUPS_MAX (1 << 20)

struct instance {
	int threads, vectors;
};

#define X(threads, vectors) {threads, vectors},
static const struct instance cdna[] = {RMSNORM_INSTANCES(X)};
static const struct instance sm90[] = {RMSNORM_INSTANCES_SM90(X)};
static const struct instance sm90_any[] = {RMSNORM_INSTANCES_SM90_ANY(X)};
#undef X

/* Instances in order, the symbols' last part, the object's file, the shortest row and how many rows at most. */
struct family {
	const struct instance *instances;
	size_t count;
	const char *suffix, *object;
	int64_t least, most_rows;
};

static const char *
dtype_word(enum dtype dt)
{
	return dt == DT_FP16 ? "fp16" : dt == DT_BF16 ? "bf16" : dt == DT_FP32 ? "fp32" : NULL;
}

static int
no_kernel(const struct rmsnorm_problem *p, struct err *e)
{
	return err_set(e, ERR_UNAVAILABLE_IMPL, "there is no GPU rmsnorm kernel for %s", dtype_info(p->dtype)->name);
}

/* Can all pieces of 16 bytes lie at multiples of 16? */
static bool
aligned(const struct rmsnorm_problem *p)
{
	return ((uintptr_t)p->x | (uintptr_t)p->weight | (uintptr_t)p->out |
		(uintptr_t)p->n * dtype_info(p->dtype)->size) %
		       16 ==
	       0;
}

static struct family
family_of(const struct rmsnorm_problem *p, const struct launch_device *d)
{
	int64_t piece = 16 / (int64_t)dtype_info(p->dtype)->size;

	if (d->family != LAUNCH_SM90)
		return (struct family){cdna, sizeof cdna / sizeof *cdna, "", "rmsnorm.co", piece, INT64_MAX};
	if (aligned(p))
		return (struct family){sm90, sizeof sm90 / sizeof *sm90, "", "rmsnorm.cubin", piece, GROUPS_MAX};
	return (struct family){sm90_any, sizeof sm90_any / sizeof *sm90_any, "_any", "rmsnorm.cubin", 1, GROUPS_MAX};
}

int
gpu_rmsnorm_plan(const struct rmsnorm_problem *p, const struct launch_device *d, struct launch_plan *plan, struct err *e)
{
	struct launch *l = &plan->launch[0];
	const char *word = dtype_word(p->dtype);
	int64_t rows_each = 1, groups, most;
	struct family f;
	struct rmsnorm_args a;

	memset(plan, 0, sizeof *plan);
	if (!word)
		return no_kernel(p, e);
	if (p->rows == 0)
		return 0;
	f = family_of(p, d);
	l->object = f.object;
	l->block[0] = RMSNORM_LONG_THREADS;
	snprintf(l->symbol, sizeof l->symbol, "rmsnorm_%s_long", word);
	for (size_t i = 0; i < f.count; i++) {
		int threads = f.instances[i].threads, vectors = f.instances[i].vectors;

		if (p->n < f.least || p->rows > f.most_rows ||
		    p->n > (int64_t)threads * vectors * 16 / (int64_t)dtype_info(p->dtype)->size)
			continue;
		snprintf(l->symbol, sizeof l->symbol, "rmsnorm_%s_%dx%d%s", word, threads, vectors, f.suffix);
		l->block[0] = (uint32_t)RMSNORM_BLOCK(threads);
		rows_each = RMSNORM_BLOCK(threads) / threads;
		break;
	}
	l->block[1] = l->block[2] = l->grid[1] = l->grid[2] = 1;
	groups = (p->rows + rows_each - 1) / rows_each;
	most = d->family == LAUNCH_SM90 ? GROUPS_MAX
					: (int64_t)d->compute_units * (THREADS_A_UNIT / l->block[0]) * TURNS;
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

static void
naive_add(struct launch_plan *plan, const char *object, const char *step, const char *word, int64_t groups,
	  struct rmsnorm_naive_args *a)
{
	struct launch *l = &plan->launch[plan->count++];

	a->groups = (int32_t)(groups < NAIVE_GROUPS_MAX ? groups : NAIVE_GROUPS_MAX);
	l->object = object;
	snprintf(l->symbol, sizeof l->symbol, "rmsnorm_%s%s%s", step, *word ? "_" : "", word);
	l->grid[0] = (uint32_t)a->groups;
	l->block[0] = RMSNORM_NAIVE_THREADS;
	l->grid[1] = l->grid[2] = l->block[1] = l->block[2] = 1;
	l->arg_len = sizeof *a;
	memcpy(l->arg, a, sizeof *a);
}

int
gpu_rmsnorm_naive_plan(const struct rmsnorm_problem *p, const struct launch_device *d, void *workspace,
		       struct launch_plan *plan, struct err *e)
{
	const char *object = d->family == LAUNCH_SM90 ? "rmsnorm.cubin" : "rmsnorm.co", *word = dtype_word(p->dtype);
	int64_t pieces = p->rows * p->n;
	struct rmsnorm_naive_args a;
	size_t squares;

	memset(plan, 0, sizeof *plan);
	if (!word)
		return no_kernel(p, e);
	if (p->rows == 0)
		return 0;
	memset(&a, 0, sizeof a);
	a.x = p->x;
	a.weight = p->weight;
	a.out = p->out;
	a.rows = p->rows;
	a.n = p->n;
	a.eps = p->eps;
	a.together = aligned(p);
	if (a.together)
		pieces /= 16 / dtype_info(p->dtype)->size;
	squares = ((size_t)p->rows * (size_t)p->n * sizeof(float) + 255) / 256 * 256;
	plan->workspace = squares + ((size_t)p->rows * sizeof(float) + 255) / 256 * 256;
	a.squares = workspace;
	a.factors = workspace ? (float *)((char *)workspace + squares) : NULL;
	naive_add(plan, object, "squares", word, (pieces + RMSNORM_NAIVE_THREADS - 1) / RMSNORM_NAIVE_THREADS, &a);
	naive_add(plan, object, "mean", "", p->rows, &a);
	naive_add(plan, object, "scale", word, (pieces + RMSNORM_NAIVE_THREADS - 1) / RMSNORM_NAIVE_THREADS, &a);
	return 0;
}
