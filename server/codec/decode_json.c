/*
 * decode_json.c: the native JSON body, {"inputs":{"q":{"dtype","shape","data" or "base64"}},"params":{...}}. The text
 * is gathered as it comes and read when the body has ended. Driven by the inflater; owns the text unless it is large,
 * when it lies in the request's memory. Also what the two JSON decoders share.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/json.h"
#include "text.h"

/* Texts up to this stay in the heap. */
#define HEAP_TEXT_MAX ((size_t)64 << 10)

int
json_gather_add(struct json_gather *g, struct mem *mem, uint64_t limit, const void *p, size_t n, struct err *e)
{
	if (n > limit || g->len > limit - n)
		return err_set(e, ERR_TOO_LARGE, "the JSON text is larger than the %" PRIu64 " bytes that are read",
			       limit);
	if (n == 0)
		return 0;
	if (n > g->cap - g->len) {
		size_t cap = g->cap < 1024 ? 1024 : g->cap;
		char *grown;

		while (cap - g->len < n)
			cap *= 2;
		if (cap <= HEAP_TEXT_MAX) {
			grown = realloc(g->heap, cap);
			if (!grown)
				return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory for the JSON text");
			g->heap = grown;
		} else {
			grown = mem_alloc(mem, cap, e);
			if (!grown)
				return -1;
			if (g->len)
				memcpy(grown, g->p, g->len);
			free(g->heap);
			g->heap = NULL;
		}
		g->p = grown;
		g->cap = cap;
	}
	memcpy(g->p + g->len, p, n);
	g->len += n;
	return 0;
}

size_t
json_gather_window(const struct json_gather *g, unsigned char **dst)
{
	if (g->heap || !g->p)
		return 0;
	*dst = (unsigned char *)g->p + g->len;
	return g->cap - g->len;
}

void
json_gather_free(struct json_gather *g)
{
	free(g->heap);
	*g = (struct json_gather){0};
}

enum dtype
json_dtype(const char *name)
{
	size_t n = strlen(name);
	enum dtype dt = dtype_find(name, n);

	if (dt == DT_NONE)
		dt = dtype_find_safetensors(name, n);
	return dt == DT_NONE ? dtype_find_oip(name, n) : dt;
}

enum dtype
json_dtype_known(const char *text, const char *name, struct err *e)
{
	enum dtype dt = json_dtype(text);
	char found[64];

	if (dt == DT_NONE) {
		text_clip(found, sizeof(found), text, strlen(text));
		err_input(
			e, ERR_INVALID_DTYPE, name, found, "fp32, fp16, bf16, ...",
			"input %s: %s is no dtype known here (fp32, fp16, bf16, fp64, int8, uint8, int32, int64, bool, "
			"fp8_e4m3, fp8_e4m3fnuz, fp8_e5m2)",
			name, found);
	}
	return dt;
}

int
json_shape(const cJSON *array, const char *name, int64_t shape[TENSOR_RANK_MAX], struct err *e)
{
	const cJSON *item;
	int rank = 0;

	if (!cJSON_IsArray(array))
		return err_input(e, ERR_MALFORMED_BODY, name, "no list", "a list of lengths",
				 "input %s: its shape must be a list of lengths", name);
	cJSON_ArrayForEach(item, array)
	{
		double v = item->valuedouble;

		if (rank == TENSOR_RANK_MAX)
			return err_input(e, ERR_INVALID_SHAPE, name, "more dimensions", "at most 8 dimensions",
					 "input %s: its shape has more than %d dimensions", name, TENSOR_RANK_MAX);
		/* beyond 2^53 a double need not be what was written; no memory is as large anyway */
		if (!cJSON_IsNumber(item) || !(v >= 0) || v > 0x1p53 || v != (double)(int64_t)v) {
			char found[64];

			text_clip(found, sizeof(found), item->valuestring ? item->valuestring : "no number",
				  item->valuestring ? strlen(item->valuestring) : 9);
			return err_input(
				e, ERR_MALFORMED_BODY, name, found, "a length, a whole number of at least 0",
				"input %s: length %d of its shape is %s; a whole number of at least 0 is wanted", name,
				rank, found);
		}
		shape[rank++] = (int64_t)v;
	}
	return rank;
}

