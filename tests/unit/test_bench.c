/*
 * test_bench.c: bench jobs on a device that this file plays: how many copies there are and in which order runs use them, that
 * the baseline takes turns, what is compared afterwards, and that an error at any step leaves nothing behind.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "worker/bench.h"
#include "worker/compute.h"

#define ROWS 6
#define COLUMNS 32
#define SET ((2 * ROWS * COLUMNS + COLUMNS) * sizeof(float)) /* bytes that one run goes through */
#define LOG_MAX 400

static struct compute *compute;
static long live, calls, fail_at, plans, runs, retargets;
static uint64_t cache_bytes, memory_free;
static long bad_run; /* writes something else into the output: from this run on; 0: none */
static double bad_by;
static struct {
	enum impl impl;
	const void *x, *out;
	bool timed;
} runs_log[LOG_MAX];
static bool marked;

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
	void *p;

	(void)d;
	if (++calls == fail_at) {
		err_set(e, ERR_OUT_OF_MEMORY, "step %ld failed", calls);
		return NULL;
	}
	p = malloc(bytes ? bytes : 1);
	cr_assert(p);
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
t_move(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	(void)d;
	memcpy(to, from, bytes);
	return step(e);
}

static int
t_fill(struct device *d, void *p, int byte, size_t bytes, struct err *e)
{
	(void)d;
	memset(p, byte, bytes);
	return step(e);
}

