/*
 * flash_attn_varlen.c: the operator flash_attn_varlen_func: sequences of different lengths, packed one after the
 * other. What it shares with flash_attn_func is in flash_attn.c. Read by the front and by workers; owns nothing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/flash_attn.h"

static const struct op_tensor tensors[] = {
	[VARLEN_Q] = {.name = "q",
		      .role = OP_IN,
		      .dtypes = "fp32|fp16|bf16",
		      .shape = "Tq Hq D",
		      .aliases = "query",
		      .help = "queries of all sequences, one after the other"},
	[VARLEN_K] = {.name = "k",
		      .role = OP_IN,
		      .dtypes = "=q",
		      .shape = "Tk Hk D",
		      .aliases = "key",
		      .help = "keys of all sequences"},
	[VARLEN_V] = {.name = "v",
		      .role = OP_IN,
		      .dtypes = "=q",
		      .shape = "Tk Hk Dv",
		      .aliases = "value",
		      .help = "values of all sequences; their head dimension may differ from the keys'"},
	[VARLEN_CU_Q] =
		{.name = "cu_seqlens_q",
		 .role = OP_IN,
		 .dtypes = "int32",
		 .shape = "B+1",
		 .help = "where each sequence's queries start, and the total: 0, then never decreasing, up to Tq"},
	[VARLEN_CU_K] = {.name = "cu_seqlens_k",
			 .role = OP_IN,
			 .dtypes = "int32",
			 .shape = "B+1",
			 .help = "where each sequence's keys start, and the total: 0, then never decreasing, up to Tk"},
	[VARLEN_OUT] = {.name = "out",
			.role = OP_OUT,
			.dtypes = "=q",
			.shape = "Tq Hq Dv",
			.help = "softmax(scale q k^T) v of each sequence"},
	[VARLEN_LSE] = {.name = "softmax_lse",
			.role = OP_OUT,
			.dtypes = "fp32",
			.shape = "Hq Tq",
			.help = "log-sum-exp of each row's scores, natural logarithm",
			.optional = true,
			.asked = "return_lse"},
	{.name = NULL},
};

static const struct op_dim_info dims[] = {
	{"Tq", "number of queries in all sequences", 0, 0},
	{"Hq", "number of query heads", 1, 0},
	{"D", "head dimension", 8, 256},
	{"Tk", "number of keys in all sequences", 0, 0},
	{"Hk", "number of key/value heads", 1, 0},
	{"Dv", "head dimension of v", 8, 256},
	{"B", "number of sequences", 1, 0},
	{NULL, NULL, 0, 0},
};

static const struct op_param params[] = {
	ATTN_PARAM_ROWS,
	[VARLEN_MAX_Q] = {.name = "max_seqlen_q",
			  .type = OP_INT,
			  .required = true,
			  .min = 0,
			  .max = 2147483647,
			  .help = "at least the number of queries of the longest sequence"},
	[VARLEN_MAX_K] = {.name = "max_seqlen_k",
			  .type = OP_INT,
			  .required = true,
			  .min = 0,
			  .max = 2147483647,
			  .help = "at least the number of keys of the longest sequence"},
	{.name = NULL},
};

static const struct op_refused refused[] = {
	ATTN_REFUSED_ROWS,
	{"min_seqlen_q", "0", "it only steers AITER's choice of kernel"},
	{"block_table", "None", "paged keys and values are not offered"},
	{"cu_seqlens_q_padded", "None", "padded packing is not offered"},
	{"cu_seqlens_k_padded", "None", "padded packing is not offered"},
	{"out", "None", "the output is in the reply"},
	{NULL, NULL, NULL},
};

/* One of the two lists of starts: `total` rows are there, and the parameter `max_name` says `max`. */
static int
check_starts(const struct tensor *t, const char *name, const char *rows, int64_t total, const char *max_name,
	     int64_t max, struct err *e)
{
	const int32_t *cu = t->data;
	int64_t n = t->shape[0] - 1;
	char found[64], wanted[64];

	snprintf(found, sizeof found, "%" PRId32, cu[0]);
	if (cu[0] != 0)
		return err_input(e, ERR_INVALID_SHAPE, name, found, "0",
				 "%s[0] is %" PRId32 ": the first sequence must start at 0", name, cu[0]);
	for (int64_t b = 0; b < n; b++) {
		int64_t length = (int64_t)cu[b + 1] - cu[b];

		snprintf(found, sizeof found, "%" PRId32, cu[b + 1]);
		if (length < 0) {
			snprintf(wanted, sizeof wanted, "at least %" PRId32, cu[b]);
			return err_input(e, ERR_INVALID_SHAPE, name, found, wanted,
					 "%s[%" PRId64 "] is %" PRId32 ", less than %s[%" PRId64 "], which is %" PRId32
					 ": starts must never decrease",
					 name, b + 1, cu[b + 1], name, b, cu[b]);
		}
		if (length > max) {
			snprintf(found, sizeof found, "%" PRId64, max);
			snprintf(wanted, sizeof wanted, "at least %" PRId64, length);
			return err_param(e, ERR_INVALID_PARAMETER, max_name, found, wanted,
					 "%s is %" PRId64 ", but sequence %" PRId64
					 " is longer: %s says it has %" PRId64 " (%" PRId32 " to %" PRId32 ")",
					 max_name, max, b, name, length, cu[b], cu[b + 1]);
		}
	}
	if (cu[n] != total) {
		snprintf(found, sizeof found, "%" PRId32, cu[n]);
		snprintf(wanted, sizeof wanted, "%" PRId64, total);
		return err_input(e, ERR_INVALID_SHAPE, name, found, wanted,
				 "%s ends with %s[%" PRId64 "] = %" PRId32 ", but %s has %" PRId64 " rows", name, name,
				 n, cu[n], rows, total);
	}
	return 0;
}

