/*
 * test_rfc1951.c: inflate by itself: streams of all kinds of blocks from zlib, cut anywhere, come out as they went in;
 * what is wrong is refused for the right reason; damaged streams are judged as zlib judges them. fuzz_rfc1951.c goes on
 * from there.
 */
#include "unit/inflate_fixture.h"

#include "codec/rfc1951_internal.h"

/* Inflate in pieces of at most `step` bytes, into rooms of at most `room`, each in memory of its own; the verdict. */
static int
run_all(struct rfc1951 *z, const unsigned char *p, size_t n, size_t step, size_t room, struct bytes *got,
	size_t got_max, size_t *used)
{
	int rc = RFC1951_MORE;

	got->p = malloc(got_max + room);
	got->n = *used = 0;
	rfc1951_reset(z);
	while (rc == RFC1951_MORE && *used < n) {
		size_t left = 1 + rnd() % step, had, place, made;
		unsigned char *piece, *out;
		const unsigned char *in;

		had = left = left < n - *used ? left : n - *used;
		in = piece = malloc(left);
		memcpy(piece, p + *used, left);
		do {
			place = 1 + rnd() % room;
			out = malloc(place);
			rc = rfc1951_run(z, &in, &left, out, place, &made);
			cr_assert(made <= place && in == piece + (had - left));
			cr_assert_leq(got->n + made, got_max);
			memcpy(got->p + got->n, out, made);
			got->n += made;
			free(out);
		} while (rc == RFC1951_MORE && (left > 0 || made == place));
		*used += had - left;
		free(piece);
	}
	return rc;
}

static void
expect(struct rfc1951 *z, struct bytes b, const unsigned char *want, size_t n, size_t step, size_t room)
{
	struct bytes got;
	size_t used;
	int rc = run_all(z, b.p, b.n, step, room, &got, n, &used);

	cr_assert_eq(rc, RFC1951_END, "%d, pieces %zu, rooms %zu, %zu of %zu bytes in", rc, step, room, used, b.n);
	cr_assert(got.n == n && memcmp(got.p, want, n) == 0, "pieces %zu, rooms %zu", step, room);
	cr_assert_eq(used, b.n);
	free(got.p);
}

/* Floats' bytes: the high one skewed, the others random; `every` bytes an element. */
static unsigned char *
floats(size_t n, unsigned every)
{
	unsigned char *p = malloc(n + 1);
	size_t i;

	for (i = 0; i < n; i++) {
		uint32_t r = rnd();

		if (i % every == every - 1)
			p[i] = (unsigned char)(0x3fu - (unsigned)__builtin_ctz(r | 1u << 10) + (r >> 30 << 7));
		else
			p[i] = (unsigned char)(r >> 11);
	}
	return p;
}

