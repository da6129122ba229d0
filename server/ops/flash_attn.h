/*
 * flash_attn.h: what both attention operators share. A call is turned into one `attn_problem`, the same
 * for the dense and the variable-length operator and for either layout, and everything that computes or
 * plans attention (reference, fast CPU, naive CPU, GPU planners) reads that instead of the call.
 */
#ifndef AITERD_FLASH_ATTN_H
#define AITERD_FLASH_ATTN_H

#include "ops/op.h"

/* Tensors and parameters by their place in the operator's tables. */
enum { ATTN_Q, ATTN_K, ATTN_V, ATTN_OUT, ATTN_LSE };					 /* flash_attn_func */
enum { VARLEN_Q, VARLEN_K, VARLEN_V, VARLEN_CU_Q, VARLEN_CU_K, VARLEN_OUT, VARLEN_LSE }; /* ..._varlen_func */
enum { ATTN_CAUSAL, ATTN_SCALE, ATTN_WINDOW, ATTN_RETURN_LSE, ATTN_BF16_CVT, ATTN_SHARED_PARAMS };
enum { ATTN_LAYOUT = ATTN_SHARED_PARAMS };		  /* flash_attn_func */
enum { VARLEN_MAX_Q = ATTN_SHARED_PARAMS, VARLEN_MAX_K }; /* ..._varlen_func */
enum { ATTN_BSHD, ATTN_BHSD };				  /* values of layout */

/* In elements. The last dimension is always dense. Variable length: batch is 0, see attn_seq_get(). */
struct attn_strides {
	int64_t batch, seq, head;
};

struct attn_problem {
	enum dtype dtype; /* of q, k, v and out */
	/* 0 when there is not one row of output (then heads and lengths mean nothing either): no work. */
	int64_t batch;
	/* heads_q is a multiple of heads_k; query head h reads key/value head h / (heads_q / heads_k). */
	int64_t heads_q, heads_k;
	int64_t dim, dim_v;	    /* of q and k; of v and out */
	int64_t seqlen_q, seqlen_k; /* dense: every sequence's; variable length: max_seqlen_q, max_seqlen_k */
	const int32_t *cu_q, *cu_k; /* variable length: batch + 1 starts; NULL: dense */
	const void *q, *k, *v;
	void *out;
	float *lse; /* natural logarithm; NULL: not asked for */
	struct attn_strides q_stride, k_stride, v_stride, out_stride, lse_stride;
	double scale;	     /* what scores are multiplied by; any finite value, 0 and negative ones too */
	bool causal;	     /* as asked for; already contained in right */
	int64_t left, right; /* window around the aligned diagonal, -1: no limit; causal has made right 0 */
	int bf16_cvt;	     /* how_v3_bf16_cvt, only of interest to AITER's assembly kernels */
};

/* One sequence of the batch: its lengths, and where its first row lies, in elements. */
struct attn_seq {
	int64_t len_q, len_k;
	int64_t q, k, v, out, lse;
};

/* `c` is bound (op_bind) and of one of the two operators; pointers are NULL where data is. */
void attn_problem_get(const struct op_call *c, struct attn_problem *p);

/* Sequence b, 0 <= b < p->batch; reads cu_seqlens when there are any. */
void attn_seq_get(const struct attn_problem *p, int64_t b, struct attn_seq *s);

/*
 * The keys that query row i of a sequence sees: [*begin, *end), empty when *begin == *end. Row i is
 * aligned with key i + len_k - len_q, so the last query sees the last key (bottom-right alignment).
 */
static inline void
attn_visible(const struct attn_problem *p, int64_t len_q, int64_t len_k, int64_t i, int64_t *begin, int64_t *end)
{
	int64_t diagonal = i + len_k - len_q;
	int64_t lo = p->left < 0 ? 0 : diagonal - p->left;
	int64_t hi = p->right < 0 ? len_k : diagonal + p->right + 1;

	lo = lo < 0 ? 0 : lo > len_k ? len_k : lo;
	hi = hi < lo ? lo : hi > len_k ? len_k : hi;
	*begin = lo;
	*end = hi;
}

/* How many (query, key) pairs of one sequence and head are visible; exact below 2^53, closed form. */
double attn_pairs(int64_t len_q, int64_t len_k, int64_t left, int64_t right);

/* clang-format off */
/* Shared rows of the two operators' tables; the texts are in flash_attn.c. */
#define ATTN_PARAM_ROWS                                                                                                \
	[ATTN_CAUSAL] = {.name = "causal", .type = OP_BOOL, .fallback = "false", .help = attn_help_causal},            \
	[ATTN_SCALE] = {.name = "softmax_scale", .type = OP_FLOAT, .min = -3.0e38, .max = 3.0e38,                      \
			.help = attn_help_scale},                                                                      \
	[ATTN_WINDOW] = {.name = "window_size", .type = OP_INTS, .fallback = "-1,-1", .min = -1, .max = 2147483647,    \
			 .help = attn_help_window},                                                                    \
	[ATTN_RETURN_LSE] = {.name = "return_lse", .type = OP_BOOL, .fallback = "false", .help = attn_help_lse},       \
	[ATTN_BF16_CVT] = {.name = "how_v3_bf16_cvt", .type = OP_INT, .fallback = "1", .min = 0, .max = 2,             \
			   .help = attn_help_cvt}

/* Lengths of inputs to be made, in both operators' order; the defaults are the tutorial's. */
enum { ATTN_SIZE_B, ATTN_SIZE_SQ, ATTN_SIZE_HQ, ATTN_SIZE_D, ATTN_SIZE_SK, ATTN_SIZE_HK, ATTN_SIZE_DV };
extern const struct op_size attn_sizes[];

/* AITER's parameters that neither operator offers. */
#define ATTN_REFUSED_ROWS                                                                                              \
	{"dropout_p", "0", "there is no dropout in inference"},                                                        \
	{"bias", "None", "an additive bias is not offered"},                                                           \
	{"alibi_slopes", "None", "ALiBi is not offered"},                                                              \
	{"deterministic", "true|false|1|0", "it only concerns the backward pass"},                                     \
	{"return_attn_probs", "false|0", "the probabilities are never stored; return_lse is offered"},                 \
	{"sink_ptr", "None", "attention sinks are not offered"},                                                       \
	{"sink", "None", "attention sinks are not offered"},                                                           \
	{"logits_soft_cap", "0|None", "a soft cap on the scores is not offered"},                                      \
	{"softcap", "0|None", "a soft cap on the scores is not offered"}
/* clang-format on */

extern const struct op op_flash_attn_func, op_flash_attn_varlen_func;
extern const char attn_fp8_note[];
extern const char attn_help_causal[], attn_help_scale[], attn_help_window[], attn_help_lse[], attn_help_cvt[];
extern const char attn_tolerance_source[];
extern const struct op_tolerance attn_tolerances[];

/* Head counts, window and what else both operators refuse alike. */
int attn_check(struct op_call *c, struct err *e);

/* float64 reference for both (attn_ref.c). out and softmax_lse may also be described as fp64: then unrounded. */
int attn_ref(const struct op_call *c, struct compute *ctx, struct err *e);

/* Fast and unfused CPU implementations. */
int flash_attn_cpu(const struct op_call *c, struct compute *ctx, struct err *e);
int flash_attn_naive_cpu(const struct op_call *c, struct compute *ctx, struct err *e);
int flash_attn_varlen_cpu(const struct op_call *c, struct compute *ctx, struct err *e);
int flash_attn_varlen_naive_cpu(const struct op_call *c, struct compute *ctx, struct err *e);

#endif
