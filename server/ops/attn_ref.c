/*
 * attn_ref.c: attention in plain float64, the oracle of both attention operators. Every score, sum and product is
 * a double; a result is rounded once, when it is stored. Called by workers for impl=reference and for check.
 */
#include <math.h>
#include <string.h>

#include "clones.h"
#include "ops/flash_attn.h"
#include "worker/compute.h"

/* Query rows handled together, so that each key and value is converted to double once for all of them. */
#define ROWS 32
#define KEYS 64 /* converted at a time */
/* Of a product at a time, so that its sums stay in registers. */
#define TILE 4
#define SIDE 16

struct job {
	const struct attn_problem *p;
	struct tensor q, k, v, out, lse;
	int64_t longest;     /* keys of the longest sequence */
	int64_t *first_item; /* per sequence, and the total: which items (a head's ROWS queries each) are its */
	size_t scratch_each; /* doubles per thread */
	double *scratch;
};

struct block {
	const struct job *job;
	struct attn_seq s;
	int64_t head, first; /* query head; first row */
	int n;		     /* rows */
	double *q;	     /* [dim][ROWS] */
	double *out;	     /* [dim_v][ROWS] */
	double *some;	     /* KEYS keys or values */
	double *score;	     /* [longest, a multiple of TILE][ROWS] */
	int64_t begin[ROWS], end[ROWS];
	double sum[ROWS], lse[ROWS];
};

/*
 * out[c][r] += the sum over x < n of a[x][r] * b[x * step + c * column], for columns c < TILE and rows r < SIDE: all that
 * attention multiplies, both times.
 */
CLONES_FMA static void
product(double *restrict out, const double *restrict a, int64_t n, const double *restrict b, int64_t step,
	int64_t column)
{
	typedef double rows __attribute__((vector_size(SIDE / 2 * sizeof(double)), aligned(8)));
	rows sum[TILE][2];

	for (int c = 0; c < TILE; c++)
		memcpy(sum[c], out + c * ROWS, sizeof sum[c]);
	for (int64_t x = 0; x < n; x++) {
		const rows *ax = (const rows *)(const void *)(a + x * ROWS);
		rows low = ax[0], high = ax[1];

#pragma GCC unroll 4
		for (int c = 0; c < TILE; c++) {
			double bc = b[x * step + c * column];

			sum[c][0] += low * bc;
			sum[c][1] += high * bc;
		}
	}
	for (int c = 0; c < TILE; c++)
		memcpy(out + c * ROWS, sum[c], sizeof sum[c]);
}

/* Keys (or values) j to j + n - 1 of the block's sequence and head, [n][dim]. */
static void
load_some(const struct block *b, const struct tensor *t, int64_t at, const struct attn_strides *stride, int64_t j,
	  int n, int64_t dim)
{
	int64_t head_k = b->head / (b->job->p->heads_q / b->job->p->heads_k);

	for (int i = 0; i < n; i++)
		tensor_load(b->some + i * dim, t, at + (j + i) * stride->seq + head_k * stride->head, dim);
}

/* Scores of all keys that any row of the block sees. */
static void
scores(struct block *b, int64_t lo, int64_t hi)
{
	const struct attn_problem *p = b->job->p;

	memset(b->q, 0, (size_t)(ROWS * p->dim) * sizeof b->q[0]);
	for (int r = 0; r < b->n; r++) {
		tensor_load(b->some, &b->job->q, b->s.q + (b->first + r) * p->q_stride.seq + b->head * p->q_stride.head,
			    p->dim);
		for (int64_t d = 0; d < p->dim; d++)
			b->q[d * ROWS + r] = b->some[d];
	}
	for (int64_t j = lo; j < hi; j += KEYS) {
		int n = hi - j < KEYS ? (int)(hi - j) : KEYS;
		double *score = b->score + (j - lo) * ROWS;

		load_some(b, &b->job->k, b->s.k, &p->k_stride, j, n, p->dim);
		/* A whole number of tiles; what is too much is never looked at. */
		for (; n % TILE != 0; n++)
			memset(b->some + n * p->dim, 0, (size_t)p->dim * sizeof b->some[0]);
		memset(score, 0, (size_t)(n * ROWS) * sizeof score[0]);
		for (int i = 0; i < n; i += TILE)
			for (int r = 0; r < b->n; r += SIDE)
				product(score + i * ROWS + r, b->q + r, p->dim, b->some + i * p->dim, 1, p->dim);
		for (int i = 0; i < n * ROWS; i++)
			score[i] *= p->scale;
	}
}

