/*
 * attn_cpu_body.h: the inner loops of attention on the CPU: blocked online softmax over packed blocks of keys,
 * two small matrix products per block, float accumulation. Included by attn_cpu_{scalar,avx2,avx512}.c, each
 * compiled with its own flags; ATTN_KERNEL names the table it defines. The score matrix never exists: a
 * task holds ATTN_GROUP_ROWS x ATTN_KEY_BLOCK scores at a time.
 *
 * Each row's sequence of operations depends on nothing but its keys, so the cut into tasks changes no bits.
 * Whatever is not finite is left to a float64 loop (exact_row): an infinity or a NaN in a key or value that
 * a row does not see may spoil the fast path's result (0 * Inf), but never passes the check at its end.
 */
#include "ops/attn_cpu_kernel.h"
#include "ops/attn_cpu_product.h"
#include "ops/simd.h"

#include <math.h>

#define PREFETCH_ROWS 8

_Static_assert(ATTN_KEY_BLOCK % PANEL == 0, "whole panels");
_Static_assert(ATTN_GROUP_ROWS % ATTN_ROW_TILE == 0, "whole tiles");
_Static_assert(LANES <= ATTN_LANES_MAX, "room for the sums");

struct row_at {
	int64_t pos, head;
};

static inline struct row_at
row_at(const struct attn_task *t, int64_t row)
{
	int64_t group = t->p->heads_q / t->p->heads_k;

	return (struct row_at){row / group, t->head_k * group + row % group};
}

static inline const char *
elem_at(const struct attn_problem *p, const void *base, int64_t index)
{
	return (const char *)base + (size_t)index * vf_dtype_size(p->dtype);
}

static const char *
q_row(const struct attn_task *t, int64_t row)
{
	struct row_at r = row_at(t, row);

	return elem_at(t->p, t->p->q, t->seq.q + r.pos * t->p->q_stride.seq + r.head * t->p->q_stride.head);
}

static const char *
k_row(const struct attn_task *t, int64_t key)
{
	return elem_at(t->p, t->p->k, t->seq.k + key * t->p->k_stride.seq + t->head_k * t->p->k_stride.head);
}

static const char *
v_row(const struct attn_task *t, int64_t key)
{
	return elem_at(t->p, t->p->v, t->seq.v + key * t->p->v_stride.seq + t->head_k * t->p->v_stride.head);
}

/* dst[0..n padded) = src[0..n) * by, zeros after. */
SIMD_INLINE void
convert_row_as(float *dst, const char *src, int64_t n, float by, enum dtype dt)
{
	vf f = vf_set1(by);
	int64_t i;

	for (i = 0; i + LANES <= n; i += LANES)
		vf_store(dst + i, vf_mul(f, vf_load_dtype(src + (size_t)i * vf_dtype_size(dt), dt)));
	if (i < n)
		vf_store(dst + i, vf_mul(f, vf_load_part(src + (size_t)i * vf_dtype_size(dt), n - i, dt)));
}

static void
convert_row(float *dst, const void *src, int64_t n, float by, enum dtype dt)
{
	if (dt == DT_FP32)
		convert_row_as(dst, src, n, by, DT_FP32);
	else if (dt == DT_FP16)
		convert_row_as(dst, src, n, by, DT_FP16);
	else
		convert_row_as(dst, src, n, by, DT_BF16);
}

/*
 * Rows of one head often lie a page or more apart, where no hardware looks ahead: ask for the row that will be
 * needed a little later.
 */
SIMD_INLINE void
prefetch_row(const char *row, int64_t n, enum dtype dt)
{
	for (size_t at = 0; at < (size_t)n * vf_dtype_size(dt); at += 64)
		__builtin_prefetch(row + at);
}

