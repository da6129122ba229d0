/*
 * rfc1951.h: inflate, that is DEFLATE (RFC 1951) undone, as a stream: any pieces of input, any pieces of room for the
 * output, wherever they lie. inflate.c calls it and sees to what lies around the stream (gzip, zlib).
 */
#ifndef AITERD_RFC1951_H
#define AITERD_RFC1951_H

#include <stddef.h>

struct rfc1951;

enum rfc1951_status {
	RFC1951_MORE = 0,
	RFC1951_END = 1,
	RFC1951_BAD_BLOCK = -1,
	RFC1951_BAD_SYMBOL = -2,
	RFC1951_BAD_DISTANCE = -3,
};

/* NULL when out of memory. */
struct rfc1951 *rfc1951_new(void);
/* For another stream. */
void rfc1951_reset(struct rfc1951 *z);
/*
 * Decode until *n bytes at *p are used up or the room is full (RFC1951_MORE; *p, *n and *made tell which) or the stream
 * has ended (RFC1951_END: nothing after its last byte has been taken) or is wrong (negative). room > 0.
 * The last 32 KiB are remembered here: what `out` pointed to may be gone at the next call.
 */
enum rfc1951_status rfc1951_run(struct rfc1951 *z, const unsigned char **p, size_t *n, unsigned char *out, size_t room,
				size_t *made);
void rfc1951_free(struct rfc1951 **z);

#endif
