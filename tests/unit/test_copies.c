/*
 * test_copies.c: what a device keeps of kept tensors, on a device with memory of its own and little of it, which this file
 * plays: uploaded once, never stale, gone when memory is short, counted.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "worker/run.h"

#define ROWS 64
#define COLUMNS 2048
#define WEIGHT_BYTES (COLUMNS * sizeof(float))
#define X_BYTES (ROWS * WEIGHT_BYTES)

static size_t capacity, in_use;
static long live, uploads, downloads, calls, fail_at;

static int
step(struct err *e)
{
	return ++calls == fail_at ? err_set(e, ERR_WORKER_REFUSED, "step %ld failed", calls) : 0;
}

static int
t_open(struct device *d, int ordinal, int threads, struct err *e)
{
	(void)d, (void)ordinal, (void)threads, (void)e;
	return 0;
}

static void
t_close(struct device *d)
{
	(void)d;
}

static void
t_info(struct device *d, struct device_info *info)
{
	(void)d, (void)info;
}

static uint32_t
t_impls(struct device *d, const struct op *op)
{
	(void)d, (void)op;
	return 1u << IMPL_AUTO;
}

static void *
t_alloc(struct device *d, size_t bytes, struct err *e)
{
	unsigned char *p;

	(void)d;
	if (bytes > capacity - in_use) {
		err_set(e, ERR_OUT_OF_MEMORY, "none left");
		return NULL;
	}
	if (step(e) == -1)
		return NULL;
	p = malloc(bytes ? bytes : 1);
	cr_assert(p);
	memset(p, 0x77, bytes);
	in_use += bytes;
	live++;
	return p;
}

static void
t_free(struct device *d, void *p, size_t bytes)
{
	(void)d;
	in_use -= bytes;
	live--;
	free(p);
}

static int
t_upload(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	(void)d;
	uploads++;
	memcpy(to, from, bytes);
	return step(e);
}

static int
t_download(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	(void)d;
	downloads++;
	memcpy(to, from, bytes);
	return step(e);
}

static int
t_plan(struct device *d, struct device_plan *p, struct err *e)
{
	(void)d, (void)p;
	return step(e);
}

/* out = x * weight: which bytes were read shows in the result. */
static int
t_run(struct device *d, struct device_plan *p, struct err *e)
{
	const float *x = p->call->tensors[0].data, *weight = p->call->tensors[1].data;
	float *out = p->call->tensors[2].data;

	(void)d;
	for (int i = 0; i < ROWS * COLUMNS; i++)
		out[i] = x[i] * weight[i % COLUMNS];
	return step(e);
}

static int
t_sync(struct device *d, struct err *e)
{
	(void)d;
	return step(e);
}

static void
t_mem_info(struct device *d, uint64_t *available, uint64_t *total)
{
	(void)d;
	*available = capacity - in_use;
	*total = capacity;
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
	.run = t_run,
	.sync = t_sync,
	.mem_info = t_mem_info,
};

static float x[ROWS * COLUMNS], weight[COLUMNS], out[ROWS * COLUMNS];
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

	capacity = 100 * X_BYTES;
	cr_assert_eq(dev_open(&d, 0, 1, NULL, &e), 0);
	cr_assert_eq(op_params_finish(op, c, &e), 0);
	cr_assert_str_eq(op->tensors[0].name, "x");
	cr_assert_str_eq(op->tensors[1].name, "weight");
	cr_assert_eq(tensor_describe(&c->tensors[0], "x", DT_FP32, 2, shape, &e), 0);
	cr_assert_eq(tensor_describe(&c->tensors[1], "weight", DT_FP32, 1, &shape[1], &e), 0);
	cr_assert_eq(op_bind(op, c, &e), 0, "%s", e.msg);
	c->tensors[0].data = x;
	c->tensors[1].data = weight;
	c->tensors[2].data = out;
	for (int i = 0; i < ROWS * COLUMNS; i++)
		x[i] = (float)(i % 113);
	for (int i = 0; i < COLUMNS; i++)
		weight[i] = (float)(i % 7 + 1);
	job.iters = 1;
}

static void
teardown(void)
{
	dev_close(&d);
	cr_assert_eq(live, 0);
	cr_assert_eq(in_use, 0);
}

TestSuite(copies, .init = setup, .fini = teardown);

static void
run(uint64_t uid_x, uint64_t uid_weight, uint64_t uid_out)
{
	job.kept[0] = uid_x;
	job.kept[1] = uid_weight;
	job.kept[2] = uid_out;
	uploads = downloads = calls = 0;
	memset(out, 0, sizeof(out));
	memset(&done, 0, sizeof(done));
	run_job(&d, &job, NULL, &done);
}

/* It worked, with weights w: the kernel saw x's first element times these. */
static void
expect(float at_1, long up)
{
	cr_assert_eq(done.err.code, ERR_NONE, "%s", done.err.msg);
	cr_assert_eq(out[1], at_1, "%g", (double)out[1]);
	cr_assert_eq(uploads, up);
	cr_assert_eq(downloads, 1);
	cr_assert_eq(d.allocated, in_use);
}

