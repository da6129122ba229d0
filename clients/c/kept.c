/*
 * kept.c: tensors that the server keeps, and plain requests for a path. A tensor's id is the SHA-256 of its dtype, shape
 * and data, so that both sides can tell whether it is there without sending it.
 */
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib.h"

#define HASH_PIECE ((size_t)1 << 24)

static enum aiterd_status
plain(struct aiterd *s, const char *method, const char *path, char **text)
{
	struct http_request q = {.method = method, .path = path, .accept = "application/json", .repeatable = true};
	struct http_reply r;
	enum aiterd_status status;

	if (text)
		*text = NULL;
	if (*path != '/')
		return lib_fail(s, AITERD_BAD_ARGUMENT, "the path '%s' does not begin with a slash", path);
	status = http_do(s, &q, &r);
	if (status == AITERD_OK && text) {
		*text = (char *)r.p;
		r.p = NULL;
	}
	http_reply_fini(&r);
	return status;
}

enum aiterd_status
aiterd_get(struct aiterd *s, const char *path, char **text)
{
	return plain(s, "GET", path, text);
}

enum aiterd_status
aiterd_delete(struct aiterd *s, const char *path, char **text)
{
	return plain(s, "DELETE", path, text);
}

enum aiterd_status
aiterd_fetch(struct aiterd *s, const char *path, struct aiterd_reply **reply)
{
	struct http_request q = {.method = "GET", .path = path, .repeatable = true};
	struct http_reply r;
	enum aiterd_status status;

	*reply = NULL;
	if (*path != '/')
		return lib_fail(s, AITERD_BAD_ARGUMENT, "the path '%s' does not begin with a slash", path);
	status = http_do(s, &q, &r);
	return status == AITERD_OK ? lib_reply_new(s, &r, reply) : status;
}

enum aiterd_status
aiterd_tensor_id(const struct aiterd_tensor *t, char id[AITERD_ID_SIZE])
{
	struct sha256_ctx sha;
	struct tensor described;
	uint8_t digest[SHA256_DIGEST_SIZE];
	const uint8_t *p = t->data;
	char part[32];
	int n;

	if (!lib_tensor(t, &described, NULL))
		return AITERD_BAD_ARGUMENT;
	sha256_init(&sha);
	n = snprintf(part, sizeof(part), "%s [", aiterd_dtype_name(t->dtype));
	sha256_update(&sha, (size_t)n, (uint8_t *)part);
	for (int i = 0; i < t->rank; i++) {
		n = snprintf(part, sizeof(part), "%s%" PRId64, i ? "," : "", t->shape[i]);
		sha256_update(&sha, (size_t)n, (uint8_t *)part);
	}
	sha256_update(&sha, 2, (const uint8_t *)"]\n");
	for (uint64_t left = t->bytes; left;) {
		size_t m = left < HASH_PIECE ? (size_t)left : HASH_PIECE;

		sha256_update(&sha, m, p);
		p += m;
		left -= m;
	}
	sha256_digest(&sha, sizeof(digest), digest);
	n = snprintf(id, AITERD_ID_SIZE, "sha256:");
	for (size_t i = 0; i < sizeof(digest); i++)
		n += snprintf(id + n, AITERD_ID_SIZE - (size_t)n, "%02x", digest[i]);
	return AITERD_OK;
}

/* "/v1/tensors/NAME?ttl=N"; NULL: no memory. */
static char *
tensor_path(const char *name, const char *query, long ttl_s)
{
	char *escaped = aiterd_escape(name), *path = NULL;
	char ttl[40] = "";

	if (ttl_s > 0)
		snprintf(ttl, sizeof(ttl), "?ttl=%ld", ttl_s);
	if (escaped && asprintf(&path, "/v1/tensors/%s%s%s", escaped, query, ttl) < 0)
		path = NULL;
	free(escaped);
	return path;
}

static enum aiterd_status
put(struct aiterd *s, const char *name, long ttl_s, const char *type, const struct lib_piece *pieces, int n, char **text)
{
	char *path = tensor_path(name, "", ttl_s);
	struct http_request q = {.method = "PUT",
				 .path = path,
				 .type = type,
				 .accept = "application/json",
				 .pieces = pieces,
				 .n_pieces = n,
				 .repeatable = true};
	struct http_reply r = {.p = NULL};
	enum aiterd_status status = path ? http_do(s, &q, &r) : lib_no_memory(s);

	if (status == AITERD_OK && text) {
		*text = (char *)r.p;
		r.p = NULL;
	}
	http_reply_fini(&r);
	free(path);
	return status;
}

