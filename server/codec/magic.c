/*
 * magic.c: files by their first bytes (magic.h). Called by multipart_head.c, decode_multipart.c and
 * decode_safetensors.c; owns nothing.
 */
#include "codec/magic.h"

#include <string.h>

enum magic
magic_find(const unsigned char *p, size_t n)
{
	if (n >= 2 && memcmp(p, "\x1f\x8b", 2) == 0)
		return MAGIC_GZIP;
	if (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0)
		return MAGIC_ZSTD;
	if (n >= 6 && memcmp(p, "\x93NUMPY", 6) == 0)
		return MAGIC_NPY;
	return n >= 2 && memcmp(p, "PK", 2) == 0 ? MAGIC_ZIP : MAGIC_NONE;
}

const char *
magic_coding(enum magic m)
{
	return m == MAGIC_GZIP ? "gzip" : m == MAGIC_ZSTD ? "zstd" : NULL;
}

bool
looks_like_json(const unsigned char *p, size_t n)
{
	size_t i = 0;

	while (i < n && memchr(" \t\r\n", p[i], 4))
		i++;
	return i < n && p[i] == '{';
}

bool
looks_like_text(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((p[i] < ' ' && !memchr("\t\r\n", p[i], 3)) || p[i] == 127)
			return false;
	return true;
}

bool
looks_like_safetensors(const unsigned char *p, size_t n)
{
	/* A length below 2^32, then a header. */
	return n >= MAGIC_LOOK && memcmp(p + 4, "\0\0\0\0{\"", 6) == 0;
}
