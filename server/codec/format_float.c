/*
 * format_float.c: the shortest decimal that reads back as the same binary floating-point value, and of those the
 * nearest. Called by the JSON replies for every element; owns nothing.
 *
 * The algorithm is Schubfach (R. Giulietti, "The Schubfach way to render doubles", 2020): with 10^k just below the
 * distance of neighbouring values there are four candidates, two multiples of 10^k and two of 10^(k+1); which of them
 * lie between the halfway points to the neighbours is decided with products rounded to odd, which keep the order.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "codec/encode.h"
#include "codec/pow10.h"
#include "digits.h"

__extension__ typedef unsigned __int128 uint128;

/* Fixed notation is for first digits' exponents from this to the one given; others are written with e. */
#define FIXED_MIN (-4)
#define FIXED_MAX_DOUBLE 15
#define FIXED_MAX_SMALL 9
/* Integers of narrow types below this are written exactly, though fewer digits would do. */
#define INTEGER_MAX 10000000

struct decimal_value {
	uint64_t digits;
	int exponent; /* digits * 10^exponent */
};

/* floor(log10(2^q)), or floor(log10(3/4 * 2^q)), and floor(log2(10^k)), for |q| < 1500, |k| < 1200 */
static inline int
log10_pow2(int q, bool closer)
{
	return (q * 1262611 - (closer ? 524031 : 0)) >> 22;
}

static inline int
log2_pow10(int k)
{
	return (k * 1741647) >> 19;
}

/* The candidates, once v and its halfway points are scaled by 4 * 10^-k. */
static inline struct decimal_value
choose(uint64_t low, uint64_t v, uint64_t high, bool even, int k)
{
	uint64_t s = v / 4, middle = 4 * s + 2;
	uint64_t lower = low + !even, upper = high - !even;
	bool below, above;

	if (s >= 10) {
		uint64_t tens = s / 10;

		below = lower <= 40 * tens;
		above = 40 * tens + 40 <= upper;
		if (below != above)
			return (struct decimal_value){tens + above, k + 1};
	}
	below = lower <= 4 * s;
	above = 4 * s + 4 <= upper;
	if (below != above)
		return (struct decimal_value){s + above, k};
	return (struct decimal_value){s + (v > middle || (v == middle && (s & 1))), k};
}

/* c * g * 2^-64, the bits cut off gathered in the last one. */
static inline uint64_t
scale_small(uint64_t g, uint32_t c)
{
	uint128 p = (uint128)g * c;

	return (uint64_t)(p >> 64) | ((uint32_t)(p >> 32) > 1);
}

static inline uint64_t
scale_double(uint64_t hi, uint64_t lo, uint64_t c)
{
	uint128 p = (uint128)hi * c + (uint64_t)((uint128)lo * c >> 64);

	return (uint64_t)(p >> 64) | ((uint64_t)p > 1);
}

/* c * 2^q with c < 2^24 (float32 and what is smaller). closer: the neighbour below is half as far. */
static inline struct decimal_value
shortest_small(uint32_t c, int q, bool closer)
{
	int k = log10_pow2(q, closer);
	int h = q + log2_pow10(-k) + 1;
	const struct pow10 *p = &pow10_table[-k - POW10_MIN];
	uint64_t g = p->hi + (p->lo != 0); /* rounded up */

	return choose(scale_small(g, (4 * c - 2 + closer) << h), scale_small(g, (4 * c) << h),
		      scale_small(g, (4 * c + 2) << h), (c & 1) == 0, k);
}

static inline struct decimal_value
shortest_double(uint64_t c, int q, bool closer)
{
	int k = log10_pow2(q, closer);
	int h = q + log2_pow10(-k) + 1;
	const struct pow10 *p = &pow10_table[-k - POW10_MIN];
	bool exact = -k >= 0 && -k <= 55;
	uint64_t lo = p->lo + !exact; /* rounded up; no entry's low half is all ones */

	return choose(scale_double(p->hi, lo, (4 * c - 2 + closer) << h), scale_double(p->hi, lo, (4 * c) << h),
		      scale_double(p->hi, lo, (4 * c + 2) << h), (c & 1) == 0, k);
}

