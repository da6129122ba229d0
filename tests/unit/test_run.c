/*
 * test_run.c: one job on a device with memory of its own, which this file plays: what is copied where and when, what is
 * counted, and that an error at any step leaves nothing behind.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "worker/compute.h"
#include "worker/run.h"

#define SCRATCH 12345

static struct compute *compute;
static long live, calls, fail_at, uploads, downloads, runs, flushes, settles, plans;
static size_t up_bytes, down_bytes;
static long marked[DEVICE_MARKS], early_waits;
static void *unreachable;
static double bend; /* added to the naive implementation's first output element */

/* The next step's turn to fail? */
static int
step(struct err *e)
{
	return ++calls == fail_at ? err_set(e, ERR_WORKER_REFUSED, "step %ld failed", calls) : 0;
}

static int
t_open(struct device *d, int ordinal, int threads, struct err *e)
{
	(void)d;
	(void)ordinal;
	(void)e;
	compute = compute_new(threads);
	return compute ? 0 : -1;
}

static void
t_close(struct device *d)
{
	(void)d;
	compute_free(&compute);
}

static void
t_info(struct device *d, struct device_info *info)
{
	(void)d;
	(void)info;
}

static uint32_t
t_impls(struct device *d, const struct op *op)
{
	(void)d;
	(void)op;
	return 1u << IMPL_AUTO | 1u << IMPL_OWN | 1u << IMPL_NAIVE;
}

static void *
t_alloc(struct device *d, size_t bytes, struct err *e)
{
	unsigned char *p;

	(void)d;
	if (++calls == fail_at) {
		err_set(e, ERR_OUT_OF_MEMORY, "step %ld failed", calls);
		return NULL;
	}
	p = malloc(bytes ? bytes : 1);
	cr_assert(p);
	memset(p, 0x77, bytes);
	live++;
	return p;
}

static void
t_free(struct device *d, void *p, size_t bytes)
{
	(void)d;
	(void)bytes;
	live--;
	free(p);
}

static int
t_upload(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	(void)d;
	uploads++;
	up_bytes += bytes;
	memcpy(to, from, bytes);
	return step(e);
}

static int
t_download(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	(void)d;
	downloads++;
	down_bytes += bytes;
	memcpy(to, from, bytes);
	return step(e);
}

static int
t_plan(struct device *d, struct device_plan *p, struct err *e)
{
	(void)d;
	if (step(e) == -1)
		return -1;
	plans++;
	if (p->dry)
		snprintf(p->why_not_aiter, sizeof(p->why_not_aiter), "it is a test");
	snprintf(p->name, sizeof(p->name), "test:%s", impl_name(p->impl));
	return 0;
}

static void
t_unplan(struct device *d, struct device_plan *p)
{
	(void)d;
	(void)p;
	plans--;
}

static int
t_run(struct device *d, struct device_plan *p, struct err *e)
{
	int rc;

	(void)d;
	runs++;
	if (step(e) == -1)
		return -1;
	compute_job_begin(compute);
	rc = p->op->ref(p->call, compute, e);
	compute_job_end(compute);
	if (p->impl == IMPL_NAIVE)
		for (int i = 0; p->op->tensors[i].name; i++)
			if (p->op->tensors[i].role == OP_OUT)
				((float *)p->call->tensors[i].data)[0] += (float)bend;
	return rc;
}

static size_t
t_settle(struct device *d)
{
	(void)d;
	settles++;
	return SCRATCH;
}

static int
t_sync(struct device *d, struct err *e)
{
	(void)d;
	return step(e);
}

static int
t_flush(struct device *d, struct err *e)
{
	(void)d;
	flushes++;
	return step(e);
}

/* Time is the number of uploads, runs and downloads so far. */
static int
t_mark(struct device *d, int mark, struct err *e)
{
	(void)d;
	marked[mark] = uploads + runs + downloads;
	return step(e);
}

static int
t_elapsed(struct device *d, int from, int to, double *ms, struct err *e)
{
	(void)d;
	if (downloads == 0)
		early_waits++;
	*ms = (double)(marked[to] - marked[from]);
	return step(e);
}

static void *
t_reach(struct device *d, void *p)
{
	(void)d;
	return p == unreachable ? NULL : p;
}

static void
t_mem_info(struct device *d, uint64_t *available, uint64_t *total)
{
	(void)d;
	*available = 1000;
	*total = 2000;
}

const struct device_ops device_backend = {
	.kind = "test",
	.open = t_open,
	.close = t_close,
	.info = t_info,
	.impls = t_impls,
	.alloc = t_alloc,
	.free = t_free,
	.upload = t_upload,
	.download = t_download,
	.plan = t_plan,
	.unplan = t_unplan,
	.run = t_run,
	.settle = t_settle,
	.sync = t_sync,
	.mark = t_mark,
	.elapsed = t_elapsed,
	.reach = t_reach,
	.mem_info = t_mem_info,
	.flush = t_flush,
};

static float x[6 * 32], weight[32], out[6 * 32];
static struct msg_job job;
static struct msg_done done;
static struct device d;

