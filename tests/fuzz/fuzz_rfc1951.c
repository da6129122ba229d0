/*
 * fuzz_rfc1951.c: inflate against zlib's: the same verdict and the same bytes, however the input and the room are cut.
 * The stream is the fuzzer's bytes themselves, or what zlib makes of longer data grown from them, with some bytes
 * damaged: only long blocks are decoded in lanes.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "codec/rfc1951.h"

#define OUT_MAX (256u << 10)
#define GROWN_MAX (128u << 10)
/* Zeros after the stream, so that zlib, too, comes to where it sees what is wrong. */
#define TAIL 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	unsigned char *p;
	size_t n, used;
	int verdict; /* 1 ended, 0 wants more, -1 wrong, 2 more than OUT_MAX */
};

static uint64_t state;

static void
must(int condition)
{
	if (!condition)
		abort();
}

static uint32_t
rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

static struct result
by_zlib(const unsigned char *p, size_t n)
{
	struct result r = {.p = malloc(OUT_MAX + 1)};
	z_stream z = {0};
	int rc;

	must(r.p != NULL && inflateInit2(&z, -15) == Z_OK);
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = r.p;
	z.avail_out = OUT_MAX + 1;
	rc = inflate(&z, Z_NO_FLUSH);
	r.n = z.total_out;
	r.used = z.total_in;
	r.verdict = rc == Z_STREAM_END ? 1 : rc == Z_DATA_ERROR ? -1 : 0;
	if (r.n > OUT_MAX)
		r.verdict = 2;
	inflateEnd(&z);
	return r;
}

/* In pieces of at most `step` bytes and rooms of at most `room`, each in memory of its own that does not stay. */
static struct result
by_us(struct rfc1951 *z, const unsigned char *p, size_t n, size_t step, size_t room)
{
	struct result r = {.p = malloc(OUT_MAX + 1)};

	must(r.p != NULL);
	while (r.used < n && r.verdict == 0) {
		size_t left = 1 + rnd() % step, had, place, made;
		unsigned char *piece, *out;
		const unsigned char *in;

		left = had = left < n - r.used ? left : n - r.used;
		in = piece = malloc(left);
		must(piece != NULL);
		memcpy(piece, p + r.used, left);
		do {
			place = 1 + rnd() % room;
			place = place < OUT_MAX + 1 - r.n ? place : OUT_MAX + 1 - r.n;
			out = malloc(place);
			must(out != NULL);
			r.verdict = rfc1951_run(z, &in, &left, out, place, &made);
			must(made <= place && left <= had && in == piece + (had - left));
			must(r.verdict != RFC1951_MORE || made == place || left == 0);
			memcpy(r.p + r.n, out, made);
			r.n += made;
			free(out);
			if (r.verdict == 0 && r.n > OUT_MAX)
				r.verdict = 2;
		} while (r.verdict == RFC1951_MORE && (left > 0 || made == place));
		r.used += had - left;
		free(piece);
	}
	if (r.verdict < 0)
		r.verdict = -1;
	return r;
}

static void
compare(const unsigned char *p, size_t n, size_t step, size_t room)
{
	static struct rfc1951 *z; /* one for all: what a stream leaves behind must not matter */
	struct result a = by_zlib(p, n), b;

	if (z == NULL)
		z = rfc1951_new();
	must(z != NULL);
	rfc1951_reset(z);
	b = by_us(z, p, n, step, room);
	must(a.verdict == b.verdict);
	if (a.verdict == 0 || a.verdict == 1)
		must(a.n == b.n && a.used == b.used && memcmp(a.p, b.p, a.n) == 0);
	else /* which of them went on for how long before it said so may differ */
		must(memcmp(a.p, b.p, a.n < b.n ? a.n : b.n) == 0);
	free(a.p);
	free(b.p);
}

/* Data of a kind: the fuzzer's bytes repeated, floats, skewed bytes, mixed with copies of what was before. */
static size_t
grow(const uint8_t *data, size_t size, unsigned kind, unsigned char *p)
{
	size_t n = GROWN_MAX / 8 * (1 + kind / 4 % 8), i;
	unsigned copies = kind / 32 % 8;

	for (i = 0; i < n; i++) {
		uint32_t r = rnd();

		if (i > 40000 && r % 1000 < copies * 30) {
			size_t from = i - 1 - (r >> 10) % 40000, len = 3 + rnd() % (r % 16 == 0 ? 300 : 4);

			for (; len > 0 && i < n; len--)
				p[i++] = p[from++];
			if (i == n)
				break;
		}
		switch (kind % 4) {
		case 0:
			p[i] = data[i % size];
			break;
		case 1: /* three random bytes and a skewed one */
			p[i] = (unsigned char)(i % 4 == 3 ? 0x3f - __builtin_ctz(r | 256) : r >> 20);
			break;
		case 2:
			p[i] = (unsigned char)(i % 2 == 1 ? 0x3f ^ __builtin_ctz(r | 64) : r >> 20);
			break;
		default:
			p[i] = data[(r >> 8) % size];
			break;
		}
	}
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = {1, 7, 100, 1460, 5000, 20000, 65536, 1u << 20};
	static const size_t rooms[] = {1, 50, 400, 5000, 40000, 65536, 1u << 20, 1u << 20};
	unsigned char *grown, *p;
	z_stream z = {0};
	size_t n, step, room;

	if (size < 8)
		return 0;
	step = steps[data[0] % 8];
	room = rooms[data[0] / 8 % 8];
	memcpy(&state, data, sizeof(state));
	state |= 1;
	if (data[1] % 2 == 0) {
		n = size - 2 + TAIL;
		must((p = calloc(1, n)) != NULL);
		memcpy(p, data + 2, size - 2);
		compare(p, n, step, room);
		free(p);
		return 0;
	}
	if (step < 1460) /* takes too long */
		step = 1u << 20;
	must((grown = malloc(GROWN_MAX)) != NULL && (p = calloc(1, 2 * GROWN_MAX)) != NULL);
	n = grow(data, size, data[2], grown);
	must(deflateInit2(&z, data[3] % 10, Z_DEFLATED, -15, 1 + data[3] / 10 % 9, data[4] % 5) == Z_OK);
	z.next_in = grown;
	z.avail_in = (uInt)n;
	z.next_out = p;
	z.avail_out = 2 * GROWN_MAX - TAIL;
	must(deflate(&z, Z_FINISH) == Z_STREAM_END);
	n = z.total_out;
	deflateEnd(&z);
	if (data[4] & 0x20)
		p[rnd() % n] ^= (unsigned char)(1 + data[5] % 255);
	if (data[4] & 0x40)
		memcpy(p + rnd() % n, data + 6, size - 6 < 200 ? size - 6 : 200);
	if (data[4] & 0x80)
		n = rnd() % n;
	else
		n += TAIL;
	compare(p, n, step, room);
	free(grown);
	free(p);
	return 0;
}
