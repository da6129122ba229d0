/*
 * magic.h: what a file is by its first bytes, for messages about one that is not what it should be. For the decoders
 * of multipart bodies and of safetensors.
 */
#ifndef AITERD_MAGIC_H
#define AITERD_MAGIC_H

#include <stddef.h>

enum magic { MAGIC_NONE, MAGIC_GZIP, MAGIC_ZSTD, MAGIC_ZIP, MAGIC_NPY };

/* 8 bytes are enough; of fewer as much is told as they tell. */
enum magic magic_find(const unsigned char *p, size_t n);
/* Of gzip and zstd: how Content-Encoding calls it; NULL for the others. */
const char *magic_coding(enum magic m);

#endif
