/*
 * inflate.c: the content coding around a body decoder (decoder.h): identity, gzip, deflate and zstd.
 * The connection feeds it what the socket gives; it drives the decoder and owns only its own state.
 *
 * Decoded bytes go straight into the decoder's window when that is large enough to be worth it, else through a bounce
 * buffer. What lies around a DEFLATE stream is read here, gzip's (RFC 1952) and zlib's (RFC 1950) headers and trailers;
 * the stream itself by rfc1951.h. ISA-L computes the checksums where it is built in (HAVE_ISAL), zlib elsewhere.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifdef HAVE_ISAL
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif
#include <zstd.h>
#include <zstd_errors.h>

#include "codec/decoder.h"
#include "codec/rfc1951.h"

#define BOUNCE (64u << 10)
/* Below this the bounce buffer is cheaper: inflate goes slowly near the end of its room, and copies history at each call. */
#define WINDOW_MIN (16u << 10)
/* The most that comes out before the limits are looked at again. */
#define STEP_MAX (1u << 20)
#define RATIO_FROM (1u << 20)
#define ZSTD_WINDOW_LOG_MAX 23
#define GZIP_HEADER_MAX (256u << 10)

enum format { FORMAT_RAW, FORMAT_ZLIB, FORMAT_GZIP, FORMAT_ZSTD };

enum stage { STAGE_HEADER, STAGE_DATA, STAGE_TRAILER, STAGE_ENDED };

enum gzip_part { GZ_FIXED, GZ_XLEN_LO, GZ_XLEN_HI, GZ_EXTRA, GZ_NAME, GZ_COMMENT, GZ_HCRC_LO, GZ_HCRC_HI, GZ_DONE };

enum gzip_flag { GZ_FHCRC = 2, GZ_FEXTRA = 4, GZ_FNAME = 8, GZ_FCOMMENT = 16, GZ_RESERVED = 0xe0 };

struct inflater {
	enum coding coding;
	struct decoder *d;
	struct inflate_limits limits;
	uint64_t in, out;
	enum stage stage;
	uint64_t members; /* gzip members and zstd frames that have ended */
	unsigned char head[8];
	uint32_t head_n; /* bytes of the current header or trailer so far */
	enum gzip_part part;
	unsigned flags, extra;
	uint32_t crc; /* of the gzip header */
	enum format format;
	struct rfc1951 *deflated;
	uint32_t sum, member_out; /* the checksum and length (its lower 32 bits) of what came out of the member */
	ZSTD_DCtx *zstd;
	unsigned char *bounce;
};

static const struct {
	const char *name;
	enum coding coding;
} codings[] = {
	{"identity", CODING_IDENTITY}, {"gzip", CODING_GZIP},	{"deflate", CODING_DEFLATE},
	{"zstd", CODING_ZSTD},	       {"x-gzip", CODING_GZIP}, {"", CODING_IDENTITY},
};

int
coding_find(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(codings) / sizeof(codings[0]); i++)
		if (len == strlen(codings[i].name) && strncasecmp(name, codings[i].name, len) == 0)
			return (int)codings[i].coding;
	return -1;
}

const char *
coding_name(enum coding c)
{
	return codings[c].name; /* the first four are in the enum's order */
}

static int
corrupt(const struct inflater *f, const char *what, struct err *e)
{
	return err_param(e, ERR_MALFORMED_BODY, "Content-Encoding", what, "",
			 "the %s body is corrupt near byte %llu: %s", coding_name(f->coding), (unsigned long long)f->in,
			 what);
}

static int
left_over(const struct inflater *f, struct err *e)
{
	return err_param(e, ERR_MALFORMED_BODY, "Content-Encoding", "more bytes", "the end of the body",
			 "data is left over after the end of the %s stream, near byte %llu of the body",
			 coding_name(f->coding), (unsigned long long)f->in);
}

static uint32_t
crc32_more(uint32_t sum, const unsigned char *p, size_t n)
{
#ifdef HAVE_ISAL
	return crc32_gzip_refl(sum, p, n);
#else
	return (uint32_t)crc32(sum, p, (uInt)n); /* never more than STEP_MAX */
#endif
}

