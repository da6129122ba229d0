/*
 * safetensors.c: safetensors bytes in memory, read (for file.c and reply.c) and begun (call.c, save.c). Only the header is
 * read; tensors' data stay where they lie.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "lib.h"

#define HEADER_MAX ((uint64_t)100 << 20) /* the format's own limit */
#define EXACT_MAX 9007199254740992.0	 /* 2^53: doubles hold every integer up to here */

static int
bad(struct err *e, const char *what)
{
	return err_set(e, ERR_MALFORMED_BODY, "the safetensors file is not valid: %s", what);
}

static int
bad_entry(struct err *e, const char *name, const char *what)
{
	char shown[65];

	return err_set(e, ERR_MALFORMED_BODY, "the safetensors header's entry '%s' is not valid: %s",
		       text_clip(shown, sizeof(shown), name, strlen(name)), what);
}

static bool
whole(const cJSON *item, uint64_t *v)
{
	if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > EXACT_MAX ||
	    item->valuedouble != floor(item->valuedouble))
		return false;
	*v = (uint64_t)item->valuedouble;
	return true;
}

static int
read_entry(const cJSON *item, struct aiterd_tensor *t, const unsigned char *data, uint64_t n, struct err *e)
{
	const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype"), *dim;
	const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
	const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
	const char *name = item->string;
	struct tensor described;
	int64_t lengths[TENSOR_RANK_MAX];
	uint64_t begin, end, v;
	enum dtype dt;
	int rank = 0;

	if (!cJSON_IsString(dtype) || !cJSON_IsArray(shape) || cJSON_GetArraySize(offsets) != 2)
		return bad_entry(e, name, "dtype, shape or data_offsets is missing");
	dt = dtype_find_safetensors(dtype->valuestring, strlen(dtype->valuestring));
	if (dt == DT_NONE)
		return bad_entry(e, name, "its dtype is unknown");
	cJSON_ArrayForEach(dim, shape)
	{
		if (rank == TENSOR_RANK_MAX)
			return bad_entry(e, name, "it has more than 8 dimensions");
		if (!whole(dim, &v))
			return bad_entry(e, name, "a length is no whole number");
		lengths[rank++] = (int64_t)v;
	}
	if (tensor_describe(&described, name, dt, rank, lengths, e) < 0)
		return -1;
	if (!whole(cJSON_GetArrayItem(offsets, 0), &begin) || !whole(cJSON_GetArrayItem(offsets, 1), &end) ||
	    begin > end || end > n)
		return bad_entry(e, name, "its data_offsets lie outside the file");
	if (end - begin != described.bytes)
		return bad_entry(e, name, "its data_offsets do not agree with dtype and shape");
	*t = (struct aiterd_tensor){
		.name = name, .dtype = (enum aiterd_dtype)dt, .rank = rank, .bytes = described.bytes};
	memcpy(t->shape, lengths, (size_t)rank * sizeof(lengths[0]));
	t->data = data + begin;
	return 0;
}

int
lib_safetensors_read(struct lib_tensors *ts, const unsigned char *p, uint64_t n, struct err *e)
{
	uint64_t len = 0, sum = 0;
	const cJSON *item;
	int count;

	if (n < 8)
		return bad(e, "it is shorter than 8 bytes");
	for (int i = 7; i >= 0; i--)
		len = len << 8 | p[i];
	if (len > HEADER_MAX || p[8 < n ? 8 : 7] != '{')
		return bad(e, "it does not begin with the length of a JSON header");
	if (len > n - 8)
		return bad(e, "it ends within its header");
	ts->header = json_parse((const char *)p + 8, (size_t)len, LIB_JSON_DEPTH, e);
	if (!ts->header)
		return -1;
	if (!cJSON_IsObject(ts->header))
		return bad(e, "its header is no JSON object");
	count = cJSON_GetArraySize(ts->header);
	ts->t = calloc((size_t)count + 1, sizeof(*ts->t));
	if (!ts->t)
		return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory");
	ts->data_at = 8 + len;
	cJSON_ArrayForEach(item, ts->header)
	{
		if (strcmp(item->string, "__metadata__") == 0)
			continue;
		if (read_entry(item, &ts->t[ts->n], p + 8 + len, n - 8 - len, e) < 0)
			return -1;
		sum += ts->t[ts->n++].bytes;
	}
	return sum == n - 8 - len ? 0 : bad(e, "its tensors do not cover its data");
}

void
lib_tensors_fini(struct lib_tensors *ts)
{
	free(ts->t);
	cJSON_Delete(ts->header);
	*ts = (struct lib_tensors){.t = NULL};
}

const char *
lib_metadata(const struct lib_tensors *ts, const char *name)
{
	const cJSON *meta = cJSON_GetObjectItemCaseSensitive(ts->header, "__metadata__");
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(meta, name);

	return cJSON_IsString(item) ? item->valuestring : NULL;
}

int
lib_tensors_find(const struct lib_tensors *ts, const char *name)
{
	for (int i = 0; i < ts->n; i++)
		if (strcmp(ts->t[i].name, name) == 0)
			return i;
	return -1;
}

int
lib_safetensors_head(struct text *head, const struct aiterd_tensor *tensors, int n, const char *metadata)
{
	static const char blanks[] = "                                                                ";
	uint64_t at = 0, len;

	text_addn(head, "\0\0\0\0\0\0\0\0", 8);
	text_add(head, "{");
	if (metadata)
		text_addf(head, "\"__metadata__\":%s%s", metadata, n ? "," : "");
	for (int i = 0; i < n; i++) {
		const struct aiterd_tensor *t = &tensors[i];

		text_add(head, i ? "," : "");
		text_json(head, t->name);
		text_addf(head, ":{\"dtype\":\"%s\",\"shape\":[", dtype_info((enum dtype)t->dtype)->safetensors);
		for (int k = 0; k < t->rank; k++)
			text_addf(head, "%s%" PRId64, k ? "," : "", t->shape[k]);
		text_addf(head, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->bytes);
		at += t->bytes;
	}
	text_add(head, "}");
	text_addn(head, blanks, (64 - head->len % 64) % 64);
	if (text_failed(head))
		return -1;
	len = head->len - 8;
	for (int i = 0; i < 8; i++)
		head->p[i] = (char)(len >> 8 * i & 0xff);
	return 0;
}
