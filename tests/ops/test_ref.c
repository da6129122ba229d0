/*
 * test_ref.c: the float64 references against golden vectors made elsewhere, and against cases whose answers are
 * known without computing.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/flash_attn.h"
#include "ops/golden.h"
#include "ops/rmsnorm.h"
#include "worker/compute.h"

static const char *const files[] = {
	"attn_bf16_hd128.safetensors",	   "attn_bf16_hd128_causal_gqa.safetensors",
	"attn_bf16_hd192x128.safetensors", "attn_fp16_one_token.safetensors",
	"attn_fp16_scale.safetensors",	   "attn_fp16_tutorial_small.safetensors",
	"attn_fp16_window.safetensors",	   "attn_fp32_causal_sq_gt_sk.safetensors",
	"attn_fp32_hd64.safetensors",	   "varlen_bf16.safetensors",
	"varlen_fp16_hd128.safetensors",   "rmsnorm_bf16_odd.safetensors",
	"rmsnorm_fp16.safetensors",	   "rmsnorm_fp16_eps.safetensors",
	"rmsnorm_fp32.safetensors",
};

static void
run(struct golden *g, int threads)
{
	struct compute *ctx = compute_new(threads);
	struct err e = {0};

	cr_assert_not_null(ctx);
	compute_job_begin(ctx);
	cr_assert_eq(g->op->ref(&g->call, ctx, &e), 0, "%s", e.msg);
	cr_assert_str_eq(compute_variant_get(ctx), "float64");
	compute_job_end(ctx);
	compute_free(&ctx);
}

/* Largest relative rounding of the dtypes: half a unit in the last place. */
static double
half_ulp(enum dtype dt)
{
	return dt == DT_FP16 ? 0x1p-11 : dt == DT_BF16 ? 0x1p-8 : 0x1p-24;
}

Test(ref, golden_vectors)
{
	int compared = 0;

	for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
		struct golden g;
		struct err e = {0};

		cr_assert_eq(golden_load(files[f], &g, &e), 0, "%s: %s", files[f], e.msg);
		run(&g, 2);
		for (int i = 0; g.op->tensors[i].name; i++) {
			double ulp = half_ulp((enum dtype)g.call.tensors[i].dtype), worst;

			if (g.expected[i].dtype == DT_NONE)
				continue;
			compared++;
			/* One rounding and no more; fp16's subnormals are rounded absolutely. */
			worst = golden_worst(&g, i, 0x1p-25, ulp * 1.0001);
			cr_expect_leq(worst, 1.0, "%s, %s: off by %g roundings", files[f], g.op->tensors[i].name, worst);
		}
		golden_outputs_fp64(&g);
		run(&g, 1);
		for (int i = 0; g.op->tensors[i].name; i++)
			if (g.expected[i].dtype != DT_NONE)
				cr_expect_leq(golden_worst(&g, i, 1e-13, 1e-12), 1.0, "%s, %s in fp64", files[f],
					      g.op->tensors[i].name);
		golden_free(&g);
	}
	cr_expect_eq(compared, 9 * 2 + 2 + 4);
}

/* x scaled, and one value made different: the comparison must notice. */
Test(ref, golden_comparison_can_fail)
{
	struct golden g;
	struct err e = {0};
	float *out;

	cr_assert_eq(golden_load("attn_fp32_hd64.safetensors", &g, &e), 0, "%s", e.msg);
	cr_expect_gt(golden_worst(&g, ATTN_OUT, 1e-4, 1e-4), 1.0, "outputs start out wrong");
	run(&g, 1);
	out = g.call.tensors[ATTN_OUT].data;
	cr_expect_leq(golden_worst(&g, ATTN_OUT, 1e-6, 1e-6), 1.0);
	out[100] += 1e-3f;
	cr_expect_gt(golden_worst(&g, ATTN_OUT, 1e-4, 1e-4), 1.0);
	out[100] = NAN;
	cr_expect(isinf(golden_worst(&g, ATTN_OUT, 1e-4, 1e-4)));
	golden_free(&g);
}

/* Deterministic values in (-1, 1). */
static double
value(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (double)(*state >> 8) / (1 << 23) - 1;
}

static void
param(struct golden *g, const char *name, const char *text)
{
	struct err e = {0};
	int i = op_param_find(g->op, name, strlen(name));

	cr_assert_geq(i, 0);
	cr_assert_eq(op_value_parse(&g->op->params[i], text, strlen(text), &g->call.params[i], &e), 0, "%s", e.msg);
}

static void
input(struct golden *g, int i, enum dtype dt, int rank, const int64_t *shape, uint32_t seed)
{
	struct tensor *t = &g->call.tensors[i];

	cr_assert_eq(tensor_describe(t, "t", dt, rank, shape, NULL), 0);
	t->data = golden_alloc(g, t->bytes);
	for (int64_t k = 0; k < tensor_elements(t); k++)
		tensor_put(t, k, value(&seed));
}

