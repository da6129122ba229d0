/*
 * compare.c: one pass over a candidate, a kernel's output and the reference; see compare.h. Block by block, pair by pair
 * (compare_block.c); a block's sums are kept in lanes and added to the total with compensation.
 */
#include "codec/compare.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "codec/compare_block.h"

/* A sum that does not lose what is small beside it (Neumaier). */
struct sum {
	double high, low;
};

static void
sum_add(struct sum *s, double v)
{
	double t = s->high + v;

	s->low += fabs(s->high) >= fabs(v) ? s->high - t + v : v - t + s->high;
	s->high = t;
}

static double
sum_get(const struct sum *s)
{
	return isfinite(s->high) ? s->high + s->low : s->high;
}

struct pair {
	struct compare_metrics *m;
	struct sum abs, square, ab, aa, bb;
	double max_abs, max_rel;
};

struct state {
	struct compare *c;
	struct compare_format format;
	struct side yours, kernel, reference;
	struct pair pairs[COMPARE_PAIRS];
	bool box_full, nonzero; /* of yours, somewhere */
};

struct compare_format
compare_format(enum dtype dt)
{
	assert(dt == DT_FP32 || dt == DT_FP16 || dt == DT_BF16);
	if (dt == DT_FP16)
		return (struct compare_format){-14, 10, 0x7c00};
	if (dt == DT_BF16)
		return (struct compare_format){-126, 7, 0x7f80};
	return (struct compare_format){-126, 23, 0x7f800000};
}

const char *
compare_ulp_name(int bucket)
{
	static const char *const names[COMPARE_ULPS] = {
		"0",	     "1",	   "2",		  "3-4",	 "5-8",	     "9-16",	  "17-32",
		"33-64",     "65-128",	   "129-256",	  "257-512",	 "513-1024", "1025-2048", "2049-4096",
		"4097-8192", "8193-16384", "16385-32768", "32769-65536", ">65536"};

	return names[bucket];
}

void
compare_index(const struct tensor *t, int64_t i, int64_t *index)
{
	for (int a = t->rank - 1; a >= 0; a--) {
		index[a] = i % t->shape[a];
		i /= t->shape[a];
	}
}

/* ---------------------------------------------------------------- a pair's block, all finite */

static double
lanes_add(const double v[LANES])
{
	return (v[0] + v[1]) + (v[2] + v[3]);
}

static double
lanes_max(const double v[LANES], double max)
{
	for (int k = 0; k < LANES; k++)
		max = v[k] > max ? v[k] : max;
	return max;
}

/* n places, the rest of the block zeros on both sides. Returns the largest ratio; *bad: how many are mismatched. */
static double
pair_block(struct pair *pair, const struct compare *c, const struct side *a, const struct side *b, int n, int64_t *bad)
{
	struct part p;

	block_compare(&p, a, b, c->atol, c->rtol);
	p.ulp[0] -= BLOCK - n;
	*bad = p.bad[0] + p.bad[1] + p.bad[2] + p.bad[3];
	pair->m->finite += n;
	pair->m->mismatched += *bad;
	for (int i = 0; i < COMPARE_ULPS; i++)
		pair->m->ulp[i] += p.ulp[i];
	pair->max_abs = lanes_max(p.max_abs, pair->max_abs);
	pair->max_rel = lanes_max(p.max_rel, pair->max_rel);
	sum_add(&pair->abs, lanes_add(p.abs));
	sum_add(&pair->square, lanes_add(p.square));
	sum_add(&pair->ab, lanes_add(p.ab));
	sum_add(&pair->aa, lanes_add(p.aa));
	sum_add(&pair->bb, lanes_add(p.bb));
	return lanes_max(p.ratio, 0);
}

/* ---------------------------------------------------------------- places */

static void
worst_add(struct compare *c, int64_t at, double ratio)
{
	int i = c->n_worst;

	if (i == COMPARE_WORST && !(ratio > c->worst[i - 1].ratio))
		return;
	if (i == COMPARE_WORST)
		i--;
	else
		c->n_worst++;
	for (; i > 0 && c->worst[i - 1].ratio < ratio; i--)
		c->worst[i] = c->worst[i - 1];
	c->worst[i] = (struct compare_place){at, ratio};
}

