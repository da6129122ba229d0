/*
 * test_inflate.c: content codings in: streams from zlib and zstd (and from Python's gzip module), cut into pieces of
 * random sizes, with windows of all sizes, arrive as they were. What is refused: test_inflate_bad.c.
 */
#include "unit/inflate_fixture.h"

Test(inflate, names)
{
	static const struct {
		const char *name;
		int coding;
	} cases[] = {
		{"", CODING_IDENTITY},
		{"identity", CODING_IDENTITY},
		{"GZip", CODING_GZIP},
		{"x-gzip", CODING_GZIP},
		{"deflate", CODING_DEFLATE},
		{"ZSTD", CODING_ZSTD},
		{"br", -1},
		{"gzip ", -1},
		{"gzi", -1},
		{"gzip, gzip", -1},
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
	static const size_t sizes[] = {0, 1, 2, 100, 16384, 65536, 65537, BIG, 3u << 20};
	static const size_t windows[] = {0, 1, 100, 16384, 40000, 100u << 20};
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
	struct recorder r = {.d.ops = &rec_ops, .want = data, .want_n = 5000, .window_max = 5000};
	struct inflate_limits limits = {.max_out = 3000, .max_ratio = 2};
	struct inflater *f;
	struct err e = {0};
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
	struct bytes none = {NULL, 0}, gz, zs, skip;
	size_t at[] = {0, 10, 10, 70000, 70001, 90000}, i;

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
		z_stream z = {0};
		struct bytes b;
		size_t piece;

		memset(&h, 0, sizeof(h));
		h.text = bits & 1;
		h.hcrc = bits >> 1 & 1;
		h.extra = bits & 4 ? extra : Z_NULL;
		h.extra_len = bits & 8 ? 0 : sizeof(extra);
		h.name = bits & 8 ? (Bytef *)(uintptr_t) "a name" : Z_NULL;
		h.comment = bits & 16 ? (Bytef *)(uintptr_t) "a comment" : Z_NULL;
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

/* What Python's gzip module writes (a name in the header, level 9). */
Test(inflate, python_gzip)
{
	static const unsigned char stream[] = {
		0x1f, 0x8b, 0x08, 0x08, 0x00, 0xca, 0x9a, 0x3b, 0x02, 0xff, 0x71, 0x2e,
		0x62, 0x69, 0x6e, 0x00, 0x2b, 0x49, 0xcd, 0x2b, 0xce, 0x2f, 0x52, 0x28,
		0xc1, 0x42, 0x01, 0x00, 0x85, 0x51, 0x79, 0x83, 0x1b, 0x00, 0x00, 0x00,
	};
	const char *want = "tensor tensor tensor tensor";
	struct bytes b = {(unsigned char *)(uintptr_t)stream, sizeof(stream)};

	expect_good(CODING_GZIP, b, (const unsigned char *)want, strlen(want), 1, 100);
	expect_good(CODING_GZIP, b, (const unsigned char *)want, strlen(want), 1000, 0);
}
