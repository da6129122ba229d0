/*
 * multipart_scan.c: finds a multipart body's delimiter in data that come in pieces (multipart_scan.h). With the long
 * boundaries that clients choose, few of the bytes are looked at: pairs of neighbours at distances that no delimiter
 * fits between. Only where such a pair is one of the delimiter's does Horspool's search begin.
 */
#include "codec/multipart_scan.h"

#include <assert.h>
#include <string.h>

static unsigned
pair_hash(const void *p)
{
	uint16_t pair;

	memcpy(&pair, p, sizeof(pair));
	return pair * 0x9e3779b1u >> 21;
}

void
delimiter_init(struct delimiter *d, const char *boundary, size_t len)
{
	assert(len >= 1 && len <= BOUNDARY_MAX);
	memcpy(d->text, "\r\n--", 4);
	memcpy(d->text + 4, boundary, len);
	d->len = 4 + len;
	d->tail_len = 0;
	memset(d->skip, (int)d->len, sizeof(d->skip));
	memset(d->pairs, 0, sizeof(d->pairs));
	for (size_t i = 0; i + 1 < d->len; i++) {
		unsigned h = pair_hash(d->text + i);

		d->skip[(unsigned char)d->text[i]] = (uint8_t)(d->len - 1 - i);
		d->pairs[h / 64] |= UINT64_C(1) << h % 64;
	}
}

static ptrdiff_t
find(const struct delimiter *d, const unsigned char *p, size_t n)
{
	size_t last = d->len - 1;
	unsigned char end = (unsigned char)d->text[last];

	for (size_t i = 0; i + 1 < n; i += last) {
		unsigned h = pair_hash(p + i);

		if (!(d->pairs[h / 64] >> h % 64 & 1))
			continue;
		/* Where a delimiter with this pair in it may have its last byte. */
		for (size_t e = i + 1 > last ? i + 1 : last; e <= i + last && e < n; e += d->skip[p[e]])
			if (p[e] == end && memcmp(p + e - last, d->text, last) == 0)
				return (ptrdiff_t)(e - last);
	}
	return -1;
}

bool
delimiter_scan(struct delimiter *d, const unsigned char *p, size_t n, ptrdiff_t *at)
{
	size_t most = d->len - 1, head = n < most ? n : most, all = d->tail_len + head,
	       drop = all > most ? all - most : 0;
	unsigned char seam[2 * DELIMITER_MAX];

	if (n == 0)
		return false;
	memcpy(seam, d->tail, d->tail_len);
	memcpy(seam + d->tail_len, p, head);
	*at = find(d, seam, all);
	if (*at >= 0) {
		*at -= (ptrdiff_t)d->tail_len;
		return true;
	}
	*at = find(d, p, n);
	if (*at >= 0)
		return true;
	if (n >= most) {
		memcpy(d->tail, p + n - most, most);
		d->tail_len = most;
	} else {
		memcpy(d->tail, seam + drop, all - drop);
		d->tail_len = all - drop;
	}
	return false;
}

size_t
delimiter_begun(const struct delimiter *d, unsigned char next)
{
	for (size_t k = d->tail_len; k > 0; k--)
		if (next == (unsigned char)d->text[k] && memcmp(d->tail + d->tail_len - k, d->text, k) == 0)
			return k;
	return 0;
}
