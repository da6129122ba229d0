/*
 * test_emu_arith.c: arithmetic that compilers make of several instructions or of packed ones: fp16 and fp32 pairs,
 * mixed precision, division, 8-bit floats, comparisons. Against double and plain C.
 */
#include "emulator/emu_fixture.h"

#include <math.h>
#include <string.h>

TestSuite(emu_arith, .fini = emu_fixture_end);

/* Multiples of 1/64 below 4: fp16 holds them, and their products in fp32 exactly. */
static uint16_t
random_half(void)
{
	unsigned r = emu_fixture_random(), sign = r & 0x8000, m = r % 256;
	int e;

	if (m == 0)
		return 0;
	for (e = 9; m < 1024; e--) /* m * 2^-6, with the leading one in bit 10 */
		m <<= 1;
	return (uint16_t)(sign | (unsigned)(e + 10) << 10 | (m & 1023));
}

/* Correct rounding to fp16, for checking only: the nearest of the two neighbours. */
static int
rounds_to(double x, uint16_t got)
{
	double g = emu_fixture_from_half(got), unit = ldexp(1, x == 0 ? -24 : ilogb(x) - 10);

	return fabs(g - x) <= unit / 2;
}

static void
check_packed(const char *isa)
{
	uint16_t a[64][2], b[64][2], c[64][2], out[4][64][2];
	hipModule_t m;
	void *da, *db, *dc, *dout, *params[] = {&dout, &da, &db, &dc};

	emu_fixture_isa(isa);
	m = emu_fixture_module("kernels_exec");
	for (int i = 0; i < 64; i++)
		for (int h = 0; h < 2; h++) {
			a[i][h] = random_half();
			b[i][h] = random_half();
			c[i][h] = random_half();
		}
	da = emu_fixture_device(a, sizeof a);
	db = emu_fixture_device(b, sizeof b);
	dc = emu_fixture_device(c, sizeof c);
	dout = emu_fixture_device(NULL, sizeof out);
	emu_fixture_run(emu_fixture_kernel(m, "k_packed"), 1, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	for (int i = 0; i < 64; i++)
		for (int h = 0; h < 2; h++) {
			double x = emu_fixture_from_half(a[i][h]), y = emu_fixture_from_half(b[i][h]);
			double crossed = emu_fixture_from_half(b[i][!h]), high = emu_fixture_from_half(a[i][1]);
			double z = emu_fixture_from_half(c[i][h]);

			cr_assert(rounds_to(x + y, out[0][i][h]), "sum, lane %d half %d", i, h);
			cr_assert(rounds_to(x * crossed, out[1][i][h]), "product, lane %d half %d", i, h);
			cr_assert(rounds_to(z - high * y, out[2][i][h]), "multiply-add, lane %d half %d", i, h);
			cr_assert_eq(emu_fixture_from_half(out[3][i][h]), fmax(x, y), "maximum, lane %d half %d", i, h);
		}
}

Test(emu_arith, packed_halves_avx512)
{
	check_packed("avx512");
}

Test(emu_arith, packed_halves_avx2)
{
	check_packed("avx2");
}

Test(emu_arith, packed_halves_base)
{
	check_packed("base");
}

Test(emu_arith, mixed_precision)
{
	uint16_t a[64][2], b[64][2];
	float c[64], out[2][64];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *da, *db, *dc, *dout = emu_fixture_device(NULL, sizeof out), *params[] = {&dout, &da, &db, &dc};

	for (int i = 0; i < 64; i++) {
		for (int h = 0; h < 2; h++) {
			a[i][h] = random_half();
			b[i][h] = random_half();
		}
		c[i] = emu_fixture_random_float();
	}
	da = emu_fixture_device(a, sizeof a);
	db = emu_fixture_device(b, sizeof b);
	dc = emu_fixture_device(c, sizeof c);
	emu_fixture_run(emu_fixture_kernel(m, "k_mixed"), 1, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	for (int i = 0; i < 64; i++) {
		double x = emu_fixture_from_half(a[i][0]) * emu_fixture_from_half(b[i][1]);
		double y = -emu_fixture_from_half(a[i][1]) * emu_fixture_from_half(b[i][0]);

		cr_assert_eq(out[0][i], (float)(x + (double)c[i]), "lane %d", i);
		cr_assert_eq(out[1][i], (float)(y + fabs((double)c[i])), "lane %d", i);
	}
}

Test(emu_arith, float_pairs)
{
	float a[64][2], b[64][2], c[64][2], out[3][64][2];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *da, *db, *dc, *dout = emu_fixture_device(NULL, sizeof out), *params[] = {&dout, &da, &db, &dc};

	for (int i = 0; i < 64; i++)
		for (int h = 0; h < 2; h++) {
			a[i][h] = emu_fixture_random_float();
			b[i][h] = emu_fixture_random_float();
			c[i][h] = emu_fixture_random_float();
		}
	da = emu_fixture_device(a, sizeof a);
	db = emu_fixture_device(b, sizeof b);
	dc = emu_fixture_device(c, sizeof c);
	emu_fixture_run(emu_fixture_kernel(m, "k_pairs"), 1, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	for (int i = 0; i < 64; i++)
		for (int h = 0; h < 2; h++) {
			double x = (double)a[i][h], y = (double)b[i][h], z = (double)c[i][h];

			/* op_sel of the product crosses a's registers, neg_lo negates b's low one in the sum */
			cr_assert_eq(out[0][i][h], (float)((double)a[i][!h] * y), "product, lane %d.%d", i, h);
			cr_assert_eq(out[1][i][h], (float)(h ? x + y : x - y), "sum, lane %d.%d", i, h);
			cr_assert_leq(fabs((double)out[2][i][h] - (x * y + z)), fabs(x * y + z) * 0x1.01p-24,
				      "lane %d.%d", i, h);
		}
}

Test(emu_arith, division)
{
	float f[192];
	double d[256];
	int32_t n[256];
	int64_t l[256];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *p[4], *params[] = {&p[0], &p[1], &p[2], &p[3]};

	memset(f, 0, sizeof f);
	memset(d, 0, sizeof d);
	memset(n, 0, sizeof n);
	memset(l, 0, sizeof l);
	for (int i = 0; i < 128; i++) {
		f[i] = ldexpf(emu_fixture_random_float(), (int)(emu_fixture_random() % 200) - 100);
		d[i] = ldexp(1 + (double)emu_fixture_random_float(), (int)(emu_fixture_random() % 1400) - 700);
		n[i] = (int32_t)emu_fixture_random() >> emu_fixture_random() % 31;
		l[i] = (int64_t)((uint64_t)emu_fixture_random() << 32 | emu_fixture_random()) >>
		       emu_fixture_random() % 63;
		if (i >= 64 && n[i] == 0)
			n[i] = 7;
		if (i >= 64 && (l[i] == 0 || l[i] == -1))
			l[i] = 3;
	}
	f[0] = 1;
	f[64] = 0;
	f[65] = INFINITY;
	p[0] = emu_fixture_device(f, sizeof f);
	p[1] = emu_fixture_device(d, sizeof d);
	p[2] = emu_fixture_device(n, sizeof n);
	p[3] = emu_fixture_device(l, sizeof l);
	emu_fixture_run(emu_fixture_kernel(m, "k_divide"), 1, 64, params);
	emu_fixture_read(f, p[0], sizeof f);
	emu_fixture_read(d, p[1], sizeof d);
	emu_fixture_read(n, p[2], sizeof n);
	emu_fixture_read(l, p[3], sizeof l);
	for (int i = 0; i < 64; i++) {
		float q = f[i] / f[64 + i];
		double e = d[i] / d[64 + i], r = sqrt(d[i]);

		cr_assert(f[128 + i] == q, "%g / %g = %.9g, not %.9g", (double)f[i], (double)f[64 + i],
			  (double)f[128 + i], (double)q);
		cr_assert(d[128 + i] == e, "%g / %g = %.17g, not %.17g", d[i], d[64 + i], d[128 + i], e);
		cr_assert(fabs(d[192 + i] - r) <= r * 0x1p-52, "sqrt(%g) = %.17g, not %.17g", d[i], d[192 + i], r);
		cr_assert_eq(n[128 + i], n[i] / n[64 + i]);
		cr_assert_eq(n[192 + i], n[i] % n[64 + i]);
		cr_assert_eq(l[128 + i], l[i] / l[64 + i]);
		cr_assert_eq(l[192 + i], l[i] % l[64 + i]);
	}
}

/* The code whose value is nearest, of neighbours at the same distance the even one. */
static unsigned
nearest_fp8(double x, int digits, int bias)
{
	unsigned best = 0;

	for (unsigned u = 0; u < 256; u++) {
		double v = emu_fixture_from_fp8((uint8_t)u, digits, bias),
		       w = emu_fixture_from_fp8((uint8_t)best, digits, bias);

		if (u != 0x80 && (fabs(v - x) < fabs(w - x) || (fabs(v - x) == fabs(w - x) && u % 2 == 0)))
			best = u;
	}
	return best;
}

Test(emu_arith, eight_bit_floats)
{
	float a[128], values[128];
	uint32_t packed[128];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *da, *dp = emu_fixture_device(NULL, sizeof packed), *dv = emu_fixture_device(NULL, sizeof values);
	void *params[] = {&dp, &dv, &da};

	for (int i = 0; i < 128; i++)
		a[i] = ldexpf(emu_fixture_random_float(), (int)(emu_fixture_random() % 20) - 12);
	da = emu_fixture_device(a, sizeof a);
	emu_fixture_run(emu_fixture_kernel(m, "k_fp8"), 1, 64, params);
	emu_fixture_read(packed, dp, sizeof packed);
	emu_fixture_read(values, dv, sizeof values);
	for (int i = 0; i < 64; i++) {
		double x = (double)a[2 * i], y = (double)a[2 * i + 1];

		cr_assert_eq(packed[i], nearest_fp8(x, 3, 8) | nearest_fp8(y, 3, 8) << 8 | 0x5a5a0000, "%g, %g: %#x", x,
			     y, packed[i]);
		cr_assert_eq(packed[64 + i], 0x5a5a | nearest_fp8(x, 2, 16) << 16 | nearest_fp8(y, 2, 16) << 24,
			     "%g, %g: %#x", x, y, packed[64 + i]);
		cr_assert_eq((double)values[i], emu_fixture_from_fp8((uint8_t)i, 3, 8));
		cr_assert_eq((double)values[64 + i], emu_fixture_from_fp8((uint8_t)(i + 64), 2, 16));
	}
}

#define COMPARE(kernel, type, a, b, value)                                                                             \
	do {                                                                                                           \
		uint64_t want[6] = {0}, got[6];                                                                        \
		void *da = emu_fixture_device(a, sizeof a), *db = emu_fixture_device(b, sizeof b);                     \
		void *dout = emu_fixture_device(NULL, sizeof got), *params[] = {&dout, &da, &db};                      \
		emu_fixture_run(emu_fixture_kernel(m, kernel), 1, 64, params);                                         \
		emu_fixture_read(got, dout, sizeof got);                                                               \
		for (int i = 0; i < 64; i++) {                                                                         \
			type x = value(a[i]), y = value(b[i]);                                                         \
			int r[6] = {x<y, x <= y, x> y, x >= y, x == y, x != y};                                        \
			for (int k = 0; k < 6; k++)                                                                    \
				want[k] |= (uint64_t)r[k] << i;                                                        \
		}                                                                                                      \
		for (int k = 0; k < 6; k++)                                                                            \
			cr_assert_eq(got[k], want[k], "%s, comparison %d: %#llx, not %#llx", kernel, k,                \
				     (unsigned long long)got[k], (unsigned long long)want[k]);                         \
	} while (0)
#define SAME(x) (x)

Test(emu_arith, comparisons)
{
	static const float special[4] = {0.0f, -0.0f, NAN, INFINITY};
	static const uint16_t special_half[4] = {0, 0x8000, 0x7e00, 0x7c00};
	float f[2][64];
	double d[2][64];
	uint16_t h[2][64];
	int32_t n[2][64];
	uint32_t u[2][64];
	int64_t l[2][64];
	uint64_t ul[2][64];
	hipModule_t m = emu_fixture_module("kernels_exec");

	for (int s = 0; s < 2; s++)
		for (int i = 0; i < 64; i++) {
			int k = s ? i / 4 : i;

			f[s][i] = i < 32 ? special[k % 4] : (float)(emu_fixture_random() % 5) - 2;
			d[s][i] = (double)f[s][i];
			h[s][i] = i < 32 ? special_half[k % 4] : random_half();
			u[s][i] = i % 3 ? emu_fixture_random() : (uint32_t)k % 2;
			n[s][i] = (int32_t)u[s][i];
			ul[s][i] = i % 3 ? (uint64_t)u[s][i] << (i % 2 ? 32 : 0) : (uint64_t)k % 2;
			l[s][i] = (int64_t)ul[s][i];
		}
	COMPARE("k_compare_float", float, f[0], f[1], SAME);
	COMPARE("k_compare_double", double, d[0], d[1], SAME);
	COMPARE("k_compare_half", double, h[0], h[1], emu_fixture_from_half);
	COMPARE("k_compare_int", int32_t, n[0], n[1], SAME);
	COMPARE("k_compare_uint", uint32_t, u[0], u[1], SAME);
	COMPARE("k_compare_long", int64_t, l[0], l[1], SAME);
	COMPARE("k_compare_ulong", uint64_t, ul[0], ul[1], SAME);
}