static void
box_add(struct state *s, int64_t at)
{
	struct compare *c = s->c;
	const struct tensor *t = c->yours;
	int64_t index[TENSOR_RANK_MAX];

	if (s->box_full)
		return;
	compare_index(t, at, index);
	s->box_full = true;
	for (int a = 0; a < t->rank; a++) {
		c->from[a] = index[a] < c->from[a] ? index[a] : c->from[a];
		c->to[a] = index[a] > c->to[a] ? index[a] : c->to[a];
		s->box_full &= c->from[a] == 0 && c->to[a] == t->shape[a] - 1;
	}
}

/* Your block against the reference's: the worst places and, where there are mismatched ones, their kinds. `at`: the first
 * place's element; `map`: where the others are from there, NULL: side by side. */
static void
places_block(struct state *s, const struct side *y, const struct side *r, int n, int64_t at, const int *map,
	     double ratio, bool bad)
{
	struct compare *c = s->c;
	double unit = c->atol > 0 || c->rtol > 0 ? 0 : 1;

	if (!bad && !(ratio > (c->n_worst == COMPARE_WORST ? c->worst[COMPARE_WORST - 1].ratio : 0)))
		return;
	for (int i = 0; i < n; i++) {
		double d = fabs(y->v[i] - r->v[i]), limit = c->atol + c->rtol * fabs(r->v[i]);
		int64_t place = at + (map ? map[i] : i);

		if (d > 0)
			worst_add(c, place, d / (limit + unit));
		if (d <= limit)
			continue;
		box_add(s, place);
		c->zeros += y->v[i] == 0;
		c->flipped += fabs(y->v[i] + r->v[i]) <= limit;
	}
}

/* ---------------------------------------------------------------- blocks with NaN or infinities */

/* Equal where at least one side is NaN or infinite? Infinite is what rounds to it, too: the output can hold no more. */
static bool
same_special(const struct side *a, const struct side *b, int i)
{
	if (isnan(a->v[i]) || isnan(b->v[i]))
		return isnan(a->v[i]) && isnan(b->v[i]);
	return a->ordinal[i] == b->ordinal[i];
}

/* A place where your value is not what the reference has, and one of them is NaN or infinite. */
static void
wrong_special(struct state *s, double y, double r, int64_t at)
{
	struct compare *c = s->c;

	if (isnan(y) || isnan(r))
		c->nan.agree = false;
	else
		c->inf.agree = false;
	c->nans += isnan(y);
	c->infs += isinf(y) != 0;
	c->wrong_infs += isinf(y) && isinf(r);
	c->zeros += y == 0;
	worst_add(c, at, INFINITY);
	box_add(s, at);
}

/* Copies the places where both are finite, side by side, and judges the others. */
static void
split(struct state *s, enum compare_pair which, const struct side *a, const struct side *b, int n, int64_t at)
{
	struct pair *pair = &s->pairs[which];
	struct side fa, fb;
	int map[BLOCK], k = 0;
	int64_t bad;
	double ratio;

	for (int i = 0; i < n; i++) {
		bool nan = isnan(a->v[i]) || isnan(b->v[i]);

		if (isfinite(a->v[i]) && isfinite(b->v[i])) {
			fa.v[k] = a->v[i];
			fb.v[k] = b->v[i];
			fa.ordinal[k] = a->ordinal[i];
			fb.ordinal[k] = b->ordinal[i];
			map[k++] = i;
			continue;
		}
		if (!nan)
			pair->m->ulp[block_bucket(a->ordinal[i], b->ordinal[i])]++;
		if (same_special(a, b, i))
			continue;
		pair->m->mismatched++;
		if (which == VS_REFERENCE)
			wrong_special(s, a->v[i], b->v[i], at + i);
	}
	for (int i = k; i < BLOCK; i++) {
		fa.v[i] = fb.v[i] = 0;
		fa.ordinal[i] = fb.ordinal[i] = 0;
	}
	ratio = pair_block(pair, s->c, &fa, &fb, k, &bad);
	if (which == VS_REFERENCE)
		places_block(s, &fa, &fb, k, at, map, ratio, bad > 0);
}

