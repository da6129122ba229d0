/*
 * attn_ref.c: attention in plain float64, the oracle of both attention operators. Every score, sum and product is
 * a double; a result is rounded once, when it is stored. Called by workers for impl=reference and for check.
 */
#include <math.h>
#include <string.h>

#include "ops/flash_attn.h"
#include "worker/compute.h"

/* Query rows handled together, so that each key and value is converted to double once for all of them. */
#define ROWS 16

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
	double *out;	     /* [ROWS][dim_v] */
	double *row;	     /* one key or value */
	double *score;	     /* [longest][ROWS] */
	int64_t begin[ROWS], end[ROWS];
	double lse[ROWS];
};

/* Scores of all keys that any row of the block sees. */
static void
scores(struct block *b, int64_t lo, int64_t hi)
{
	const struct attn_problem *p = b->job->p;
	int64_t head_k = b->head / (p->heads_q / p->heads_k);

	for (int r = 0; r < ROWS; r++)
		for (int64_t d = 0; d < p->dim; d++)
			b->q[d * ROWS + r] = r < b->n ? tensor_get(&b->job->q,
								   b->s.q + (b->first + r) * p->q_stride.seq +
									   b->head * p->q_stride.head + d)
						      : 0;
	for (int64_t j = lo; j < hi; j++) {
		int64_t at = b->s.k + j * p->k_stride.seq + head_k * p->k_stride.head;
		double sum[ROWS] = {0};

		for (int64_t d = 0; d < p->dim; d++) {
			double kd = tensor_get(&b->job->k, at + d);

			for (int r = 0; r < ROWS; r++)
				sum[r] += b->q[d * ROWS + r] * kd;
		}
		for (int r = 0; r < ROWS; r++)
			b->score[(j - lo) * ROWS + r] = sum[r] * p->scale;
	}
}

/* Row r's visible scores become probabilities; the others stay what they are, nobody looks at them. */
static void
softmax(struct block *b, int r, int64_t lo)
{
	double *score = b->score + r;
	int64_t begin = b->begin[r] - lo, end = b->end[r] - lo;
	double max = -INFINITY, sum = 0;

	b->lse[r] = -INFINITY;
	if (begin == end)
		return;
	for (int64_t j = begin; j < end; j++)
		if (score[j * ROWS] > max)
			max = score[j * ROWS];
	for (int64_t j = begin; j < end; j++) {
		score[j * ROWS] = exp(score[j * ROWS] - max);
		sum += score[j * ROWS];
	}
	for (int64_t j = begin; j < end; j++)
		score[j * ROWS] /= sum;
	b->lse[r] = max + log(sum);
}

static void
weigh_values(struct block *b, int64_t lo, int64_t hi)
{
	const struct attn_problem *p = b->job->p;
	int64_t head_k = b->head / (p->heads_q / p->heads_k);

	memset(b->out, 0, (size_t)(ROWS * p->dim_v) * sizeof b->out[0]);
	for (int64_t j = lo; j < hi; j++) {
		int64_t at = b->s.v + j * p->v_stride.seq + head_k * p->v_stride.head;

		for (int64_t d = 0; d < p->dim_v; d++)
			b->row[d] = tensor_get(&b->job->v, at + d);
		for (int r = 0; r < b->n; r++) {
			double w = b->score[(j - lo) * ROWS + r];

			/* A key that is not seen must not spoil the row with 0 * NaN. */
			if (j < b->begin[r] || j >= b->end[r])
				continue;
			for (int64_t d = 0; d < p->dim_v; d++)
				b->out[r * p->dim_v + d] += w * b->row[d];
		}
	}
}

static void
store(const struct block *b)
{
	const struct attn_problem *p = b->job->p;

	for (int r = 0; r < b->n; r++) {
		int64_t i = b->first + r;
		int64_t at = b->s.out + i * p->out_stride.seq + b->head * p->out_stride.head;

		for (int64_t d = 0; d < p->dim_v; d++)
			tensor_put(&b->job->out, at + d, b->out[r * p->dim_v + d]);
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
	b.row = b.out + p->dim_v * ROWS;
	b.score = b.row + p->dim_v;
	for (int r = 0; r < b.n; r++) {
		attn_visible(p, b.s.len_q, b.s.len_k, b.first + r, &b.begin[r], &b.end[r]);
		lo = b.begin[r] < lo ? b.begin[r] : lo;
		hi = b.end[r] > hi ? b.end[r] : hi;
	}
	scores(&b, lo, hi);
	for (int r = 0; r < b.n; r++)
		softmax(&b, r, lo);
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
	job.scratch_each = (size_t)(ROWS * (p.dim + p.dim_v + job.longest) + p.dim_v);
	job.scratch = compute_alloc(ctx, (size_t)compute_threads(ctx) * job.scratch_each * sizeof(double), e);
	if (!job.scratch)
		return -1;
	compute_for(ctx, items, run_block, &job);
	return 0;
}