static int
check_data(const struct op_call *c, struct err *e)
{
	if (check_starts(&c->tensors[VARLEN_CU_Q], "cu_seqlens_q", "q", op_dim(c, "Tq"), "max_seqlen_q",
			 c->params[VARLEN_MAX_Q].i[0], e))
		return -1;
	return check_starts(&c->tensors[VARLEN_CU_K], "cu_seqlens_k", "k", op_dim(c, "Tk"), "max_seqlen_k",
			    c->params[VARLEN_MAX_K].i[0], e);
}

/* Sequences that are made are of one length; where they start follows from that. */
static int
size(struct op_call *c, const int64_t *sizes, struct err *e)
{
	static const struct {
		int size, param;
		const char *dim;
	} rows[] = {{ATTN_SIZE_SQ, VARLEN_MAX_Q, "Tq"}, {ATTN_SIZE_SK, VARLEN_MAX_K, "Tk"}};
	int64_t batch = sizes[ATTN_SIZE_B], total;

	for (int i = 0; i < 2; i++) {
		int64_t length = sizes[rows[i].size];
		struct op_value *max = &c->params[rows[i].param];

		/* The starts are int32. */
		if (__builtin_mul_overflow(batch, length, &total) || total > INT32_MAX) {
			char found[64];

			snprintf(found, sizeof found, "%" PRId64 " x %" PRId64, batch, length);
			return err_param(e, ERR_INVALID_SHAPE, "seqlen", found, "at most 2147483647 rows",
					 "%" PRId64 " sequences of %" PRId64
					 " rows are more than 2147483647 rows, which cu_seqlens cannot count",
					 batch, length);
		}
		for (int k = 0; op_dim_name(&op_flash_attn_varlen_func, k); k++)
			if (!strcmp(op_dim_name(&op_flash_attn_varlen_func, k), rows[i].dim))
				c->dims[k] = total;
		if (!max->given)
			*max = (struct op_value){.given = true, .f = (double)length, .i = {length}};
	}
	return 0;
}

static bool
make_input(const struct op_call *c, int i, const int64_t *sizes)
{
	int32_t *cu = c->tensors[i].data;

	if (i != VARLEN_CU_Q && i != VARLEN_CU_K)
		return false;
	for (int64_t b = 0; b < c->tensors[i].shape[0]; b++)
		cu[b] = (int32_t)(b * sizes[i == VARLEN_CU_Q ? ATTN_SIZE_SQ : ATTN_SIZE_SK]);
	return true;
}

/* 0 where the starts have not arrived: the lengths are not known then. */
static double
flop(const struct op_call *c)
{
	struct attn_problem p;
	double pairs = 0;

	attn_problem_get(c, &p);
	if (!p.cu_q || !p.cu_k)
		return 0;
	for (int64_t b = 0; b < p.batch; b++) {
		struct attn_seq s;

		attn_seq_get(&p, b, &s);
		pairs += attn_pairs(s.len_q, s.len_k, p.left, p.right);
	}
	return 2.0 * (double)p.heads_q * (double)(p.dim + p.dim_v) * pairs;
}

const struct op op_flash_attn_varlen_func = {
	.name = "flash_attn_varlen_func",
	.summary = "Attention over sequences of different lengths, packed without padding.",
	.help = "AITER's flash_attn_varlen_func. The sequences' rows stand one after the other in q [Tq, heads, dim], "
		"k and v [Tk, heads, dim]; sequence b has the rows cu_seqlens_q[b] to cu_seqlens_q[b + 1] - 1 of q, "
		"and likewise cu_seqlens_k of k and v. Sequences may be empty. Heads, head dimensions, dtypes and "
		"masks are as in flash_attn_func; a row that sees no key gives zeros and a log-sum-exp of -inf.",
	.tensors = tensors,
	.dims = dims,
	.sizes = attn_sizes,
	.params = params,
	.refused = refused,
	.tolerances = attn_tolerances,
	.tolerance_source = attn_tolerance_source,
	.example = "curl -sS '@HOST@/v1/ops/flash_attn_varlen_func?causal=true&max_seqlen_q=512&max_seqlen_k=512' -F "
		   "q=@q.npy -F k=@k.npy -F v=@v.npy -F cu_seqlens_q=@cu_q.npy -F cu_seqlens_k=@cu_k.npy -o out.npy",
	.fp8_note = attn_fp8_note,
	.check = attn_check,
	.check_data = check_data,
	.size = size,
	.make_input = make_input,
	.flop = flop,
	.flop_help = "2 x Hq x (D + Dv) for each pair of a query and a key it sees; the softmax is not counted",
	.ref = attn_ref,
	.cpu = flash_attn_varlen_cpu,
	.naive = flash_attn_varlen_naive_cpu,
	.aiter = true,
};
