/*
 * compare_fixture.h: a reference of random numbers, a kernel's output and a candidate, for the tests of the comparison.
 */
#ifndef AITERD_TESTS_COMPARE_FIXTURE_H
#define AITERD_TESTS_COMPARE_FIXTURE_H

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "codec/compare.h"

struct trio {
	struct tensor yours, kernel, reference;
	struct compare c;
};

static inline void
make(struct tensor *t, enum dtype dt, int rank, const int64_t *shape)
{
	cr_assert_eq(tensor_describe(t, "t", dt, rank, shape, NULL), 0);
	t->data = malloc(t->bytes + 1);
	cr_assert_not_null(t->data);
}

/* In (-1, 1), seldom near 0. */
static inline double
value(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double)(int64_t)*state * 0x1p-63;
}

/* A reference of random numbers; the kernel has them rounded, your tensor too. */
static inline void
trio_make(struct trio *t, enum dtype out, enum dtype yours, int rank, const int64_t *shape)
{
	uint64_t state = 7;

	memset(t, 0, sizeof *t);
	make(&t->yours, yours, rank, shape);
	make(&t->kernel, out, rank, shape);
	make(&t->reference, DT_FP64, rank, shape);
	for (int64_t i = 0; i < tensor_elements(&t->reference); i++) {
		double v = value(&state);

		tensor_put(&t->reference, i, v);
		tensor_put(&t->kernel, i, v);
		tensor_put(&t->yours, i, v);
	}
	t->c.yours = &t->yours;
	t->c.kernel = &t->kernel;
	t->c.reference = &t->reference;
	t->c.atol = t->c.rtol = out == DT_FP32 ? 1e-4 : out == DT_FP16 ? 2e-3 : 1.6e-2;
}

static inline void
trio_free(struct trio *t)
{
	free(t->yours.data);
	free(t->kernel.data);
	free(t->reference.data);
}

#endif