enum aiterd_status
aiterd_tensor_put(struct aiterd *s, const char *name, const struct aiterd_tensor *t, long ttl_s, char **text)
{
	struct aiterd_tensor named = *t;
	struct lib_piece pieces[2];
	enum aiterd_status status;
	struct tensor described;
	struct text head;
	struct err e;

	if (text)
		*text = NULL;
	if (!lib_tensor(t, &described, &e))
		return lib_fail(s, AITERD_BAD_ARGUMENT, "%s", e.msg);
	named.name = "tensor";
	text_init(&head, LIB_TEXT_MAX);
	if (lib_safetensors_head(&head, &named, 1, NULL) < 0) {
		status = lib_no_memory(s);
	} else {
		pieces[0] = (struct lib_piece){head.p, head.len};
		pieces[1] = (struct lib_piece){t->data, t->bytes};
		status = put(s, name, ttl_s, "application/x-safetensors", pieces, 2, text);
	}
	text_fini(&head);
	return status;
}

enum aiterd_status
aiterd_tensor_put_source(struct aiterd *s, const char *name, const char *json, long ttl_s, char **text)
{
	struct lib_piece piece = {json, strlen(json)};

	if (text)
		*text = NULL;
	return put(s, name, ttl_s, "application/json", &piece, 1, text);
}

enum aiterd_status
aiterd_tensor_has(struct aiterd *s, const char *name, int *has)
{
	char *path = tensor_path(name, "", 0);
	struct http_request q = {.method = "HEAD", .path = path, .repeatable = true, .absent_is_fine = true};
	struct http_reply r = {.p = NULL};
	enum aiterd_status status = path ? http_do(s, &q, &r) : lib_no_memory(s);

	*has = status == AITERD_OK && r.status != 404;
	http_reply_fini(&r);
	free(path);
	return status;
}

enum aiterd_status
aiterd_tensor_get(struct aiterd *s, const char *name, struct aiterd_reply **reply)
{
	char *path = tensor_path(name, "?format=safetensors", 0);
	enum aiterd_status status = path ? aiterd_fetch(s, path, reply) : lib_no_memory(s);

	if (!path)
		*reply = NULL;
	free(path);
	if (status == AITERD_OK && aiterd_reply_count(*reply) != 1) {
		aiterd_reply_free(*reply);
		*reply = NULL;
		return lib_fail(s, AITERD_BAD_REPLY, "the server's reply holds no tensor");
	}
	return status;
}

enum aiterd_status
aiterd_tensor_delete(struct aiterd *s, const char *name)
{
	char *path = tensor_path(name, "", 0);
	enum aiterd_status status = path ? aiterd_delete(s, path, NULL) : lib_no_memory(s);

	free(path);
	return status;
}

enum aiterd_status
aiterd_call_kept(struct aiterd_call *c, const struct aiterd_tensor *t, int *sent)
{
	char id[AITERD_ID_SIZE], name[AITERD_ID_SIZE], json[AITERD_ID_SIZE + 16];
	enum aiterd_status status;
	int has;

	if (sent)
		*sent = 0;
	if (!t->name || aiterd_tensor_id(t, id) != AITERD_OK)
		return lib_fail(c->server, AITERD_BAD_ARGUMENT,
				"the input has no name, or its dtype, shape and bytes do not fit");
	status = aiterd_tensor_has(c->server, id, &has);
	if (status != AITERD_OK)
		return status;
	if (!has) {
		/* A name of its own; the id alone is no name that can be given. */
		snprintf(name, sizeof(name), "content-%.32s", id + strlen("sha256:"));
		status = aiterd_tensor_put(c->server, name, t, 0, NULL);
		if (status != AITERD_OK)
			return status;
		if (sent)
			*sent = 1;
	}
	snprintf(json, sizeof(json), "{\"tensor\":\"%s\"}", id);
	return aiterd_call_source(c, t->name, json);
}