Test(copies, weights_are_uploaded_once)
{
	run(0, 7, 0);
	expect(2, 2);
	cr_assert_eq(done.memory.cached, 0);
	cr_assert_eq(done.memory.inputs, X_BYTES + WEIGHT_BYTES);
	cr_assert_eq(d.allocated, WEIGHT_BYTES, "the copy stays");

	weight[1] = 50; /* nobody would: a kept tensor never changes. It shows that the copy is what is read. */
	run(0, 7, 0);
	expect(2, 1);
	cr_assert_eq(done.memory.cached, WEIGHT_BYTES);
	cr_assert_eq(done.memory.inputs, X_BYTES);
	cr_assert_eq(done.memory.allocated_before, WEIGHT_BYTES);
	cr_assert_eq(done.memory.peak, WEIGHT_BYTES + 2 * X_BYTES, "before, inputs and outputs: no overhead");

	run(0, 8, 0); /* the name means another tensor now */
	expect(50, 2);
	run(0, 7, 0);
	expect(2, 1);
	run(0, 0, 0); /* bytes of the request's own are nothing to remember */
	expect(50, 2);
	cr_assert_eq(d.allocated, 2 * WEIGHT_BYTES);

	copies_forget(&d, 7);
	cr_assert_eq(d.allocated, WEIGHT_BYTES);
	copies_forget(&d, 7);
	run(0, 7, 0);
	expect(50, 2);
	copies_clear(&d);
	cr_assert_eq(d.allocated, 0);
}

Test(copies, an_output_is_the_next_input)
{
	run(0, 7, 20);
	expect(2, 2);
	cr_assert_eq(d.allocated, WEIGHT_BYTES + X_BYTES);
	x[1] = 1000; /* as the host's copy of the output lies elsewhere, this stands for anything else */
	run(20, 7, 21);
	expect(4, 0);
	run(21, 7, 0);
	expect(8, 0);
	cr_assert_eq(done.memory.cached, X_BYTES + WEIGHT_BYTES);
	cr_assert_eq(done.memory.inputs, 0);
	run(20, 7, 20); /* never asked for, as uids are not reused: the first one holds, and nothing leaks */
	expect(4, 0);
	run(20, 7, 0);
	expect(4, 0);
}

Test(copies, they_go_when_memory_is_short)
{
	capacity = 2 * X_BYTES + 3 * WEIGHT_BYTES;
	for (uint64_t uid = 1; uid <= 3; uid++) {
		run(0, uid, 0);
		expect(2, 2);
	}
	run(0, 1, 0); /* used: 2 is the oldest now */
	expect(2, 1);
	run(0, 4, 0);
	expect(2, 2);
	run(0, 1, 0);
	expect(2, 1);
	run(0, 3, 0);
	expect(2, 1);
	run(0, 2, 0);
	expect(2, 2);

	/* What the job itself uses stays while it runs. */
	capacity = 2 * X_BYTES + WEIGHT_BYTES;
	run(0, 3, 0);
	expect(2, 1);
	cr_assert_eq(d.allocated, WEIGHT_BYTES);
	run(0, 0, 0);
	expect(2, 2);
	cr_assert_eq(d.allocated, 0);

	/* And when all are gone and it is not enough, it is said. */
	run(0, 5, 0);
	capacity = 2 * X_BYTES + WEIGHT_BYTES - 1;
	run(0, 6, 0);
	cr_assert_eq(done.err.code, ERR_OUT_OF_MEMORY);
	cr_assert_eq(d.allocated, 0);
	cr_assert_eq(in_use, 0);
}

static int asked;

/* While the job runs, so many tensors went that the worker is told to let go of all copies, and of this one by name. */
static bool
forget_all(void *cls)
{
	size_t before = in_use;

	(void)cls;
	asked++;
	copies_clear(&d);
	copies_forget(&d, 7);
	cr_assert_eq(in_use, before - (asked == 1) * WEIGHT_BYTES, "what the job uses stays, the other one goes");
	return false;
}

Test(copies, what_a_job_uses_is_not_taken_from_it)
{
	const struct run_watch watch = {.cancelled = forget_all};

	run(0, 6, 0);
	run(0, 7, 0);
	expect(2, 2);
	cr_assert_eq(d.allocated, 2 * WEIGHT_BYTES);
	job.iters = 3;
	job.kept[1] = 7;
	uploads = downloads = calls = 0;
	memset(out, 0, sizeof(out));
	memset(&done, 0, sizeof(done));
	run_job(&d, &job, &watch, &done);
	expect(2, 1);
	cr_assert_eq(asked, 2);
	cr_assert_eq(done.memory.cached, WEIGHT_BYTES);
	cr_assert_eq(d.allocated, 0, "it goes with the job's end");
	job.iters = 1;
	weight[1] = 50;
	run(0, 7, 0);
	expect(50, 2);
}

/* Whatever fails, only what came whole stays: what was there before, and nothing of the job's own. */
Test(copies, a_failed_job_leaves_nothing_new)
{
	long steps;

	run(0, 7, 0);
	steps = calls;
	for (fail_at = 1; fail_at <= steps + 1; fail_at++) {
		run(99, 7, 98);
		if (fail_at > calls)
			break;
		cr_assert_eq(done.err.code, ERR_WORKER_REFUSED, "step %ld", fail_at);
		cr_assert_eq(d.allocated, WEIGHT_BYTES, "step %ld", fail_at);
		cr_assert_eq(in_use, WEIGHT_BYTES);
	}
	cr_assert_gt(fail_at, 5);
	fail_at = 0;
	run(0, 7, 0);
	expect(2, 1);
}
