/*
 * test_compare.c: a checker that cannot fail is worthless: it gets every kind of wrong answer, and must tell each from the
 * others; right answers must pass; figures are those of a plain long double loop.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/golden.h"
#include "unit/compare_fixture.h"
#include "worker/compute.h"

/* Towards zero, to so many mantissa bits. */
static double
truncate_to(double v, int bits)
{
	int e;
	double m = frexp(v, &e);

	return ldexp(trunc(ldexp(m, bits + 1)), e - bits - 1);
}

static int64_t
at(const struct tensor *t, int64_t b, int64_t s, int64_t h, int64_t d)
{
	return ((b * t->shape[1] + s) * t->shape[2] + h) * t->shape[3] + d;
}

/* ---------------------------------------------------------------- kinds of wrong */

typedef void (*spoil_f)(struct trio *t);

static void
spoil_nothing(struct trio *t)
{
	(void)t;
}

static void
spoil_zeros(struct trio *t)
{
	memset(t->yours.data, 0, t->yours.bytes);
}

static void
spoil_sign(struct trio *t)
{
	for (int64_t i = 0; i < tensor_elements(&t->yours); i++)
		tensor_put(&t->yours, i, -tensor_get(&t->reference, i));
}

static void
spoil_some_signs(struct trio *t)
{
	for (int64_t s = 3; s < 6; s++)
		tensor_put(&t->yours, at(&t->yours, 1, s, s, s), -tensor_get(&t->reference, at(&t->yours, 1, s, s, s)));
}

static void
spoil_one(struct trio *t)
{
	tensor_put(&t->yours, at(&t->yours, 1, 5, 2, 20), tensor_get(&t->reference, at(&t->yours, 1, 5, 2, 20)) + 0.25);
}

/* Rows and heads in the other order in memory, the shape as wanted: a layout that was not converted. */
static void
spoil_layout(struct trio *t)
{
	const int64_t *n = t->yours.shape;
	int64_t to = 0;

	for (int64_t b = 0; b < n[0]; b++)
		for (int64_t h = 0; h < n[2]; h++)
			for (int64_t s = 0; s < n[1]; s++)
				for (int64_t d = 0; d < n[3]; d++)
					tensor_put(&t->yours, to++,
						   tensor_get(&t->reference, at(&t->yours, b, s, h, d)));
}

/* Axes 0 and 2 are of one length in these tensors' shape, {4, 33, 4, 24}. */
static void
spoil_axes(struct trio *t)
{
	const int64_t *n = t->yours.shape;

	for (int64_t i = 0; i < tensor_elements(&t->yours); i++) {
		int64_t index[TENSOR_RANK_MAX];

		compare_index(&t->yours, i, index);
		cr_assert(index[0] < n[2] && index[2] < n[0]);
		tensor_put(&t->yours, i,
			   tensor_get(&t->reference, at(&t->yours, index[2], index[1], index[0], index[3])));
	}
}

static void
spoil_nans(struct trio *t)
{
	tensor_put(&t->yours, 17, NAN);
	tensor_put(&t->yours, 4000, NAN);
}

static void
spoil_all_nans(struct trio *t)
{
	for (int64_t i = 0; i < tensor_elements(&t->yours); i++)
		tensor_put(&t->yours, i, NAN);
}

static void
spoil_infinities(struct trio *t)
{
	for (int64_t i = 100; i < 104; i++) {
		tensor_put(&t->reference, i, -INFINITY);
		tensor_put(&t->kernel, i, -INFINITY);
		tensor_put(&t->yours, i, i < 102 ? -INFINITY : INFINITY);
	}
}

static void
spoil_finite(struct trio *t)
{
	tensor_put(&t->yours, 200, INFINITY);
	tensor_put(&t->yours, 205, -INFINITY);
}

static void
spoil_scale(struct trio *t)
{
	for (int64_t i = 0; i < tensor_elements(&t->yours); i++)
		tensor_put(&t->yours, i, 0.125 * tensor_get(&t->reference, i));
}

static void
spoil_constant(struct trio *t)
{
	for (int64_t i = 0; i < tensor_elements(&t->yours); i++)
		tensor_put(&t->yours, i, tensor_get(&t->reference, i) + 0.5);
}

/* Each row is the one before it; the first is right. */
static void
spoil_shift(struct trio *t)
{
	for (int64_t i = 0; i < tensor_elements(&t->yours); i++) {
		int64_t index[TENSOR_RANK_MAX];

		compare_index(&t->yours, i, index);
		index[1] -= index[1] > 0;
		tensor_put(&t->yours, i,
			   tensor_get(&t->reference, at(&t->yours, index[0], index[1], index[2], index[3])));
	}
}

