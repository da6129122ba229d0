/*
 * magic.h: what a file is by its first bytes: to choose how to read it, and for messages about one that is not what it
 * should be. For the decoders of multipart bodies and of safetensors.
 */
#ifndef AITERD_MAGIC_H
#define AITERD_MAGIC_H

#include <stdbool.h>
#include <stddef.h>

#define MAGIC_LOOK 10 /* bytes that tell all of what stands here */

enum magic { MAGIC_NONE, MAGIC_GZIP, MAGIC_ZSTD, MAGIC_ZIP, MAGIC_NPY };

/* 8 bytes are enough; of fewer as much is told as they tell. */
enum magic magic_find(const unsigned char *p, size_t n);
/* Of gzip and zstd: how Content-Encoding calls it; NULL for the others. */
const char *magic_coding(enum magic m);

/* Forms without a magic: the first thing is a brace; no control characters; a header of safetensors begins. */
bool looks_like_json(const unsigned char *p, size_t n);
bool looks_like_text(const unsigned char *p, size_t n);
bool looks_like_safetensors(const unsigned char *p, size_t n);

#endif
