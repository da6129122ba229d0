/*
 * test_rmsnorm_cpu.c: the fast and the unfused RMS normalisation on the CPU, every instruction set this processor
 * has, against golden vectors and the float64 reference.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/golden.h"
#include "ops/rmsnorm.h"
#include "worker/compute.h"

static const char *const isas[] = {"scalar", "avx2", "avx512"};
#define ISAS 3

static bool
use_isa(int isa)
{
	setenv("AITERD_CPU_ISA", isas[isa], 1);
	return (int)cpu_isa() == isa;
}

static void
run(op_run_f f, const struct op_call *c, int threads)
{
	struct compute *ctx = compute_new(threads);
	struct err e = {0};

	cr_assert_not_null(ctx);
	compute_job_begin(ctx);
	cr_assert_eq(f(c, ctx, &e), 0, "%s", e.msg);
	compute_job_end(ctx);
	compute_free(&ctx);
}

static double
value(uint32_t *state)
{
	double sum = -6;

	for (int i = 0; i < 12; i++) {
		*state = *state * 1664525U + 1013904223U;
		sum += (*state >> 8) / 16777216.0;
	}
	return sum;
}

static double
half_ulp(enum dtype dt)
{
	return dt == DT_FP16 ? 0x1p-11 : dt == DT_BF16 ? 0x1p-8 : 0x1p-24;
}

static void
make(struct golden *g, enum dtype dt, int64_t rows, int64_t n, const char *eps)
{
	const int64_t shapes[2][2] = {{rows, n}, {n, 0}};
	int at;

	memset(g, 0, sizeof(*g));
	g->op = op_find("rmsnorm", 7, &g->call.op);
	cr_assert_not_null(g->op);
	for (int i = RMSNORM_X; i <= RMSNORM_WEIGHT; i++) {
		struct tensor *t = &g->call.tensors[i];
		uint32_t state = (uint32_t)(rows * 31 + n + i);

		cr_assert_eq(tensor_describe(t, "t", dt, i == RMSNORM_X ? 2 : 1, shapes[i], NULL), 0);
		t->data = golden_alloc(g, t->bytes);
		for (int64_t k = 0; k < tensor_elements(t); k++)
			tensor_put(t, k, value(&state));
	}
	at = op_param_find(g->op, "eps", 3);
	cr_assert_eq(op_value_parse(&g->op->params[at], eps, strlen(eps), &g->call.params[at], NULL), 0);
}

static void
finish(struct golden *g)
{
	struct err e = {0};
	struct op_call ref;
	struct tensor *t = &ref.tensors[RMSNORM_OUT];

	cr_assert_eq(golden_prepare(g, &e), 0, "%s", e.msg);
	ref = g->call;
	cr_assert_eq(tensor_describe(t, "t", DT_FP64, t->rank, g->call.tensors[RMSNORM_OUT].shape, NULL), 0);
	t->data = golden_alloc(g, t->bytes);
	g->expected[RMSNORM_OUT] = *t;
	run(g->op->ref, &ref, 1);
}

#define SLACK 1e-6

/* naive: also the unfused one, which is right on ordinary numbers only. */
static void
check_all(struct golden *g, bool naive, const char *what)
{
	double ulp = half_ulp((enum dtype)g->call.tensors[RMSNORM_OUT].dtype);

	for (int isa = 0; isa < ISAS; isa++) {
		if (!use_isa(isa))
			continue;
		for (int pass = 0; pass < (naive ? 4 : 2); pass++) {
			double worst;

			memset(g->call.tensors[RMSNORM_OUT].data, 0xA5, (size_t)g->call.tensors[RMSNORM_OUT].bytes);
			run(pass < 2 ? g->op->cpu : g->op->naive, &g->call, 1 + 2 * (pass % 2));
			worst = golden_worst(g, RMSNORM_OUT, 1e-7, ulp + SLACK);
			cr_expect_leq(worst, 1.0, "%s, %s, pass %d: %g", what, isas[isa], pass, worst);
		}
	}
}

Test(rmsnorm_cpu, golden_vectors)
{
	static const char *const files[] = {"rmsnorm_bf16_odd.safetensors", "rmsnorm_fp16.safetensors",
					    "rmsnorm_fp16_eps.safetensors", "rmsnorm_fp32.safetensors"};

	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		struct golden g;
		struct err e = {0};

		cr_assert_eq(golden_load(files[f], &g, &e), 0, "%s: %s", files[f], e.msg);
		check_all(&g, true, files[f]);
		golden_free(&g);
	}
}

Test(rmsnorm_cpu, shapes)
{
	static const int64_t ns[] = {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 255, 768, 1000, 4096, 5001};
	static const enum dtype dts[] = {DT_FP32, DT_FP16, DT_BF16};

	for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
		for (int d = 0; d < 3; d++) {
			struct golden g;
			char name[80];

			make(&g, dts[d], 1 + (int64_t)i % 4, ns[i], "1e-6");
			finish(&g);
			snprintf(name, sizeof(name), "%s, n %d", dtype_info(dts[d])->name, (int)ns[i]);
			check_all(&g, true, name);
			golden_free(&g);
		}
	}
}

/* Enough for several threads, in items of many rows and of one. */
Test(rmsnorm_cpu, many_rows)
{
	static const int64_t shapes[][2] = {{1500, 67}, {5, 40000}, {1, 100000}, {0, 64}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct golden g;

		make(&g, i % 2 ? DT_FP16 : DT_FP32, shapes[i][0], shapes[i][1], "0.01");
		finish(&g);
		check_all(&g, true, "many");
		golden_free(&g);
	}
}

/* Equal elements, so many that a float sum of their squares would be off by far more than its rounding. */
Test(rmsnorm_cpu, long_row)
{
	struct golden g;
	struct tensor *x;

	make(&g, DT_FP32, 1, 1000003, "0");
	x = &g.call.tensors[RMSNORM_X];
	for (int64_t i = 0; i < tensor_elements(x); i++)
		tensor_put(x, i, 0.3162);
	finish(&g);
	check_all(&g, true, "long");
	golden_free(&g);
}

/* Rows whose squares float cannot hold, rows of zeros, NaN, infinities: as float64 has them. */
Test(rmsnorm_cpu, extremes)
{
	static const double by[] = {1e30, 1e-30, 3e-39, 0, 1e18, 1e-12};
	static const double odd[] = {NAN, INFINITY, -INFINITY};
	const int64_t n = 50;

	for (int e = 0; e < 2; e++) {
		for (int dt = 0; dt < 2; dt++) {
			struct golden g;

			make(&g, dt ? DT_BF16 : DT_FP32, 12, n, e ? "1e-6" : "0");
			for (int64_t i = 0; i < 6 * n; i++)
				tensor_put(&g.call.tensors[RMSNORM_X], i,
					   tensor_get(&g.call.tensors[RMSNORM_X], i) * by[i / n]);
			for (int64_t row = 6; row < 9; row++)
				tensor_put(&g.call.tensors[RMSNORM_X], row * n + 5 * row, odd[row - 6]);
			finish(&g);
			check_all(&g, false, "extremes");
			tensor_put(&g.call.tensors[RMSNORM_WEIGHT], 3, NAN);
			tensor_put(&g.call.tensors[RMSNORM_WEIGHT], 49, INFINITY);
			finish(&g);
			check_all(&g, false, "extreme weights");
			golden_free(&g);
		}
	}
}
