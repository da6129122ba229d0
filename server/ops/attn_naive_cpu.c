/*
 * attn_naive_cpu.c: attention the plain way, the baseline that the fused kernel is compared with: for each head
 * all scores as a matrix in memory, then the mask and softmax, then the product with the values. Each step is
 * vectorised and heads are spread over the threads; with OpenBLAS in the build the two products are its own.
 */
#include "ops/attn_cpu_kernel.h"
#include "worker/compute.h"

#include <math.h>
#include <string.h>
#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif

/* A score matrix larger than this is made in several goes of rows: still far too large for any cache. */
#define SCORES_BYTES ((int64_t)64 << 20)
#define ROWS_MIN 48

struct naive {
	struct attn_problem p;
	const struct attn_kernel *kernel;
	int64_t parts, rows;	  /* goes per head, rows in each at most */
	int64_t keys, dim, dim_v; /* rounded up to whole vectors */
	int64_t floats;		  /* memory per thread */
	float *memory;
};

static const void *
element(const struct attn_problem *p, const void *base, int64_t index)
{
	return (const char *)base + (size_t)index * (p->dtype == DT_FP32 ? 4 : 2);
}

/* Keys as one product wants them: as they are for OpenBLAS, [dim][keys] with zeros to whole vectors for ours. */
static void
load_keys(const struct naive *nv, const struct attn_task *t, float *k, int64_t keys, float *row)
{
	const struct attn_problem *p = &nv->p;

	for (int64_t j = 0; j < t->seq.len_k; j++) {
		int64_t at = t->seq.k + j * p->k_stride.seq + t->head_k * p->k_stride.head;

#ifdef HAVE_OPENBLAS
		(void)keys;
		(void)row;
		nv->kernel->convert(k + j * nv->dim, element(p, p->k, at), p->dim, 1.0F, p->dtype);
#else
		nv->kernel->convert(row, element(p, p->k, at), p->dim, 1.0F, p->dtype);
		for (int64_t d = 0; d < p->dim; d++)
			k[d * keys + j] = row[d];
#endif
	}
#ifndef HAVE_OPENBLAS
	for (int64_t j = t->seq.len_k; j < keys; j++) {
		for (int64_t d = 0; d < p->dim; d++)
			k[d * keys + j] = 0;
	}
#endif
}

/* s = q k^T, then o = s v. */
static void
multiply_scores(const struct naive *nv, int64_t rows, int64_t len_k, int64_t keys, const float *q, const float *k,
		float *s)
{
#ifdef HAVE_OPENBLAS
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)rows, (blasint)len_k, (blasint)nv->p.dim, 1.0F, q,
		    (blasint)nv->dim, k, (blasint)nv->dim, 0.0F, s, (blasint)keys);
#else
	(void)len_k;
	nv->kernel->multiply(rows, keys, nv->p.dim, q, nv->dim, k, keys, s, keys);
#endif
}

static void
multiply_values(const struct naive *nv, int64_t rows, int64_t len_k, int64_t keys, const float *s, const float *v,
		float *o)
{
#ifdef HAVE_OPENBLAS
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)rows, (blasint)nv->dim_v, (blasint)len_k, 1.0F,
		    s, (blasint)keys, v, (blasint)nv->dim_v, 0.0F, o, (blasint)nv->dim_v);
#else
	nv->kernel->multiply(rows, nv->dim_v, len_k, s, keys, v, nv->dim_v, o, nv->dim_v);
#endif
}