static void
spoil_head(struct trio *t)
{
	uint64_t state = 99;

	for (int64_t b = 0; b < t->yours.shape[0]; b++)
		for (int64_t s = 0; s < t->yours.shape[1]; s++)
			for (int64_t d = 0; d < t->yours.shape[3]; d++)
				tensor_put(&t->yours, at(&t->yours, b, s, 3, d), 3 + value(&state));
}

static void
spoil_row(struct trio *t)
{
	for (int64_t d = 0; d < t->yours.shape[3]; d++)
		tensor_put(&t->yours, at(&t->yours, 2, 32, 1, d), 0);
}

static void
spoil_garbage(struct trio *t)
{
	uint64_t state = 12345;

	for (int64_t i = 0; i < tensor_elements(&t->yours); i++)
		tensor_put(&t->yours, i, value(&state));
}

static const struct {
	const char *name;
	spoil_f spoil;
	int64_t mismatched; /* -1: many */
	const char *looks_like;
} kinds[] = {
	{"nothing", spoil_nothing, 0, ""},
	{"zeros", spoil_zeros, -1, "all zeros"},
	{"sign", spoil_sign, -1, "sign flipped"},
	{"some signs", spoil_some_signs, 3, "sign flipped in 3 elements"},
	{"one", spoil_one, 1, "one element"},
	{"layout", spoil_layout, -1, "transposed (axes 1 and 2 swapped)"},
	{"axes", spoil_axes, -1, "transposed (axes 0 and 2 swapped)"},
	{"NaNs", spoil_nans, 2, "NaN in 2 elements"},
	{"all NaN", spoil_all_nans, 4 * 33 * 4 * 24, "all NaN"},
	{"infinities", spoil_infinities, 2, "infinity of the wrong sign in 2 elements"},
	{"not finite", spoil_finite, 2, "infinity in 2 elements"},
	{"scale", spoil_scale, -1, "scaled by 0.125"},
	{"constant", spoil_constant, 4 * 33 * 4 * 24, "off by a constant, 0.5"},
	{"shift", spoil_shift, -1, "shifted by 1 along axis 1"},
	{"head", spoil_head, 4 * 33 * 24, "only at index 3 of axis 2"},
	{"row", spoil_row, -1, "zeros in "},
	{"garbage", spoil_garbage, -1, ""},
};

Test(compare, tells_kinds_apart)
{
	static const enum dtype outs[] = {DT_FP32, DT_FP16, DT_BF16};
	static const enum dtype wides[] = {DT_FP64, DT_FP32, DT_FP64};
	const int64_t shape[] = {4, 33, 4, 24};

	for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
		for (int o = 0; o < 6; o++) {
			enum dtype out = outs[o % 3], yours = o < 3 ? out : wides[o % 3];
			const char *name = dtype_info(yours)->name;
			struct trio t;

			trio_make(&t, out, yours, 4, shape);
			kinds[k].spoil(&t);
			compare_run(&t.c);
			cr_expect_eq(t.c.pass, kinds[k].mismatched == 0, "%s, %s", kinds[k].name, name);
			if (kinds[k].mismatched >= 0)
				cr_expect_eq(t.c.pairs[VS_REFERENCE].mismatched, kinds[k].mismatched, "%s, %s: %d",
					     kinds[k].name, name, (int)t.c.pairs[VS_REFERENCE].mismatched);
			else
				cr_expect_gt(t.c.pairs[VS_REFERENCE].mismatched, 20, "%s, %s", kinds[k].name, name);
			if (kinds[k].spoil == spoil_row)
				cr_expect(strncmp(t.c.looks_like, "zeros in 2", 10) == 0 &&
						  strstr(t.c.looks_like, ", only at index 2 of axis 0, only at index "
									 "32 of axis 1, only at index 1 of axis 2"),
					  "%s", t.c.looks_like);
			else
				cr_expect_str_eq(t.c.looks_like, kinds[k].looks_like, "%s, %s: %s", kinds[k].name, name,
						 t.c.looks_like);
			cr_expect_eq(t.c.pairs[KERNEL_VS_REFERENCE].mismatched, 0);
			cr_expect_eq(t.c.nan.agree, kinds[k].spoil != spoil_nans && kinds[k].spoil != spoil_all_nans);
			cr_expect_eq(t.c.inf.agree,
				     kinds[k].spoil != spoil_infinities && kinds[k].spoil != spoil_finite);
			trio_free(&t);
		}
}

