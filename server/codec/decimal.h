/*
 * decimal.h: decimals to binary, correctly rounded; the quick part, inlined into the loop that fills tensors
 * (json_number.c). decimal.c has what is rarely needed. Nothing is allocated.
 *
 * A number's first 19 digits fit 64 bits. Where they and the power of ten are exact in float64, one multiplication or
 * division rounds correctly (Clinger, "How to read floating point numbers accurately", 1990); else a product with 128
 * bits of the power of ten decides (Lemire, "Number parsing at a gigabyte per second", 2021). What neither can decide
 * (more digits that matter) goes to strtod.
 */
#ifndef AITERD_DECIMAL_H
#define AITERD_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define DECIMAL_INLINE static inline __attribute__((always_inline))

struct decimal {
	uint64_t w; /* the first 19 digits at most */
	int64_t q;  /* times 10^q */
	bool negative;
	bool cut;		  /* there were more digits */
	const char *digits, *end; /* of the mantissa, with its point */
	int64_t exponent;	  /* as written after e */
};

/* Take the first 19 digits that count, of more. */
void decimal_cut(struct decimal *d);
/* For what decimal_is_easy() does not say yes to; the sign is not looked at. */
double decimal_hard_double(const struct decimal *d);
float decimal_hard_float(const struct decimal *d);

extern const double decimal_pow10[23];

DECIMAL_INLINE bool
decimal_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

/*
 * Append the digits at p to *w; returns the first character that is none. Eight at a time in one register, and what is
 * left of them too: how many digits a number has is hard to predict, so no branch depends on it.
 */
DECIMAL_INLINE const char *
decimal_digits(const char *p, const char *end, uint64_t *w)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	static const uint64_t scale[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

	while (end - p >= 8) {
		uint64_t v, other;
		unsigned n;

		memcpy(&v, p, 8);
		/* the high bit of the first byte that is no digit (those behind it may be wrong) */
		other = ((v + 0x4646464646464646u) | (v - 0x3030303030303030u)) & 0x8080808080808080u;
		n = other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
		if (n == 0)
			return p;
		v = (v - 0x3030303030303030u) << (64 - 8 * n); /* zeros in front */
		v = v * 10 + (v >> 8);			       /* pairs, in every other byte */
		v = ((v & 0x000000ff000000ffu) * 0x000f424000000064u +
		     ((v >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u) >>
		    32;
		p += n;
		if (n < 8) {
			*w = *w * scale[n] + v;
			return p;
		}
		*w = *w * 100000000 + v;
	}
#endif
	while (p < end && decimal_digit(*p))
		*w = *w * 10 + (uint64_t)(*p++ - '0');
	return p;
}

/* The JSON number at p; NULL when there is none. */
DECIMAL_INLINE const char *
decimal_scan(const char *p, const char *end, struct decimal *d)
{
	const char *begin, *fraction;
	uint64_t w = 0;
	int64_t digits;

	d->negative = *p == '-';
	p += d->negative;
	if (p == end || !decimal_digit(*p))
		return NULL;
	begin = p;
	if (*p == '0' && end - p > 1 && decimal_digit(p[1]))
		return NULL;
	w = (uint64_t)(*p++ - '0');
	if (p < end && decimal_digit(*p))
		p = decimal_digits(p, end, &w);
	digits = p - begin;
	d->q = 0;
	if (p < end && *p == '.') {
		fraction = ++p;
		p = decimal_digits(p, end, &w);
		if (p == fraction)
			return NULL;
		d->q = fraction - p;
		digits += p - fraction;
	}
	d->w = w;
	d->digits = begin;
	d->end = p;
	d->exponent = 0;
	d->cut = false;
	if (p < end && (*p == 'e' || *p == 'E')) {
		bool minus;
		int64_t x = 0;

		p++;
		minus = p < end && *p == '-';
		p += p < end && (*p == '-' || *p == '+');
		if (p == end || !decimal_digit(*p))
			return NULL;
		for (; p < end && decimal_digit(*p); p++)
			if (x < INT64_C(1000000000000000)) /* more than any text has digits to weigh against */
				x = x * 10 + (*p - '0');
		d->exponent = minus ? -x : x;
		d->q += d->exponent;
	}
	if (digits > 19)
		decimal_cut(d);
	return p;
}

DECIMAL_INLINE bool
decimal_is_easy(const struct decimal *d)
{
	return d->w <= UINT64_C(1) << 53 && d->q >= -22 && d->q <= 22 && !d->cut;
}

DECIMAL_INLINE double
decimal_easy(const struct decimal *d)
{
	double v = (double)d->w;

	return d->q < 0 ? v / decimal_pow10[-d->q] : v * decimal_pow10[d->q];
}

DECIMAL_INLINE double
decimal_double(const struct decimal *d)
{
	double v = decimal_is_easy(d) ? decimal_easy(d) : decimal_hard_double(d);
	uint64_t bits;

	/* The sign as a bit: half of the numbers have one, and no branch predicts which. */
	memcpy(&bits, &v, sizeof(bits));
	bits |= (uint64_t)d->negative << 63;
	memcpy(&v, &bits, sizeof(bits));
	return v;
}

DECIMAL_INLINE float
decimal_float(const struct decimal *d)
{
	uint32_t signed_bits;
	float f;

	if (decimal_is_easy(d)) {
		double v = decimal_easy(d);
		uint64_t bits;

		/* Rounding twice only errs when the float64 lies exactly between two float32s (normal ones: an easy
		 * decimal is 0 or at least 1e-22). */
		memcpy(&bits, &v, sizeof(bits));
		f = (bits & 0x1fffffff) == 0x10000000 ? decimal_hard_float(d) : (float)v;
	} else {
		f = decimal_hard_float(d);
	}
	memcpy(&signed_bits, &f, sizeof(signed_bits));
	signed_bits |= (uint32_t)d->negative << 31;
	memcpy(&f, &signed_bits, sizeof(signed_bits));
	return f;
}

#endif
