/*
 * http_head.h: the strict reading of a request head and of chunked framing, before libmicrohttpd sees it.
 *
 * libmicrohttpd 0.9.75 accepts heads that other programs read differently (conflicting or spaced
 * Content-Length, bare LF, obs-fold, NUL ...). Here RFC 9112 is applied to the letter: what could be read
 * in two ways is refused. Pure functions: no sockets, no allocation.
 */
#ifndef AITERD_HTTP_HEAD_H
#define AITERD_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct http_limits {
	uint32_t head_bytes;   /* request line and fields with their ends: 431 beyond */
	uint32_t head_fields;  /* 431 */
	uint32_t target_bytes; /* 414 */
};

struct http_head {
	size_t length;			       /* bytes up to and including the empty line */
	size_t method_len, target, target_len; /* the method begins at 0; target is an offset */
	size_t path, path_len; /* of the target, without an absolute form's scheme and authority, without "?query" */
	int minor;	       /* HTTP/1.minor */
	bool has_length;       /* Content-Length was there */
	uint64_t content_length;
	bool chunked;
	bool expect_continue;
	bool keep_alive; /* by version and Connection */
	uint32_t fields;
	/* Offsets of the first bytes of the names of the framing fields (Content-Length, Transfer-Encoding, Expect),
	 * which the caller hides from libmicrohttpd because it reads the body itself, and of Cookie. At most one of
	 * each. */
	int n_framing;
	size_t framing[8];
};

/*
 * 1: a complete, good head, described in *h. 0: incomplete so far (but nothing wrong yet). -1: bad, *e says
 * why; the connection must be closed after the error is sent, because the framing cannot be trusted.
 * May be called again with more bytes (the buffer may have moved, the bytes must be the same); `*scanned` (0 at
 * first) remembers how far was looked, so that a slow drip costs no more than a single pass. *h need not be
 * kept between calls. Forbidden bytes and a bad request line are refused as soon as they are there, the fields
 * when the head is complete: the verdict does not depend on how the bytes were cut. An empty line before the
 * request line (RFC 9112 2.2) is the caller's to skip; here it is refused. *h is valid only after 1.
 */
int http_head_parse(const char *buf, size_t len, const struct http_limits *limits, size_t *scanned, struct http_head *h,
		    struct err *e);

/* Chunked transfer coding, decoded in pieces. Chunk extensions and trailers are checked and dropped. */
struct http_chunked {
	uint64_t left;	      /* payload bytes left in this chunk */
	uint32_t state, line; /* line: bytes of the size line or trailers so far */
	bool done;
};

void http_chunked_init(struct http_chunked *c);

/*
 * Look at n bytes at p. Framing is eaten; stops at payload, which it points to: *payload, *payload_len
 * (0: none in these bytes). Returns how many bytes of p were used, payload included, or -1 with *e. Call again with
 * the rest until all is used or c->done; bytes after the end belong to the next request.
 * Limits: size line 4 KiB, trailers 16 KiB, sizes to 2^63-1.
 */
long http_chunked_next(struct http_chunked *c, const char *p, size_t n, const char **payload, size_t *payload_len,
		       struct err *e);
/* Bytes of payload that certainly come next: they may be read straight into their place, then taken. */
uint64_t http_chunked_window(const struct http_chunked *c);
void http_chunked_take(struct http_chunked *c, uint64_t n);

#endif
