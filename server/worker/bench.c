/*
 * bench.c: carries out a bench job (bench.h). Called by run.c.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/bench.h"

#define CHECKED_COPIES 64		  /* outputs of so many of the last timed runs are compared */
#define CHECKED_BYTES ((uint64_t)1 << 30) /* but not more than this of them */

struct bench {
	struct run *r;
	struct bench_outcome *out;
	struct rotation rotation;
	struct device_plan base;
	struct op_call base_call;
	bool base_planned;
	struct measure m;
	/* The first run's outputs, and room for another run's; on the host. */
	void *first[OP_TENSORS_MAX], *other[OP_TENSORS_MAX];
};

static bool
is_output(const struct bench *b, int i)
{
	return b->r->call.tensors[i].dtype != DT_NONE && b->r->op->tensors[i].role == OP_OUT;
}

static void *
host_room(uint64_t bytes, struct err *e)
{
	void *p = malloc(bytes ? bytes : 1);

	if (!p)
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for %" PRIu64 " bytes of outputs to compare", bytes);
	return p;
}

/* One run, by itself: what it needs, what comes out. */
static int
run_first(struct bench *b, struct err *e)
{
	struct run *r = b->r;
	struct device *d = r->d;

	if (dev_run(d, &r->plan, e) == -1)
		return -1;
	dev_settle(d);
	if (dev_sync(d, e) == -1)
		return -1;
	r->done->memory.workspace = d->window_scratch;
	r->done->memory.peak = dev_window_peak(d);
	if (!d->ops->unified)
		return run_download(r, e) == -1 ? -1 : dev_sync(d, e);
	for (int i = 0; i < OP_TENSORS_MAX; i++) {
		if (!is_output(b, i))
			continue;
		b->first[i] = host_room(r->call.tensors[i].bytes, e);
		if (!b->first[i])
			return -1;
		memcpy(b->first[i], r->call.tensors[i].data, r->call.tensors[i].bytes);
	}
	return 0;
}

static const void *
first_output(const struct bench *b, int i)
{
	return b->first[i] ? b->first[i] : b->r->job->call.tensors[i].data;
}

static void
note_rotation(struct bench *b, bool wants_cold)
{
	struct bench_outcome *o = b->out;
	uint64_t set = b->rotation.set;

	o->copies = b->rotation.copies;
	o->rotation_bytes = set * o->copies;
	o->cold = wants_cold && o->cache_bytes > 0 && o->rotation_bytes >= 2 * o->cache_bytes;
	if (!wants_cold || o->cold)
		return;
	if (o->cache_bytes == 0)
		snprintf(o->note, sizeof(o->note), "the device does not tell the size of its last-level cache");
	else
		snprintf(o->note, sizeof(o->note),
			 "%" PRIu64 " copies of inputs and outputs would be twice the last-level cache; there is "
			 "memory for %" PRIu32 ": a part of the data may come from the cache",
			 rotation_wanted(set, o->cache_bytes), o->copies);
}

static int
plan_baseline(struct bench *b, struct err *e)
{
	struct run *r = b->r;

	b->base_call = r->call;
	for (int i = 0; i < OP_TENSORS_MAX; i++) {
		struct tensor *t = &b->base_call.tensors[i];

		if (!is_output(b, i))
			continue;
		t->data = r->base_owned[i] = dev_alloc(r->d, t->bytes, e);
		if (!t->data)
			return -1;
	}
	b->base = (struct device_plan){.op = r->op, .call = &b->base_call, .impl = (enum impl)r->job->baseline};
	if (dev_plan(r->d, &b->base, e) == -1)
		return -1;
	b->base_planned = true;
	return 0;
}

/* What an earlier run wrote must not stand for what the timed ones should write. Copies are poisoned as they are made. */
static int
poison(void *cls, struct err *e)
{
	struct bench *b = cls;

	if (b->rotation.block)
		return 0;
	for (int i = 0; i < OP_TENSORS_MAX; i++)
		if (is_output(b, i) &&
		    dev_fill(b->r->d, b->r->call.tensors[i].data, 0xff, b->r->call.tensors[i].bytes, e))
			return -1;
	return 0;
}

static int
time_all(struct bench *b, struct err *e)
{
	struct run *r = b->r;
	struct msg_done *done = r->done;
	const struct msg_job *job = r->job;
	double *samples = job->samples.dtype != DT_NONE ? job->samples.data : NULL;
	bool two = job->baseline != IMPL_AUTO;

	b->m = (struct measure){
		.d = r->d,
		.job = job,
		.watch = r->watch,
		.rotation = &b->rotation,
		.again = two && job->bench == BENCH_WARM,
		.before_timed = poison,
		.cls = b,
		.n = two ? 2 : 1,
		.side = {{.plan = &r->plan,
			  .call = &r->call,
			  .name = done->impl,
			  .stats = &done->kernel,
			  .samples = samples},
			 {.plan = &b->base,
			  .call = &b->base_call,
			  .name = done->baseline_impl,
			  .stats = &done->baseline,
			  .samples = samples ? samples + job->iters : NULL}},
	};
	return measure(&b->m, e);
}

