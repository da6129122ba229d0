/*
 * attn_cpu.c: attention forward on the CPU, for both attention operators: cuts the work into tasks, spreads
 * them over the threads, puts the parts together where keys were split. The inner loops are attn_cpu_body.h.
 *
 * How the work is cut depends on shapes only, never on the number of threads, so results don't either.
 */
#include "ops/attn_cpu_kernel.h"
#include "worker/compute.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TASKS_WANTED 32	     /* enough for many cores before query blocks grow, or keys stop being split */
#define SPLIT_KEYS_MIN 512   /* fewer keys than this aren't worth a task of their own */
#define ROW_FLOATS_MAX 68000 /* of a task's rows and outputs: with the keys they should fit a 1 MiB cache */
#define ROWS_MAX 528	     /* more would not make packing keys any cheaper to speak of */
#define ROWS_MIN 48

struct plan {
	struct attn_problem p;
	const struct attn_kernel *kernel;
	int64_t *first; /* [batch + 1]: number of the first unit of each sequence; a unit is a block of rows */
	int64_t group, block_rows, splits;
	int64_t dim_v;		      /* padded to whole vectors */
	struct attn_scratch *scratch; /* [threads] */
	float *partial;
};

static int64_t
min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
blocks_of(const struct plan *pl, const struct attn_seq *s)
{
	return (s->len_q * pl->group + pl->block_rows - 1) / pl->block_rows;
}

static int64_t
most_rows(const struct plan *pl)
{
	int64_t most = 1;

	for (int64_t b = 0; b < pl->p.batch; b++) {
		struct attn_seq s;

		attn_seq_get(&pl->p, b, &s);
		most = s.len_q > most ? s.len_q : most;
	}
	return most * pl->group;
}

/* Units for blocks of this many rows. */
static int64_t
count_units(struct plan *pl, int64_t block_rows, int64_t *longest)
{
	int64_t units = 0;

	pl->block_rows = block_rows;
	*longest = 0;
	for (int64_t b = 0; b < pl->p.batch; b++) {
		struct attn_seq s;

		attn_seq_get(&pl->p, b, &s);
		pl->first[b] = units;
		units += blocks_of(pl, &s) * pl->p.heads_k;
		if (s.len_q > 0 && s.len_k > *longest)
			*longest = s.len_k;
	}
	pl->first[pl->p.batch] = units;
	return units;
}

/* The rows of a unit. Heavier blocks (the last, when causal) come first, so that the end is not a long wait. */
static void
unit_task(const struct plan *pl, int64_t unit, struct attn_task *t)
{
	int64_t low = 0, high = pl->p.batch - 1, blocks, block, rows, each;

	while (low < high) { /* the last sequence that starts at or before the unit */
		int64_t mid = low + (high - low + 1) / 2;

		if (pl->first[mid] <= unit)
			low = mid;
		else
			high = mid - 1;
	}
	memset(t, 0, sizeof(*t));
	t->p = &pl->p;
	attn_seq_get(&pl->p, low, &t->seq);
	blocks = blocks_of(pl, &t->seq);
	unit -= pl->first[low];
	t->head_k = unit / blocks;
	block = blocks - 1 - unit % blocks;
	rows = t->seq.len_q * pl->group;
	each = attn_round_up((rows + blocks - 1) / blocks, ATTN_ROW_TILE);
	t->row = min64(block * each, rows);
	t->rows = min64(each, rows - t->row);
	t->key_end = t->seq.len_k;
}

static void
run_item(void *arg, int64_t item, int thread)
{
	const struct plan *pl = arg;
	struct attn_task t;

	unit_task(pl, item / pl->splits, &t);
	if (pl->splits > 1) {
		int64_t each = attn_round_up((t.seq.len_k + pl->splits - 1) / pl->splits, ATTN_KEY_BLOCK);

		t.key_begin = min64(each * (item % pl->splits), t.seq.len_k);
		t.key_end = min64(t.key_begin + each, t.seq.len_k);
		t.partial = pl->partial + item * pl->block_rows * (2 + pl->dim_v);
	}
	pl->kernel->task(&t, &pl->scratch[thread]);
}

/* Put the parts of a unit's rows together, in the order of their keys. */
static void
combine_item(void *arg, int64_t unit, int thread)
{
	const struct plan *pl = arg;
	int64_t width = 2 + pl->dim_v, stride = pl->block_rows * width;
	float *o = pl->scratch[thread].o, scale = attn_scale_get(&pl->p).base2;
	struct attn_task t;

	unit_task(pl, unit, &t);
	for (int64_t r = 0; r < t.rows; r++) {
		const float *part = pl->partial + unit * pl->splits * stride + r * width;
		float max = -INFINITY, sum = 0;

		for (int64_t s = 0; s < pl->splits; s++)
			max = part[s * stride] > max || isnan(part[s * stride]) ? part[s * stride] : max;
		memset(o, 0, (size_t)pl->dim_v * sizeof(*o));
		for (int64_t s = 0; s < pl->splits && max > -INFINITY; s++) {
			const float *from = part + s * stride;
			float by = exp2f((from[0] - max) * scale);

			sum += from[1] * by;
			for (int64_t i = 0; i < pl->dim_v; i++)
				o[i] += from[2 + i] * by;
		}
		pl->kernel->finish(&t, t.row + r, max, sum, 1.0F / sum, o);
	}
}

