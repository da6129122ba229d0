/*
 * flash_attn.c: the operator flash_attn_func, and what it shares with flash_attn_varlen_func: parameters, checks, the
 * parsed problem. Read by the front (validation) and by workers; owns nothing.
 */
#include "ops/flash_attn.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char attn_help_causal[] =
	"Each query sees only keys up to its own place. Aligned at the end: of Sq queries and Sk keys, query i sees "
	"key j if j <= i + Sk - Sq. A query that sees no key gives zeros.";
const char attn_help_scale[] = "Factor on the scores before the softmax; not given: 1 / sqrt(D).";
const char attn_help_window[] =
	"[left, right]: query i sees the keys from i + Sk - Sq - left to i + Sk - Sq + right; -1: no limit. AITER's "
	"third number, sink, is accepted as 0. With causal, right is 0.";
const char attn_help_lse[] =
	"Also return softmax_lse, the natural logarithm of each row's sum of exponentials, fp32; -inf where a row "
	"sees no key.";
const char attn_help_cvt[] =
	"How AITER's assembly kernels round probabilities to bf16 (0: to nearest even, 1: to nearest, ties away, 2: "
	"truncate); nothing else looks at it.";

const char attn_fp8_note[] =
	"AITER takes fp8 only through flash_attn_fp8_pertensor_func and its variable-length kin, which are not offered";

/*
 * Against float64, for atol and rtol alike: two units in the last place of 1, one for rounding the probabilities before they
 * meet v, as fast kernels do, and one for the result. AITER's C++ benchmark takes 1e-3 for fp16 and 1e-2 for bf16 against an
 * fp32 reference that rounds its probabilities alike; its test_mha.py takes 1e-2, or twice what a low-precision reference is
 * off. fp32: 2e-5 would fail a correct kernel that sums key by key.
 */
const char attn_tolerance_source[] =
	"Two units in the last place of 1 (fp16: 2 * 2^-10, bf16: 2 * 2^-7): one for probabilities rounded before the "
	"product with v, one for the result; fp32: what summing key by key needs. For comparison, AITER's own tests take "
	"1e-3 (fp16) and 1e-2 (bf16) in its C++ benchmark, 1e-2 in test_mha.py, against references rounded like the "
	"kernel. softmax_lse is fp32 whatever the inputs are.";
const struct op_tolerance attn_tolerances[] = {
	{DT_FP32, 1e-4, 1e-4},
	{DT_FP16, 2e-3, 2e-3},
	{DT_BF16, 1.6e-2, 1.6e-2},
	{DT_NONE, 0, 0},
};

static const struct op_tensor tensors[] = {
	[ATTN_Q] = {.name = "q",
		    .role = OP_IN,
		    .dtypes = "fp32|fp16|bf16",
		    .shape = "B Sq Hq D",
		    .shape_alt = "B Hq Sq D",
		    .aliases = "query",
		    .help = "queries"},
	[ATTN_K] = {.name = "k",
		    .role = OP_IN,
		    .dtypes = "=q",
		    .shape = "B Sk Hk D",
		    .shape_alt = "B Hk Sk D",
		    .aliases = "key",
		    .help = "keys"},
	[ATTN_V] = {.name = "v",
		    .role = OP_IN,
		    .dtypes = "=q",
		    .shape = "B Sk Hk Dv",
		    .shape_alt = "B Hk Sk Dv",
		    .aliases = "value",
		    .help = "values; their head dimension may differ from the keys'"},
	[ATTN_OUT] = {.name = "out",
		      .role = OP_OUT,
		      .dtypes = "=q",
		      .shape = "B Sq Hq Dv",
		      .shape_alt = "B Hq Sq Dv",
		      .help = "softmax(scale q k^T) v"},
	[ATTN_LSE] = {.name = "softmax_lse",
		      .role = OP_OUT,
		      .dtypes = "fp32",
		      .shape = "B Hq Sq",
		      .help = "log-sum-exp of each row's scores, natural logarithm",
		      .optional = true,
		      .asked = "return_lse"},
	{.name = NULL},
};

static const struct op_dim_info dims[] = {
	{"B", "batch size", 1, 0},
	{"Sq", "query length", 0, 0},
	{"Hq", "number of query heads", 1, 0},
	{"D", "head dimension", 8, 256},
	{"Sk", "key/value length", 0, 0},
	{"Hk", "number of key/value heads", 1, 0},
	{"Dv", "head dimension of v", 8, 256},
	{NULL, NULL, 0, 0},
};

