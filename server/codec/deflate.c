/*
 * deflate.c: the content coding of a reply: its pieces are compressed one after the other, without being joined
 * first, into memory of the request. Called for large bodies on a helper thread. gzip and deflate by ISA-L where it is
 * built in (HAVE_ISAL), else by zlib; both at level 1, because what is sent is mostly dense floats.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_ISAL
#include <isa-l/igzip_lib.h>
#else
#define ZLIB_CONST
#include <zlib.h>
#endif
#include <zstd.h>

#include "codec/encode.h"

#define STEP_MAX (1u << 30) /* ISA-L and zlib count in 32 bits */
#define LEVEL 1

/* Where the compressed bytes go. */
struct sink {
	struct mem *mem;
	struct body_piece pieces[BODY_PIECES_MAX];
	int n;
	uint64_t bytes;
	unsigned char *p;
	uint64_t room;
	uint64_t more; /* to borrow when the room does not suffice */
};

static int
sink_grow(struct sink *s, uint64_t bytes, struct err *e)
{
	if (s->n == BODY_PIECES_MAX)
		return err_set(e, ERR_INTERNAL, "the compressed reply is much larger than the reply itself");
	s->p = mem_alloc(s->mem, bytes, e);
	if (s->p == NULL)
		return -1;
	s->room = bytes;
	s->pieces[s->n].p = s->p;
	s->pieces[s->n++].n = 0;
	return 0;
}

/* Room for at least one byte, at most what fits in 32 bits. */
static int
sink_room(struct sink *s, uint32_t *room, struct err *e)
{
	if (s->room == 0 && sink_grow(s, s->more, e) < 0)
		return -1;
	*room = s->room < STEP_MAX ? (uint32_t)s->room : STEP_MAX;
	return 0;
}

static void
sink_took(struct sink *s, size_t n)
{
	s->p += n;
	s->room -= n;
	s->bytes += n;
	s->pieces[s->n - 1].n += n;
}

#ifdef HAVE_ISAL

struct deflater {
	struct isal_zstream z;
	uint8_t level_buf[ISAL_DEF_LVL1_DEFAULT];
};

static struct deflater *
deflater_new(enum coding c)
{
	struct deflater *d = malloc(sizeof(*d));

	if (d == NULL)
		return NULL;
	isal_deflate_init(&d->z);
	d->z.level = LEVEL;
	d->z.level_buf = d->level_buf;
	d->z.level_buf_size = sizeof(d->level_buf);
	d->z.gzip_flag = c == CODING_GZIP ? IGZIP_GZIP : IGZIP_ZLIB;
	d->z.flush = NO_FLUSH;
	return d;
}

static int
deflater_step(struct deflater *d, const unsigned char *p, uint32_t n, bool last, struct sink *s, struct err *e)
{
	uint32_t room;

	d->z.next_in = (uint8_t *)p;
	d->z.avail_in = n;
	d->z.end_of_stream = last;
	do {
		if (sink_room(s, &room, e) < 0)
			return -1;
		d->z.next_out = s->p;
		d->z.avail_out = room;
		if (isal_deflate(&d->z) != COMP_OK)
			return err_set(e, ERR_INTERNAL, "the reply could not be compressed");
		sink_took(s, room - d->z.avail_out);
	} while (last ? d->z.internal_state.state != ZSTATE_END : d->z.avail_in > 0 || d->z.avail_out == 0);
	return 0;
}

static void
deflater_free(struct deflater *d)
{
	free(d);
}

#else

struct deflater {
	z_stream z;
};

static struct deflater *
deflater_new(enum coding c)
{
	struct deflater *d = calloc(1, sizeof(*d));

	if (d != NULL &&
	    deflateInit2(&d->z, LEVEL, Z_DEFLATED, c == CODING_GZIP ? 31 : 15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(d);
		return NULL;
	}
	return d;
}

static int
deflater_step(struct deflater *d, const unsigned char *p, uint32_t n, bool last, struct sink *s, struct err *e)
{
	uint32_t room;
	int rc;

	d->z.next_in = p;
	d->z.avail_in = n;
	do {
		if (sink_room(s, &room, e) < 0)
			return -1;
		d->z.next_out = s->p;
		d->z.avail_out = room;
		rc = deflate(&d->z, last ? Z_FINISH : Z_NO_FLUSH);
		if (rc == Z_STREAM_ERROR)
			return err_set(e, ERR_INTERNAL, "the reply could not be compressed");
		sink_took(s, room - d->z.avail_out);
	} while (last ? rc != Z_STREAM_END : d->z.avail_in > 0 || d->z.avail_out == 0);
	return 0;
}

static void
deflater_free(struct deflater *d)
{
	deflateEnd(&d->z);
	free(d);
}

#endif

static int
no_memory(struct err *e)
{
	return err_set(e, ERR_OUT_OF_MEMORY, "there is no memory to compress the reply");
}

static int
compress_deflate(const struct body *b, enum coding c, struct sink *s, struct err *e)
{
	struct deflater *d = deflater_new(c);
	int i, rc = 0;

	if (d == NULL)
		return no_memory(e);
	for (i = 0; i < b->n && rc == 0; i++) {
		const unsigned char *p = b->pieces[i].p;
		size_t left = b->pieces[i].n;

		for (; left > 0 && rc == 0; left -= left < STEP_MAX ? left : STEP_MAX) {
			uint32_t n = left < STEP_MAX ? (uint32_t)left : STEP_MAX;

			rc = deflater_step(d, p, n, false, s, e);
			p += n;
		}
	}
	if (rc == 0)
		rc = deflater_step(d, (const unsigned char *)"", 0, true, s, e);
	deflater_free(d);
	return rc;
}

static int
zstd_step(ZSTD_CCtx *z, const unsigned char *p, size_t n, bool last, struct sink *s, struct err *e)
{
	ZSTD_inBuffer in = {p, n, 0};
	uint32_t room;
	size_t rc;

	do {
		ZSTD_outBuffer out;

		if (sink_room(s, &room, e) < 0)
			return -1;
		out = (ZSTD_outBuffer){s->p, room, 0};
		rc = ZSTD_compressStream2(z, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(rc))
			return err_set(e, ERR_INTERNAL, "the reply could not be compressed: %s", ZSTD_getErrorName(rc));
		sink_took(s, out.pos);
	} while (last ? rc != 0 : in.pos < in.size);
	return 0;
}

static int
compress_zstd(const struct body *b, struct sink *s, struct err *e)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	int i, rc = 0;

	if (z == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(z, b->bytes))) {
		ZSTD_freeCCtx(z);
		return no_memory(e);
	}
	for (i = 0; i < b->n && rc == 0; i++)
		rc = zstd_step(z, b->pieces[i].p, b->pieces[i].n, false, s, e);
	if (rc == 0)
		rc = zstd_step(z, (const unsigned char *)"", 0, true, s, e);
	ZSTD_freeCCtx(z);
	return rc;
}

int
body_compress(struct body *b, enum coding c, struct mem *mem, struct err *e)
{
	struct sink s = {.mem = mem};

	if (c == CODING_IDENTITY)
		return 0;
	/* Dense data grows by less than 0.1 %; should it be more, another piece is added. */
	s.more = b->bytes / 16 + 4096;
	if (sink_grow(&s, b->bytes + b->bytes / 64 + 4096, e) < 0)
		return -1;
	if ((c == CODING_ZSTD ? compress_zstd(b, &s, e) : compress_deflate(b, c, &s, e)) < 0)
		return -1;
	memcpy(b->pieces, s.pieces, sizeof(s.pieces));
	b->n = s.n;
	b->bytes = s.bytes;
	return 0;
}
