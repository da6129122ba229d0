/*
 * inflate_fixture.h: for tests of the content codings that come in: a decoder that records what it gets, an inflater
 * driven with pieces of random sizes and windows of all sizes, streams made by zlib and zstd.
 */
#ifndef AITERD_INFLATE_FIXTURE_H
#define AITERD_INFLATE_FIXTURE_H

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#include <zstd.h>

#include "codec/decoder.h"

#define BIG (300u << 10)

/* Compares everything it gets with `want`; offers windows into `got`. */
struct recorder {
	struct decoder d;
	const unsigned char *want; /* NULL: only counts */
	size_t want_n, got_n, window_max, window_open;
	unsigned char *got;
	bool finished;
	uint64_t fed, advanced;
};

static uint32_t seed = 1;

static inline uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

static inline int
rec_take(struct recorder *r, const unsigned char *p, size_t n, struct err *e)
{
	if (r->want != NULL) {
		if (n > r->want_n - r->got_n)
			return err_set(e, ERR_MALFORMED_BODY, "more than wanted");
		if (n > 0 && p != r->got + r->got_n)
			memcpy(r->got + r->got_n, p, n);
	}
	r->got_n += n;
	return 0;
}

static inline int
rec_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct recorder *r = (struct recorder *)d;

	cr_assert(n > 0);
	r->fed += n;
	return rec_take(r, p, n, e);
}

static inline size_t
rec_window(struct decoder *d, unsigned char **dst)
{
	struct recorder *r = (struct recorder *)d;
	size_t n = r->want_n - r->got_n;

	if (r->want == NULL || r->window_max == 0)
		return r->window_open = 0;
	if (n > r->window_max)
		n = rnd() % 4 == 0 ? 0 : 1 + rnd() % r->window_max; /* it may change from call to call */
	*dst = r->got + r->got_n;
	return r->window_open = n;
}

static inline int
rec_advance(struct decoder *d, size_t n, struct err *e)
{
	struct recorder *r = (struct recorder *)d;

	cr_assert(n > 0 && n <= r->window_open);
	r->window_open -= n;
	r->advanced += n;
	return rec_take(r, r->got + r->got_n, n, e);
}

static inline int
rec_finish(struct decoder *d, struct err *e)
{
	struct recorder *r = (struct recorder *)d;

	r->finished = true;
	if (r->want != NULL && r->got_n != r->want_n)
		return err_set(e, ERR_MALFORMED_BODY, "less than wanted");
	return 0;
}

static inline void
rec_free(struct decoder *d)
{
	(void)d;
}

static const struct decoder_ops rec_ops = {
	.name = "recorder",
	.feed = rec_feed,
	.window = rec_window,
	.advance = rec_advance,
	.finish = rec_finish,
	.free = rec_free,
};

static const struct inflate_limits no_limits = {.max_out = UINT64_MAX, .max_ratio = 0};

/* Inflate `n` bytes in pieces of 1..piece_max (each in memory of its own size); 0 or -1 with *e. */
static inline int
inflate_all(enum coding c, const unsigned char *p, size_t n, size_t piece_max, struct recorder *r,
	    const struct inflate_limits *limits, struct err *e)
{
	struct inflater *f;
	size_t at = 0;
	uint64_t in, out;
	int rc = 0;

	memset(e, 0, sizeof(*e));
	r->d.ops = &rec_ops;
	r->got_n = 0;
	r->fed = r->advanced = 0;
	r->finished = false;
	free(r->got);
	r->got = malloc(r->want_n + 1);
	cr_assert_not_null(f = inflater_new(c, &r->d, limits, e));
	while (at < n && rc == 0) {
		size_t m = 1 + rnd() % piece_max;
		unsigned char *piece;

		m = m < n - at ? m : n - at;
		piece = malloc(m);
		memcpy(piece, p + at, m);
		rc = inflater_feed(f, piece, m, e);
		free(piece);
		at += m;
	}
	if (rc == 0)
		rc = inflater_finish(f, e);
	if (rc == 0) {
		inflater_counts(f, &in, &out);
		cr_assert(in == n && out == r->got_n, "counted %llu of %zu in, %llu of %zu out", (unsigned long long)in,
			  n, (unsigned long long)out, r->got_n);
		cr_assert(r->finished);
	} else {
		cr_assert(e->code != ERR_NONE && e->msg[0] != '\0');
	}
	inflater_free(&f);
	cr_assert_null(f);
	return rc;
}

