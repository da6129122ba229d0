/*
 * test_op.c: the operator table is sound, and op_bind() accepts and refuses what it should, with messages that
 * name what matters. Parameters are in test_op_value.c.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/flash_attn.h"
#include "ops/op.h"
#include "ops/rmsnorm.h"

#define INPUTS_MAX 5

struct input {
	const char *name, *dtype, *shape; /* "2 512 8 64" */
};

struct validation {
	const char *op;
	struct input in[INPUTS_MAX];
	const char *params;   /* "causal=true window_size=1,2" or NULL */
	enum err_code code;   /* ERR_NONE: fits */
	const char *input;    /* the input or parameter the error is about, NULL: do not care */
	const char *words[6]; /* what the message must say; or, where it fits, the outputs "out fp16 [1, 2]" */
};

/* clang-format off */
#define QKV(dtype, q, k, v) {{"q", dtype, q}, {"k", dtype, k}, {"v", dtype, v}}
/* clang-format on */

static int
build(const struct validation *v, struct op_call *c, const struct op **op, struct err *e)
{
	memset(c, 0, sizeof *c);
	*op = op_find(v->op, strlen(v->op), &c->op);
	cr_assert_not_null(*op);
	for (int i = 0; i < INPUTS_MAX && v->in[i].name; i++) {
		int64_t shape[TENSOR_RANK_MAX];
		int rank = 0, used, t = op_tensor_find(*op, v->in[i].name, strlen(v->in[i].name));
		const char *p = v->in[i].shape;

		cr_assert_geq(t, 0);
		while (sscanf(p, "%ld%n", &shape[rank], &used) == 1) {
			p += used;
			rank++;
		}
		cr_assert_eq(tensor_describe(&c->tensors[t], v->in[i].name,
					     dtype_find(v->in[i].dtype, strlen(v->in[i].dtype)), rank, shape, e),
			     0, "%s", e->msg);
	}
	for (const char *p = v->params; p && *p;) {
		size_t n = strcspn(p, "="), m = strcspn(p + n + 1, " ");
		int i = op_param_find(*op, p, n);

		cr_assert_geq(i, 0, "%s", p);
		cr_assert_eq(op_value_parse(&(*op)->params[i], p + n + 1, m, &c->params[i], e), 0, "%s", e->msg);
		p += n + 1 + m;
		p += *p == ' ';
	}
	cr_assert_eq(op_params_finish(*op, c, e), 0, "%s", e->msg);
	return op_bind(*op, c, e);
}