static void
start(struct golden *g, const char *op)
{
	memset(g, 0, sizeof *g);
	g->op = op_find(op, strlen(op), &g->call.op);
	cr_assert_not_null(g->op);
}

static void
dense(struct golden *g, enum dtype dt, int64_t b, int64_t sq, int64_t sk, int64_t hq, int64_t hk, int64_t d)
{
	start(g, "flash_attn_func");
	input(g, ATTN_Q, dt, 4, (const int64_t[]){b, sq, hq, d}, 1);
	input(g, ATTN_K, dt, 4, (const int64_t[]){b, sk, hk, d}, 2);
	input(g, ATTN_V, dt, 4, (const int64_t[]){b, sk, hk, d}, 3);
	param(g, "return_lse", "true");
}

static void
prepare(struct golden *g)
{
	struct err e = {0};

	cr_assert_eq(golden_prepare(g, &e), 0, "%s", e.msg);
}

/* bhsd is bshd with two dimensions exchanged, to the bit. */
Test(ref, layouts_agree)
{
	const int64_t b = 2, sq = 19, sk = 37, hq = 6, hk = 3, d = 24;
	struct golden a, c;

	dense(&a, DT_BF16, b, sq, sk, hq, hk, d);
	param(&a, "causal", "true");
	prepare(&a);
	start(&c, "flash_attn_func");
	input(&c, ATTN_Q, DT_BF16, 4, (const int64_t[]){b, hq, sq, d}, 1);
	input(&c, ATTN_K, DT_BF16, 4, (const int64_t[]){b, hk, sk, d}, 2);
	input(&c, ATTN_V, DT_BF16, 4, (const int64_t[]){b, hk, sk, d}, 3);
	param(&c, "layout", "bhsd");
	param(&c, "causal", "True");
	param(&c, "return_lse", "1");
	prepare(&c);
	for (int i = ATTN_Q; i <= ATTN_V; i++) {
		int64_t s = i == ATTN_Q ? sq : sk, h = i == ATTN_Q ? hq : hk;
		const uint16_t *from = a.call.tensors[i].data;
		uint16_t *to = c.call.tensors[i].data;

		for (int64_t x = 0; x < b * s * h * d; x++) {
			int64_t bi = x / (s * h * d), si = x / (h * d) % s, hi = x / d % h;

			to[((bi * h + hi) * s + si) * d + x % d] = from[x];
		}
	}
	run(&a, 1);
	run(&c, 2);
	for (int64_t x = 0; x < b * sq * hq * d; x++) {
		int64_t bi = x / (sq * hq * d), si = x / (hq * d) % sq, hi = x / d % hq;
		const uint16_t *one = a.call.tensors[ATTN_OUT].data, *two = c.call.tensors[ATTN_OUT].data;

		cr_assert_eq(one[x], two[((bi * hq + hi) * sq + si) * d + x % d]);
	}
	cr_assert_eq(memcmp(a.call.tensors[ATTN_LSE].data, c.call.tensors[ATTN_LSE].data,
			    (size_t)a.call.tensors[ATTN_LSE].bytes),
		     0);
	golden_free(&a);
	golden_free(&c);
}

/* softmax over visible keys written out a second way: long double, one row at a time, no blocks, no strides. */
static void
check_against_rows(struct golden *g, int64_t left, int64_t right, double scale)
{
	const struct tensor *q = &g->call.tensors[ATTN_Q], *k = &g->call.tensors[ATTN_K], *v = &g->call.tensors[ATTN_V];
	int64_t sq = q->shape[1], hq = q->shape[2], d = q->shape[3], sk = k->shape[1], hk = k->shape[2],
		dv = v->shape[3];

	for (int64_t row = 0; row < q->shape[0] * sq * hq; row++) {
		int64_t b = row / (sq * hq), i = row / hq % sq, h = row % hq, kh = h * hk / hq;
		long double sum = 0, out[256] = {0};

		for (int64_t j = 0; j < sk; j++) {
			int64_t off = j - (i + sk - sq);
			long double s = 0;

			if ((left >= 0 && off < -left) || (right >= 0 && off > right))
				continue;
			for (int64_t x = 0; x < d; x++)
				s += (long double)tensor_get(q, row * d + x) *
				     (long double)tensor_get(k, ((b * sk + j) * hk + kh) * d + x);
			s = expl(s * (long double)scale);
			sum += s;
			for (int64_t x = 0; x < dv; x++)
				out[x] += s * (long double)tensor_get(v, ((b * sk + j) * hk + kh) * dv + x);
		}
		for (int64_t x = 0; x < dv; x++) {
			double want = sum > 0 ? (double)(out[x] / sum) : 0;

			cr_assert_float_eq(tensor_get(&g->call.tensors[ATTN_OUT], row * dv + x), want, 1e-13,
					   "row %d, left %d, right %d", (int)row, (int)left, (int)right);
		}
		if (sum > 0)
			cr_assert_float_eq(tensor_get(&g->call.tensors[ATTN_LSE], (b * hq + h) * sq + i),
					   (double)logl(sum), 1e-13);
		else
			cr_assert_eq(tensor_get(&g->call.tensors[ATTN_LSE], (b * hq + h) * sq + i), -INFINITY);
	}
}