static void
setup(void)
{
	int64_t shape[2] = {6, 32};
	struct op_call *c = &job.call;
	const struct op *op = op_find("rmsnorm", 7, &c->op);
	struct err e = {0};

	cr_assert_eq(dev_open(&d, 0, 1, NULL, &e), 0);
	cr_assert(op);
	for (int i = 0; i < 6 * 32; i++)
		x[i] = (float)(i % 13) - 6;
	for (int i = 0; i < 32; i++)
		weight[i] = 1;
	cr_assert_eq(op_params_finish(op, c, &e), 0);
	for (int i = 0; op->tensors[i].name; i++) {
		bool row = strcmp(op->tensors[i].name, "weight") == 0;

		if (op->tensors[i].role == OP_IN)
			cr_assert_eq(tensor_describe(&c->tensors[i], op->tensors[i].name, DT_FP32, row ? 1 : 2,
						     row ? &shape[1] : shape, &e),
				     0);
	}
	cr_assert_eq(op_bind(op, c, &e), 0, "%s", e.msg);
	for (int i = 0; op->tensors[i].name; i++)
		c->tensors[i].data = op->tensors[i].role == OP_OUT ? out : c->tensors[i].rank == 1 ? weight : x;
	job.iters = 1;
}

static void
teardown(void)
{
	dev_close(&d);
}

/* Of the first row. */
static double
sum_of_squares(void)
{
	double sum = 0;

	for (int i = 0; i < 32; i++)
		sum += (double)x[i] * (double)x[i];
	return sum;
}

TestSuite(run, .init = setup, .fini = teardown);

Test(run, copies_and_figures)
{
	job.warmup = 2;
	job.iters = 7;
	job.flush = 1;
	job.baseline = IMPL_NAIVE;
	bend = 0.5;
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(done.err.code, ERR_NONE, "%s", done.err.msg);
	cr_assert_float_eq((double)out[1], (double)x[1] / sqrt(sum_of_squares() / 32 + 1e-6), 1e-5);
	cr_assert_eq(uploads, 2);
	cr_assert_eq(up_bytes, sizeof(x) + sizeof(weight));
	cr_assert_eq(downloads, 2, "the outputs, and the baseline's to compare");
	cr_assert_eq(down_bytes, 2 * sizeof(out));
	cr_assert_eq(runs, 2 * (2 + 7));
	cr_assert_eq(settles, runs);
	cr_assert_eq(flushes, 2 * 7);
	cr_assert_str_eq(done.impl, "test:auto");
	cr_assert_str_eq(done.baseline_impl, "test:naive");
	cr_assert_float_eq(done.baseline_max_abs_diff, 0.5, 1e-6);
	cr_assert_eq(done.kernel.iters, 7);
	cr_assert_eq(done.baseline.warmup, 2);
	cr_assert_geq(done.upload_ms, 0);
	cr_assert_eq(done.memory.allocated_before, 0);
	cr_assert_eq(done.memory.inputs, sizeof(x) + sizeof(weight));
	cr_assert_eq(done.memory.outputs, sizeof(out));
	cr_assert_eq(done.memory.workspace, SCRATCH);
	cr_assert_eq(done.memory.peak, sizeof(x) + sizeof(weight) + sizeof(out) + SCRATCH, "without the baseline's");
	cr_assert_eq(done.memory.device_free, 1000);
	cr_assert_eq(done.memory.device_total, 2000);
	cr_assert_eq(d.peak, sizeof(x) + sizeof(weight) + 2 * sizeof(out) + SCRATCH);
	cr_assert_eq(d.allocated, 0);
	cr_assert_eq(live, 0);
	cr_assert_eq(plans, 0);
}

/* A plan and nothing else: no memory, no copies, no runs. */
Test(run, dry)
{
	job.dry = 1;
	job.impl = IMPL_NAIVE;
	job.warmup = 5;
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(done.err.code, ERR_NONE, "%s", done.err.msg);
	cr_expect_str_eq(done.impl, "test:naive");
	cr_expect_str_eq(done.why_not_aiter, "it is a test");
	cr_expect(uploads == 0 && downloads == 0 && runs == 0 && live == 0 && plans == 0 && d.peak == 0);
	job.impl = IMPL_AITER;
	run_job(&d, &job, NULL, &done);
	cr_expect_eq(done.err.code, ERR_UNAVAILABLE_IMPL, "%s", done.err.msg);
	cr_expect_eq(plans, 0);
}

Test(run, one_run_is_waited_for_with_its_output)
{
	job.warmup = 3;
	job.iters = 1;
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(done.err.code, ERR_NONE, "%s", done.err.msg);
	cr_assert_eq(early_waits, 0);
	cr_assert_eq(runs, 4);
	cr_assert_eq(done.kernel.warmup, 3);
	cr_assert_eq(done.kernel.iters, 1);
	cr_assert_eq(done.kernel.median, 1, "run");
	cr_assert_eq(done.upload_ms, 2, "uploads");
	cr_assert_eq(done.download_ms, 1, "download");
	cr_assert_str_eq(done.impl, "test:auto");
	cr_assert_eq(plans, 0);
	job.iters = 2;
	downloads = 0;
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(early_waits, 2, "each timed run by itself");
}

