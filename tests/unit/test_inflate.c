/*
 * test_inflate.c: content codings in, with a decoder that records what it gets. The streams come from zlib and zstd
 * (and from Python's gzip module), cut into pieces of random sizes, with windows of all sizes.
 */
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

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

static int
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

static int
rec_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct recorder *r = (struct recorder *)d;

	cr_assert(n > 0);
	r->fed += n;
	return rec_take(r, p, n, e);
}

static size_t
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

static int
rec_advance(struct decoder *d, size_t n, struct err *e)
{
	struct recorder *r = (struct recorder *)d;

	cr_assert(n > 0 && n <= r->window_open);
	r->window_open -= n;
	r->advanced += n;
	return rec_take(r, r->got + r->got_n, n, e);
}

static int
rec_finish(struct decoder *d, struct err *e)
{
	struct recorder *r = (struct recorder *)d;

	r->finished = true;
	if (r->want != NULL && r->got_n != r->want_n)
		return err_set(e, ERR_MALFORMED_BODY, "less than wanted");
	return 0;
}

static void
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

static const struct inflate_limits no_limits = { .max_out = UINT64_MAX, .max_ratio = 0 };

/* Inflate `n` bytes in pieces of 1..piece_max (each in memory of its own size); 0 or -1 with *e. */
static int
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
		cr_assert(in == n && out == r->got_n, "counted %llu of %zu in, %llu of %zu out",
			  (unsigned long long)in, n, (unsigned long long)out, r->got_n);
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
static struct bytes
pack(const unsigned char *p, size_t n, int bits, int level)
{
	struct bytes b = { NULL, 0 };

	if (bits == 0) {
		b.p = malloc(ZSTD_compressBound(n));
		b.n = ZSTD_compress(b.p, ZSTD_compressBound(n), p, n, level);
		cr_assert(!ZSTD_isError(b.n));
	} else {
		z_stream z = { 0 };

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

static struct bytes
join(struct bytes a, struct bytes b)
{
	struct bytes c = { malloc(a.n + b.n + 1), a.n + b.n };

	if (a.n > 0)
		memcpy(c.p, a.p, a.n);
	memcpy(c.p + a.n, b.p, b.n);
	free(a.p);
	free(b.p);
	return c;
}

/* 0 random, 1 zeros, 2 text, 3 normal-like floats, 4 long matches mixed with noise. */
static unsigned char *
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
} forms[] = { { CODING_GZIP, 31 }, { CODING_DEFLATE, 15 }, { CODING_DEFLATE, -15 }, { CODING_ZSTD, 0 } };

#define FORMS (sizeof(forms) / sizeof(forms[0]))

static void
expect_good(enum coding c, struct bytes b, const unsigned char *want, size_t n, size_t piece, size_t window)
{
	struct recorder r = { .want = want, .want_n = n, .window_max = window };
	struct err e;
	int rc = inflate_all(c, b.p, b.n, piece, &r, &no_limits, &e);

	cr_assert_eq(rc, 0, "%s, %zu bytes, pieces %zu, window %zu: %s", coding_name(c), n, piece, window, e.msg);
	cr_assert(r.got_n == n && memcmp(r.got, want, n) == 0);
	if (window >= BIG && n >= BIG)
		cr_assert(r.advanced > r.fed, "the window was not used: %llu", (unsigned long long)r.advanced);
	free(r.got);
}

static void
expect_bad(enum coding c, const unsigned char *p, size_t n, size_t want_max, enum err_code code, const char *word)
{
	struct recorder r = { .want = NULL, .want_n = want_max };
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

Test(inflate, names)
{
	static const struct {
		const char *name;
		int coding;
	} cases[] = {
		{ "", CODING_IDENTITY },
		{ "identity", CODING_IDENTITY },
		{ "GZip", CODING_GZIP },
		{ "x-gzip", CODING_GZIP },
		{ "deflate", CODING_DEFLATE },
		{ "ZSTD", CODING_ZSTD },
		{ "br", -1 },
		{ "gzip ", -1 },
		{ "gzi", -1 },
		{ "gzip, gzip", -1 },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(coding_find(cases[i].name, strlen(cases[i].name)), cases[i].coding, "%s", cases[i].name);
	cr_assert_str_eq(coding_name(CODING_IDENTITY), "identity");
	cr_assert_str_eq(coding_name(CODING_GZIP), "gzip");
	cr_assert_str_eq(coding_name(CODING_DEFLATE), "deflate");
	cr_assert_str_eq(coding_name(CODING_ZSTD), "zstd");
	cr_assert_eq(coding_find("gzipx", 4), CODING_GZIP);
}

Test(inflate, all_codings_pieces_windows)
{
	static const size_t sizes[] = { 0, 1, 2, 100, 16384, 65536, 65537, BIG, 3u << 20 };
	static const size_t windows[] = { 0, 1, 100, 16384, 40000, 100u << 20 };
	size_t i, f, w;
	int kind;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (kind = 0; kind < (sizes[i] > BIG ? 2 : 5); kind++) {
			unsigned char *data = make_data(kind, sizes[i]);

			for (f = 0; f < FORMS; f++) {
				struct bytes b = pack(data, sizes[i], forms[f].bits, kind == 4 ? 6 : 1);

				for (w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
					size_t piece = sizes[i] > BIG ? 100000 : 1u << (7 + rnd() % 10);

					if (sizes[i] <= 100)
						piece = 1 + rnd() % 3;
					expect_good(forms[f].coding, b, data, sizes[i], piece, windows[w]);
				}
				free(b.p);
			}
			free(data);
		}
	}
}

Test(inflate, byte_by_byte)
{
	unsigned char *data = make_data(4, 50000);
	size_t f;

	for (f = 0; f < FORMS; f++) {
		struct bytes b = pack(data, 50000, forms[f].bits, 6);

		expect_good(forms[f].coding, b, data, 50000, 1, 30000);
		free(b.p);
	}
	free(data);
}

Test(inflate, identity_window)
{
	unsigned char *data = make_data(0, 5000), *dst;
	struct recorder r = { .d.ops = &rec_ops, .want = data, .want_n = 5000, .window_max = 5000 };
	struct inflate_limits limits = { .max_out = 3000, .max_ratio = 2 };
	struct inflater *f;
	struct err e = { 0 };
	uint64_t in, out;

	r.got = malloc(5000);
	cr_assert_not_null(f = inflater_new(CODING_IDENTITY, &r.d, &limits, &e));
	cr_assert_eq(inflater_window(f, &dst), 3000);
	memcpy(dst, data, 1000);
	cr_assert_eq(inflater_advance(f, 1000, &e), 0);
	cr_assert_eq(inflater_feed(f, data + 1000, 1500, &e), 0);
	cr_assert_eq(inflater_window(f, &dst), 500);
	cr_assert(dst == r.got + 2500);
	memcpy(dst, data + 2500, 500);
	cr_assert_eq(inflater_advance(f, 500, &e), 0);
	cr_assert_eq(inflater_window(f, &dst), 0);
	inflater_counts(f, &in, &out);
	cr_assert(in == 3000 && out == 3000 && memcmp(r.got, data, 3000) == 0);
	cr_assert_eq(inflater_feed(f, data + 3000, 0, &e), 0);
	cr_assert_eq(inflater_feed(f, data + 3000, 1, &e), -1);
	cr_assert_eq(e.code, ERR_TOO_LARGE);
	inflater_free(&f);

	/* An empty body without coding is the decoder's business. */
	r.want_n = r.got_n = 0;
	cr_assert_not_null(f = inflater_new(CODING_IDENTITY, &r.d, &limits, &e));
	cr_assert_eq(inflater_finish(f, &e), 0);
	cr_assert(r.finished);
	inflater_free(&f);
	inflater_free(&f);

	/* The others offer no window. */
	r.want_n = 5000;
	cr_assert_not_null(f = inflater_new(CODING_GZIP, &r.d, &limits, &e));
	cr_assert_eq(inflater_window(f, &dst), 0);
	inflater_free(&f);
	free(r.got);
	free(data);
}

Test(inflate, members_and_frames)
{
	unsigned char *data = make_data(2, 90000);
	struct bytes none = { NULL, 0 }, gz, zs, skip;
	size_t at[] = { 0, 10, 10, 70000, 70001, 90000 }, i;

	gz = zs = none;
	for (i = 0; i + 1 < sizeof(at) / sizeof(at[0]); i++) {
		skip.p = malloc(8 + i);
		skip.n = 8 + i;
		memcpy(skip.p, "\x50\x2a\x4d\x18\0\0\0\0", 8);
		skip.p[4] = (unsigned char)i;
		memset(skip.p + 8, 'x', i);
		gz = join(gz, pack(data + at[i], at[i + 1] - at[i], 31, 6));
		zs = join(join(zs, skip), pack(data + at[i], at[i + 1] - at[i], 0, 3));
	}
	for (i = 1; i <= 100000; i *= 10) {
		expect_good(CODING_GZIP, gz, data, 90000, i, 20000);
		expect_good(CODING_ZSTD, zs, data, 90000, i, 20000);
	}
	/* A second zlib stream is not allowed by anybody. */
	free(gz.p);
	gz = join(pack(data, 100, 15, 1), pack(data, 100, 15, 1));
	expect_bad(CODING_DEFLATE, gz.p, gz.n, 90000, ERR_MALFORMED_BODY, "left over");
	free(gz.p);
	free(zs.p);
	free(data);
}

/* A header with every optional field, as deflateSetHeader writes it, in pieces. */
Test(inflate, gzip_headers)
{
	unsigned char *data = make_data(2, 3000), extra[300];
	gz_header h;
	int bits;

	memset(extra, 'e', sizeof(extra));
	for (bits = 0; bits < 32; bits++) {
		unsigned char *out = malloc(8000);
		z_stream z = { 0 };
		struct bytes b;
		size_t piece;

		memset(&h, 0, sizeof(h));
		h.text = bits & 1;
		h.hcrc = bits >> 1 & 1;
		h.extra = bits & 4 ? extra : Z_NULL;
		h.extra_len = bits & 8 ? 0 : sizeof(extra);
		h.name = bits & 8 ? (Bytef *)(uintptr_t)"a name" : Z_NULL;
		h.comment = bits & 16 ? (Bytef *)(uintptr_t)"a comment" : Z_NULL;
		cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
		cr_assert_eq(deflateSetHeader(&z, &h), Z_OK);
		z.next_in = data;
		z.avail_in = 3000;
		z.next_out = out;
		z.avail_out = 8000;
		cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
		b.p = out;
		b.n = z.total_out;
		deflateEnd(&z);
		for (piece = 1; piece < 10000; piece = piece * 2 + 1)
			expect_good(CODING_GZIP, b, data, 3000, piece, 3000);
		if (bits & 2) { /* the header's checksum counts */
			out[4] ^= 1;
			expect_bad(CODING_GZIP, b.p, b.n, 3000, ERR_MALFORMED_BODY, "checksum");
			out[4] ^= 1;
		}
		out[3] |= 0x20;
		expect_bad(CODING_GZIP, b.p, b.n, 3000, ERR_MALFORMED_BODY, "reserved");
		free(out);
	}
	free(data);
}

Test(inflate, truncated_at_every_byte)
{
	unsigned char *data = make_data(2, 700);
	size_t f, n;

	for (f = 0; f < FORMS; f++) {
		struct bytes b = pack(data, 700, forms[f].bits, 6);

		for (n = 0; n < b.n; n++)
			expect_bad(forms[f].coding, b.p, n, 700, ERR_MALFORMED_BODY, "truncated");
		if (forms[f].coding == CODING_GZIP || forms[f].coding == CODING_ZSTD) { /* in the second member */
			size_t first = b.n;

			b = join(b, pack(data, 700, forms[f].bits, 6));
			for (n = first + 1; n < b.n; n++)
				expect_bad(forms[f].coding, b.p, n, 1400, ERR_MALFORMED_BODY, "truncated");
		}
		free(b.p);
	}
	free(data);
}

Test(inflate, left_over)
{
	unsigned char *data = make_data(2, 700);
	static const char *tails[] = { "x", "\x1f", "xyzxyz", "\x1f\x8c" };
	size_t f, i;

	for (f = 0; f < FORMS; f++) {
		for (i = 0; i < 4; i++) {
			struct bytes tail = { (unsigned char *)strdup(tails[i]), strlen(tails[i]) }, b;

			b = join(pack(data, 700, forms[f].bits, 6), tail);
			/* the beginning of another member could be one */
			if ((forms[f].coding == CODING_GZIP && i == 1) || (forms[f].coding == CODING_ZSTD && i != 2))
				expect_bad(forms[f].coding, b.p, b.n, 700, ERR_MALFORMED_BODY, "truncated");
			else
				expect_bad(forms[f].coding, b.p, b.n, 700, ERR_MALFORMED_BODY, "left over");
			free(b.p);
		}
	}
	free(data);
}

Test(inflate, not_what_it_says)
{
	unsigned char *data = make_data(2, 700);
	struct bytes gz = pack(data, 700, 31, 6), zl = pack(data, 700, 15, 6), zs = pack(data, 700, 0, 6);

	expect_bad(CODING_GZIP, zl.p, zl.n, 700, ERR_MALFORMED_BODY, "1f 8b");
	expect_bad(CODING_ZSTD, gz.p, gz.n, 700, ERR_MALFORMED_BODY, "28 b5");
	expect_bad(CODING_DEFLATE, gz.p, gz.n, 700, ERR_MALFORMED_BODY, "deflate body is corrupt");
	expect_bad(CODING_ZSTD, (const unsigned char *)"\x25\xb5\x2f\xfd\x20\x00", 6, 700, ERR_MALFORMED_BODY, "28 b5");
	expect_bad(CODING_DEFLATE, (const unsigned char *)"\x78\xbb\0\0\0\0", 6, 700, ERR_MALFORMED_BODY, "dictionary");
	/* a frame that asks for a window of 128 MiB */
	expect_bad(CODING_ZSTD, (const unsigned char *)"\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00", 9, 700,
		   ERR_MALFORMED_BODY, "window");
	gz.p[2] = 7;
	expect_bad(CODING_GZIP, gz.p, gz.n, 700, ERR_MALFORMED_BODY, "method");
	gz.p[2] = 8;
	gz.p[gz.n - 8] ^= 1;
	expect_bad(CODING_GZIP, gz.p, gz.n, 700, ERR_MALFORMED_BODY, "corrupt");
	gz.p[gz.n - 8] ^= 1;
	gz.p[gz.n - 1] ^= 1;
	expect_bad(CODING_GZIP, gz.p, gz.n, 700, ERR_MALFORMED_BODY, "corrupt");
	zl.p[zl.n - 1] ^= 1;
	expect_bad(CODING_DEFLATE, zl.p, zl.n, 700, ERR_MALFORMED_BODY, "corrupt");
	free(gz.p);
	free(zl.p);
	free(zs.p);
	free(data);
}

/* What comes out after one bit was turned is refused or is what went in (raw deflate has no checksum). */
Test(inflate, bit_flips)
{
	unsigned char *data = make_data(2, 600);
	size_t f, i, bit;

	for (f = 0; f < FORMS; f++) {
		struct bytes b;
		int refused = 0, accepted = 0;

		if (forms[f].bits == 0) { /* zstd, with its checksum */
			ZSTD_CCtx *z = ZSTD_createCCtx();

			ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
			b.p = malloc(ZSTD_compressBound(600));
			b.n = ZSTD_compress2(z, b.p, ZSTD_compressBound(600), data, 600);
			ZSTD_freeCCtx(z);
		} else {
			b = pack(data, 600, forms[f].bits, 6);
		}
		for (i = 0; i < b.n; i++) {
			for (bit = 0; bit < 8; bit++) {
				struct recorder r = { .want = data, .want_n = 600, .window_max = bit % 2 ? 600 : 0 };
				struct err e;

				b.p[i] ^= (unsigned char)(1u << bit);
				if (inflate_all(forms[f].coding, b.p, b.n, 50, &r, &no_limits, &e) == 0) {
					accepted++;
					cr_assert(forms[f].bits == -15 || memcmp(r.got, data, 600) == 0);
				} else {
					refused++;
				}
				free(r.got);
				b.p[i] ^= (unsigned char)(1u << bit);
			}
		}
		cr_assert(refused > (forms[f].bits == -15 ? 0 : accepted));
		free(b.p);
	}
	free(data);
}

Test(inflate, limits)
{
	unsigned char *data = make_data(1, 3u << 20);
	size_t f;

	for (f = 0; f < FORMS; f++) {
		struct bytes b = pack(data, 3u << 20, forms[f].bits, 1);
		struct recorder r = { .want = data, .want_n = 3u << 20, .window_max = 100u << 20 };
		struct inflate_limits exact = { .max_out = 3u << 20, .max_ratio = 0 };
		struct inflate_limits below = { .max_out = (3u << 20) - 1, .max_ratio = 0 };
		struct inflate_limits few = { .max_out = 10, .max_ratio = 0 };
		struct inflate_limits ratio = { .max_out = UINT64_MAX, .max_ratio = 100 };
		struct err e;

		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &exact, &e), 0, "%s", e.msg);
		r.window_max = 0;
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &exact, &e), 0, "%s", e.msg);
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &below, &e), -1);
		cr_assert_eq(e.code, ERR_BOMB);
		r.window_max = 100u << 20;
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &below, &e), -1);
		cr_assert_eq(e.code, ERR_BOMB);
		cr_assert_leq(r.got_n, below.max_out);
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &few, &e), -1);
		cr_assert_eq(e.code, ERR_BOMB);
		cr_assert_leq(r.got_n, 10);
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &ratio, &e), -1);
		cr_assert_eq(e.code, ERR_BOMB);
		cr_assert_leq(r.got_n, 3u << 20);
		free(b.p);
		/* below 1 MiB the ratio is not judged */
		b = pack(data, 1u << 20, forms[f].bits, 1);
		r.want_n = 1u << 20;
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &ratio, &e), 0, "%s", e.msg);
		free(b.p);
		/* more than the decoder takes is its error */
		b = pack(data, (1u << 20) + 1, forms[f].bits, 1);
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 5000, &r, &no_limits, &e), -1);
		cr_assert_not_null(strstr(e.msg, "more than wanted"), "%s", e.msg);
		free(b.p);
		free(r.got);
	}
	free(data);
}

