/*
 * gpu_attn.c: plans fused attention on a GPU: which instance, how query heads are packed, into how many splits the keys are
 * divided, what must be padded first; and the unfused baseline. The kernels' side of the contract is kernels/attn.h and
 * kernels/attn_naive.h. Called by GPU workers.
 */
#include "ops/gpu_attn.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../kernels/attn_fp32.h"
#include "../kernels/attn_naive.h"
#include "ops/gpu_attn_sm90.h"

#define SPLITS_MAX 64
/* At least; fewer and the combining costs more than the waiting. */
#define TILES_PER_SPLIT 2
#define TILES_PER_SPLIT_SM90 4

/*
 * A kernel: padded dims, rows and keys of a tile, threads of a workgroup, dynamic shared memory; what a tile of rows costs beside
 * those of other instances (measured on an H200), if workgroups take tile after tile.
 */
struct instance {
	int dim, dim_v, rows, keys, threads, lds, cost;
};

#define X(dq, dv, waves, blocks, steps, buffers, per_simd)                                                             \
	{dq, dv, (waves)*ATTN_WAVE_ROWS, 32 * (blocks) * (steps), (waves)*64, 0, 0},
static const struct instance instances_16bit[] = {ATTN_INSTANCES_16BIT(X)};
static const struct instance instances_32bit[] = {ATTN_INSTANCES_32BIT(X)};
#undef X
#define X(dq, dv, groups, keys, stages, q_tiles, turns)                                                                \
	{dq,                                                                                                           \
	 dv,                                                                                                           \
	 64 * (groups),                                                                                                \
	 keys,                                                                                                         \
	 128 * ((groups) + 1),                                                                                         \
	 ATTN_SM90_SHARED(dq, dv, groups, keys, stages, q_tiles),                                                      \
	 (groups) == 3	 ? 100                                                                                         \
	 : (groups) == 2 ? 75                                                                                          \
			 : 54},
static const struct instance instances_sm90[] = {ATTN_SM90_INSTANCES(X)};
#undef X
#define X(dq, dv, waves, parts, keys, kept, together, groups)                                                          \
	{dq, dv, 16 * (parts) * (waves), keys, 32 * (waves), ATTN_TF32_SHARED(dq, dv, waves, parts, keys, kept), 0},
static const struct instance instances_tf32[] = {ATTN_TF32_INSTANCES(X)};
#undef X

