/*
 * attn_cpu_kernel.h: between attn_cpu.c, which plans attention on the CPU, and the inner loops, which are one
 * source (attn_cpu_body.h) compiled once per instruction set. The plan cuts the work into tasks; a task is
 * one block of query rows of one key head, against one range of its keys.
 */
#ifndef AITERD_ATTN_CPU_KERNEL_H
#define AITERD_ATTN_CPU_KERNEL_H

#include <math.h>

#include "ops/flash_attn.h"

#define ATTN_ROW_TILE 6	   /* rows that go through the registers together */
#define ATTN_GROUP_ROWS 48 /* rows that use a packed block of keys in turn while it is near: a multiple of the tile */
#define ATTN_KEY_BLOCK 128 /* keys packed at a time: a multiple of every panel's width */
#define ATTN_LANES_MAX 16
#define ATTN_DIM_MAX 256 /* of dim and dim_v */

/* The query heads that share a key head are rows of one matrix: row r is position r / group, head r % group. */
struct attn_task {
	const struct attn_problem *p;
	struct attn_seq seq;
	int64_t head_k;
	int64_t row, rows;	    /* first row and how many */
	int64_t key_begin, key_end; /* all keys of the sequence unless they are split among tasks */
	float *partial;		    /* NULL: write outputs. Otherwise per row: maximum, sum, dim_v weighted sums */
};

/* One thread's memory: packed and converted operands, and the rows' running state. */
struct attn_scratch {
	float *q;	      /* [rows][dim], times the sign of the scale */
	float *k;	      /* [panels][dim][panel width]: transposed */
	float *v;	      /* [panels of columns][keys][panel width] */
	float *s;	      /* [group rows][key block]: scores, then weights */
	float *o;	      /* [rows][dim_v padded] */
	float *max;	      /* [rows], of the scores before scaling */
	float *sum;	      /* [rows][lanes] */
	int64_t *begin, *end; /* [rows]: visible keys */
};

struct attn_kernel {
	const char *name;
	int lanes;
	void (*task)(const struct attn_task *t, const struct attn_scratch *s);
	/* Make a row's output of its maximum, its weights' sum and the weighted sums (padded, overwritten) times
	 * `by`, which is 1 / sum unless they are divided already. */
	void (*finish)(const struct attn_task *t, int64_t row, float max, float sum, float by, float *o);

	/* The steps of the unfused baseline. convert: dst[] = src[] * by, zeros up to whole vectors. */
	void (*convert)(float *dst, const void *src, int64_t n, float by, enum dtype dt);
	/* c = a b, n a multiple of lanes. */
	void (*multiply)(int64_t m, int64_t n, int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb,
			 float *c, int64_t ldc);
	/* x[0..n) = softmax of x[begin..end) times the scale, 0 outside; tells their maximum and the sum. */
	void (*softmax)(float *x, int64_t n, int64_t begin, int64_t end, float scale, float *max, float *sum);
};

extern const struct attn_kernel attn_kernel_scalar, attn_kernel_avx2, attn_kernel_avx512;

/* The best that cpu_isa() allows. */
const struct attn_kernel *attn_kernel_choose(void);

/*
 * Scores stay unscaled until their maximum is subtracted, which is exact where it matters; then weights are
 * exp2((score - maximum) * scale). For that the scale is positive: its sign (or its being 0) goes into the queries.
 */
struct attn_scale {
	float query, base2;
};

static inline struct attn_scale
attn_scale_get(const struct attn_problem *p)
{
	float base2 = (float)(fabs(p->scale) * 1.44269504088896340736);

	if (!(base2 > 0))
		return (struct attn_scale){0.0F, 1.0F};
	return (struct attn_scale){p->scale < 0 ? -1.0F : 1.0F, base2};
}

static inline int64_t
attn_round_up(int64_t n, int64_t to)
{
	return (n + to - 1) / to * to;
}

#endif