static int
put_exponent(char *out, int x)
{
	char *p = out;

	*p++ = 'e';
	if (x < 0) {
		*p++ = '-';
		x = -x;
	}
	if (x >= 100) {
		*p++ = (char)('0' + x / 100);
		x %= 100;
		*p++ = (char)('0' + x / 10);
	} else if (x >= 10) {
		*p++ = (char)('0' + x / 10);
	}
	*p++ = (char)('0' + x % 10);
	return (int)(p - out);
}

static int
put_decimal(char *buf, struct decimal_value d, bool negative, int fixed_max)
{
	char *p = buf;
	int n, first;

	while (d.digits % 10 == 0) {
		d.digits /= 10;
		d.exponent++;
	}
	n = digits_count(d.digits);
	first = d.exponent + n - 1;
	*p = '-';
	p += negative;
	if (first < FIXED_MIN || first > fixed_max) {
		digits_put(p + 1, d.digits, n);
		p[0] = p[1];
		if (n > 1) {
			p[1] = '.';
			p += n + 1;
		} else {
			p++;
		}
		p += put_exponent(p, first);
	} else if (first < 0) {
		memcpy(p, "0.000000", 8);
		p += 1 - first;
		digits_put(p, d.digits, n);
		p += n;
	} else if (d.exponent >= 0) {
		digits_put(p, d.digits, n);
		memset(p + n, '0', (size_t)d.exponent);
		p += n + d.exponent;
	} else {
		digits_put(p + 1, d.digits, n);
		memmove(p, p + 1, (size_t)first + 1);
		p[first + 1] = '.';
		p += n + 1;
	}
	return (int)(p - buf);
}

static int
put_text(char *buf, const char *s)
{
	size_t n = strlen(s);

	memcpy(buf, s, n);
	return (int)n;
}

static int
put_special(char *buf, bool nan, bool negative)
{
	return put_text(buf, nan ? "\"NaN\"" : negative ? "\"-Infinity\"" : "\"Infinity\"");
}

/* A value of a format with up to 24 significant bits. */
static inline int
put_small(char *buf, uint32_t bits, int mantissa_bits, int exponent_bits)
{
	uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
	int top = (1 << exponent_bits) - 1, bias = top / 2;
	int exponent = (int)(bits >> mantissa_bits) & top;
	bool negative = bits >> (mantissa_bits + exponent_bits) & 1;
	uint32_t c = mantissa;
	int q = 1 - bias - mantissa_bits;

	if (exponent == top)
		return put_special(buf, mantissa != 0, negative);
	if (exponent != 0) {
		c |= 1u << mantissa_bits;
		q = exponent - bias - mantissa_bits;
		/* Integers are written out: quick, and 4096 as a bfloat16 should not read 4100. */
		if (q <= 0 && q > -mantissa_bits && (c & ((1u << -q) - 1)) == 0)
			return put_decimal(buf, (struct decimal_value){c >> -q, 0}, negative, FIXED_MAX_SMALL);
		if (q > 0 && q < 24 && (uint64_t)c << q < INTEGER_MAX)
			return put_decimal(buf, (struct decimal_value){(uint64_t)c << q, 0}, negative, FIXED_MAX_SMALL);
	} else if (mantissa == 0) {
		return put_text(buf, negative ? "-0.0" : "0");
	}
	return put_decimal(buf, shortest_small(c, q, mantissa == 0 && exponent > 1), negative, FIXED_MAX_SMALL);
}

int
format_float(char *buf, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return put_small(buf, bits, 23, 8);
}

int
format_fp16(char *buf, uint16_t h)
{
	return put_small(buf, h, 10, 5);
}

int
format_bf16(char *buf, uint16_t h)
{
	return put_small(buf, h, 7, 8);
}

int
format_double(char *buf, double v)
{
	uint64_t bits, mantissa, c;
	int exponent, q = -1074;
	bool negative;

	memcpy(&bits, &v, sizeof(bits));
	mantissa = c = bits & ((UINT64_C(1) << 52) - 1);
	exponent = (int)(bits >> 52) & 0x7ff;
	negative = bits >> 63;
	if (exponent == 0x7ff)
		return put_special(buf, mantissa != 0, negative);
	if (exponent != 0) {
		c |= UINT64_C(1) << 52;
		q = exponent - 1075;
	} else if (mantissa == 0) {
		return put_text(buf, negative ? "-0.0" : "0");
	}
	return put_decimal(buf, shortest_double(c, q, mantissa == 0 && exponent > 1), negative, FIXED_MAX_DOUBLE);
}
