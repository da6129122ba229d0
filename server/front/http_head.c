/*
 * http_head.c: the strict reading of a request head; see http_head.h. Called by the connection code for
 * each new request until it answers 1 or -1.
 *
 * Two passes. The scan goes once over the bytes as they come: only field text and whole CRLFs may be there, and the
 * request line is judged when it is complete. Once the empty line has come, the fields are read in order.
 */
#include "front/http_head.h"

#include <string.h>

#include "front/http_chars.h"

#define METHOD_MAX 32
#define VERSION_LEN 8 /* "HTTP/1.1" */

/* Which of the fields that matter here were seen. */
struct seen {
	bool host, length, transfer, expect, cookie, close, keep;
};

struct span {
	const char *p;
	size_t n;
};

/* A client's bytes for an error message: visible ASCII, shortened. */
static const char *
show(char out[64], const char *p, size_t n)
{
	size_t i, m = n < 60 ? n : 57;

	for (i = 0; i < m; i++)
		out[i] = http_is(p[i], HTTP_VISIBLE) || p[i] == ' ' ? p[i] : '?';
	memcpy(out + m, "...", 4);
	if (m == n)
		out[m] = '\0';
	return out;
}

static int
bad(struct err *e, const char *param, const char *found, const char *wanted, const char *what)
{
	return err_param(e, ERR_MALFORMED_REQUEST, param, found, wanted, "%s: found \"%s\", wanted %s.", what, found,
			 wanted);
}

static bool
same(const char *p, size_t n, const char *lower)
{
	size_t i;

	for (i = 0; i < n; i++) {
		char c = p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		if (c != lower[i])
			return false;
	}
	return lower[n] == '\0';
}

/* RFC 3986 host [":" port] without userinfo. */
static bool
authority_good(const char *p, size_t n, bool port_needed)
{
	size_t i = 0, digits = 0;
	unsigned port = 0;

	if (n > 0 && p[0] == '[') {
		bool colon = false;

		for (i = 1; i < n && (http_is(p[i], HTTP_HEX) || p[i] == ':' || p[i] == '.'); i++)
			colon |= p[i] == ':';
		if (!colon || i == n || p[i] != ']')
			return false;
		i++;
	} else {
		for (; i < n && p[i] != ':'; i++) {
			if (p[i] == '%') {
				if (n - i < 3 || !http_is(p[i + 1], HTTP_HEX) || !http_is(p[i + 2], HTTP_HEX))
					return false;
				i += 2;
			} else if (!http_is(p[i], HTTP_HOST)) {
				return false;
			}
		}
	}
	if (i == 0)
		return false;
	if (i == n)
		return !port_needed;
	if (p[i++] != ':')
		return false;
	for (; i < n; i++, digits++) {
		if (!http_is(p[i], HTTP_DIGIT))
			return false;
		port = port * 10 + (unsigned)(p[i] - '0');
		if (port > 65535)
			return false;
	}
	return digits > 0 || !port_needed;
}

/* Percent sequences of the path: two hexadecimal digits, and never a NUL. */
static int
check_path(const char *p, size_t n, struct err *e)
{
	const char *end = p + n, *q = p;
	char text[64];

	while ((q = memchr(q, '%', (size_t)(end - q))) != NULL) {
		if (end - q < 3 || !http_is(q[1], HTTP_HEX) || !http_is(q[2], HTTP_HEX))
			return bad(e, "target", show(text, q, end - q < 3 ? (size_t)(end - q) : 3),
				   "% and two hexadecimal digits", "The request target has a broken percent sequence");
		if (q[1] == '0' && q[2] == '0')
			return bad(e, "target", "%00", "a path without NUL", "The request target holds an encoded NUL");
		q += 3;
	}
	return 0;
}

