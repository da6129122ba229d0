/*
 * test_http_chunked.c: chunked bodies good and bad; each also fed byte by byte and cut at every place.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/http_head.h"

#define MALFORMED ERR_MALFORMED_REQUEST
#define CASE(text, payload, used)                                                                                      \
	{                                                                                                              \
		text, sizeof(text) - 1, payload, used, ERR_NONE                                                        \
	}
#define BAD(text, code)                                                                                                \
	{                                                                                                              \
		text, sizeof(text) - 1, NULL, 0, code                                                                  \
	}
#define WHOLE ((size_t)-1)

struct chunked_case {
	const char *text;
	size_t len;
	const char *payload;
	size_t used; /* WHOLE: all of it */
	enum err_code code;
};

/* Decode, `step` bytes at a time (each in memory of its own): 1 done, 0 not yet, -1 bad. */
static int
decode(const char *text, size_t len, size_t step, bool windows, char *out, size_t *out_len, size_t *used, struct err *e)
{
	struct http_chunked c;
	size_t at = 0;

	http_chunked_init(&c);
	memset(e, 0, sizeof(*e));
	*out_len = 0;
	while (at < len && !c.done) {
		size_t n = len - at < step ? len - at : step, i = 0;
		uint64_t w = http_chunked_window(&c);
		char *copy;

		if (windows && w > 0) {
			n = n < w ? n : (size_t)w;
			memcpy(out + *out_len, text + at, n);
			*out_len += n;
			at += n;
			http_chunked_take(&c, n);
			continue;
		}
		copy = malloc(n);
		memcpy(copy, text + at, n);
		while (i < n && !c.done) {
			const char *payload;
			size_t payload_len;
			long rc = http_chunked_next(&c, copy + i, n - i, &payload, &payload_len, e);

			if (rc < 0) {
				free(copy);
				return -1;
			}
			cr_assert(rc > 0 && (size_t)rc <= n - i);
			if (payload_len > 0) {
				cr_assert(payload >= copy + i && payload + payload_len == copy + i + rc);
				memcpy(out + *out_len, payload, payload_len);
				*out_len += payload_len;
			}
			i += (size_t)rc;
		}
		free(copy);
		at += i;
	}
	*used = at;
	return c.done;
}