const struct op_size attn_sizes[] = {
	[ATTN_SIZE_B] = {"B", "batch|batch_size", "batch size, the number of sequences", NULL, 2},
	[ATTN_SIZE_SQ] = {"Sq", "seqlen|seq_len|seqlen_q", "length of each sequence, queries and keys alike", NULL, 512},
	[ATTN_SIZE_HQ] = {"Hq", "heads|num_heads|heads_q", "number of heads, of queries and of keys and values alike",
			  NULL, 8},
	[ATTN_SIZE_D] = {"D", "head_dim", "head dimension, of v too", NULL, 64},
	[ATTN_SIZE_SK] = {"Sk", "Skv|seqlen_k|seqlen_kv", "length of each sequence of keys and values", "Sq", 0},
	[ATTN_SIZE_HK] = {"Hk", "Hkv|heads_k|heads_kv|kv_heads", "number of key/value heads", "Hq", 0},
	[ATTN_SIZE_DV] = {"Dv", "head_dim_v", "head dimension of v", "D", 0},
	{NULL, NULL, NULL, NULL, 0},
};

static const struct op_param params[] = {
	ATTN_PARAM_ROWS,
	[ATTN_LAYOUT] =
		{.name = "layout",
		 .type = OP_ENUM,
		 .fallback = "bshd",
		 .choices = "bshd|bhsd",
		 .unclear = "BHSD",
		 .unclear_help = "AITER's tutorial writes BHSD for [batch, sequence, heads, dim], which is layout=bshd "
				 "here, the default; for [batch, heads, sequence, dim] give layout=bhsd",
		 .help = "bshd: [batch, sequence, heads, dim], as AITER has it (its tutorial writes BHSD and means "
			 "this); bhsd: [batch, heads, sequence, dim], as PyTorch's scaled_dot_product_attention."},
	{.name = NULL},
};

static const struct op_refused refused[] = {
	ATTN_REFUSED_ROWS,
	{"cu_seqlens_q", "None", "sequences of different lengths are flash_attn_varlen_func's"},
	{"cu_seqlens_kv", "None", "sequences of different lengths are flash_attn_varlen_func's"},
	{"num_splits", "0", "how the work is split is the implementation's choice"},
	{NULL, NULL, NULL},
};

/* q's sequence is as long as k has heads, and the reverse: one of them has the other layout. Never so for varlen. */
static bool
is_crossed(const struct op_call *c)
{
	int64_t sq = op_dim(c, "Sq"), hq = op_dim(c, "Hq");

	return sq == op_dim(c, "Hk") && hq == op_dim(c, "Sk") && sq != hq;
}

int
attn_check(struct op_call *c, struct err *e)
{
	int64_t hq = op_dim(c, "Hq"), hk = op_dim(c, "Hk");
	const struct op_value *w = &c->params[ATTN_WINDOW];

	if (hq % hk) {
		char found[64];

		snprintf(found, sizeof found, "%" PRId64 " heads", hk);
		return err_input(e, ERR_INVALID_SHAPE, "k", found, "a divisor of q's number of heads",
				 "q has %" PRId64 " heads, k and v have %" PRId64
				 ": the number of heads in key/value must divide the number in query%s",
				 hq, hk, is_crossed(c) ? ". It looks as if q and k had different layouts" : "");
	}
	if (w->n < 2 || w->n > 3) {
		char found[32];

		snprintf(found, sizeof found, "%d number%s", w->n, w->n == 1 ? "" : "s");
		return err_param(e, ERR_INVALID_PARAMETER, "window_size", found, "[left, right]",
				 "window_size has %d number%s, wanted two: [left, right], -1 for no limit", w->n,
				 w->n == 1 ? "" : "s");
	}
	if (w->n == 3 && w->i[2] != 0) {
		char found[32];

		snprintf(found, sizeof found, "%" PRId64, w->i[2]);
		return err_param(e, ERR_UNSUPPORTED_PARAMETER, "window_size", found, "0",
				 "window_size's third number, the attention sink, is %" PRId64 ": only 0 is offered",
				 w->i[2]);
	}
	return 0;
}

/* Any limit that no key can exceed is no limit; this also keeps later arithmetic far from overflow. */
static int64_t
limit(int64_t w, int64_t longest)
{
	return w < 0 || w >= longest ? -1 : w;
}

