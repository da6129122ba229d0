/*
 * test_op_size.c: inputs from sizes: defaults, other spellings, shapes in every layout, starts of packed sequences; and that
 * what comes out is what the operator itself accepts.
 */
#include <criterion/criterion.h>

#include <string.h>

#include "ops/flash_attn.h"
#include "ops/op.h"

static struct err e;
static int64_t sizes[OP_SIZES_MAX];

static const struct op *
op_of(const char *name, struct op_call *c)
{
	const struct op *op;

	memset(c, 0, sizeof(*c));
	op = op_find(name, strlen(name), &c->op);
	cr_assert(op);
	for (int i = 0; i < OP_SIZES_MAX; i++)
		sizes[i] = -1;
	return op;
}

static void
set(const struct op *op, const char *name, int64_t length)
{
	int i = op_size_find(op, name, strlen(name));

	cr_assert_geq(i, 0, "%s", name);
	sizes[i] = length;
}

static void
shape_is(const struct op_call *c, int i, enum dtype dt, int rank, const int64_t *shape)
{
	cr_assert_eq(c->tensors[i].dtype, dt);
	cr_assert_eq(c->tensors[i].rank, rank);
	for (int k = 0; k < rank; k++)
		cr_assert_eq(c->tensors[i].shape[k], shape[k]);
}

#define SHAPE(c, i, dt, ...)                                                                                           \
	shape_is(c, i, dt, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

Test(op_size, defaults_are_the_tutorials)
{
	struct op_call c;
	const struct op *op = op_of("flash_attn_func", &c);

	op_sizes_finish(op, sizes);
	cr_assert_eq(op_default_dtype(op), DT_FP16);
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP16, &c, &e), 0, "%s", e.msg);
	for (int i = 0; i < 3; i++)
		SHAPE(&c, i, DT_FP16, 2, 512, 8, 64);
	cr_assert_eq(c.tensors[ATTN_OUT].dtype, DT_NONE);
	op = op_of("rmsnorm", &c);
	op_sizes_finish(op, sizes);
	cr_assert_eq(op_sizes_call(op, sizes, DT_BF16, &c, &e), 0, "%s", e.msg);
	SHAPE(&c, 0, DT_BF16, 2048, 4096);
	SHAPE(&c, 1, DT_BF16, 4096);
}

Test(op_size, spellings_and_what_follows)
{
	struct op_call c;
	const struct op *op = op_of("flash_attn_func", &c);

	set(op, "batch", 3);
	set(op, "seqlen", 10);
	set(op, "heads", 4);
	set(op, "kv_heads", 2);
	set(op, "head_dim", 16);
	set(op, "Dv", 32);
	set(op, "Skv", 7);
	op_sizes_finish(op, sizes);
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP32, &c, &e), 0, "%s", e.msg);
	SHAPE(&c, 0, DT_FP32, 3, 10, 4, 16);
	SHAPE(&c, 1, DT_FP32, 3, 7, 2, 16);
	SHAPE(&c, 2, DT_FP32, 3, 7, 2, 32);
	c.params[ATTN_LAYOUT].i[0] = ATTN_BHSD;
	c.params[ATTN_LAYOUT].given = true;
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP32, &c, &e), 0, "%s", e.msg);
	SHAPE(&c, 0, DT_FP32, 3, 4, 10, 16);
	SHAPE(&c, 1, DT_FP32, 3, 2, 7, 16);
	cr_assert_eq(op_params_finish(op, &c, &e), 0);
	cr_assert_eq(op_bind(op, &c, &e), 0, "%s", e.msg);
	cr_assert_eq(op_size_find(op, "", 0), -1);
	cr_assert_eq(op_size_find(op, "batch|batch_size", 16), -1);
	cr_assert_eq(op_size_find(op, "rows", 4), -1);
}

Test(op_size, packed_sequences_start_where_they_must)
{
	struct op_call c;
	const struct op *op = op_of("flash_attn_varlen_func", &c);
	int32_t starts[5];

	set(op, "batch", 4);
	set(op, "seqlen", 6);
	set(op, "seqlen_k", 9);
	op_sizes_finish(op, sizes);
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP16, &c, &e), 0, "%s", e.msg);
	SHAPE(&c, VARLEN_Q, DT_FP16, 24, 8, 64);
	SHAPE(&c, VARLEN_K, DT_FP16, 36, 8, 64);
	SHAPE(&c, VARLEN_CU_Q, DT_INT32, 5);
	cr_assert_eq(c.params[VARLEN_MAX_Q].i[0], 6);
	cr_assert_eq(c.params[VARLEN_MAX_K].i[0], 9);
	for (int i = VARLEN_CU_Q; i <= VARLEN_CU_K; i++) {
		c.tensors[i].data = starts;
		cr_assert(op->make_input(&c, i, sizes));
		for (int b = 0; b < 5; b++)
			cr_assert_eq(starts[b], b * (i == VARLEN_CU_Q ? 6 : 9));
	}
	cr_assert_not(op->make_input(&c, VARLEN_Q, sizes));
	/* A length that was given stays. */
	c.params[VARLEN_MAX_Q].i[0] = 100;
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP16, &c, &e), 0);
	cr_assert_eq(c.params[VARLEN_MAX_Q].i[0], 100);
	set(op, "batch", INT64_MAX / 2);
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP16, &c, &e), -1);
	cr_assert(strstr(e.msg, "2147483647 rows"), "%s", e.msg);
	set(op, "batch", 2);
	set(op, "seqlen", 1073741824);
	cr_assert_eq(op_sizes_call(op, sizes, DT_FP16, &c, &e), -1);
}

/* Each operator's defaults are accepted by the operator, and each size's names are its own. */
Test(op_size, every_operator)
{
	for (uint32_t k = 0; k < op_count(); k++) {
		const struct op *op = op_get(k);
		static int32_t starts[3];
		struct op_call c;

		op_of(op->name, &c);
		cr_assert_gt(op_size_count(op), 0, "%s", op->name);
		op_sizes_finish(op, sizes);
		cr_assert_eq(op_sizes_call(op, sizes, op_default_dtype(op), &c, &e), 0, "%s: %s", op->name, e.msg);
		cr_assert_eq(op_params_finish(op, &c, &e), 0, "%s: %s", op->name, e.msg);
		cr_assert_eq(op_bind(op, &c, &e), 0, "%s: %s", op->name, e.msg);
		for (int i = 0; op->make_input && op->tensors[i].name; i++)
			if (!dtype_info((enum dtype)c.tensors[i].dtype)->is_float && op->tensors[i].role == OP_IN) {
				c.tensors[i].data = starts;
				cr_assert(op->make_input(&c, i, sizes));
				if (op->check_data)
					cr_assert_eq(starts[0], 0);
			}
		for (int i = 0; i < op_size_count(op); i++) {
			const char *list = op->sizes[i].aliases;

			cr_assert_eq(op_size_find(op, op->sizes[i].name, strlen(op->sizes[i].name)), i);
			while (*list) {
				size_t n = strcspn(list, "|");

				cr_assert_eq(op_size_find(op, list, n), i, "%s", list);
				cr_assert_eq(op_param_find(op, list, n), -1, "%s", list);
				list += n + (list[n] == '|');
			}
		}
	}
}
