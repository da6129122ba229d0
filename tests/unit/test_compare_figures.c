/*
 * test_compare_figures.c: what a comparison counts and sums up is what a plain long double loop does; its units in the last
 * place are those of the numbers in order.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "unit/compare_fixture.h"

static void
check_figures(const struct trio *t, const struct compare_metrics *m, const struct tensor *a, const struct tensor *b)
{
	long double max = 0, rel = 0, abs = 0, square = 0, ab = 0, aa = 0, bb = 0;
	int64_t n = 0;

	for (int64_t i = 0; i < tensor_elements(a); i++) {
		long double x = tensor_get(a, i), y = tensor_get(b, i), d = fabsl(x - y);

		if (!isfinite(x) || !isfinite(y))
			continue;
		n++;
		max = d > max ? d : max;
		if (y != 0 && d / fabsl(y) > rel)
			rel = d / fabsl(y);
		abs += d;
		square += d * d;
		ab += x * y;
		aa += x * x;
		bb += y * y;
	}
	(void)t;
	cr_expect_eq(m->finite, n);
	if (n == 0) {
		cr_expect(isnan(m->max_abs) && isnan(m->rmse) && isnan(m->mean_abs) && isnan(m->cosine));
		return;
	}
	cr_expect_float_eq(m->max_abs, (double)max, 1e-15);
	cr_expect_float_eq(m->max_rel, (double)rel, 1e-15 * (double)rel);
	cr_expect_float_eq(m->mean_abs, (double)(abs / n), 1e-14 * (double)(abs / n));
	cr_expect_float_eq(m->rmse, (double)sqrtl(square / n), 1e-14 * (double)sqrtl(square / n));
	cr_expect_float_eq(m->cosine, (double)(ab / sqrtl(aa) / sqrtl(bb)), 1e-14);
}

Test(compare_figures, figures)
{
	static const int64_t lengths[] = {1, 3, 511, 512, 513, 1000, 20000};

	for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++)
		for (int specials = 0; specials < 3; specials++) {
			struct trio t;
			uint64_t state = 3;

			trio_make(&t, DT_FP16, DT_FP32, 1, &lengths[k]);
			for (int64_t i = 0; i < lengths[k]; i++) {
				tensor_put(&t.yours, i, tensor_get(&t.reference, i) * (1 + 1e-3 * value(&state)));
				if (specials > 0 && i % 7 == 3)
					tensor_put(&t.yours, i, i % 2 ? NAN : INFINITY);
				if (specials > 1 && i % 5 == 1)
					tensor_put(&t.kernel, i, i % 3 ? NAN : -INFINITY);
				if (specials > 1 && i % 11 == 1)
					tensor_put(&t.reference, i, NAN);
			}
			compare_run(&t.c);
			check_figures(&t, &t.c.pairs[VS_REFERENCE], &t.yours, &t.reference);
			check_figures(&t, &t.c.pairs[VS_KERNEL], &t.yours, &t.kernel);
			check_figures(&t, &t.c.pairs[KERNEL_VS_REFERENCE], &t.kernel, &t.reference);
			trio_free(&t);
		}
}

/* A million equal errors: their mean is that error, not what a naive sum makes of it. */
Test(compare_figures, sums_do_not_drift)
{
	const int64_t shape[] = {1 << 20};
	struct trio t;

	trio_make(&t, DT_FP32, DT_FP64, 1, shape);
	for (int64_t i = 0; i < shape[0]; i++) {
		tensor_put(&t.reference, i, 0);
		tensor_put(&t.yours, i, 0.1);
	}
	compare_run(&t.c);
	cr_expect_float_eq(t.c.pairs[VS_REFERENCE].mean_abs, 0.1, 1e-15);
	cr_expect_float_eq(t.c.pairs[VS_REFERENCE].rmse, 0.1, 1e-15);
	trio_free(&t);
}