/* 1 GiB of zeros in about 1 MiB (zstd: 32 KiB): stopped early, in little memory. */
Test(inflate, bombs)
{
	size_t f, n = 64u << 20;
	unsigned char *zeros = calloc(1, n);
	int i;

	for (f = 0; f < FORMS; f += 3) { /* gzip members, zstd frames */
		struct bytes b = { NULL, 0 };
		struct recorder r = { .want = NULL };
		struct inflate_limits size = { .max_out = 100u << 20, .max_ratio = 0 };
		struct inflate_limits ratio = { .max_out = UINT64_MAX, .max_ratio = 500 };
		struct bytes one = pack(zeros, n, forms[f].bits, 1);
		struct err e;

		for (i = 0; i < 16; i++) {
			struct bytes copy = { malloc(one.n), one.n };

			memcpy(copy.p, one.p, one.n);
			b = join(b, copy);
		}
		free(one.p);
		one.p = NULL;
		/* gzip level 1 reaches 229:1 only */
		ratio.max_ratio = forms[f].coding == CODING_GZIP ? 100 : 500;
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 65536, &r, &size, &e), -1);
		cr_assert_eq(e.code, ERR_BOMB);
		cr_assert_leq(r.got_n, size.max_out);
		cr_assert_eq(inflate_all(forms[f].coding, b.p, b.n, 65536, &r, &ratio, &e), -1);
		cr_assert_eq(e.code, ERR_BOMB);
		cr_assert_leq(r.got_n, 16u << 20);
		free(b.p);
		free(r.got);
	}
	free(zeros);
}

/* What Python's gzip module writes (a name in the header, level 9). */
Test(inflate, python_gzip)
{
	static const unsigned char stream[] = {
		0x1f, 0x8b, 0x08, 0x08, 0x00, 0xca, 0x9a, 0x3b, 0x02, 0xff, 0x71, 0x2e, 0x62, 0x69, 0x6e, 0x00,
		0x2b, 0x49, 0xcd, 0x2b, 0xce, 0x2f, 0x52, 0x28, 0xc1, 0x42, 0x01, 0x00, 0x85, 0x51, 0x79, 0x83,
		0x1b, 0x00, 0x00, 0x00,
	};
	const char *want = "tensor tensor tensor tensor";
	struct bytes b = { (unsigned char *)(uintptr_t)stream, sizeof(stream) };

	expect_good(CODING_GZIP, b, (const unsigned char *)want, strlen(want), 1, 100);
	expect_good(CODING_GZIP, b, (const unsigned char *)want, strlen(want), 1000, 0);
}