static bool
box_is(const struct compare *c, const int64_t from[4], const int64_t to[4])
{
	return memcmp(c->from, from, 4 * sizeof *from) == 0 && memcmp(c->to, to, 4 * sizeof *to) == 0;
}

/* The place, the ratio and the box, of one element and of several. */
Test(compare, tells_where)
{
	static const int64_t one[] = {1, 5, 2, 20}, from[] = {0, 1, 2, 20}, to[] = {3, 32, 2, 22};
	const int64_t shape[] = {4, 33, 4, 24};
	struct trio t;
	double r;

	trio_make(&t, DT_FP16, DT_FP16, 4, shape);
	spoil_one(&t);
	compare_run(&t.c);
	r = fabs(tensor_get(&t.reference, at(&t.yours, 1, 5, 2, 20)));
	cr_expect_eq(t.c.worst[0].at, at(&t.yours, 1, 5, 2, 20));
	cr_expect_float_eq(t.c.worst[0].ratio, 0.25 / (2e-3 + 2e-3 * r), 0.1);
	cr_expect_eq(t.c.n_worst, COMPARE_WORST, "those within the tolerance are listed, too");
	cr_expect_lt(t.c.worst[1].ratio, 1);
	cr_expect(box_is(&t.c, one, one));

	tensor_put(&t.yours, at(&t.yours, 3, 1, 2, 22), 5);
	tensor_put(&t.yours, at(&t.yours, 0, 32, 2, 21), NAN);
	compare_run(&t.c);
	cr_expect_str_eq(t.c.looks_like, "");
	cr_expect_eq(t.c.worst[0].at, at(&t.yours, 0, 32, 2, 21), "what is not a number comes first");
	cr_expect(isinf(t.c.worst[0].ratio));
	cr_expect_eq(t.c.worst[1].at, at(&t.yours, 3, 1, 2, 22));
	cr_expect_eq(t.c.worst[2].at, at(&t.yours, 1, 5, 2, 20));
	cr_expect(box_is(&t.c, from, to));
	trio_free(&t);
}

/* More bad places than the list has room for, in random order: the worst are kept, in order. */
Test(compare, worst_ten)
{
	const int64_t n = 5000, shape[] = {n};
	struct trio t;

	trio_make(&t, DT_FP32, DT_FP64, 1, shape);
	for (int64_t i = 0; i < n; i++) {
		tensor_put(&t.reference, i, 0);
		tensor_put(&t.yours, i, (double)(i * 1237 % n));
	}
	compare_run(&t.c);
	cr_expect_eq(t.c.n_worst, COMPARE_WORST);
	for (int i = 0; i < COMPARE_WORST; i++)
		cr_expect_eq(t.c.worst[i].at * 1237 % n, n - 1 - i);
	trio_free(&t);
}

/* Truncating passes the usual tolerance, and is told all the same; rounding never is. */
Test(compare, truncation)
{
	static const enum dtype outs[] = {DT_BF16, DT_FP16};
	const int64_t shapes[][2] = {{7, 5}, {3, 40}, {64, 1024}};

	for (int o = 0; o < 2; o++)
		for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++)
			for (int wide = 0; wide < 2; wide++) {
				struct trio t;

				trio_make(&t, outs[o], wide ? DT_FP32 : outs[o], 2, shapes[k]);
				compare_run(&t.c);
				cr_expect(t.c.pass);
				cr_expect_str_eq(t.c.looks_like, "", "rounded");
				for (int64_t i = 0; i < tensor_elements(&t.yours); i++)
					tensor_put(&t.yours, i,
						   truncate_to(tensor_get(&t.reference, i), o == 0 ? 7 : 10));
				compare_run(&t.c);
				cr_expect(t.c.pass);
				cr_expect_str_eq(t.c.looks_like, "truncated instead of rounded");
				cr_expect_gt(t.c.pairs[VS_REFERENCE].ulp[1], tensor_elements(&t.yours) / 4);
				t.c.atol = 0;
				t.c.rtol = o == 0 ? 0x1p-8 : 0x1p-11; /* what rounding needs */
				compare_run(&t.c);
				cr_expect_not(t.c.pass);
				cr_expect_str_eq(t.c.looks_like, "truncated instead of rounded");
				trio_free(&t);
			}
}

