/*
 * rfc1951_internal.h: what the parts of inflate share: rfc1951.c (blocks, and the careful way at the edges of a piece),
 * rfc1951_table.c (decoding tables), rfc1951_serial.c (the fast way), rfc1951_lanes.c (the faster way for long blocks).
 */
#ifndef AITERD_RFC1951_INTERNAL_H
#define AITERD_RFC1951_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "codec/rfc1951.h"

#define RFC1951_WINDOW (32u << 10)
#define RFC1951_LENS (288 + 32)
/* A table is indexed by so many bits; longer codes go on in subtables behind it. */
#define RFC1951_LIT_BITS 11
#define RFC1951_DIST_BITS 8
#define RFC1951_CODE_BITS 7
/* A subtable holds two symbols at least, and is as large as the longest code (15 bits) asks for at most. */
#define RFC1951_LIT_TABLE ((1u << RFC1951_LIT_BITS) + 288 / 2 * (1u << (15 - RFC1951_LIT_BITS)))
#define RFC1951_DIST_TABLE ((1u << RFC1951_DIST_BITS) + 32 / 2 * (1u << (15 - RFC1951_DIST_BITS)))

/*
 * An entry of a table:
 *   bits 0-7    how many bits the code takes, with the extra bits behind it
 *   bits 8-22   the literal, or the smallest length or distance, or where the subtable begins
 *   bits 20-23  lengths: the bits without the extra ones; a subtable: the number of bits to look it up by
 *   bits 24-27  flags, RFC1951_OTHER on everything but literals
 *   bits 28-31  distances: the bits without the extra ones
 */
#define RFC1951_OTHER (1u << 24)
#define RFC1951_SUBTABLE (1u << 25)
#define RFC1951_EOB (1u << 26)
#define RFC1951_INVALID (1u << 27)
/* Needs more than a table's first look. Never on a literal, length or distance. */
#define RFC1951_RARE (RFC1951_SUBTABLE | RFC1951_EOB | RFC1951_INVALID)
/* In a sum of up to 7 literals' entries, so many times this: how many. Their low byte is how many bits they take. */
#define RFC1951_ONE_LITERAL (1u << 20)
#define RFC1951_LIT_EXTRA 20
#define RFC1951_DIST_EXTRA 28

/* The fast ways stop so far before the end of a piece of input, and of the room. */
#define RFC1951_IN_MARGIN 32
#define RFC1951_OUT_MARGIN 320

/* Where more than 1 in RFC1951_MANY symbols is a length, most groups of literals are broken by a match; where more than 1
 * in RFC1951_MOST is, there are so few symbols a byte that lanes do not pay. */
#define RFC1951_MANY 20
#define RFC1951_MOST 3

struct rfc1951_lanes;

struct rfc1951 {
	enum {
		RFC1951_AT_BLOCK,
		RFC1951_AT_STORED_LENGTH,
		RFC1951_AT_STORED_DATA,
		RFC1951_AT_TABLE_SIZES,
		RFC1951_AT_CODE_LENGTHS,
		RFC1951_AT_LENGTHS,
		RFC1951_AT_SYMBOLS,
		RFC1951_AT_END,
	} stage;
	bool last;
	unsigned bits; /* how many there are in `hold`; the ones above them are 0 */
	uint64_t hold;
	uint32_t stored; /* bytes left of a stored block */
	unsigned n_lit, n_dist, n_code, at;
	uint8_t lens[RFC1951_LENS];
	uint32_t copy, dist; /* what is left of a match that the room did not hold */
	/* Lanes: what for in this block; its bits so far, and those of the one before; how many to go the serial way before
	 * the next try; NULL until they are first needed. */
	enum { RFC1951_NO_LANES, RFC1951_LITERALS, RFC1951_MATCHES } mode;
	uint64_t block_bits, guess, rest;
	unsigned failures;
	struct rfc1951_lanes *lanes;
	uint32_t lits[RFC1951_LIT_TABLE], dists[RFC1951_DIST_TABLE];
	/* For lanes, made when first needed: the entries of `lits`, with RFC1951_ONE_LITERAL, that are literals; else 0. */
	bool steps_made;
	uint32_t steps[1u << RFC1951_LIT_BITS];
	size_t past_n;				     /* of which the last 32 KiB count */
	unsigned char past[2 * RFC1951_WINDOW + 16]; /* 16: copies read too far */
};

/* One call's input and room, while a fast way has it. */
struct rfc1951_io {
	const unsigned char *start, *end;
	uint64_t pos; /* in bits from start */
	unsigned char *base, *out, *out_end;
};