/* clang-format off */
static const struct validation cases[] = {
	/* What fits, and the outputs. */
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 512 8 64", "2 512 8 64"), NULL, ERR_NONE, NULL,
	 {"out fp16 [2, 512, 8, 64]"}},
	{"flash_attn_func", QKV("bf16", "1 77 4 192", "1 130 2 192", "1 130 2 128"), "return_lse=true causal=1",
	 ERR_NONE, NULL, {"out bf16 [1, 77, 4, 128]", "softmax_lse fp32 [1, 4, 77]"}},
	{"flash_attn_func", QKV("fp32", "2 8 100 64", "2 4 90 64", "2 4 90 32"), "layout=bhsd return_lse=1", ERR_NONE,
	 NULL, {"out fp32 [2, 8, 100, 32]", "softmax_lse fp32 [2, 8, 100]"}},
	{"flash_attn_func", QKV("fp32", "1 3 2 9", "1 0 1 9", "1 0 1 255"), NULL, ERR_NONE, NULL,
	 {"out fp32 [1, 3, 2, 255]"}},
	{"flash_attn_func", QKV("fp32", "1 0 2 8", "1 5 1 8", "1 5 1 8"), "window_size=(3,-1,0)", ERR_NONE, NULL,
	 {"out fp32 [1, 0, 2, 8]"}},
	{"flash_attn_varlen_func", {{"q", "fp16", "40 4 64"}, {"k", "fp16", "58 2 64"}, {"v", "fp16", "58 2 32"},
	 {"cu_seqlens_q", "int32", "5"}, {"cu_seqlens_k", "int32", "5"}},
	 "max_seqlen_q=40 max_seqlen_k=58 return_lse=true", ERR_NONE, NULL, {"out fp16 [40, 4, 32]",
	 "softmax_lse fp32 [4, 40]"}},
	{"rmsnorm", {{"x", "bf16", "2 3 5"}, {"weight", "bf16", "5"}}, NULL, ERR_NONE, NULL, {"out bf16 [2, 3, 5]"}},
	{"rmsnorm", {{"input", "fp32", "5"}, {"weight", "fp32", "5"}}, "epsilon=0", ERR_NONE, NULL, {"out fp32 [5]"}},
	{"rmsnorm", {{"x", "fp32", "0 7"}, {"weight", "fp32", "7"}}, NULL, ERR_NONE, NULL, {"out fp32 [0, 7]"}},
	{"rmsnorm", {{"x", "fp32", "1 1 1 1 1 1 1 7"}, {"weight", "fp32", "7"}}, NULL, ERR_NONE, NULL,
	 {"out fp32 [1, 1, 1, 1, 1, 1, 1, 7]"}},

	/* Missing inputs. */
	{"flash_attn_func", {{"q", "fp16", "2 512 8 64"}, {"v", "fp16", "2 512 8 64"}}, NULL, ERR_MISSING_INPUT, "k",
	 {"flash_attn_func", "input k", "key/value length", "batch size"}},
	{"rmsnorm", {{"x", "bf16", "2 3 5"}}, NULL, ERR_MISSING_INPUT, "weight", {"weight", "row length"}},
	{"rmsnorm", {{"weight", "bf16", "5"}}, NULL, ERR_MISSING_INPUT, "x", {"input x: fp32, fp16 or bf16 ["}},

	/* Dtypes. */
	{"flash_attn_func", {{"q", "fp16", "1 9 2 8"}, {"k", "bf16", "1 9 2 8"}, {"v", "fp16", "1 9 2 8"}}, NULL,
	 ERR_INVALID_DTYPE, "k", {"q is fp16, k is bf16, v is fp16", "same dtype"}},
	{"flash_attn_func", {{"q", "fp16", "1 9 2 8"}, {"k", "fp16", "1 9 2 8"}, {"v", "fp8_e4m3", "1 9 2 8"}}, NULL,
	 ERR_INVALID_DTYPE, "v", {"v is fp8_e4m3", "same dtype", "flash_attn_fp8_pertensor_func"}},
	{"flash_attn_func", QKV("fp64", "1 9 2 8", "1 9 2 8", "1 9 2 8"), NULL, ERR_INVALID_DTYPE, "q", {"q is fp64",
	 "wanted fp32, fp16 or bf16", "q.astype(np.float32)"}},
	{"flash_attn_func", QKV("fp8_e4m3fnuz", "1 9 2 8", "1 9 2 8", "1 9 2 8"), NULL, ERR_INVALID_DTYPE, "q",
	 {"fp8_e4m3fnuz", "fp8_pertensor"}},
	{"rmsnorm", {{"x", "bf16", "2 3 5"}, {"weight", "fp32", "5"}}, NULL, ERR_INVALID_DTYPE, "weight",
	 {"x is bf16, weight is fp32"}},
	{"flash_attn_varlen_func", {{"q", "fp16", "40 4 64"}, {"k", "fp16", "58 2 64"}, {"v", "fp16", "58 2 32"},
	 {"cu_seqlens_q", "int64", "5"}, {"cu_seqlens_k", "int32", "5"}}, "max_seqlen_q=40 max_seqlen_k=58",
	 ERR_INVALID_DTYPE, "cu_seqlens_q", {"cu_seqlens_q is int64", "int32"}},

	/* Ranks. */
	{"flash_attn_func", QKV("fp16", "512 8 64", "1 512 8 64", "1 512 8 64"), NULL, ERR_INVALID_SHAPE, "q",
	 {"q [512, 8, 64] has 3 dimensions", "wanted 4",
	 "batch size, query length, number of query heads, head dimension"}},
	{"flash_attn_func", QKV("fp16", "1 2 8 64", "1 512 8 64 1", "1 512 8 64"), NULL, ERR_INVALID_SHAPE, "k",
	 {"k [1, 512, 8, 64, 1] has 5 dimensions", "number of key/value heads"}},
	{"rmsnorm", {{"x", "fp32", ""}, {"weight", "fp32", "1"}}, NULL, ERR_INVALID_SHAPE, "x",
	 {"x [] has 0 dimensions", "at least 1"}},
	{"rmsnorm", {{"x", "fp32", "3 4"}, {"weight", "fp32", "1 4"}}, NULL, ERR_INVALID_SHAPE, "weight",
	 {"weight [1, 4] has 2 dimensions", "wanted 1"}},

	/* The tutorial's error, and other disagreements. */
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 512 16 64", "2 512 8 64"), NULL, ERR_INVALID_SHAPE, "v",
	 {"k and v disagree", "number of key/value heads", "k [2, 512, 16, 64] has 16", "v [2, 512, 8, 64] has 8",
	 "; q is [2, 512, 8, 64]"}},
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 512 16 64", "2 512 16 64"), NULL, ERR_INVALID_SHAPE, "k",
	 {"q has 8 heads, k and v have 16", "number of heads in key/value must divide the number in query"}},
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 8 512 64", "2 8 512 64"), NULL, ERR_INVALID_SHAPE, "k",
	 {"must divide the number in query. It looks as if q and k had different layouts"}},
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "3 512 8 64", "3 512 8 64"), NULL, ERR_INVALID_SHAPE, "k",
	 {"q and k disagree on the batch size (B)", "has 2", "has 3"}},
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 512 8 32", "2 512 8 64"), NULL, ERR_INVALID_SHAPE, "k",
	 {"head dimension (D)", "has 64", "has 32"}},
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 511 8 64", "2 512 8 64"), NULL, ERR_INVALID_SHAPE, "v",
	 {"key/value length (Sk)", "k [2, 511, 8, 64] has 511", "v [2, 512, 8, 64] has 512"}},
	{"rmsnorm", {{"x", "fp32", "3 4"}, {"weight", "fp32", "5"}}, NULL, ERR_INVALID_SHAPE, "weight",
	 {"row length (N)", "x [3, 4] has 4", "weight [5] has 5"}},
	{"flash_attn_varlen_func", {{"q", "fp16", "40 4 64"}, {"k", "fp16", "58 2 64"}, {"v", "fp16", "58 2 32"},
	 {"cu_seqlens_q", "int32", "5"}, {"cu_seqlens_k", "int32", "4"}}, "max_seqlen_q=40 max_seqlen_k=58",
	 ERR_INVALID_SHAPE, "cu_seqlens_k", {"cu_seqlens_q and cu_seqlens_k disagree on the number of sequences (B)",
	 "has 4", "has 3", "q is [40, 4, 64], k is"}},

	/* Bounds. */
	{"flash_attn_func", QKV("fp16", "0 9 2 8", "0 9 2 8", "0 9 2 8"), NULL, ERR_INVALID_SHAPE, "q",
	 {"batch size (B) must be at least 1, and is 0"}},
	{"flash_attn_func", QKV("fp16", "1 9 0 8", "1 9 2 8", "1 9 2 8"), NULL, ERR_INVALID_SHAPE, "q",
	 {"number of query heads (Hq) must be at least 1"}},
	{"flash_attn_func", QKV("fp16", "1 9 2 8", "1 9 0 8", "1 9 0 8"), NULL, ERR_INVALID_SHAPE, "k",
	 {"number of key/value heads (Hk) must be at least 1"}},
	{"flash_attn_func", QKV("fp16", "1 9 2 7", "1 9 2 7", "1 9 2 8"), NULL, ERR_INVALID_SHAPE, "q",
	 {"head dimension (D) must be between 8 and 256, and is 7"}},
	{"flash_attn_func", QKV("fp16", "1 9 2 8", "1 9 2 8", "1 9 2 257"), NULL, ERR_INVALID_SHAPE, "v",
	 {"head dimension of v (Dv) must be between 8 and 256, and is 257"}},
	{"rmsnorm", {{"x", "fp32", "3 0"}, {"weight", "fp32", "0"}}, NULL, ERR_INVALID_SHAPE, "x",
	 {"row length (N) must be at least 1"}},
	{"flash_attn_varlen_func", {{"q", "fp16", "40 4 64"}, {"k", "fp16", "58 2 64"}, {"v", "fp16", "58 2 32"},
	 {"cu_seqlens_q", "int32", "0"}, {"cu_seqlens_k", "int32", "0"}}, "max_seqlen_q=40 max_seqlen_k=58",
	 ERR_INVALID_SHAPE, "cu_seqlens_q", {"cu_seqlens_q [0]", "at least 1"}},
	{"flash_attn_varlen_func", {{"q", "fp16", "0 4 64"}, {"k", "fp16", "0 2 64"}, {"v", "fp16", "0 2 32"},
	 {"cu_seqlens_q", "int32", "1"}, {"cu_seqlens_k", "int32", "1"}}, "max_seqlen_q=40 max_seqlen_k=58",
	 ERR_INVALID_SHAPE, "cu_seqlens_q", {"number of sequences (B) must be at least 1"}},

	/* The other layout. */
	{"flash_attn_func", QKV("fp16", "2 8 512 64", "2 8 400 64", "2 8 400 64"), NULL, ERR_INVALID_SHAPE, "k",
	 {"512 heads", "read as layout=bshd", "layout=bhsd they would fit"}},
	{"flash_attn_func", QKV("fp16", "2 512 8 64", "2 400 8 64", "2 400 8 64"), "layout=bhsd", ERR_INVALID_SHAPE,
	 "k", {"read as layout=bhsd", "layout=bshd they would fit"}},
	{"flash_attn_func", QKV("fp16", "2 32 1 128", "2 8 4096 128", "2 8 4096 128"), NULL, ERR_INVALID_SHAPE, "k",
	 {"layout=bhsd they would fit"}},

	/* Parameters that only the shapes can judge. */
	{"flash_attn_func", QKV("fp16", "1 9 2 8", "1 9 2 8", "1 9 2 8"), "window_size=4", ERR_INVALID_PARAMETER,
	 "window_size", {"window_size has 1 number,", "[left, right]"}},
	{"flash_attn_func", QKV("fp16", "1 9 2 8", "1 9 2 8", "1 9 2 8"), "window_size=1,2,0,0",
	 ERR_INVALID_PARAMETER, "window_size", {"has 4 numbers"}},
	{"flash_attn_func", QKV("fp16", "1 9 2 8", "1 9 2 8", "1 9 2 8"), "window_size=1,2,3",
	 ERR_UNSUPPORTED_PARAMETER, "window_size", {"sink", "3", "only 0"}},

	/* Sizes nobody has: no crash, no overflow. */
	{"flash_attn_func", QKV("fp16", "1 0 144115188075855872 8", "1 0 144115188075855872 8",
	 "1 0 144115188075855872 8"), "return_lse=1", ERR_NONE, NULL, {"out fp16 [1, 0, 144115188075855872, 8]",
	 "softmax_lse fp32 [1, 144115188075855872, 0]"}},
};
/* clang-format on */