/* Up to LANES keys, transposed: dst[d * PANEL + key]. */
SIMD_INLINE void
pack_keys_as(float *dst, const struct attn_task *t, int64_t key, int64_t keys, enum dtype dt)
{
	const char *row[LANES];
	int64_t dim = t->p->dim;

	for (int64_t i = 0; i < keys; i++)
		row[i] = k_row(t, key + i);
	for (int64_t i = key + LANES; i < key + 2 * LANES && i < t->key_end; i++)
		prefetch_row(k_row(t, i), dim, dt);
	for (int64_t d = 0; d < dim; d += LANES) {
		int64_t n = dim - d < LANES ? dim - d : LANES;
		size_t at = (size_t)d * vf_dtype_size(dt);
		vf r[LANES];

		if (n == LANES && keys == LANES) {
#pragma GCC unroll 16
			for (int i = 0; i < LANES; i++)
				r[i] = vf_load_dtype(row[i] + at, dt);
		} else {
			for (int i = 0; i < LANES; i++)
				r[i] = i < keys ? vf_load_part(row[i] + at, n, dt) : vf_set1(0.0F);
		}
		vf_transpose(r);
#pragma GCC unroll 16
		for (int i = 0; i < LANES; i++) {
			if (i < n)
				vf_store(dst + (d + i) * PANEL, r[i]);
		}
	}
}

static void
pack_keys(float *dst, const struct attn_task *t, int64_t key, int64_t keys)
{
	for (int64_t at = 0; at < keys; at += LANES) {
		int64_t n = keys - at < LANES ? keys - at : LANES;
		float *to = dst + at / PANEL * PANEL * t->p->dim + at % PANEL;

		if (t->p->dtype == DT_FP32)
			pack_keys_as(to, t, key + at, n, DT_FP32);
		else if (t->p->dtype == DT_FP16)
			pack_keys_as(to, t, key + at, n, DT_FP16);
		else
			pack_keys_as(to, t, key + at, n, DT_BF16);
	}
}

/* Columns are cut into panels of even widths: 5 vectors are 3 and 2, rather than 4 and 1. */
static inline int64_t
panel_start(int64_t vecs, int64_t panels, int64_t j)
{
	return j * (vecs / panels) + (j < vecs % panels ? j : vecs % panels);
}

SIMD_INLINE void
pack_values_as(float *dst, const struct attn_task *t, int64_t key, int64_t keys, enum dtype dt)
{
	int64_t dim = t->p->dim_v, vecs = (dim + LANES - 1) / LANES, panels = (vecs + PANEL_VECS - 1) / PANEL_VECS;

	for (int64_t i = 0; i < keys; i++) {
		const char *src = v_row(t, key + i);

		if (key + i + PREFETCH_ROWS < t->key_end)
			prefetch_row(v_row(t, key + i + PREFETCH_ROWS), dim, dt);
		for (int64_t j = 0; j < panels; j++) {
			int64_t from = panel_start(vecs, panels, j), to = panel_start(vecs, panels, j + 1);
			float *d = dst + (from * keys + i * (to - from)) * LANES;

			for (int64_t c = from * LANES; c < to * LANES; c += LANES, d += LANES) {
				const char *s = src + (size_t)c * vf_dtype_size(dt);

				vf_store(d, c + LANES <= dim ? vf_load_dtype(s, dt) : vf_load_part(s, dim - c, dt));
			}
		}
	}
}

static void
pack_values(float *dst, const struct attn_task *t, int64_t key, int64_t keys)
{
	if (t->p->dtype == DT_FP32)
		pack_values_as(dst, t, key, keys, DT_FP32);
	else if (t->p->dtype == DT_FP16)
		pack_values_as(dst, t, key, keys, DT_FP16);
	else
		pack_values_as(dst, t, key, keys, DT_BF16);
}

SIMD_INLINE void
store_row_as(char *dst, const float *src, int64_t n, enum dtype dt)
{
	int64_t i;

	for (i = 0; i + LANES <= n; i += LANES)
		vf_store_dtype(dst + (size_t)i * vf_dtype_size(dt), vf_load(src + i), dt);
	if (i < n)
		vf_store_part(dst + (size_t)i * vf_dtype_size(dt), vf_load(src + i), n - i, dt);
}

