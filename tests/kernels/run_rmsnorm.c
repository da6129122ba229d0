/*
 * run_rmsnorm.c: runs our RMSNorm kernels on a device with HIP (the emulator, or a GPU): every instance at its longest row and one
 * element beyond the one before, odd lengths, rows that need fp64; compares with the float64 reference. Argument: folder of
 * code objects. Prints a line for each case that fails and "COUNTS passed failed skipped".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu.h"
#include "ops/gpu_rmsnorm.h"
#include "worker/compute.h"

static const enum dtype dtypes[] = {DT_FP16, DT_BF16, DT_FP32};
static const int64_t lengths[] = {1,	3,    4,    7,	   8,	  9,	 64,	100,   255,  257,
				  512,	513,  1000, 1024,  1025,  2047,	 2048,	2049,  4096, 4099,
				  8192, 8193, 9001, 16384, 16387, 32768, 32769, 65536, 65537};

enum fill { NORMAL, HUGE_ROW, TINY_ROW, ZERO_ROW, NAN_ROW, INF_ROW, FILLS };

static void
fill(struct tensor *x, int64_t n, uint32_t seed, enum fill how)
{
	int64_t count = tensor_elements(x);
	uint32_t s = seed;

	for (int64_t i = 0; i < count; i++) {
		double sum = 0;

		for (int k = 0; k < 4; k++) {
			s = s * 1664525 + 1013904223;
			sum += (double)(s >> 8) * 0x1p-24 - 0.5;
		}
		if (i / n == 1) /* the second row is the special one */
			sum = how == HUGE_ROW ? sum * 1e25 : how == TINY_ROW ? sum * 1e-25 : how == ZERO_ROW ? 0 : sum;
		if (i == n + n / 2)
			sum = how == NAN_ROW ? NAN : how == INF_ROW ? INFINITY : sum;
		tensor_put(x, i, sum * 1.732);
	}
}

static double
worst(const struct tensor *got, const struct tensor *want, double tol)
{
	double w = 0;

	for (int64_t i = 0; i < tensor_elements(want); i++) {
		double a = tensor_get(got, i), b = tensor_get(want, i), r;

		if ((isnan(a) && isnan(b)) || (isinf(a) && a == b))
			continue;
		r = isfinite(a) && isfinite(b) ? fabs(a - b) / (tol + tol * fabs(b)) : INFINITY;
		w = r > w ? r : w;
	}
	return w;
}

static int
run(struct gpu *g, bool naive, enum dtype dt, int64_t rows, int64_t n, enum fill how, double eps)
{
	struct tensor *t, device[3], want;
	struct op_call call = {0};
	struct rmsnorm_problem p;
	struct launch_plan plan;
	struct compute *ctx;
	void *workspace = NULL;
	struct err e;
	double w;

	if (!op_find("rmsnorm", strlen("rmsnorm"), &call.op))
		return 1;
	t = call.tensors;
	if (tensor_describe(&t[RMSNORM_X], "x", dt, 2, (int64_t[]){rows, n}, &e) ||
	    tensor_describe(&t[RMSNORM_WEIGHT], "weight", dt, 1, &n, &e))
		return 1;
	for (int i = 0; i < 2; i++) {
		t[i].data = calloc(1, t[i].bytes);
		fill(&t[i], n, (uint32_t)(i + n), i == 0 ? how : NORMAL);
	}
	call.params[RMSNORM_EPS] = (struct op_value){.given = true, .f = eps};
	if (op_params_finish(op_get(call.op), &call, &e) || op_bind(op_get(call.op), &call, &e)) {
		printf("%s\n", e.msg);
		return 1;
	}
	memcpy(device, t, sizeof device);
	for (int i = 0; i < 2; i++)
		device[i].data = gpu_upload(t[i].data, t[i].bytes);
	device[2].data = gpu_alloc(t[2].bytes);
	rmsnorm_problem_get(&call, &p);
	p.x = device[0].data;
	p.weight = device[1].data;
	p.out = device[2].data;
	for (int i = 0; i <= naive; i++) {
		if (naive ? gpu_rmsnorm_naive_plan(&p, &g->facts, workspace, &plan, &e)
			  : gpu_rmsnorm_plan(&p, &g->facts, &plan, &e)) {
			printf("%s\n", e.msg);
			return 1;
		}
		if (naive && !workspace)
			workspace = gpu_alloc(plan.workspace);
	}
	gpu_run(g, &plan);
	if (tensor_describe(&want, "want", DT_FP64, 2, t[2].shape, &e))
		return 1;
	want.data = calloc(1, want.bytes);
	t[2].data = calloc(1, t[2].bytes);
	gpu_download(t[2].data, device[2].data, t[2].bytes);
	device[2].data = t[2].data;
	t[2] = want;
	ctx = compute_new(1);
	compute_job_begin(ctx);
	op_get(call.op)->ref(&call, ctx, &e);
	compute_job_end(ctx);
	compute_free(&ctx);
	w = worst(&device[2], &want, dt == DT_FP32 ? 2e-6 : dt == DT_FP16 ? 6e-4 : 4.5e-3);
	if (!(w <= 1))
		printf("%srmsnorm %s, %d x %d, fill %d, eps %g: %s error/tolerance %.3g FAILED\n",
		       naive ? "unfused " : "", dtype_info(dt)->name, (int)rows, (int)n, (int)how, eps,
		       plan.launch[0].symbol, w);
	gpu_free((void *)(uintptr_t)p.x);
	gpu_free((void *)(uintptr_t)p.weight);
	gpu_free(p.out);
	if (workspace)
		gpu_free(workspace);
	free(t[0].data);
	free(t[1].data);
	free(want.data);
	free(device[2].data);
	return !(w <= 1);
}

int
main(int argc, char **argv)
{
	int passed = 0, failed = 0;
	struct gpu g;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	gpu_open(&g, argv[1]);
	for (size_t t = 0; t < sizeof dtypes / sizeof dtypes[0]; t++)
		for (int naive = 0; naive < 2; naive++) {
			/* Every third length: the baseline has no instances. */
			for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i += naive ? 3 : 1)
				if (run(&g, naive, dtypes[t], lengths[i] < 5000 ? 5 : 2, lengths[i], NORMAL, 1e-6))
					failed++;
				else
					passed++;
			for (int how = NORMAL; how < FILLS; how++) {
				double eps = how == ZERO_ROW ? 1e-6 : 0;

				/* It has no fp64 for what fp32 cannot square. */
				if (naive && (how == HUGE_ROW || how == TINY_ROW))
					continue;
				if (run(&g, naive, dtypes[t], 5, 130, (enum fill)how, eps) ||
				    run(&g, naive, dtypes[t], 5, 3001, (enum fill)how, eps))
					failed++;
				else
					passed++;
			}
		}
	printf("COUNTS %d %d 0\n", passed, failed);
	gpu_close(&g);
	return failed != 0;
}