static bool
sees(const struct block *b, int r, int64_t j)
{
	return j >= b->begin[r] && j < b->end[r];
}

/* Visible scores become exponentials, with their sum over each row beside them; the others become 0. */
static void
softmax(struct block *b, int64_t lo, int64_t hi)
{
	double max[ROWS];

	for (int r = 0; r < ROWS; r++) {
		max[r] = -INFINITY;
		b->sum[r] = 0;
	}
	for (int64_t j = lo; j < hi; j++)
		for (int r = 0; r < b->n; r++)
			if (b->score[(j - lo) * ROWS + r] > max[r] && sees(b, r, j))
				max[r] = b->score[(j - lo) * ROWS + r];
	for (int64_t j = lo; j < hi; j++)
		for (int r = 0; r < ROWS; r++) {
			double *score = &b->score[(j - lo) * ROWS + r];

			*score = r < b->n && sees(b, r, j) ? exp(*score - max[r]) : 0;
			b->sum[r] += *score;
		}
	for (int r = 0; r < b->n; r++)
		b->lse[r] = b->begin[r] == b->end[r] ? -INFINITY : max[r] + log(b->sum[r]);
}

/* A key that is not seen must not spoil a row with 0 * NaN: row by row, key by key. */
static void
weigh_special(struct block *b, int64_t lo, int64_t j, int n)
{
	int64_t dim = b->job->p->dim_v;

	for (int i = 0; i < n; i++)
		for (int r = 0; r < b->n; r++)
			for (int64_t d = 0; d < dim && sees(b, r, j + i); d++)
				b->out[d * ROWS + r] += b->score[(j + i - lo) * ROWS + r] * b->some[i * dim + d];
}

static void
weigh_values(struct block *b, int64_t lo, int64_t hi)
{
	const struct attn_problem *p = b->job->p;
	int64_t tiles = p->dim_v - p->dim_v % TILE;

	memset(b->out, 0, (size_t)(ROWS * p->dim_v) * sizeof b->out[0]);
	for (int64_t j = lo; j < hi; j += KEYS) {
		int n = hi - j < KEYS ? (int)(hi - j) : KEYS;
		const double *weight = b->score + (j - lo) * ROWS;
		double nothing = 0;

		load_some(b, &b->job->v, b->s.v, &p->v_stride, j, n, p->dim_v);
		for (int64_t i = 0; i < n * p->dim_v; i++)
			nothing += b->some[i] * 0; /* NaN for NaN and infinities */
		if (nothing != 0) {
			weigh_special(b, lo, j, n);
			continue;
		}
		for (int64_t d = 0; d < tiles; d += TILE)
			for (int r = 0; r < b->n; r += SIDE)
				product(b->out + d * ROWS + r, weight + r, n, b->some + d, p->dim_v, 1);
		for (int64_t d = tiles; d < p->dim_v; d++)
			for (int i = 0; i < n; i++)
				for (int r = 0; r < b->n; r++)
					b->out[d * ROWS + r] += weight[i * ROWS + r] * b->some[i * p->dim_v + d];
	}
}