Test(ref, masks_lengths_heads)
{
	static const int64_t lengths[][2] = {{1, 1}, {5, 40}, {40, 5}, {33, 33}, {3, 0}, {70, 150}};
	static const struct {
		const char *causal, *window;
		int64_t left, right;
	} masks[] = {
		{"false", "-1,-1", -1, -1}, {"true", "-1,-1", -1, 0},	      {"true", "(3, 5)", 3, 0},
		{"0", "[2,1,0]", 2, 1},	    {"false", "[-1, 4]", -1, 4},      {"false", "[7, -1]", 7, -1},
		{"1", "0,0", 0, 0},	    {"true", "2147483647,-1", -1, 0}, {"false", "38,2147483647", 38, -1},
	};

	for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
		for (size_t m = 0; m < sizeof masks / sizeof masks[0]; m++) {
			struct golden g;

			dense(&g, DT_FP32, 2, lengths[l][0], lengths[l][1], 4, 2, 9);
			param(&g, "causal", masks[m].causal);
			param(&g, "window_size", masks[m].window);
			param(&g, "softmax_scale", m % 2 ? "-0.75" : "None");
			prepare(&g);
			golden_outputs_fp64(&g);
			run(&g, 1 + (int)m % 2);
			check_against_rows(&g, masks[m].left, masks[m].right, m % 2 ? -0.75 : 1 / sqrt(9.0));
			golden_free(&g);
		}
}

/* NaN and infinity reach exactly the rows that see them. */
Test(ref, nan_and_infinity)
{
	struct golden g;
	float *out, *lse;

	dense(&g, DT_FP32, 1, 4, 4, 1, 1, 8);
	param(&g, "causal", "true");
	prepare(&g);
	((float *)g.call.tensors[ATTN_K].data)[2 * 8] = NAN;
	((float *)g.call.tensors[ATTN_V].data)[1 * 8 + 3] = INFINITY;
	run(&g, 1);
	out = g.call.tensors[ATTN_OUT].data;
	lse = g.call.tensors[ATTN_LSE].data;
	for (int x = 0; x < 8; x++) {
		cr_expect(isfinite(out[x]));
		cr_expect_eq(isinf(out[8 + x]) != 0, x == 3);
		cr_expect(isnan(out[16 + x]) && isnan(out[24 + x]));
	}
	cr_expect(isfinite(lse[0]) && isfinite(lse[1]) && isnan(lse[2]) && isnan(lse[3]));
	golden_free(&g);
}

/* The same beyond one block of rows and of keys: from row 70 on column 3 is infinite, from row 80 on all is NaN. */
Test(ref, nan_and_infinity_far_away)
{
	struct golden g;
	double *out;

	dense(&g, DT_BF16, 1, 100, 100, 1, 1, 9);
	param(&g, "causal", "true");
	prepare(&g);
	golden_outputs_fp64(&g);
	tensor_put(&g.call.tensors[ATTN_V], 70 * 9 + 3, INFINITY);
	tensor_put(&g.call.tensors[ATTN_V], 80 * 9 + 5, NAN);
	tensor_put(&g.call.tensors[ATTN_K], 90 * 9, NAN);
	run(&g, 1);
	out = g.call.tensors[ATTN_OUT].data;
	for (int row = 0; row < 100; row++)
		for (int x = 0; x < 9; x++) {
			double v = out[row * 9 + x];

			if (row >= 90 || (row >= 80 && x == 5))
				cr_expect(isnan(v), "row %d, %d", row, x);
			else if (row >= 70 && x == 3)
				cr_expect(isinf(v) && v > 0, "row %d, %d", row, x);
			else
				cr_expect(isfinite(v), "row %d, %d", row, x);
		}
	golden_free(&g);
}

