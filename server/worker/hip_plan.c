/*
 * hip_plan.c: a call as launches on a GPU: which planner, which kernels, with what arguments; and running them. The part of
 * the HIP device that knows of planners (ops/gpu_ops.h). Called through dev_hip.c's table.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/gpu_ops.h"
#include "worker/aiter_files.h"
#include "worker/dev_hip.h"

/* A device_plan's own part. */
struct hip_plan {
	struct launch_plan plan;
	hipFunction_t kernels[LAUNCH_MAX];
	void *workspace;
};

static gpu_plan_f
planner(const struct op *op, enum impl impl)
{
	const struct gpu_op *g = gpu_op_find(op);

	if (!g)
		return NULL;
	switch (impl) {
	case IMPL_AUTO:
	case IMPL_OWN:
		return g->own;
	case IMPL_NAIVE:
		return g->naive;
	case IMPL_AITER:
		return g->aiter;
	case IMPL_REFERENCE: /* the cpu worker's */
	case IMPL_COUNT:
		break;
	}
	return NULL;
}

uint32_t
hip_impls(struct device *d, const struct op *op)
{
	const struct hip *h = d->priv;
	uint32_t bits = 0;

	for (unsigned i = 0; i < IMPL_COUNT; i++)
		if (planner(op, (enum impl)i) && (i != IMPL_AITER || (h->aiter && h->aiter->usable > 0)))
			bits |= 1u << i;
	return bits;
}

void
hip_unplan(struct device *d, struct device_plan *p)
{
	struct hip_plan *hp = p->priv;

	if (!hp)
		return;
	dev_free(d, hp->workspace, hp->plan.workspace);
	free(hp);
	p->priv = NULL;
}

static void
plan_name(struct device_plan *p, const struct launch_plan *plan)
{
	const char *impl = impl_name(p->impl);

	if (plan->count > 0 && p->impl == IMPL_AITER)
		snprintf(p->name, sizeof(p->name), "%s:%s", impl, plan->launch[plan->named].object);
	else if (plan->count > 0)
		snprintf(p->name, sizeof(p->name), "%s:%s", impl, plan->launch[plan->named].symbol);
	else
		snprintf(p->name, sizeof(p->name), "%s", impl);
}

/* auto: AITER's where it has a kernel for this problem, else our own. */
static int
resolve(struct hip *h, struct device_plan *p, struct launch_plan *scratch, struct err *e)
{
	gpu_plan_f aiter = planner(p->op, IMPL_AITER);
	struct err why = {0};
	int rc = -1;

	if (!p->dry && (p->impl != IMPL_AUTO || !h->aiter || !aiter))
		aiter = NULL; /* nobody asks */
	else if (!aiter)
		err_set(&why, ERR_UNAVAILABLE_IMPL, "AITER has no code object for %s", p->op->name);
	if (aiter)
		rc = aiter(p->call, &h->facts, NULL, scratch, &why);
	if (rc == -1 && why.code != ERR_NONE && why.code != ERR_UNAVAILABLE_IMPL) {
		*e = why;
		return -1;
	}
	if (p->impl == IMPL_AUTO)
		p->impl = rc == 0 ? IMPL_AITER : IMPL_OWN;
	if (p->impl != IMPL_AITER)
		snprintf(p->why_not_aiter, sizeof(p->why_not_aiter), "%.300s",
			 rc == 0 ? "another implementation was asked for" : why.msg);
	return 0;
}

/* Find the kernels that a plan names, and make what their arguments want of the driver. */
static int
launches_make(struct device *d, struct hip_plan *hp, struct err *e)
{
	struct hip *h = d->priv;

	for (int i = 0; i < hp->plan.count; i++) {
		struct launch *l = &hp->plan.launch[i];

		if (hip_objects_kernel(h->objects, d, l, &hp->kernels[i], e) == -1 ||
		    hip_check(d, hip_maps_make(l, l->arg), "describing a tensor to the copy engine", e) == -1)
			return -1;
	}
	return 0;
}

int
hip_plan(struct device *d, struct device_plan *p, struct err *e)
{
	struct hip *h = d->priv;
	struct hip_plan *hp;
	gpu_plan_f plan;
	size_t workspace;

	p->priv = hp = calloc(1, sizeof(*hp));
	if (!hp)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory to plan %s", p->op->name);
	if (resolve(h, p, &hp->plan, e) == -1)
		goto fail;
	plan = planner(p->op, p->impl);
	if (plan(p->call, &h->facts, NULL, &hp->plan, e) == -1)
		goto fail;
	if (p->dry) {
		plan_name(p, &hp->plan);
		hp->plan.workspace = 0; /* there is none to give back */
		return 0;
	}
	workspace = hp->plan.workspace;
	if (workspace > 0) {
		hp->workspace = dev_scratch(d, workspace, e);
		if (!hp->workspace || plan(p->call, &h->facts, hp->workspace, &hp->plan, e) == -1)
			goto fail;
		assert(hp->plan.workspace == workspace);
	}
	if (launches_make(d, hp, e) == -1)
		goto fail;
	plan_name(p, &hp->plan);
	return 0;
fail:
	hip_unplan(d, p);
	return -1;
}

int
hip_run(struct device *d, struct device_plan *p, struct err *e)
{
	struct hip *h = d->priv;
	struct hip_plan *hp = p->priv;

	h->queued++;
	for (int i = 0; i < hp->plan.count; i++) {
		struct launch *l = &hp->plan.launch[i];
		size_t len = l->arg_len;
		void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, l->arg, HIP_LAUNCH_PARAM_BUFFER_SIZE, &len,
				 HIP_LAUNCH_PARAM_END};

		if (hip_check(d,
			      hipModuleLaunchKernel(hp->kernels[i], l->grid[0], l->grid[1], l->grid[2], l->block[0],
						    l->block[1], l->block[2], l->lds, h->stream, NULL, extra),
			      l->symbol, e) == -1)
			return -1;
	}
	return 0;
}

/* The same launches, for tensors that lie elsewhere. */
int
hip_retarget(struct device *d, struct device_plan *p, struct err *e)
{
	struct hip *h = d->priv;
	struct hip_plan *hp = p->priv;
	size_t workspace = hp->plan.workspace;

	if (planner(p->op, p->impl)(p->call, &h->facts, hp->workspace, &hp->plan, e) == -1)
		return -1;
	assert(hp->plan.workspace == workspace);
	return launches_make(d, hp, e);
}
