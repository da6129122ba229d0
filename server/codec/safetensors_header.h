/*
 * safetensors_header.h: the JSON header of a safetensors file, read in one pass over its bytes, without allocating for
 * any ordinary one. For decode_safetensors.c.
 */
#ifndef AITERD_SAFETENSORS_HEADER_H
#define AITERD_SAFETENSORS_HEADER_H

#include "codec/intake.h"
#include "codec/json_scan.h"

#define SAFETENSORS_SHOWN 65 /* room for foreign text in messages */

/* What is wrong with an entry; told when the grammar of the whole header was found good. */
enum safetensors_flaw { FLAW_NONE, FLAW_MEMBERS, FLAW_LENGTH, FLAW_RANK, FLAW_RANGE };

struct safetensors_entry {
	struct json_span name;
	enum dtype dt;
	int rank;
	int64_t shape[TENSOR_RANK_MAX];
	uint64_t begin, end;
	/* the reader's own */
	struct json_span dtype, twice; /* twice: a member's name that stands twice; begin NULL: none does */
	enum safetensors_flaw flaw;
};

/* The members of __metadata__ that mean something here. */
enum safetensors_meta { META_PARAMS, META_SHUFFLE, META_OP, META_COUNT };

/* Spans lie in the header's bytes, their escapes undone; begin NULL: not there. */
struct safetensors_header {
	int n;
	bool too_many; /* more than there are entries for */
	struct safetensors_entry entries[INTAKE_TENSORS_MAX];
	struct json_span meta[META_COUNT];
	struct json_span no_string; /* a member of __metadata__ whose value is none */
	bool no_object;		    /* __metadata__ itself is something else */
};

/* The text, which begins with '{', is changed where it has escapes, and must outlive the header. */
int safetensors_header_read(struct safetensors_header *h, char *text, size_t len, unsigned max_depth, struct err *e);

/* A name for a message; returns `shown`. */
const char *safetensors_clip(struct json_span name, char shown[SAFETENSORS_SHOWN]);
int safetensors_bad_entry(const struct safetensors_entry *t, const char *found, const char *wanted, struct err *e);

#endif