static void
get_shared(const struct op_call *c, struct attn_problem *p)
{
	const struct op_value *scale = &c->params[ATTN_SCALE], *window = &c->params[ATTN_WINDOW];

	memset(p, 0, sizeof *p);
	p->dtype = (enum dtype)c->tensors[ATTN_Q].dtype;
	p->heads_q = op_dim(c, "Hq");
	p->heads_k = op_dim(c, "Hk");
	p->dim = op_dim(c, "D");
	p->dim_v = op_dim(c, "Dv");
	p->q = c->tensors[ATTN_Q].data;
	p->k = c->tensors[ATTN_K].data;
	p->v = c->tensors[ATTN_V].data;
	p->scale = scale->given ? scale->f : 1 / sqrt((double)p->dim);
	p->causal = c->params[ATTN_CAUSAL].i[0] != 0;
	p->left = window->i[0];
	p->right = p->causal ? 0 : window->i[1];
	p->bf16_cvt = (int)c->params[ATTN_BF16_CVT].i[0];
}

static struct attn_strides
strides(int64_t seqlen, int64_t heads, int64_t dim, bool bhsd)
{
	struct attn_strides s;

	s.batch = seqlen * heads * dim;
	s.seq = bhsd ? dim : heads * dim;
	s.head = bhsd ? seqlen * dim : dim;
	return s;
}

static void
get_dense(const struct op_call *c, struct attn_problem *p)
{
	bool bhsd = c->params[ATTN_LAYOUT].i[0] == ATTN_BHSD;

	p->seqlen_q = op_dim(c, "Sq");
	p->seqlen_k = op_dim(c, "Sk");
	p->out = c->tensors[ATTN_OUT].data;
	if (c->tensors[ATTN_LSE].dtype != DT_NONE)
		p->lse = c->tensors[ATTN_LSE].data;
	/* Empty tensors can have lengths without memory behind them: no strides, no loops over those. */
	if (p->seqlen_q == 0)
		return;
	p->batch = op_dim(c, "B");
	p->q_stride = strides(p->seqlen_q, p->heads_q, p->dim, bhsd);
	p->k_stride = strides(p->seqlen_k, p->heads_k, p->dim, bhsd);
	p->v_stride = strides(p->seqlen_k, p->heads_k, p->dim_v, bhsd);
	p->out_stride = strides(p->seqlen_q, p->heads_q, p->dim_v, bhsd);
	p->lse_stride = strides(p->seqlen_q, p->heads_q, 1, true);
}

static void
get_varlen(const struct op_call *c, struct attn_problem *p)
{
	int64_t total_q = op_dim(c, "Tq");

	p->seqlen_q = c->params[VARLEN_MAX_Q].i[0];
	p->seqlen_k = c->params[VARLEN_MAX_K].i[0];
	p->cu_q = c->tensors[VARLEN_CU_Q].data;
	p->cu_k = c->tensors[VARLEN_CU_K].data;
	p->out = c->tensors[VARLEN_OUT].data;
	if (c->tensors[VARLEN_LSE].dtype != DT_NONE)
		p->lse = c->tensors[VARLEN_LSE].data;
	if (total_q == 0)
		return;
	p->batch = op_dim(c, "B");
	p->q_stride = strides(0, p->heads_q, p->dim, false);
	p->k_stride = strides(0, p->heads_k, p->dim, false);
	p->v_stride = strides(0, p->heads_k, p->dim_v, false);
	p->out_stride = strides(0, p->heads_q, p->dim_v, false);
	p->lse_stride = (struct attn_strides){.batch = 0, .seq = 1, .head = total_q};
}

void
attn_problem_get(const struct op_call *c, struct attn_problem *p)
{
	get_shared(c, p);
	if (op_get(c->op) == &op_flash_attn_func)
		get_dense(c, p);
	else
		get_varlen(c, p);
	/* Rows may lie beyond the keys by up to seqlen_q: a limit must reach over both. */
	p->left = limit(p->left, p->seqlen_q + p->seqlen_k);
	p->right = limit(p->right, p->seqlen_q + p->seqlen_k);
	if (p->causal)
		p->right = 0;
}

void
attn_seq_get(const struct attn_problem *p, int64_t b, struct attn_seq *s)
{
	int64_t q0 = 0, k0 = 0;

	assert(b >= 0 && b < p->batch);
	s->len_q = p->seqlen_q;
	s->len_k = p->seqlen_k;
	if (p->cu_q) {
		q0 = p->cu_q[b];
		k0 = p->cu_k[b];
		s->len_q = p->cu_q[b + 1] - q0;
		s->len_k = p->cu_k[b + 1] - k0;
	}
	s->q = b * p->q_stride.batch + q0 * p->q_stride.seq;
	s->k = b * p->k_stride.batch + k0 * p->k_stride.seq;
	s->v = b * p->v_stride.batch + k0 * p->v_stride.seq;
	s->out = b * p->out_stride.batch + q0 * p->out_stride.seq;
	s->lse = b * p->lse_stride.batch + q0 * p->lse_stride.seq;
}