/* A right answer that is a unit off here and there, in both directions, is nothing of the kind. */
Test(compare, honest_noise_is_no_truncation)
{
	const int64_t shape[] = {64, 512};
	struct trio t;
	uint64_t state = 5;

	trio_make(&t, DT_BF16, DT_BF16, 2, shape);
	for (int64_t i = 0; i < tensor_elements(&t.yours); i++)
		tensor_put(&t.yours, i, tensor_get(&t.reference, i) * (1 + 0x1p-9 * value(&state)));
	compare_run(&t.c);
	cr_expect(t.c.pass);
	cr_expect_str_eq(t.c.looks_like, "");
	/* A hair too small everywhere: not truncated either. */
	for (int64_t i = 0; i < tensor_elements(&t.yours); i++)
		tensor_put(&t.yours, i, tensor_get(&t.reference, i) * 0.996);
	compare_run(&t.c);
	cr_expect_str_eq(t.c.looks_like, "");
	trio_free(&t);
}

Test(compare, nothing_to_compare)
{
	const int64_t shape[] = {3, 0, 5};
	struct trio t;

	trio_make(&t, DT_BF16, DT_BF16, 3, shape);
	compare_run(&t.c);
	cr_expect(t.c.pass);
	cr_expect_eq(t.c.total, 0);
	cr_expect_str_eq(t.c.looks_like, "");
	cr_expect(isnan(t.c.pairs[VS_REFERENCE].max_abs));
	trio_free(&t);
}

/* Where the reference is NaN, NaN is right and a number is not. */
Test(compare, nan_in_the_reference)
{
	const int64_t shape[] = {600};
	struct trio t;

	trio_make(&t, DT_FP32, DT_FP32, 1, shape);
	for (int i = 10; i < 20; i++) {
		tensor_put(&t.reference, i, NAN);
		tensor_put(&t.kernel, i, NAN);
		tensor_put(&t.yours, i, NAN);
	}
	compare_run(&t.c);
	cr_expect(t.c.pass && t.c.nan.agree);
	tensor_put(&t.yours, 12, 0);
	compare_run(&t.c);
	cr_expect_not(t.c.pass);
	cr_expect_not(t.c.nan.agree);
	cr_expect_eq(t.c.worst[0].at, 12);
	trio_free(&t);
}

/* ---------------------------------------------------------------- golden vectors */

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

/* The kernel, and the right answer rounded, pass with the operator's tolerances; one element changed is found. */
static void
check_golden(const struct golden *g, int i, const char *file)
{
	const struct op_tolerance *tolerance = op_tolerance(g->op, (enum dtype)g->call.tensors[i].dtype);
	struct compare c = {.kernel = &g->call.tensors[i], .reference = &g->expected[i]};
	int64_t n = tensor_elements(&g->expected[i]), at_last = n - 1;
	struct tensor yours;

	cr_assert_not_null(tolerance);
	c.atol = tolerance->atol;
	c.rtol = tolerance->rtol;
	make(&yours, (enum dtype)c.kernel->dtype, c.kernel->rank, c.kernel->shape);
	memcpy(yours.data, c.kernel->data, yours.bytes);
	c.yours = &yours;
	compare_run(&c);
	cr_expect(c.pass, "%s: %s of the kernel", file, g->op->tensors[i].name);
	cr_expect_eq(c.pairs[VS_KERNEL].ulp[0], n - c.nan.kernel);
	for (int64_t k = 0; k < n; k++)
		tensor_put(&yours, k, tensor_get(&g->expected[i], k));
	compare_run(&c);
	cr_expect(c.pass, "%s: %s rounded", file, g->op->tensors[i].name);
	cr_expect_eq(c.pairs[VS_REFERENCE].ulp[0], n - c.nan.reference);
	cr_expect_str_eq(c.looks_like, "");
	while (!isfinite(tensor_get(&g->expected[i], at_last)))
		at_last--;
	tensor_put(&yours, at_last, tensor_get(&yours, at_last) + 1);
	compare_run(&c);
	cr_expect_not(c.pass);
	cr_expect_eq(c.worst[0].at, at_last);
	cr_expect_str_eq(c.looks_like, "one element", "%s: %s", file, g->op->tensors[i].name);
	free(yours.data);
}

Test(compare, golden_vectors)
{
	struct compute *ctx = compute_new(2);
	int checked = 0;

	for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
		struct golden g;
		struct err e = {0};

		cr_assert_eq(golden_load(files[f], &g, &e), 0, "%s: %s", files[f], e.msg);
		compute_job_begin(ctx);
		cr_assert_eq(g.op->cpu(&g.call, ctx, &e), 0, "%s", e.msg);
		compute_job_end(ctx);
		for (int i = 0; g.op->tensors[i].name; i++)
			if (g.expected[i].dtype != DT_NONE) {
				check_golden(&g, i, files[f]);
				checked++;
			}
		golden_free(&g);
	}
	cr_expect_eq(checked, 9 * 2 + 2 + 4);
	compute_free(&ctx);
}