struct kind {
	enum launch_family family;
	enum dtype dtype;
	const char *name, *object;
	const struct instance *instances;
	size_t count;
	bool persistent; /* workgroups take tile after tile */
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
static const struct kind kinds[] = {
	{LAUNCH_CDNA, DT_FP16, "fp16", "attn_fp16.co", instances_16bit, COUNT(instances_16bit), false},
	{LAUNCH_CDNA, DT_BF16, "bf16", "attn_bf16.co", instances_16bit, COUNT(instances_16bit), false},
	{LAUNCH_CDNA, DT_FP32, "fp32", "attn_fp32.co", instances_32bit, COUNT(instances_32bit), false},
	{LAUNCH_SM90, DT_FP16, "fp16", "attn_fp16.cubin", instances_sm90, COUNT(instances_sm90), true},
	{LAUNCH_SM90, DT_BF16, "bf16", "attn_bf16.cubin", instances_sm90, COUNT(instances_sm90), true},
	{LAUNCH_SM90, DT_FP32, "fp32", "attn_fp32.cubin", instances_tf32, COUNT(instances_tf32), false},
};

/* A plan in the making. */
struct planner {
	const struct attn_problem *p;
	const struct kind *kind;
	const struct instance *instance;
	struct launch_plan *plan;
	char *workspace;
	struct err *e;
	int64_t size; /* bytes of an element */
};

static int64_t
round_up(int64_t n, int64_t to)
{
	return (n + to - 1) / to * to;
}

/* `bytes` of the workspace; NULL while its address is not known. */
static void *
reserve(struct planner *b, int64_t bytes)
{
	size_t at = b->plan->workspace;

	b->plan->workspace += (size_t)round_up(bytes, 256);
	return b->workspace ? b->workspace + at : NULL;
}

static int
add(struct planner *b, const char *object, const char *symbol, const int64_t grid[3], int threads, int lds,
    const void *arg, size_t arg_len)
{
	struct launch *l = &b->plan->launch[b->plan->count];

	/* HIP counts threads in 32 bits, and y and z in 16. */
	if (grid[0] >= INT64_C(0x100000000) / threads || grid[1] > 65535 || grid[2] > 65535 ||
	    grid[0] * threads * grid[1] * grid[2] >= INT64_C(1) << 40)
		return err_set(b->e, ERR_TOO_LARGE,
			       "%s would need a grid of %" PRId64 " x %" PRId64 " x %" PRId64
			       " workgroups of %d, more than a launch can have",
			       symbol, grid[0], grid[1], grid[2], threads);
	assert(b->plan->count < LAUNCH_MAX && arg_len <= sizeof l->arg);
	memset(l, 0, sizeof *l);
	l->object = object;
	snprintf(l->symbol, sizeof l->symbol, "%s", symbol);
	for (int i = 0; i < 3; i++)
		l->grid[i] = (uint32_t)grid[i];
	l->block[0] = (uint32_t)threads;
	l->block[1] = l->block[2] = 1;
	l->lds = (uint32_t)lds;
	l->arg_len = (uint32_t)arg_len;
	memcpy(l->arg, arg, arg_len);
	b->plan->count++;
	return 0;
}

static const struct instance *
choose(const struct kind *k, int64_t dim, int64_t dim_v)
{
	for (size_t i = 0; i < k->count; i++)
		if (dim <= k->instances[i].dim && dim_v <= k->instances[i].dim_v)
			return &k->instances[i];
	return NULL;
}

/* The instance of the same dims with fewer waves, if there is one. */
static const struct instance *
smaller(const struct kind *k, const struct instance *i)
{
	const struct instance *next = i + 1;

	return next < k->instances + k->count && next->dim == i->dim && next->dim_v == i->dim_v ? next : i;
}

static struct attn_args_strides
strides(struct attn_strides s)
{
	return (struct attn_args_strides){.batch = s.batch, .seq = s.seq, .head = s.head};
}

/* All strides of a tensor of rows of `dim`, when the rows become `to` long. */
static struct attn_args_strides
stretch(struct attn_args_strides s, int64_t dim, int64_t to)
{
	return (struct attn_args_strides){
		.batch = s.batch / dim * to, .seq = s.seq / dim * to, .head = s.head / dim * to};
}

static int
pad(struct planner *b, const void *from, void *to, int64_t rows, int64_t dim, int64_t dim_to)
{
	struct attn_pad_args a;
	char symbol[LAUNCH_SYMBOL_MAX];

	memset(&a, 0, sizeof a);
	a.from = from;
	a.to = to;
	a.rows = rows;
	a.dim = (int32_t)dim;
	a.dim_to = (int32_t)dim_to;
	snprintf(symbol, sizeof symbol, "attn_pad_%s", b->kind->name);
	return add(b, b->kind->object, symbol, (int64_t[3]){(rows * dim_to + 255) / 256, 1, 1}, 256, 0, &a, sizeof a);
}

/* A tensor whose rows are not on 16-byte boundaries goes through the workspace, with longer rows. */
static int
pad_input(struct planner *b, const void **data, struct attn_args_strides *s, int64_t rows, int64_t dim, int64_t dim_to)
{
	void *to;

	if (dim == dim_to && (uintptr_t)*data % 16 == 0)
		return 0;
	to = reserve(b, rows * dim_to * b->size);
	if (rows > 0 && pad(b, *data, to, rows, dim, dim_to))
		return -1;
	*data = to;
	*s = stretch(*s, dim, dim_to);
	return 0;
}

/* Query heads handled as rows of one tile: as many as fit when a sequence has few tokens. */
static int64_t
choose_pack(const struct attn_problem *p, int64_t tile_rows)
{
	int64_t group = p->heads_q / p->heads_k, pack = 1;

	for (int64_t n = 2; n <= group; n++)
		if (group % n == 0 && n * p->seqlen_q <= tile_rows)
			pack = n;
	return pack;
}

/* Into how many splits the keys are divided so that every compute unit has work. */
static int64_t
choose_splits(const struct attn_problem *p, const struct launch_device *d, int64_t groups, int64_t tile_keys)
{
	int64_t tiles = (p->seqlen_k + tile_keys - 1) / tile_keys, splits = d->compute_units / groups;
	int64_t most = tiles / (d->family == LAUNCH_SM90 ? TILES_PER_SPLIT_SM90 : TILES_PER_SPLIT);

	splits = splits < most ? splits : most;
	return splits < 1 ? 1 : splits > SPLITS_MAX ? SPLITS_MAX : splits;
}

static void
set_scale(struct attn_args *a, double scale)
{
	double s = fabs(scale) * 1.4426950408889634;

	/* A scale of 0 makes all scores 0 but Inf and NaN: so does a very small one. */
	s = s < 0x1p-126 ? 0x1p-126 : s > 3.4e38 ? 3.4e38 : s;
	a->scale = (float)s;
	a->flags = scale < 0 ? ATTN_NEGATE : 0;
}

static int
check(const struct attn_problem *p, int64_t row_k, int64_t row_v, struct err *e)
{
	if (p->seqlen_q > ATTN_LENGTH_MAX || p->seqlen_k > ATTN_LENGTH_MAX || p->heads_q > ATTN_LENGTH_MAX ||
	    p->batch > ATTN_LENGTH_MAX)
		return err_set(
			e, ERR_TOO_LARGE,
			"the GPU kernels take lengths and numbers of heads up to %d; the longest query has %" PRId64
			" and the longest key %" PRId64 " tokens, q has %" PRId64 " heads",
			ATTN_LENGTH_MAX, p->seqlen_q, p->seqlen_k, p->heads_q);
	if (row_k > ATTN_STRIDE_MAX || row_v > ATTN_STRIDE_MAX)
		return err_set(e, ERR_TOO_LARGE,
			       "one token of k takes %" PRId64 " bytes and one of v %" PRId64
			       ": the GPU kernels take up to %d",
			       row_k, row_v, ATTN_STRIDE_MAX);
	return 0;
}

/* The kernels write rows of out on 16-byte boundaries. */
static bool
out_is_copied(const struct planner *b)
{
	return b->p->dim_v * b->size % 16 || (uintptr_t)b->p->out % 16;
}

/* What fused and unfused kernels have in common: tensors as they want them, through the workspace if need be. */
static int
prepare(struct planner *b, int64_t tokens_k, struct attn_args *a)
{
	const struct attn_problem *p = b->p;
	int64_t dim = round_up(p->dim, 16 / b->size), dim_v = round_up(p->dim_v, 16 / b->size);

	memset(a, 0, sizeof *a);
	a->rows = p->cu_q ? p->lse_stride.head * p->heads_q : p->batch * p->heads_q * p->seqlen_q;
	a->q = p->q;
	a->k = p->k;
	a->v = p->v;
	a->out = p->out;
	if (out_is_copied(b))
		a->out = reserve(b, a->rows * dim_v * b->size);
	a->lse = p->lse;
	a->cu_q = p->cu_q;
	a->cu_k = p->cu_k;
	a->q_stride = strides(p->q_stride);
	a->k_stride = strides(p->k_stride);
	a->v_stride = strides(p->v_stride);
	a->out_stride = stretch(strides(p->out_stride), p->dim_v, dim_v);
	a->lse_batch = p->cu_q ? 0 : p->heads_q * p->seqlen_q;
	a->lse_head = p->cu_q ? p->lse_stride.head : p->seqlen_q;
	a->batch = (int32_t)p->batch;
	a->heads_q = (int32_t)p->heads_q;
	a->heads_k = (int32_t)p->heads_k;
	a->dim = (int32_t)dim;
	a->dim_v = (int32_t)dim_v;
	a->seqlen_q = (int32_t)p->seqlen_q;
	a->seqlen_k = (int32_t)p->seqlen_k;
	a->left = (int32_t)p->left;
	a->right = (int32_t)p->right;
	if (pad_input(b, &a->q, &a->q_stride, a->rows, p->dim, dim) ||
	    pad_input(b, &a->k, &a->k_stride, tokens_k * p->heads_k, p->dim, dim) ||
	    pad_input(b, &a->v, &a->v_stride, tokens_k * p->heads_k, p->dim_v, dim_v))
		return -1;
	return check(p, a->k_stride.seq * b->size, a->v_stride.seq * b->size, b->e);
}

static int
copy_out(struct planner *b, const struct attn_args *a)
{
	return out_is_copied(b) ? pad(b, a->out, b->p->out, a->rows, a->dim_v, b->p->dim_v) : 0;
}

/* Workgroups of an instance's rows, before the keys are split. */
static int64_t
workgroups(const struct attn_problem *p, int64_t pack, const struct instance *i)
{
	return p->batch * (p->heads_q / pack) * ((p->seqlen_q * pack + i->rows - 1) / i->rows);
}

/* One with fewer rows if the first leaves compute units without work, or (Hopper) most of its rows empty. */
static void
choose_rows(struct planner *b, const struct launch_device *d, struct attn_args *a)
{
	const struct instance *less = smaller(b->kind, b->instance);

	a->pack = (int32_t)choose_pack(b->p, b->instance->rows);
	if (workgroups(b->p, a->pack, b->instance) >= d->compute_units &&
	    (d->family != LAUNCH_SM90 || b->p->seqlen_q * a->pack > less->rows))
		return;
	b->instance = less;
	a->pack = (int32_t)choose_pack(b->p, b->instance->rows);
}

/* Where workgroups take tile after tile: the one that is through first. */
static void
choose_rows_persistent(struct planner *b, const struct launch_device *d, struct attn_args *a)
{
	const struct instance *i = b->instance, *end = b->kind->instances + b->kind->count;
	int64_t best = INT64_MAX;

	for (; i < end && i->dim == b->instance->dim && i->dim_v == b->instance->dim_v; i++) {
		int64_t pack = choose_pack(b->p, i->rows);
		int64_t cost = (workgroups(b->p, pack, i) + d->compute_units - 1) / d->compute_units * i->cost;

		if (cost >= best)
			continue;
		best = cost;
		b->instance = i;
		a->pack = (int32_t)pack;
	}
}

static int
wave_of(const struct launch_device *d)
{
	return d->family == LAUNCH_SM90 ? 32 : 64;
}

static int
plan_fused(struct planner *b, int64_t tokens_k, const struct launch_device *d)
{
	const struct attn_problem *p = b->p;
	char symbol[LAUNCH_SYMBOL_MAX];
	struct attn_args a;
	int64_t grid[3];

	if (prepare(b, tokens_k, &a))
		return -1;
	if (b->kind->persistent)
		choose_rows_persistent(b, d, &a);
	else
		choose_rows(b, d, &a);
	a.groups = a.heads_q / a.heads_k / a.pack;
	set_scale(&a, p->scale);
	a.tiles = (int32_t)((p->seqlen_q * a.pack + b->instance->rows - 1) / b->instance->rows);
	a.splits = (int32_t)choose_splits(p, d, workgroups(p, a.pack, b->instance), b->instance->keys);
	if (a.splits > 1)
		a.partial = reserve(b, a.splits * a.rows * (a.dim_v + 2) * (int64_t)sizeof(float));

	grid[0] = p->batch * p->heads_k;
	grid[1] = a.groups * a.splits;
	grid[2] = a.tiles;
	if (b->kind->persistent && gpu_attn_sm90_grid(p, d->compute_units, &a, grid, b->e) == -1)
		return -1;
	if (b->kind->persistent)
		snprintf(symbol, sizeof symbol, "attn_fwd_%s_d%dx%d_g%d", b->kind->name, b->instance->dim,
			 b->instance->dim_v, b->instance->rows / 64);
	else
		snprintf(symbol, sizeof symbol, "attn_fwd_%s_d%dx%d_w%d", b->kind->name, b->instance->dim,
			 b->instance->dim_v, b->instance->threads / wave_of(d));
	b->plan->named = b->plan->count;
	if (add(b, b->kind->object, symbol, grid, b->instance->threads, b->instance->lds, &a, sizeof a))
		return -1;
	if (b->kind->persistent)
		gpu_attn_sm90_maps(p, tokens_k, &a, b->instance->rows, b->instance->keys,
				   &b->plan->launch[b->plan->count - 1]);
	if (a.splits > 1) {
		snprintf(symbol, sizeof symbol, "attn_combine_%s", b->kind->name);
		if (add(b, b->kind->object, symbol, (int64_t[3]){(a.rows + 3) / 4, 1, 1}, 4 * wave_of(d), 0, &a,
			sizeof a))
			return -1;
	}
	return copy_out(b, &a);
}

static int
plan_naive(struct planner *b, int64_t tokens_k, const struct launch_device *d)
{
	const char *object = d->family == LAUNCH_SM90 ? "attn_naive.cubin" : "attn_naive.co";
	static const char *const steps[] = {"scores", "softmax", "product"};
	const struct attn_problem *p = b->p;
	int64_t units = p->batch * p->heads_q, tiles_q = (p->seqlen_q + ATTN_NAIVE_TILE - 1) / ATTN_NAIVE_TILE;
	int64_t grids[3][3] = {{units, tiles_q, (p->seqlen_k + ATTN_NAIVE_TILE - 1) / ATTN_NAIVE_TILE},
			       {p->seqlen_q, p->heads_q, p->batch},
			       {units, tiles_q, (p->dim_v + ATTN_NAIVE_TILE - 1) / ATTN_NAIVE_TILE}};
	struct attn_naive_args n;

	memset(&n, 0, sizeof n);
	if (prepare(b, tokens_k, &n.a))
		return -1;
	n.width = round_up(p->seqlen_k, ATTN_NAIVE_ROUND);
	n.scale = (float)p->scale;
	if (n.width * 4 > ATTN_STRIDE_MAX || units * p->seqlen_q > INT64_MAX / 8 / (n.width + 1))
		return err_set(b->e, ERR_TOO_LARGE,
			       "the unfused kernels keep %" PRId64 " x %" PRId64 " x %" PRId64
			       " scores in memory, more than they can address",
			       units, p->seqlen_q, p->seqlen_k);
	n.scores = reserve(b, units * p->seqlen_q * n.width * 4);
	n.probabilities = reserve(b, units * p->seqlen_q * n.width * b->size);
	b->plan->named = b->plan->count;
	for (int i = 0; i < 3; i++) {
		char symbol[LAUNCH_SYMBOL_MAX];

		if (grids[i][2] == 0) /* not one key: there are no scores */
			continue;
		snprintf(symbol, sizeof symbol, "attn_%s_%s", steps[i], b->kind->name);
		if (add(b, object, symbol, grids[i], ATTN_NAIVE_THREADS, 0, &n, sizeof n))
			return -1;
	}
	return copy_out(b, &n.a);
}

static int
begin(struct planner *b, const struct attn_problem *p, const struct launch_device *d, void *workspace,
      struct launch_plan *plan, struct err *e)
{
	memset(plan, 0, sizeof *plan);
	memset(b, 0, sizeof *b);
	b->p = p;
	b->plan = plan;
	b->workspace = workspace;
	b->e = e;
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (kinds[i].dtype == p->dtype && kinds[i].family == d->family)
			b->kind = &kinds[i];
	if (!b->kind)
		return err_set(e, ERR_UNAVAILABLE_IMPL, "there is no GPU attention kernel for %s",
			       dtype_info(p->dtype)->name);
	b->size = dtype_info(p->dtype)->size;
	b->instance = choose(b->kind, p->dim, p->dim_v);
	if (!b->instance)
		return err_set(e, ERR_UNAVAILABLE_IMPL,
			       "the GPU attention kernels take head dimensions up to 256; q has %" PRId64 ", v %" PRId64,
			       p->dim, p->dim_v);
	return 0;
}

int
gpu_attn_plan(const struct attn_problem *p, int64_t tokens_k, const struct launch_device *d, void *workspace,
	      struct launch_plan *plan, struct err *e)
{
	struct planner b;

	if (begin(&b, p, d, workspace, plan, e))
		return -1;
	/* The longest query is 0 only where there is no row at all. */
	return p->batch == 0 || p->seqlen_q == 0 ? 0 : plan_fused(&b, tokens_k, d);
}

int
gpu_attn_naive_plan(const struct attn_problem *p, int64_t tokens_k, const struct launch_device *d, void *workspace,
		    struct launch_plan *plan, struct err *e)
{
	struct planner b;

	if (begin(&b, p, d, workspace, plan, e))
		return -1;
	return p->batch == 0 || p->seqlen_q == 0 ? 0 : plan_naive(&b, tokens_k, d);
}
