/*
 * fuzz_inflate.c: any bytes as a compressed body. What comes out must not depend on how the input is cut nor on the
 * decoder's windows, and must stay within the limits.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"

#define OUT_MAX (256u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sink {
	struct decoder d;
	unsigned char *p;
	size_t n, window, open;
	bool finished;
};

static void
must(int condition)
{
	if (!condition)
		abort();
}

static int
sink_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct sink *s = (struct sink *)d;

	(void)e;
	must(n > 0 && n <= OUT_MAX - s->n);
	memcpy(s->p + s->n, p, n);
	s->n += n;
	return 0;
}

static size_t
sink_window(struct decoder *d, unsigned char **dst)
{
	struct sink *s = (struct sink *)d;

	*dst = s->p + s->n;
	return s->open = s->window < OUT_MAX - s->n ? s->window : OUT_MAX - s->n;
}

static int
sink_advance(struct decoder *d, size_t n, struct err *e)
{
	struct sink *s = (struct sink *)d;

	(void)e;
	must(n > 0 && n <= s->open);
	s->n += n;
	return 0;
}

static int
sink_finish(struct decoder *d, struct err *e)
{
	(void)e;
	((struct sink *)d)->finished = true;
	return 0;
}

static const struct decoder_ops sink_ops = {
	.name = "sink", .feed = sink_feed, .window = sink_window, .advance = sink_advance, .finish = sink_finish};

/* 0 or the error's code. */
static int
inflate_all(enum coding c, const uint8_t *p, size_t n, size_t step, size_t window, struct sink *s)
{
	struct inflate_limits limits = {.max_out = OUT_MAX, .max_ratio = 0};
	struct inflater *f;
	struct err e = {0};
	size_t at, m;
	int rc = 0;

	memset(s, 0, sizeof(*s));
	s->d.ops = &sink_ops;
	s->window = window;
	s->p = malloc(OUT_MAX);
	f = inflater_new(c, &s->d, &limits, &e);
	must(s->p != NULL && f != NULL);
	for (at = 0; at < n && rc == 0; at += m) {
		unsigned char *piece;

		m = n - at < step ? n - at : step;
		piece = malloc(m);
		must(piece != NULL);
		memcpy(piece, p + at, m);
		rc = inflater_feed(f, piece, m, &e);
		free(piece);
	}
	if (rc == 0)
		rc = inflater_finish(f, &e);
	must((rc == 0) == s->finished && (rc == 0) == (e.code == ERR_NONE));
	inflater_free(&f);
	return (int)e.code;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sink a, b;
	enum coding c;
	int rc;

	if (size < 3)
		return 0;
	c = (enum coding)(data[0] % 4);
	rc = inflate_all(c, data + 2, size - 2, size, OUT_MAX, &a);
	must(inflate_all(c, data + 2, size - 2, 1u + data[1] % 100, data[1] < 128 ? 0 : 16384u + data[1], &b) == rc);
	if (rc == 0)
		must(a.n == b.n && memcmp(a.p, b.p, a.n) == 0);
	free(a.p);
	free(b.p);
	return 0;
}
