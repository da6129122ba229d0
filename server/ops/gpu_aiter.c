/*
 * gpu_aiter.c: plans AITER's assembly attention: which code object, its argument block, its grid, and all the limits that the
 * kernels themselves do not check: outside of these they read and write other memory. Called by GPU workers.
 *
 * The argument block is AITER's fmha_fwd_v3_args: values in slots of 16 bytes, strides in bytes.
 */
#include "ops/gpu_aiter.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/aiter_table.h"

#define LIMIT INT64_C(0x100000000) /* offsets are 32 bits wide; a carry out of them is dropped */
#define GRID_YZ_MAX 65535
#define THREADS_MAX (INT64_C(1) << 40) /* in a launch; more would run for days */
#define SCALE_MAX 2e38f		       /* times log2(e) still a number */
#define LONG_QUERY 16384	       /* from there on AITER tunes differently */

/* Byte offsets of the slots. */
enum {
	A_O = 0,
	A_Q = 16,
	A_K = 32,
	A_V = 48,
	A_LSE = 64,
	A_SCALE = 80,
	A_SEQLEN_Q = 96,
	A_Q_SEQ = 112,
	A_Q_TILE = 128,
	A_Q_HEAD = 144,
	A_Q_BATCH = 160,
	A_GQA = 176,
	A_K_SEQ = 192,
	A_K_HEAD = 208,
	A_K_BATCH = 224,
	A_OPT = 240,
	A_WITH_LSE = 256,
	A_SEQLEN_K = 272,
	A_DIM = 288,
	A_DIM_V = 304,
	A_HEADS_Q = 320,
	A_V_SEQ = 336,
	A_V_HEAD = 352,
	A_V_BATCH = 368,
	A_O_SEQ = 384,
	A_O_HEAD = 400,
	A_O_BATCH = 416,
	A_CU_Q = 432,
	A_CU_K = 448,
	A_LSE_HEAD = 464,
	A_CU_Q_PADDED = 480,
	A_CU_K_PADDED = 496,
	A_SIZE = 656 /* fp8's scales follow; AITER always passes the whole */
};

static int
refuse(struct err *e, const char *why)
{
	return err_param(e, ERR_UNAVAILABLE_IMPL, "impl", "aiter", "own", "AITER has no kernel for this: %s", why);
}

static void
put32(struct launch *l, int at, int64_t v)
{
	uint32_t u = (uint32_t)v;

	assert(v >= 0 && v < LIMIT);
	memcpy(l->arg + at, &u, sizeof(u));
}

static void
put_pointer(struct launch *l, int at, const void *p)
{
	memcpy(l->arg + at, &p, sizeof(p));
}

/* 0: every key; 2: causal; -1: a window that AITER's assembly does not have. A single query sees all: as AITER has it. */
static int
mask_of(const struct attn_problem *p)
{
	if (p->left != -1 || p->right > 0)
		return -1;
	return p->right == -1 || p->seqlen_q == 1 ? 0 : 2;
}

static const struct aiter_row *
choose(const struct attn_problem *p, const struct aiter_table *t, struct err *e)
{
	const struct aiter_row *r;
	char why[240];

	if (!t) {
		refuse(e, "its code objects are not here; --aiter-dir names their folder");
		return NULL;
	}
	if (p->dtype != DT_BF16) {
		snprintf(why, sizeof(why), "its assembly attention takes bf16, not %s", dtype_info(p->dtype)->name);
		goto refused;
	}
	if (p->dim_v != 128 || (p->dim != 128 && p->dim != 192)) {
		snprintf(why, sizeof(why),
			 "its assembly attention takes head dimensions 128 and 192x128, not %" PRId64 "x%" PRId64,
			 p->dim, p->dim_v);
		goto refused;
	}
	if (mask_of(p) == -1) {
		snprintf(why, sizeof(why), "its assembly attention has no sliding window");
		goto refused;
	}
	if (t->n == 0) {
		snprintf(why, sizeof(why), "%.230s", t->problem);
		goto refused;
	}
	r = aiter_table_find(t, (int)p->dim, (int)p->dim_v, mask_of(p), p->cu_q != NULL, p->bf16_cvt);
	if (!r) {
		snprintf(why, sizeof(why), "its table has no row for how_v3_bf16_cvt=%d and this mask", p->bf16_cvt);
		goto refused;
	}
	if (!r->image) {
		snprintf(why, sizeof(why), "%s", r->why);
		goto refused;
	}
	return r;
refused:
	refuse(e, why);
	return NULL;
}

/* All that could leave 32 bits inside a kernel. */
static int
check(const struct attn_problem *p, const struct aiter_row *r, int64_t tokens_q, int64_t tokens_k, struct err *e)
{
	/* Where q has no rows, its heads may be more than 64 bits have room for. */
	int64_t token = p->q_stride.seq * 2, tile = token < LIMIT ? r->tile_q * token : token;
	const struct {
		const char *name;
		int64_t bytes;
	} tensors[] = {
		{"q", tokens_q * p->heads_q * p->dim * 2},   {"k", tokens_k * p->heads_k * p->dim * 2},
		{"v", tokens_k * p->heads_k * p->dim_v * 2}, {"out", tokens_q * p->heads_q * p->dim_v * 2},
		{"softmax_lse", tokens_q * p->heads_q * 4},  {"one tile of q", tile},
		{"one token of k", p->k_stride.seq * 2},     {"one token of v", p->v_stride.seq * 2},
	};
	float scale = (float)p->scale;
	char why[240];

	for (size_t i = 0; i < sizeof(tensors) / sizeof(*tensors); i++)
		if (tensors[i].bytes >= LIMIT) {
			snprintf(why, sizeof(why),
				 "its assembly attention addresses less than 4 GiB; %s takes %" PRId64 " bytes",
				 tensors[i].name, tensors[i].bytes);
			return refuse(e, why);
		}
	if (p->seqlen_q > INT32_MAX || p->seqlen_k > INT32_MAX)
		return refuse(e, "its assembly attention counts tokens in 31 bits");
	/* It looks for the largest score before it scales: with 0, denormals and negative scales NaN comes out. */
	if (!(scale >= 0x1p-126f && scale <= SCALE_MAX))
		return refuse(e, "its assembly attention wants a softmax_scale between 1.2e-38 and 2e38");
	return 0;
}

