/*
 * generate.c: random tensors and sequences, the same bits on every machine; see generate.h and api/generate.md. The loops
 * stand in generate_loops.h and are compiled for several instruction sets, of which the best that the processor has
 * is chosen when the first tensor is made. Owns nothing.
 *
 * To be compiled with -ffp-contract=off: a fused multiply-add would round once where two roundings are specified.
 */
#include "codec/generate.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "codec/philox.h"

#if defined(__FAST_MATH__)
#error "compile this file without -ffast-math"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define CHUNK 256 /* elements that are made in one go */
#define INLINE static inline __attribute__((always_inline))

const char *const generate_kinds[GEN_COUNT + 1] = {"normal", "uniform", "zeros", "ones", "arange", "randint", NULL};

/* ---------------------------------------------------------------- one element */

INLINE double
from_bits(uint64_t u)
{
	double d;

	memcpy(&d, &u, sizeof(d));
	return d;
}

INLINE uint64_t
to_bits(double d)
{
	uint64_t u;

	memcpy(&u, &d, sizeof(u));
	return u;
}

/* Words as float64 without a conversion, which AVX2 lacks: as the mantissa of 2^52, which is then subtracted. */
#define TWO52_BITS UINT64_C(0x4330000000000000)
#define TWO51_BITS UINT64_C(0x4320000000000000)
#define SQRT_HALF_BITS UINT64_C(0x3FE6A09E667F3BCD)
#define ONE_BITS UINT64_C(0x3FF0000000000000)
#define MANTISSA UINT64_C(0x000FFFFFFFFFFFFF)

/* ln((r + 1/2) / 2^32), r below 2^32: = m 2^e with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh((m - 1) / (m + 1)). */
INLINE double
log_unit(uint64_t r)
{
	double x = from_bits(TWO52_BITS | r) - (0x1p52 - 0.5);
	uint64_t bits = to_bits(x) + (ONE_BITS - SQRT_HALF_BITS);
	double e = from_bits(TWO52_BITS | bits >> 52) - (0x1p52 + 1023 + 32);
	double m = from_bits((bits & MANTISSA) + SQRT_HALF_BITS);
	double s = (m - 1.0) / (m + 1.0), w = s * s, p;

	p = 0x1.2b584aae78a57p-3;
	p = p * w + 0x1.39fe606542ddep-3;
	p = p * w + 0x1.7462b4ab2ef6bp-3;
	p = p * w + 0x1.c71c62e5800a1p-3;
	p = p * w + 0x1.2492492df148dp-2;
	p = p * w + 0x1.99999999952e2p-2;
	p = p * w + 0x1.5555555555558p-1;
	return e * 0x1.62e42fefa39efp-1 + s * (p * w + 2.0);
}

/* Sine and cosine of 2 pi x, |x| <= 1/8. */
INLINE double
sin_turn(double x, double z)
{
	double p;

	p = 0x1.e4a9d9166f052p+1;
	p = p * z - 0x1.e3027dea82bd7p+3;
	p = p * z + 0x1.50783208843ebp+5;
	p = p * z - 0x1.32d2cce500387p+6;
	p = p * z + 0x1.466bc6775a476p+6;
	p = p * z - 0x1.4abbce625be52p+5;
	return x * (p * z + 0x1.921fb54442d18p+2);
}

INLINE double
cos_turn(double z)
{
	double p;

	p = -0x1.b2f3eb054afcdp+0;
	p = p * z + 0x1.f9ce245cada0bp+2;
	p = p * z - 0x1.a6d1eef479be1p+4;
	p = p * z + 0x1.e1f5068688d5bp+5;
	p = p * z - 0x1.55d3c7e3cb241p+6;
	p = p * z + 0x1.03c1f081b5ac0p+6;
	p = p * z - 0x1.3bd3cc9be45dep+4;
	return p * z + 1.0;
}

