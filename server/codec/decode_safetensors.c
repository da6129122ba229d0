/*
 * decode_safetensors.c: the safetensors file format, read as it arrives: 8 bytes of length, a JSON header,
 * then the tensors' bytes, which go straight into their memory.
 *
 * A whole request body, or a part of a multipart one. The rules are the reference reader's: offsets begin at 0
 * and leave no holes, sizes agree with shapes, nothing is left over, no key stands twice. Owns the header's
 * bytes, whose buffer grows with what arrives, never with what is promised.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "codec/decoder.h"
#include "codec/json.h"
#include "text.h"

/* The format allows 100 MB. Here a file has at most INTAKE_TENSORS_MAX tensors, and cJSON needs up to 50 times
 * the text's size. */
#define HEADER_MAX (1u << 20)
#define HEADER_FIRST 4096
#define SHOWN 65		     /* room for foreign text in messages */
#define EXACT_MAX 9007199254740992.0 /* 2^53: doubles hold every integer up to here */

static const char metadata_key[] = "__metadata__";

struct entry {
	const cJSON *json;
	char shown[SHOWN]; /* its name for messages */
	enum dtype dt;
	int rank;
	int64_t shape[TENSOR_RANK_MAX];
	uint64_t begin, end;
};

struct safetensors {
	struct decoder d;
	unsigned char prefix[8];
	size_t prefix_len;
	unsigned char *head;
	size_t head_len, head_cap, head_need; /* head_need: the length the file told */
	bool ready;			      /* the header was read */
	int n;
	struct intake_tensor *tensors[INTAKE_TENSORS_MAX]; /* in the order of their bytes */
	int current;
	uint64_t got;  /* bytes of the current tensor */
	uint64_t left; /* bytes of all tensors still to come */
};

static int
bad_file(struct err *e, const char *what)
{
	return err_set(e, ERR_MALFORMED_BODY, "the safetensors file is not valid: %s", what);
}

static int
bad_entry(const struct entry *t, const char *found, const char *wanted, struct err *e)
{
	return err_input(e, ERR_MALFORMED_BODY, t->shown, found, wanted,
			 "the safetensors header's entry '%s' is not valid: %s, wanted %s", t->shown, found, wanted);
}

/* A non-negative integer that JSON kept exactly. */
static bool
get_count(const cJSON *v, uint64_t *n)
{
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0) || v->valuedouble > EXACT_MAX ||
	    v->valuedouble != floor(v->valuedouble))
		return false;
	*n = (uint64_t)v->valuedouble;
	return true;
}

