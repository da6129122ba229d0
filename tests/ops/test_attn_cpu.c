/*
 * test_attn_cpu.c: the fast and the unfused attention on the CPU, every instruction set this processor has,
 * against golden vectors and the float64 reference, on shapes that reach every branch of the inner loops.
 */
#include <criterion/criterion.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/flash_attn.h"
#include "ops/golden.h"
#include "worker/compute.h"

static const char *const isas[] = {"scalar", "avx2", "avx512"};
#define ISAS 3

/* False where the processor lacks it. */
static bool
use_isa(int isa)
{
	setenv("AITERD_CPU_ISA", isas[isa], 1);
	return (int)cpu_isa() == isa;
}

static size_t
run(op_run_f f, const struct op_call *c, int threads)
{
	struct compute *ctx = compute_new(threads);
	struct err e = {0};
	size_t bytes;

	cr_assert_not_null(ctx);
	compute_job_begin(ctx);
	cr_assert_eq(f(c, ctx, &e), 0, "%s", e.msg);
	cr_assert_neq(compute_variant_get(ctx)[0], '\0');
	bytes = compute_job_end(ctx);
	compute_free(&ctx);
	return bytes;
}

static uint32_t
next(uint32_t *state)
{
	*state = *state * 1664525U + 1013904223U;
	return *state >> 8;
}

/* Nearly normal, variance 1. */
static double
value(uint32_t *state)
{
	double sum = -6;

	for (int i = 0; i < 12; i++)
		sum += next(state) / 16777216.0;
	return sum;
}

struct shape {
	enum dtype dt;
	int64_t b, sq, sk, hq, hk, d, dv;
	const char *causal, *window; /* NULL: not given */
	const char *layout;	     /* NULL: bshd */
	const char *scale;
};

static void
param(struct golden *g, const char *name, const char *text)
{
	int i = op_param_find(g->op, name, strlen(name));

	cr_assert_geq(i, 0);
	if (text != NULL)
		cr_assert_eq(op_value_parse(&g->op->params[i], text, strlen(text), &g->call.params[i], NULL), 0);
}

static void
input(struct golden *g, int i, enum dtype dt, int rank, const int64_t *shape, uint32_t seed, double by)
{
	struct tensor *t = &g->call.tensors[i];

	cr_assert_eq(tensor_describe(t, "t", dt, rank, shape, NULL), 0);
	t->data = golden_alloc(g, t->bytes);
	for (int64_t k = 0; k < tensor_elements(t); k++)
		tensor_put(t, k, by * value(&seed));
}

static void
start(struct golden *g, const char *op)
{
	memset(g, 0, sizeof(*g));
	g->op = op_find(op, strlen(op), &g->call.op);
	cr_assert_not_null(g->op);
}

/* After the inputs: outputs, and the reference's unrounded answers as what is expected. */
static void
finish(struct golden *g)
{
	struct err e = {0};
	struct op_call ref;

	cr_assert_eq(golden_prepare(g, &e), 0, "%s", e.msg);
	ref = g->call;
	for (int i = 0; g->op->tensors[i].name != NULL; i++) {
		struct tensor *t = &ref.tensors[i];

		if (g->op->tensors[i].role != OP_OUT || t->dtype == DT_NONE)
			continue;
		cr_assert_eq(tensor_describe(t, "t", DT_FP64, t->rank, g->call.tensors[i].shape, NULL), 0);
		t->data = golden_alloc(g, t->bytes);
		g->expected[i] = *t;
	}
	run(g->op->ref, &ref, 2);
	/* softmax_lse is float whatever the inputs are: beyond it there is only infinity. */
	for (int i = 0; g->op->tensors[i].name != NULL; i++) {
		struct tensor *t = &g->expected[i];

		if (t->dtype == DT_NONE || strcmp(g->op->tensors[i].name, "softmax_lse") != 0)
			continue;
		for (int64_t k = 0; k < tensor_elements(t); k++) {
			if (fabs(tensor_get(t, k)) > (double)FLT_MAX)
				tensor_put(t, k, copysign(INFINITY, tensor_get(t, k)));
		}
	}
}

