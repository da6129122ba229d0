/*
 * http_chunked.c: chunked transfer coding (RFC 9112 7.1) read strictly, byte by byte around the payload; see
 * http_head.h. Called by the connection code while a chunked body arrives. No memory of its own.
 */
#include <assert.h>
#include <limits.h>
#include <string.h>

#include "front/http_chars.h"
#include "front/http_head.h"

#define SIZE_LINE_MAX 4096
#define TRAILERS_MAX 16384
#define SIZE_DIGITS_MAX 16

enum state {
	SIZE,	   /* digits of the size */
	SIZE_WS,   /* blanks after them: only an extension may follow */
	EXT_START, /* after ';' */
	EXT_NAME,
	EXT_NAME_WS, /* only '=' or ';' may follow */
	EXT_EQUALS,  /* after '=' */
	EXT_VALUE,
	EXT_VALUE_WS, /* only ';' may follow */
	EXT_QUOTED,
	EXT_ESCAPED,
	EXT_QUOTED_END,
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
	TRAILER_START,
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	LAST_LF,
	REFUSED = -1
};

void
http_chunked_init(struct http_chunked *c)
{
	memset(c, 0, sizeof(*c));
	c->state = SIZE;
}

static bool
blank(char b)
{
	return b == ' ' || b == '\t';
}

static unsigned
hex_value(char b)
{
	return b <= '9' ? (unsigned)(b - '0') : (unsigned)((b | 0x20) - 'a' + 10);
}

/* The end of an extension's name or value, or of the size: what may follow there. */
static int
after(char b, int ws)
{
	if (b == ';')
		return EXT_START;
	if (b == '\r')
		return SIZE_LF;
	return blank(b) ? ws : REFUSED;
}

/* One byte of a size line whose size is complete. */
static int
next_in_extension(int state, char b)
{
	switch (state) {
	case SIZE_WS:
	case EXT_VALUE_WS:
		return b == ';' ? EXT_START : blank(b) ? state : REFUSED;
	case EXT_START:
		return http_is(b, HTTP_TOKEN) ? EXT_NAME : blank(b) ? EXT_START : REFUSED;
	case EXT_NAME:
		return http_is(b, HTTP_TOKEN) ? EXT_NAME : b == '=' ? EXT_EQUALS : after(b, EXT_NAME_WS);
	case EXT_NAME_WS:
		return b == '=' ? EXT_EQUALS : b == ';' ? EXT_START : blank(b) ? EXT_NAME_WS : REFUSED;
	case EXT_EQUALS:
		return http_is(b, HTTP_TOKEN) ? EXT_VALUE : b == '"' ? EXT_QUOTED : blank(b) ? EXT_EQUALS : REFUSED;
	case EXT_VALUE:
		return http_is(b, HTTP_TOKEN) ? EXT_VALUE : after(b, EXT_VALUE_WS);
	case EXT_QUOTED:
		if (b == '"')
			return EXT_QUOTED_END;
		if (b == '\\')
			return EXT_ESCAPED;
		return http_is(b, HTTP_TEXT) ? EXT_QUOTED : REFUSED;
	case EXT_ESCAPED:
		return http_is(b, HTTP_TEXT) ? EXT_QUOTED : REFUSED;
	default: /* EXT_QUOTED_END */
		return after(b, EXT_VALUE_WS);
	}
}

static int
next_in_trailers(int state, char b)
{
	switch (state) {
	case TRAILER_START:
		return b == '\r' ? LAST_LF : http_is(b, HTTP_TOKEN) ? TRAILER_NAME : REFUSED;
	case TRAILER_NAME:
		return http_is(b, HTTP_TOKEN) ? TRAILER_NAME : b == ':' ? TRAILER_VALUE : REFUSED;
	case TRAILER_VALUE:
		return http_is(b, HTTP_TEXT) ? TRAILER_VALUE : b == '\r' ? TRAILER_LF : REFUSED;
	default: /* TRAILER_LF */
		return b == '\n' ? TRAILER_START : REFUSED;
	}
}

