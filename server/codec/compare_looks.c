/*
 * compare_looks.c: what kind of wrong a candidate looks like, in a few words. Called by compare.c, which has judged and
 * counted. Says nothing unless the evidence is strong: either all mismatched places are of one kind, or a simple change of the
 * reference (transposed, scaled, shifted ...) explains nearly all of a sample and leaves next to nothing of the error.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/compare.h"

#define SAMPLE 32768
#define FIRST 64	/* of the sample: enough to see that an idea is wrong */
#define SAMPLE_LEAST 16 /* fewer prove nothing */
#define SHIFT_MAX 4
#define SLICE_LEAST 8 /* as many mismatched places with one index in common are no coincidence */

/* The reference, changed: axes a and b exchanged, moved along an axis, times a factor, plus a constant. */
struct idea {
	int a, b;	    /* a < 0: none exchanged */
	int axis;	    /* moved along: */
	int64_t shift;	    /* the candidate's index plus this is the reference's; 0: none */
	double scale, plus; /* 1 and 0: none */
};

struct looks {
	struct compare *c;
	int64_t stride; /* between the sample's elements, about */
	int64_t n;	/* of them */
};

static int64_t
sample_at(const struct looks *l, int64_t i)
{
	/* Not all in one column of a regular tensor. */
	int64_t at = i * l->stride + (int64_t)((uint64_t)i * 2654435761u % (uint64_t)l->stride);

	return at < l->c->total ? at : l->c->total - 1;
}

/* Which element of the reference the candidate's element `at` would be; -1: none. */
static int64_t
source(const struct compare *c, const struct idea *idea, int64_t at)
{
	const struct tensor *t = c->reference;
	int64_t index[TENSOR_RANK_MAX], from = 0;
	struct tensor shape = *t;

	if (idea->a < 0 && idea->shift == 0)
		return at;
	if (idea->a >= 0) {
		/* The candidate's numbers as they lie in memory, read in the exchanged shape. */
		shape.shape[idea->a] = t->shape[idea->b];
		shape.shape[idea->b] = t->shape[idea->a];
	}
	compare_index(&shape, at, index);
	if (idea->a >= 0) {
		int64_t keep = index[idea->a];

		index[idea->a] = index[idea->b];
		index[idea->b] = keep;
	}
	if (idea->shift != 0) {
		index[idea->axis] += idea->shift;
		if (index[idea->axis] < 0 || index[idea->axis] >= t->shape[idea->axis])
			return -1;
	}
	for (int i = 0; i < t->rank; i++)
		from = from * t->shape[i] + index[i];
	return from;
}

/* Does the idea explain the candidate? */
static bool
explains(const struct looks *l, const struct idea *idea)
{
	const struct compare *c = l->c;
	double before = 0, after = 0;
	int64_t fits = 0, seen = 0, bad = 0;

	for (int64_t i = 0; i < l->n; i++) {
		int64_t at = sample_at(l, i), from = source(c, idea, at);
		double y, r, want, d;

		if (from < 0)
			continue;
		y = tensor_get(c->yours, at);
		r = tensor_get(c->reference, at);
		want = tensor_get(c->reference, from) * idea->scale + idea->plus;
		if (!isfinite(y) || !isfinite(r) || !isfinite(want))
			continue;
		d = fabs(y - want);
		seen++;
		fits += d <= c->atol + c->rtol * fabs(want);
		bad += !(fabs(y - r) <= c->atol + c->rtol * fabs(r));
		before += (y - r) * (y - r);
		after += d * d;
		if (seen == FIRST && fits < FIRST / 2)
			return false;
	}
	return seen >= SAMPLE_LEAST && bad > 1 && 100 * bad >= seen && (double)fits >= 0.999 * (double)seen &&
	       after <= 0.01 * before;
}

static bool
transposed(const struct looks *l, char *text, size_t size)
{
	const struct tensor *t = l->c->reference;

	for (int a = 0; a < t->rank; a++)
		for (int b = a + 1; b < t->rank; b++) {
			const struct idea idea = {.a = a, .b = b, .scale = 1};

			if (t->shape[a] < 2 || t->shape[b] < 2 || !explains(l, &idea))
				continue;
			snprintf(text, size, "transposed (axes %d and %d swapped)", a, b);
			return true;
		}
	return false;
}

static bool
shifted(const struct looks *l, char *text, size_t size)
{
	const struct tensor *t = l->c->reference;

	for (int axis = 0; axis < t->rank; axis++)
		for (int64_t by = 1; by <= SHIFT_MAX && by < t->shape[axis]; by++)
			for (int sign = -1; sign <= 1; sign += 2) {
				const struct idea idea = {.a = -1, .axis = axis, .shift = sign * by, .scale = 1};

				if (!explains(l, &idea))
					continue;
				snprintf(text, size, "shifted by %d along axis %d", (int)(-sign * by), axis);
				return true;
			}
	return false;
}