static void
dense_inputs(struct golden *g, const struct shape *s, double by)
{
	bool bhsd = s->layout != NULL && strcmp(s->layout, "bhsd") == 0;
	int64_t q[] = {s->b, bhsd ? s->hq : s->sq, bhsd ? s->sq : s->hq, s->d};
	int64_t k[] = {s->b, bhsd ? s->hk : s->sk, bhsd ? s->sk : s->hk, s->d};
	int64_t v[] = {s->b, k[1], k[2], s->dv};

	start(g, "flash_attn_func");
	input(g, ATTN_Q, s->dt, 4, q, 1, by);
	input(g, ATTN_K, s->dt, 4, k, 2, by);
	input(g, ATTN_V, s->dt, 4, v, 3, 1);
	param(g, "return_lse", "true");
	param(g, "causal", s->causal);
	param(g, "window_size", s->window);
	param(g, "layout", s->layout);
	param(g, "softmax_scale", s->scale);
}

static double
half_ulp(enum dtype dt)
{
	return dt == DT_FP16 ? 0x1p-11 : dt == DT_BF16 ? 0x1p-8 : 0x1p-24;
}

/* One rounding of the output plus what sums in float may be off; lse is always float. */
static void
compare(const struct golden *g, int out, int lse, double slack, const char *what)
{
	enum dtype dt = (enum dtype)g->call.tensors[out].dtype;
	double o = golden_worst(g, out, slack, half_ulp(dt) + slack), l = golden_worst(g, lse, slack, slack);

	cr_expect_leq(o, 1.0, "%s: out is %g of the tolerance", what, o);
	cr_expect_leq(l, 1.0, "%s: lse is %g of the tolerance", what, l);
}

static void
spoil_outputs(const struct golden *g)
{
	for (int i = 0; g->op->tensors[i].name != NULL; i++) {
		if (g->op->tensors[i].role == OP_OUT && g->call.tensors[i].dtype != DT_NONE)
			memset(g->call.tensors[i].data, 0xA5, (size_t)g->call.tensors[i].bytes);
	}
}

/* Every instruction set, fused and not. The fused one's results may not depend on the number of threads. */
static void
check_all(struct golden *g, double slack, const char *what)
{
	int out = op_tensor_find(g->op, "out", 3), lse = op_tensor_find(g->op, "softmax_lse", 11);
	size_t bytes = (size_t)g->call.tensors[out].bytes, lse_bytes = (size_t)g->call.tensors[lse].bytes;
	unsigned char *one = malloc(bytes + lse_bytes + 1);

	for (int isa = 0; isa < ISAS; isa++) {
		char name[200];

		if (!use_isa(isa))
			continue;
		snprintf(name, sizeof(name), "%s, %s", what, isas[isa]);
		spoil_outputs(g);
		run(g->op->cpu, &g->call, 1);
		compare(g, out, lse, slack, name);
		memcpy(one, g->call.tensors[out].data, bytes);
		memcpy(one + bytes, g->call.tensors[lse].data, lse_bytes);
		spoil_outputs(g);
		run(g->op->cpu, &g->call, 3);
		cr_expect(memcmp(one, g->call.tensors[out].data, bytes) == 0, "%s: threads change the output", name);
		cr_expect(memcmp(one + bytes, g->call.tensors[lse].data, lse_bytes) == 0, "%s: threads change the lse",
			  name);
		snprintf(name, sizeof(name), "%s, naive %s", what, isas[isa]);
		spoil_outputs(g);
		run(g->op->naive, &g->call, 2);
		compare(g, out, lse, slack, name);
	}
	free(one);
}

#define SLACK 3e-6

static void
check_dense(const struct shape *s)
{
	struct golden g;
	char name[160];

	snprintf(name, sizeof(name), "%s b %d sq %d sk %d heads %d:%d dim %d/%d causal %s window %s %s",
		 dtype_info(s->dt)->name, (int)s->b, (int)s->sq, (int)s->sk, (int)s->hq, (int)s->hk, (int)s->d,
		 (int)s->dv, s->causal ? s->causal : "-", s->window ? s->window : "-", s->layout ? s->layout : "bshd");
	dense_inputs(&g, s, 1);
	finish(&g);
	check_all(&g, SLACK, name);
	golden_free(&g);
}

