/*
 * compare_block.c: the loops of a comparison, which the compiler can vectorise; see compare_block.h. Called by compare.c.
 */
#include "codec/compare_block.h"

#include <math.h>
#include <string.h>

/* A variant for newer processors, chosen when the program is loaded; sanitizers start too late for that. Without fused
 * multiply-adds, so that a verdict does not depend on the processor. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

static inline uint64_t
bits_of(double v)
{
	uint64_t u;

	memcpy(&u, &v, sizeof(u));
	return u;
}

static inline float
float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

/* As fp16_to_float() has it, without a branch. */
static inline float
float_of_half(uint32_t h)
{
	uint32_t sign = (h & 0x8000) << 16, exp = h & 0x7c00, man = h & 0x3ff;
	float small = (float)(int32_t)man * 0x1p-24f;
	uint32_t u, normal = (h & 0x7fff) << 13;

	memcpy(&u, &small, sizeof(u));
	normal = exp == 0x7c00 ? normal | 0x7f800000u : normal + (112u << 23);
	return float_of(sign | (exp == 0 ? u : normal));
}

CLONES static void
load_half(double *restrict out, const uint16_t *restrict p, int n)
{
	for (int i = 0; i < n; i++)
		out[i] = (double)float_of_half(p[i]);
}

CLONES static void
load_bfloat(double *restrict out, const uint16_t *restrict p, int n)
{
	for (int i = 0; i < n; i++)
		out[i] = (double)float_of((uint32_t)p[i] << 16);
}

CLONES static void
load_float(double *restrict out, const float *restrict p, int n)
{
	for (int i = 0; i < n; i++)
		out[i] = (double)p[i];
}

static void
load(double *out, const struct tensor *t, int64_t from, int n)
{
	switch ((enum dtype)t->dtype) {
	case DT_FP16:
		load_half(out, (const uint16_t *)t->data + from, n);
		break;
	case DT_BF16:
		load_bfloat(out, (const uint16_t *)t->data + from, n);
		break;
	case DT_FP32:
		load_float(out, (const float *)t->data + from, n);
		break;
	case DT_FP64:
		memcpy(out, (const double *)t->data + from, (size_t)n * sizeof(*out));
		break;
	default:
		for (int i = 0; i < n; i++)
			out[i] = tensor_get(t, from + i);
	}
}

CLONES static void
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
CLONES static void
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

CLONES static bool
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
	load(s->v, t, from, n);
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

CLONES static void
distances(uint32_t *restrict out, const int32_t *restrict a, const int32_t *restrict b)
{
	for (int i = 0; i < BLOCK; i++) {
		uint32_t x = (uint32_t)a[i], y = (uint32_t)b[i];

		out[i] = a[i] > b[i] ? x - y : y - x;
	}
}

CLONES static void
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

CLONES static void
part_sums(struct part *p, const double *restrict a, const double *restrict b, double atol, double rtol)
{
	double unit = atol > 0 || rtol > 0 ? 0 : 1; /* without a tolerance, worse is what is further off */

	for (int i = 0; i < BLOCK; i += LANES)
		for (int k = 0; k < LANES; k++) {
			double x = a[i + k], y = b[i + k], d = fabs(x - y), size = fabs(y), limit = atol + rtol * size;
			double rel = d / size, ratio = d / (limit + unit);

			p->bad[k] += !(d <= limit);
			p->max_abs[k] = d > p->max_abs[k] ? d : p->max_abs[k];
			p->ratio[k] = ratio > p->ratio[k] ? ratio : p->ratio[k];
			rel = size > 0 ? rel : 0;
			p->max_rel[k] = rel > p->max_rel[k] ? rel : p->max_rel[k];
			p->abs[k] += d;
			p->square[k] += d * d;
			p->ab[k] += x * y;
			p->aa[k] += x * x;
			p->bb[k] += y * y;
		}
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