static int
check_target(const char *buf, struct http_head *h, struct err *e)
{
	const char *t = buf + h->target, *q;
	size_t n = h->target_len, skip = 0, authority;
	char text[64];

	if (memchr(t, '#', n) != NULL)
		return bad(e, "target", show(text, t, n), "a target without fragment",
			   "The request target holds a fragment");
	h->path = h->target;
	h->path_len = n;
	if (h->method_len == 7 && memcmp(buf, "CONNECT", 7) == 0) {
		if (!authority_good(t, n, true))
			return bad(e, "target", show(text, t, n), "host:port", "CONNECT's target is no authority");
		return 0;
	}
	if (n == 1 && t[0] == '*') {
		if (h->method_len != 7 || memcmp(buf, "OPTIONS", 7) != 0)
			return bad(e, "target", "*", "a path", "The target * belongs to OPTIONS");
		return 0;
	}
	if (t[0] != '/') {
		skip = n > 7 && same(t, 7, "http://") ? 7 : n > 8 && same(t, 8, "https://") ? 8 : 0;
		q = skip > 0 ? memchr(t + skip, '/', n - skip) : NULL;
		if (q == NULL)
			return bad(e, "target", show(text, t, n), "/path or http://host/path",
				   "The request target has none of the known forms");
		authority = (size_t)(q - t) - skip;
		if (!authority_good(t + skip, authority, false))
			return bad(e, "target", show(text, t + skip, authority), "host or host:port",
				   "The request target's authority is malformed");
		skip += authority;
	}
	h->path = h->target + skip;
	q = memchr(t + skip, '?', n - skip);
	h->path_len = q != NULL ? (size_t)(q - t) - skip : n - skip;
	return check_path(buf + h->path, h->path_len, e);
}

/* The first line, n bytes without its CRLF: all of it or, where that is too long, more than it may have. */
static int
request_line(const char *p, size_t n, const struct http_limits *limits, struct http_head *h, struct err *e)
{
	const char *version;
	size_t i = 0, left;
	char text[64];

	while (i < n && i <= METHOD_MAX && http_is(p[i], HTTP_TOKEN))
		i++;
	if (i == 0 || i > METHOD_MAX || i == n || p[i] != ' ')
		return bad(e, "request line", show(text, p, n), "METHOD target HTTP/1.1, with single spaces",
			   "The request line's method is malformed");
	h->method_len = i;
	h->target = ++i;
	while (i < n && http_is(p[i], HTTP_VISIBLE))
		i++;
	h->target_len = i - h->target;
	if (h->target_len > limits->target_bytes)
		return err_param(e, ERR_URI_TOO_LONG, "target", "", "", "The request target is longer than %u bytes.",
				 limits->target_bytes);
	if (h->target_len == 0 || i == n || p[i] != ' ')
		return bad(e, "request line", show(text, p, n),
			   "METHOD target HTTP/1.1, with single spaces and a target of visible ASCII characters",
			   "The request line is malformed");
	version = p + ++i;
	left = n - i;
	if (left != VERSION_LEN || memcmp(version, "HTTP/", 5) != 0 || !http_is(version[5], HTTP_DIGIT) ||
	    version[6] != '.' || !http_is(version[7], HTTP_DIGIT))
		return bad(e, "HTTP version", show(text, version, left), "HTTP/1.1 or HTTP/1.0",
			   "The request line's version is malformed");
	if (version[5] != '1' || version[7] > '1')
		return err_param(e, ERR_HTTP_VERSION, "HTTP version", show(text, version, left), "HTTP/1.1 or HTTP/1.0",
				 "The request is %.8s; this server speaks HTTP/1.1 and HTTP/1.0.", version);
	h->minor = version[7] - '0';
	return check_target(p, h, e);
}

static int
length_field(struct span v, struct seen *seen, struct http_head *h, struct err *e)
{
	char text[64];
	uint64_t len = 0;
	size_t i;

	if (seen->length)
		return bad(e, "Content-Length", show(text, v.p, v.n), "one Content-Length",
			   "Content-Length is there twice");
	if (seen->transfer)
		return bad(e, "Content-Length", show(text, v.p, v.n), "one of Content-Length and Transfer-Encoding",
			   "Content-Length stands beside Transfer-Encoding");
	seen->length = true;
	for (i = 0; i < v.n && http_is(v.p[i], HTTP_DIGIT); i++)
		;
	if (i == 0 || i < v.n)
		return bad(e, "Content-Length", show(text, v.p, v.n), "decimal digits", "Content-Length is malformed");
	for (i = 0; i < v.n; i++) {
		unsigned digit = (unsigned)(v.p[i] - '0');

		if (len > ((uint64_t)INT64_MAX - digit) / 10)
			return err_param(e, ERR_TOO_LARGE, "Content-Length", show(text, v.p, v.n), "at most 2^63-1",
					 "Content-Length %s is larger than any body can be.", text);
		len = len * 10 + digit;
	}
	h->has_length = true;
	h->content_length = len;
	return 0;
}

/* The next member of a comma-separated list, without the blanks around it; false at the end. */
static bool
next_member(struct span *list, struct span *member)
{
	const char *comma;

	if (list->p == NULL)
		return false;
	comma = memchr(list->p, ',', list->n);
	member->p = list->p;
	member->n = comma != NULL ? (size_t)(comma - list->p) : list->n;
	list->n -= member->n + (comma != NULL);
	list->p = comma != NULL ? comma + 1 : NULL;
	while (member->n > 0 && (*member->p == ' ' || *member->p == '\t')) {
		member->p++;
		member->n--;
	}
	while (member->n > 0 && (member->p[member->n - 1] == ' ' || member->p[member->n - 1] == '\t'))
		member->n--;
	return true;
}