static uint32_t
adler32_more(uint32_t sum, const unsigned char *p, size_t n)
{
#ifdef HAVE_ISAL
	return isal_adler32(sum, p, n);
#else
	return (uint32_t)adler32(sum, p, (uInt)n);
#endif
}

static int
deflate_start(struct inflater *f)
{
	if (f->deflated == NULL)
		f->deflated = rfc1951_new();
	else
		rfc1951_reset(f->deflated);
	f->sum = f->format == FORMAT_ZLIB;
	f->member_out = 0;
	return f->deflated == NULL ? -1 : 0;
}

static int
deflate_run(struct inflater *f, const unsigned char **p, size_t *n, unsigned char *out, size_t room, size_t *made,
	    struct err *e)
{
	enum rfc1951_status rc = rfc1951_run(f->deflated, p, n, out, room, made);

	switch (rc) {
	case RFC1951_BAD_BLOCK:
		return corrupt(f, "invalid block", e);
	case RFC1951_BAD_SYMBOL:
		return corrupt(f, "invalid symbol", e);
	case RFC1951_BAD_DISTANCE:
		return corrupt(f, "a distance that reaches too far back", e);
	case RFC1951_MORE:
	case RFC1951_END:
		break;
	}
	f->member_out += (uint32_t)*made;
	if (f->format == FORMAT_GZIP)
		f->sum = crc32_more(f->sum, out, *made);
	else if (f->format == FORMAT_ZLIB)
		f->sum = adler32_more(f->sum, out, *made);
	return rc == RFC1951_END;
}

/* Take the trailer's bytes. 1: it is complete, and fits. */
static int
trailer(struct inflater *f, const unsigned char **p, size_t *n, struct err *e)
{
	uint32_t wanted = f->format == FORMAT_GZIP ? 8 : 4, got[2];
	const unsigned char *h = f->head;

	for (; f->head_n<wanted && * n> 0; (*n)--) {
		f->head[f->head_n++] = *(*p)++;
		f->in++;
	}
	if (f->head_n < wanted)
		return 0;
	got[0] = (uint32_t)h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24;
	got[1] = (uint32_t)h[4] | (uint32_t)h[5] << 8 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 24;
	if ((f->format == FORMAT_GZIP && (got[0] != f->sum || got[1] != f->member_out)) ||
	    (f->format == FORMAT_ZLIB && __builtin_bswap32(got[0]) != f->sum)) /* big-endian, as nothing else here */
		return corrupt(f, "the checksum or length at the end does not fit the data", e);
	return 1;
}

static int
zstd_run(struct inflater *f, const unsigned char **p, size_t *n, unsigned char *out, size_t room, size_t *made,
	 struct err *e)
{
	ZSTD_inBuffer in = {*p, *n, 0};
	ZSTD_outBuffer to = {out, room, 0};
	size_t rc = ZSTD_decompressStream(f->zstd, &to, &in);

	*made = to.pos;
	*p += in.pos;
	*n -= in.pos;
	if (!ZSTD_isError(rc))
		return rc == 0;
	switch (ZSTD_getErrorCode(rc)) {
	case ZSTD_error_frameParameter_windowTooLarge:
		return err_param(e, ERR_MALFORMED_BODY, "Content-Encoding", "a larger window", "at most 8 MiB",
				 "the zstd body needs a window of more than 8 MiB: compress it at level 19 or lower, "
				 "without --long or --ultra");
	case ZSTD_error_memory_allocation:
		return err_set(e, ERR_OUT_OF_MEMORY, "there is no memory to decompress the body");
	default:
		return corrupt(f, ZSTD_getErrorName(rc), e);
	}
}

