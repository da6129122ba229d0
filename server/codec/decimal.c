/*
 * decimal.c: the rarer ways from decimal to binary (decimal.h): many digits, large exponents, ties.
 * Called through decimal.h's inline functions; owns nothing.
 */
#include "codec/decimal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/json.h"
#include "codec/pow10.h"

/* No finite float64 needs more digits than this to be told from its neighbours' halfway points (767). */
#define DIGITS_MAX 800

__extension__ typedef unsigned __int128 uint128;

/* A binary format: explicit mantissa bits, bias, exponent field of infinity, and where ties can occur. */
struct format {
	int bits, bias, infinity;
	int q_min, q_max; /* below: 0, above: infinity */
	int tie_min, tie_max;
};

static const struct format binary64 = {52, 1023, 0x7ff, -342, 308, -4, 23};
static const struct format binary32 = {23, 127, 0xff, -64, 38, -17, 10};

/* Too many digits for 64 bits: take the first 19 that count. */
void
decimal_cut(struct decimal *d)
{
	const char *p = d->digits;
	int64_t q = d->exponent;
	bool fraction = false;
	int n = 0;

	d->w = 0;
	for (; p < d->end; p++) {
		if (*p == '.') {
			fraction = true;
			continue;
		}
		if (n == 19) {
			d->cut = true;
			q += !fraction;
			continue;
		}
		d->w = d->w * 10 + (uint64_t)(*p - '0');
		n += n > 0 || *p != '0';
		q -= fraction;
	}
	d->q = q;
}

/*
 * w * 10^q rounded to nearest even as the bits of the format; false when 128 bits of the power do not decide.
 * Lemire's algorithm: the 64x128 bit product's leading bits are the mantissa unless the bits below are all ones.
 */
static bool
round_product(const struct format *f, uint64_t w, int64_t q, uint64_t *bits)
{
	struct pow10 pow;
	uint128 product;
	uint64_t hi, lo, mantissa;
	int lead, shift, upper, power;

	*bits = 0;
	if (w == 0 || q < f->q_min)
		return true;
	*bits = (uint64_t)f->infinity << f->bits;
	if (q > f->q_max)
		return true;
	pow = pow10_table[q - POW10_MIN];
	if (q < 0 && q >= -27)
		pow.lo++; /* rounded up, these make exact quotients come out exact */
	lead = __builtin_clzll(w);
	w <<= lead;
	product = (uint128)w * pow.hi;
	hi = (uint64_t)(product >> 64);
	lo = (uint64_t)product;
	if ((hi & (UINT64_MAX >> (f->bits + 3))) == UINT64_MAX >> (f->bits + 3)) {
		uint64_t second = (uint64_t)((uint128)w * pow.lo >> 64);

		lo += second;
		hi += lo < second;
		if (lo == UINT64_MAX && (q < -27 || q > 55))
			return false;
	}
	upper = (int)(hi >> 63);
	shift = upper + 64 - f->bits - 3;
	mantissa = hi >> shift;
	power = (int)((217706 * q) >> 16) + 63 + upper - lead + f->bias; /* 217706 / 2^16 = log2(10) */
	if (power <= 0) {
		if (power <= -63) {
			*bits = 0;
			return true;
		}
		mantissa >>= 1 - power;
		mantissa += mantissa & 1;
		mantissa >>= 1;
		/* rounding up may have made it the least normal number: the carry is its exponent */
		*bits = mantissa;
		return true;
	}
	/* exactly between two: to the even one */
	if (lo <= 1 && q >= f->tie_min && q <= f->tie_max && (mantissa & 3) == 1 && mantissa << shift == hi)
		mantissa &= ~UINT64_C(1);
	mantissa += mantissa & 1;
	mantissa >>= 1;
	if (mantissa >= UINT64_C(2) << f->bits) {
		mantissa = UINT64_C(1) << f->bits;
		power++;
	}
	if (power < f->infinity)
		*bits = (uint64_t)power << f->bits | (mantissa & ((UINT64_C(1) << f->bits) - 1));
	return true;
}

/* Digits and exponent without a point (which strtod takes from the locale), as many as can matter. */
static void
plain_text(const struct decimal *d, char *out, size_t size)
{
	int64_t q = d->exponent;
	bool fraction = false, more = false;
	size_t n = 0;

	for (const char *p = d->digits; p < d->end; p++) {
		if (*p == '.') {
			fraction = true;
		} else if (n < DIGITS_MAX) {
			q -= fraction;
			if (n > 0 || *p != '0')
				out[n++] = *p;
		} else {
			q += !fraction;
			more = more || *p != '0';
		}
	}
	if (more) { /* a 1 behind them stands for all that was left out */
		out[n++] = '1';
		q--;
	}
	if (n == 0)
		out[n++] = '0';
	snprintf(out + n, size - n, "e%" PRId64, q);
}

static double
slow_double(const struct decimal *d)
{
	char text[DIGITS_MAX + 32];

	plain_text(d, text, sizeof(text));
	return strtod(text, NULL);
}

static float
slow_float(const struct decimal *d)
{
	char text[DIGITS_MAX + 32];

	plain_text(d, text, sizeof(text));
	return strtof(text, NULL);
}

const double decimal_pow10[23] = {1e0,	1e1,  1e2,  1e3,  1e4,	1e5,  1e6,  1e7,  1e8,	1e9,  1e10, 1e11,
				  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

double
decimal_hard_double(const struct decimal *d)
{
	uint64_t bits, next;
	double v;

	if (!round_product(&binary64, d->w, d->q, &bits))
		return slow_double(d);
	if (d->cut && (!round_product(&binary64, d->w + 1, d->q, &next) || next != bits))
		return slow_double(d);
	memcpy(&v, &bits, sizeof(v));
	return v;
}

float
decimal_hard_float(const struct decimal *d)
{
	uint64_t bits, next;
	uint32_t half;
	float v;

	if (!round_product(&binary32, d->w, d->q, &bits))
		return slow_float(d);
	if (d->cut && (!round_product(&binary32, d->w + 1, d->q, &next) || next != bits))
		return slow_float(d);
	half = (uint32_t)bits;
	memcpy(&v, &half, sizeof(v));
	return v;
}

double
json_double(const char *p, const char *end, const char **next)
{
	struct decimal d;

	*next = p < end ? decimal_scan(p, end, &d) : NULL;
	return *next ? decimal_double(&d) : 0;
}

float
json_float(const char *p, const char *end, const char **next)
{
	struct decimal d;

	*next = p < end ? decimal_scan(p, end, &d) : NULL;
	return *next ? decimal_float(&d) : 0;
}