static int
t_plan(struct device *d, struct device_plan *p, struct err *e)
{
	(void)d;
	if (step(e) == -1)
		return -1;
	plans++;
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
t_retarget(struct device *d, struct device_plan *p, struct err *e)
{
	(void)d;
	(void)p;
	retargets++;
	return step(e);
}

static int
t_run(struct device *d, struct device_plan *p, struct err *e)
{
	const struct tensor *out = &p->call->tensors[2];
	int rc;

	(void)d;
	if (step(e) == -1)
		return -1;
	if (runs < LOG_MAX) {
		runs_log[runs].impl = p->impl;
		runs_log[runs].x = p->call->tensors[0].data;
		runs_log[runs].out = out->data;
		runs_log[runs].timed = marked;
	}
	runs++;
	compute_job_begin(compute);
	rc = p->op->ref(p->call, compute, e);
	compute_job_end(compute);
	if (bad_run != 0 && runs >= bad_run)
		((float *)out->data)[7] += (float)bad_by;
	return rc;
}

static int
t_sync(struct device *d, struct err *e)
{
	(void)d;
	return step(e);
}

/* A run takes as many milliseconds as runs there were before it. */
static int
t_mark(struct device *d, int mark, struct err *e)
{
	(void)d;
	marked = mark == MARK_RUN;
	return step(e);
}

static int
t_elapsed(struct device *d, int from, int to, double *ms, struct err *e)
{
	(void)d;
	(void)from;
	(void)to;
	*ms = (double)runs;
	return step(e);
}

static void
t_mem_info(struct device *d, uint64_t *available, uint64_t *total)
{
	(void)d;
	*available = memory_free;
	*total = 2 * memory_free;
}

static uint64_t
t_cache(struct device *d)
{
	(void)d;
	return cache_bytes;
}

const struct device_ops device_backend = {
	.kind = "test",
	.open = t_open,
	.close = t_close,
	.impls = t_impls,
	.alloc = t_alloc,
	.free = t_free,
	.upload = t_move,
	.download = t_move,
	.plan = t_plan,
	.unplan = t_unplan,
	.retarget = t_retarget,
	.run = t_run,
	.sync = t_sync,
	.mark = t_mark,
	.elapsed = t_elapsed,
	.mem_info = t_mem_info,
	.copy = t_move,
	.fill = t_fill,
	.cache = t_cache,
};

static float x[ROWS * COLUMNS], weight[COLUMNS], out[ROWS * COLUMNS];
static double samples[2 * 100];
static struct msg_job job;
static struct msg_done done;
static struct device d;

static void
setup(void)
{
	int64_t shape[2] = {ROWS, COLUMNS};
	struct op_call *c = &job.call;
	const struct op *op = op_find("rmsnorm", 7, &c->op);
	struct err e = {0};

	unsetenv("AITERD_CACHE_BYTES");
	cr_assert_eq(dev_open(&d, 0, 1, NULL, &e), 0);
	for (int i = 0; i < ROWS * COLUMNS; i++)
		x[i] = (float)(i % 13) - 6;
	for (int i = 0; i < COLUMNS; i++)
		weight[i] = 1;
	cr_assert_eq(op_params_finish(op, c, &e), 0);
	cr_assert_eq(tensor_describe(&c->tensors[0], "x", DT_FP32, 2, shape, &e), 0);
	cr_assert_eq(tensor_describe(&c->tensors[1], "weight", DT_FP32, 1, &shape[1], &e), 0);
	cr_assert_eq(op_bind(op, c, &e), 0, "%s", e.msg);
	c->tensors[0].data = x;
	c->tensors[1].data = weight;
	c->tensors[2].data = out;
	job.bench = BENCH_COLD;
	job.warmup = 2;
	job.iters = 5;
	cache_bytes = 10 * SET;
	memory_free = 1 << 30;
}

static void
teardown(void)
{
	dev_close(&d);
}

static void
run(void)
{
	memset(&done, 0, sizeof(done));
	runs = retargets = 0;
	marked = false;
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(live, 0);
	cr_assert_eq(plans, 0);
	cr_assert_eq(d.allocated, 0);
}

static void
run_well(void)
{
	run();
	cr_assert_eq(done.err.code, ERR_NONE, "%s", done.err.msg);
}

TestSuite(bench, .init = setup, .fini = teardown);

Test(bench, how_many_copies)
{
	cr_assert_eq(rotation_wanted(100, 1000), 20);
	cr_assert_eq(rotation_wanted(99, 1000), 21, "never less than twice the cache");
	cr_assert_eq(rotation_wanted(2000, 1000), 1);
	cr_assert_eq(rotation_wanted(1999, 1000), 2);
	cr_assert_eq(rotation_wanted(0, 1000), 1);
	cr_assert_eq(rotation_wanted(100, 0), 1);
	cr_assert_eq(rotation_wanted(28672, UINT64_C(256) << 20), 18725, "MI300X: 512 MiB at least");
	cr_assert_geq(rotation_wanted(28672, UINT64_C(256) << 20) * 28672, UINT64_C(512) << 20);
}

/* A tensor takes a cache line at least, however small it is: copies are counted by that, or a few bytes would take gigabytes. */
Test(bench, tiny_tensors_take_lines)
{
	int64_t shape[2] = {1, 1};
	struct op_call *c = &job.call;
	const struct op *op = op_find("rmsnorm", 7, &c->op);
	struct err e = {0};

	cr_assert_eq(tensor_describe(&c->tensors[0], "x", DT_FP32, 2, shape, &e), 0);
	cr_assert_eq(tensor_describe(&c->tensors[1], "weight", DT_FP32, 1, &shape[1], &e), 0);
	cr_assert_eq(op_bind(op, c, &e), 0, "%s", e.msg);
	c->tensors[0].data = x;
	c->tensors[1].data = weight;
	c->tensors[2].data = out;
	cache_bytes = 64 * 3 * 100;
	run_well();
	cr_assert_eq(done.bench.copies, 200);
	cr_assert_eq(done.bench.rotation_bytes, 2 * cache_bytes);
	cr_assert(done.bench.cold && done.bench.validated);
}

/* No copy is used twice within as many runs as there are copies, and the one that was written last is not the first used. */
Test(bench, cold_goes_round)
{
	job.iters = 50;
	run_well();
	cr_assert_eq(done.bench.copies, 20);
	cr_assert_eq(done.bench.rotation_bytes, 20 * SET);
	cr_assert_eq(done.bench.cache_bytes, 10 * SET);
	cr_assert(done.bench.cold && done.bench.validated && done.bench.identical);
	cr_assert_eq(done.bench.max_diff_after, 0);
	cr_assert_str_empty(done.bench.note);
	cr_assert_eq(runs, 1 + 2 + 50);
	cr_assert_eq(retargets, 2 + 50);
	for (long i = 1; i < runs; i++) {
		for (long k = i + 1; k < runs && k < i + 20; k++) {
			cr_assert_neq(runs_log[i].x, runs_log[k].x);
			cr_assert_neq(runs_log[i].out, runs_log[k].out);
		}
		if (i + 20 < runs)
			cr_assert_eq(runs_log[i].x, runs_log[i + 20].x);
	}
	for (long i = 0; i < runs; i++)
		cr_assert_eq(runs_log[i].timed, i > 2);
	for (int row = 0; row < ROWS; row++) {
		double sum = 0;

		for (int i = 0; i < COLUMNS; i++)
			sum += (double)x[row * COLUMNS + i] * (double)x[row * COLUMNS + i];
		for (int i = 0; i < COLUMNS; i++)
			cr_assert_float_eq((double)out[row * COLUMNS + i],
					   (double)x[row * COLUMNS + i] / sqrt(sum / COLUMNS + 1e-6), 1e-5);
	}
}

Test(bench, warm_stays)
{
	job.bench = BENCH_WARM;
	run_well();
	cr_assert_eq(done.bench.copies, 1);
	cr_assert_eq(done.bench.rotation_bytes, SET);
	cr_assert(!done.bench.cold && done.bench.validated);
	cr_assert_str_empty(done.bench.note);
	for (long i = 1; i < runs; i++)
		cr_assert_eq(runs_log[i].x, runs_log[0].x);
}

/* What is larger than twice the cache needs no copies to be cold. */
Test(bench, large_inputs_are_cold_by_themselves)
{
	cache_bytes = SET / 2;
	run_well();
	cr_assert_eq(done.bench.copies, 1);
	cr_assert(done.bench.cold);
}

Test(bench, without_memory_it_is_not_called_cold)
{
	memory_free = 5 * 2 * 2048; /* half of it: five copies, each rounded up */
	run_well();
	cr_assert_eq(done.bench.copies, 5);
	cr_assert_not(done.bench.cold);
	cr_assert(strstr(done.bench.note, "20 copies"), "%s", done.bench.note);
	cr_assert(strstr(done.bench.note, "memory for 5"), "%s", done.bench.note);
	memory_free = 2048;
	run_well();
	cr_assert_eq(done.bench.copies, 1);
	cr_assert_not(done.bench.cold);
	cache_bytes = 0;
	run_well();
	cr_assert_not(done.bench.cold);
	cr_assert(strstr(done.bench.note, "does not tell"), "%s", done.bench.note);
}

Test(bench, the_baseline_takes_turns)
{
	for (int warm = 0; warm < 2; warm++) {
		long per_timed = warm ? 2 : 1, at = 1;

		job.bench = warm ? BENCH_WARM : BENCH_COLD;
		job.baseline = IMPL_NAIVE;
		run_well();
		cr_assert_eq(runs, 1 + 2 * 2 + 2 * 5 * per_timed);
		for (int i = 0; i < 7; i++)
			for (int side = 0; side < 2; side++)
				for (long k = 0; k < (i < 2 ? 1 : per_timed); k++, at++) {
					cr_assert_eq(runs_log[at].impl, side ? IMPL_NAIVE : IMPL_AUTO, "run %ld", at);
					cr_assert_eq(runs_log[at].timed, i >= 2 && k == per_timed - 1, "run %ld", at);
				}
		cr_assert_str_eq(done.impl, "test:auto");
		cr_assert_str_eq(done.baseline_impl, "test:naive");
		cr_assert_eq(done.kernel.iters, 5);
		cr_assert_eq(done.baseline.iters, 5);
		cr_assert_eq(done.baseline.warmup, 2);
		cr_assert_eq(done.baseline_max_abs_diff, 0);
		if (!warm) {
			cr_assert_eq(done.bench.copies, 20, "a run goes through one set, whoever runs");
			for (long i = 1; i + 1 < runs; i++)
				cr_assert_neq(runs_log[i].x, runs_log[i + 1].x);
		}
	}
}

Test(bench, every_sample_in_its_order)
{
	int64_t shape[2] = {2, 5};

	job.baseline = IMPL_NAIVE;
	cr_assert_eq(tensor_describe(&job.samples, "samples", DT_FP64, 2, shape, NULL), 0);
	job.samples.data = samples;
	run_well();
	/* 1 + 4 runs before; a run's time is its number. */
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(samples[i], 5 + 2 * i + 1);
		cr_assert_eq(samples[5 + i], 5 + 2 * i + 2);
	}
	cr_assert_eq(done.kernel.min, 6);
	cr_assert_eq(done.kernel.median, 10);
	cr_assert_eq(done.baseline.max, 15);
}

