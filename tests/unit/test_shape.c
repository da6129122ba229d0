/*
 * test_shape.c: shape rules by themselves, with an operator made up for it; and op_bind() with shapes drawn at
 * random, small and absurd, for which it must only ever fit or refuse.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ops/flash_attn.h"
#include "ops/rmsnorm.h"
#include "ops/shape.h"

static const struct op_tensor tensors[] = {
	{.name = "a", .role = OP_IN, .dtypes = "fp32", .shape = "M.. N"},
	{.name = "b", .role = OP_IN, .dtypes = "fp32", .shape = "M.. K 3"},
	{.name = "starts", .role = OP_IN, .dtypes = "int32", .shape = "K+2"},
	{.name = "all", .role = OP_IN, .dtypes = "fp32", .shape = "M.."},
	{.name = NULL},
};
static const struct op_dim_info dims[] = {
	{"M", "leading dimensions", 0, 0},
	{"N", "row length", 1, 9},
	{"K", "count", 0, 0},
	{NULL, NULL, 0, 0},
};
static const struct op_param params[] = {{.name = NULL}};
static const struct op made_up = {.name = "made_up", .tensors = tensors, .dims = dims, .params = params};

static void
describe(struct op_call *c, int i, int rank, const int64_t *shape)
{
	cr_assert_eq(tensor_describe(&c->tensors[i], tensors[i].name, DT_FP32, rank, shape, NULL), 0);
}

static int
unify(const struct op_call *c, struct shape_binding *b, struct err *e)
{
	shape_binding_init(b);
	for (int i = 0; i < 4; i++)
		if (c->tensors[i].dtype != DT_NONE && shape_unify(&made_up, c, i, b, e))
			return -1;
	return shape_check_bounds(&made_up, c, b, e);
}

Test(shape, runs_and_sums)
{
	struct op_call c = {0};
	struct shape_binding b;
	struct err e = {0};
	int64_t out[TENSOR_RANK_MAX];

	describe(&c, 0, 3, (const int64_t[]){4, 5, 6});
	describe(&c, 1, 4, (const int64_t[]){4, 5, 7, 3});
	describe(&c, 2, 1, (const int64_t[]){9});
	describe(&c, 3, 2, (const int64_t[]){4, 5});
	cr_assert_eq(unify(&c, &b, &e), 0, "%s", e.msg);
	cr_expect_eq(b.length[0], 20);
	cr_expect_eq(b.length[1], 6);
	cr_expect_eq(b.length[2], 7);
	cr_expect_eq(shape_make(&made_up, "M.. K N", &b, out), 4);
	cr_expect_eq(memcmp(out, (const int64_t[]){4, 5, 7, 6}, 4 * sizeof out[0]), 0);
	cr_expect_eq(shape_make(&made_up, "2 K+1", &b, out), 2);
	cr_expect_eq(memcmp(out, (const int64_t[]){2, 8}, 2 * sizeof out[0]), 0);

	/* The same product is not the same run. */
	describe(&c, 3, 2, (const int64_t[]){5, 4});
	cr_expect_eq(unify(&c, &b, &e), -1);
	cr_expect_not_null(strstr(e.msg, "same leading dimensions"), "%s", e.msg);
	describe(&c, 3, 1, (const int64_t[]){20});
	cr_expect_eq(unify(&c, &b, &e), -1);
	describe(&c, 3, 2, (const int64_t[]){4, 5});

	describe(&c, 1, 4, (const int64_t[]){4, 5, 7, 2});
	cr_expect_eq(unify(&c, &b, &e), -1);
	cr_expect_not_null(strstr(e.msg, "has 2 at dimension 3, wanted 3"), "%s", e.msg);
	describe(&c, 1, 4, (const int64_t[]){4, 5, 8, 3});
	cr_expect_eq(unify(&c, &b, &e), -1);
	cr_expect_not_null(
		strstr(e.msg, "b and starts disagree on the count (K): b [4, 5, 8, 3] has 8, starts [9] has 7"), "%s",
		e.msg);
	cr_expect_not_null(strstr(e.msg, "; a is [4, 5, 6], all is [4, 5]"), "%s", e.msg);
	cr_expect_str_eq(e.wanted, "[10]");
	describe(&c, 2, 1, (const int64_t[]){1});
	cr_expect_eq(unify(&c, &b, &e), -1);
	cr_expect_not_null(strstr(e.msg, "at least 2"), "%s", e.msg);
	describe(&c, 2, 1, (const int64_t[]){10});
	cr_expect_eq(unify(&c, &b, &e), 0);
	describe(&c, 0, 3, (const int64_t[]){4, 5, 10});
	cr_expect_eq(unify(&c, &b, &e), -1);
	cr_expect_not_null(strstr(e.msg, "row length (N) must be between 1 and 9, and is 10 (dimension 2 of a"), "%s",
			   e.msg);
	describe(&c, 1, 1, (const int64_t[]){3});
	cr_expect_eq(unify(&c, &b, &e), -1);
	cr_expect_not_null(strstr(e.msg, "at least 2"), "%s", e.msg);
}

