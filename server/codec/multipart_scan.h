/*
 * multipart_scan.h: the line that ends a part of a multipart body, and the search for it in files' data, which are
 * placed in pieces of any size and must not be slowed down. Used by decode_multipart.c only.
 */
#ifndef AITERD_MULTIPART_SCAN_H
#define AITERD_MULTIPART_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOUNDARY_MAX 70
#define DELIMITER_MAX (4 + BOUNDARY_MAX)

struct delimiter {
	char text[DELIMITER_MAX]; /* CR LF - - boundary */
	size_t len;
	uint64_t pairs[32]; /* bits: the hashes of neighbouring bytes in the text */
	uint8_t skip[256];  /* where this byte stands, the delimiter's last one is at least so far behind it */
	unsigned char tail[DELIMITER_MAX]; /* the last bytes scanned, which may hold the delimiter's begin */
	size_t tail_len;		   /* to be set to 0 before another file */
};

void delimiter_init(struct delimiter *d, const char *boundary, size_t len);

/* Does the delimiter end within the next n bytes? *at: where it begins, from p on; negative: in what came before. */
bool delimiter_scan(struct delimiter *d, const unsigned char *p, size_t n, ptrdiff_t *at);

/* How many of the last bytes scanned are the delimiter's begin, if `next`, which follows them, belongs to it too. */
size_t delimiter_begun(const struct delimiter *d, unsigned char next);

#endif
