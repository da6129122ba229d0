/*
 * codings.c: the speed of content codings against plain zlib on normally distributed tensors. Prints, for each dtype,
 * gzip in (inflater_* into a window, the stream made by zlib's level 6) against zlib's inflate with 64 KiB of
 * input at a time, and gzip out (body_compress) against zlib's level 1: medians of the ratios of interleaved rounds, and
 * the rates, in processor time.
 * Usage: codings [MiB per tensor] [rounds]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <zlib.h>

#include "codec/decoder.h"
#include "codec/encode.h"

#define PIECE (64u << 10)
#define ROUNDS_MAX 101

/* A decoder that is one tensor: everything goes through its window. */
struct tensor_sink {
	struct decoder d;
	unsigned char *p;
	size_t n, size;
};

static int
sink_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct tensor_sink *s = (struct tensor_sink *)d;

	if (n > s->size - s->n)
		return err_set(e, ERR_MALFORMED_BODY, "too much");
	memcpy(s->p + s->n, p, n);
	s->n += n;
	return 0;
}

static size_t
sink_window(struct decoder *d, unsigned char **dst)
{
	struct tensor_sink *s = (struct tensor_sink *)d;

	*dst = s->p + s->n;
	return s->size - s->n;
}

static int
sink_advance(struct decoder *d, size_t n, struct err *e)
{
	(void)e;
	((struct tensor_sink *)d)->n += n;
	return 0;
}

static int
sink_finish(struct decoder *d, struct err *e)
{
	(void)d;
	(void)e;
	return 0;
}

static const struct decoder_ops sink_ops = {
	.name = "tensor", .feed = sink_feed, .window = sink_window, .advance = sink_advance, .finish = sink_finish};

static void
must(int condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "codings: %s failed\n", what);
	exit(1);
}

/* This thread's processor time, so that other work on the machine counts less. */
static uint64_t
cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double
uniform(void)
{
	static uint64_t s = 88172645463325252u;

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return ((double)(s >> 11) + 0.5) / 9007199254740992.0;
}

/* Round to nearest even at 16 bits; normal values of this size are never subnormal enough to matter here. */
static uint16_t
half_of(float v, int bf16)
{
	uint32_t u, sign, r;
	int exponent;

	memcpy(&u, &v, 4);
	if (bf16)
		return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
	sign = u >> 16 & 0x8000u;
	exponent = (int)(u >> 23 & 0xff) - 112;
	if (exponent <= 0)
		return (uint16_t)sign;
	r = ((uint32_t)exponent << 10) | (u >> 13 & 0x3ff);
	r += (u & 0x1fff) > 0x1000 || ((u & 0x1fff) == 0x1000 && (r & 1));
	return (uint16_t)(sign | r);
}