/* AITER's rule. 5 with a number of heads that 8 does not divide would read and write outside the tensors. */
static int
option(const struct attn_problem *p, int mask)
{
	if (p->dim == 192)
		return 0;
	return mask != 0 && (p->heads_q % 8 != 0 || p->seqlen_q > LONG_QUERY) ? 3 : 5;
}

/* The causal kernels of head dimension 128 handle two tiles, one from each end, in a workgroup. */
static int
set_grid(struct launch *l, const struct attn_problem *p, const struct aiter_row *r, struct err *e)
{
	int64_t tiles = (p->seqlen_q + r->tile_q - 1) / r->tile_q, grid[3];
	char why[200];

	if (r->mask != 0 && r->dim == 128)
		tiles = (tiles + 1) / 2;
	if (r->group) {
		grid[0] = p->heads_q;
		grid[1] = p->batch;
		grid[2] = tiles;
	} else if (r->dim == 192) {
		grid[0] = p->heads_q;
		grid[1] = tiles;
		grid[2] = p->batch;
	} else {
		grid[0] = tiles;
		grid[1] = p->heads_q;
		grid[2] = p->batch;
	}
	l->block[0] = r->dim == 192 ? 256 : 512;
	l->block[1] = l->block[2] = 1;
	if (grid[0] >= LIMIT / l->block[0] || grid[1] > GRID_YZ_MAX || grid[2] > GRID_YZ_MAX ||
	    grid[0] * grid[1] >= THREADS_MAX / l->block[0] || grid[0] * grid[1] * grid[2] >= THREADS_MAX / l->block[0]) {
		snprintf(why, sizeof(why), "it would need a grid of %" PRId64 " x %" PRId64 " x %" PRId64 " workgroups",
			 grid[0], grid[1], grid[2]);
		return refuse(e, why);
	}
	for (int i = 0; i < 3; i++)
		l->grid[i] = (uint32_t)grid[i];
	return 0;
}

static void
set_arguments(struct launch *l, const struct attn_problem *p, const struct aiter_row *r)
{
	float scale = (float)p->scale;

	l->arg_len = A_SIZE;
	put_pointer(l, A_O, p->out);
	put_pointer(l, A_Q, p->q);
	put_pointer(l, A_K, p->k);
	put_pointer(l, A_V, p->v);
	put_pointer(l, A_LSE, p->lse);
	memcpy(l->arg + A_SCALE, &scale, sizeof(scale));
	/* With variable length: the longest, from which the grid is made. One kernel counts its tiles down from there. */
	put32(l, A_SEQLEN_Q, p->seqlen_q);
	put32(l, A_Q_SEQ, p->q_stride.seq * 2);
	put32(l, A_Q_TILE, r->tile_q * p->q_stride.seq * 2);
	put32(l, A_Q_HEAD, p->q_stride.head * 2);
	put32(l, A_Q_BATCH, p->q_stride.batch * 2);
	put32(l, A_GQA, p->heads_q / p->heads_k);
	put32(l, A_K_SEQ, p->k_stride.seq * 2);
	put32(l, A_K_HEAD, p->k_stride.head * 2);
	put32(l, A_K_BATCH, p->k_stride.batch * 2);
	put32(l, A_OPT, option(p, r->mask));
	put32(l, A_WITH_LSE, p->lse != NULL);
	put32(l, A_SEQLEN_K, p->seqlen_k);
	put32(l, A_DIM, p->dim);
	put32(l, A_DIM_V, p->dim_v);
	put32(l, A_HEADS_Q, p->heads_q);
	put32(l, A_V_SEQ, p->v_stride.seq * 2);
	put32(l, A_V_HEAD, p->v_stride.head * 2);
	put32(l, A_V_BATCH, p->v_stride.batch * 2);
	put32(l, A_O_SEQ, p->out_stride.seq * 2);
	put32(l, A_O_HEAD, p->out_stride.head * 2);
	put32(l, A_O_BATCH, p->out_stride.batch * 2);
	put32(l, A_LSE_HEAD, p->lse ? p->lse_stride.head * 4 : 0);
	/* Where sequences begin in memory and how long they are: without padding between them the same. */
	put_pointer(l, A_CU_Q, p->cu_q);
	put_pointer(l, A_CU_K, p->cu_k);
	put_pointer(l, A_CU_Q_PADDED, p->cu_q);
	put_pointer(l, A_CU_K_PADDED, p->cu_k);
}

int
gpu_aiter_attn_plan(const struct attn_problem *p, int64_t tokens_q, int64_t tokens_k, const struct launch_device *d,
		    struct launch_plan *plan, struct err *e)
{
	const struct aiter_row *r = choose(p, d->aiter, e);
	struct launch *l = &plan->launch[0];

	memset(plan, 0, sizeof(*plan));
	if (!r)
		return -1;
	if (p->batch == 0 || p->seqlen_q == 0)
		return 0;
	if (check(p, r, tokens_q, tokens_k, e) == -1 || set_grid(l, p, r, e) == -1)
		return -1;
	l->object = r->object;
	l->image = r->image;
	memcpy(l->symbol, r->symbol, sizeof(l->symbol));
	set_arguments(l, p, r);
	plan->count = 1;
	return 0;
}