const struct json_span *
json_span_of(const struct json_cut *cut, const cJSON *item, uint32_t *taken)
{
	double v = item->valuedouble;
	int i;

	/* A member whose name is written with escapes is not cut, so a number there is the client's own. */
	if (!cJSON_IsNumber(item) || !(v >= 0 && v < cut->n_spans) || v != (double)(int)v)
		return NULL;
	i = (int)v;
	if (*taken & 1u << i)
		return NULL;
	*taken |= 1u << i;
	return &cut->spans[i];
}

struct decoder_json {
	struct decoder d;
	struct json_gather text;
};

static int
json_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct decoder_json *j = (struct decoder_json *)d;

	return json_gather_add(&j->text, d->in->mem, d->in->limits.json_bytes, p, n, e);
}

static size_t
json_window(struct decoder *d, unsigned char **dst)
{
	struct decoder_json *j = (struct decoder_json *)d;
	size_t n = json_gather_window(&j->text, dst);
	uint64_t left = d->in->limits.json_bytes - j->text.len;

	return n > left ? (size_t)left : n;
}

static int
json_advance(struct decoder *d, size_t n, struct err *e)
{
	struct decoder_json *j = (struct decoder_json *)d;

	(void)e;
	j->text.len += n;
	return 0;
}

static int
unknown_member(const char *name, const char *key, struct err *e)
{
	static const char *const known[] = {"dtype", "shape", "data", "base64", "generate", "tensor"};
	const char *near = op_nearest(key, strlen(key), known, sizeof(known) / sizeof(known[0]));
	char found[64];

	text_clip(found, sizeof(found), key, strlen(key));
	return err_input(e, ERR_MALFORMED_BODY, name, found, near ? near : "dtype, shape, data, base64",
			 "input %s: %s is not understood here; %s%s%sdtype (a string), shape, data and base64 are, or "
			 "generate with what belongs to it",
			 name, found, near ? "did you mean " : "", near ? near : "", near ? "? " : "");
}

/* One member of "inputs". */
static int
read_input(struct intake *in, const cJSON *item, const struct json_cut *cut, uint32_t *taken, struct err *e)
{
	const cJSON *member, *shape_item = NULL, *data_item = NULL, *base64_item = NULL;
	const struct json_span *span;
	const char *dtype_text = NULL;
	int64_t shape[TENSOR_RANK_MAX] = {0};
	struct intake_tensor *it;
	char name[TENSOR_NAME_MAX];
	enum dtype dt;
	int rank;

	text_clip(name, sizeof(name), item->string, strlen(item->string));
	if (!cJSON_IsObject(item))
		return err_input(e, ERR_MALFORMED_BODY, name, "no object", "{\"dtype\",\"shape\",\"data\"}",
				 "input %s must be an object with dtype, shape and data or base64", name);
	cJSON_ArrayForEach(member, item)
	{
		if (intake_is_source(member->string))
			return intake_source(in, item->string, strlen(item->string), item, e);
	}
	cJSON_ArrayForEach(member, item)
	{
		const char *key = member->string;

		if (strcmp(key, "dtype") == 0 && cJSON_IsString(member))
			dtype_text = member->valuestring;
		else if (strcmp(key, "shape") == 0)
			shape_item = member;
		else if (strcmp(key, "data") == 0)
			data_item = member;
		else if (strcmp(key, "base64") == 0)
			base64_item = member;
		else
			return unknown_member(name, key, e);
	}
	if (!dtype_text)
		return err_input(e, ERR_MALFORMED_BODY, name, "no dtype", "dtype", "input %s: its dtype is missing",
				 name);
	dt = json_dtype_known(dtype_text, name, e);
	if (dt == DT_NONE)
		return -1;
	if (!data_item == !base64_item)
		return err_input(e, ERR_MALFORMED_BODY, name, data_item ? "data and base64" : "neither",
				 "data or base64", "input %s: exactly one of data and base64 is wanted", name);
	span = json_span_of(cut, data_item ? data_item : base64_item, taken);
	if (!span)
		return err_input(e, ERR_MALFORMED_BODY, name, "a member's name with escapes", "data or base64",
				 "input %s: write the names data and base64 without escapes", name);
	if (shape_item) {
		rank = json_shape(shape_item, name, shape, e);
		if (rank < 0)
			return -1;
	} else {
		rank = data_item ? json_nesting(*span, shape) : -1;
		if (rank < 0)
			return err_input(e, ERR_MALFORMED_BODY, name, "no shape", "shape",
					 "input %s: its shape is missing; only a list of data tells it itself", name);
	}
	it = intake_tensor(in, item->string, strlen(item->string), dt, rank, shape, e);
	if (!it)
		return -1;
	if (base64_item)
		rank = json_base64(*span, &it->t, name, e);
	else
		rank = shape_item ? json_numbers(*span, &it->t, name, e) : json_nested_numbers(*span, &it->t, name, e);
	if (rank < 0)
		return -1;
	it->arrived = true;
	return 0;
}