/* A symbol, with the distance if it is a length. */
struct rfc1951_token {
	uint32_t e; /* the entry: which kind it is */
	unsigned bits;
	uint32_t value, dist; /* the literal or length */
};

int rfc1951_tables(struct rfc1951 *z);
int rfc1951_code_table(struct rfc1951 *z);
/* Both go on from io->pos, and stop near the end of the input or the room, or after the end of the block (RFC1951_END;
 * the lanes stop before it); rfc1951_serial() also a little after bit `until`. */
int rfc1951_serial(struct rfc1951 *z, struct rfc1951_io *io, uint64_t until);
int rfc1951_abreast(struct rfc1951 *z, struct rfc1951_io *io);
/* A match that begins before this call's room. */
int rfc1951_copy_past(const struct rfc1951 *z, const unsigned char *base, unsigned char *out, size_t len, size_t dist);

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LIT_MASK ((1u << RFC1951_LIT_BITS) - 1)
#define DIST_MASK ((1u << RFC1951_DIST_BITS) - 1)

ALWAYS_INLINE uint64_t
load64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

/* At least 57 bits from bit `pos` on. */
ALWAYS_INLINE uint64_t
peek(const unsigned char *p, uint64_t pos)
{
	return load64(p + (pos >> 3)) >> (pos & 7);
}

ALWAYS_INLINE uint32_t
low_bits(uint64_t w, unsigned n)
{
	return (uint32_t)(w & ((UINT64_C(1) << n) - 1));
}

/* What an entry's base and the bits behind its code in w make together. */
ALWAYS_INLINE uint32_t
length_of(uint32_t e, uint64_t w)
{
	return (e >> 8 & 0x1ff) + (low_bits(w, e & 63) >> (e >> RFC1951_LIT_EXTRA & 15));
}

ALWAYS_INLINE uint32_t
distance_of(uint32_t d, uint64_t w)
{
	return (d >> 8 & 0x7fff) + (low_bits(w, d & 63) >> (d >> RFC1951_DIST_EXTRA));
}

/* Never more than 48 bits. */
ALWAYS_INLINE struct rfc1951_token
token_of(const struct rfc1951 *z, uint64_t w)
{
	struct rfc1951_token t = {.e = z->lits[w & LIT_MASK]};
	uint32_t d;

	if (UNLIKELY(t.e & RFC1951_SUBTABLE)) {
		t.bits = RFC1951_LIT_BITS;
		w >>= RFC1951_LIT_BITS;
		t.e = z->lits[(t.e >> 8 & 0xfff) + low_bits(w, t.e >> 20 & 15)];
	}
	t.bits += t.e & 63;
	if (t.e < RFC1951_OTHER) {
		t.value = t.e >> 8;
		return t;
	}
	if (t.e & RFC1951_RARE)
		return t;
	t.value = length_of(t.e, w);
	w >>= t.e & 63;
	d = z->dists[w & DIST_MASK];
	if (UNLIKELY(d & RFC1951_SUBTABLE)) {
		t.bits += RFC1951_DIST_BITS;
		w >>= RFC1951_DIST_BITS;
		d = z->dists[(d >> 8 & 0xfff) + low_bits(w, d >> 20 & 15)];
	}
	t.bits += d & 63;
	t.e |= d & RFC1951_INVALID;
	t.dist = distance_of(d, w);
	return t;
}

/* The bytes of a match; the last of them need not be there yet, and 16 bytes more than len may be written. */
ALWAYS_INLINE void
copy_from(unsigned char *out, const unsigned char *from, size_t len, size_t dist)
{
	unsigned char *end = out + len;

	if (LIKELY(dist >= 16)) {
		do {
			memcpy(out, from, 16);
			out += 16;
			from += 16;
		} while (UNLIKELY(out < end));
	} else if (dist == 1) {
		memset(out, from[0], len);
	} else {
		while (out < end)
			*out++ = *from++;
	}
}

/* A match at out that begins within this call's room. */
ALWAYS_INLINE void
copy_near(unsigned char *out, size_t len, size_t dist)
{
	copy_from(out, out - dist, len, dist);
}

/* One that may begin before it: no branch, as that is often not to be foreseen. */
ALWAYS_INLINE int
copy_match(const struct rfc1951 *z, const unsigned char *base, unsigned char *out, size_t len, size_t dist)
{
	size_t made = (size_t)(out - base), far = dist - made;
	bool is_far = dist > made;

	if (UNLIKELY(is_far & ((far < len) | (far > z->past_n))))
		return rfc1951_copy_past(z, base, out, len, dist);
	copy_from(out, is_far ? z->past + (z->past_n - far) : out - dist, len, dist);
	return 0;
}

#endif