static int
bomb(const struct inflater *f, struct err *e)
{
	if (f->limits.max_out > 0 && f->out > f->limits.max_out)
		return err_param(e, f->coding == CODING_IDENTITY ? ERR_TOO_LARGE : ERR_BOMB, "body", "", "",
				 "the decoded body is larger than %llu bytes", (unsigned long long)f->limits.max_out);
	if (f->limits.max_ratio > 0 && f->out > RATIO_FROM && f->out / f->limits.max_ratio > f->in)
		return err_param(e, ERR_BOMB, "Content-Encoding", "", "",
				 "the %s body expands to more than %u times its size: %llu bytes came out of %llu",
				 coding_name(f->coding), f->limits.max_ratio, (unsigned long long)f->out,
				 (unsigned long long)f->in);
	return 0;
}

/* Where the next decoded bytes go, and how many may. */
static size_t
room_for(struct inflater *f, unsigned char **dst, bool *direct)
{
	/* One byte past the limit is enough to see that it is passed. */
	uint64_t budget = f->limits.max_out > 0 ? f->limits.max_out - f->out : UINT64_MAX;
	size_t n = f->d->ops->window(f->d, dst);

	*direct = n >= WINDOW_MIN && budget >= WINDOW_MIN;
	if (*direct) {
		if (n > STEP_MAX)
			n = STEP_MAX;
		return n < budget ? n : (size_t)budget;
	}
	*dst = f->bounce;
	return budget < BOUNCE ? (size_t)budget + 1 : BOUNCE;
}

/* Decode until the input is used up (0) or the member has ended (1). */
static int
pump(struct inflater *f, const unsigned char **p, size_t *n, struct err *e)
{
	for (;;) {
		unsigned char *dst;
		bool direct;
		size_t room = room_for(f, &dst, &direct), had = *n, made = 0;
		int rc;

		rc = f->coding == CODING_ZSTD ? zstd_run(f, p, n, dst, room, &made, e)
					      : deflate_run(f, p, n, dst, room, &made, e);
		if (rc < 0)
			return -1;
		f->in += had - *n;
		f->out += made;
		if (bomb(f, e) < 0)
			return -1;
		if (made > 0 && (direct ? f->d->ops->advance(f->d, made, e) : f->d->ops->feed(f->d, dst, made, e)) < 0)
			return -1;
		if (rc > 0)
			return 1;
		if (made < room && *n == 0)
			return 0;
		if (made == 0 && *n == had)
			return corrupt(f, "the decoder does not advance", e);
	}
}

/* The part of a gzip header that follows `part`. */
static enum gzip_part
gzip_after(unsigned flags, enum gzip_part part)
{
	if (part < GZ_XLEN_LO && (flags & GZ_FEXTRA))
		return GZ_XLEN_LO;
	if (part < GZ_NAME && (flags & GZ_FNAME))
		return GZ_NAME;
	if (part < GZ_COMMENT && (flags & GZ_FCOMMENT))
		return GZ_COMMENT;
	return part < GZ_HCRC_LO && (flags & GZ_FHCRC) ? GZ_HCRC_LO : GZ_DONE;
}

static uint32_t
crc_byte(uint32_t crc, unsigned char c)
{
	int i;

	crc ^= c;
	for (i = 0; i < 8; i++)
		crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
	return crc;
}

static int
gzip_fixed_byte(struct inflater *f, unsigned char c, struct err *e)
{
	switch (f->head_n) {
	case 0:
	case 1:
		if (c != (f->head_n == 0 ? 0x1f : 0x8b))
			return f->members > 0 ? left_over(f, e)
					      : corrupt(f, "it does not begin as gzip does (1f 8b)", e);
		break;
	case 2:
		if (c != 8)
			return corrupt(f, "unknown compression method", e);
		break;
	case 3:
		if (c & GZ_RESERVED)
			return corrupt(f, "reserved flags in the header", e);
		f->flags = c;
		break;
	case 9:
		f->part = gzip_after(f->flags, GZ_FIXED);
		break;
	default:
		break;
	}
	return 0;
}

