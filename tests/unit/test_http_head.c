/*
 * test_http_head.c: request heads good and bad, from RFC 9112's rules and from the ways in which servers and
 * proxies have been made to disagree. Each case is also fed byte by byte and cut at every place: the verdict must
 * be the same.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/http_head.h"

#define MALFORMED ERR_MALFORMED_REQUEST
#define CASE(text, code)                                                                                               \
	{                                                                                                              \
		text, sizeof(text) - 1, code                                                                           \
	}
#define REQ(fields) "POST /v1/ops/x HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

struct head_case {
	const char *text;
	size_t len;
	enum err_code code;
};

static const struct http_limits limits = {.head_bytes = 16384, .head_fields = 100, .target_bytes = 8192};

/* The verdict when len bytes come at once, in a buffer of exactly that size. */
static int
at_once(const char *text, size_t len, const struct http_limits *lim, struct http_head *h, struct err *e)
{
	char *copy = malloc(len > 0 ? len : 1);
	size_t scanned = 0;
	int rc;

	memcpy(copy, text, len);
	memset(e, 0, sizeof(*e));
	rc = http_head_parse(copy, len, lim, &scanned, h, e);
	free(copy);
	return rc;
}

/* The same when they come `step` at a time; *seen is how many had come when it was given. */
static int
in_steps(const char *text, size_t len, size_t step, const struct http_limits *lim, struct http_head *h, struct err *e,
	 size_t *seen)
{
	size_t scanned = 0, n = 0;
	int rc = 0;

	memset(e, 0, sizeof(*e));
	while (rc == 0 && n < len) {
		char *copy;

		n = len - n < step ? len : n + step;
		copy = malloc(n);
		memcpy(copy, text, n);
		rc = http_head_parse(copy, n, lim, &scanned, h, e);
		cr_assert(scanned <= n);
		free(copy);
	}
	*seen = n;
	return rc;
}

static void
check_case(const struct head_case *c, const struct http_limits *lim)
{
	struct http_head h, hs;
	struct err e, es;
	size_t steps[] = {1, 2, 3, 7, 64}, seen, i;
	int rc = at_once(c->text, c->len, lim, &h, &e), rs;

	cr_assert_eq(rc, c->code == ERR_NONE ? 1 : -1, "%.60s: verdict %d, %s", c->text, rc, e.msg);
	cr_assert_eq(e.code, c->code, "%.60s: code %d (%s), wanted %d", c->text, (int)e.code, e.msg, (int)c->code);
	cr_assert(c->code == ERR_NONE || e.msg[0] != '\0');
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		rs = in_steps(c->text, c->len, steps[i], lim, &hs, &es, &seen);
		cr_assert_eq(rs, rc, "%.60s in steps of %zu: %d", c->text, steps[i], rs);
		cr_assert_eq(es.code, e.code, "%.60s in steps of %zu: code %d", c->text, steps[i], (int)es.code);
		if (rc == 1)
			cr_assert_eq(memcmp(&h, &hs, sizeof(h)), 0);
	}
}

