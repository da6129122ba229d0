/*
 * op_size.c: from sizes (batch 4, sequence length 512 ...) to a call's inputs, for who brings none: their shapes and dtypes.
 * Called in the front; owns nothing.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/shape.h"

int
op_size_count(const struct op *op)
{
	int n = 0;

	while (op->sizes && op->sizes[n].name)
		n++;
	assert(n <= OP_SIZES_MAX);
	return n;
}

int
op_size_find(const struct op *op, const char *name, size_t len)
{
	int n = op_size_count(op);

	for (int i = 0; i < n; i++)
		if (op_name_is(op->sizes[i].name, op->sizes[i].aliases, name, len))
			return i;
	return -1;
}

void
op_sizes_finish(const struct op *op, int64_t *sizes)
{
	int n = op_size_count(op);

	for (int i = 0; i < n; i++) {
		const struct op_size *s = &op->sizes[i];

		if (sizes[i] >= 0)
			continue;
		sizes[i] = s->fallback;
		if (s->like) {
			int k = op_size_find(op, s->like, strlen(s->like));

			assert(k >= 0 && k < i);
			sizes[i] = sizes[k];
		}
	}
}

static bool
takes(const struct op_tensor *t, enum dtype dt)
{
	const char *name = dtype_info(dt)->name;

	return op_name_is("", t->dtypes, name, strlen(name));
}

enum dtype
op_default_dtype(const struct op *op)
{
	if (takes(&op->tensors[0], DT_FP16))
		return DT_FP16;
	return dtype_find(op->tensors[0].dtypes, strcspn(op->tensors[0].dtypes, "|"));
}

/* The dtype of input i: what its rule fixes, else that of all. */
static enum dtype
input_dtype(const struct op *op, const struct op_call *c, int i, enum dtype dt)
{
	const char *rule = op->tensors[i].dtypes;

	if (rule[0] == '=')
		return (enum dtype)c->tensors[op_tensor_find(op, rule + 1, strlen(rule + 1))].dtype;
	if (!strchr(rule, '|'))
		return dtype_find(rule, strlen(rule));
	return dt;
}

/* The lengths as if tensors had bound them; a run of dimensions ("M..") is one. */
static void
bind_sizes(const struct op *op, const struct op_call *c, struct shape_binding *b)
{
	shape_binding_init(b);
	for (int i = 0; i < op_dim_count(op); i++) {
		b->by[i] = 0;
		b->length[i] = c->dims[i];
	}
	for (int i = 0; op->tensors[i].name; i++) {
		struct shape_rule r;

		shape_rule_read(op, op->tensors[i].shape, &r);
		if (r.n > 0 && r.d[0].run) {
			b->run_rank = 1;
			b->run[0] = c->dims[r.d[0].dim];
		}
	}
}

int
op_sizes_call(const struct op *op, const int64_t *sizes, enum dtype dt, struct op_call *c, struct err *e)
{
	struct shape_binding b;
	int n = op_size_count(op);

	for (int i = 0; i < op_dim_count(op); i++) {
		c->dims[i] = 0;
		for (int k = 0; k < n; k++)
			if (strcmp(op->dims[i].name, op->sizes[k].name) == 0)
				c->dims[i] = sizes[k];
	}
	if (op->size && op->size(c, sizes, e) == -1)
		return -1;
	bind_sizes(op, c, &b);
	for (int i = 0; op->tensors[i].name; i++) {
		const struct op_tensor *t = &op->tensors[i];
		int64_t shape[TENSOR_RANK_MAX];
		int rank;

		if (t->role != OP_IN || t->optional)
			continue;
		rank = shape_make(op, op_shape_rule(op, c, i), &b, shape);
		if (tensor_describe(&c->tensors[i], t->name, input_dtype(op, c, i, dt), rank, shape, e) == -1)
			return -1;
	}
	return 0;
}