static void
check_case(const struct validation *v, size_t number)
{
	const struct op *op;
	struct op_call c;
	struct err e;
	int rc;

	memset(&e, 0, sizeof e);
	rc = build(v, &c, &op, &e);
	if (v->code == ERR_NONE) {
		int made = 0;

		cr_expect_eq(rc, 0, "case %zu: %s", number, e.msg);
		for (int i = 0; op->tensors[i].name && rc == 0; i++) {
			char shape[160], text[256];

			if (op->tensors[i].role != OP_OUT || c.tensors[i].dtype == DT_NONE)
				continue;
			snprintf(text, sizeof text, "%s %s %s", op->tensors[i].name,
				 dtype_info((enum dtype)c.tensors[i].dtype)->name,
				 tensor_shape_text(&c.tensors[i], shape, sizeof shape));
			cr_expect_str_eq(text, v->words[made] ? v->words[made] : "", "case %zu", number);
			made++;
		}
		cr_expect(made == 6 || v->words[made] == NULL, "case %zu: %d outputs", number, made);
		return;
	}
	cr_expect_eq(rc, -1, "case %zu fits", number);
	cr_expect_eq(e.code, v->code, "case %zu: %s", number, e.msg);
	if (v->input)
		cr_expect_str_eq(e.input[0] ? e.input : e.param, v->input, "case %zu: %s", number, e.msg);
	for (int i = 0; i < 6 && v->words[i]; i++)
		cr_expect_not_null(strstr(e.msg, v->words[i]), "case %zu: \"%s\" lacks \"%s\"", number, e.msg,
				   v->words[i]);
	cr_expect(e.found[0] && e.wanted[0], "case %zu tells found and wanted", number);
	/* The same without anybody listening. */
	cr_expect_eq(op_bind(op, &c, NULL), -1);
}

