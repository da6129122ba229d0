/*
 * shuffle.c: byte planes to elements and back (all first bytes, then all second bytes ...), which is what
 * makes floats compress. Called for tensors that were sent shuffled, and by tests and clients.
 *
 * Both directions are a transposition in log2(size) rounds of interleaving. SSE2 is part of every x86-64; with
 * it the loops keep up with memory at -O2, which gcc 12 does not vectorise by itself. Other machines take
 * the plain loop at the end, which also does the last few elements.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "codec/intake.h"

#ifdef __SSE2__
#include <emmintrin.h>

#define STEP 16		   /* elements a round of the vector loops takes */
#define SHUFFLE8_BLOCK 256 /* elements */

static inline __m128i
load(const unsigned char *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline void
store(unsigned char *p, __m128i v)
{
	_mm_storeu_si128((__m128i *)(void *)p, v);
}

static inline __m128i
evens(__m128i a, __m128i b)
{
	const __m128i low = _mm_set1_epi16(0x00ff);

	return _mm_packus_epi16(_mm_and_si128(a, low), _mm_and_si128(b, low));
}

static inline __m128i
odds(__m128i a, __m128i b)
{
	return _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8));
}

/* Each returns how many elements it did, a multiple of STEP. */

static size_t
unshuffle2(unsigned char *out, const unsigned char *in, size_t n)
{
	size_t i = 0;

	for (; n - i >= STEP; i += STEP) {
		__m128i a = load(in + i), b = load(in + n + i);
		store(out + 2 * i, _mm_unpacklo_epi8(a, b));
		store(out + 2 * i + 16, _mm_unpackhi_epi8(a, b));
	}
	return i;
}

static size_t
shuffle2(unsigned char *out, const unsigned char *in, size_t n)
{
	size_t i = 0;

	for (; n - i >= STEP; i += STEP) {
		__m128i a = load(in + 2 * i), b = load(in + 2 * i + 16);
		store(out + i, evens(a, b));
		store(out + n + i, odds(a, b));
	}
	return i;
}

static size_t
unshuffle4(unsigned char *out, const unsigned char *in, size_t n)
{
	size_t i = 0;

	for (; n - i >= STEP; i += STEP) {
		__m128i a = load(in + i), b = load(in + n + i), c = load(in + 2 * n + i), d = load(in + 3 * n + i);
		__m128i ac0 = _mm_unpacklo_epi8(a, c), ac1 = _mm_unpackhi_epi8(a, c);
		__m128i bd0 = _mm_unpacklo_epi8(b, d), bd1 = _mm_unpackhi_epi8(b, d);
		unsigned char *o = out + 4 * i;
		store(o, _mm_unpacklo_epi8(ac0, bd0));
		store(o + 16, _mm_unpackhi_epi8(ac0, bd0));
		store(o + 32, _mm_unpacklo_epi8(ac1, bd1));
		store(o + 48, _mm_unpackhi_epi8(ac1, bd1));
	}
	return i;
}

static size_t
shuffle4(unsigned char *out, const unsigned char *in, size_t n)
{
	size_t i = 0;

	for (; n - i >= STEP; i += STEP) {
		const unsigned char *p = in + 4 * i;
		__m128i a = load(p), b = load(p + 16), c = load(p + 32), d = load(p + 48);
		__m128i ac0 = evens(a, b), bd0 = odds(a, b), ac1 = evens(c, d), bd1 = odds(c, d);
		store(out + i, evens(ac0, ac1));
		store(out + n + i, evens(bd0, bd1));
		store(out + 2 * n + i, odds(ac0, ac1));
		store(out + 3 * n + i, odds(bd0, bd1));
	}
	return i;
}

/* 16 elements of 8 bytes: planes at in + k * stride. */
static inline void
unshuffle8_step(unsigned char *o, const unsigned char *in, size_t stride)
{
	__m128i p0 = load(in), p1 = load(in + stride), p2 = load(in + 2 * stride), p3 = load(in + 3 * stride);
	__m128i p4 = load(in + 4 * stride), p5 = load(in + 5 * stride);
	__m128i p6 = load(in + 6 * stride), p7 = load(in + 7 * stride);
	__m128i a0 = _mm_unpacklo_epi8(p0, p4), a1 = _mm_unpackhi_epi8(p0, p4);
	__m128i b0 = _mm_unpacklo_epi8(p1, p5), b1 = _mm_unpackhi_epi8(p1, p5);
	__m128i c0 = _mm_unpacklo_epi8(p2, p6), c1 = _mm_unpackhi_epi8(p2, p6);
	__m128i d0 = _mm_unpacklo_epi8(p3, p7), d1 = _mm_unpackhi_epi8(p3, p7);
	__m128i ac0 = _mm_unpacklo_epi8(a0, c0), ac1 = _mm_unpackhi_epi8(a0, c0);
	__m128i ac2 = _mm_unpacklo_epi8(a1, c1), ac3 = _mm_unpackhi_epi8(a1, c1);
	__m128i bd0 = _mm_unpacklo_epi8(b0, d0), bd1 = _mm_unpackhi_epi8(b0, d0);
	__m128i bd2 = _mm_unpacklo_epi8(b1, d1), bd3 = _mm_unpackhi_epi8(b1, d1);

	store(o, _mm_unpacklo_epi8(ac0, bd0));
	store(o + 16, _mm_unpackhi_epi8(ac0, bd0));
	store(o + 32, _mm_unpacklo_epi8(ac1, bd1));
	store(o + 48, _mm_unpackhi_epi8(ac1, bd1));
	store(o + 64, _mm_unpacklo_epi8(ac2, bd2));
	store(o + 80, _mm_unpackhi_epi8(ac2, bd2));
	store(o + 96, _mm_unpacklo_epi8(ac3, bd3));
	store(o + 112, _mm_unpackhi_epi8(ac3, bd3));
}