/* A timed run that wrote something else is found: first within the tolerance, then beyond it, then a NaN. */
Test(bench, what_changes_is_told)
{
	for (int warm = 0; warm < 2; warm++) {
		job.bench = warm ? BENCH_WARM : BENCH_COLD;
		bad_run = 5;
		bad_by = 1e-5;
		run_well();
		cr_assert(done.bench.validated && !done.bench.identical);
		cr_assert_float_eq(done.bench.max_diff_after, 1e-5, 1e-6);
		bad_by = -0.25;
		run_well();
		cr_assert(!done.bench.validated && !done.bench.identical);
		cr_assert_float_eq(done.bench.max_diff_after, 0.25, 1e-5);
		cr_assert(strstr(done.bench.note, "out is not what it was"), "%s", done.bench.note);
		bad_by = NAN;
		run_well();
		cr_assert_not(done.bench.validated);
		cr_assert(isnan(done.bench.max_diff_after));
		bad_run = 0;
	}
}

Test(bench, an_error_at_any_step_leaves_nothing_behind)
{
	int64_t shape[2] = {2, 40};

	job.baseline = IMPL_NAIVE;
	job.iters = 40; /* twice that is more than fit on the stack */
	cr_assert_eq(tensor_describe(&job.samples, "samples", DT_FP64, 2, shape, NULL), 0);
	job.samples.data = samples;
	for (fail_at = 1;; fail_at++) {
		calls = 0;
		run();
		/* Copies that there is no memory for are no error. */
		if (done.err.code == ERR_NONE && done.bench.cold)
			break;
		cr_assert(done.err.code == ERR_WORKER_REFUSED || done.err.code == ERR_OUT_OF_MEMORY ||
			  (done.err.code == ERR_NONE && done.bench.note[0]));
	}
	cr_assert_eq(fail_at, calls + 1, "every step can fail, and every failure is told");
	cr_assert_gt(calls, 4 * 80);
}