static int
read_entry(const cJSON *json, struct entry *t, struct err *e)
{
	const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(json, "dtype");
	const cJSON *shape = cJSON_GetObjectItemCaseSensitive(json, "shape");
	const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(json, "data_offsets");
	const cJSON *v;
	uint64_t n;

	t->json = json;
	text_clip(t->shown, sizeof(t->shown), json->string, strlen(json->string));
	if (!cJSON_IsObject(json) || cJSON_GetArraySize(json) != 3 || !cJSON_IsString(dtype) || !cJSON_IsArray(shape) ||
	    !cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
		return bad_entry(t, "other members", "{\"dtype\":\"...\",\"shape\":[...],\"data_offsets\":[begin,end]}",
				 e);
	t->dt = dtype_find_safetensors(dtype->valuestring, strlen(dtype->valuestring));
	if (t->dt == DT_NONE) {
		char list[160] = "", dtype_shown[24];
		size_t used = 0;
		for (int i = 1; i < DT_COUNT; i++) {
			int w = snprintf(list + used, sizeof(list) - used, "%s%s", i > 1 ? ", " : "",
					 dtype_info((enum dtype)i)->safetensors);
			used += w > 0 && (size_t)w < sizeof(list) - used ? (size_t)w : 0;
		}
		text_clip(dtype_shown, sizeof(dtype_shown), dtype->valuestring, strlen(dtype->valuestring));
		return err_input(
			e, ERR_INVALID_DTYPE, t->shown, dtype_shown, list,
			"the tensor '%s' has the safetensors dtype '%s', which is not taken; those taken are %s",
			t->shown, dtype_shown, list);
	}
	cJSON_ArrayForEach(v, shape)
	{
		if (!get_count(v, &n))
			return bad_entry(t, "a length in its shape that is no integer", "integers from 0", e);
		if (t->rank == TENSOR_RANK_MAX)
			return err_input(e, ERR_INVALID_SHAPE, t->shown, "more than 8 dimensions",
					 "at most 8 dimensions", "the tensor '%s' has more than %d dimensions",
					 t->shown, TENSOR_RANK_MAX);
		t->shape[t->rank++] = (int64_t)n;
	}
	if (!get_count(offsets->child, &t->begin) || !get_count(offsets->child->next, &t->end) || t->end < t->begin)
		return bad_entry(t, "data_offsets that are no range", "[begin, end] with 0 <= begin <= end", e);
	return 0;
}

static int
by_offset(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* Announce the tensors in the order of their bytes. */
static int
add_tensors(struct safetensors *s, const struct entry *entries, int n, struct err *e)
{
	uint64_t at = 0;
	char found[64], wanted[64];

	for (int i = 0; i < n; i++) {
		const struct entry *t = &entries[i];
		struct tensor probe = {.dtype = DT_NONE};
		if (t->begin != at) {
			snprintf(found, sizeof(found), "data that begins at %llu", (unsigned long long)t->begin);
			snprintf(wanted, sizeof(wanted), "%llu: no holes, no overlaps", (unsigned long long)at);
			return bad_entry(t, found, wanted, e);
		}
		/* Sizes are compared before any memory is borrowed. */
		if (tensor_describe(&probe, t->shown, t->dt, t->rank, t->shape, e) < 0)
			return -1;
		if (probe.bytes != t->end - t->begin) {
			snprintf(found, sizeof(found), "data_offsets %llu bytes apart",
				 (unsigned long long)(t->end - t->begin));
			snprintf(wanted, sizeof(wanted), "%llu by dtype and shape", (unsigned long long)probe.bytes);
			return bad_entry(t, found, wanted, e);
		}
		at = t->end;
	}
	for (int i = 0; i < n; i++) {
		const struct entry *t = &entries[i];
		struct intake_tensor *it = intake_tensor(s->d.in, t->json->string, strlen(t->json->string), t->dt,
							 t->rank, t->shape, e);
		if (!it)
			return -1;
		it->arrived = it->t.bytes == 0;
		s->tensors[s->n++] = it;
	}
	s->left = at;
	return 0;
}

static int
read_metadata(struct safetensors *s, const cJSON *meta, struct err *e)
{
	struct intake *in = s->d.in;
	const cJSON *v;
	char shown[SHOWN];

	if (!cJSON_IsObject(meta))
		return bad_file(e, "__metadata__ is not an object of strings");
	cJSON_ArrayForEach(v, meta)
	{
		if (!cJSON_IsString(v)) {
			text_clip(shown, sizeof(shown), v->string, strlen(v->string));
			return err_param(
				e, ERR_MALFORMED_BODY, shown, "a value that is no string", "a string",
				"the safetensors file is not valid: __metadata__.%s is not a string (JSON values go "
				"into it as text)",
				shown);
		}
		size_t len = strlen(v->valuestring);
		if (strcmp(v->string, "params") == 0) {
			if (intake_json_params_text(in, v->valuestring, len, "__metadata__.params", e) < 0)
				return -1;
		} else if (strcmp(v->string, "shuffle") == 0) {
			if (intake_param(in, "shuffle", 7, v->valuestring, len, e) < 0)
				return -1;
		} else if (strcmp(v->string, "op") == 0) {
			if (len >= sizeof(in->op_named))
				return err_param(e, ERR_MALFORMED_BODY, "op", v->valuestring, "an operator's name",
						 "__metadata__.op is longer than any operator's name");
			memcpy(in->op_named, v->valuestring, len + 1);
		}
	}
	return 0;
}

static int
read_header(struct safetensors *s, struct err *e)
{
	struct entry entries[INTAKE_TENSORS_MAX] = {{.json = NULL}};
	struct err parse = {.code = ERR_NONE};
	const cJSON *v, *meta = NULL;
	int n = 0, rc = -1;
	size_t len = s->head_len;

	while (len > 0 && s->head[len - 1] == ' ')
		len--;
	cJSON *root = json_parse_doubles((const char *)s->head, len, s->d.in->limits.json_depth, &parse);
	if (!root)
		return err_set(e, parse.code ? parse.code : ERR_MALFORMED_BODY, "the safetensors header: %s", parse.msg);
	cJSON_ArrayForEach(v, root)
	{
		if (strcmp(v->string, metadata_key) == 0) {
			meta = v;
			continue;
		}
		if (n == INTAKE_TENSORS_MAX) {
			err_set(e, ERR_MALFORMED_BODY, "the safetensors file holds more than %d tensors",
				INTAKE_TENSORS_MAX);
			goto out;
		}
		if (read_entry(v, &entries[n], e) < 0)
			goto out;
		n++;
	}
	qsort(entries, (size_t)n, sizeof(entries[0]), by_offset);
	if (add_tensors(s, entries, n, e) < 0 || (meta && read_metadata(s, meta, e) < 0))
		goto out;
	s->ready = true;
	rc = 0;
out:
	cJSON_Delete(root);
	free(s->head);
	s->head = NULL;
	return rc;
}

static int
read_length(struct safetensors *s, struct err *e)
{
	uint64_t n = 0, max = s->d.in->limits.json_bytes < HEADER_MAX ? s->d.in->limits.json_bytes : HEADER_MAX;
	char found[40], wanted[40];

	for (int i = 7; i >= 0; i--)
		n = n << 8 | s->prefix[i];
	if (n < 2)
		return bad_file(e, "its header's length is less than 2");
	if (n > 100000000)
		return bad_file(e,
				"its header's length (the first 8 bytes) is beyond 100 MB; is it a safetensors file?");
	if (n > max) {
		snprintf(found, sizeof(found), "%llu bytes", (unsigned long long)n);
		snprintf(wanted, sizeof(wanted), "at most %llu bytes", (unsigned long long)max);
		return err_param(e, ERR_TOO_LARGE, "header", found, wanted,
				 "the safetensors header has %s, this server accepts %s", found, wanted);
	}
	s->head_need = (size_t)n;
	return 0;
}

/* Take up to n bytes of the header; returns how many, or -1. */
static ptrdiff_t
take_header(struct safetensors *s, const unsigned char *p, size_t n, struct err *e)
{
	if (s->head_len == s->head_cap) {
		size_t cap = s->head_cap ? s->head_cap * 2 : HEADER_FIRST;
		if (cap > s->head_need)
			cap = s->head_need;
		unsigned char *grown = realloc(s->head, cap);
		if (!grown)
			return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the safetensors header");
		s->head = grown;
		s->head_cap = cap;
	}
	if (n > s->head_cap - s->head_len)
		n = s->head_cap - s->head_len;
	memcpy(s->head + s->head_len, p, n);
	s->head_len += n;
	if (s->head[0] != '{')
		return bad_file(e, "its header does not begin with '{'");
	if (s->head_len == s->head_need && read_header(s, e) < 0)
		return -1;
	return (ptrdiff_t)n;
}

static size_t
safetensors_window(struct decoder *d, unsigned char **dst)
{
	struct safetensors *s = (struct safetensors *)d;

	if (!s->ready || s->left == 0)
		return 0;
	while (s->got == s->tensors[s->current]->t.bytes) {
		s->current++;
		s->got = 0;
	}
	const struct tensor *t = &s->tensors[s->current]->t;
	*dst = (unsigned char *)t->data + s->got;
	return (size_t)(t->bytes - s->got);
}

static int
safetensors_advance(struct decoder *d, size_t n, struct err *e)
{
	struct safetensors *s = (struct safetensors *)d;
	struct intake_tensor *it = s->tensors[s->current];

	(void)e;
	s->got += n;
	s->left -= n;
	it->arrived = s->got == it->t.bytes;
	return 0;
}

static int
safetensors_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct safetensors *s = (struct safetensors *)d;

	while (n > 0) {
		ptrdiff_t m;
		unsigned char *dst;
		if (s->prefix_len < sizeof(s->prefix)) {
			s->prefix[s->prefix_len++] = *p;
			m = s->prefix_len == sizeof(s->prefix) && read_length(s, e) < 0 ? -1 : 1;
		} else if (!s->ready) {
			m = take_header(s, p, n, e);
		} else {
			size_t room = safetensors_window(d, &dst);
			if (room == 0)
				return bad_file(e, "it goes on after its last tensor's data");
			if (room > n)
				room = n;
			memcpy(dst, p, room);
			safetensors_advance(d, room, e);
			m = (ptrdiff_t)room;
		}
		if (m < 0)
			return -1;
		p += m;
		n -= (size_t)m;
	}
	return 0;
}

static int
safetensors_finish(struct decoder *d, struct err *e)
{
	struct safetensors *s = (struct safetensors *)d;
	unsigned char *dst;

	if (!s->ready)
		return bad_file(e, s->prefix_len == 0 ? "it is empty" : "it ends within its header");
	if (s->left == 0)
		return 0;
	safetensors_window(d, &dst);
	const struct intake_tensor *it = s->tensors[s->current];
	return err_input(e, ERR_MALFORMED_BODY, it->name, "a part of its data", "all of it",
			 "the safetensors file is cut short: %llu bytes are missing, %llu of them of '%s'",
			 (unsigned long long)s->left, (unsigned long long)(it->t.bytes - s->got), it->name);
}

static uint64_t
safetensors_want(const struct decoder *d)
{
	const struct safetensors *s = (const struct safetensors *)d;

	if (s->prefix_len < sizeof(s->prefix))
		return sizeof(s->prefix) - s->prefix_len;
	return s->ready ? s->left : s->head_need - s->head_len;
}

static void
safetensors_free(struct decoder *d)
{
	struct safetensors *s = (struct safetensors *)d;

	free(s->head);
	free(s);
}

static const struct decoder_ops safetensors_ops = {
	.name = "safetensors",
	.feed = safetensors_feed,
	.window = safetensors_window,
	.advance = safetensors_advance,
	.finish = safetensors_finish,
	.want = safetensors_want,
	.free = safetensors_free,
};

struct decoder *
decoder_safetensors_new(struct intake *in)
{
	struct safetensors *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->d.ops = &safetensors_ops;
	s->d.in = in;
	return &s->d;
}