Test(run, tiny_jobs_stay_in_the_hosts_memory)
{
	uint64_t bytes = sizeof(x) + sizeof(weight) + sizeof(out);

	for (int i = 0; i < 2; i++) {
		memset(out, 0, sizeof(out));
		uploads = downloads = 0;
		unreachable = i ? weight : NULL;
		run_job(&d, &job, NULL, &done);
		cr_assert_eq(done.err.code, ERR_NONE, "%s", done.err.msg);
		cr_assert_float_eq((double)out[0], -6 / sqrt(sum_of_squares() / 32 + 1e-6), 1e-5);
		cr_assert_eq(uploads, i ? 2 : 0);
		cr_assert_eq(downloads, i ? 1 : 0);
		cr_assert_eq(done.kernel.iters, 1);
		cr_assert_eq(done.kernel.median, 1, "run");
		cr_assert_eq(done.upload_ms, i ? 2 : 0);
		cr_assert_eq(done.memory.allocated_before, 0);
		cr_assert_eq(done.memory.peak, bytes + SCRATCH);
		cr_assert_eq(d.allocated, 0);
		cr_assert_eq(live, 0);
	}
}

Test(run, differences)
{
	static const double bends[] = {0, -0.25, INFINITY, NAN};

	job.baseline = IMPL_NAIVE;
	for (int i = 0; i < 4; i++) {
		bend = bends[i];
		run_job(&d, &job, NULL, &done);
		if (isnan(bend))
			cr_assert(isnan(done.baseline_max_abs_diff));
		else
			cr_assert(done.baseline_max_abs_diff == fabs(bend) ||
				  fabs(done.baseline_max_abs_diff - fabs(bend)) < 1e-6);
	}
}

Test(run, an_error_at_any_step_leaves_nothing_behind)
{
	long steps;

	job.warmup = 1;
	job.iters = 70; /* more than fit on the stack */
	job.flush = 1;
	job.baseline = IMPL_NAIVE;
	for (fail_at = 1;; fail_at++) {
		calls = 0;
		memset(&done, 0, sizeof(done));
		run_job(&d, &job, NULL, &done);
		cr_assert_eq(d.allocated, 0);
		cr_assert_eq(live, 0);
		cr_assert_eq(plans, 0);
		if (done.err.code == ERR_NONE)
			break;
		cr_assert(done.err.code == ERR_WORKER_REFUSED || done.err.code == ERR_OUT_OF_MEMORY);
		if (done.err.code == ERR_OUT_OF_MEMORY)
			cr_assert(strstr(done.err.msg, "1000 of 2000 free"), "%s", done.err.msg);
	}
	steps = calls;
	cr_assert_eq(fail_at, steps + 1, "every step can fail, and every failure is told");
	cr_assert_gt(steps, 2 * 71);
}

Test(run, the_time_is_up)
{
	job.iters = 1000;
	job.deadline_ns = clock_ns();
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(done.err.code, ERR_DEADLINE_EXCEEDED);
	cr_assert_eq(runs, 1);
	cr_assert_eq(live, 0);
	job.deadline_ns = 0;
	job.impl = IMPL_AITER;
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(done.err.code, ERR_UNAVAILABLE_IMPL);
}

static bool
cancelled_after_three(void *cls)
{
	return ++*(int *)cls > 3;
}

Test(run, cancelled_between_two_runs)
{
	int asked = 0;
	struct run_watch watch = {.cancelled = cancelled_after_three, .cls = &asked};

	job.iters = 1000;
	run_job(&d, &job, &watch, &done);
	cr_assert_eq(done.err.code, ERR_CLIENT_GONE);
	cr_assert(strstr(done.err.msg, "after 4 of 1000"), "%s", done.err.msg);
	cr_assert_eq(runs, 4);
	cr_assert_eq(live, 0);
}

Test(run, statistics)
{
	struct sample_stats s;
	double one[] = {3}, four[] = {4, 1, 3, 2}, hundred[100], twenty[20];

	measure_statistics(one, 1, &s);
	cr_assert(s.min == 3 && s.max == 3 && s.mean == 3 && s.median == 3 && s.p95 == 3 && s.stddev == 0);
	measure_statistics(four, 4, &s);
	cr_assert(s.min == 1 && s.max == 4 && s.mean == 2.5 && s.median == 2.5 && s.p95 == 4);
	cr_assert_float_eq(s.stddev, 1.2909944487358056, 1e-15);
	for (int i = 0; i < 100; i++)
		hundred[i] = (i * 37 + 5) % 100 + 1;
	measure_statistics(hundred, 100, &s);
	cr_assert(s.min == 1 && s.max == 100 && s.mean == 50.5 && s.median == 50.5 && s.p95 == 95);
	cr_assert_float_eq(s.stddev, 29.011491975882016, 1e-12);
	for (int i = 0; i < 20; i++)
		twenty[i] = 20 - i;
	measure_statistics(twenty, 20, &s);
	cr_assert(s.p95 == 19 && s.median == 10.5);
}