static bool
after_ten(void *cls)
{
	return ++*(int *)cls > 10;
}

static uint64_t told, told_of;

static void
listen(void *cls, uint64_t r, uint64_t of)
{
	(void)cls;
	cr_assert(r == 0 || r == told + 1);
	told = r;
	told_of = of;
}

Test(bench, cancelled_and_late)
{
	int asked = 0;
	struct run_watch watch = {.cancelled = after_ten, .progress = listen, .cls = &asked};

	job.iters = 1000;
	job.baseline = IMPL_NAIVE;
	run_job(&d, &job, &watch, &done);
	cr_assert_eq(done.err.code, ERR_CLIENT_GONE);
	cr_assert(strstr(done.err.msg, "after 11 of 2004"), "%s", done.err.msg);
	cr_assert_eq(told, 10);
	cr_assert_eq(told_of, 2004);
	cr_assert_eq(live, 0);
	memset(&done, 0, sizeof(done));
	job.deadline_ns = clock_ns();
	run_job(&d, &job, NULL, &done);
	cr_assert_eq(done.err.code, ERR_DEADLINE_EXCEEDED);
	cr_assert(strstr(done.err.msg, "each with the baseline"), "%s", done.err.msg);
	cr_assert_eq(live, 0);
}

Test(bench, the_environment_tells_the_cache)
{
	setenv("AITERD_CACHE_BYTES", "12345678", 1);
	cr_assert_eq(dev_cache_bytes(&d), 12345678);
	setenv("AITERD_CACHE_BYTES", "12x", 1);
	cr_assert_eq(dev_cache_bytes(&d), cache_bytes);
}