/* Box and Muller: radius sqrt(-2 ln u), angle (a + 1/2) / 2^32 of a turn, reduced to an eighth around the nearest axis. */
INLINE void
normal_pair(uint64_t r, uint64_t a, double *z0, double *z1)
{
	double radius = sqrt(-2.0 * log_unit(r));
	uint64_t turned = a + (UINT64_C(1) << 29), axis = turned >> 30;
	uint64_t rest = turned & ((UINT64_C(1) << 30) - 1);
	double x = (from_bits(TWO51_BITS | (2 * rest + 1)) - (0x1p51 + 0x1p29)) * 0x1p-32;
	double z = x * x;
	uint64_t s = to_bits(sin_turn(x, z)), c = to_bits(cos_turn(z));
	uint64_t swap = (s ^ c) & (0 - (axis & 1));

	*z0 = radius * from_bits((c ^ swap) ^ ((axis + 1) & 2) << 62);
	*z1 = radius * from_bits((s ^ swap) ^ (axis & 2) << 62);
}

void
generate_normal_pair(uint32_t radius, uint32_t angle, double z[2])
{
	normal_pair(radius, angle, &z[0], &z[1]);
}

/* The upper 53 bits as a multiple of 2^-53: in halves, each of which a mantissa holds. */
INLINE double
unit(uint64_t w)
{
	double hi = from_bits(TWO52_BITS | w >> 32) - 0x1p52;
	double lo = from_bits(TWO52_BITS | (w & 0xFFFFFFFFu) >> 11) - 0x1p52;

	return hi * 0x1p-32 + lo * 0x1p-53;
}

/*
 * v, rounded once to nearest even, in a format of `mbits` mantissa bits laid out as IEEE 754 does, with its sign in bit
 * 15; magnitudes of `limit`, a power of two that is too large for the format, and more become that. The magnitude is added to a power
 * of two whose last place is the format's at that magnitude: the processor rounds, and the difference of the bits is the
 * mantissa with its leading one, or without where the format has no smaller exponent. A carry raises the exponent.
 */
INLINE uint32_t
narrow(double v, int bias, int mbits, double limit)
{
	uint64_t least = (uint64_t)(1023 - bias + 1) << 52;
	double a = fabs(v) < limit ? fabs(v) : limit;
	uint64_t exponent = to_bits(a) & ~MANTISSA, big;

	exponent = (int64_t)exponent > (int64_t)least ? exponent : least;
	big = exponent + ((uint64_t)(52 - mbits) << 52);
	return (uint32_t)((to_bits(a + from_bits(big)) - big + ((exponent - least) >> (52 - mbits))) |
			  (to_bits(v) >> 48 & 0x8000));
}

/* fp8: where the formats differ is above their largest number. */
static uint8_t
narrow_fp8(enum dtype dt, double v)
{
	uint32_t n, sign;

	if (dt == DT_FP8_E5M2) {
		n = narrow(v, 15, 2, 0x1p16);
		return (uint8_t)(n >> 8 | (n & 0x7f));
	}
	n = dt == DT_FP8_E4M3 ? narrow(v, 7, 3, 0x1p9) : narrow(v, 8, 3, 0x1p8);
	sign = n >> 8;
	n &= 0xff;
	if (dt == DT_FP8_E4M3)
		return (uint8_t)(sign | (n > 0x7e ? 0x7f : n));
	return (uint8_t)(n > 0x7f ? 0x80 : n == 0 ? 0 : sign | n); /* one zero, one NaN */
}

/* ---------------------------------------------------------------- loops */

struct loops {
	const char *isa;
	void (*normal)(const struct generate *g, uint64_t chunk, double v[CHUNK]);
	void (*uniform)(const struct generate *g, uint64_t chunk, double v[CHUNK]);
	void (*randint)(const struct generate *g, uint64_t chunk, int64_t v[CHUNK]);
	void (*to_fp32)(const double v[CHUNK], float *out);
	void (*to_fp16)(const double v[CHUNK], uint16_t *out);
	void (*to_bf16)(const double v[CHUNK], uint16_t *out);
};

#if defined(__clang__)
#define AVX512_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"), min_vector_width(512)))
#else
#define AVX512_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif

#define LOOPS(name) name##_plain
#define LOOPS_NAME ""
#define LOOPS_TARGET
#include "codec/generate_loops.h"