/* Least squares over the sample: a factor, or a constant. */
static bool
scaled(const struct looks *l, char *text, size_t size)
{
	const struct compare *c = l->c;
	struct idea idea = {.a = -1, .scale = 1};
	double yr = 0, rr = 0, off = 0;
	int64_t seen = 0;

	for (int64_t i = 0; i < l->n; i++) {
		int64_t at = sample_at(l, i);
		double y = tensor_get(c->yours, at), r = tensor_get(c->reference, at);

		if (!isfinite(y) || !isfinite(r))
			continue;
		yr += y * r;
		rr += r * r;
		off += y - r;
		seen++;
	}
	if (seen == 0)
		return false;
	if (rr > 0 && fabs(yr) > 0) {
		idea.scale = yr / rr;
		if (explains(l, &idea)) {
			if (fabs(idea.scale + 1) < 0.01)
				snprintf(text, size, "sign flipped");
			else
				snprintf(text, size, "scaled by %.*g", fabs(idea.scale - 1) < 0.01 ? 8 : 4, idea.scale);
			return true;
		}
	}
	idea.scale = 1;
	idea.plus = off / (double)seen;
	if (!explains(l, &idea))
		return false;
	snprintf(text, size, "off by a constant, %.4g", idea.plus);
	return true;
}

/*
 * Rounded values lie half a unit around the true ones, truncated ones up to a whole unit below, towards zero. Where the true
 * value can be held exactly both are the same, and nothing is proven.
 */
static bool
truncated(const struct looks *l)
{
	const struct compare *c = l->c;
	struct compare_format f = compare_format((enum dtype)c->kernel->dtype);
	double sum = 0;
	int64_t seen = 0, within = 0;

	for (int64_t i = 0; i < l->n; i++) {
		int64_t at = sample_at(l, i);
		double y = tensor_get(c->yours, at), r = tensor_get(c->reference, at), unit, off;

		if (!isfinite(y) || !isfinite(r) || r == 0)
			continue;
		unit = ldexp(1, (ilogb(r) < f.emin ? f.emin : ilogb(r)) - f.bits);
		if (fabs(remainder(r, unit)) < 0.01 * unit)
			continue;
		off = (r > 0 ? r - y : y - r) / unit;
		sum += off;
		within += off > -0.1 && off < 1.1;
		seen++;
		if (seen == FIRST && within < FIRST / 2)
			return false;
	}
	return seen >= 2 * SAMPLE_LEAST && (double)within >= 0.98 * (double)seen && sum > 0.4 * (double)seen &&
	       sum < 0.6 * (double)seen;
}

/* ", only at index 3 of axis 2" */
static void
slice(const struct compare *c, char *text, size_t size)
{
	const struct tensor *t = c->yours;

	for (int a = 0; a < t->rank; a++) {
		size_t n = strlen(text);

		if (t->shape[a] < 2 || c->from[a] != c->to[a])
			continue;
		snprintf(text + n, size - n, "%sonly at index %lld of axis %d", n > 0 ? ", " : "",
			 (long long)c->from[a], a);
	}
}

/* All mismatched places are of one kind. */
static bool
one_kind(const struct compare *c, char *text, size_t size)
{
	int64_t bad = c->pairs[VS_REFERENCE].mismatched;

	if (c->nan.yours == c->total && c->nan.reference == 0)
		snprintf(text, size, "all NaN");
	else if (bad == 1 && c->total > 1)
		snprintf(text, size, "one element");
	else if (c->nans == bad)
		snprintf(text, size, "NaN in %lld elements", (long long)bad);
	else if (c->wrong_infs == bad)
		snprintf(text, size, "infinity of the wrong sign in %lld elements", (long long)bad);
	else if (c->infs == bad)
		snprintf(text, size, "infinity in %lld elements", (long long)bad);
	else if (c->zeros == bad)
		snprintf(text, size, "zeros in %lld elements", (long long)bad);
	else if (c->flipped == bad)
		snprintf(text, size, "sign flipped in %lld elements", (long long)bad);
	else
		return false;
	return true;
}

void
compare_looks(struct compare *c)
{
	struct looks l = {.c = c};
	char *text = c->looks_like;
	size_t size = sizeof(c->looks_like);

	text[0] = '\0';
	if (c->total == 0)
		return;
	l.stride = (c->total + SAMPLE - 1) / SAMPLE;
	l.n = (c->total + l.stride - 1) / l.stride;
	if (c->pass) {
		if (truncated(&l))
			snprintf(text, size, "truncated instead of rounded");
		return;
	}
	if (c->all_zeros) {
		snprintf(text, size, "all zeros");
		return;
	}
	if (truncated(&l)) {
		snprintf(text, size, "truncated instead of rounded");
		return;
	}
	if (c->pairs[VS_REFERENCE].mismatched > 1 &&
	    (scaled(&l, text, size) || transposed(&l, text, size) || shifted(&l, text, size)))
		return;
	text[0] = '\0';
	if (one_kind(c, text, size) && c->pairs[VS_REFERENCE].mismatched < SLICE_LEAST)
		return;
	if (c->pairs[VS_REFERENCE].mismatched >= SLICE_LEAST)
		slice(c, text, size);
}