/* The sum of min(max(t, 0), m) over all integers t < x. */
static double
clamped_sum(double x, double m)
{
	if (x <= 0)
		return 0;
	if (x <= m)
		return x * (x - 1) / 2;
	return m * (m - 1) / 2 + m * (x - m);
}

double
attn_pairs(int64_t len_q, int64_t len_k, int64_t left, int64_t right)
{
	double n = (double)len_q, m = (double)len_k, diagonal = m - n, ends = n * m, begins = 0;

	if (right >= 0) {
		double a = diagonal + (double)right + 1;

		ends = clamped_sum(a + n, m) - clamped_sum(a, m);
	}
	if (left >= 0) {
		double a = diagonal - (double)left;

		begins = clamped_sum(a + n, m) - clamped_sum(a, m);
	}
	return ends - begins;
}

static bool
plausible(const struct op_call *c)
{
	return op_dim(c, "Hk") <= op_dim(c, "Sk") && !is_crossed(c);
}

/* AITER's tiles are 128 long; what is left over costs a whole one. */
static void
hint_length(const char *which, int64_t length, void (*add)(void *cls, const char *text), void *cls)
{
	char text[160];

	if (length % 128 == 0 || length == 1) /* one query: decoding */
		return;
	snprintf(text, sizeof text,
		 "%s %" PRId64 " is not a multiple of 128: AITER's kernels are fastest on multiples of 128", which,
		 length);
	add(cls, text);
}

static void
hints(const struct op_call *c, void (*add)(void *cls, const char *text), void *cls)
{
	int64_t sq = op_dim(c, "Sq"), sk = op_dim(c, "Sk"), hk = op_dim(c, "Hk");
	bool bhsd = c->params[ATTN_LAYOUT].i[0] == ATTN_BHSD;
	char text[256];

	if (is_crossed(c)) {
		snprintf(text, sizeof text,
			 "q and k look as if they had different layouts: read as layout=%s, q has %" PRId64
			 " positions and %" PRId64 " heads, k and v have %" PRId64 " and %" PRId64,
			 bhsd ? "bhsd" : "bshd", sq, op_dim(c, "Hq"), sk, hk);
		add(cls, text);
	}
	if (hk > sk && hk >= 32 && op_other_layout_fits(&op_flash_attn_func, c)) {
		snprintf(text, sizeof text,
			 "the shapes were read as layout=%s: %" PRId64 " key/value heads, but only %" PRId64
			 " positions. If it is the other way round, give layout=%s",
			 bhsd ? "bhsd" : "bshd", hk, sk, bhsd ? "bshd" : "bhsd");
		add(cls, text);
	}
	if (sq == sk) {
		hint_length("sequence length", sq, add, cls);
		return;
	}
	hint_length("query length", sq, add, cls);
	hint_length("key/value length", sk, add, cls);
}

static double
flop(const struct op_call *c)
{
	struct attn_problem p;

	attn_problem_get(c, &p);
	return 2.0 * (double)p.batch * (double)p.heads_q * (double)(p.dim + p.dim_v) *
	       attn_pairs(p.seqlen_q, p.seqlen_k, p.left, p.right);
}

const struct op op_flash_attn_func = {
	.name = "flash_attn_func",
	.summary = "Attention over a batch of sequences of equal length: out = softmax(scale q k^T + mask) v.",
	.help = "AITER's flash_attn_func. q is [batch, sequence, heads, dim], as in AITER, whose tutorial calls the "
		"same shape BHSD; layout=bhsd takes [batch, heads, sequence, dim]. k and v may have fewer heads than "
		"q (grouped-query and multi-query attention) if their number divides q's, and another length; v and "
		"the output may have another head dimension. fp32, fp16 and bf16 all work (AITER itself refuses "
		"fp32). Masks are aligned at the end of the sequences; a row that sees no key gives zeros and a "
		"log-sum-exp of -inf.",
	.tensors = tensors,
	.dims = dims,
	.sizes = attn_sizes,
	.params = params,
	.refused = refused,
	.tolerances = attn_tolerances,
	.tolerance_source = attn_tolerance_source,
	.example = "curl -sS @HOST@/v1/ops/flash_attn_func?causal=true -F q=@q.npy -F k=@k.npy -F v=@v.npy -o out.npy",
	.layout = "layout",
	.fp8_note = attn_fp8_note,
	.check = attn_check,
	.plausible = plausible,
	.hints = hints,
	.flop = flop,
	.flop_help = "2 x Hq x (D + Dv) for each pair of a query and a key it sees; the softmax is not counted",
	.ref = attn_ref,
	.cpu = flash_attn_cpu,
	.naive = flash_attn_naive_cpu,
	.aiter = true,
};