#if defined(__x86_64__)
#define LOOPS(name) name##_avx2
#define LOOPS_NAME "avx2"
#define LOOPS_TARGET __attribute__((target("avx2")))
#define LOOPS_BYTES 32
#define LOOPS_PRODUCT(a, b) (vec) _mm256_mul_epu32((__m256i)(a), (__m256i)(b))
#include "codec/generate_loops.h"

#define LOOPS(name) name##_avx512
#define LOOPS_NAME "avx512"
#define LOOPS_TARGET AVX512_TARGET
#define LOOPS_BYTES 64
#define LOOPS_PRODUCT(a, b) (vec) _mm512_mul_epu32((__m512i)(a), (__m512i)(b))
#include "codec/generate_loops.h"
#endif

static _Atomic(const struct loops *) chosen;

static const struct loops *
best_loops(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		return &loops_avx512;
	if (__builtin_cpu_supports("avx2"))
		return &loops_avx2;
#endif
	return &loops_plain;
}

static const struct loops *
loops(void)
{
	const struct loops *l = atomic_load_explicit(&chosen, memory_order_relaxed);

	if (!l) {
		l = best_loops();
		atomic_store_explicit(&chosen, l, memory_order_relaxed);
	}
	return l;
}

const char *
generate_isa(void)
{
	return loops()->isa;
}

bool
generate_set_isa(const char *name)
{
	const struct loops *best = best_loops(), *l = NULL;

	if (strcmp(name, loops_plain.isa) == 0)
		l = &loops_plain;
#if defined(__x86_64__)
	else if (strcmp(name, loops_avx2.isa) == 0 && best != &loops_plain)
		l = &loops_avx2;
#endif
	else if (strcmp(name, best->isa) == 0)
		l = best;
	if (l)
		atomic_store_explicit(&chosen, l, memory_order_relaxed);
	return l != NULL;
}

/* ---------------------------------------------------------------- what can be made */

void
generate_init(struct generate *g, enum generate_kind kind, enum dtype dt)
{
	memset(g, 0, sizeof(*g));
	g->kind = kind;
	g->dtype = dt;
	g->b = 1;
	g->ib = 1;
}

/* The whole numbers that a dtype of whole numbers holds; false for the others. */
static bool
whole_range(enum dtype dt, int64_t *least, int64_t *most)
{
	switch (dt) {
	case DT_INT8:
		*least = INT8_MIN;
		*most = INT8_MAX;
		return true;
	case DT_UINT8:
		*least = 0;
		*most = UINT8_MAX;
		return true;
	case DT_INT32:
		*least = INT32_MIN;
		*most = INT32_MAX;
		return true;
	case DT_INT64:
		*least = INT64_MIN;
		*most = INT64_MAX;
		return true;
	case DT_BOOL:
		*least = 0;
		*most = 1;
		return true;
	case DT_NONE:
	case DT_FP32:
	case DT_FP16:
	case DT_BF16:
	case DT_FP64:
	case DT_FP8_E4M3:
	case DT_FP8_E4M3FNUZ:
	case DT_FP8_E5M2:
	case DT_COUNT:
		break;
	}
	return false;
}

static int
check_normal(const struct generate *g, const char *name, struct err *e)
{
	char found[80];

	if (isfinite(g->a) && isfinite(g->b) && g->b >= 0)
		return 0;
	snprintf(found, sizeof(found), "mean %.17g, std %.17g", g->a, g->b);
	return err_input(e, ERR_INVALID_PARAMETER, name, found, "a finite mean, and a std of at least 0",
			 "input %s: normal with %s; mean must be finite, std finite and not negative", name, found);
}

static int
check_uniform(const struct generate *g, const char *name, struct err *e)
{
	char found[80];

	if (isfinite(g->a) && isfinite(g->b) && g->a < g->b && isfinite(g->b - g->a))
		return 0;
	snprintf(found, sizeof(found), "low %.17g, high %.17g", g->a, g->b);
	return err_input(e, ERR_INVALID_PARAMETER, name, found, "a low below high, both finite",
			 "input %s: uniform with %s; low must be below high, and both and their distance finite", name,
			 found);
}

