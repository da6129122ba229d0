/*
 * run.c: carries out one job on the device and measures it. Called by worker_main.c.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/bench.h"

/* How many tensors the operator has. */
static int
tensor_count(const struct op *op)
{
	int n = 0;

	while (n < OP_TENSORS_MAX && op->tensors[n].name)
		n++;
	return n;
}

static int
plan_make(struct run *r, const struct op_call *call, uint32_t impl, struct err *e)
{
	r->plan = (struct device_plan){.op = r->op, .call = call, .impl = (enum impl)impl};
	if (dev_plan(r->d, &r->plan, e) == -1)
		return -1;
	r->planned = true;
	return 0;
}

static void
plan_undo(struct run *r)
{
	if (r->planned)
		dev_unplan(r->d, &r->plan);
	r->planned = false;
}

/* Point the tensors at the host's memory as the device sees it, if it sees all of it. */
static bool
reach_all(struct run *r, int n)
{
	void *at[OP_TENSORS_MAX];

	for (int i = 0; i < n; i++)
		if (r->call.tensors[i].dtype != DT_NONE && !(at[i] = dev_reach(r->d, r->call.tensors[i].data)))
			return false;
	for (int i = 0; i < n; i++)
		if (r->call.tensors[i].dtype != DT_NONE)
			r->call.tensors[i].data = at[i];
	return true;
}

/* Kept inputs that the device has from before are taken from there. */
static void
use_copies(struct run *r, int n)
{
	for (int i = 0; i < n; i++) {
		struct tensor *t = &r->call.tensors[i];
		uint64_t uid = t->dtype != DT_NONE && r->op->tensors[i].role == OP_IN ? r->job->kept[i] : 0;
		void *p = uid != 0 ? copies_find(&r->d->copies, uid, t->bytes) : NULL;

		if (!p)
			continue;
		t->data = p;
		r->had[i] = true;
		r->in_bytes -= t->bytes;
		r->done->memory.cached += t->bytes;
	}
}

int
run_prepare(struct run *r, struct device *d, const struct msg_job *job, struct msg_done *done, struct err *e)
{
	bool unified = d->ops->unified;
	int n;

	memset(r->owned, 0, sizeof(r->owned));
	memset(r->had, 0, sizeof(r->had));
	memset(r->base_owned, 0, sizeof(r->base_owned));
	memset(r->base_host, 0, sizeof(r->base_host));
	r->d = d;
	r->job = job;
	r->done = done;
	r->op = op_get(job->call.op);
	r->call = job->call;
	r->in_bytes = r->out_bytes = 0;
	r->counted = false;
	/* Each wait, and each moment noted, costs a small job a good part of its time. */
	r->late = !unified && job->iters == 1 && job->bench == BENCH_NONE;
	r->close = r->late && job->warmup == 0 && !job->flush;
	r->planned = false;
	r->good = false;

	done->memory.allocated_before = dev_window(d);
	n = tensor_count(r->op);
	for (int i = 0; i < n; i++) {
		if (r->call.tensors[i].dtype == DT_NONE)
			continue;
		if (r->op->tensors[i].role == OP_OUT)
			r->out_bytes += r->call.tensors[i].bytes;
		else
			r->in_bytes += r->call.tensors[i].bytes;
	}
	done->memory.outputs = r->out_bytes;
	r->in_place = r->close && r->in_bytes + r->out_bytes <= RUN_TINY_BYTES && job->baseline == IMPL_AUTO &&
		      reach_all(r, n);
	if (!unified && !r->in_place)
		use_copies(r, n);
	done->memory.inputs = r->in_bytes;
	if (unified || r->in_place) {
		dev_use(d, r->in_bytes + r->out_bytes);
		r->counted = true;
		return plan_make(r, &r->call, job->impl, e);
	}
	for (int i = 0; i < n; i++) {
		struct tensor *t = &r->call.tensors[i];

		if (t->dtype == DT_NONE || r->had[i])
			continue;
		t->data = r->owned[i] = dev_alloc(d, t->bytes, e);
		if (!t->data)
			return -1;
	}
	/* Before anything is queued: the device shall not wait for planning. */
	if (plan_make(r, &r->call, job->impl, e) == -1 || dev_mark(d, MARK_UP, e) == -1)
		return -1;
	for (int i = 0; i < n; i++)
		if (r->call.tensors[i].dtype != DT_NONE && r->op->tensors[i].role == OP_IN && !r->had[i] &&
		    dev_upload(d, r->call.tensors[i].data, job->call.tensors[i].data, r->call.tensors[i].bytes, e) == -1)
			return -1;
	return r->close ? 0 : dev_mark(d, MARK_UP_END, e);
}

/* One implementation, as often as the job says. */
static int
measure_plan(struct run *r, bool late, char *name, struct sample_stats *s, struct err *e)
{
	struct measure m = {.d = r->d, .job = r->job, .watch = r->watch, .late = late, .n = 1};

	m.side[0] = (struct measure_side){.plan = &r->plan, .name = name, .stats = s};
	return measure(&m, e);
}

int
run_execute(struct run *r, struct err *e)
{
	struct msg_done *done = r->done;

	if (measure_plan(r, r->late, done->impl, &done->kernel, e) == -1)
		return -1;
	plan_undo(r);
	done->memory.workspace = r->d->window_scratch;
	done->memory.peak = dev_window_peak(r->d);
	return 0;
}

int
run_download(struct run *r, struct err *e)
{
	for (int i = 0; i < tensor_count(r->op); i++)
		if (r->call.tensors[i].dtype != DT_NONE && r->op->tensors[i].role == OP_OUT &&
		    dev_download(r->d, r->job->call.tensors[i].data, r->call.tensors[i].data, r->call.tensors[i].bytes,
				 e) == -1)
			return -1;
	return 0;
}