Test(op, bind)
{
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		check_case(&cases[i], i);
}

/* A wrong head count is not explained away by a layout with 512 heads. */
Test(op, other_layout_only_when_likely)
{
	const struct validation v = {"flash_attn_func",
				     QKV("fp16", "2 512 8 64", "2 512 16 64", "2 512 16 64"),
				     NULL,
				     ERR_INVALID_SHAPE,
				     "k",
				     {NULL}};
	const struct op *op;
	struct op_call c;
	struct err e = {0};

	cr_assert_eq(build(&v, &c, &op, &e), -1);
	cr_expect_null(strstr(e.msg, "layout"), "%s", e.msg);
}

Test(op, dims)
{
	const struct validation v = {"flash_attn_func",
				     QKV("bf16", "1 77 4 192", "1 130 2 192", "1 130 2 128"),
				     NULL,
				     ERR_NONE,
				     NULL,
				     {NULL}};
	const struct validation norm = {
		"rmsnorm", {{"x", "bf16", "2 3 5"}, {"weight", "bf16", "5"}}, NULL, ERR_NONE, NULL, {NULL}};
	const struct op *op;
	struct op_call c;
	struct err e = {0};

	cr_assert_eq(build(&v, &c, &op, &e), 0);
	cr_expect_eq(op_dim(&c, "B"), 1);
	cr_expect_eq(op_dim(&c, "Sq"), 77);
	cr_expect_eq(op_dim(&c, "Hq"), 4);
	cr_expect_eq(op_dim(&c, "D"), 192);
	cr_expect_eq(op_dim(&c, "Sk"), 130);
	cr_expect_eq(op_dim(&c, "Hk"), 2);
	cr_expect_eq(op_dim(&c, "Dv"), 128);
	cr_expect_eq(op_dim(&c, "no"), -1);
	cr_expect_str_eq(op_dim_name(op, 1), "Sq");
	cr_expect_null(op_dim_name(op, 7));
	cr_expect_null(op_dim_name(op, -1));
	cr_expect_eq(op_bytes_moved(&c), 2.0 * (77 * 4 * 192 + 130 * 2 * 192 + 130 * 2 * 128 + 77 * 4 * 128));
	cr_assert_eq(build(&norm, &c, &op, &e), 0);
	cr_expect_eq(op_dim(&c, "M"), 6);
	cr_expect_eq(op_dim(&c, "N"), 5);
	cr_expect_eq(op->flop(&c), 4.0 * 30);
}