static char *
out_row(const struct attn_task *t, int64_t row)
{
	struct row_at r = row_at(t, row);
	int64_t at = t->seq.out + r.pos * t->p->out_stride.seq + r.head * t->p->out_stride.head;

	return (char *)t->p->out + (size_t)at * vf_dtype_size(t->p->dtype);
}

static void
store_row(const struct attn_task *t, int64_t row, const float *src, double lse)
{
	struct row_at r = row_at(t, row);
	char *dst = out_row(t, row);

	if (t->p->dtype == DT_FP32)
		store_row_as(dst, src, t->p->dim_v, DT_FP32);
	else if (t->p->dtype == DT_FP16)
		store_row_as(dst, src, t->p->dim_v, DT_FP16);
	else
		store_row_as(dst, src, t->p->dim_v, DT_BF16);
	if (t->p->lse != NULL)
		t->p->lse[t->seq.lse + r.pos * t->p->lse_stride.seq + r.head * t->p->lse_stride.head] = (float)lse;
}

#define EXACT_LANES 8

static double
exact_dot(const double *a, const float *b, int64_t n)
{
	double part[EXACT_LANES] = {0}, sum = 0;

	for (int64_t i = 0; i < n; i += EXACT_LANES) {
		for (int j = 0; j < EXACT_LANES; j++)
			part[j] += a[i + j] * (double)b[i + j];
	}
	for (int j = 0; j < EXACT_LANES; j++)
		sum += part[j];
	return sum;
}

/* A row in float64, in the plain order: all scores, their maximum, then the weighted sum. */
static void
exact_row(const struct attn_task *t, int64_t row)
{
	const struct attn_problem *p = t->p;
	float x[ATTN_DIM_MAX + ATTN_LANES_MAX], out[ATTN_DIM_MAX + ATTN_LANES_MAX];
	double q[ATTN_DIM_MAX + ATTN_LANES_MAX] = {0}, o[ATTN_DIM_MAX] = {0};
	double max = -INFINITY, sum = 0;
	int64_t begin, end;

	attn_visible(p, t->seq.len_q, t->seq.len_k, row_at(t, row).pos, &begin, &end);
	memset(x, 0, sizeof(x));
	convert_row(x, q_row(t, row), p->dim, 1.0F, p->dtype);
	for (int64_t i = 0; i < p->dim; i++)
		q[i] = (double)x[i];
	memset(x, 0, sizeof(x));
	for (int64_t key = begin; key < end; key++) {
		double s;

		convert_row(x, k_row(t, key), p->dim, 1.0F, p->dtype);
		s = exact_dot(q, x, p->dim) * p->scale;
		max = s > max || isnan(s) ? s : max;
		if (isnan(s))
			break;
	}
	for (int64_t key = begin; key < end && !isnan(max); key++) {
		double w;

		convert_row(x, k_row(t, key), p->dim, 1.0F, p->dtype);
		w = exp(exact_dot(q, x, p->dim) * p->scale - max);
		sum += w;
		convert_row(x, v_row(t, key), p->dim_v, 1.0F, p->dtype);
		for (int64_t i = 0; i < p->dim_v; i++)
			o[i] += w * (double)x[i];
		memset(x, 0, sizeof(x));
	}
	for (int64_t i = 0; i < p->dim_v; i++)
		out[i] = (float)(isnan(max) ? max : o[i] / sum);
	for (int64_t i = p->dim_v; i < p->dim_v + LANES; i++)
		out[i] = 0;
	store_row(t, row, out, max + log(sum));
}