/* A run of 8 leaves no room for more. */
Test(shape, too_many_dimensions)
{
	struct op_call c = {0};
	struct shape_binding b;
	int64_t out[TENSOR_RANK_MAX];

	describe(&c, 3, 8, (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 1});
	cr_assert_eq(unify(&c, &b, NULL), 0);
	cr_expect_eq(shape_make(&made_up, "M..", &b, out), 8);
	cr_expect_gt(shape_make(&made_up, "M.. 3", &b, out), TENSOR_RANK_MAX);
}

Test(shape, words)
{
	char buf[200];

	cr_expect_str_eq(op_shape_words(&made_up, "M.. N K+2 3", buf, sizeof buf),
			 "[leading dimensions, row length, count + 2, 3]");
	cr_expect_str_eq(op_shape_words(&made_up, "M.. N K+2 3", buf, 10), "[leading ");
}

static uint64_t state = 88172645463325252u;

static uint64_t
draw(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

static int64_t
length(void)
{
	static const int64_t common[] = {0, 1, 2, 4, 8, 64, 128, 256};

	if (draw(20) == 0)
		return (int64_t)1 << draw(63);
	return draw(3) ? common[draw(8)] : (int64_t)draw(300);
}

static void
ignore_hint(void *cls, const char *text)
{
	cr_assert(strlen(text) > 10);
	++*(int *)cls;
}

Test(shape, random_calls)
{
	int fits = 0, refused = 0, n_hints = 0;

	for (int round = 0; round < 60000; round++) {
		uint32_t index = (uint32_t)draw(op_count());
		const struct op *op = op_get(index);
		struct op_call c = {.op = index};
		enum dtype dt = (enum dtype)(DT_FP32 + draw(3));
		struct err e = {0};
		int64_t shape[TENSOR_RANK_MAX] = {0};
		int rank = 0;

		for (int i = 0; op->tensors[i].name; i++) {
			bool starts = !strcmp(op->tensors[i].dtypes, "int32");

			if (op->tensors[i].role != OP_IN || draw(200) == 0)
				continue;
			/* Mostly like the one before, or nothing would ever fit. */
			if (i == 0 || draw(4) == 0)
				rank = draw(8) ? (index == 1 ? 3 : 4) : (int)draw(9);
			for (int k = 0; k < rank; k++)
				shape[k] = i == 0 || draw(12) == 0 ? length() : shape[k];
			if (tensor_describe(&c.tensors[i], op->tensors[i].name,
					    starts	     ? DT_INT32
					    : draw(100) == 0 ? DT_FP64
							     : dt,
					    starts ? 1 : (index == 2 && i == 1 ? 1 : rank),
					    index == 2 && i == 1 && rank ? shape + rank - 1 : shape, &e))
				goto next;
		}
		for (int p = 0; op->params[p].name; p++)
			if (op->params[p].required || draw(3) == 0)
				c.params[p] = (struct op_value){
					.given = true, .n = 2, .f = 1, .i = {(int64_t)draw(2), (int64_t)draw(2)}};
		cr_assert_eq(op_params_finish(op, &c, &e), 0);
		if (op_bind(op, &c, &e)) {
			cr_assert(e.code != ERR_NONE && strlen(e.msg) > 10);
			refused++;
			continue;
		}
		fits++;
		cr_assert(isfinite(op->flop(&c)) && op->flop(&c) >= 0);
		cr_assert(op_bytes_moved(&c) >= 0);
		if (op->hints)
			op->hints(&c, ignore_hint, &n_hints);
next:;
	}
	cr_expect_gt(fits, 5000);
	cr_expect_gt(refused, 5000);
	cr_expect_gt(n_hints, 100);
}