static struct bytes
raw(const unsigned char *p, size_t n, int level, int mem_level, int strategy)
{
	struct bytes b = {malloc(2 * n + 1000), 0};
	z_stream z = {0};

	cr_assert_eq(deflateInit2(&z, level, Z_DEFLATED, -15, mem_level, strategy), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = b.p;
	z.avail_out = (uInt)(2 * n + 1000);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	b.n = z.total_out;
	deflateEnd(&z);
	return b;
}

Test(rfc1951, what_zlib_writes)
{
	static const size_t steps[] = {200, 5000, 65536, 1u << 20}, rooms[] = {1u << 20, 300, 20000, 1u << 20};
	struct rfc1951 *z = rfc1951_new();
	size_t n = 150000, s;
	int kind, level, strategy;

	for (kind = 0; kind < 8; kind++) {
		unsigned char *data = kind < 5 ? make_data(kind, n) : floats(n, kind == 7 ? 4 : 2);

		for (level = 0; level < 10; level += kind < 5 ? 3 : 1) {
			for (strategy = Z_DEFAULT_STRATEGY; strategy <= Z_FIXED; strategy++) {
				/* blocks of 128 to 32768 symbols */
				struct bytes b = raw(data, n, level, kind == 6 ? 9 : 1 + (level + 7) % 9, strategy);

				for (s = 0; s < 4; s++)
					expect(z, b, data, n, steps[s], rooms[s]);
				free(b.p);
			}
		}
		free(data);
	}
	rfc1951_free(&z);
	cr_assert_null(z);
	rfc1951_free(&z);
}

/* Lanes are used where they should be, and mostly fall into step. */
Test(rfc1951, lanes)
{
	size_t n = 1u << 20, used;
	unsigned every;
	int level;

	for (every = 2; every <= 4; every++) {
		for (level = 1; level <= 6; level += 5) {
			unsigned char *data = floats(n, every);
			struct rfc1951 *z = rfc1951_new();
			struct bytes b = raw(data, n, level, 8, Z_DEFAULT_STRATEGY), got;

			cr_assert_eq(run_all(z, b.p, b.n, 1u << 30, 1u << 30, &got, n, &used), RFC1951_END);
			cr_assert(memcmp(got.p, data, n) == 0);
			cr_assert_not_null(z->lanes);
			cr_assert_leq(z->failures, 1);
			free(got.p);
			rfc1951_free(&z);
			/* A small stream does without. */
			z = rfc1951_new();
			free(b.p);
			b = raw(data, 1500, level, 8, Z_DEFAULT_STRATEGY);
			expect(z, b, data, 1500, 1u << 20, 1u << 20);
			cr_assert_null(z->lanes);
			rfc1951_free(&z);
			free(b.p);
			free(data);
		}
	}
}

/* Codes of one length never fall into step unless they begin right: that must only cost time. */
Test(rfc1951, lanes_out_of_step)
{
	size_t n = 1u << 20, i;
	unsigned char *data = malloc(n);
	struct rfc1951 *z = rfc1951_new();
	struct bytes b;

	for (i = 0; i < n; i++)
		data[i] = (unsigned char)(rnd() >> 9 & 127);
	b = raw(data, n, 6, 8, Z_HUFFMAN_ONLY);
	expect(z, b, data, n, 1u << 20, 1u << 20);
	expect(z, b, data, n, 65536, 40000);
	rfc1951_free(&z);
	free(b.p);
	free(data);
}

/* Every cut of a stream in two, and every size of the first room. */
Test(rfc1951, every_cut)
{
	struct rfc1951 *z = rfc1951_new();
	int kind, strategy;

	for (kind = 2; kind <= 4; kind++) {
		for (strategy = Z_DEFAULT_STRATEGY; strategy <= Z_FIXED; strategy += 2) {
			size_t n = 1200, at, made, more;
			unsigned char *data = make_data(kind, n), out[1300];
			struct bytes b = raw(data, n, 6, 8, strategy);

			expect(z, b, data, n, 1, 1);
			for (at = 0; at <= b.n; at++) {
				const unsigned char *p = b.p;
				size_t left = at, room = 1 + at;

				rfc1951_reset(z);
				made = more = 0;
				if (at > 0) /* all of `at` is taken before the rest comes */
					while (left > 0 || made + more < n) {
						made += more;
						if (rfc1951_run(z, &p, &left, out + made, room, &more) != RFC1951_MORE ||
						    (left == 0 && more < room))
							break;
						room = sizeof(out) - made - more;
					}
				made += more;
				cr_assert_eq(left, 0);
				left = b.n - at;
				more = 0;
				if (left > 0)
					cr_assert_eq(rfc1951_run(z, &p, &left, out + made, sizeof(out) - made, &more),
						     RFC1951_END);
				cr_assert(made + more == n && left == 0 && memcmp(out, data, n) == 0, "cut at %zu", at);
			}
			free(b.p);
			free(data);
		}
	}
	rfc1951_free(&z);
}

struct writer {
	unsigned char p[200];
	size_t bits;
};

/* n bits of v, the lowest first. */
static void
put_bits(struct writer *w, unsigned v, unsigned n)
{
	for (; n > 0; n--, v >>= 1, w->bits++)
		w->p[w->bits / 8] |= (unsigned char)((v & 1) << w->bits % 8);
}

/* A Huffman code's bits, the highest first. */
static void
put_code(struct writer *w, unsigned code, unsigned n)
{
	while (n-- > 0)
		put_bits(w, code >> n & 1, 1);
}

/* A dynamic block's header; the lengths of the codes for code lengths 0..18 in the order of the stream. */
static void
put_header(struct writer *w, unsigned n_lit, unsigned n_dist, const char *code_lens)
{
	size_t i;

	put_bits(w, 1 | 2 << 1, 3);
	put_bits(w, n_lit - 257, 5);
	put_bits(w, n_dist - 1, 5);
	put_bits(w, (unsigned)strlen(code_lens) - 4, 4);
	for (i = 0; code_lens[i] != '\0'; i++)
		put_bits(w, (unsigned)(code_lens[i] - '0'), 3);
}

static void
expect_verdict(struct writer *w, int verdict, size_t out, const char *what)
{
	struct rfc1951 *z = rfc1951_new();
	size_t step, used;

	for (step = 1; step <= 1000; step *= 10) {
		struct bytes got;

		cr_assert_eq(run_all(z, w->p, sizeof(w->p), step, 1000, &got, 1000, &used), verdict, "%s, pieces %zu",
			     what, step);
		cr_assert_eq(got.n, out, "%s: %zu bytes out", what, got.n);
		if (verdict == RFC1951_END)
			cr_assert_eq(used, (w->bits + 7) / 8, "%s: %zu bytes in", what, used);
		free(got.p);
	}
	rfc1951_free(&z);
	memset(w, 0, sizeof(*w));
}

Test(rfc1951, fixed_by_hand)
{
	struct writer w = {0};
	unsigned i;

	put_bits(&w, 1 | 1 << 1, 3);
	put_code(&w, 0x30 + 'a', 8);
	put_code(&w, 0x190 + 200 - 144, 9);
	put_code(&w, 1, 7); /* length 3, distance 2 */
	put_code(&w, 1, 5);
	put_code(&w, 0xc0 + 5, 8); /* length 258, distance 1 */
	put_code(&w, 0, 5);
	put_code(&w, 0, 7);
	expect_verdict(&w, RFC1951_END, 263, "fixed");
	for (i = 0; i < 3; i++) { /* the distances' codes 30 and 31, the lengths' 286 */
		put_bits(&w, 1 | 1 << 1, 3);
		put_code(&w, 0x30 + 'a', 8);
		put_code(&w, i < 2 ? 1 : 0xc0 + 6, i < 2 ? 7 : 8);
		put_code(&w, 30 + i % 2, 5);
		expect_verdict(&w, RFC1951_BAD_SYMBOL, 1, "symbols that do not exist");
	}
	put_bits(&w, 1 | 1 << 1, 3);
	put_code(&w, 0x30 + 'a', 8);
	put_code(&w, 1, 7);
	put_code(&w, 1, 5);
	expect_verdict(&w, RFC1951_BAD_DISTANCE, 1, "distance 2 after 1 byte");
	put_bits(&w, 1 | 3 << 1, 3);
	expect_verdict(&w, RFC1951_BAD_BLOCK, 0, "the fourth kind of block");
	put_bits(&w, 0, 3); /* an empty stored block and one of two bytes */
	put_bits(&w, 0, 5);
	put_bits(&w, 0xffff0000u, 32);
	put_bits(&w, 1, 8);
	put_bits(&w, 0xfffd0002u, 32);
	put_bits(&w, 0x6261, 16);
	expect_verdict(&w, RFC1951_END, 2, "stored");
	put_bits(&w, 1, 8);
	put_bits(&w, 0xfffc0002u, 32);
	expect_verdict(&w, RFC1951_BAD_BLOCK, 0, "a stored length that is not its complement");
}

Test(rfc1951, tables_by_hand)
{
	/* the order is 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1 */
	struct writer w = {0};
	int i;

	/* Codes of lengths 18: 0 and 1: 1. A block of one literal 'a', its end; no distances. */
	for (i = 0; i < 5; i++) {
		put_header(&w, 257, i == 3 ? 31 : 1, i == 4 ? "000000000000000001" : "001000000000000001");
		put_code(&w, 1, 1);
		put_bits(&w, 97 - 11, 7);
		put_code(&w, 0, 1); /* 'a' has one bit */
		if (i == 1)
			put_code(&w, 0, 1); /* so has 'b', and then the end */
		put_code(&w, 1, 1);
		put_bits(&w, 138 - 11, 7);
		put_code(&w, 1, 1);
		put_bits(&w, (i == 1 ? 19 : 20) - 11, 7);
		put_code(&w, i == 2 ? 1 : 0, 1); /* the end, and the distance */
		put_bits(&w, i == 2 ? 11 : 0, i == 2 ? 7 : 0);
		put_code(&w, 0, 1);
		put_code(&w, 0, 1);
		put_code(&w, 1, 1);
		if (i == 0)
			expect_verdict(&w, RFC1951_END, 1, "a literal, the end, one distance");
		else
			expect_verdict(&w, RFC1951_BAD_BLOCK, 0,
				       i == 1	? "too many codes"
				       : i == 2 ? "more lengths than there are symbols"
				       : i == 3 ? "31 distances"
						: "an incomplete code of code lengths");
	}
	put_header(&w, 287, 1, "001000000000000001");
	expect_verdict(&w, RFC1951_BAD_BLOCK, 0, "287 literals and lengths");
	put_header(&w, 257, 1, "111000000000000000");
	expect_verdict(&w, RFC1951_BAD_BLOCK, 0, "too many codes of code lengths");
	put_header(&w, 257, 1, "101000000000000000");
	put_code(&w, 0, 1);
	expect_verdict(&w, RFC1951_BAD_BLOCK, 0, "a repetition of nothing");
	put_header(&w, 257, 1, "001000000000000001"); /* no code for the end */
	for (i = 0; i < 2; i++) {
		put_code(&w, 0, 1);
		put_code(&w, 1, 1);
		put_bits(&w, (i == 0 ? 138 : 118) - 11, 7);
	}
	expect_verdict(&w, RFC1951_BAD_BLOCK, 0, "no end");
}

/* Long streams with some bytes changed: zlib's verdict, and what came out before is the same. */
Test(rfc1951, damaged_as_zlib_judges)
{
	struct rfc1951 *z = rfc1951_new();
	size_t n = 120000, used;
	int i, wrong = 0;

	for (i = 0; i < 200; i++) {
		unsigned char *data = i % 3 == 0 ? make_data(4, n) : floats(n, i % 3 == 1 ? 2 : 4),
			      *out = malloc(4 * n);
		struct bytes b = raw(data, n, 1 + i % 9, 8, Z_DEFAULT_STRATEGY), got;
		z_stream s = {0};
		int rc, verdict;

		/* every other time in the first block's header */
		b.p[rnd() % (i % 2 == 0 ? 60 : b.n)] ^= (unsigned char)(1u << rnd() % 8);
		memset(b.p + b.n, 0, 400); /* for zlib to come to where it sees what is wrong; there is room */
		cr_assert_eq(inflateInit2(&s, -15), Z_OK);
		s.next_in = b.p;
		s.avail_in = (uInt)b.n + 400;
		s.next_out = out;
		s.avail_out = (uInt)(4 * n);
		rc = inflate(&s, Z_NO_FLUSH);
		verdict = run_all(z, b.p, b.n + 400, 65536, 65536, &got, 4 * n, &used);
		cr_assert_eq(verdict < 0, rc == Z_DATA_ERROR, "%d: zlib %d, %d", i, rc, verdict);
		cr_assert_eq(verdict == RFC1951_END, rc == Z_STREAM_END, "%d: zlib %d, %d", i, rc, verdict);
		if (verdict >= 0)
			cr_assert_eq(got.n, s.total_out);
		cr_assert(memcmp(out, got.p, got.n < s.total_out ? got.n : s.total_out) == 0);
		wrong += verdict < 0;
		inflateEnd(&s);
		free(got.p);
		free(b.p);
		free(out);
		free(data);
	}
	cr_assert(wrong > 20, "%d refused", wrong);
	rfc1951_free(&z);
}