int
run_collect(struct run *r, struct err *e)
{
	struct device *d = r->d;
	double ms;

	if (!d->ops->unified && !r->in_place) {
		if (!r->close && dev_mark(d, MARK_DOWN, e) == -1)
			return -1;
		if (run_download(r, e) == -1 || dev_mark(d, MARK_DOWN_END, e) == -1 ||
		    dev_elapsed(d, r->close ? MARK_RUN_END : MARK_DOWN, MARK_DOWN_END, &r->done->download_ms, e) == -1 ||
		    dev_elapsed(d, MARK_UP, r->close ? MARK_RUN : MARK_UP_END, &r->done->upload_ms, e) == -1)
			return -1;
	}
	if (r->late) {
		if (dev_elapsed(d, MARK_RUN, MARK_RUN_END, &ms, e) == -1)
			return -1;
		measure_statistics(&ms, 1, &r->done->kernel);
	}
	dev_mem_info(d, &r->done->memory.device_free, &r->done->memory.device_total);
	return 0;
}

double
run_difference(const struct tensor *a, const struct tensor *b)
{
	int64_t n = tensor_elements(a);
	double largest = 0;

	for (int64_t i = 0; i < n; i++) {
		double x = tensor_get(a, i), y = tensor_get(b, i), diff;

		if (isnan(x) && isnan(y))
			continue;
		if (isnan(x) || isnan(y))
			return NAN;
		diff = x == y ? 0 : fabs(x - y); /* equal infinities, too */
		if (diff > largest)
			largest = diff;
	}
	return largest;
}

int
run_baseline(struct run *r, struct err *e)
{
	struct device *d = r->d;
	struct msg_done *done = r->done;
	double largest = 0;
	int n = tensor_count(r->op);

	if (r->job->baseline == IMPL_AUTO)
		return 0;
	r->base = r->call;
	for (int i = 0; i < n; i++) {
		struct tensor *t = &r->base.tensors[i];

		if (t->dtype == DT_NONE || r->op->tensors[i].role != OP_OUT)
			continue;
		t->data = r->base_owned[i] = dev_alloc(d, t->bytes, e);
		if (!t->data)
			return -1;
	}
	if (plan_make(r, &r->base, r->job->baseline, e) == -1 ||
	    measure_plan(r, false, done->baseline_impl, &done->baseline, e) == -1)
		return -1;
	plan_undo(r);
	for (int i = 0; i < n; i++) {
		struct tensor t = r->base.tensors[i];
		double diff;

		if (t.dtype == DT_NONE || r->op->tensors[i].role != OP_OUT || !dtype_info((enum dtype)t.dtype)->is_float)
			continue;
		if (!d->ops->unified) {
			r->base_host[i] = malloc(t.bytes ? t.bytes : 1);
			if (!r->base_host[i])
				return err_set(e, ERR_OUT_OF_MEMORY, "no memory for %llu bytes of the baseline's output",
					       (unsigned long long)t.bytes);
			if (dev_download(d, r->base_host[i], t.data, t.bytes, e) == -1 || dev_sync(d, e) == -1)
				return -1;
			t.data = r->base_host[i];
		}
		diff = run_difference(&r->job->call.tensors[i], &t);
		if (isnan(diff) || diff > largest)
			largest = diff;
		if (isnan(largest))
			break;
	}
	done->baseline_max_abs_diff = largest;
	return 0;
}

void
run_release(struct run *r)
{
	plan_undo(r);
	copies_release(r->d);
	for (int i = 0; i < OP_TENSORS_MAX; i++) {
		if (r->good && r->owned[i] && r->job->kept[i] != 0)
			copies_add(r->d, r->job->kept[i], r->owned[i], r->call.tensors[i].bytes);
		else
			dev_free(r->d, r->owned[i], r->call.tensors[i].bytes);
		dev_free(r->d, r->base_owned[i], r->call.tensors[i].bytes);
		free(r->base_host[i]);
	}
	if (r->counted)
		dev_unuse(r->d, r->in_bytes + r->out_bytes);
}

/* What would run, without memory and without running. */
static void
run_dry(struct device *d, const struct msg_job *job, struct msg_done *done)
{
	struct device_plan plan = {
		.op = op_get(job->call.op), .call = &job->call, .impl = (enum impl)job->impl, .dry = true};

	if (dev_plan(d, &plan, &done->err) == -1)
		return;
	memcpy(done->impl, plan.name, sizeof(done->impl));
	memcpy(done->why_not_aiter, plan.why_not_aiter, sizeof(done->why_not_aiter));
	dev_unplan(d, &plan);
}

static int
run_steps(struct run *r, struct err *e)
{
	return run_execute(r, e) == -1 || run_collect(r, e) == -1 || run_baseline(r, e) == -1 ? -1 : 0;
}

void
run_job(struct device *d, const struct msg_job *job, const struct run_watch *watch, struct msg_done *done)
{
	struct err e = {0};
	struct run r;
	int prepared;

	if (job->dry) {
		run_dry(d, job, done);
		return;
	}
	d->unwanted = watch != NULL ? watch->cancelled : NULL;
	d->unwanted_cls = watch != NULL ? watch->cls : NULL;
	prepared = run_prepare(&r, d, job, done, &e);
	r.watch = watch;
	if (prepared == -1 || (job->bench != BENCH_NONE ? bench_execute(&r, &e) : run_steps(&r, &e)) == -1) {
		done->err = e;
		if (done->err.code == ERR_NONE)
			err_set(&done->err, ERR_WORKER_REFUSED, "%s failed without saying why", r.op->name);
		/* A copy that is still under way must not land in what the next request borrows. */
		(void)dev_sync(d, NULL);
	} else {
		r.good = true;
	}
	run_release(&r);
}
