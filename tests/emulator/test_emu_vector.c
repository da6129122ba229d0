/*
 * test_emu_vector.c: vector instructions of one result, each against double or plain integers: ops.def says what is
 * expected. Special values and random ones, in all lanes.
 */
#include "emulator/emu_fixture.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define N 512

enum type { f32, f64, f16, u32, i32, u16 };

/* References that no C operator gives. */
static double
median(double a, double b, double c)
{
	if (isnan(a) || isnan(b) || isnan(c))
		return fmin(fmin(a, b), c);
	return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

/* The product is exact in double; the sum is rounded to odd, so that rounding to float later is right. */
static double
exact_fma_f32(double a, double b, double c)
{
	double p = a * b, s = p + c, z = s - p, rest = (p - (s - z)) + (c - z);
	uint64_t bits;

	if (!isfinite(s) || rest == 0)
		return s;
	memcpy(&bits, &s, sizeof bits);
	if (!(bits & 1))
		s = nextafter(s, rest > 0 ? INFINITY : -INFINITY);
	return s;
}

static uint32_t
reversed(uint32_t x)
{
	uint32_t r = 0;

	for (int i = 0; i < 32; i++)
		if (x & 1u << i)
			r |= 0x80000000u >> i;
	return r;
}

static uint32_t
first_one_from_top(uint32_t x)
{
	for (uint32_t i = 0; i < 32; i++)
		if (x & 0x80000000u >> i)
			return i;
	return UINT32_MAX;
}

static uint32_t
ones(uint32_t x)
{
	uint32_t n = 0;

	for (; x != 0; x >>= 1)
		n += x & 1;
	return n;
}

static uint32_t
permuted(uint32_t a, uint32_t b, uint32_t c)
{
	uint8_t bytes[8], out[4];
	uint32_t r;

	memcpy(bytes, &b, 4);
	memcpy(bytes + 4, &a, 4);
	for (int i = 0; i < 4; i++) {
		unsigned s = c >> 8 * i & 255;

		out[i] = s < 8 ? bytes[s] : s < 12 ? (bytes[2 * (s - 8) + 1] & 0x80 ? 255 : 0) : s == 12 ? 0 : 255;
	}
	memcpy(&r, out, 4);
	return r;
}

static uint32_t
byte_differences(uint32_t a, uint32_t b)
{
	uint32_t sum = 0;

	for (int i = 0; i < 32; i += 8) {
		int d = (int)(a >> i & 255) - (int)(b >> i & 255);

		sum += (uint32_t)(d < 0 ? -d : d);
	}
	return sum;
}

static uint32_t
halves_max(uint32_t a, uint32_t b)
{
	uint32_t lo = a % 65536 > b % 65536 ? a % 65536 : b % 65536, hi = a >> 16 > b >> 16 ? a >> 16 : b >> 16;

	return hi << 16 | lo;
}

static double
to_double(enum type t, uint64_t bits)
{
	uint32_t low = (uint32_t)bits;
	double d;
	float f;

	switch (t) {
	case f32:
		memcpy(&f, &low, sizeof f);
		return (double)f;
	case f64:
		memcpy(&d, &bits, sizeof d);
		return d;
	case f16:
		return emu_fixture_from_half((uint16_t)bits);
	case u32:
	case i32:
	case u16:
	default:
		return 0;
	}
}

#define VALUE_f32(bits) to_double(f32, bits)
#define VALUE_f64(bits) to_double(f64, bits)
#define VALUE_f16(bits) to_double(f16, bits)
#define VALUE_u32(bits) ((uint32_t)(bits))
#define VALUE_i32(bits) ((int32_t)(uint32_t)(bits))
#define VALUE_u16(bits) ((uint16_t)(bits))
#define TYPE_f32 double
#define TYPE_f64 double
#define TYPE_f16 double
#define TYPE_u32 uint32_t
#define TYPE_i32 int32_t
#define TYPE_u16 uint16_t
#define STORE_f32(x) (e->d = (double)(x))
#define STORE_f64(x) (e->d = (double)(x))
#define STORE_f16(x) (e->d = (double)(x))
#define STORE_u32(x) (e->u = (uint32_t)(x))
#define STORE_i32(x) (e->u = (uint32_t)(int32_t)(x))
#define STORE_u16(x) (e->u = (uint16_t)(x))

struct expected {
	double d;
	uint32_t u;
};

#define OP(name, n, from, to, expression, ulps)                                                                        \
	static void expect_##name(const uint64_t *in, struct expected *e)                                              \
	{                                                                                                              \
		TYPE_##from a = VALUE_##from(in[0]), b = VALUE_##from(in[1]), c = VALUE_##from(in[2]);                 \
		(void)a;                                                                                               \
		(void)b;                                                                                               \
		(void)c;                                                                                               \
		STORE_##to(expression);                                                                                \
	}
#include "emulator/ops.def"
#undef OP

static const struct {
	const char *name;
	enum type from, to;
	double ulps;
	void (*expect)(const uint64_t *in, struct expected *e);
} ops[] = {
#define OP(name, n, from, to, expression, ulps) {#name, from, to, ulps, expect_##name},
#include "emulator/ops.def"
#undef OP
};

/* Signs, small and large magnitudes, but nothing that makes denormals. */
static uint64_t
random_value(enum type t)
{
	double d = ldexp(1 + (double)emu_fixture_random() * 0x1p-32, (int)(emu_fixture_random() % 13) - 6);
	uint64_t bits;
	uint32_t low;
	float f;

	if (emu_fixture_random() & 1)
		d = -d;
	switch (t) {
	case f32:
		f = (float)d;
		memcpy(&low, &f, sizeof f);
		return low;
	case f64:
		memcpy(&bits, &d, sizeof d);
		return bits;
	case f16:
		return (emu_fixture_random() & 0x83ff) | (10 + emu_fixture_random() % 11) << 10;
	case u16:
		return emu_fixture_random() & 0xffff;
	case u32:
	case i32:
	default:
		return emu_fixture_random() >> emu_fixture_random() % 32;
	}
}

static uint64_t
special_value(enum type t, unsigned k)
{
	static const uint32_t single[8] = {0,	       0x80000000, 0x3f800000, 0xbf800000,
					   0x7f800000, 0xff800000, 0x7fc00000, 0x7f7fffff};
	static const uint16_t half[8] = {0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x7bff};
	static const uint32_t integer[8] = {0, 1, 0xffffffff, 0x80000000, 0x7fffffff, 0xffff, 0x8000, 31};
	uint64_t bits;
	double d;

	switch (t) {
	case f32:
		return single[k % 8];
	case f16:
		return half[k % 8];
	case f64:
		d = to_double(f32, single[k % 8]);
		memcpy(&bits, &d, sizeof d);
		return bits;
	case u32:
	case i32:
	case u16:
	default:
		return integer[k % 8];
	}
}

/* One unit in the last place of a value of the type. */
static double
unit(enum type t, double x)
{
	int digits = t == f32 ? 24 : t == f64 ? 53 : 11, least = t == f32 ? -149 : t == f64 ? -1074 : -24;
	int e = ilogb(x) + 1 - digits;

	return ldexp(1, e < least ? least : e);
}

static int
agrees(enum type t, double got, double want, double ulps)
{
	double largest = t == f32   ? (double)FLT_MAX
			 : t == f64 ? DBL_MAX
				    : 65504,
	       normal = t == f32 ? (double)FLT_MIN : 0;

	if (isnan(want) || isnan(got))
		return isnan(want) && isnan(got);
	if (t == f32 && ulps == 0.5)
		want = (double)(float)want;
	if (isinf(want) || isinf(got))
		return got == want ||
		       (isinf(got) && fabs(want) >= largest + unit(t, largest) / 2 && (got > 0) == (want > 0));
	if (ulps > 0.5 && fabs(want) < normal) /* the approximations flush denormals */
		return fabs(got) <= normal;
	if (want == 0 || got == want)
		return got == want;
	return fabs(got - want) <= ulps * unit(t, want);
}

static void
check(size_t k, const uint64_t (*in)[3], uint64_t bits, int i)
{
	struct expected e = {0, 0};
	enum type t = ops[k].to;

	ops[k].expect(in[i], &e);
	if (t == f32 || t == f64 || t == f16) {
		double got = to_double(t, bits);

		cr_assert(agrees(t, got, e.d, ops[k].ulps), "%s(%#llx, %#llx, %#llx) = %.17g, not %.17g", ops[k].name,
			  (unsigned long long)in[i][0], (unsigned long long)in[i][1], (unsigned long long)in[i][2], got,
			  e.d);
	} else {
		uint32_t got = (uint32_t)bits;

		cr_assert_eq(got, e.u, "%s(%#llx, %#llx, %#llx) = %#x, not %#x", ops[k].name,
			     (unsigned long long)in[i][0], (unsigned long long)in[i][1], (unsigned long long)in[i][2],
			     got, e.u);
	}
}

static void
run_one(hipModule_t m, size_t k)
{
	static uint64_t in[N][3], wide[N];
	static uint32_t narrow[N];
	size_t from = ops[k].from == f64 ? 8 : 4, to = ops[k].to == f64 ? 8 : 4;
	void *d[3], *out = emu_fixture_device(NULL, N * to), *params[] = {&out, &d[0], &d[1], &d[2]};
	char name[80];

	for (unsigned i = 0; i < N; i++)
		for (unsigned s = 0; s < 3; s++) {
			int special = (i & 1) && i < 128;

			in[i][s] = special ? special_value(ops[k].from, s == 0	 ? i / 2
									: s == 1 ? i / 16
										 : i / 32 + 3)
					   : random_value(ops[k].from);
		}
	for (int s = 0; s < 3; s++) {
		for (int i = 0; i < N; i++) {
			wide[i] = in[i][s];
			narrow[i] = (uint32_t)in[i][s];
		}
		d[s] = emu_fixture_device(from == 8 ? (void *)wide : narrow, N * from);
	}
	snprintf(name, sizeof name, "k_%s", ops[k].name);
	emu_fixture_run(emu_fixture_kernel(m, name), N / 64, 64, params);
	emu_fixture_read(to == 8 ? (void *)wide : narrow, out, N * to);
	for (int i = 0; i < N; i++)
		check(k, (const uint64_t(*)[3])in, to == 8 ? wide[i] : narrow[i], i);
}

static void
one_result(const char *isa)
{
	hipModule_t m;

	emu_fixture_isa(isa);
	m = emu_fixture_module("kernels_ops");

	for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
		run_one(m, k);
}

TestSuite(emu_vector, .fini = emu_fixture_end);

Test(emu_vector, avx512)
{
	one_result("avx512");
}

Test(emu_vector, avx2)
{
	one_result("avx2");
}

Test(emu_vector, base)
{
	one_result("base");
}