/* 1: the header is complete. */
static int
gzip_header_byte(struct inflater *f, unsigned char c, struct err *e)
{
	switch (f->part) {
	case GZ_FIXED:
		if (gzip_fixed_byte(f, c, e) < 0)
			return -1;
		break;
	case GZ_XLEN_LO:
		f->extra = c;
		f->part = GZ_XLEN_HI;
		break;
	case GZ_XLEN_HI:
		f->extra |= (unsigned)c << 8;
		f->part = f->extra > 0 ? GZ_EXTRA : gzip_after(f->flags, GZ_EXTRA);
		break;
	case GZ_EXTRA:
		if (--f->extra == 0)
			f->part = gzip_after(f->flags, GZ_EXTRA);
		break;
	case GZ_NAME:
	case GZ_COMMENT:
		if (c == 0)
			f->part = gzip_after(f->flags, f->part);
		break;
	case GZ_HCRC_LO:
		if (c != (~f->crc & 0xff))
			return corrupt(f, "the header's checksum does not fit", e);
		f->part = GZ_HCRC_HI;
		f->crc >>= 8; /* the next byte is compared with the second one */
		return 0;
	default: /* GZ_HCRC_HI */
		if (c != (~f->crc & 0xff))
			return corrupt(f, "the header's checksum does not fit", e);
		return 1;
	}
	f->crc = crc_byte(f->crc, c);
	if (++f->head_n > GZIP_HEADER_MAX)
		return corrupt(f, "its header is too long", e);
	return f->part == GZ_DONE;
}

/* zstd's magic number, or the two bytes that tell zlib's format from raw deflate. */
static int
judge_magic(struct inflater *f, struct err *e)
{
	const unsigned char *h = f->head;
	uint32_t magic;

	if (f->coding == CODING_ZSTD) {
		/* Frames of before zstd 0.8 would go to decoders that keep to no window limit. */
		magic = (uint32_t)h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24;
		f->format = FORMAT_ZSTD;
		if (magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START)
			return 0;
		return f->members > 0 ? left_over(f, e) : corrupt(f, "it does not begin as zstd does (28 b5 2f fd)", e);
	}
	/* RFC 9110 means zlib's format, but raw deflate is sent too. A raw stream that looks like zlib's header would
	 * begin with a stored block with odd padding, which no compressor makes. */
	if ((h[0] & 0x0f) != 8 || h[0] >> 4 > 7 || (h[0] * 256u + h[1]) % 31 != 0)
		f->format = FORMAT_RAW;
	else if ((h[1] & 0x20) == 0)
		f->format = FORMAT_ZLIB;
	else
		return corrupt(f, "it needs a preset dictionary", e);
	return 0;
}

/* Take the header's bytes. 1: it is complete; the first *replay bytes of f->head belong to the decompressor. */
static int
header(struct inflater *f, const unsigned char **p, size_t *n, size_t *replay, struct err *e)
{
	uint32_t wanted = f->coding == CODING_ZSTD ? 4 : 2;
	int rc = 0;

	f->format = FORMAT_GZIP;
	*replay = 0;
	while (rc == 0 && *n > 0) {
		unsigned char c = *(*p)++;

		(*n)--;
		f->in++;
		if (f->coding == CODING_GZIP) {
			rc = gzip_header_byte(f, c, e);
		} else {
			f->head[f->head_n++] = c;
			rc = f->head_n == wanted;
		}
	}
	if (rc <= 0 || f->coding == CODING_GZIP)
		return rc;
	if (judge_magic(f, e) < 0)
		return -1;
	*replay = f->format == FORMAT_ZLIB ? 0 : wanted;
	return 1;
}

static int
begin_member(struct inflater *f, struct err *e)
{
	if (f->format != FORMAT_ZSTD && deflate_start(f) < 0)
		return err_set(e, ERR_OUT_OF_MEMORY, "there is no memory to inflate the body");
	f->stage = STAGE_DATA;
	return 0;
}

static void
end_member(struct inflater *f)
{
	f->members++;
	f->stage = f->coding == CODING_DEFLATE ? STAGE_ENDED : STAGE_HEADER;
	f->head_n = 0;
	f->part = GZ_FIXED;
	f->crc = 0xffffffffu;
}