static int
out_of_range(const struct generate *g, const char *name, int64_t least, int64_t most, const char *found, struct err *e)
{
	char wanted[80];
	const char *dtype = dtype_info(g->dtype)->name;

	snprintf(wanted, sizeof(wanted), "%" PRId64 " to %" PRId64, least, most);
	return err_input(e, ERR_INVALID_PARAMETER, name, found, wanted,
			 "input %s: %s makes numbers of %s, but %s holds %s", name, generate_kinds[g->kind], found,
			 dtype, wanted);
}

static int
check_randint(const struct generate *g, const char *name, struct err *e)
{
	int64_t least, most;
	char found[80];

	snprintf(found, sizeof(found), "low %" PRId64 ", high %" PRId64, g->ia, g->ib);
	if (g->ia >= g->ib)
		return err_input(e, ERR_INVALID_PARAMETER, name, found, "a low below high",
				 "input %s: randint with %s; low must be below high, which is not among the numbers",
				 name, found);
	snprintf(found, sizeof(found), "%" PRId64 " to %" PRId64, g->ia, g->ib - 1);
	if (whole_range(g->dtype, &least, &most) && (g->ia < least || g->ib - 1 > most))
		return out_of_range(g, name, least, most, found, e);
	return 0;
}

static int
check_arange(const struct generate *g, const char *name, int64_t elements, struct err *e)
{
	int64_t least, most, last;
	char found[80];

	if (!whole_range(g->dtype, &least, &most)) {
		double end = g->a + (double)(elements > 0 ? elements - 1 : 0) * g->b;

		if (isfinite(g->a) && isfinite(g->b) && isfinite(end))
			return 0;
		snprintf(found, sizeof(found), "start %.17g, step %.17g", g->a, g->b);
		return err_input(e, ERR_INVALID_PARAMETER, name, found, "finite numbers",
				 "input %s: arange with %s leads to numbers that are not finite", name, found);
	}
	if (elements == 0)
		return 0;
	if (__builtin_mul_overflow(elements - 1, g->ib, &last) || __builtin_add_overflow(last, g->ia, &last)) {
		snprintf(found, sizeof(found), "%" PRId64 " and on by %" PRId64 ", %" PRId64 " of them", g->ia, g->ib,
			 elements);
		return out_of_range(g, name, least, most, found, e);
	}
	snprintf(found, sizeof(found), "%" PRId64 " to %" PRId64, g->ia, last);
	if (g->ia < least || g->ia > most || last < least || last > most)
		return out_of_range(g, name, least, most, found, e);
	return 0;
}

int
generate_check(const struct generate *g, const char *name, int64_t elements, struct err *e)
{
	const struct dtype_info *info = dtype_info(g->dtype);

	if ((g->kind == GEN_NORMAL || g->kind == GEN_UNIFORM) && !info->is_float)
		return err_input(
			e, ERR_INVALID_DTYPE, name, info->name, "a dtype with fractions, or randint",
			"input %s: %s makes numbers with fractions, which %s does not hold; randint makes whole "
			"numbers",
			name, generate_kinds[g->kind], info->name);
	switch (g->kind) {
	case GEN_NORMAL:
		return check_normal(g, name, e);
	case GEN_UNIFORM:
		return check_uniform(g, name, e);
	case GEN_RANDINT:
		return check_randint(g, name, e);
	case GEN_ARANGE:
		return check_arange(g, name, elements, e);
	case GEN_ZEROS:
	case GEN_ONES:
	case GEN_COUNT:
		break;
	}
	return 0;
}

/* ---------------------------------------------------------------- filling */

