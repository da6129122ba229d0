/*
 * shape.h: shape rules ("B Sq Hq D", see op.h): reading them, fitting tensors to them. Only op.c, op_size.c and the
 * tests of them need this; everybody else asks op_bind() and op_dim().
 */
#ifndef AITERD_SHAPE_H
#define AITERD_SHAPE_H

#include "ops/op.h"

/* One dimension of a rule. */
struct shape_dim {
	int dim;	/* index in op->dims, -1: a fixed length */
	int64_t length; /* fixed length; or what is added to the named one */
	bool run;	/* "M..": any number of dimensions */
};

struct shape_rule {
	int n;
	struct shape_dim d[TENSOR_RANK_MAX];
};

/* What the names stand for so far. */
struct shape_binding {
	int64_t length[OP_DIMS_MAX];
	int by[OP_DIMS_MAX];	/* tensor that bound it, -1: not bound */
	int place[OP_DIMS_MAX]; /* which of that tensor's dimensions */
	int run_rank;		/* the run's own lengths ("M.." in any rule) */
	int64_t run[TENSOR_RANK_MAX];
};

/* Rules are written by us: a mistake in one is an assertion. */
void shape_rule_read(const struct op *op, const char *text, struct shape_rule *r);

void shape_binding_init(struct shape_binding *b);

/* Fit tensor i (an input, present) to its rule, binding names; errors name tensor, found and wanted. */
int shape_unify(const struct op *op, const struct op_call *c, int i, struct shape_binding *b, struct err *e);

/* Lengths within the declared bounds? */
int shape_check_bounds(const struct op *op, const struct op_call *c, const struct shape_binding *b, struct err *e);

/* The shape a rule stands for, all names bound; returns the rank (above TENSOR_RANK_MAX: too many). */
int shape_make(const struct op *op, const char *rule, const struct shape_binding *b, int64_t *shape);

#endif
