/*
 * test_dev_hip.c: the GPU device (worker/dev_hip.c, hip_objects.c) on the emulator: what it tells of itself, memory and its
 * statistics, running short of it, errors that lose the device and such that do not, a kernel on device memory and in place.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ops/op.h"
#include "worker/dev_hip.h"

#define MIB ((size_t)1 << 20)
#define ROWS 3
#define COLS 40

static struct device d;
static struct err e;

/* A device of 16 MiB. */
static void
setup(void)
{
	setenv("EMUHIP_MEM", "0.015625", 1);
	if (dev_open(&d, 0, 1, NULL, &e) == 0)
		return;
	if (strstr(e.msg, "libLLVM"))
		cr_skip("%s", e.msg);
	cr_assert_fail("%s", e.msg);
}

static void
teardown(void)
{
	if (d.ops)
		dev_close(&d);
}

TestSuite(dev_hip, .init = setup, .fini = teardown, .timeout = 120);

Test(dev_hip, tells_about_itself)
{
	struct device_info info;
	uint32_t i;

	dev_info(&d, &info);
	cr_assert_str_eq(info.kind, "emulated");
	cr_assert_str_eq(info.arch, "gfx942");
	cr_assert(strstr(info.name, "MI300X"));
	cr_assert_eq(strncmp(info.runtime, "HIP 5.", 6), 0, "%s", info.runtime);
	cr_assert_eq(strncmp(info.driver, "emulator (", 10), 0, "%s", info.driver);
	cr_assert_gt(info.compute_units, 0);
	cr_assert_eq(info.timing_meaningless, 1);
	cr_assert_eq(info.memory_total, 16 * MIB);
	cr_assert_leq(info.memory_free, info.memory_total);
	cr_assert(op_find("rmsnorm", 7, &i));
	cr_assert_eq(info.impls[i] & (1u << IMPL_AUTO | 1u << IMPL_OWN), 1u << IMPL_AUTO | 1u << IMPL_OWN);
	cr_assert_eq(info.impls[i] & 1u << IMPL_REFERENCE, 0);
}

Test(dev_hip, no_such_device)
{
	struct device other;
	struct err why = {0};

	setenv("EMUHIP_DEVICES", "1", 1);
	cr_assert_eq(dev_open(&other, 1, 1, NULL, &why), -1);
	cr_assert_eq(why.code, ERR_DEVICE_UNAVAILABLE);
	cr_assert(strstr(why.msg, "emulated:1 was asked for, HIP finds 1 device"), "%s", why.msg);
}

Test(dev_hip, copies_and_counts)
{
	unsigned char *host = malloc(3 * MIB), *back = malloc(3 * MIB);
	void *p, *q;

	for (size_t i = 0; i < 3 * MIB; i++)
		host[i] = (unsigned char)(i * 7 + i / 256);
	cr_assert_eq(dev_window(&d), 0);
	p = dev_alloc(&d, 3 * MIB, &e);
	q = dev_scratch(&d, 2 * MIB, &e);
	cr_assert(p && q, "%s", e.msg);
	cr_assert_eq(d.window_scratch, 2 * MIB);
	cr_assert_eq(dev_upload(&d, p, host, 3 * MIB, &e), 0);
	memset(back, 0, 3 * MIB);
	cr_assert_eq(dev_download(&d, back, p, 3 * MIB, &e), 0);
	cr_assert_eq(dev_sync(&d, &e), 0);
	cr_assert_eq(memcmp(back, host, 3 * MIB), 0);
	dev_free(&d, q, 2 * MIB);
	dev_free(&d, p, 3 * MIB);
	cr_assert_geq(dev_window_peak(&d), 5 * MIB);
	cr_assert_leq(dev_window_peak(&d), 7 * MIB, "rounded up by the pool");
	/* The next job sees nothing of this one. */
	cr_assert_eq(dev_window(&d), 0);
	cr_assert_eq(dev_window_peak(&d), 0);
	cr_assert_eq(d.peak, 5 * MIB);
	free(host);
	free(back);
}