static const struct chunked_case cases[] = {
	CASE("0\r\n\r\n", "", WHOLE),
	CASE("000000\r\n\r\n", "", WHOLE),
	CASE("5\r\nhello\r\n0\r\n\r\n", "hello", WHOLE),
	CASE("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", WHOLE),
	CASE("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", WHOLE),
	CASE("a\r\n0123456789\r\n0\r\n\r\n", "0123456789", WHOLE),
	CASE("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", WHOLE),
	CASE("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", WHOLE),
	CASE("5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "hello", 15),
	CASE("5;a\r\nhello\r\n0;b=c;d=\"e;\\\" \t\xff\"\r\n\r\n", "hello", WHOLE),
	CASE("5 ; a = b ; c\r\nhello\r\n0\r\n\r\n", "hello", WHOLE),
	CASE("5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", WHOLE),
	CASE("0\r\nX: y\r\nZ:\r\nW: \t\x80v \r\n\r\n", "", WHOLE),
	CASE("0\r\nContent-Length: 5\r\n\r\nx", "", 24),
	BAD("\r\n", MALFORMED),
	BAD("x\r\n", MALFORMED),
	BAD("-5\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("+5\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("0x5\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD(" 5\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5 \r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\t\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5g\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5_0\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\rhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\r\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\0\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\r\nhello\n0\r\n\r\n", MALFORMED),
	BAD("5\r\nhello0\r\n\r\n", MALFORMED),
	BAD("5\r\nhelloX\r\n0\r\n\r\n", MALFORMED),
	BAD("5\r\nhello\r0\r\n\r\n", MALFORMED),
	BAD("5\r\nhello\rX0\r\n\r\n", MALFORMED),
	BAD("4\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5\r\nhello\r\n\r\n", MALFORMED),
	BAD("5\r\nhello\r\n 0\r\n\r\n", MALFORMED),
	BAD("00000000000000005\r\nhello\r\n0\r\n\r\n", MALFORMED), /* 17 digits */
	BAD("10000000000000000\r\n", MALFORMED),
	BAD("8000000000000000\r\n", ERR_TOO_LARGE),
	BAD("ffffffffffffffff\r\n", ERR_TOO_LARGE),
	BAD("FFFFFFFFFFFFFFFF;x\r\n", ERR_TOO_LARGE),
	BAD("5;\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a=\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;=a\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a b\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a \r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a=b \r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a=b=c\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a=\"b\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a=\"\\\r\"\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a\nb\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;\nxx\r\n0\r\n\r\n", MALFORMED), /* two readings: where the size line ends */
	BAD("5;a\0\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5;a\xff\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("5,a\r\nhello\r\n0\r\n\r\n", MALFORMED),
	BAD("0\r\n\n", MALFORMED),
	BAD("0\r\n\rX", MALFORMED),
	BAD("0\r\nX\r\n\r\n", MALFORMED),
	BAD("0\r\n: y\r\n\r\n", MALFORMED),
	BAD("0\r\nX : y\r\n\r\n", MALFORMED),
	BAD("0\r\n X: y\r\n\r\n", MALFORMED),
	BAD("0\r\nX: y\r\n z\r\n\r\n", MALFORMED),
	BAD("0\r\nX: y\nZ: w\r\n\r\n", MALFORMED),
	BAD("0\r\nX: y\rZ: w\r\n\r\n", MALFORMED),
	BAD("0\r\nX: \0\r\n\r\n", MALFORMED),
	BAD("0\r\nGET / HTTP/1.1\r\n\r\n", MALFORMED),
};

Test(http_chunked, cases)
{
	size_t i, step, n, used, len;
	char out[256];
	struct err e;
	int rc;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct chunked_case *c = &cases[i];
		size_t whole = c->used == WHOLE ? c->len : c->used;

		for (step = 1; step <= c->len; step++) {
			for (n = 0; n < 2; n++) {
				rc = decode(c->text, c->len, step, n == 1, out, &len, &used, &e);
				cr_assert_eq(e.code, c->code, "%s in steps of %zu: %s", c->text, step, e.msg);
				cr_assert_eq(rc, c->code == ERR_NONE ? 1 : -1, "%s in steps of %zu: %d", c->text, step,
					     rc);
				if (rc == 1) {
					cr_assert_eq(used, whole, "%s: used %zu", c->text, used);
					cr_assert(len == strlen(c->payload) && memcmp(out, c->payload, len) == 0);
				} else {
					cr_assert(e.msg[0] != '\0');
				}
			}
		}
		for (n = 0; c->code == ERR_NONE && n < whole; n++)
			cr_assert_eq(decode(c->text, n, n + 1, false, out, &len, &used, &e), 0, "%s cut at %zu",
				     c->text, n);
	}
}

Test(http_chunked, limits)
{
	char *text = malloc(40000), *out = malloc(40000);
	size_t len, used, n;
	struct err e;

	/* size line: 4096 bytes up to its CR, less two */
	for (n = 4000; n < 4200; n++) {
		memcpy(text, "0;", 2);
		memset(text + 2, 'x', n - 2);
		memcpy(text + n, "\r\n\r\n", 4);
		cr_assert_eq(decode(text, n + 4, 64, false, out, &len, &used, &e), n + 1 <= 4096 ? 1 : -1, "%zu", n);
		cr_assert_eq(e.code, n + 1 <= 4096 ? ERR_NONE : MALFORMED);
	}
	for (n = 16300; n < 16450; n++) {
		memcpy(text, "0\r\nX:", 5);
		memset(text + 5, 'x', n);
		memcpy(text + 5 + n, "\r\n\r\n", 4);
		decode(text, n + 9, 4096, false, out, &len, &used, &e);
		cr_assert_eq(e.code, n + 5 <= 16384 ? ERR_NONE : ERR_HEAD_TOO_LARGE, "%zu: %s", n, e.msg);
	}
	/* many small trailers count together */
	n = (size_t)sprintf(text, "0\r\n");
	while (n < 17000)
		n += (size_t)sprintf(text + n, "A: b\r\n");
	cr_assert_eq(decode(text, n, n, false, out, &len, &used, &e), -1);
	cr_assert_eq(e.code, ERR_HEAD_TOO_LARGE);
	free(text);
	free(out);
}

/* The largest chunk: all of it can be taken through the window. */
Test(http_chunked, huge_chunk)
{
	struct http_chunked c;
	const char *text = "7fffffffffffffff\r\nab", *payload;
	size_t payload_len;
	struct err e = {0};

	http_chunked_init(&c);
	cr_assert_eq(http_chunked_window(&c), 0);
	cr_assert_eq(http_chunked_next(&c, text, 20, &payload, &payload_len, &e), 20);
	cr_assert(payload == text + 18 && payload_len == 2);
	cr_assert_eq(http_chunked_window(&c), (uint64_t)INT64_MAX - 2);
	http_chunked_take(&c, (uint64_t)INT64_MAX - 2);
	cr_assert_eq(http_chunked_window(&c), 0);
	cr_assert_eq(http_chunked_next(&c, "\r\n0\r\n\r\n", 7, &payload, &payload_len, &e), 7);
	cr_assert(c.done && payload_len == 0);
	cr_assert_eq(http_chunked_next(&c, "x", 1, &payload, &payload_len, &e), 0);
}
