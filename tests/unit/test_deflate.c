/*
 * test_deflate.c: what body_compress writes is read back by zlib's and zstd's own decoders, by gzip -d and by Python.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

#include "codec/encode.h"

static uint32_t seed = 7;

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

/* 0 random, 1 zeros, 2 text, 3 like normal floats, 4 halves: random, then zeros */
static unsigned char *
make_data(int kind, size_t n)
{
	unsigned char *p = malloc(n + 1);
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (unsigned char)(kind == 0   ? rnd() >> 9
				       : kind == 1 ? 0
				       : kind == 2 ? (uint32_t) "abcd efgh\n"[rnd() % 10]
				       : kind == 3 ? (i % 4 == 3 ? 0x3e + rnd() % 3 : rnd() >> 9)
				       : i < n / 2 ? rnd() >> 9
						   : 0);
	return p;
}

/* A body of data in up to n_pieces pieces of random sizes, empty ones among them. */
static void
make_body(struct body *b, const unsigned char *data, size_t n, int n_pieces)
{
	size_t at = 0, m;

	memset(b, 0, sizeof(*b));
	b->content_type = "application/x-npy";
	b->oip_header_len = -1;
	while (b->n < n_pieces) {
		m = b->n == n_pieces - 1 ? n - at : rnd() % 4 == 0 ? 0 : rnd() % (n - at + 1);
		b->pieces[b->n].p = data + at;
		b->pieces[b->n++].n = m;
		at += m;
	}
	b->bytes = at;
}

static unsigned char *
joined(const struct body *b)
{
	unsigned char *p = malloc(b->bytes + 1);
	uint64_t at = 0;
	int i;

	for (i = 0; i < b->n; i++) {
		if (b->pieces[i].n > 0)
			memcpy(p + at, b->pieces[i].p, b->pieces[i].n);
		at += b->pieces[i].n;
	}
	cr_assert_eq(at, b->bytes);
	return p;
}

static void
check_inflates(const unsigned char *p, uint64_t n, enum coding c, const unsigned char *want, size_t want_n)
{
	unsigned char *out = malloc(want_n + 1);

	if (c == CODING_ZSTD) {
		cr_assert_eq(ZSTD_getFrameContentSize(p, n), want_n);
		cr_assert_eq(ZSTD_decompress(out, want_n + 1, p, n), want_n);
	} else {
		z_stream z = {0};

		cr_assert_eq(inflateInit2(&z, c == CODING_GZIP ? 31 : 15), Z_OK);
		z.next_in = (Bytef *)(uintptr_t)p;
		z.avail_in = (uInt)n;
		z.next_out = out;
		z.avail_out = (uInt)want_n + 1;
		cr_assert_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
		cr_assert_eq(z.avail_in, 0);
		cr_assert_eq(z.total_out, want_n);
		inflateEnd(&z);
	}
	cr_assert_eq(memcmp(out, want, want_n), 0);
	free(out);
}

Test(deflate, round_trips)
{
	static const size_t sizes[] = {0, 1, 13, 1000, 65535, 65536, 300001, 2u << 20};
	static const enum coding codings[] = {CODING_GZIP, CODING_DEFLATE, CODING_ZSTD};
	struct arena_pool *pool;
	struct err e = {0};
	size_t i, c;
	int kind;

	cr_assert_not_null(pool = arena_pool_new(256u << 20, 0, &e), "%s", e.msg);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (kind = 0; kind < 5; kind++) {
			unsigned char *data = make_data(kind, sizes[i]);

			for (c = 0; c < 3; c++) {
				struct body b;
				struct mem mem;
				unsigned char *p;

				mem_init(&mem, pool, 0);
				make_body(&b, data, sizes[i], 1 + (int)(rnd() % BODY_PIECES_MAX));
				cr_assert_eq(body_compress(&b, codings[c], &mem, &e), 0, "%s", e.msg);
				cr_assert_str_eq(b.content_type, "application/x-npy");
				cr_assert_leq(b.bytes, sizes[i] + sizes[i] / 500 + 64, "%s: %zu bytes became %llu",
					      coding_name(codings[c]), sizes[i], (unsigned long long)b.bytes);
				if (kind == 1)
					cr_assert_leq(b.bytes, sizes[i] / 100 + 64);
				p = joined(&b);
				check_inflates(p, b.bytes, codings[c], data, sizes[i]);
				free(p);
				mem_fini(&mem);
			}
			free(data);
		}
	}
	arena_pool_free(&pool);
}