/* Output i of a turn (without copies: of the last run), as host memory. NULL + e. */
static const void *
fetch(struct bench *b, uint64_t turn, int i, int side, struct err *e)
{
	struct device *d = b->r->d;
	uint64_t bytes = b->r->call.tensors[i].bytes;
	const void *at = rotation_place(&b->rotation, turn, i, side);

	if (!at)
		at = side == 0 ? b->r->call.tensors[i].data : b->base_call.tensors[i].data;
	if (d->ops->unified)
		return at;
	if (!b->other[i] && !(b->other[i] = host_room(bytes, e)))
		return NULL;
	return dev_download(d, b->other[i], at, bytes, e) == -1 || dev_sync(d, e) == -1 ? NULL : b->other[i];
}

/* Is each element as near to the first run's as the operator may be to the truth? */
static bool
is_near(const struct op *op, const struct tensor *first, const struct tensor *other)
{
	const struct op_tolerance *tolerance = op_tolerance(op, (enum dtype)first->dtype);
	int64_t n = tensor_elements(first);

	for (int64_t i = 0; i < n; i++) {
		double x = tensor_get(first, i), y = tensor_get(other, i);

		if (isnan(x) != isnan(y))
			return false;
		if (isnan(x) || x == y)
			continue;
		if (!tolerance || !(fabs(x - y) <= tolerance->atol + tolerance->rtol * fabs(x)))
			return false;
	}
	return true;
}

static void
judge(struct bench *b, const struct tensor *first, const struct tensor *other, const char *name)
{
	struct bench_outcome *o = b->out;
	double diff;

	if (memcmp(first->data, other->data, first->bytes) == 0)
		return;
	o->identical = 0;
	diff = run_difference(first, other);
	if (isnan(diff) || diff > o->max_diff_after)
		o->max_diff_after = diff;
	if (is_near(b->r->op, first, other))
		return;
	if (o->validated) {
		size_t n = strlen(o->note);

		snprintf(o->note + n, sizeof(o->note) - n,
			 "%safter the timed runs %s is not what it was after the first one: they differ by up to %g",
			 n > 0 ? "; " : "", name, diff);
	}
	o->validated = 0;
}

/* The last timed runs' outputs against the first run's. */
static int
validate(struct bench *b, struct err *e)
{
	struct run *r = b->r;
	uint64_t copies = b->rotation.copies, n = r->job->iters, step = (uint64_t)b->m.n;
	uint64_t fit = CHECKED_BYTES / (r->out_bytes ? r->out_bytes : 1);

	b->out->validated = b->out->identical = 1;
	n = n > copies ? copies : n;
	n = n > CHECKED_COPIES ? CHECKED_COPIES : n;
	n = n > fit ? fit : n;
	n = n < 1 ? 1 : n;
	for (uint64_t k = 0; k < n; k++) {
		uint64_t turn = b->m.timed_from + (r->job->iters - 1 - k) * step;

		for (int i = 0; i < OP_TENSORS_MAX && !isnan(b->out->max_diff_after); i++) {
			struct tensor first = r->call.tensors[i], other = first;

			if (!is_output(b, i))
				continue;
			memcpy(&first.data, &(const void *){first_output(b, i)}, sizeof(first.data));
			memcpy(&other.data, &(const void *){fetch(b, turn, i, 0, e)}, sizeof(other.data));
			if (!other.data)
				return -1;
			judge(b, &first, &other, r->op->tensors[i].name);
		}
	}
	return 0;
}

static int
compare_baseline(struct bench *b, struct err *e)
{
	struct run *r = b->r;
	double largest = 0;

	for (int i = 0; i < OP_TENSORS_MAX && !isnan(largest); i++) {
		struct tensor first = r->call.tensors[i], other = first;
		double diff;

		if (!is_output(b, i) || !dtype_info((enum dtype)first.dtype)->is_float)
			continue;
		memcpy(&first.data, &(const void *){first_output(b, i)}, sizeof(first.data));
		memcpy(&other.data, &(const void *){fetch(b, b->rotation.turn - 1, i, 1, e)}, sizeof(other.data));
		if (!other.data)
			return -1;
		diff = run_difference(&first, &other);
		if (isnan(diff) || diff > largest)
			largest = diff;
	}
	r->done->baseline_max_abs_diff = largest;
	return 0;
}

int
bench_execute(struct run *r, struct err *e)
{
	struct bench b = {.r = r, .out = &r->done->bench};
	bool two = r->job->baseline != IMPL_AUTO, wants_cold = r->job->bench == BENCH_COLD;
	int rc = -1;

	b.out->cache_bytes = dev_cache_bytes(r->d);
	b.rotation.d = r->d;
	if (run_first(&b, e) == -1 ||
	    rotation_make(&b.rotation, r->d, r->op, &r->call, two, wants_cold ? b.out->cache_bytes : 0, e) == -1)
		goto out;
	note_rotation(&b, wants_cold);
	if ((two && plan_baseline(&b, e) == -1) || time_all(&b, e) == -1 || validate(&b, e) == -1 ||
	    (two && compare_baseline(&b, e) == -1))
		goto out;
	dev_mem_info(r->d, &r->done->memory.device_free, &r->done->memory.device_total);
	rc = 0;
out:
	if (rc == -1)
		(void)dev_sync(r->d, NULL); /* the copies are in use until then */
	if (b.base_planned)
		dev_unplan(r->d, &b.base);
	rotation_free(&b.rotation);
	for (int i = 0; i < OP_TENSORS_MAX; i++) {
		free(b.first[i]);
		free(b.other[i]);
	}
	return rc;
}