static int
transfer_field(struct span v, struct seen *seen, struct http_head *h, struct err *e)
{
	struct span list = v, m;
	bool chunked = false;
	char text[64];

	show(text, v.p, v.n);
	if (seen->transfer)
		return bad(e, "Transfer-Encoding", text, "one Transfer-Encoding", "Transfer-Encoding is there twice");
	if (seen->length)
		return bad(e, "Transfer-Encoding", text, "one of Content-Length and Transfer-Encoding",
			   "Transfer-Encoding stands beside Content-Length");
	if (h->minor == 0)
		return bad(e, "Transfer-Encoding", text, "Content-Length", "HTTP/1.0 has no Transfer-Encoding");
	seen->transfer = true;
	if (same(v.p, v.n, "chunked")) {
		h->chunked = true;
		return 0;
	}
	while (next_member(&list, &m)) {
		size_t i = 0;

		while (i < m.n && http_is(m.p[i], HTTP_TOKEN))
			i++;
		if (chunked || i == 0 || (i < m.n && m.p[i] != ';' && m.p[i] != ' ' && m.p[i] != '\t'))
			return bad(e, "Transfer-Encoding", text, "chunked", "Transfer-Encoding is malformed");
		chunked = same(m.p, i, "chunked");
	}
	return err_param(e, ERR_NOT_IMPLEMENTED, "Transfer-Encoding", text, "chunked",
			 "The transfer coding \"%s\" is not known; only chunked is.", text);
}

static int
expect_field(struct span v, struct seen *seen, struct http_head *h, struct err *e)
{
	char text[64];

	show(text, v.p, v.n);
	if (seen->expect)
		return err_param(e, ERR_EXPECTATION_FAILED, "Expect", text, "one Expect", "Expect is there twice.");
	seen->expect = true;
	if (h->minor == 0)
		return 0; /* RFC 9110 10.1.1: to be ignored */
	if (!same(v.p, v.n, "100-continue"))
		return err_param(e, ERR_EXPECTATION_FAILED, "Expect", text, "100-continue",
				 "The expectation \"%s\" is not known; only 100-continue is.", text);
	h->expect_continue = true;
	return 0;
}

/* Of no use here, but to be hidden: of one that is too long for it libmicrohttpd complains twice, in two replies. */
static int
cookie_field(struct seen *seen, struct err *e)
{
	if (seen->cookie) /* RFC 6265 5.4 */
		return bad(e, "Cookie", "two", "one Cookie", "Cookie is there twice");
	seen->cookie = true;
	return 0;
}

static int
host_field(struct span v, struct seen *seen, struct err *e)
{
	char text[64];

	if (seen->host)
		return bad(e, "Host", show(text, v.p, v.n), "one Host", "Host is there twice");
	seen->host = true;
	/* Empty is what RFC 9110 7.2 has a client send when its URI has no authority. */
	if (v.n > 0 && !authority_good(v.p, v.n, false))
		return bad(e, "Host", show(text, v.p, v.n), "host or host:port", "Host is malformed");
	return 0;
}

static int
one_field(size_t at, struct span name, struct span value, struct seen *seen, struct http_head *h, struct err *e)
{
	struct span m;
	int rc;

	switch (name.n) {
	case 4:
		return same(name.p, 4, "host") ? host_field(value, seen, e) : 0;
	case 10:
		if (same(name.p, 10, "connection")) {
			while (next_member(&value, &m)) {
				seen->close |= same(m.p, m.n, "close");
				seen->keep |= same(m.p, m.n, "keep-alive");
			}
		}
		return 0;
	case 6:
		if (same(name.p, 6, "cookie")) {
			rc = cookie_field(seen, e);
			break;
		}
		if (!same(name.p, 6, "expect"))
			return 0;
		rc = expect_field(value, seen, h, e);
		break;
	case 14:
		if (!same(name.p, 14, "content-length"))
			return 0;
		rc = length_field(value, seen, h, e);
		break;
	case 17:
		if (!same(name.p, 17, "transfer-encoding"))
			return 0;
		rc = transfer_field(value, seen, h, e);
		break;
	default:
		return 0;
	}
	if (rc == 0)
		h->framing[h->n_framing++] = at;
	return rc;
}

