/*
 * rmsnorm.h: out = x / sqrt(mean(x^2) + eps) * weight over the last dimension: the parsed call, and who computes it.
 */
#ifndef AITERD_RMSNORM_H
#define AITERD_RMSNORM_H

#include "ops/op.h"

enum { RMSNORM_X, RMSNORM_WEIGHT, RMSNORM_OUT }; /* tensors */
enum { RMSNORM_EPS };				 /* parameters */

extern const struct op op_rmsnorm;

struct rmsnorm_problem {
	enum dtype dtype; /* of x, weight and out */
	int64_t rows, n;  /* rows of n elements, dense; rows may be 0, n is at least 1 */
	const void *x, *weight;
	void *out;
	double eps; /* not negative; 0 is allowed */
};

/* `c` is bound; pointers are NULL where data is. */
void rmsnorm_problem_get(const struct op_call *c, struct rmsnorm_problem *p);

/* float64 reference. out may also be described as fp64: then unrounded. */
int rmsnorm_ref(const struct op_call *c, struct compute *ctx, struct err *e);

/* Fast and unfused CPU implementations. */
int rmsnorm_cpu(const struct op_call *c, struct compute *ctx, struct err *e);
int rmsnorm_naive_cpu(const struct op_call *c, struct compute *ctx, struct err *e);

#endif
