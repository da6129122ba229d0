/*
 * test_format_float.c: formatted values must read back (by the C library) as the same bits, and no shorter %.*g may.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/encode.h"

static uint64_t state = 0x2545f4914f6cdd1du;

static uint64_t
rnd(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Significant digits of a decimal text: without zeros at both ends. */
static int
significant(const char *text)
{
	int n = 0, zeros = 0;

	for (; *text && *text != 'e'; text++) {
		if (*text < '0' || *text > '9')
			continue;
		if (*text == '0') {
			zeros += n > 0;
			continue;
		}
		n += zeros + 1;
		zeros = 0;
	}
	return n;
}

static void
check_float(float v)
{
	char text[33], other[64];
	float back;
	int n = format_float(text, v), digits;

	cr_assert(n > 0 && n <= 16, "length %d", n);
	text[n] = '\0';
	back = strtof(text, NULL);
	cr_assert(memcmp(&back, &v, sizeof(v)) == 0, "%a became %s, which is %a", (double)v, text, (double)back);
	digits = significant(text);
	if (digits > 1) {
		snprintf(other, sizeof(other), "%.*e", digits - 2, (double)v);
		cr_assert(strtof(other, NULL) != v, "%s, but %s is shorter", text, other);
	}
	/* no text of as many digits is nearer */
	if (digits > 0) {
		snprintf(other, sizeof(other), "%.*e", digits - 1, (double)v);
		if (strtof(other, NULL) == v)
			cr_assert(fabs(strtod(text, NULL) - (double)v) <=
					  fabs(strtod(other, NULL) - (double)v) * (1 + 1e-9),
				  "%s, but %s is nearer", text, other);
	}
}

static void
check_double(double v)
{
	char text[33], other[64];
	double back;
	int n = format_double(text, v), digits;

	cr_assert(n > 0 && n <= 24, "length %d", n);
	text[n] = '\0';
	back = strtod(text, NULL);
	cr_assert(memcmp(&back, &v, sizeof(v)) == 0, "%a became %s, which is %a", v, text, back);
	digits = significant(text);
	if (digits > 1) {
		snprintf(other, sizeof(other), "%.*e", digits - 2, v);
		cr_assert(strtod(other, NULL) != v, "%s, but %s is shorter", text, other);
	}
}

Test(format_float, float32, .timeout = 120)
{
	for (int i = 0; i < 1500000; i++) {
		uint32_t u = (uint32_t)rnd();
		float v;

		memcpy(&v, &u, sizeof(v));
		if (isfinite(v))
			check_float(v);
		check_float((float)((double)(int64_t)rnd() / 0x1p61));
	}
	for (uint32_t exponent = 0; exponent < 255; exponent++) {
		for (uint32_t m = 0; m < 64; m++) {
			uint32_t u = exponent << 23 | (m & 31), near = (exponent << 23) + 0x7fffff - m;
			float v;

			memcpy(&v, &u, sizeof(v));
			check_float(v);
			check_float(-v);
			memcpy(&v, &near, sizeof(v));
			check_float(v);
		}
	}
	for (int i = -20000; i <= 20000; i++) {
		check_float((float)i);
		check_float((float)i / 1000);
		check_float((float)i * 65536);
	}
}

Test(format_float, float64, .timeout = 120)
{
	for (int i = 0; i < 500000; i++) {
		uint64_t u = rnd();
		double v;

		memcpy(&v, &u, sizeof(v));
		if (isfinite(v))
			check_double(v);
		check_double((double)(int64_t)rnd() / 0x1p61);
		check_double((double)(int)rnd() / 1000);
	}
	for (uint64_t exponent = 0; exponent < 2047; exponent++) {
		for (uint64_t m = 0; m < 16; m++) {
			uint64_t u = exponent << 52 | m, near = (exponent << 52) + 0xfffffffffffff - m;
			double v;

			memcpy(&v, &u, sizeof(v));
			check_double(v);
			memcpy(&v, &near, sizeof(v));
			check_double(-v);
		}
	}
}

/* Integers of moderate size are written exactly, not with the fewest digits. */
static bool
is_integer(float v)
{
	return v == truncf(v) && fabsf(v) < 1e7f;
}