static void
count_specials(struct state *s, int n)
{
	struct compare *c = s->c;

	for (int i = 0; i < n; i++) {
		c->nan.yours += isnan(s->yours.v[i]) != 0;
		c->nan.kernel += isnan(s->kernel.v[i]) != 0;
		c->nan.reference += isnan(s->reference.v[i]) != 0;
		c->inf.yours += isinf(s->yours.v[i]) != 0;
		c->inf.kernel += isinf(s->kernel.v[i]) != 0;
		c->inf.reference += isinf(s->reference.v[i]) != 0;
	}
}

/* ---------------------------------------------------------------- all of it */

static bool
any_nonzero(const struct side *s)
{
	for (int i = 0; i < BLOCK; i++)
		if (s->v[i] != 0)
			return true;
	return false;
}

static void
block(struct state *s, int64_t at, int n)
{
	struct compare *c = s->c;
	enum dtype dt = (enum dtype)c->kernel->dtype;
	bool finite = block_load(&s->yours, c->yours, at, n, dt, &s->format);
	double ratio;
	int64_t bad;

	s->nonzero = s->nonzero || any_nonzero(&s->yours);
	finite &= block_load(&s->kernel, c->kernel, at, n, dt, &s->format);
	finite &= block_load(&s->reference, c->reference, at, n, dt, &s->format);
	if (!finite) {
		count_specials(s, n);
		split(s, VS_REFERENCE, &s->yours, &s->reference, n, at);
		split(s, VS_KERNEL, &s->yours, &s->kernel, n, at);
		split(s, KERNEL_VS_REFERENCE, &s->kernel, &s->reference, n, at);
		return;
	}
	ratio = pair_block(&s->pairs[VS_REFERENCE], c, &s->yours, &s->reference, n, &bad);
	places_block(s, &s->yours, &s->reference, n, at, NULL, ratio, bad > 0);
	pair_block(&s->pairs[VS_KERNEL], c, &s->yours, &s->kernel, n, &bad);
	pair_block(&s->pairs[KERNEL_VS_REFERENCE], c, &s->kernel, &s->reference, n, &bad);
}

static void
pair_end(struct pair *p)
{
	struct compare_metrics *m = p->m;
	double n = (double)m->finite, sizes = sqrt(sum_get(&p->aa)) * sqrt(sum_get(&p->bb));

	m->max_abs = m->max_rel = m->mean_abs = m->rmse = m->cosine = NAN;
	if (m->finite == 0)
		return;
	m->max_abs = p->max_abs;
	m->max_rel = p->max_rel;
	m->mean_abs = sum_get(&p->abs) / n;
	m->rmse = sqrt(sum_get(&p->square) / n);
	if (sizes > 0) {
		m->cosine = sum_get(&p->ab) / sizes;
		m->cosine = m->cosine > 1 ? 1 : m->cosine < -1 ? -1 : m->cosine; /* by a rounding */
	}
}

void
compare_run(struct compare *c)
{
	const struct tensor *given[] = {c->yours, c->kernel, c->reference};
	double atol = c->atol, rtol = c->rtol;
	struct state s;

	memset(c, 0, sizeof(*c));
	c->yours = given[0];
	c->kernel = given[1];
	c->reference = given[2];
	c->atol = atol;
	c->rtol = rtol;
	c->total = tensor_elements(c->yours);
	c->nan.agree = c->inf.agree = true;
	assert(c->reference->dtype == DT_FP64 && c->total == tensor_elements(c->kernel) &&
	       c->total == tensor_elements(c->reference));
	for (int a = 0; a < c->yours->rank; a++) {
		c->from[a] = INT64_MAX;
		c->to[a] = -1;
	}
	memset(&s, 0, sizeof(s));
	s.c = c;
	s.format = compare_format((enum dtype)c->kernel->dtype);
	for (int i = 0; i < COMPARE_PAIRS; i++)
		s.pairs[i].m = &c->pairs[i];
	for (int64_t at = 0; at < c->total; at += BLOCK)
		block(&s, at, c->total - at < BLOCK ? (int)(c->total - at) : BLOCK);
	for (int i = 0; i < COMPARE_PAIRS; i++)
		pair_end(&s.pairs[i]);
	c->pass = c->pairs[VS_REFERENCE].mismatched == 0;
	c->all_zeros = c->nan.yours == 0 && c->inf.yours == 0 && !s.nonzero;
	compare_looks(c);
}