struct bytes {
	unsigned char *p;
	size_t n;
};

/* window bits: 31 gzip, 15 zlib, -15 raw; 0: zstd. */
static inline struct bytes
pack(const unsigned char *p, size_t n, int bits, int level)
{
	struct bytes b = {NULL, 0};

	if (bits == 0) {
		b.p = malloc(ZSTD_compressBound(n));
		b.n = ZSTD_compress(b.p, ZSTD_compressBound(n), p, n, level);
		cr_assert(!ZSTD_isError(b.n));
	} else {
		z_stream z = {0};

		cr_assert_eq(deflateInit2(&z, level, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
		b.n = deflateBound(&z, (uLong)n) + 64;
		b.p = malloc(b.n);
		z.next_in = (Bytef *)(uintptr_t)p;
		z.avail_in = (uInt)n;
		z.next_out = b.p;
		z.avail_out = (uInt)b.n;
		cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
		b.n = z.total_out;
		deflateEnd(&z);
	}
	return b;
}

static inline struct bytes
join(struct bytes a, struct bytes b)
{
	struct bytes c = {malloc(a.n + b.n + 1), a.n + b.n};

	if (a.n > 0)
		memcpy(c.p, a.p, a.n);
	memcpy(c.p + a.n, b.p, b.n);
	free(a.p);
	free(b.p);
	return c;
}

/* 0 random, 1 zeros, 2 text, 3 normal-like floats, 4 long matches mixed with noise. */
static inline unsigned char *
make_data(int kind, size_t n)
{
	unsigned char *p = malloc(n + 1);
	size_t i;

	for (i = 0; i < n; i++) {
		switch (kind) {
		case 0:
			p[i] = (unsigned char)(rnd() >> 11);
			break;
		case 1:
			p[i] = 0;
			break;
		case 2:
			p[i] = (unsigned char)("abcd efgh\n"[rnd() % 10]);
			break;
		case 3:
			p[i] = (unsigned char)(i % 4 == 3 ? 0x3e + rnd() % 3 : rnd() >> 9);
			break;
		default:
			p[i] = i > 40000 && rnd() % 200 != 0 ? p[i - 32000 - i % 7] : (unsigned char)(rnd() >> 9);
			break;
		}
	}
	return p;
}

static const struct {
	enum coding coding;
	int bits;
} forms[] = {{CODING_GZIP, 31}, {CODING_DEFLATE, 15}, {CODING_DEFLATE, -15}, {CODING_ZSTD, 0}};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

static inline void
expect_good(enum coding c, struct bytes b, const unsigned char *want, size_t n, size_t piece, size_t window)
{
	struct recorder r = {.want = want, .want_n = n, .window_max = window};
	struct err e;
	int rc = inflate_all(c, b.p, b.n, piece, &r, &no_limits, &e);

	cr_assert_eq(rc, 0, "%s, %zu bytes, pieces %zu, window %zu: %s", coding_name(c), n, piece, window, e.msg);
	cr_assert(r.got_n == n && memcmp(r.got, want, n) == 0);
	if (window >= BIG && n >= BIG)
		cr_assert(r.advanced > r.fed, "the window was not used: %llu", (unsigned long long)r.advanced);
	free(r.got);
}

static inline void
expect_bad(enum coding c, const unsigned char *p, size_t n, size_t want_max, enum err_code code, const char *word)
{
	struct recorder r = {.want = NULL, .want_n = want_max};
	struct err e;
	size_t piece;

	for (piece = 1; piece <= 4096; piece *= 64) {
		cr_assert_eq(inflate_all(c, p, n, piece, &r, &no_limits, &e), -1, "%s of %zu bytes was accepted (%s)",
			     coding_name(c), n, word);
		cr_assert_eq(e.code, code, "%s: %s", word, e.msg);
		cr_assert_not_null(strstr(e.msg, word), "wanted \"%s\": %s", word, e.msg);
	}
	free(r.got);
}

#endif