static const struct head_case good[] = {
	CASE("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET / HTTP/1.0\r\n\r\n", 0),
	CASE("get / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("!#$%&'*+-.^_`|~9 / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET /a%20b%7e?x=%&y=%zz&z=%00 HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET /?a[]=1&b={}|\\^`\"<> HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET //a/../b;c=d HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET http://example.org:8000/v1/info?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET HTTPS://[::1]:8000/v1/info HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("OPTIONS /v1/info HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", 0),
	CASE("CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost:\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nhOST:a\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: \t localhost:8000 \t\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: [fe80::1:2.3.4.5]:80\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: a%41b_c-d.e\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX: a:b:c\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: \tv\t\x80\xff w \t\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", 0),
	CASE(REQ("Content-Length: 0\r\n"), 0),
	CASE(REQ("content-length:5\r\n") "hello", 0),
	CASE(REQ("Content-Length: \t0000000000000000000000005 \t\r\n") "hello", 0),
	CASE(REQ("Content-Length: 9223372036854775807\r\n"), 0),
	CASE(REQ("Transfer-Encoding: chunked\r\n") "0\r\n\r\n", 0),
	CASE(REQ("TRANSFER-ENCODING:ChunKed \r\n"), 0),
	CASE(REQ("TE: gzip\r\nTrailer: X\r\n"), 0),
	CASE(REQ("Expect: 100-Continue\r\nContent-Length: 5\r\n"), 0),
	CASE("POST / HTTP/1.0\r\nExpect: anything\r\nContent-Length: 5\r\n\r\n", 0),
	CASE("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nbad", 0), /* what follows is another head */
};

static const struct head_case bad[] = {
	/* lines and bytes */
	CASE("GET / HTTP/1.1\nHost: a\n\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\n\n", MALFORMED),
	CASE("GET / HTTP/1.1\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: w\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\rHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", MALFORMED),
	CASE("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: a\x01\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: a\x0b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: a\x1b[0m\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", MALFORMED),
	CASE("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", MALFORMED), /* TLS */
	CASE("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	/* request line */
	CASE("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("Extra lineGET / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /\r\n", MALFORMED),
	CASE("GET\r\n", MALFORMED),
	CASE("GET \r\n", MALFORMED),
	CASE("GET  HTTP/1.1\r\n", MALFORMED),
	CASE("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET: / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE(" / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("SSH-2.0-OpenSSH_9.2\r\n", MALFORMED),
	/* version */
	CASE("GET / HTTP/1.2\r\nHost: a\r\n\r\n", ERR_HTTP_VERSION),
	CASE("GET / HTTP/1.9\r\nHost: a\r\n\r\n", ERR_HTTP_VERSION),
	CASE("GET / HTTP/0.9\r\nHost: a\r\n\r\n", ERR_HTTP_VERSION),
	CASE("GET / HTTP/2.0\r\nHost: a\r\n\r\n", ERR_HTTP_VERSION),
	CASE("GET / HTTP/3.1\r\nHost: a\r\n\r\n", ERR_HTTP_VERSION),
	CASE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ERR_HTTP_VERSION),
	CASE("GET / http/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.10\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/01.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1,1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/2\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / ICY/1.10\r\nHost: a\r\n\r\n", MALFORMED),
	/* target */
	CASE("GET a HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /?x#f HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /a%2 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /a% HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /a%2?x HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET /a%%20 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET * HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET http://a/%00 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
	/* fields */
	CASE(REQ(" X: y\r\n"), MALFORMED),
	CASE("GET / HTTP/1.1\r\n Host: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", MALFORMED),
	CASE(REQ("X : y\r\n"), MALFORMED),
	CASE(REQ("X\t: y\r\n"), MALFORMED),
	CASE(REQ(": y\r\n"), MALFORMED),
	CASE(REQ("X\r\n"), MALFORMED),
	CASE(REQ("X y\r\n"), MALFORMED),
	CASE(REQ("X-Invalid[]: y\r\n"), MALFORMED),
	CASE(REQ("X(y): z\r\n"), MALFORMED),
	CASE(REQ("\"X\": z\r\n"), MALFORMED),
	CASE(REQ("X\xc3\xa9: z\r\n"), MALFORMED),
	CASE(REQ("\xef\xbb\xbfX: z\r\n"), MALFORMED),
	/* Host */
	CASE("GET / HTTP/1.1\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.0\r\nHost: a\r\nHOST: b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: http://a/\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a:4294967376\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: []\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: [g::1]\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", MALFORMED),
	CASE("GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", MALFORMED),
	/* Content-Length */
	CASE(REQ("Content-Length: 5\r\nContent-Length: 6\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 5\r\nContent-Length: 5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 5\r\ncOnTeNt-lEnGtH: 0\r\n"), MALFORMED),
	CASE(REQ("Content-Length : 5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 5, 5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 5,\r\n"), MALFORMED),
	CASE(REQ("Content-Length: +5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: -5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 0x5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 5 5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 5.0\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 1e3\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 1_0\r\n"), MALFORMED),
	CASE(REQ("Content-Length: \"5\"\r\n"), MALFORMED),
	CASE(REQ("Content-Length: five\r\n"), MALFORMED),
	CASE(REQ("Content-Length:\r\n"), MALFORMED),
	CASE(REQ("Content-Length: \t \r\n"), MALFORMED),
	CASE(REQ("Content-Length: \xd9\xa5\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 99999999999999999999x\r\n"), MALFORMED),
	CASE(REQ("Content-Length: 9223372036854775808\r\n"), ERR_TOO_LARGE),
	CASE(REQ("Content-Length: 18446744073709551615\r\n"), ERR_TOO_LARGE),
	CASE(REQ("Content-Length: 18446744073709551621\r\n"), ERR_TOO_LARGE),
	CASE(REQ("Content-Length: 99999999999999999999999999999999\r\n"), ERR_TOO_LARGE),
	/* Transfer-Encoding */
	CASE(REQ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding : chunked\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding:\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: ,\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: chunked,\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: ,chunked\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: chunked, chunked\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: chunked, gzip\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: \"chunked\"\r\n"), MALFORMED),
	CASE(REQ("Transfer-Encoding: \x0b"
		 "chunked\r\n"),
	     MALFORMED),
	CASE(REQ("Transfer-Encoding: chu\xc3\xb1ked\r\n"), MALFORMED),
	CASE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", MALFORMED),
	CASE(REQ("Transfer-Encoding: gzip, chunked\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: gzip\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: xchunked\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: chunkedx\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: chunke\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: identity\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: chunked;a=b\r\n"), ERR_NOT_IMPLEMENTED),
	CASE(REQ("Transfer-Encoding: chunked chunked\r\n"), ERR_NOT_IMPLEMENTED),
	/* Expect */
	CASE(REQ("Expect: foo\r\n"), ERR_EXPECTATION_FAILED),
	CASE(REQ("Expect:\r\n"), ERR_EXPECTATION_FAILED),
	CASE(REQ("Expect: 100-continue, foo\r\n"), ERR_EXPECTATION_FAILED),
	CASE(REQ("Expect: 100-continued\r\n"), ERR_EXPECTATION_FAILED),
	CASE(REQ("Expect: 100-continue\r\nExpect: 100-continue\r\n"), ERR_EXPECTATION_FAILED),
};

Test(http_head, good_heads)
{
	size_t i, n;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct head_case *c = &good[i];
		struct http_head h;
		struct err e;

		check_case(c, &limits);
		at_once(c->text, c->len, &limits, &h, &e);
		cr_assert_eq(h.length, (size_t)(strstr(c->text, "\r\n\r\n") - c->text) + 4);
		for (n = 0; n < h.length; n++)
			cr_assert_eq(at_once(c->text, n, &limits, &h, &e), 0, "%.60s cut at %zu: %s", c->text, n, e.msg);
	}
}

Test(http_head, bad_heads)
{
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_case(&bad[i], &limits);
}

/* Nothing is waited for once a forbidden byte or a bad request line is there. */
Test(http_head, refuses_early)
{
	static const struct {
		const char *text;
		size_t at; /* bytes that suffice */
	} cases[] = {
		{"\x16\x03\x01", 1},
		{"GET / HTTP/1.1\nHost: a\r\n\r\n", 15},
		{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 16},
		{"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 18},
		{"GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n", 24},
		{"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 25},
	};
	struct http_head h;
	struct err e;
	size_t i, seen;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(in_steps(cases[i].text, strlen(cases[i].text), 1, &limits, &h, &e, &seen), -1);
		cr_assert_eq(seen, cases[i].at, "%s: refused after %zu bytes", cases[i].text, seen);
	}
}

static void
parse(const char *text, struct http_head *h)
{
	struct err e;

	cr_assert_eq(at_once(text, strlen(text), &limits, h, &e), 1, "%s: %s", text, e.msg);
}

Test(http_head, description)
{
	const char *text = "POST /v1/ops/rms%20norm?eps=1e-5&a=/b HTTP/1.1\r\nhost: a\r\nEXPECT: 100-continue\r\n"
			   "X: y\r\nContent-length: 1234\r\n\r\nbody";
	struct http_head h;

	parse(text, &h);
	cr_assert_eq(h.length, strlen(text) - 4);
	cr_assert(h.method_len == 4 && h.target == 5);
	cr_assert_eq(strncmp(text + h.target, "/v1/ops/rms%20norm?eps=1e-5&a=/b HTTP", h.target_len + 5), 0);
	cr_assert_eq(h.target_len, strlen("/v1/ops/rms%20norm?eps=1e-5&a=/b"));
	cr_assert(h.path == 5 && h.path_len == strlen("/v1/ops/rms%20norm"));
	cr_assert(h.minor == 1 && h.has_length && h.content_length == 1234 && !h.chunked && h.expect_continue);
	cr_assert(h.keep_alive && h.fields == 4 && h.n_framing == 2);
	cr_assert_eq(strncmp(text + h.framing[0], "EXPECT:", 7), 0);
	cr_assert_eq(strncmp(text + h.framing[1], "Content-length:", 15), 0);

	text = "GET http://b.example:80/x/y?z HTTP/1.0\r\nTransfer: chunked\r\nExpect: x\r\n\r\n";
	parse(text, &h);
	cr_assert(h.minor == 0 && !h.has_length && !h.chunked && !h.expect_continue && !h.keep_alive);
	cr_assert_eq(strncmp(text + h.path, "/x/y?", h.path_len + 1), 0);
	cr_assert(h.path_len == 4 && h.target_len == strlen("http://b.example:80/x/y?z"));
	cr_assert(h.n_framing == 1 && strncmp(text + h.framing[0], "Expect", 6) == 0);

	text = "GET / HTTP/1.1\r\nHost: a\r\ncookie: a=b\r\n\r\n";
	parse(text, &h);
	cr_assert(h.n_framing == 1 && strncmp(text + h.framing[0], "cookie", 6) == 0);

	text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
	parse(text, &h);
	cr_assert(h.chunked && !h.has_length && h.n_framing == 1);
	cr_assert_eq(strncmp(text + h.framing[0], "Transfer-Encoding", 17), 0);

	parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &h);
	cr_assert(h.target == 8 && h.target_len == 1 && h.path == 8 && h.path_len == 1);
}

Test(http_head, keep_alive)
{
	static const struct {
		const char *line, *fields;
		bool keep;
	} cases[] = {
		{"1.1", "", true},
		{"1.1", "Connection: close\r\n", false},
		{"1.1", "Connection: CLOSE\r\n", false},
		{"1.1", "Connection: keep-alive , Close\r\n", false},
		{"1.1", "Connection: close\r\nConnection: keep-alive\r\n", false},
		{"1.1", "Connection: x,,\tclose\t,y\r\n", false},
		{"1.1", "Connection: closed\r\n", true},
		{"1.1", "Connection: keep-alive\r\n", true},
		{"1.1", "Connection:\r\n", true},
		{"1.1", "Proxy-Connection: close\r\n", true},
		{"1.0", "", false},
		{"1.0", "Connection: keep-alive\r\n", true},
		{"1.0", "Connection: Keep-Alive, x\r\n", true},
		{"1.0", "Connection: keep-alive, close\r\n", false},
		{"1.0", "Connection: close\r\n", false},
	};
	struct http_head h;
	char text[256];
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "GET / HTTP/%s\r\nHost: a\r\n%s\r\n", cases[i].line, cases[i].fields);
		parse(text, &h);
		cr_assert_eq(h.keep_alive, cases[i].keep, "%s", text);
	}
}

