/*
 * digits.h: unsigned integers and fixed decimals as text, two digits at a time, into buffers that have room. Used by
 * text.c and by whoever writes many numbers; owns nothing, terminates nothing.
 */
#ifndef AITERD_DIGITS_H
#define AITERD_DIGITS_H

#include <stdint.h>
#include <string.h>

#define DIGITS_MAX 20 /* of 64 bits */

static const char digits_pairs[] =
	"00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
	"4950515253545556575859606162636465666768697071727374757677787980818283848586878889909192939495969798"
	"99";

static inline int
digits_count(uint64_t v)
{
	int n = 1;

	while (v >= 10000) {
		v /= 10000;
		n += 4;
	}
	return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

/* v as exactly n digits. */
static inline void
digits_put(char *out, uint64_t v, int n)
{
	while (n >= 2) {
		uint64_t rest = v / 100;

		n -= 2;
		memcpy(out + n, digits_pairs + 2 * (v - rest * 100), 2);
		v = rest;
	}
	if (n)
		out[0] = (char)('0' + v);
}

/* v, up to DIGITS_MAX characters; returns the end. */
static inline char *
digits_u64(char *out, uint64_t v)
{
	int n;

	if (v < 10) {
		*out = (char)('0' + v);
		return out + 1;
	}
	n = digits_count(v);
	digits_put(out, v, n);
	return out + n;
}

/* v, at least 0 and below 1e12, rounded to 2 * pairs decimals (at most 6); returns the end. */
static inline __attribute__((always_inline)) char *
digits_fixed(char *out, double v, int pairs)
{
	uint32_t unit = pairs == 1 ? 100 : pairs == 2 ? 10000 : 1000000, rest;
	uint64_t scaled = (uint64_t)(int64_t)(v * unit + 0.5), whole = scaled / unit;

	out = digits_u64(out, whole);
	*out++ = '.';
	rest = (uint32_t)(scaled - whole * unit);
	if (pairs == 3) {
		memcpy(out, digits_pairs + 2 * (rest / 10000), 2);
		rest %= 10000;
		out += 2;
	}
	if (pairs >= 2) {
		memcpy(out, digits_pairs + 2 * (rest / 100), 2);
		rest %= 100;
		out += 2;
	}
	memcpy(out, digits_pairs + 2 * rest, 2);
	return out + 2;
}

#endif