/* All finite fp16 numbers in order, against the one so many places on. */
Test(compare_figures, ulp_steps)
{
	static const struct {
		int steps, bucket;
	} cases[] = {{0, 0}, {1, 1}, {2, 2},	 {3, 3},     {4, 3},	 {5, 4},
		     {8, 4}, {9, 5}, {1024, 11}, {1025, 12}, {65535, 17}};
	static uint16_t order[2 * 0x7c00];
	int n = 0;

	for (int i = 0x7bff; i > 0; i--)
		order[n++] = (uint16_t)(0x8000 | i);
	for (int i = 0; i < 0x7c00; i++)
		order[n++] = (uint16_t)i;
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		int64_t shape[] = {n - cases[k].steps > 0 ? n - cases[k].steps : 0};
		struct trio t;

		trio_make(&t, DT_FP16, DT_FP16, 1, shape);
		for (int64_t i = 0; i < shape[0]; i++) {
			tensor_put(&t.reference, i, (double)fp16_to_float(order[i]));
			((uint16_t *)t.yours.data)[i] = order[i + cases[k].steps];
		}
		compare_run(&t.c);
		cr_expect_eq(t.c.pairs[VS_REFERENCE].ulp[cases[k].bucket], shape[0], "%d steps", cases[k].steps);
		trio_free(&t);
	}
}

/* The rounding inside is tensor_put's: ties, subnormal numbers, what overflows, every power of two. */
Test(compare_figures, rounds_once_to_nearest_even)
{
	static const enum dtype outs[] = {DT_FP32, DT_FP16, DT_BF16};
	const int64_t n = 40000;

	for (int o = 0; o < 3; o++) {
		struct trio t;
		uint64_t state = 11;
		int64_t finite = 0;

		trio_make(&t, outs[o], DT_FP64, 1, &n);
		for (int64_t i = 0; i < n; i++) {
			double v = ldexp(value(&state), (int)(i % 330) - 170);

			if (i % 3 == 0) /* a tie, or nearly */
				v = ldexp(rint(value(&state) * 4096) + 0.5, (int)(i % 60) - 40) *
				    (i % 2 ? 1 + 0x1p-50 : 1);
			tensor_put(&t.reference, i, v);
			tensor_put(&t.kernel, i, v);
			tensor_put(&t.yours, i, v);
			finite += isfinite(tensor_get(&t.kernel, i));
		}
		compare_run(&t.c);
		cr_expect_eq(t.c.pairs[KERNEL_VS_REFERENCE].ulp[0], n, "%s: %d of %d", dtype_info(outs[o])->name,
			     (int)t.c.pairs[KERNEL_VS_REFERENCE].ulp[0], (int)n);
		cr_expect_eq(t.c.pairs[VS_KERNEL].ulp[0], n);
		cr_expect_eq(t.c.pairs[KERNEL_VS_REFERENCE].finite, finite);
		cr_expect(o == 1 ? finite < n - 1000 : finite <= n);
		trio_free(&t);
	}
}

/* 70000 is infinite in fp16: the kernel is right to say so, and so are you, in either way; minus infinity is wrong. */
Test(compare_figures, beyond_the_range)
{
	const int64_t shape[] = {4};
	struct trio t;

	trio_make(&t, DT_FP16, DT_FP32, 1, shape);
	for (int i = 0; i < 4; i++) {
		tensor_put(&t.reference, i, i == 3 ? -70000 : 70000);
		tensor_put(&t.kernel, i, i == 3 ? -70000 : 70000);
	}
	tensor_put(&t.yours, 0, 70000);
	tensor_put(&t.yours, 1, INFINITY);
	tensor_put(&t.yours, 2, 1e9);
	tensor_put(&t.yours, 3, -INFINITY);
	compare_run(&t.c);
	cr_expect_eq(t.c.pairs[VS_REFERENCE].mismatched, 1, "1e9 is not 70000");
	cr_expect_eq(t.c.worst[0].at, 2);
	cr_expect_eq(t.c.pairs[KERNEL_VS_REFERENCE].mismatched, 0);
	cr_expect_eq(t.c.inf.kernel, 4);
	cr_expect_eq(t.c.inf.yours, 2);
	cr_expect(t.c.inf.agree);
	tensor_put(&t.yours, 3, INFINITY);
	compare_run(&t.c);
	cr_expect_not(t.c.inf.agree);
	trio_free(&t);
}