static int
read_tree(struct intake *in, const cJSON *tree, const struct json_cut *cut, struct err *e)
{
	const cJSON *member, *item;
	uint32_t taken = 0;
	char found[64];

	if (!cJSON_IsObject(tree))
		return err_set(e, ERR_MALFORMED_BODY, "the JSON body must be an object with inputs and params");
	cJSON_ArrayForEach(member, tree)
	{
		text_clip(found, sizeof(found), member->string, strlen(member->string));
		if (strcmp(member->string, "inputs") != 0 && strcmp(member->string, "params") != 0)
			return err_param(e, ERR_MALFORMED_BODY, found, found, "inputs, params",
					 "the JSON body has a member %s; only inputs and params are understood", found);
		if (!cJSON_IsObject(member))
			return err_param(e, ERR_MALFORMED_BODY, found, "no object", "an object",
					 "the JSON body's %s must be an object", found);
		if (strcmp(member->string, "params") == 0) {
			/* written with escapes it was not found in the text, but the tree has it */
			if (!cut->kept.begin)
				return err_set(e, ERR_MALFORMED_BODY, "write the name params without escapes");
			if (intake_json_params_text(in, cut->kept.begin, (size_t)(cut->kept.end - cut->kept.begin),
						    "params", e) < 0)
				return -1;
			continue;
		}
		cJSON_ArrayForEach(item, member)
		{
			if (read_input(in, item, cut, &taken, e) < 0)
				return -1;
		}
	}
	return 0;
}

static int
json_finish(struct decoder *d, struct err *e)
{
	struct decoder_json *j = (struct decoder_json *)d;
	struct json_cut cut = {
		.max_depth = d->in->limits.json_depth, .member1 = "data", .member2 = "base64", .keep = "params"};
	cJSON *tree = NULL;
	char *skeleton;
	int rc = -1;

	if (j->text.len == 0)
		return err_set(e, ERR_MALFORMED_BODY, "the body is empty; JSON with inputs and params is wanted");
	skeleton = json_skeleton(j->text.p, j->text.len, &cut, e);
	if (!skeleton)
		goto out;
	tree = json_parse(skeleton, strlen(skeleton), cut.max_depth, e);
	if (!tree)
		goto out;
	rc = read_tree(d->in, tree, &cut, e);
out:
	cJSON_Delete(tree);
	free(skeleton);
	return rc;
}

static uint64_t
json_pending(const struct decoder *d)
{
	return ((const struct decoder_json *)d)->text.len;
}

static void
json_free(struct decoder *d)
{
	json_gather_free(&((struct decoder_json *)d)->text);
	free(d);
}

static const struct decoder_ops json_ops = {
	.name = "json",
	.feed = json_feed,
	.window = json_window,
	.advance = json_advance,
	.finish = json_finish,
	.pending = json_pending,
	.free = json_free,
};

struct decoder *
decoder_json_new(struct intake *in)
{
	struct decoder_json *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->d.ops = &json_ops;
	j->d.in = in;
	return &j->d;
}