static void
finish(const struct attn_task *t, int64_t row, float max, float sum, float by, float *o)
{
	int64_t dim = attn_round_up(t->p->dim_v, LANES), begin, end;
	vf odd = vf_set1(0.0F);

	attn_visible(t->p, t->seq.len_q, t->seq.len_k, row_at(t, row).pos, &begin, &end);
	if (begin == end) {
		memset(o, 0, (size_t)dim * sizeof(*o));
		store_row(t, row, o, -INFINITY);
		return;
	}
	for (int64_t i = 0; i < dim; i += LANES) {
		vf x = vf_mul(vf_load(o + i), vf_set1(by));

		odd = vf_fma(x, vf_set1(0.0F), odd); /* NaN if x is not finite */
		vf_store(o + i, x);
	}
	if (!isfinite(max) || !isfinite(sum) || !(sum > 0) || vf_hsum(odd) != 0)
		exact_row(t, row);
	else
		store_row(t, row, o, (double)max * fabs(t->p->scale) + log((double)sum));
}

/* Scores of one tile become weights; alpha: what the sums so far must be multiplied by. */
static void
soften(const struct attn_scratch *s, float *scores, int64_t row, int mr, int64_t key, int from, int to, float scale,
       float *alpha)
{
	float was[ATTN_LANES_MAX] = {0}, is[ATTN_LANES_MAX] = {0};
	vf c = vf_set1(scale);

	for (int i = 0; i < mr; i++) {
		float *x = scores + i * ATTN_KEY_BLOCK, max = s->max[row + i], most;
		int64_t lo = s->begin[row + i] - key, hi = s->end[row + i] - key;
		vf m = vf_set1(max);

		if (lo > from || hi < to) {
			int l = lo < from ? from : lo > to ? to : (int)lo;
			int h = hi < from ? from : hi > to ? to : (int)hi;

			for (int j = from; j < to; j += LANES)
				vf_store(x + j, vf_keep_range(vf_load(x + j), l - j, h - j));
		}
		for (int j = from; j < to; j += LANES)
			m = vf_max(m, vf_load(x + j));
		most = vf_hmax(m);
		/* 0 for a row that has seen no key yet: then all is exp2(-Inf) = 0 instead of NaN. */
		is[i] = most > -INFINITY || isnan(most) ? most : 0;
		was[i] = max;
		s->max[row + i] = most;
	}
	for (int i = 0; i < mr; i += LANES)
		vf_store(alpha + i, vf_exp2(vf_mul(vf_sub(vf_load(was + i), vf_load(is + i)), c)));
	for (int i = 0; i < mr; i++) {
		float *x = scores + i * ATTN_KEY_BLOCK;
		vf sum = vf_mul(vf_load(s->sum + (row + i) * LANES), vf_set1(alpha[i])), m = vf_set1(is[i]);

		for (int j = from; j < to; j += LANES) {
			vf p = vf_exp2(vf_mul(vf_sub(vf_load(x + j), m), c));

			sum = vf_add(sum, p);
			vf_store(x + j, p);
		}
		vf_store(s->sum + (row + i) * LANES, sum);
	}
}

/* Keys of the block at `key` that some row of a tile sees, relative to the block. */
struct span {
	int from, to; /* empty: from == to */
};

static struct span
tile_span(const struct attn_scratch *s, int64_t row, int mr, int64_t key, int64_t keys)
{
	int64_t lo = INT64_MAX, hi = 0;

	for (int i = 0; i < mr; i++) {
		if (s->begin[row + i] < s->end[row + i]) {
			lo = s->begin[row + i] < lo ? s->begin[row + i] : lo;
			hi = s->end[row + i] > hi ? s->end[row + i] : hi;
		}
	}
	lo = lo < key ? 0 : lo - key;
	hi = hi > key + keys ? keys : hi - key;
	return lo < hi ? (struct span){(int)lo, (int)hi} : (struct span){0, 0};
}