/* Counted pair by pair. */
Test(op, visible_pairs)
{
	for (int64_t sq = 0; sq < 12; sq++)
		for (int64_t sk = 0; sk < 12; sk++)
			for (int64_t left = -1; left < 14; left++)
				for (int64_t right = -1; right < 14; right++) {
					struct attn_problem p = {.left = left, .right = right};
					int64_t count = 0, ranges = 0;

					for (int64_t i = 0; i < sq; i++) {
						int64_t begin, end;

						for (int64_t j = 0; j < sk; j++)
							count += (left < 0 || j >= i + sk - sq - left) &&
								 (right < 0 || j <= i + sk - sq + right);
						attn_visible(&p, sq, sk, i, &begin, &end);
						cr_assert(begin >= 0 && begin <= end && end <= sk);
						ranges += end - begin;
					}
					cr_assert_eq(count, ranges);
					cr_assert_eq((double)count, attn_pairs(sq, sk, left, right),
						     "%ld x %ld, window %ld, %ld", sq, sk, left, right);
				}
	/* Large ones take no time. */
	cr_expect_float_eq(attn_pairs(INT64_C(1) << 40, INT64_C(1) << 40, -1, 0) / 0x1p79, 1.0, 1e-9);
}

Test(op, flop)
{
	const struct validation full = {
		"flash_attn_func", QKV("bf16", "3 7 4 192", "3 9 2 192", "3 9 2 128"), NULL, ERR_NONE, NULL, {NULL}};
	const struct validation causal = {"flash_attn_func",
					  QKV("bf16", "3 7 4 192", "3 9 2 192", "3 9 2 128"),
					  "causal=true",
					  ERR_NONE,
					  NULL,
					  {NULL}};
	const struct op *op;
	struct op_call c;
	struct err e = {0};

	cr_assert_eq(build(&full, &c, &op, &e), 0);
	cr_expect_eq(op->flop(&c), 2.0 * 3 * 4 * (192 + 128) * 7 * 9);
	cr_assert_eq(build(&causal, &c, &op, &e), 0);
	cr_expect_eq(op->flop(&c), 2.0 * 3 * 4 * (192 + 128) * (3 + 4 + 5 + 6 + 7 + 8 + 9));
}