/* All values; read back to float64 and rounded once (as our own reader does), and by way of float32 (as others do). */
Test(format_float, halves)
{
	for (uint32_t h = 0; h < 65536; h++) {
		char text[33], other[64];
		int n, digits;

		if ((h & 0x7c00) != 0x7c00) {
			n = format_fp16(text, (uint16_t)h);
			cr_assert(n > 0 && n <= 16);
			text[n] = '\0';
			cr_assert_eq(fp16_from_double(strtod(text, NULL)), h, "%04x became %s", h, text);
			cr_assert_eq(fp16_from_float(strtof(text, NULL)), h, "%04x became %s", h, text);
			digits = significant(text);
			snprintf(other, sizeof(other), "%.*e", digits > 1 ? digits - 2 : 0,
				 (double)fp16_to_float((uint16_t)h));
			cr_assert(digits < 2 || is_integer(fp16_to_float((uint16_t)h)) ||
					  fp16_from_double(strtod(other, NULL)) != h,
				  "%s, but %s is shorter", text, other);
		}
		if ((h & 0x7f80) != 0x7f80) {
			n = format_bf16(text, (uint16_t)h);
			cr_assert(n > 0 && n <= 16);
			text[n] = '\0';
			cr_assert_eq(bf16_from_double(strtod(text, NULL)), h, "%04x became %s", h, text);
			cr_assert_eq(bf16_from_float(strtof(text, NULL)), h, "%04x became %s", h, text);
			digits = significant(text);
			snprintf(other, sizeof(other), "%.*e", digits > 1 ? digits - 2 : 0,
				 (double)bf16_to_float((uint16_t)h));
			cr_assert(digits < 2 || is_integer(bf16_to_float((uint16_t)h)) ||
					  bf16_from_double(strtod(other, NULL)) != h,
				  "%s, but %s is shorter", text, other);
		}
	}
}

static void
expect_float(float v, const char *want)
{
	char text[33];

	text[format_float(text, v)] = '\0';
	cr_expect_str_eq(text, want);
}

static void
expect_double(double v, const char *want)
{
	char text[33];

	text[format_double(text, v)] = '\0';
	cr_expect_str_eq(text, want);
}

Test(format_float, texts)
{
	char text[33];

	expect_float(0.0f, "0");
	expect_float(-0.0f, "-0.0");
	expect_float(1.0f, "1");
	expect_float(-2.5f, "-2.5");
	expect_float(0.1f, "0.1");
	expect_float(0.0001f, "0.0001");
	expect_float(0.00001f, "1e-5");
	expect_float(1.5e-7f, "1.5e-7");
	expect_float(16777216.0f, "16777216");
	expect_float(1e9f, "1000000000");
	expect_float(1e10f, "1e10");
	expect_float(3.4028235e38f, "3.4028235e38");
	expect_float(1.17549435e-38f, "1.1754944e-38");
	expect_float(1.4e-45f, "1e-45");
	expect_float(NAN, "\"NaN\"");
	expect_float(INFINITY, "\"Infinity\"");
	expect_float(-INFINITY, "\"-Infinity\"");
	expect_double(0.1, "0.1");
	expect_double(1.0 / 3, "0.3333333333333333");
	expect_double(5e-324, "5e-324");
	expect_double(1.7976931348623157e308, "1.7976931348623157e308");
	expect_double(9007199254740993.0, "9007199254740992");
	expect_double(1e15, "1000000000000000");
	expect_double(1e16, "1e16");
	expect_double(-123456.789, "-123456.789");
	expect_double(NAN, "\"NaN\"");
	expect_double(-INFINITY, "\"-Infinity\"");
	text[format_fp16(text, 0x3555)] = '\0'; /* a third */
	cr_expect_str_eq(text, "0.3333");
	text[format_fp16(text, 0x7bff)] = '\0';
	cr_expect_str_eq(text, "65504");
	text[format_fp16(text, 0xfc00)] = '\0';
	cr_expect_str_eq(text, "\"-Infinity\"");
	text[format_bf16(text, 0x4580)] = '\0';
	cr_expect_str_eq(text, "4096");
	text[format_bf16(text, 0x3eab)] = '\0';
	cr_expect_str_eq(text, "0.334");
	text[format_bf16(text, 0x7fc1)] = '\0';
	cr_expect_str_eq(text, "\"NaN\"");
}