static void
store(const struct block *b)
{
	const struct attn_problem *p = b->job->p;

	for (int r = 0; r < b->n; r++) {
		int64_t i = b->first + r;
		int64_t at = b->s.out + i * p->out_stride.seq + b->head * p->out_stride.head;

		/* A row that sees nothing is 0. */
		for (int64_t d = 0; d < p->dim_v; d++)
			tensor_put(&b->job->out, at + d,
				   b->begin[r] == b->end[r] ? 0 : b->out[d * ROWS + r] / b->sum[r]);
		if (b->job->lse.dtype != DT_NONE)
			tensor_put(&b->job->lse, b->s.lse + i * p->lse_stride.seq + b->head * p->lse_stride.head,
				   b->lse[r]);
	}
}

/* The sequence an item belongs to. */
static int64_t
find_seq(const struct job *job, int64_t item)
{
	int64_t lo = 0, hi = job->p->batch;

	while (hi - lo > 1) {
		int64_t mid = lo + (hi - lo) / 2;

		if (job->first_item[mid] <= item)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static void
run_block(void *arg, int64_t item, int thread)
{
	const struct job *job = arg;
	const struct attn_problem *p = job->p;
	int64_t seq = find_seq(job, item), lo = INT64_MAX, hi = 0;
	struct block b;

	memset(&b, 0, sizeof b);
	b.job = job;
	attn_seq_get(p, seq, &b.s);
	item -= job->first_item[seq];
	b.head = item % p->heads_q;
	b.first = item / p->heads_q * ROWS;
	b.n = b.s.len_q - b.first < ROWS ? (int)(b.s.len_q - b.first) : ROWS;
	b.q = job->scratch + (size_t)thread * job->scratch_each;
	b.out = b.q + p->dim * ROWS;
	b.some = b.out + p->dim_v * ROWS;
	b.score = b.some + KEYS * (p->dim > p->dim_v ? p->dim : p->dim_v);
	for (int r = 0; r < b.n; r++) {
		attn_visible(p, b.s.len_q, b.s.len_k, b.first + r, &b.begin[r], &b.end[r]);
		lo = b.begin[r] < lo ? b.begin[r] : lo;
		hi = b.end[r] > hi ? b.end[r] : hi;
	}
	scores(&b, lo, hi);
	softmax(&b, lo, hi);
	weigh_values(&b, lo, hi);
	store(&b);
}

int
attn_ref(const struct op_call *c, struct compute *ctx, struct err *e)
{
	bool dense = op_get(c->op) == &op_flash_attn_func;
	struct attn_problem p;
	struct job job;
	int64_t items = 0;

	compute_variant(ctx, "float64");
	attn_problem_get(c, &p);
	memset(&job, 0, sizeof job);
	job.p = &p;
	job.q = c->tensors[dense ? ATTN_Q : VARLEN_Q];
	job.k = c->tensors[dense ? ATTN_K : VARLEN_K];
	job.v = c->tensors[dense ? ATTN_V : VARLEN_V];
	job.out = c->tensors[dense ? ATTN_OUT : VARLEN_OUT];
	job.lse = c->tensors[dense ? ATTN_LSE : VARLEN_LSE];
	job.first_item = compute_alloc(ctx, (size_t)(p.batch + 1) * sizeof job.first_item[0], e);
	if (!job.first_item)
		return -1;
	for (int64_t i = 0; i < p.batch; i++) {
		struct attn_seq s;

		attn_seq_get(&p, i, &s);
		job.longest = s.len_k > job.longest ? s.len_k : job.longest;
		job.first_item[i] = items;
		items += (s.len_q + ROWS - 1) / ROWS * p.heads_q;
	}
	job.first_item[p.batch] = items;
	job.scratch_each = (size_t)(ROWS * (p.dim + p.dim_v + (job.longest + TILE - 1) / TILE * TILE) +
				    KEYS * (p.dim > p.dim_v ? p.dim : p.dim_v));
	job.scratch = compute_alloc(ctx, (size_t)compute_threads(ctx) * job.scratch_each * sizeof(double), e);
	if (!job.scratch)
		return -1;
	compute_for(ctx, items, run_block, &job);
	return 0;
}
