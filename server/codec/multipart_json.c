/*
 * multipart_json.c: parts of a multipart body that are an input as a JSON object. Each is given to a decoder of
 * JSON bodies, with {"inputs":{"q": before it and }} behind it. Called by decode_multipart.c, and by decode_tensor.c for
 * a body that is one; owns those decoders.
 */
#include "codec/multipart_json.h"

#include <stdio.h>
#include <string.h>

int
multipart_json_begin(struct multipart_jsons *l, struct intake *in, const char *name, struct err *e)
{
	char open[TENSOR_NAME_MAX + 20];
	int input = in->op ? op_tensor_find(in->op, name, strlen(name)) : -1;

	if (l->n == INTAKE_TENSORS_MAX)
		return err_set(e, ERR_MALFORMED_BODY, "the body has more than %d inputs", INTAKE_TENSORS_MAX);
	struct multipart_json *j = &l->items[l->n];
	memset(j, 0, sizeof(*j));
	/* The operator's own name for it, in which there are no quotes. */
	snprintf(j->name, sizeof(j->name), "%s", input >= 0 ? in->op->tensors[input].name : name);
	j->d = decoder_json_new(in);
	if (!j->d)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory to read the JSON of '%s'", j->name);
	l->n++;
	int n = snprintf(open, sizeof(open), "{\"inputs\":{\"%s\":", j->name);
	return j->d->ops->feed(j->d, (const unsigned char *)open, (size_t)n, e);
}

int
multipart_json_add(struct multipart_jsons *l, const unsigned char *p, size_t n, struct err *e)
{
	struct multipart_json *j = &l->items[l->n - 1];

	/* Nothing may stand behind the object, or it would get into what is put around it. */
	for (size_t i = 0; i < n; i++) {
		if (j->closed) {
			if (!memchr(" \t\r\n", p[i], 4))
				return err_input(e, ERR_MALFORMED_BODY, j->name, "more text", "one JSON object",
						 "the JSON of '%s' goes on after its closing brace", j->name);
		} else if (j->escape) {
			j->escape = false;
		} else if (j->string) {
			j->escape = p[i] == '\\';
			j->string = p[i] != '"';
		} else if (p[i] == '"') {
			j->string = true;
		} else if (p[i] == '{' || p[i] == '[') {
			j->depth++;
		} else if (p[i] == '}' || p[i] == ']') {
			j->closed = --j->depth == 0;
		}
	}
	l->bytes += n;
	uint64_t most = j->d->in->limits.json_bytes;
	if (l->bytes > most)
		return err_input(e, ERR_TOO_LARGE, j->name, "more", "npy or safetensors for large tensors",
				 "the body's JSON is longer than the %llu bytes this server accepts; send '%s' as .npy",
				 (unsigned long long)most, j->name);
	return j->d->ops->feed(j->d, p, n, e);
}

int
multipart_json_end(struct multipart_jsons *l, struct err *e)
{
	struct multipart_json *j = &l->items[l->n - 1];

	if (!j->closed)
		return err_input(e, ERR_MALFORMED_BODY, j->name, "a part of it", "one JSON object",
				 "the JSON of '%s' ends before its closing brace", j->name);
	return j->d->ops->feed(j->d, (const unsigned char *)"}}", 2, e);
}

int
multipart_json_finish(struct multipart_jsons *l, struct err *e)
{
	struct err inner = {.code = ERR_NONE};

	for (int i = 0; i < l->n; i++) {
		struct multipart_json *j = &l->items[i];
		if (j->d->ops->finish(j->d, &inner) == 0)
			continue;
		if (!e || inner.input[0]) {
			if (e)
				*e = inner;
			return -1;
		}
		return err_input(e, inner.code, j->name, inner.found, inner.wanted,
				 "the part '%s', read as {\"inputs\":{\"%s\":...}}: %s", j->name, j->name, inner.msg);
	}
	return 0;
}

uint64_t
multipart_json_pending(const struct multipart_jsons *l)
{
	uint64_t n = 0;

	for (int i = 0; i < l->n; i++)
		if (l->items[i].d->ops->pending)
			n += l->items[i].d->ops->pending(l->items[i].d);
	return n;
}

void
multipart_json_free(struct multipart_jsons *l)
{
	for (int i = 0; i < l->n; i++)
		decoder_free(&l->items[i].d);
	l->n = 0;
}