static void
store_reals(const struct loops *l, enum dtype dt, const double v[CHUNK], void *out)
{
	switch (dt) {
	case DT_FP32:
		l->to_fp32(v, out);
		return;
	case DT_FP16:
		l->to_fp16(v, out);
		return;
	case DT_BF16:
		l->to_bf16(v, out);
		return;
	case DT_FP64:
		memcpy(out, v, CHUNK * sizeof(v[0]));
		return;
	case DT_FP8_E4M3:
	case DT_FP8_E4M3FNUZ:
	case DT_FP8_E5M2:
		for (int i = 0; i < CHUNK; i++)
			((uint8_t *)out)[i] = narrow_fp8(dt, v[i]);
		return;
	case DT_INT8:
	case DT_UINT8:
	case DT_INT32:
	case DT_INT64:
	case DT_BOOL:
	case DT_NONE:
	case DT_COUNT:
		break;
	}
	assert(0 && "no dtype of reals");
}

static void
store_wholes(const struct loops *l, enum dtype dt, const int64_t v[CHUNK], void *out)
{
	double reals[CHUNK];
	int size = dtype_info(dt)->size;

	if (dtype_info(dt)->is_float) {
		for (int i = 0; i < CHUNK; i++)
			reals[i] = (double)v[i];
		store_reals(l, dt, reals, out);
	} else if (size == 8) {
		memcpy(out, v, CHUNK * sizeof(v[0]));
	} else if (size == 4) {
		for (int i = 0; i < CHUNK; i++)
			((int32_t *)out)[i] = (int32_t)v[i];
	} else {
		for (int i = 0; i < CHUNK; i++)
			((uint8_t *)out)[i] = (uint8_t)v[i];
	}
}

/* All of a chunk. */
static void
make_chunk(const struct generate *g, const struct loops *l, uint64_t chunk, void *out)
{
	int64_t wholes[CHUNK];
	double reals[CHUNK];

	if (g->kind == GEN_RANDINT) {
		l->randint(g, chunk, wholes);
	} else if (g->kind == GEN_NORMAL) {
		l->normal(g, chunk, reals);
	} else if (g->kind == GEN_UNIFORM) {
		l->uniform(g, chunk, reals);
	} else if (dtype_info(g->dtype)->is_float) {
		for (int i = 0; i < CHUNK; i++)
			reals[i] = g->a + (double)(int64_t)(chunk * CHUNK + (uint64_t)i) * g->b;
	} else {
		/* Beyond the tensor's end they may wrap. */
		for (int i = 0; i < CHUNK; i++)
			wholes[i] = (int64_t)((uint64_t)g->ia + (chunk * CHUNK + (uint64_t)i) * (uint64_t)g->ib);
	}
	if (g->kind == GEN_RANDINT || (g->kind == GEN_ARANGE && !dtype_info(g->dtype)->is_float))
		store_wholes(l, g->dtype, wholes, out);
	else
		store_reals(l, g->dtype, reals, out);
}

/* Zeros or ones. */
static void
make_constant(const struct generate *g, void *out, uint64_t n)
{
	size_t size = dtype_info(g->dtype)->size;
	unsigned char *p = out;
	int64_t wholes[CHUNK];
	uint64_t room[CHUNK];

	if (g->kind == GEN_ZEROS) {
		if (n > 0)
			memset(out, 0, n * size);
		return;
	}
	for (int i = 0; i < CHUNK; i++)
		wholes[i] = 1;
	store_wholes(loops(), g->dtype, wholes, room);
	for (uint64_t done = 0; done < n; done += CHUNK)
		memcpy(p + done * size, room, (n - done < CHUNK ? n - done : CHUNK) * size);
}

void
generate_fill(const struct generate *g, void *out, uint64_t first, uint64_t n)
{
	const struct loops *l = loops();
	size_t size = dtype_info(g->dtype)->size;
	unsigned char *p = out;
	uint64_t room[CHUNK];

	if (g->kind == GEN_ZEROS || g->kind == GEN_ONES) {
		make_constant(g, out, n);
		return;
	}
	while (n > 0) {
		uint64_t skip = first % CHUNK, take = CHUNK - skip < n ? CHUNK - skip : n;

		if (take == CHUNK) {
			make_chunk(g, l, first / CHUNK, p);
		} else {
			make_chunk(g, l, first / CHUNK, room);
			memcpy(p, (unsigned char *)room + skip * size, take * size);
		}
		p += take * size;
		first += take;
		n -= take;
	}
}