/* Just at each limit is fine, one more is not; and it is refused before all of it came. */
Test(http_head, limits)
{
	static const struct http_limits small = {.head_bytes = 200, .head_fields = 4, .target_bytes = 20};
	static const struct http_limits tiny = {.head_bytes = 40, .head_fields = 4, .target_bytes = 20};
	struct http_head h;
	struct err e;
	char text[512];
	size_t n, seen;
	int pad;

	for (pad = 0; pad < 400; pad++) {
		n = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nX: %0*d\r\n\r\n", pad + 1, 0);
		check_case(&(struct head_case){text, n, n <= 200 ? ERR_NONE : ERR_HEAD_TOO_LARGE}, &small);
		in_steps(text, n, 1, &small, &h, &e, &seen);
		cr_assert_eq(seen, n <= 200 ? n : 200);
	}
	for (pad = 0; pad < 180; pad++) {
		n = (size_t)snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n", pad + 1, 0);
		check_case(&(struct head_case){text, n, pad + 2 <= 20 ? ERR_NONE : ERR_URI_TOO_LONG}, &small);
	}
	/* An endless target is refused without its end, an endless method too. */
	memset(text, 'A', sizeof(text));
	check_case(&(struct head_case){text, 100, MALFORMED}, &small);
	memcpy(text, "GET /", 5);
	check_case(&(struct head_case){text, 100, ERR_URI_TOO_LONG}, &small);
	check_case(&(struct head_case){text, 40, ERR_HEAD_TOO_LARGE}, &tiny);
	check_case(&(struct head_case)CASE("GET / HTTP/1.0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n", 0), &small);
	check_case(&(struct head_case)CASE("GET / HTTP/1.0\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\n\r\n", ERR_HEAD_TOO_LARGE),
		   &small);
}

/* Any single byte put in place of another never makes a head that is read past its end, and never "incomplete with
 * the empty line there". */
Test(http_head, one_byte_changed)
{
	const char *text = "POST /a%20b?c HTTP/1.1\r\nHost: a:80\r\nContent-Length: 12\r\nConnection: close\r\n"
			   "Expect: 100-continue\r\n\r\n";
	size_t len = strlen(text), i;
	struct http_head h, hs;
	struct err e, es;
	char copy[256];
	int b, rc, accepted = 0;

	for (i = 0; i < len; i++) {
		for (b = 0; b < 256; b++) {
			memcpy(copy, text, len);
			copy[i] = (char)b;
			rc = at_once(copy, len, &limits, &h, &e);
			cr_assert_eq(in_steps(copy, len, 5, &limits, &hs, &es, &(size_t){0}), rc);
			cr_assert_eq(es.code, e.code);
			accepted += rc == 1;
			if (rc == 1)
				cr_assert(h.length == len && h.n_framing <= 8);
			else
				cr_assert(rc == -1);
			if (b < 32 && b != '\t' && b != (unsigned char)text[i])
				cr_assert_eq(rc, -1);
		}
	}
	cr_assert(accepted > 1000);
}