/* A group of rows against the packed block of keys. */
static void
group_block(const struct attn_task *t, const struct attn_scratch *s, int64_t row, int64_t rows, int64_t key,
	    int64_t keys, float scale)
{
	float alpha[ATTN_GROUP_ROWS + ATTN_LANES_MAX];
	struct span spans[ATTN_GROUP_ROWS / ATTN_ROW_TILE];
	int64_t dim = t->p->dim, dim_v = attn_round_up(t->p->dim_v, LANES);
	int64_t vecs = dim_v / LANES, panels = (vecs + PANEL_VECS - 1) / PANEL_VECS;

	for (int64_t r = 0; r < rows; r += ATTN_ROW_TILE) {
		int mr = rows - r < ATTN_ROW_TILE ? (int)(rows - r) : ATTN_ROW_TILE;

		spans[r / ATTN_ROW_TILE] = tile_span(s, row + r, mr, key, keys);
	}
	for (int at = 0; at < keys; at += PANEL) {
		for (int64_t r = 0; r < rows; r += ATTN_ROW_TILE) {
			struct span w = spans[r / ATTN_ROW_TILE];
			int mr = rows - r < ATTN_ROW_TILE ? (int)(rows - r) : ATTN_ROW_TILE;
			int from = w.from > at ? (w.from - at) / LANES * LANES : 0;
			int to = w.to < at + PANEL ? w.to - at : PANEL, nv = (to - from + LANES - 1) / LANES;

			if (from < to)
				products[nv - 1][mr - 1](dim, s->q + (row + r) * dim, dim, s->k + at * dim + from, PANEL,
							 s->s + r * ATTN_KEY_BLOCK + at + from, ATTN_KEY_BLOCK, NULL);
		}
	}
	for (int64_t r = 0; r < rows; r += ATTN_ROW_TILE) {
		struct span w = spans[r / ATTN_ROW_TILE];
		int mr = rows - r < ATTN_ROW_TILE ? (int)(rows - r) : ATTN_ROW_TILE;

		if (w.from < w.to)
			soften(s, s->s + r * ATTN_KEY_BLOCK, row + r, mr, key, w.from / LANES * LANES,
			       (int)attn_round_up(w.to, LANES), scale, alpha + r);
	}
	for (int64_t j = 0; j < panels; j++) {
		int64_t from = panel_start(vecs, panels, j), nv = panel_start(vecs, panels, j + 1) - from;

		for (int64_t r = 0; r < rows; r += ATTN_ROW_TILE) {
			struct span w = spans[r / ATTN_ROW_TILE];
			int mr = rows - r < ATTN_ROW_TILE ? (int)(rows - r) : ATTN_ROW_TILE;

			if (w.from < w.to)
				products[nv - 1][mr - 1](w.to - w.from, s->s + r * ATTN_KEY_BLOCK + w.from,
							 ATTN_KEY_BLOCK, s->v + (from * keys + w.from * nv) * LANES,
							 nv * LANES, s->o + (row + r) * dim_v + from * LANES, dim_v,
							 alpha + r);
		}
	}
}

