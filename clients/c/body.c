/*
 * body.c: a request's body as pieces of memory, read one after the other, and compressed on the way if asked, so that a
 * mapped file goes out without being copied as a whole. Called by http.c; owns the compressor only.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "lib.h"

#define LEVEL 1 /* dense floats gain nothing from higher ones */

uint64_t
lib_body_bytes(const struct lib_piece *pieces, int n)
{
	uint64_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += pieces[i].n;
	return sum;
}

void
lib_body_begin(struct lib_body *b, const struct lib_piece *pieces, int n, enum lib_coding coding)
{
	*b = (struct lib_body){.pieces = pieces, .n = n, .coding = coding};
	if (coding == LIB_GZIP) {
		z_stream *z = calloc(1, sizeof(*z));

		b->z = z;
		b->failed = !z || deflateInit2(z, LEVEL, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK;
		if (b->failed) {
			free(z);
			b->z = NULL;
		}
	} else if (coding == LIB_ZSTD) {
		b->z = ZSTD_createCCtx();
		b->failed = !b->z || ZSTD_isError(ZSTD_CCtx_setParameter(b->z, ZSTD_c_compressionLevel, LEVEL));
	}
}

void
lib_body_end(struct lib_body *b)
{
	if (b->coding == LIB_GZIP && b->z) {
		deflateEnd(b->z);
		free(b->z);
	} else if (b->coding == LIB_ZSTD) {
		ZSTD_freeCCtx(b->z);
	}
	b->z = NULL;
}

/* What is next, at most 1 GiB of it; n 0 at the end. */
static struct lib_piece
next_piece(struct lib_body *b)
{
	const uint64_t most = (uint64_t)1 << 30;
	struct lib_piece left = {"", 0};

	while (b->at < b->n && b->off == b->pieces[b->at].n) {
		b->at++;
		b->off = 0;
	}
	if (b->at < b->n) {
		left.p = (const char *)b->pieces[b->at].p + b->off;
		left.n = b->pieces[b->at].n - b->off;
		left.n = left.n < most ? left.n : most;
	}
	return left;
}

static bool
read_gzip(struct lib_body *b, unsigned char *dst, size_t n, size_t *got)
{
	z_stream *z = b->z;

	z->next_out = dst;
	z->avail_out = (uInt)n;
	while (z->avail_out && !b->ended) {
		struct lib_piece piece = next_piece(b);
		int rc;

		z->next_in = (Bytef *)(uintptr_t)piece.p;
		z->avail_in = (uInt)piece.n;
		rc = deflate(z, piece.n ? Z_NO_FLUSH : Z_FINISH);
		if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
			return false;
		b->off += piece.n - z->avail_in;
		b->ended = rc == Z_STREAM_END;
	}
	*got = n - z->avail_out;
	return true;
}

static bool
read_zstd(struct lib_body *b, unsigned char *dst, size_t n, size_t *got)
{
	ZSTD_outBuffer out = {dst, n, 0};

	while (out.pos < n && !b->ended) {
		struct lib_piece piece = next_piece(b);
		ZSTD_inBuffer in = {piece.p, (size_t)piece.n, 0};
		size_t rc = ZSTD_compressStream2(b->z, &out, &in, piece.n ? ZSTD_e_continue : ZSTD_e_end);

		if (ZSTD_isError(rc))
			return false;
		b->off += in.pos;
		b->ended = !piece.n && rc == 0;
	}
	*got = out.pos;
	return true;
}

bool
lib_body_read(struct lib_body *b, unsigned char *dst, size_t n, size_t *got)
{
	*got = 0;
	if (b->failed)
		return false;
	n = n < (1u << 30) ? n : 1u << 30;
	if (b->coding == LIB_GZIP)
		return read_gzip(b, dst, n, got);
	if (b->coding == LIB_ZSTD)
		return read_zstd(b, dst, n, got);
	while (*got < n) {
		struct lib_piece piece = next_piece(b);
		size_t m = n - *got < piece.n ? n - *got : (size_t)piece.n;

		if (!m)
			break;
		memcpy(dst + *got, piece.p, m);
		*got += m;
		b->off += m;
	}
	return true;
}
