/*
 * compare.h: is a candidate's tensor right? Compares it with a kernel's output and with a float64 reference in one pass,
 * and says what kind of wrong it is. Used by check; any thread, no allocation, nothing is owned. Takes long for large
 * tensors (memory-bound at best): belongs on a helper thread.
 *
 * An element is right if |yours - reference| <= atol + rtol * |reference|. NaN must stand where the reference has NaN, and
 * infinities where it has the same infinity or is beyond what the output's dtype can hold.
 *
 * Units in the last place (ulp) are steps between neighbouring values of the kernel's output's dtype: both sides are rounded
 * to it first, to nearest even. So a candidate in a wider dtype that would round to the right value is 0 ulp off.
 */
#ifndef AITERD_COMPARE_H
#define AITERD_COMPARE_H

#include "tensor.h"

#define COMPARE_WORST 10
#define COMPARE_ULPS 19 /* 0, 1, 2, 3-4, 5-8, ... 32769-65536, more */

enum compare_pair { VS_REFERENCE, VS_KERNEL, KERNEL_VS_REFERENCE, COMPARE_PAIRS };

/* Of a against b. The figures are over the `finite` places where both are finite; NaN where that leaves nothing. */
struct compare_metrics {
	int64_t mismatched; /* beyond the tolerance, or NaN or infinite where the other is not */
	int64_t finite;
	double max_abs, mean_abs, rmse;
	double max_rel; /* |a - b| / |b| where b is not 0 */
	double cosine;
	int64_t ulp[COMPARE_ULPS]; /* places by distance; without those where a side is NaN */
};

struct compare_place {
	int64_t at;   /* element, row major */
	double ratio; /* |yours - reference| / tolerance; infinite where NaN or infinity is out of place */
};

struct compare_count {
	int64_t yours, kernel, reference;
	bool agree; /* yours and the reference's, in place and sign */
};

struct compare {
	/* Given. Of one shape. The kernel's dtype is fp32, fp16 or bf16, yours any float's, the reference is fp64. */
	const struct tensor *yours, *kernel, *reference;
	double atol, rtol;

	/* Found. */
	int64_t total;
	struct compare_metrics pairs[COMPARE_PAIRS];
	struct compare_count nan, inf;
	bool pass;	/* nothing of yours is mismatched */
	bool all_zeros; /* all of yours */
	int n_worst;
	struct compare_place worst[COMPARE_WORST]; /* the largest ratios above 0, in descending order */
	/* The smallest box of indices, ends included, that holds all mismatched places; nothing where there are none. */
	int64_t from[TENSOR_RANK_MAX], to[TENSOR_RANK_MAX];
	/* What kinds the mismatched places are of; one can be of none. */
	int64_t nans, infs, wrong_infs, zeros, flipped;
	char looks_like[128]; /* in words, only where the evidence is strong; else "" */
};

void compare_run(struct compare *c);

/* compare_looks.c: fill looks_like; compare_run has done the rest. */
void compare_looks(struct compare *c);

/* "3-4" of bucket 3. */
const char *compare_ulp_name(int bucket);

/* Element i's index, as many numbers as the tensor has dimensions. */
void compare_index(const struct tensor *t, int64_t i, int64_t *index);

/* The exponent of the least normal number, and the mantissa's bits, of the dtypes that outputs have. */
struct compare_format {
	int emin, bits;
	int32_t infinity; /* its ordinal: values counted from 0 upwards */
};
struct compare_format compare_format(enum dtype dt);

#endif