Test(attn_cpu, golden_vectors)
{
	static const char *const files[] = {
		"attn_bf16_hd128.safetensors",	   "attn_bf16_hd128_causal_gqa.safetensors",
		"attn_bf16_hd192x128.safetensors", "attn_fp16_one_token.safetensors",
		"attn_fp16_scale.safetensors",	   "attn_fp16_tutorial_small.safetensors",
		"attn_fp16_window.safetensors",	   "attn_fp32_causal_sq_gt_sk.safetensors",
		"attn_fp32_hd64.safetensors",	   "varlen_bf16.safetensors",
		"varlen_fp16_hd128.safetensors",
	};

	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		struct golden g;
		struct err e = {0};
		int lse;

		cr_assert_eq(golden_load(files[f], &g, &e), 0, "%s: %s", files[f], e.msg);
		lse = op_tensor_find(g.op, "softmax_lse", 11);
		for (int isa = 0; isa < ISAS; isa++) {
			if (!use_isa(isa))
				continue;
			for (int naive = 0; naive < 2; naive++) {
				int out = op_tensor_find(g.op, "out", 3);
				double ulp = half_ulp((enum dtype)g.call.tensors[out].dtype), worst;

				spoil_outputs(&g);
				run(naive ? g.op->naive : g.op->cpu, &g.call, 2);
				worst = golden_worst(&g, out, SLACK, ulp + SLACK);
				cr_expect_leq(worst, 1.0, "%s, %s: %g", files[f], isas[isa], worst);
				if (g.expected[lse].dtype != DT_NONE)
					cr_expect_leq(golden_worst(&g, lse, SLACK, SLACK), 1.0, "%s, %s", files[f],
						      isas[isa]);
			}
		}
		golden_free(&g);
	}
}

