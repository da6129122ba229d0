/*
 * test_inflate_bad.c: content codings in: streams that are cut short, damaged, something else, or larger inside than
 * allowed are refused, and say why.
 */
#include "unit/inflate_fixture.h"

Test(inflate_bad, truncated_at_every_byte)
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

Test(inflate_bad, left_over)
{
	unsigned char *data = make_data(2, 700);
	static const char *tails[] = {"x", "\x1f", "xyzxyz", "\x1f\x8c"};
	size_t f, i;

	for (f = 0; f < FORMS; f++) {
		for (i = 0; i < 4; i++) {
			struct bytes tail = {(unsigned char *)strdup(tails[i]), strlen(tails[i])}, b;

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

Test(inflate_bad, not_what_it_says)
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
Test(inflate_bad, bit_flips)
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
				struct recorder r = {.want = data, .want_n = 600, .window_max = bit % 2 ? 600 : 0};
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

Test(inflate_bad, limits)
{
	unsigned char *data = make_data(1, 3u << 20);
	size_t f;

	for (f = 0; f < FORMS; f++) {
		struct bytes b = pack(data, 3u << 20, forms[f].bits, 1);
		struct recorder r = {.want = data, .want_n = 3u << 20, .window_max = 100u << 20};
		struct inflate_limits exact = {.max_out = 3u << 20, .max_ratio = 0};
		struct inflate_limits below = {.max_out = (3u << 20) - 1, .max_ratio = 0};
		struct inflate_limits few = {.max_out = 10, .max_ratio = 0};
		struct inflate_limits ratio = {.max_out = UINT64_MAX, .max_ratio = 100};
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
Test(inflate_bad, bombs)
{
	size_t f, n = 64u << 20;
	unsigned char *zeros = calloc(1, n);
	int i;

	for (f = 0; f < FORMS; f += 3) { /* gzip members, zstd frames */
		struct bytes b = {NULL, 0};
		struct recorder r = {.want = NULL};
		struct inflate_limits size = {.max_out = 100u << 20, .max_ratio = 0};
		struct inflate_limits ratio = {.max_out = UINT64_MAX, .max_ratio = 500};
		struct bytes one = pack(zeros, n, forms[f].bits, 1);
		struct err e;

		for (i = 0; i < 16; i++) {
			struct bytes copy = {malloc(one.n), one.n};

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