static void
task(const struct attn_task *t, const struct attn_scratch *s)
{
	const struct attn_problem *p = t->p;
	int64_t dim_v = attn_round_up(p->dim_v, LANES), begin = INT64_MAX, end = 0;
	struct attn_scale scale = attn_scale_get(p);

	for (int64_t r = 0; r < t->rows; r++) {
		int64_t lo, hi;

		attn_visible(p, t->seq.len_q, t->seq.len_k, row_at(t, t->row + r).pos, &lo, &hi);
		lo = lo < t->key_begin ? t->key_begin : lo;
		hi = hi > t->key_end ? t->key_end : hi;
		if (lo < hi) {
			begin = lo < begin ? lo : begin;
			end = hi > end ? hi : end;
		}
		s->begin[r] = lo;
		s->end[r] = hi;
		s->max[r] = -INFINITY;
	}
	memset(s->sum, 0, (size_t)(t->rows * LANES) * sizeof(*s->sum));
	memset(s->o, 0, (size_t)(t->rows * dim_v) * sizeof(*s->o));
	if (begin < end) {
		/* The last vector of a row is stored whole, over the next row's start: that one comes next. */
		for (int64_t r = 0; r < t->rows; r++)
			convert_row(s->q + r * p->dim, q_row(t, t->row + r), p->dim, scale.query, p->dtype);
		begin = begin / ATTN_KEY_BLOCK * ATTN_KEY_BLOCK;
	}
	for (int64_t key = begin; key < end; key += ATTN_KEY_BLOCK) {
		int64_t keys = end - key < ATTN_KEY_BLOCK ? end - key : ATTN_KEY_BLOCK;

		pack_keys(s->k, t, key, keys);
		pack_values(s->v, t, key, keys);
		for (int64_t r = 0; r < t->rows; r += ATTN_GROUP_ROWS)
			group_block(t, s, r, t->rows - r < ATTN_GROUP_ROWS ? t->rows - r : ATTN_GROUP_ROWS, key, keys,
				    scale.base2);
	}
	for (int64_t r = 0; r < t->rows; r++) {
		float sum = vf_hsum(vf_load(s->sum + r * LANES)), *o = s->o + r * dim_v;

		if (t->partial == NULL) {
			finish(t, t->row + r, s->max[r], sum, 1.0F / sum, o);
		} else {
			float *to = t->partial + r * (2 + dim_v);

			to[0] = s->max[r];
			to[1] = sum;
			memcpy(to + 2, o, (size_t)dim_v * sizeof(*o));
		}
	}
}

static void
multiply(int64_t m, int64_t n, int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
	 int64_t ldc)
{
	for (int64_t j = 0; j < n; j += PANEL) {
		int64_t nv = n - j < PANEL ? (n - j) / LANES : PANEL_VECS;

		for (int64_t i = 0; i < m; i += ATTN_ROW_TILE) {
			int64_t mr = m - i < ATTN_ROW_TILE ? m - i : ATTN_ROW_TILE;

			products[nv - 1][mr - 1](depth, a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, NULL);
		}
	}
}

static void
softmax(float *x, int64_t n, int64_t begin, int64_t end, float scale, float *max_out, float *sum_out)
{
	float max = -INFINITY, sum;
	vf m = vf_set1(max), c = vf_set1(scale), total = vf_set1(0.0F);
	int64_t i;

	for (i = begin; i + LANES <= end; i += LANES)
		m = vf_max(m, vf_load(x + i));
	max = vf_hmax(m);
	for (; i < end; i++)
		max = x[i] > max || isnan(x[i]) ? x[i] : max;
	for (i = 0; i < begin; i++)
		x[i] = -INFINITY;
	for (i = end; i < n; i++)
		x[i] = -INFINITY;
	m = vf_set1(max > -INFINITY || isnan(max) ? max : 0);
	for (i = 0; i + LANES <= n; i += LANES) {
		vf p = vf_exp2(vf_mul(vf_sub(vf_load(x + i), m), c));

		total = vf_add(total, p);
		vf_store(x + i, p);
	}
	if (i < n) {
		float rest[LANES];

		for (int j = 0; j < LANES; j++)
			rest[j] = i + j < n ? x[i + j] : -INFINITY;
		vf_store(rest, vf_exp2(vf_mul(vf_sub(vf_load(rest), m), c)));
		total = vf_add(total, vf_load(rest));
		memcpy(x + i, rest, (size_t)(n - i) * sizeof(*x));
	}
	sum = vf_hsum(total);
	total = vf_set1(1.0F / sum);
	for (i = 0; i + LANES <= n; i += LANES)
		vf_store(x + i, vf_mul(vf_load(x + i), total));
	for (; i < n; i++)
		x[i] /= sum;
	*max_out = max;
	*sum_out = sum;
}

const struct attn_kernel ATTN_KERNEL = {
	.name = ATTN_KERNEL_NAME,
	.lanes = LANES,
	.task = task,
	.finish = finish,
	.convert = convert_row,
	.multiply = multiply,
	.softmax = softmax,
};