/* Variable length is dense, sequence by sequence; empty ones included. */
Test(ref, varlen_is_dense_by_sequence)
{
	static const int32_t cu_q[] = {0, 0, 17, 18, 40}, cu_k[] = {0, 5, 5, 36, 58};
	const int64_t hq = 4, hk = 2, d = 16;
	struct golden g;

	start(&g, "flash_attn_varlen_func");
	input(&g, VARLEN_Q, DT_FP16, 3, (const int64_t[]){40, hq, d}, 1);
	input(&g, VARLEN_K, DT_FP16, 3, (const int64_t[]){58, hk, d}, 2);
	input(&g, VARLEN_V, DT_FP16, 3, (const int64_t[]){58, hk, d}, 3);
	input(&g, VARLEN_CU_Q, DT_INT32, 1, (const int64_t[]){5}, 0);
	input(&g, VARLEN_CU_K, DT_INT32, 1, (const int64_t[]){5}, 0);
	memcpy(g.call.tensors[VARLEN_CU_Q].data, cu_q, sizeof cu_q);
	memcpy(g.call.tensors[VARLEN_CU_K].data, cu_k, sizeof cu_k);
	param(&g, "max_seqlen_q", "22");
	param(&g, "max_seqlen_k", "31");
	param(&g, "causal", "true");
	param(&g, "return_lse", "true");
	prepare(&g);
	cr_assert_eq(g.op->check_data(&g.call, NULL), 0);
	run(&g, 2);
	for (int b = 0; b < 4; b++) {
		int64_t nq = cu_q[b + 1] - cu_q[b], nk = cu_k[b + 1] - cu_k[b];
		const uint16_t *src[3] = {g.call.tensors[VARLEN_Q].data, g.call.tensors[VARLEN_K].data,
					  g.call.tensors[VARLEN_V].data};
		struct golden one;

		dense(&one, DT_FP16, 1, nq, nk, hq, hk, d);
		param(&one, "causal", "true");
		memcpy(one.call.tensors[ATTN_Q].data, src[0] + cu_q[b] * hq * d, (size_t)(nq * hq * d) * 2);
		memcpy(one.call.tensors[ATTN_K].data, src[1] + cu_k[b] * hk * d, (size_t)(nk * hk * d) * 2);
		memcpy(one.call.tensors[ATTN_V].data, src[2] + cu_k[b] * hk * d, (size_t)(nk * hk * d) * 2);
		prepare(&one);
		run(&one, 1);
		cr_assert_eq(memcmp((uint16_t *)g.call.tensors[VARLEN_OUT].data + cu_q[b] * hq * d,
				    one.call.tensors[ATTN_OUT].data, (size_t)(nq * hq * d) * 2),
			     0, "sequence %d", b);
		for (int64_t h = 0; h < hq; h++)
			cr_assert_eq(memcmp((float *)g.call.tensors[VARLEN_LSE].data + h * 40 + cu_q[b],
					    (float *)one.call.tensors[ATTN_LSE].data + h * nq, (size_t)nq * 4),
				     0, "lse of sequence %d", b);
		golden_free(&one);
	}
	golden_free(&g);
}

Test(ref, rmsnorm_edges)
{
	struct golden g;
	const float *out;

	/* No rows; and a row of zeros without eps is 0 / 0. */
	start(&g, "rmsnorm");
	input(&g, RMSNORM_X, DT_FP32, 2, (const int64_t[]){0, 4}, 1);
	input(&g, RMSNORM_WEIGHT, DT_FP32, 1, (const int64_t[]){4}, 2);
	prepare(&g);
	run(&g, 1);
	golden_free(&g);

	start(&g, "rmsnorm");
	input(&g, RMSNORM_X, DT_FP32, 1, (const int64_t[]){4}, 1);
	input(&g, RMSNORM_WEIGHT, DT_FP32, 1, (const int64_t[]){4}, 2);
	memset(g.call.tensors[RMSNORM_X].data, 0, 16);
	param(&g, "epsilon", "0");
	prepare(&g);
	run(&g, 1);
	out = g.call.tensors[RMSNORM_OUT].data;
	cr_expect(isnan(out[0]) && isnan(out[3]));
	golden_free(&g);

	/* 3, 4 and two zeros: mean of squares 25 / 4; times 2. */
	start(&g, "rmsnorm");
	input(&g, RMSNORM_X, DT_FP32, 3, (const int64_t[]){1, 1, 4}, 1);
	input(&g, RMSNORM_WEIGHT, DT_FP32, 1, (const int64_t[]){4}, 2);
	memcpy(g.call.tensors[RMSNORM_X].data, (const float[]){3, 4, 0, 0}, 16);
	memcpy(g.call.tensors[RMSNORM_WEIGHT].data, (const float[]){2, 2, 2, 2}, 16);
	param(&g, "eps", "0");
	prepare(&g);
	run(&g, 1);
	out = g.call.tensors[RMSNORM_OUT].data;
	cr_expect(fabsf(out[0] - 2.4f) < 1e-6f && fabsf(out[1] - 3.2f) < 1e-6f);
	cr_expect_float_eq(out[2], 0, 0);
	golden_free(&g);
}