Test(deflate, identity_and_failure)
{
	unsigned char *data = make_data(0, 1u << 20);
	struct arena_pool *pool;
	struct err e = {0};
	struct body b;
	struct mem mem;

	cr_assert_not_null(pool = arena_pool_new(1u << 20, 0, &e), "%s", e.msg);
	mem_init(&mem, pool, 0);
	make_body(&b, data, 1u << 20, 2);
	cr_assert_eq(body_compress(&b, CODING_IDENTITY, &mem, &e), 0);
	cr_assert(b.n == 2 && b.bytes == 1u << 20 && b.pieces[0].p == data);
	/* More than the pool has: an error, and the body as it was. */
	cr_assert_eq(body_compress(&b, CODING_GZIP, &mem, &e), -1);
	cr_assert(e.code == ERR_OUT_OF_MEMORY || e.code == ERR_OVERLOADED, "%s", e.msg);
	cr_assert(b.n == 2 && b.bytes == 1u << 20 && b.pieces[0].p == data);
	mem_fini(&mem);
	arena_pool_free(&pool);
	free(data);
}

/* gzip -d and Python's modules on the same bytes. */
Test(deflate, other_programs)
{
	static const char *commands[] = {
		"gzip -dc %s | cmp -s - %s",
		"/usr/bin/python3 -c 'import gzip,sys; "
		"sys.exit(gzip.open(sys.argv[1]).read() != open(sys.argv[2],\"rb\").read())' %s %s",
		"/usr/bin/python3 -c 'import zlib,sys; "
		"sys.exit(zlib.decompress(open(sys.argv[1],\"rb\").read()) != open(sys.argv[2],\"rb\").read())' %s %s",
	};
	unsigned char *data = make_data(3, 700000);
	char dir[] = "/tmp/test_deflate.XXXXXX", packed[64], plain[64], cmd[400];
	struct arena_pool *pool;
	struct err e = {0};
	size_t i;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(packed, sizeof(packed), "%s/packed", dir);
	snprintf(plain, sizeof(plain), "%s/plain", dir);
	cr_assert_not_null(pool = arena_pool_new(64u << 20, 0, &e), "%s", e.msg);
	for (i = 0; i < 3; i++) {
		struct body b;
		struct mem mem;
		unsigned char *p;
		FILE *f;

		mem_init(&mem, pool, 0);
		make_body(&b, data, 700000, 5);
		cr_assert_eq(body_compress(&b, i < 2 ? CODING_GZIP : CODING_DEFLATE, &mem, &e), 0, "%s", e.msg);
		p = joined(&b);
		cr_assert_not_null(f = fopen(packed, "wb"));
		cr_assert_eq(fwrite(p, 1, b.bytes, f), b.bytes);
		fclose(f);
		cr_assert_not_null(f = fopen(plain, "wb"));
		cr_assert_eq(fwrite(data, 1, 700000, f), 700000);
		fclose(f);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(cmd, sizeof(cmd), commands[i], packed, plain);
#pragma GCC diagnostic pop
		cr_assert_eq(system(cmd), 0, "%s", cmd);
		free(p);
		mem_fini(&mem);
	}
	unlink(packed);
	unlink(plain);
	rmdir(dir);
	arena_pool_free(&pool);
	free(data);
}