static void
collect(void *cls, const char *text)
{
	size_t n = strlen(cls);

	snprintf((char *)cls + n, 1000 - n, "%s;", text);
}

Test(op, hints)
{
	static const struct {
		const char *q, *k, *params;
		const char *want[3], *not ;
	} table[] = {
		{"1 512 8 64", "1 512 8 64", NULL, {NULL}, ";"},
		{"1 500 8 64", "1 500 8 64", NULL, {"sequence length 500 is not a multiple of 128"}, "layout"},
		{"1 128 8 64", "1 500 8 64", NULL, {"key/value length 500 is not a multiple of 128"}, "query"},
		{"1 1 8 64", "1 512 8 64", NULL, {NULL}, ";"},
		{"1 8 512 64", "1 8 512 64", NULL, {"layout=bshd: 512 key/value heads", "give layout=bhsd"}, NULL},
		{"1 512 8 64",
		 "1 512 8 64",
		 "layout=bhsd",
		 {"layout=bhsd: 512 key/value heads", "give layout=bshd"},
		 NULL},
		{"1 1 8 64", "1 1 8 64", NULL, {NULL}, "layout"},
		{"2 8 512 64",
		 "2 512 8 64",
		 NULL,
		 {"had different layouts: read as layout=bshd, q has 8 positions and 512 heads, k and v have 512 and 8"},
		 "give layout"},
		{"2 512 8 64",
		 "2 8 512 64",
		 "layout=bhsd",
		 {"had different layouts: read as layout=bhsd, q has 8 pos"},
		 NULL},
		{"2 8 8 64", "2 8 8 64", NULL, {NULL}, "layout"},
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const struct validation v = {"flash_attn_func",
					     QKV("bf16", table[i].q, table[i].k, table[i].k),
					     table[i].params,
					     ERR_NONE,
					     NULL,
					     {NULL}};
		const struct op *op;
		struct op_call c;
		struct err e = {0};
		char all[1000] = "";

		cr_assert_eq(build(&v, &c, &op, &e), 0, "%s", e.msg);
		op->hints(&c, collect, all);
		for (int k = 0; k < 3 && table[i].want[k]; k++)
			cr_expect_not_null(strstr(all, table[i].want[k]), "%zu: %s", i, all);
		if (table[i].not )
			cr_expect_null(strstr(all, table[i].not ), "%zu: %s", i, all);
	}
}

