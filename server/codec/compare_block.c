/*
 * compare_block.c: the loops of a comparison, which the compiler can vectorise; see compare_block.h. Called by compare.c.
 */
#include "codec/compare_block.h"

#include <math.h>
#include <string.h>

#include "clones.h"

static inline uint64_t
bits_of(double v)
{
	uint64_t u;

	memcpy(&u, &v, sizeof(u));
	return u;
}

CLONES_SAME static void
ordinals_float(int32_t *restrict out, const double *restrict v)
{
	for (int i = 0; i < BLOCK; i++) {
		float f = (float)v[i];
		int32_t u;

		memcpy(&u, &f, sizeof(u));
		out[i] = u < 0 ? -(u & 0x7fffffff) : u;
	}
}

/*
 * Of the 16-bit formats. Adding 2^52 times the place's worth rounds to it, to nearest even, and leaves the count of places in
 * the sum's lower bits.
 */
CLONES_SAME static void
ordinals_half(int32_t *restrict out, const double *restrict v, double least, unsigned bits, int32_t infinity)
{
	double shift = (double)(UINT64_C(1) << (52 - bits));

	for (int i = 0; i < BLOCK; i++) {
		double a = fabs(v[i]), power, magic, rounded;
		uint64_t u = bits_of(a) & UINT64_C(0x7ff0000000000000);
		int32_t places, ordinal;

		memcpy(&power, &u, sizeof(power));
		power = power < least ? least : power;
		magic = power * shift;
		rounded = a + magic;
		places = (int32_t)(bits_of(rounded) - bits_of(magic));
		ordinal = places + ((int32_t)((bits_of(power) - bits_of(least)) >> 32) >> 20) * (1 << bits);
		ordinal = ordinal > infinity ? infinity : ordinal;
		out[i] = v[i] < 0 ? -ordinal : ordinal;
	}
}

CLONES_SAME static bool
is_finite(const double *v)
{
	double nothing[LANES] = {0};

	for (int i = 0; i < BLOCK; i += LANES)
		for (int k = 0; k < LANES; k++)
			nothing[k] += v[i + k] - v[i + k]; /* NaN for NaN and infinities */
	return nothing[0] + nothing[1] + nothing[2] + nothing[3] == 0;
}

static void
ordinals(struct side *s, enum dtype dt, const struct compare_format *f)
{
	if (dt == DT_FP32)
		ordinals_float(s->ordinal, s->v);
	else
		ordinals_half(s->ordinal, s->v, ldexp(1, f->emin), (unsigned)f->bits, f->infinity);
}

bool
block_load(struct side *s, const struct tensor *t, int64_t from, int n, enum dtype dt, const struct compare_format *f)
{
	tensor_load(s->v, t, from, n);
	memset(s->v + n, 0, (size_t)(BLOCK - n) * sizeof(s->v[0]));
	ordinals(s, dt, f);
	return is_finite(s->v);
}

static int
bucket(uint32_t distance)
{
	int b;

	if (distance < 2)
		return (int)distance;
	b = 33 - __builtin_clz(distance - 1);
	return b < COMPARE_ULPS ? b : COMPARE_ULPS - 1;
}

CLONES_SAME static void
distances(uint32_t *restrict out, const int32_t *restrict a, const int32_t *restrict b)
{
	for (int i = 0; i < BLOCK; i++) {
		uint32_t x = (uint32_t)a[i], y = (uint32_t)b[i];

		out[i] = a[i] > b[i] ? x - y : y - x;
	}
}

CLONES_SAME static void
count_near(const uint32_t *d, uint32_t *zero, uint32_t *one)
{
	uint32_t z = 0, o = 0;

	for (int i = 0; i < BLOCK; i++) {
		z += d[i] == 0;
		o += d[i] == 1;
	}
	*zero = z;
	*one = o;
}

static void
part_ulps(struct part *p, const struct side *a, const struct side *b)
{
	uint32_t d[BLOCK], zero, one, two[2][COMPARE_ULPS];

	distances(d, a->ordinal, b->ordinal);
	count_near(d, &zero, &one);
	p->ulp[0] = zero;
	p->ulp[1] = one;
	if (zero + one == BLOCK)
		return;
	/* Two tables by turns: an increment would have to wait for the one before it. */
	memset(two, 0, sizeof(two));
	for (int i = 0; i < BLOCK; i += 2) {
		two[0][bucket(d[i])]++;
		two[1][bucket(d[i + 1])]++;
	}
	for (int i = 0; i < COMPARE_ULPS; i++)
		p->ulp[i] = (int64_t)two[0][i] + two[1][i];
}

typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t masks __attribute__((vector_size(LANES * sizeof(int64_t))));

/* Macros: such vectors cannot be arguments without changing the calling convention. */
#define CHOOSE(which, a, b) ((lanes)(((which) & (masks)(a)) | (~(which) & (masks)(b))))
#define LARGER(a, b) CHOOSE((a) > (b), a, b)

CLONES_SAME static void
part_sums(struct part *p, const double *restrict a, const double *restrict b, double atol, double rtol)
{
	/* Without a tolerance, worse is what is further off. */
	double unit = atol > 0 || rtol > 0 ? 0 : 1;
	masks size_bits = (masks){0} + INT64_MAX, bad = {0};
	lanes zero = {0}, max_abs = {0}, max_rel = {0}, ratio = {0}, abs = {0}, square = {0}, ab = {0}, aa = {0},
	      bb = {0};

	for (int i = 0; i < BLOCK; i += LANES) {
		lanes x, y, d, size, limit, worse, rel;

		memcpy(&x, a + i, sizeof(x));
		memcpy(&y, b + i, sizeof(y));
		d = (lanes)((masks)(x - y) & size_bits);
		size = (lanes)((masks)y & size_bits);
		limit = atol + rtol * size;
		bad -= ~(d <= limit);
		max_abs = LARGER(d, max_abs);
		worse = d / (limit + unit);
		ratio = LARGER(worse, ratio);
		rel = d / size;
		rel = CHOOSE(size > zero, rel, zero);
		max_rel = LARGER(rel, max_rel);
		abs += d;
		square += d * d;
		ab += x * y;
		aa += x * x;
		bb += y * y;
	}
	memcpy(p->max_abs, &max_abs, sizeof(max_abs));
	memcpy(p->max_rel, &max_rel, sizeof(max_rel));
	memcpy(p->ratio, &ratio, sizeof(ratio));
	memcpy(p->abs, &abs, sizeof(abs));
	memcpy(p->square, &square, sizeof(square));
	memcpy(p->ab, &ab, sizeof(ab));
	memcpy(p->aa, &aa, sizeof(aa));
	memcpy(p->bb, &bb, sizeof(bb));
	memcpy(p->bad, &bad, sizeof(bad));
}

int
block_bucket(int32_t a, int32_t b)
{
	return bucket(a > b ? (uint32_t)a - (uint32_t)b : (uint32_t)b - (uint32_t)a);
}

void
block_compare(struct part *p, const struct side *a, const struct side *b, double atol, double rtol)
{
	memset(p, 0, sizeof(*p));
	part_sums(p, a->v, b->v, atol, rtol);
	part_ulps(p, a, b);
}