const struct attn_kernel *
attn_kernel_choose(void)
{
#if defined(__x86_64__)
	switch (cpu_isa()) {
	case CPU_AVX512:
		return &attn_kernel_avx512;
	case CPU_AVX2:
		return &attn_kernel_avx2;
	case CPU_SCALAR:
		break;
	}
#endif
	return &attn_kernel_scalar;
}

/* One thread's memory out of one allocation; each piece starts on a cache line. */
static int
carve_scratch(const struct plan *pl, int64_t keys, struct attn_scratch *s, struct compute *ctx, struct err *e)
{
	int64_t rows = pl->block_rows, lanes = pl->kernel->lanes, at[9];
	int64_t floats[8] = {
		rows * pl->p.dim + lanes, /* q: the last row's last vector may stick out */
		keys * pl->p.dim,
		keys * pl->dim_v,
		min64(attn_round_up(rows, ATTN_ROW_TILE), ATTN_GROUP_ROWS) * ATTN_KEY_BLOCK,
		rows * pl->dim_v,
		rows,
		rows * lanes,
		4 * rows,
	};
	float *base;

	at[0] = 0;
	for (int i = 0; i < 8; i++)
		at[i + 1] = at[i] + attn_round_up(floats[i], 16);
	base = compute_alloc(ctx, (size_t)at[8] * sizeof(float), e);
	if (base == NULL)
		return -1;
	s->q = base;
	s->k = base + at[1];
	s->v = base + at[2];
	s->s = base + at[3];
	s->o = base + at[4];
	s->max = base + at[5];
	s->sum = base + at[6];
	s->begin = (void *)(base + at[7]);
	s->end = s->begin + rows;
	return 0;
}

static int
run(const struct op_call *c, struct compute *ctx, struct err *e)
{
	struct plan pl = {.kernel = attn_kernel_choose()};
	int64_t units, longest, scratches, rows = ROWS_MAX;

	attn_problem_get(c, &pl.p);
	compute_variant(ctx, pl.kernel->name);
	if (pl.p.batch == 0)
		return 0;
	assert(pl.p.dim >= 1 && pl.p.dim <= ATTN_DIM_MAX && pl.p.dim_v >= 1 && pl.p.dim_v <= ATTN_DIM_MAX);
	pl.group = pl.p.heads_q / pl.p.heads_k;
	pl.dim_v = attn_round_up(pl.p.dim_v, pl.kernel->lanes);
	pl.first = compute_alloc(ctx, (size_t)(pl.p.batch + 1) * sizeof(*pl.first), e);
	if (pl.first == NULL)
		return -1;

	rows = min64(rows, ROW_FLOATS_MAX / (pl.p.dim + pl.p.dim_v) / ATTN_ROW_TILE * ATTN_ROW_TILE);
	rows = min64(rows, attn_round_up(most_rows(&pl), ATTN_ROW_TILE));
	units = count_units(&pl, rows, &longest);
	while (units < TASKS_WANTED && rows > 2 * ROWS_MIN) {
		rows = attn_round_up(rows / 2, ATTN_ROW_TILE);
		units = count_units(&pl, rows, &longest);
	}
	pl.splits = units == 0 ? 1 : min64((TASKS_WANTED + units - 1) / units, longest / SPLIT_KEYS_MIN);
	pl.splits = pl.splits < 1 ? 1 : pl.splits;

	scratches = units * pl.splits <= 1 ? 1 : compute_threads(ctx);
	pl.scratch = compute_alloc(ctx, (size_t)scratches * sizeof(*pl.scratch), e);
	if (pl.scratch == NULL)
		return -1;
	for (int64_t i = 0; i < scratches; i++) {
		if (carve_scratch(&pl, min64(ATTN_KEY_BLOCK, attn_round_up(longest, 64)), &pl.scratch[i], ctx, e) != 0)
			return -1;
	}
	if (pl.splits > 1) {
		pl.partial = compute_alloc(ctx, (size_t)(units * pl.splits * rows * (2 + pl.dim_v)) * sizeof(float), e);
		if (pl.partial == NULL)
			return -1;
	}
	compute_for(ctx, units * pl.splits, run_item, &pl);
	if (pl.splits > 1)
		compute_for(ctx, units, combine_item, &pl);
	return 0;
}

int
flash_attn_cpu(const struct op_call *c, struct compute *ctx, struct err *e)
{
	return run(c, ctx, e);
}

int
flash_attn_varlen_cpu(const struct op_call *c, struct compute *ctx, struct err *e)
{
	return run(c, ctx, e);
}
