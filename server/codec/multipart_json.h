/*
 * multipart_json.h: parts of a multipart body that are an input as a JSON object: {"dtype","shape","data"}, what
 * stands for one input in a JSON body. For decode_multipart.c, and decode_tensor.c, whose whole body is such a part.
 */
#ifndef AITERD_MULTIPART_JSON_H
#define AITERD_MULTIPART_JSON_H

#include "codec/decoder.h"

struct multipart_json {
	struct decoder *d;
	char name[TENSOR_NAME_MAX];
	int depth;
	bool string, escape, closed; /* where in the text we are */
};

struct multipart_jsons {
	int n;
	uint64_t bytes; /* of all together */
	struct multipart_json items[INTAKE_TENSORS_MAX];
};

/* The part `name`, an input's name (where there is an operator), begins; pieces of it come; it ends. */
int multipart_json_begin(struct multipart_jsons *l, struct intake *in, const char *name, struct err *e);
int multipart_json_add(struct multipart_jsons *l, const unsigned char *p, size_t n, struct err *e);
int multipart_json_end(struct multipart_jsons *l, struct err *e);

/* The texts are read when the body has ended, which may be on a helper thread; pending: how much that is. */
int multipart_json_finish(struct multipart_jsons *l, struct err *e);
uint64_t multipart_json_pending(const struct multipart_jsons *l);
void multipart_json_free(struct multipart_jsons *l);

#endif