Test(op, varlen_data)
{
	static const struct {
		int32_t q[5], k[5];
		const char *max_q, *max_k, *about;
		const char *words[4];
	} table[] = {
		{{0, 10, 10, 30, 40}, {0, 0, 20, 50, 58}, "20", "30", NULL, {NULL}},
		{{0, 0, 0, 0, 40}, {0, 58, 58, 58, 58}, "40", "58", NULL, {NULL}},
		{{1, 10, 20, 30, 40},
		 {0, 0, 20, 50, 58},
		 "20",
		 "30",
		 "cu_seqlens_q",
		 {"cu_seqlens_q[0] is 1", "start at 0"}},
		{{0, 10, 20, 30, 40}, {-1, 0, 20, 50, 58}, "20", "30", "cu_seqlens_k", {"cu_seqlens_k[0] is -1"}},
		{{0, 20, 19, 30, 40},
		 {0, 0, 20, 50, 58},
		 "20",
		 "30",
		 "cu_seqlens_q",
		 {"cu_seqlens_q[2] is 19", "cu_seqlens_q[1], which is 20", "never decrease"}},
		{{0, 10, 20, 30, 40},
		 {0, 2147483647, -2147483647 - 1, 50, 58},
		 "20",
		 "2147483647",
		 "cu_seqlens_k",
		 {"cu_seqlens_k[2] is -2147483648"}},
		{{0, 10, 20, 30, 39},
		 {0, 0, 20, 50, 58},
		 "20",
		 "30",
		 "cu_seqlens_q",
		 {"cu_seqlens_q[4] = 39", "q has 40 rows"}},
		{{0, 10, 20, 30, 40},
		 {0, 0, 20, 50, 59},
		 "20",
		 "30",
		 "cu_seqlens_k",
		 {"cu_seqlens_k[4] = 59", "k has 58 rows"}},
		{{0, 10, 20, 30, 40},
		 {0, 0, 20, 50, 58},
		 "9",
		 "30",
		 "max_seqlen_q",
		 {"max_seqlen_q is 9", "sequence 0", "has 10", "(0 to 10)"}},
		{{0, 10, 20, 30, 40},
		 {0, 0, 20, 50, 58},
		 "20",
		 "29",
		 "max_seqlen_k",
		 {"max_seqlen_k is 29", "sequence 2", "has 30", "(20 to 50)"}},
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char params[100];
		const struct validation v = {"flash_attn_varlen_func",
					     {{"q", "fp16", "40 4 64"},
					      {"k", "fp16", "58 2 64"},
					      {"v", "fp16", "58 2 32"},
					      {"cu_seqlens_q", "int32", "5"},
					      {"cu_seqlens_k", "int32", "5"}},
					     params,
					     ERR_NONE,
					     NULL,
					     {NULL}};
		const struct op *op;
		struct op_call c;
		struct err e = {0};
		int32_t q[5], k[5];
		int rc;

		snprintf(params, sizeof params, "max_seqlen_q=%s max_seqlen_k=%s", table[i].max_q, table[i].max_k);
		cr_assert_eq(build(&v, &c, &op, &e), 0, "%s", e.msg);
		cr_expect_eq(op->flop(&c), 0, "not known without data");
		memcpy(q, table[i].q, sizeof q);
		memcpy(k, table[i].k, sizeof k);
		c.tensors[VARLEN_CU_Q].data = q;
		c.tensors[VARLEN_CU_K].data = k;
		rc = op->check_data(&c, &e);
		cr_expect_eq(rc, table[i].about ? -1 : 0, "case %zu: %s", i, e.msg);
		if (!table[i].about) {
			double pairs = 0;

			for (int b = 0; b < 4; b++)
				pairs += (double)(q[b + 1] - q[b]) * (k[b + 1] - k[b]);
			cr_expect_eq(op->flop(&c), 2.0 * 4 * (64 + 32) * pairs);
			continue;
		}
		cr_expect_str_eq(e.input[0] ? e.input : e.param, table[i].about, "case %zu: %s", i, e.msg);
		for (int w = 0; w < 4 && table[i].words[w]; w++)
			cr_expect_not_null(strstr(e.msg, table[i].words[w]), "case %zu: \"%s\" lacks \"%s\"", i, e.msg,
					   table[i].words[w]);
	}
}

