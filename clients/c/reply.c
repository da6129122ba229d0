/*
 * reply.c: an answer as its caller sees it: tensors, statistics, JSON, whatever its form. Owns the bytes that came.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "lib.h"

struct aiterd_reply {
	struct http_reply http;
	struct lib_tensors tensors;
	void **copies; /* of tensors that lie crookedly in the body */
	int n_copies;
	char *stats; /* out of a JSON body; else http.stats or the metadata */
	const char *stats_text;
	bool is_json;
};

void
aiterd_reply_free(struct aiterd_reply *r)
{
	if (!r)
		return;
	for (int i = 0; i < r->n_copies; i++)
		free(r->copies[i]);
	free(r->copies);
	free(r->stats);
	lib_tensors_fini(&r->tensors);
	http_reply_fini(&r->http);
	free(r);
}

/* Data begin at a multiple of their size, or are copied to a place that is one. */
static int
align(struct aiterd_reply *r)
{
	r->copies = calloc((size_t)r->tensors.n + 1, sizeof(*r->copies));
	if (!r->copies)
		return -1;
	for (int i = 0; i < r->tensors.n; i++) {
		struct aiterd_tensor *t = &r->tensors.t[i];
		void *copy;

		if ((uintptr_t)t->data % aiterd_dtype_size(t->dtype) == 0)
			continue;
		copy = malloc(t->bytes ? (size_t)t->bytes : 1);
		if (!copy)
			return -1;
		memcpy(copy, t->data, (size_t)t->bytes);
		r->copies[r->n_copies++] = copy;
		t->data = copy;
	}
	return 0;
}

static bool
is_type(const char *type, const char *wanted)
{
	size_t n = strlen(wanted);

	return type && strncmp(type, wanted, n) == 0 && (type[n] == '\0' || type[n] == ';' || type[n] == ' ');
}

static void
stats_of_json(struct aiterd_reply *r)
{
	cJSON *tree;

	if (!r->is_json || r->http.stats)
		return;
	tree = json_parse((char *)r->http.p, r->http.n, LIB_JSON_DEPTH, NULL);
	if (tree)
		r->stats = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(tree, "stats"));
	cJSON_Delete(tree);
}

enum aiterd_status
lib_reply_new(struct aiterd *s, struct http_reply *http, struct aiterd_reply **reply)
{
	struct aiterd_reply *r = calloc(1, sizeof(*r));
	struct err e = {.code = ERR_NONE};
	int rc = 0;

	if (!r) {
		http_reply_fini(http);
		return lib_no_memory(s);
	}
	r->http = *http;
	*http = (struct http_reply){.p = NULL};
	r->is_json = is_type(r->http.type, "application/json");
	if (is_type(r->http.type, "application/x-safetensors") || is_type(r->http.type, "application/vnd.safetensors"))
		rc = lib_safetensors_read(&r->tensors, r->http.p, r->http.n, &e);
	else if (lib_is_npy(r->http.p, r->http.n))
		rc = lib_npy_read(&r->tensors, "the reply", r->http.p, r->http.n, &e);
	if (rc < 0 || align(r) < 0) {
		aiterd_reply_free(r);
		return rc == 0 || e.code == ERR_OUT_OF_MEMORY
			       ? lib_no_memory(s)
			       : lib_fail(s, AITERD_BAD_REPLY, "the server's reply cannot be read: %s", e.msg);
	}
	stats_of_json(r);
	r->stats_text = lib_metadata(&r->tensors, "stats"); /* whole, where the header may have been shortened */
	if (!r->stats_text)
		r->stats_text = r->http.stats ? r->http.stats : r->stats;
	*reply = r;
	return AITERD_OK;
}

int
aiterd_reply_count(const struct aiterd_reply *r)
{
	return r->tensors.n;
}

enum aiterd_status
aiterd_reply_tensor(const struct aiterd_reply *r, int i, struct aiterd_tensor *t)
{
	if (i < 0 || i >= r->tensors.n)
		return AITERD_BAD_ARGUMENT;
	*t = r->tensors.t[i];
	return AITERD_OK;
}

enum aiterd_status
aiterd_reply_find(const struct aiterd_reply *r, const char *name, struct aiterd_tensor *t)
{
	return aiterd_reply_tensor(r, lib_tensors_find(&r->tensors, name), t);
}

const char *
aiterd_reply_stats(const struct aiterd_reply *r)
{
	return r->stats_text ? r->stats_text : "";
}

const char *
aiterd_reply_json(const struct aiterd_reply *r)
{
	const char *verdict = lib_metadata(&r->tensors, "verdict");

	return r->is_json ? (const char *)r->http.p : verdict ? verdict : "";
}

const void *
aiterd_reply_bytes(const struct aiterd_reply *r, size_t *size)
{
	*size = r->http.n;
	return r->http.p;
}

const char *
aiterd_reply_type(const struct aiterd_reply *r)
{
	return r->http.type ? r->http.type : "";
}