Test(dev_hip, short_of_memory)
{
	void *p[3], *all;
	uint64_t available = 0, total = 0;

	cr_assert_null(dev_alloc(&d, 17 * MIB, &e));
	cr_assert_eq(e.code, ERR_OUT_OF_MEMORY);
	cr_assert(strstr(e.msg, "17825792 bytes of device memory needed, "), "%s", e.msg);
	cr_assert(strstr(e.msg, " of 16777216 free"), "%s", e.msg);
	cr_assert_not(d.lost);
	/* Freed in pieces it is there again in one. */
	for (int i = 0; i < 3; i++) {
		p[i] = dev_alloc(&d, 4 * MIB, &e);
		cr_assert(p[i], "%s", e.msg);
	}
	for (int i = 0; i < 3; i++)
		dev_free(&d, p[i], 4 * MIB);
	all = dev_alloc(&d, 14 * MIB, &e);
	cr_assert(all, "%s", e.msg);
	dev_free(&d, all, 14 * MIB);
	cr_assert_eq(dev_sync(&d, &e), 0);
	dev_mem_info(&d, &available, &total);
	cr_assert_eq(total, 16 * MIB);
	cr_assert_eq(d.allocated, 0);
}

Test(dev_hip, errors)
{
	cr_assert_eq(hip_check(&d, hipSuccess, "nothing", &e), 0);
	cr_assert_eq(hip_check(&d, hipErrorInvalidValue, "asking", &e), -1);
	cr_assert_eq(e.code, ERR_WORKER_REFUSED);
	cr_assert_eq(hip_check(&d, hipErrorOutOfMemory, "taking", &e), -1);
	cr_assert_eq(e.code, ERR_OUT_OF_MEMORY);
	cr_assert_not(d.lost);
	cr_assert_eq(hip_check(&d, hipErrorIllegalAddress, "running", &e), -1);
	cr_assert_eq(e.code, ERR_WORKER_CRASHED);
	cr_assert_str_eq(e.msg, "running: hipErrorIllegalAddress");
	cr_assert(d.lost);
	d.lost = false;
}

Test(dev_hip, code_objects)
{
	struct hip_objects *o = hip_objects_new("gfx000", &e);
	struct launch l = {.object = "none.co", .symbol = "rmsnorm_fp32_64x1"};
	hipFunction_t f;

	cr_assert_null(o);
	cr_assert_eq(e.code, ERR_DEVICE_UNAVAILABLE);
	cr_assert(strstr(e.msg, "no kernels for gfx000"), "%s", e.msg);
	o = hip_objects_new("gfx942", &e);
	cr_assert(o, "%s", e.msg);
	cr_assert_eq(hip_objects_probe(o, &d, &e), 0, "%s", e.msg);
	cr_assert_eq(hip_objects_kernel(o, &d, &l, &f, &e), -1);
	cr_assert_eq(e.code, ERR_UNAVAILABLE_IMPL);
	l.object = "rmsnorm.co";
	cr_assert_eq(hip_objects_kernel(o, &d, &l, &f, &e), 0, "%s", e.msg);
	cr_assert_not(d.lost);
	hip_objects_free(&o);
}

/* RMSNorm of ROWS x COLS floats; `at` gives where the device finds a host tensor. */
static void
call_make(struct op_call *c, const struct op **op, void *at[3])
{
	int64_t shape[2] = {ROWS, COLS};

	memset(c, 0, sizeof(*c));
	*op = op_find("rmsnorm", 7, &c->op);
	cr_assert(*op);
	cr_assert_eq(op_params_finish(*op, c, &e), 0);
	for (int i = 0; (*op)->tensors[i].name; i++)
		if ((*op)->tensors[i].role == OP_IN)
			cr_assert_eq(tensor_describe(&c->tensors[i], (*op)->tensors[i].name, DT_FP32, i == 0 ? 2 : 1,
						     i == 0 ? shape : &shape[1], &e),
				     0);
	cr_assert_eq(op_bind(*op, c, &e), 0, "%s", e.msg);
	for (int i = 0; i < 3; i++)
		c->tensors[i].data = at[i];
}