/* All fields, from `at` to the empty line; the scan has made sure of every CR, LF and control character. */
static int
all_fields(const char *buf, size_t at, const struct http_limits *limits, struct http_head *h, struct err *e)
{
	struct seen seen = {0};
	char text[64];

	while (buf[at] != '\r') {
		const char *p = buf + at, *cr = memchr(p, '\r', h->length - at), *q = p;
		struct span name, value;

		if (++h->fields > limits->head_fields)
			return err_param(e, ERR_HEAD_TOO_LARGE, "", "", "", "The head has more than %u fields.",
					 limits->head_fields);
		if (*p == ' ' || *p == '\t')
			return bad(e, "", show(text, p, (size_t)(cr - p)), "one line for each field",
				   "A line of the head begins with a blank (obsolete line folding)");
		while (http_is(*q, HTTP_TOKEN))
			q++;
		name.p = p;
		name.n = (size_t)(q - p);
		if (name.n == 0 || *q != ':')
			return bad(e, "", show(text, p, (size_t)(cr - p)),
				   "Name: value, with no blank before the colon", "A field's name is malformed");
		for (q++; *q == ' ' || *q == '\t'; q++)
			;
		value.p = q;
		value.n = (size_t)(cr - q);
		while (value.n > 0 && (q[value.n - 1] == ' ' || q[value.n - 1] == '\t'))
			value.n--;
		if (one_field(at, name, value, &seen, h, e) < 0)
			return -1;
		at = (size_t)(cr - buf) + 2;
	}
	if (h->minor == 1 && !seen.host)
		return bad(e, "Host", "", "a Host field", "HTTP/1.1 requests need Host");
	h->keep_alive = !seen.close && (h->minor == 1 || seen.keep);
	return 1;
}

static int
forbidden(struct err *e, const char *buf, size_t at)
{
	unsigned c = (unsigned char)buf[at];
	const char *what = c == '\n'   ? "a line feed without carriage return"
			   : c == '\r' ? "a carriage return without line feed"
			   : c == '\0' ? "a NUL"
				       : "a control character";

	return err_param(e, ERR_MALFORMED_REQUEST, "", what, "lines ended by CR LF, and text",
			 "Byte %zu of the request head (0x%02x) is %s.", at, c, what);
}

/*
 * Look on from *scanned to `end`. 1: stands behind a CRLF, which is at *crlf; 0: all seen; -1: forbidden byte.
 */
static int
scan_line(const char *buf, size_t end, size_t *scanned, size_t *crlf, struct err *e)
{
	size_t i = *scanned;

	while (i < end && http_is(buf[i], HTTP_TEXT))
		i++;
	*scanned = i;
	if (i == end || (buf[i] == '\r' && i + 1 == end))
		return 0;
	if (buf[i] != '\r' || buf[i + 1] != '\n')
		return forbidden(e, buf, i);
	*crlf = i;
	*scanned = i + 2;
	return 1;
}

int
http_head_parse(const char *buf, size_t len, const struct http_limits *limits, size_t *scanned, struct http_head *h,
		struct err *e)
{
	size_t end = len < limits->head_bytes ? len : limits->head_bytes, fields = 0, crlf = 0, line, line_end;
	size_t line_max = METHOD_MAX + 1 + (size_t)limits->target_bytes + 1 + VERSION_LEN + 2;
	const char *lf = *scanned > 0 ? memchr(buf, '\n', *scanned) : NULL;
	int rc;

	memset(h, 0, sizeof(*h));
	if (lf == NULL) {
		line_end = end < line_max ? end : line_max;
		rc = *scanned < line_end ? scan_line(buf, line_end, scanned, &crlf, e) : 0;
		if (rc < 0)
			return -1;
		if (rc == 0 && line_end < line_max)
			goto incomplete;
		if (request_line(buf, rc > 0 ? crlf : line_max, limits, h, e) < 0)
			return -1;
		fields = *scanned;
	} else {
		fields = (size_t)(lf - buf) + 1;
	}
	while ((line = *scanned) < end) {
		rc = scan_line(buf, end, scanned, &crlf, e);
		if (rc < 0)
			return -1;
		if (rc == 0)
			break;
		if (crlf == line && buf[line - 1] == '\n') {
			h->length = *scanned;
			if (lf != NULL && request_line(buf, fields - 2, limits, h, e) < 0)
				return -1;
			return all_fields(buf, fields, limits, h, e);
		}
	}
incomplete:
	if (len >= limits->head_bytes)
		return err_param(e, ERR_HEAD_TOO_LARGE, "", "", "", "The head is larger than %u bytes.",
				 limits->head_bytes);
	return 0;
}