static int
feed_coded(struct inflater *f, const unsigned char *p, size_t n, struct err *e)
{
	size_t replay = 0;
	int rc;

	while (n > 0) {
		if (f->stage == STAGE_ENDED)
			return left_over(f, e);
		if (f->stage == STAGE_HEADER) {
			const unsigned char *again = f->head;

			rc = header(f, &p, &n, &replay, e);
			if (rc <= 0)
				return rc;
			if (begin_member(f, e) < 0)
				return -1;
			f->in -= replay;
			rc = replay > 0 ? pump(f, &again, &replay, e) : 0;
			assert(rc < 0 || replay == 0);
		} else {
			rc = f->stage == STAGE_TRAILER ? trailer(f, &p, &n, e) : pump(f, &p, &n, e);
		}
		if (rc < 0)
			return -1;
		if (rc > 0 && f->stage == STAGE_DATA && (f->format == FORMAT_GZIP || f->format == FORMAT_ZLIB)) {
			f->stage = STAGE_TRAILER;
			f->head_n = 0;
		} else if (rc > 0) {
			end_member(f);
		}
	}
	return 0;
}

struct inflater *
inflater_new(enum coding c, struct decoder *d, const struct inflate_limits *limits, struct err *e)
{
	struct inflater *f = calloc(1, sizeof(*f));

	if (f == NULL)
		goto out;
	f->coding = c;
	f->d = d;
	f->limits = *limits;
	f->crc = 0xffffffffu;
	if (c == CODING_IDENTITY)
		return f;
	f->bounce = malloc(BOUNCE);
	if (f->bounce == NULL)
		goto out;
	if (c == CODING_ZSTD) {
		f->zstd = ZSTD_createDCtx();
		if (f->zstd == NULL ||
		    ZSTD_isError(ZSTD_DCtx_setParameter(f->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)))
			goto out;
	}
	return f;
out:
	inflater_free(&f);
	err_set(e, ERR_OUT_OF_MEMORY, "there is no memory to decode the body");
	return NULL;
}

int
inflater_feed(struct inflater *f, const unsigned char *p, size_t n, struct err *e)
{
	if (f->coding != CODING_IDENTITY)
		return feed_coded(f, p, n, e);
	if (n == 0)
		return 0;
	f->in += n;
	f->out += n;
	return bomb(f, e) < 0 ? -1 : f->d->ops->feed(f->d, p, n, e);
}

size_t
inflater_window(struct inflater *f, unsigned char **dst)
{
	uint64_t budget = f->limits.max_out > 0 ? f->limits.max_out - f->out : UINT64_MAX;
	size_t n;

	if (f->coding != CODING_IDENTITY)
		return 0;
	n = f->d->ops->window(f->d, dst);
	return n < budget ? n : (size_t)budget;
}

int
inflater_advance(struct inflater *f, size_t n, struct err *e)
{
	assert(f->coding == CODING_IDENTITY);
	f->in += n;
	f->out += n;
	return f->d->ops->advance(f->d, n, e);
}

int
inflater_finish(struct inflater *f, struct err *e)
{
	/* At least one whole member, and none begun. */
	if (f->coding != CODING_IDENTITY &&
	    (f->members == 0 || f->stage == STAGE_DATA || f->stage == STAGE_TRAILER || f->head_n > 0))
		return err_param(e, ERR_MALFORMED_BODY, "Content-Encoding", "the end of the body",
				 "the rest of the stream",
				 "the %s body is truncated: it ends after %llu bytes, in the middle of its stream",
				 coding_name(f->coding), (unsigned long long)f->in);
	return f->d->ops->finish(f->d, e);
}

void
inflater_counts(const struct inflater *f, uint64_t *in, uint64_t *out)
{
	*in = f->in;
	*out = f->out;
}

void
inflater_free(struct inflater **f)
{
	if (*f == NULL)
		return;
	rfc1951_free(&(*f)->deflated);
	ZSTD_freeDCtx((*f)->zstd);
	free((*f)->bounce);
	free(*f);
	*f = NULL;
}
