/*
 * zlib_rate.c: what zlib alone makes of the same bytes in this run: streaming inflate of a gzip file fed in pieces of
 * 64 KiB, or deflate at level 1. bench/run interleaves it with the server's own decode and encode times.
 *
 * usage: zlib_rate inflate|deflate FILE ROUNDS      prints {"in":bytes,"out":bytes,"ms":[...],"cpu_ms":mean}
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#define PIECE (64u << 10)

static double
now_ms(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int
once(bool inflating, unsigned char *in, size_t n, unsigned char *out, size_t size, size_t *made)
{
	z_stream z = {0};
	int r = inflating ? inflateInit2(&z, 15 + 16) : deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	if (r != Z_OK)
		return -1;
	z.next_out = out;
	z.avail_out = (uInt)size;
	for (size_t at = 0; at < n && r == Z_OK; at += PIECE) {
		size_t piece = n - at < PIECE ? n - at : PIECE;
		bool last = at + piece == n;
		z.next_in = in + at;
		z.avail_in = (uInt)piece;
		r = inflating ? inflate(&z, Z_NO_FLUSH) : deflate(&z, last ? Z_FINISH : Z_NO_FLUSH);
	}
	*made = size - z.avail_out;
	(void)(inflating ? inflateEnd(&z) : deflateEnd(&z));
	return r == Z_STREAM_END ? 0 : -1;
}

int
main(int argc, char **argv)
{
	long rounds = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
	bool inflating = argc == 4 && strcmp(argv[1], "inflate") == 0;
	if (rounds < 1 || (!inflating && strcmp(argv[1], "deflate") != 0)) {
		fprintf(stderr, "usage: zlib_rate inflate|deflate FILE ROUNDS\n");
		return 2;
	}
	FILE *f = fopen(argv[2], "rb");
	if (f == NULL || fseek(f, 0, SEEK_END) != 0) {
		perror(argv[2]);
		return 1;
	}
	long end = ftell(f);
	rewind(f);
	if (end < 18 || end > (1L << 30)) {
		fprintf(stderr, "zlib_rate: %s: from 18 bytes to 1 GiB, please\n", argv[2]);
		return 1;
	}
	size_t n = (size_t)end;
	unsigned char *in = malloc(n);
	if (in == NULL || fread(in, 1, n, f) != n) {
		fprintf(stderr, "zlib_rate: cannot read %s\n", argv[2]);
		return 1;
	}
	fclose(f);
	/* gzip ends with the length of what it holds */
	size_t size = inflating ? (size_t)in[n - 4] | (size_t)in[n - 3] << 8 | (size_t)in[n - 2] << 16 |
					  (size_t)in[n - 1] << 24
				: compressBound(n) + 32;
	unsigned char *out = malloc(size);
	if (out == NULL)
		return 1;
	memset(out, 1, size); /* touched before the clock runs, as the server's memory is */

	size_t made = 0;
	double cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
	for (long i = 0; i < rounds; i++) {
		double t = now_ms(CLOCK_MONOTONIC);
		if (once(inflating, in, n, out, size, &made) != 0) {
			fprintf(stderr, "zlib_rate: %s: not one whole gzip member\n", argv[2]);
			return 1;
		}
		t = now_ms(CLOCK_MONOTONIC) - t;
		if (i == 0)
			printf("{\"in\":%zu,\"out\":%zu,\"ms\":[%.4f", n, made, t);
		else
			printf(",%.4f", t);
	}
	printf("],\"cpu_ms\":%.4f}\n", (now_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (double)rounds);
	free(in);
	free(out);
	return 0;
}