static void
values_make(float *x, float *weight)
{
	for (int i = 0; i < ROWS * COLS; i++)
		x[i] = (float)(i * 37 % 101) / 50 - 1;
	for (int i = 0; i < COLS; i++)
		weight[i] = (float)i / 8;
}

static void
values_check(const float *x, const float *weight, const float *out)
{
	for (int r = 0; r < ROWS; r++) {
		double sum = 0;

		for (int i = 0; i < COLS; i++)
			sum += (double)x[r * COLS + i] * (double)x[r * COLS + i];
		for (int i = 0; i < COLS; i++) {
			double want = (double)x[r * COLS + i] / sqrt(sum / COLS + 1e-6) * (double)weight[i];

			cr_assert(fabs((double)out[r * COLS + i] - want) <= 1e-5 * (1 + fabs(want)), "row %d, %d", r, i);
		}
	}
}

static void
run_once(const struct op_call *c, const struct op *op)
{
	struct device_plan plan = {.op = op, .call = c, .impl = IMPL_AUTO};
	double ms = -1;

	cr_assert_eq(dev_plan(&d, &plan, &e), 0, "%s", e.msg);
	cr_assert_eq(plan.impl, IMPL_OWN);
	cr_assert_eq(strncmp(plan.name, "own:rmsnorm_fp32_", 17), 0, "%s", plan.name);
	cr_assert_eq(dev_mark(&d, MARK_RUN, &e), 0);
	for (int i = 0; i < 20; i++) { /* more than are queued without waiting */
		cr_assert_eq(dev_run(&d, &plan, &e), 0, "%s", e.msg);
		dev_settle(&d);
	}
	cr_assert_eq(dev_mark(&d, MARK_RUN_END, &e), 0);
	cr_assert_eq(dev_elapsed(&d, MARK_RUN, MARK_RUN_END, &ms, &e), 0);
	cr_assert_geq(ms, 0);
	dev_unplan(&d, &plan);
}

Test(dev_hip, a_kernel)
{
	static float x[ROWS * COLS], weight[COLS], out[ROWS * COLS];
	size_t bytes[3] = {sizeof(x), sizeof(weight), sizeof(out)};
	const struct op *op;
	struct op_call c;
	void *at[3];

	values_make(x, weight);
	for (int i = 0; i < 3; i++)
		cr_assert(at[i] = dev_alloc(&d, bytes[i], &e));
	cr_assert_eq(dev_upload(&d, at[0], x, sizeof(x), &e), 0);
	cr_assert_eq(dev_upload(&d, at[1], weight, sizeof(weight), &e), 0);
	call_make(&c, &op, at);
	run_once(&c, op);
	cr_assert_eq(dev_download(&d, out, at[2], sizeof(out), &e), 0);
	cr_assert_eq(dev_sync(&d, &e), 0);
	values_check(x, weight, out);
	for (int i = 0; i < 3; i++)
		dev_free(&d, at[i], bytes[i]);
}

Test(dev_hip, a_kernel_in_place)
{
	float *host = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	float *tensors[3] = {host, host + 1024, host + 2048};
	const struct op *op;
	struct op_call c;
	void *at[3];

	cr_assert_neq(host, MAP_FAILED);
	values_make(tensors[0], tensors[1]);
	cr_assert_null(dev_reach(&d, host), "not pinned yet");
	dev_host_pin(&d, host, MIB);
	for (int i = 0; i < 3; i++)
		cr_assert(at[i] = dev_reach(&d, tensors[i]));
	call_make(&c, &op, at);
	run_once(&c, op);
	values_check(tensors[0], tensors[1], tensors[2]);
	dev_host_unpin(&d, host, MIB);
	cr_assert_null(dev_reach(&d, host), "no longer");
	cr_assert_not(d.lost);
	munmap(host, MIB);
}