/* An output too large for 2^62 bytes is an error, not a wrapped size. */
Test(op, output_overflow)
{
	const struct validation v = {"flash_attn_func",
				     QKV("fp32", "1 2251799813685248 2 8", "1 8 1 8", "1 8 1 256"),
				     NULL,
				     ERR_NONE,
				     NULL,
				     {NULL}};
	const struct validation huge = {"flash_attn_func",
					QKV("fp32", "1 36028797018963968 2 8", "1 8 1 8", "1 8 1 256"),
					NULL,
					ERR_NONE,
					NULL,
					{NULL}};
	const struct op *op;
	struct op_call c;
	struct err e = {0};

	cr_expect_eq(build(&v, &c, &op, &e), 0);
	cr_expect_gt(op->flop(&c), 0);
	cr_expect_eq(build(&huge, &c, &op, &e), -1);
	cr_expect_eq(e.code, ERR_INVALID_SHAPE);
	cr_expect_str_eq(e.input, "out");
}

/* What every row of the table must have, so that the catalogue and the docs are never empty. */
Test(op, table_is_sound)
{
	static const char *const types[] = {"fp32", "fp16", "bf16"};

	cr_expect_eq(op_count(), 3);
	for (uint32_t i = 0; i < op_count(); i++) {
		const struct op *op = op_get(i);
		uint32_t index = 99;
		char words[400];
		struct op_call c = {.op = i};

		cr_expect_eq(op_find(op->name, strlen(op->name), &index), op);
		cr_expect_eq(index, i);
		cr_expect(op->summary && op->help && op->example && op->ref && op->cpu && op->flop);
		cr_expect_not_null(strstr(op->example, "@HOST@/v1/ops/"));
		cr_expect_not_null(strstr(op->example, op->name));
		cr_expect_leq(op_tensor_count(op), OP_TENSORS_MAX);
		cr_expect_leq(op_param_count(op), OP_PARAMS_MAX);
		cr_expect_leq(op_dim_count(op), OP_DIMS_MAX);
		for (int t = 0; op->tensors[t].name; t++) {
			cr_expect(op->tensors[t].help && *op->tensors[t].help);
			cr_expect_lt(strlen(op->tensors[t].name), TENSOR_NAME_MAX);
			cr_expect_eq(op_tensor_find(op, op->tensors[t].name, strlen(op->tensors[t].name)), t);
			/* Asserts that all names are declared; and every rule is short enough for messages. */
			cr_expect_lt(strlen(op_shape_words(op, op_shape_rule(op, &c, t), words, sizeof words)), 250);
			if (op->tensors[t].role == OP_OUT && op->tensors[t].optional)
				cr_expect_geq(op_param_find(op, op->tensors[t].asked, strlen(op->tensors[t].asked)), 0);
			/* Every input's example is in the curl line. */
			if (op->tensors[t].role == OP_IN) {
				snprintf(words, sizeof words, "-F %s=@", op->tensors[t].name);
				cr_expect_not_null(strstr(op->example, words), "%s: %s", op->name, words);
			}
		}
		for (int p = 0; op->params[p].name; p++) {
			cr_expect(op->params[p].help && *op->params[p].help, "%s: %s", op->name, op->params[p].name);
			cr_expect_eq(op_param_find(op, op->params[p].name, strlen(op->params[p].name)), p);
			cr_expect_eq(op_tensor_find(op, op->params[p].name, strlen(op->params[p].name)), -1);
			for (const struct op_refused *r = op->refused; r->name; r++)
				cr_expect_str_neq(r->name, op->params[p].name);
		}
		for (size_t k = 0; k < 3; k++) {
			const struct op_tolerance *t = op_tolerance(op, dtype_find(types[k], 4));

			cr_assert_not_null(t);
			cr_expect_float_eq(t->atol, k == 0 ? 1e-4 : k == 1 ? 2e-3 : 1.6e-2, 1e-12);
			cr_expect_float_eq(t->rtol, t->atol, 1e-12);
		}
		cr_expect_null(op_tolerance(op, DT_INT8));
	}
	cr_expect_null(op_find("flash_attn", 10, NULL));
	cr_expect_null(op_find("", 0, NULL));
	cr_expect_eq(op_tensor_find(&op_rmsnorm, "input", 5), RMSNORM_X);
	cr_expect_eq(op_tensor_find(&op_flash_attn_func, "query", 5), ATTN_Q);
	cr_expect_eq(op_param_find(&op_rmsnorm, "epsilon", 7), RMSNORM_EPS);
	cr_expect_eq(op_param_find(&op_rmsnorm, "eps", 2), -1);
}