Test(attn_cpu, shapes)
{
	static const struct shape shapes[] = {
		{DT_FP32, 1, 1, 1, 1, 1, 8, 8, NULL, NULL, NULL, NULL},
		{DT_FP16, 2, 13, 129, 2, 1, 64, 64, NULL, NULL, NULL, NULL},
		{DT_BF16, 1, 130, 127, 8, 1, 64, 64, "true", NULL, "bhsd", NULL}, /* GQA 8:1, Sq > Sk */
		{DT_FP32, 1, 300, 257, 1, 1, 33, 33, "true", NULL, NULL, NULL},	  /* several blocks of rows */
		{DT_FP32, 1, 620, 70, 1, 1, 16, 16, NULL, NULL, NULL, NULL},
		{DT_FP32, 1, 70, 300, 3, 3, 40, 24, NULL, "20,5", NULL, NULL},
		{DT_FP16, 1, 65, 400, 2, 2, 80, 80, NULL, "3,-1", "bhsd", NULL},
		{DT_BF16, 1, 200, 150, 2, 2, 72, 72, NULL, "-1,7", NULL, NULL},
		{DT_FP16, 1, 60, 260, 2, 1, 192, 128, "true", "100,0", NULL, NULL},
		{DT_FP32, 1, 50, 140, 2, 2, 256, 256, "true", NULL, NULL, "0.1"},
		{DT_BF16, 1, 7, 128, 2, 2, 128, 128, NULL, NULL, NULL, "0"},
		{DT_FP16, 1, 7, 131, 2, 2, 128, 128, NULL, NULL, NULL, "-0.2"},
		{DT_FP32, 2, 5, 0, 2, 2, 32, 32, NULL, NULL, NULL, NULL},    /* no keys */
		{DT_FP32, 2, 0, 5, 2, 2, 32, 32, NULL, NULL, NULL, NULL},    /* no queries */
		{DT_FP32, 1, 90, 40, 1, 1, 32, 32, NULL, "0,0", NULL, NULL}, /* one key each, or none */
		{DT_FP16, 1, 1, 5000, 4, 2, 64, 64, NULL, NULL, NULL, NULL}, /* keys split among tasks */
		{DT_FP32, 2, 2, 3001, 2, 1, 36, 100, "true", NULL, NULL, NULL},
		{DT_BF16, 1, 3, 4000, 6, 3, 128, 128, NULL, "700,0", "bhsd", NULL}, /* parts without a key */
		{DT_BF16, 5, 1, 1, 3, 1, 13, 11, "true", NULL, NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		check_dense(&shapes[i]);
}

Test(attn_cpu, random_shapes)
{
	static const enum dtype dts[] = {DT_FP32, DT_FP16, DT_BF16};
	uint32_t state = 12345;

	for (int n = 0; n < 40; n++) {
		struct shape s = {.dt = dts[n % 3], .b = 1 + next(&state) % 3, .hk = 1 + next(&state) % 3};
		char window[40];

		s.hq = s.hk * (1 + next(&state) % 4);
		s.sq = next(&state) % 3 == 0 ? 1 + next(&state) % 4 : 1 + next(&state) % 150;
		s.sk = 1 + next(&state) % 300;
		s.d = 8 + next(&state) % 100;
		s.dv = next(&state) % 2 ? s.d : 8 + next(&state) % 150;
		s.causal = next(&state) % 3 == 0 ? "true" : NULL;
		s.layout = next(&state) % 2 ? "bhsd" : NULL;
		if (s.causal == NULL && next(&state) % 2) {
			snprintf(window, sizeof(window), "%d,%d", (int)(next(&state) % 200) - 1,
				 (int)(next(&state) % 100) - 1);
			s.window = window;
		}
		check_dense(&s);
	}
}

static void
check_varlen(enum dtype dt, int n, const int32_t *cu_q, const int32_t *cu_k, int64_t hq, int64_t hk, int64_t d,
	     const char *causal, const char *window, const char *what)
{
	int32_t max_q = 0, max_k = 0;
	struct golden g;
	char text[20];

	start(&g, "flash_attn_varlen_func");
	input(&g, VARLEN_Q, dt, 3, (const int64_t[]){cu_q[n], hq, d}, 1, 1);
	input(&g, VARLEN_K, dt, 3, (const int64_t[]){cu_k[n], hk, d}, 2, 1);
	input(&g, VARLEN_V, dt, 3, (const int64_t[]){cu_k[n], hk, d}, 3, 1);
	input(&g, VARLEN_CU_Q, DT_INT32, 1, (const int64_t[]){n + 1}, 0, 0);
	input(&g, VARLEN_CU_K, DT_INT32, 1, (const int64_t[]){n + 1}, 0, 0);
	memcpy(g.call.tensors[VARLEN_CU_Q].data, cu_q, (size_t)(n + 1) * 4);
	memcpy(g.call.tensors[VARLEN_CU_K].data, cu_k, (size_t)(n + 1) * 4);
	for (int i = 0; i < n; i++) {
		max_q = cu_q[i + 1] - cu_q[i] > max_q ? cu_q[i + 1] - cu_q[i] : max_q;
		max_k = cu_k[i + 1] - cu_k[i] > max_k ? cu_k[i + 1] - cu_k[i] : max_k;
	}
	snprintf(text, sizeof(text), "%d", max_q);
	param(&g, "max_seqlen_q", text);
	snprintf(text, sizeof(text), "%d", max_k);
	param(&g, "max_seqlen_k", text);
	param(&g, "return_lse", "true");
	param(&g, "causal", causal);
	param(&g, "window_size", window);
	finish(&g);
	check_all(&g, SLACK, what);
	golden_free(&g);
}

Test(attn_cpu, varlen)
{
	static const int32_t q[] = {0, 0, 17, 17, 18, 150, 150, 161}, k[] = {0, 9, 26, 26, 900, 1000, 1003, 1003};
	static const int32_t none[] = {0, 0, 0}, few[] = {0, 3, 3}, one[] = {0, 1, 2, 3}, far[] = {0, 0, 3000, 3600};

	check_varlen(DT_FP32, 7, q, k, 4, 2, 40, NULL, NULL, "varlen");
	check_varlen(DT_BF16, 7, q, k, 2, 2, 64, "true", NULL, "varlen causal");
	check_varlen(DT_FP16, 7, q, k, 3, 1, 24, NULL, "30,2", "varlen window");
	check_varlen(DT_FP16, 2, few, none, 3, 1, 24, NULL, NULL, "varlen without keys");
	check_varlen(DT_FP32, 3, one, far, 2, 1, 64, "true", NULL, "varlen decode");
}

/* NaN and infinities here and there: what float64 makes of them, and no leak from keys that a row does not see. */
Test(attn_cpu, not_finite)
{
	static const struct shape shapes[] = {
		{DT_FP32, 1, 100, 150, 4, 2, 24, 40, "true", NULL, NULL, NULL},
		{DT_FP16, 1, 40, 300, 2, 2, 64, 64, NULL, "30,4", NULL, NULL},
		{DT_BF16, 1, 1, 2000, 2, 1, 32, 32, NULL, "900,0", NULL, NULL},
	};
	static const double odd[] = {NAN, INFINITY, -INFINITY};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		for (int which = ATTN_Q; which <= ATTN_V; which++) {
			for (int kind = 0; kind < 3; kind++) {
				uint32_t state = (uint32_t)(100 * which + kind);
				struct golden g;
				struct tensor *t;
				char name[80];

				dense_inputs(&g, &shapes[i], 1);
				t = &g.call.tensors[which];
				for (int n = 0; n < 3; n++)
					tensor_put(t, next(&state) % tensor_elements(t), odd[kind]);
				finish(&g);
				snprintf(name, sizeof(name), "shape %d, tensor %d, %g", (int)i, which, odd[kind]);
				check_all(&g, SLACK, name);
				golden_free(&g);
			}
		}
	}
}

/* Scores far beyond fp16, and in fp32 beyond float itself: softmax then picks one key. */
Test(attn_cpu, large_scores)
{
	static const struct shape half = {DT_FP16, 1, 30, 200, 2, 2, 64, 64, "true", NULL, NULL, NULL};
	static const struct shape single = {DT_FP32, 1, 20, 140, 1, 1, 16, 16, NULL, NULL, NULL, NULL};
	struct golden g;

	/* Values that make every score exact in float, so that even near-ties are decided alike. */
	dense_inputs(&g, &half, 1);
	for (int which = ATTN_Q; which <= ATTN_K; which++) {
		struct tensor *t = &g.call.tensors[which];

		for (int64_t i = 0; i < tensor_elements(t); i++)
			tensor_put(t, i, 2048 * rint(2 * tensor_get(t, i)));
	}
	finish(&g);
	check_all(&g, SLACK, "fp16 large");
	golden_free(&g);

	dense_inputs(&g, &single, 1e25);
	finish(&g);
	check_all(&g, SLACK, "fp32 overflowing");
	golden_free(&g);

	/* A sum of weights and values that float cannot hold, though the result can be held. */
	dense_inputs(&g, &single, 0.001);
	for (int64_t i = 0; i < tensor_elements(&g.call.tensors[ATTN_V]); i++)
		tensor_put(&g.call.tensors[ATTN_V], i, 3e38);
	finish(&g);
	check_all(&g, SLACK, "fp32 large values");
	golden_free(&g);
}

/* Workspace belongs to blocks and threads, not to the square of the sequence. */
Test(attn_cpu, memory_does_not_grow_with_the_square)
{
	size_t bytes[2];

	unsetenv("AITERD_CPU_ISA");
	for (int i = 0; i < 2; i++) {
		struct shape s = {DT_FP16, 1, i ? 4096 : 1024, i ? 4096 : 1024, 1, 1, 16, 16, "true", NULL, NULL, NULL};
		struct err e = {0};
		struct golden g;

		dense_inputs(&g, &s, 1);
		cr_assert_eq(golden_prepare(&g, &e), 0, "%s", e.msg);
		bytes[i] = run(g.op->cpu, &g.call, 2);
		golden_free(&g);
	}
	cr_expect_leq(bytes[1], 4 * bytes[0]);
	cr_expect_leq(bytes[1], 2 << 20);
}