static void
fill(unsigned char *p, size_t n, const char *dtype)
{
	size_t size = strcmp(dtype, "fp32") == 0 ? 4 : 2, i;

	for (i = 0; i + size <= n; i += size) {
		float v = (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
		uint16_t h = half_of(v, dtype[0] == 'b');

		memcpy(p + i, size == 4 ? (void *)&v : (void *)&h, size);
	}
}

static size_t
zlib_gzip(const unsigned char *p, size_t n, int level, unsigned char *out, size_t room)
{
	z_stream z;

	memset(&z, 0, sizeof(z));
	must(deflateInit2(&z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK, "deflateInit2");
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)room;
	must(deflate(&z, Z_FINISH) == Z_STREAM_END, "deflate");
	n = z.total_out;
	deflateEnd(&z);
	return n;
}

static double
time_zlib_in(const unsigned char *gz, size_t gz_n, unsigned char *out, size_t n)
{
	uint64_t t = cpu_ns();
	size_t at = 0;
	z_stream z;
	int rc = Z_OK;

	memset(&z, 0, sizeof(z));
	must(inflateInit2(&z, 31) == Z_OK, "inflateInit2");
	z.next_out = out;
	z.avail_out = (uInt)n;
	while (rc == Z_OK && at < gz_n) {
		z.next_in = (Bytef *)(uintptr_t)(gz + at);
		z.avail_in = gz_n - at < PIECE ? (uInt)(gz_n - at) : PIECE;
		at += z.avail_in;
		rc = inflate(&z, Z_NO_FLUSH);
	}
	must(rc == Z_STREAM_END && z.total_out == n, "inflate");
	inflateEnd(&z);
	return (double)(cpu_ns() - t);
}

static double
time_our_in(const unsigned char *gz, size_t gz_n, unsigned char *out, size_t n)
{
	struct tensor_sink s = {.d.ops = &sink_ops, .p = out, .size = n};
	struct inflate_limits limits = {.max_out = n, .max_ratio = 1100};
	uint64_t t = cpu_ns();
	struct inflater *f;
	struct err e = {0};
	size_t at, m;

	must((f = inflater_new(CODING_GZIP, &s.d, &limits, &e)) != NULL, "inflater_new");
	for (at = 0; at < gz_n; at += m) {
		m = gz_n - at < PIECE ? gz_n - at : PIECE;
		must(inflater_feed(f, gz + at, m, &e) == 0, "inflater_feed");
	}
	must(inflater_finish(f, &e) == 0 && s.n == n, "inflater_finish");
	inflater_free(&f);
	return (double)(cpu_ns() - t);
}

static double
time_our_out(struct arena_pool *pool, const unsigned char *p, size_t n, uint64_t *packed)
{
	struct body b = {.n = 1, .pieces = {{p, n}}, .bytes = n};
	struct err e = {0};
	struct mem mem;
	uint64_t t;

	mem_init(&mem, pool, 0);
	t = cpu_ns();
	must(body_compress(&b, CODING_GZIP, &mem, &e) == 0, "body_compress");
	t = cpu_ns() - t;
	*packed = b.bytes;
	mem_fini(&mem);
	return (double)t;
}

static int
ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), ascending);
	return v[n / 2];
}

int
main(int argc, char **argv)
{
	static const char *dtypes[] = {"fp32", "fp16", "bf16"};
	size_t n = (size_t)(argc > 1 ? atoi(argv[1]) : 4) << 20, room = n + n / 8 + 4096, i;
	int rounds = argc > 2 ? atoi(argv[2]) : 9, k;
	unsigned char *data, *gz, *out;
	struct arena_pool *pool;
	struct err e = {0};

	must(n > 0 && n <= 1u << 30 && rounds > 0 && rounds <= ROUNDS_MAX, "reading the arguments");
	data = malloc(n);
	gz = malloc(room);
	out = malloc(room);
	pool = arena_pool_new(4 * n + (16u << 20), 0, &e);
	must(data != NULL && gz != NULL && out != NULL && pool != NULL, "getting memory");
	printf("%-6s %22s %12s %22s %12s %14s\n", "dtype", "gzip in: x zlib", "MB/s", "gzip out: x zlib 1", "MB/s",
	       "size, zlib 1's");
	for (i = 0; i < 3; i++) {
		double in[ROUNDS_MAX], in_rate[ROUNDS_MAX], to[ROUNDS_MAX], to_rate[ROUNDS_MAX];
		uint64_t packed = 0;
		size_t gz_n, one = 0;

		fill(data, n, dtypes[i]);
		gz_n = zlib_gzip(data, n, 6, gz, room);
		for (k = -1; k < rounds; k++) { /* round -1 warms up */
			double z_in = time_zlib_in(gz, gz_n, out, n), our_in = time_our_in(gz, gz_n, out, n);
			double z_out, our_out;
			uint64_t t;

			must(memcmp(out, data, n) == 0, "comparing");
			our_out = time_our_out(pool, data, n, &packed);
			t = cpu_ns();
			one = zlib_gzip(data, n, 1, out, room);
			z_out = (double)(cpu_ns() - t);
			if (k < 0)
				continue;
			in[k] = z_in / our_in;
			in_rate[k] = (double)n * 1e3 / our_in;
			to[k] = z_out / our_out;
			to_rate[k] = (double)n * 1e3 / our_out;
		}
		printf("%-6s %22.2f %12.0f %22.2f %12.0f %6.3f %7.3f\n", dtypes[i], median(in, rounds),
		       median(in_rate, rounds), median(to, rounds), median(to_rate, rounds), (double)packed / (double)n,
		       (double)one / (double)n);
	}
	arena_pool_free(&pool);
	free(data);
	free(gz);
	free(out);
	return 0;
}