static int
refuse(int state, char b, struct err *e)
{
	const char *where, *wanted;

	if (state == SIZE) {
		where = "a chunk's size";
		wanted = "1 to 16 hexadecimal digits";
	} else if (state < SIZE_LF) {
		where = "a chunk extension";
		wanted = ";name=value and CR LF";
	} else if (state == SIZE_LF) {
		where = "the end of a chunk's size line";
		wanted = "CR LF";
	} else if (state < TRAILER_START) {
		where = "the end of a chunk's data";
		wanted = "CR LF";
	} else {
		where = "the trailers";
		wanted = "Name: value lines ended by CR LF, and an empty line";
	}
	return err_param(e, ERR_MALFORMED_REQUEST, "Transfer-Encoding", "", wanted,
			 "The chunked body is malformed: byte 0x%02x in %s, wanted %s.", (unsigned)(unsigned char)b,
			 where, wanted);
}

/* One byte of framing; -1 with *e when it may not be there. */
static int
step(struct http_chunked *c, char b, struct err *e)
{
	int state = (int)c->state, next;

	switch (state) {
	case SIZE:
		if (http_is(b, HTTP_HEX) && c->line < SIZE_DIGITS_MAX) {
			c->left = c->left << 4 | hex_value(b);
			c->line++;
			return 0;
		}
		next = c->line > 0 ? after(b, SIZE_WS) : REFUSED;
		if (next != REFUSED && c->left > INT64_MAX)
			return err_param(e, ERR_TOO_LARGE, "Transfer-Encoding", "", "at most 2^63-1",
					 "A chunk of %llu bytes is larger than any body can be.",
					 (unsigned long long)c->left);
		c->line++;
		break;
	case SIZE_LF:
		next = b != '\n' ? REFUSED : c->left > 0 ? DATA : TRAILER_START;
		c->line = 0;
		break;
	case DATA_CR:
		next = b == '\r' ? DATA_LF : REFUSED;
		break;
	case DATA_LF:
		next = b == '\n' ? SIZE : REFUSED;
		break;
	case TRAILER_START:
	case TRAILER_NAME:
	case TRAILER_VALUE:
	case TRAILER_LF:
		next = next_in_trailers(state, b);
		if (++c->line > TRAILERS_MAX)
			return err_param(e, ERR_HEAD_TOO_LARGE, "", "", "",
					 "The chunked body's trailers are larger than %d bytes.", TRAILERS_MAX);
		break;
	case LAST_LF:
		next = b == '\n' ? LAST_LF : REFUSED;
		c->done = b == '\n';
		break;
	default:
		next = next_in_extension(state, b);
		if (++c->line > SIZE_LINE_MAX)
			return err_param(e, ERR_MALFORMED_REQUEST, "Transfer-Encoding", "", "",
					 "A chunk's size line is longer than %d bytes.", SIZE_LINE_MAX);
		break;
	}
	if (next == REFUSED)
		return refuse(state, b, e);
	c->state = (uint32_t)next;
	return 0;
}

long
http_chunked_next(struct http_chunked *c, const char *p, size_t n, const char **payload, size_t *payload_len,
		  struct err *e)
{
	size_t i = 0, m;

	assert(n <= LONG_MAX);
	*payload = p;
	*payload_len = 0;
	while (i < n && !c->done) {
		if (c->state == DATA) {
			m = n - i < c->left ? n - i : (size_t)c->left;
			*payload = p + i;
			*payload_len = m;
			http_chunked_take(c, m);
			i += m;
			break;
		}
		if (step(c, p[i++], e) < 0)
			return -1;
	}
	return (long)i;
}

uint64_t
http_chunked_window(const struct http_chunked *c)
{
	return c->state == DATA ? c->left : 0;
}

void
http_chunked_take(struct http_chunked *c, uint64_t n)
{
	assert(n == 0 || (c->state == DATA && n <= c->left));
	c->left -= n;
	if (c->state == DATA && c->left == 0)
		c->state = DATA_CR;
}