static void
run_item(void *arg, int64_t item, int thread)
{
	const struct naive *nv = arg;
	const struct attn_problem *p = &nv->p;
	int64_t part = item % nv->parts, head = item / nv->parts % p->heads_q, group = p->heads_q / p->heads_k;
	int64_t rows, row, keys;
	float *q = nv->memory + thread * nv->floats, *row_k, *k, *v, *s, *o, *stats;
	struct attn_scale scale = attn_scale_get(p);
	struct attn_task t = {.p = p, .head_k = head / group};

	attn_seq_get(p, item / nv->parts / p->heads_q, &t.seq);
	row = part * nv->rows;
	rows = t.seq.len_q - row < nv->rows ? t.seq.len_q - row : nv->rows;
	if (rows <= 0)
		return;
	keys = attn_round_up(t.seq.len_k, nv->kernel->lanes);
	row_k = q + nv->rows * nv->dim;
	k = row_k + nv->dim;
	v = k + nv->keys * nv->dim;
	s = v + nv->keys * nv->dim_v;
	o = s + nv->rows * nv->keys;
	stats = o + nv->rows * nv->dim_v;

	for (int64_t i = 0; i < rows; i++)
		nv->kernel->convert(q + i * nv->dim,
				    element(p, p->q, t.seq.q + (row + i) * p->q_stride.seq + head * p->q_stride.head),
				    p->dim, scale.query, p->dtype);
	load_keys(nv, &t, k, keys, row_k);
	for (int64_t j = 0; j < t.seq.len_k; j++)
		nv->kernel->convert(v + j * nv->dim_v,
				    element(p, p->v, t.seq.v + j * p->v_stride.seq + t.head_k * p->v_stride.head),
				    p->dim_v, 1.0F, p->dtype);

	multiply_scores(nv, rows, t.seq.len_k, keys, q, k, s);
	for (int64_t i = 0; i < rows; i++) {
		int64_t begin, end;

		attn_visible(p, t.seq.len_q, t.seq.len_k, row + i, &begin, &end);
		nv->kernel->softmax(s + i * keys, t.seq.len_k, begin, end, scale.base2, stats + 2 * i,
				    stats + 2 * i + 1);
	}
	multiply_values(nv, rows, t.seq.len_k, keys, s, v, o);
	for (int64_t i = 0; i < rows; i++)
		nv->kernel->finish(&t, (row + i) * group + head % group, stats[2 * i], stats[2 * i + 1], 1.0F,
				   o + i * nv->dim_v);
}

static int
run(const struct op_call *c, struct compute *ctx, struct err *e)
{
	struct naive nv = {.kernel = attn_kernel_choose()};
	int64_t most_q = 0, most_k = 0, heads, lanes = nv.kernel->lanes, threads = compute_threads(ctx);

	attn_problem_get(c, &nv.p);
#ifdef HAVE_OPENBLAS
	compute_variant(ctx, "openblas");
	openblas_set_num_threads(1); /* the threads are ours */
#else
	compute_variant(ctx, nv.kernel->name);
#endif
	if (nv.p.batch == 0)
		return 0;
	for (int64_t b = 0; b < nv.p.batch; b++) {
		struct attn_seq s;

		attn_seq_get(&nv.p, b, &s);
		if (s.len_q == 0)
			continue;
		most_q = s.len_q > most_q ? s.len_q : most_q;
		most_k = s.len_k > most_k ? s.len_k : most_k;
	}
	heads = nv.p.batch * nv.p.heads_q;
	nv.keys = attn_round_up(most_k, lanes);
	nv.dim = attn_round_up(nv.p.dim, lanes);
	nv.dim_v = attn_round_up(nv.p.dim_v, lanes);
	nv.rows = SCORES_BYTES / 4 / (nv.keys > 0 ? nv.keys : 1);
	if (heads < threads && nv.rows > (most_q * heads + threads - 1) / threads)
		nv.rows = (most_q * heads + threads - 1) / threads;
	nv.rows = nv.rows < ROWS_MIN ? ROWS_MIN : nv.rows > most_q ? most_q : nv.rows;
	if (most_q == 0)
		return 0;
	nv.parts = (most_q + nv.rows - 1) / nv.rows;
	nv.floats = attn_round_up(nv.rows * (nv.dim + nv.keys + nv.dim_v + 2) + nv.dim + nv.keys * (nv.dim + nv.dim_v),
				  16);
	nv.memory = compute_alloc(ctx, (size_t)(threads * nv.floats) * sizeof(float), e);
	if (nv.memory == NULL)
		return -1;
	compute_for(ctx, heads * nv.parts, run_item, &nv);
	return 0;
}

int
flash_attn_naive_cpu(const struct op_call *c, struct compute *ctx, struct err *e)
{
	return run(c, ctx, e);
}

int
flash_attn_varlen_naive_cpu(const struct op_call *c, struct compute *ctx, struct err *e)
{
	return run(c, ctx, e);
}
