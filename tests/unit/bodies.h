/*
 * bodies.h: .npy, safetensors and multipart bodies for tests and fuzzers, put together from their parts as the
 * formats' specifications say. bytes_free frees one.
 */
#ifndef BODIES_H
#define BODIES_H

#include <stdlib.h>
#include <string.h>

struct bytes {
	unsigned char *p;
	size_t n;
};

static inline void
bytes_add(struct bytes *b, const void *p, size_t n)
{
	unsigned char *grown = realloc(b->p, b->n + n + 1);

	if (!grown)
		abort();
	b->p = grown;
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void
bytes_text(struct bytes *b, const char *s)
{
	bytes_add(b, s, strlen(s));
}

static inline void
bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){NULL, 0};
}

/* A .npy file with this header text, padded so that the data begin at a multiple of 64, as numpy does. */
static inline void
bytes_npy(struct bytes *b, unsigned version, const char *dict, const void *data, size_t n)
{
	size_t prefix = version == 1 ? 10 : 12, len = strlen(dict);
	size_t total = (prefix + len + 1 + 63) / 64 * 64, head = total - prefix;
	unsigned char start[12] = {0x93,
				   'N',
				   'U',
				   'M',
				   'P',
				   'Y',
				   (unsigned char)version,
				   0,
				   (unsigned char)(head & 255),
				   (unsigned char)(head >> 8)};

	bytes_add(b, start, prefix);
	bytes_text(b, dict);
	for (size_t i = len; i < head - 1; i++)
		bytes_add(b, " ", 1);
	bytes_add(b, "\n", 1);
	bytes_add(b, data, n);
}

static inline void
bytes_safetensors(struct bytes *b, const char *header, const void *data, size_t n)
{
	size_t len = strlen(header);
	unsigned char prefix[8];

	for (int i = 0; i < 8; i++)
		prefix[i] = (unsigned char)(len >> (8 * i) & 255);
	bytes_add(b, prefix, 8);
	bytes_text(b, header);
	bytes_add(b, data, n);
}

/* A part of a multipart body with the boundary "XX"; `fields` are header lines beside Content-Disposition. */
static inline void
bytes_part(struct bytes *b, const char *disposition, const char *fields, const void *content, size_t n)
{
	bytes_text(b, "--XX\r\nContent-Disposition: form-data; ");
	bytes_text(b, disposition);
	bytes_text(b, "\r\n");
	bytes_text(b, fields);
	bytes_text(b, "\r\n");
	bytes_add(b, content, n);
	bytes_text(b, "\r\n");
}

#endif