static inline void
shuffle8_step(unsigned char *out, size_t stride, const unsigned char *p)
{
	__m128i r0 = load(p), r1 = load(p + 16), r2 = load(p + 32), r3 = load(p + 48);
	__m128i r4 = load(p + 64), r5 = load(p + 80), r6 = load(p + 96), r7 = load(p + 112);
	__m128i ac0 = evens(r0, r1), bd0 = odds(r0, r1), ac1 = evens(r2, r3), bd1 = odds(r2, r3);
	__m128i ac2 = evens(r4, r5), bd2 = odds(r4, r5), ac3 = evens(r6, r7), bd3 = odds(r6, r7);
	__m128i a0 = evens(ac0, ac1), c0 = odds(ac0, ac1), a1 = evens(ac2, ac3), c1 = odds(ac2, ac3);
	__m128i b0 = evens(bd0, bd1), d0 = odds(bd0, bd1), b1 = evens(bd2, bd3), d1 = odds(bd2, bd3);

	store(out, evens(a0, a1));
	store(out + stride, evens(b0, b1));
	store(out + 2 * stride, evens(c0, c1));
	store(out + 3 * stride, evens(d0, d1));
	store(out + 4 * stride, odds(a0, a1));
	store(out + 5 * stride, odds(b0, b1));
	store(out + 6 * stride, odds(c0, c1));
	store(out + 7 * stride, odds(d0, d1));
}

static size_t
unshuffle8(unsigned char *out, const unsigned char *in, size_t n)
{
	size_t i = 0;

	for (; n - i >= STEP; i += STEP)
		unshuffle8_step(out + 8 * i, in + i, n);
	return i;
}

/* Eight streams of 16-byte stores are slow: blocks are gathered first, then written a few lines at a time. */
static size_t
shuffle8(unsigned char *out, const unsigned char *in, size_t n)
{
	unsigned char planes[8 * SHUFFLE8_BLOCK];
	size_t i = 0;

	for (; n - i >= SHUFFLE8_BLOCK; i += SHUFFLE8_BLOCK) {
		for (size_t j = 0; j < SHUFFLE8_BLOCK; j += STEP)
			shuffle8_step(planes + j, SHUFFLE8_BLOCK, in + 8 * (i + j));
		for (size_t k = 0; k < 8; k++)
			memcpy(out + k * n + i, planes + k * SHUFFLE8_BLOCK, SHUFFLE8_BLOCK);
	}
	for (; n - i >= STEP; i += STEP)
		shuffle8_step(out + i, n, in + 8 * i);
	return i;
}

static size_t
unshuffle_most(unsigned char *out, const unsigned char *in, size_t n, unsigned size)
{
	return size == 2 ? unshuffle2(out, in, n) : size == 4 ? unshuffle4(out, in, n) : unshuffle8(out, in, n);
}

static size_t
shuffle_most(unsigned char *out, const unsigned char *in, size_t n, unsigned size)
{
	return size == 2 ? shuffle2(out, in, n) : size == 4 ? shuffle4(out, in, n) : shuffle8(out, in, n);
}

#else

static size_t
unshuffle_most(unsigned char *out, const unsigned char *in, size_t n, unsigned size)
{
	(void)out, (void)in, (void)n, (void)size;
	return 0;
}

static size_t
shuffle_most(unsigned char *out, const unsigned char *in, size_t n, unsigned size)
{
	return unshuffle_most(out, in, n, size);
}

#endif

void
byte_unshuffle(unsigned char *out, const unsigned char *in, size_t n, unsigned size)
{
	assert(size == 1 || size == 2 || size == 4 || size == 8);
	if (n == 0)
		return;
	if (size == 1) {
		memcpy(out, in, n);
		return;
	}
	for (size_t i = unshuffle_most(out, in, n, size); i < n; i++)
		for (unsigned b = 0; b < size; b++)
			out[i * size + b] = in[b * n + i];
}

void
byte_shuffle(unsigned char *out, const unsigned char *in, size_t n, unsigned size)
{
	assert(size == 1 || size == 2 || size == 4 || size == 8);
	if (n == 0)
		return;
	if (size == 1) {
		memcpy(out, in, n);
		return;
	}
	for (size_t i = shuffle_most(out, in, n, size); i < n; i++)
		for (unsigned b = 0; b < size; b++)
			out[b * n + i] = in[i * size + b];
}
