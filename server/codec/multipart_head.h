/* multipart_head.h: the header fields of one part of a multipart/form-data body. For decode_multipart.c only. */
#ifndef AITERD_MULTIPART_HEAD_H
#define AITERD_MULTIPART_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

struct multipart_head {
	char name[129];
	char filename[129]; /* cut where longer: for messages */
	bool has_filename;
	bool npy;	  /* the filename says so */
	bool safetensors; /* the filename or the part's Content-Type says so */
};

/* `text`: whole lines, each ending with CR LF, `len` bytes, without the blank line. `part`: its number, for messages. */
int multipart_head_parse(struct multipart_head *h, const char *text, size_t len, int part, struct err *e);

/* The part was expected to be a tensor's file, and its first n bytes (or all of it) are none: says what they are. */
int multipart_not_a_file(const struct multipart_head *h, const char *shown, const unsigned char *p, size_t n,
			 struct err *e);

#endif
