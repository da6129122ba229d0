/*
 * decode_oip.c: the Open Inference Protocol's request body: JSON, or JSON and the binary tensors behind it in the order
 * of inputs, or (header length 0) one tensor's bytes alone. Driven by the inflater; owns the JSON text unless it is
 * large, when it lies in the request's memory.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decode_oip.h"
#include "codec/decoder.h"
#include "codec/json.h"
#include "text.h"

struct decoder_oip {
	struct decoder d;
	int64_t header_len;	 /* < 0: all is JSON; 0: no JSON at all */
	bool head_done;		 /* the JSON was read and the binary tensors are known */
	struct json_gather text; /* the JSON; with header_len 0 the raw bytes */
	struct json_cut cut;

	/* JSON data, put into the tensors when the body has ended (it may take long) */
	int n_lists;
	struct {
		struct intake_tensor *it;
		struct json_span span;
	} lists[INTAKE_TENSORS_MAX];

	/* binary tensors, in order, and how far they are filled */
	int n_binary, current;
	struct intake_tensor *binary[INTAKE_TENSORS_MAX];
	uint64_t filled; /* of the current one */
};

/* An input's parameters; *size is set when they hold binary_data_size. */
static int
read_input_params(const cJSON *parameters, const char *name, bool *binary, uint64_t *size, struct err *e)
{
	const cJSON *item;
	char found[64];

	if (parameters && !cJSON_IsObject(parameters))
		return err_input(e, ERR_MALFORMED_BODY, name, "no object", "an object",
				 "input %s: its parameters must be an object", name);
	cJSON_ArrayForEach(item, parameters)
	{
		double v = item->valuedouble;

		if (oip_starts(item->string, "shared_memory_"))
			return oip_shared_memory(name, e);
		if (strcmp(item->string, "binary_data_size") != 0) {
			text_clip(found, sizeof(found), item->string, strlen(item->string));
			return err_input(e, ERR_UNSUPPORTED_PARAMETER, name, found, "binary_data_size",
					 "input %s: its parameter %s is not understood here; binary_data_size is", name,
					 found);
		}
		if (!cJSON_IsNumber(item) || !(v >= 0) || v > 0x1p53 || v != (double)(uint64_t)v)
			return err_input(e, ERR_MALFORMED_BODY, name, "no size", "a number of bytes",
					 "input %s: its binary_data_size must be a number of bytes", name);
		*binary = true;
		*size = (uint64_t)v;
	}
	return 0;
}

static enum dtype
read_datatype(const cJSON *item, const char *name, struct err *e)
{
	enum dtype dt;
	char found[48];

	if (!cJSON_IsString(item)) {
		err_input(e, ERR_MALFORMED_BODY, name, "no datatype", "datatype", "input %s: its datatype is missing",
			  name);
		return DT_NONE;
	}
	text_clip(found, sizeof(found), item->valuestring, strlen(item->valuestring));
	dt = json_dtype(item->valuestring);
	if (dt == DT_NONE)
		err_input(
			e, ERR_INVALID_DTYPE, name, found, "FP32, FP16, BF16, ...",
			strcmp(found, "BYTES") == 0
				? "input %s: datatype %s (strings) is not a tensor of numbers; no operator takes it"
				: "input %s: datatype %s is not known here; FP32, FP16, BF16, FP64, INT8, UINT8, INT32, INT64, "
				  "BOOL and the fp8 types are",
			name, found);
	return dt;
}

static int
read_input(struct decoder_oip *o, const cJSON *object, uint32_t *taken, struct err *e)
{
	const cJSON *name_item = cJSON_GetObjectItemCaseSensitive(object, "name");
	const cJSON *shape_item = NULL, *data_item = NULL, *type_item = NULL, *parameters = NULL, *member;
	const struct json_span *span = NULL;
	int64_t shape[TENSOR_RANK_MAX] = {0};
	struct intake_tensor *it;
	char name[TENSOR_NAME_MAX], found[64];
	bool binary = false;
	uint64_t size = 0;
	enum dtype dt;
	int rank;

	if (!cJSON_IsObject(object) || !cJSON_IsString(name_item))
		return err_param(e, ERR_MALFORMED_BODY, "inputs", "something else", "objects with a name",
				 "each of inputs must be an object with name, shape, datatype and data");
	text_clip(name, sizeof(name), name_item->valuestring, strlen(name_item->valuestring));
	cJSON_ArrayForEach(member, object)
	{
		if (strcmp(member->string, "shape") == 0) {
			shape_item = member;
		} else if (strcmp(member->string, "datatype") == 0) {
			type_item = member;
		} else if (strcmp(member->string, "data") == 0) {
			data_item = member;
		} else if (strcmp(member->string, "parameters") == 0) {
			parameters = member;
		} else if (member != name_item) {
			text_clip(found, sizeof(found), member->string, strlen(member->string));
			return err_input(
				e, ERR_MALFORMED_BODY, name, found, "name, shape, datatype, parameters, data",
				"input %s: %s is not understood here; name, shape, datatype, parameters and data are",
				name, found);
		}
	}
	dt = read_datatype(type_item, name, e);
	if (dt == DT_NONE || read_input_params(parameters, name, &binary, &size, e) < 0)
		return -1;
	rank = json_shape(shape_item, name, shape, e);
	if (rank < 0)
		return -1;
	if (binary && data_item)
		return err_input(e, ERR_MALFORMED_BODY, name, "data and binary_data_size", "one of them",
				 "input %s: data and binary_data_size exclude each other", name);
	if (!binary && !data_item)
		return err_input(e, ERR_MALFORMED_BODY, name, "neither", "data or binary_data_size",
				 "input %s: there is neither data nor the parameter binary_data_size", name);
	if (binary && o->header_len < 0)
		return err_input(e, ERR_MALFORMED_BODY, name, "binary_data_size", "Inference-Header-Content-Length",
				 "input %s is binary, but the header Inference-Header-Content-Length is missing", name);
	if (data_item) {
		span = json_span_of(&o->cut, data_item, taken);
		if (!span)
			return err_input(e, ERR_MALFORMED_BODY, name, "a member's name with escapes", "data",
					 "input %s: write the name data without escapes", name);
	}
	it = intake_tensor(o->d.in, name_item->valuestring, strlen(name_item->valuestring), dt, rank, shape, e);
	if (!it)
		return -1;
	if (span) {
		o->lists[o->n_lists].it = it;
		o->lists[o->n_lists++].span = *span;
		return 0;
	}
	if (size != it->t.bytes) {
		char wanted[64], text[160];

		snprintf(found, sizeof(found), "%" PRIu64 " bytes", size);
		snprintf(wanted, sizeof(wanted), "%" PRIu64 " bytes", it->t.bytes);
		return err_input(e, ERR_MALFORMED_BODY, name, found, wanted,
				 "input %s: binary_data_size is %" PRIu64 ", but %s of shape %s has %" PRIu64 " bytes",
				 name, size, dtype_info(dt)->oip, tensor_shape_text(&it->t, text, sizeof(text)),
				 it->t.bytes);
	}
	o->binary[o->n_binary++] = it;
	return 0;
}

static int
read_tree(struct decoder_oip *o, const cJSON *tree, struct err *e)
{
	struct intake *in = o->d.in;
	const cJSON *member, *item;
	bool inputs = false;
	uint32_t taken = 0;
	char found[64];

	if (!cJSON_IsObject(tree))
		return err_set(e, ERR_MALFORMED_BODY, "the request's JSON must be an object with inputs");
	cJSON_ArrayForEach(member, tree)
	{
		text_clip(found, sizeof(found), member->string, strlen(member->string));
		if (strcmp(member->string, "inputs") == 0 || strcmp(member->string, "outputs") == 0) {
			bool is_input = member->string[0] == 'i';

			if (!cJSON_IsArray(member))
				return err_param(e, ERR_MALFORMED_BODY, found, "no list", "a list", "%s must be a list",
						 found);
			inputs |= is_input;
			cJSON_ArrayForEach(item, member)
			{
				if ((is_input ? read_input(o, item, &taken, e) : oip_output(in, item, e)) < 0)
					return -1;
			}
		} else if (strcmp(member->string, "parameters") == 0) {
			if (oip_parameters(in, member, e) < 0)
				return -1;
		} else if (strcmp(member->string, "id") == 0 && cJSON_IsString(member)) {
			in->id = strdup(member->valuestring);
			if (!in->id)
				return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory for the request's id");
		} else if (strcmp(member->string, "model_name") != 0 && strcmp(member->string, "model_version") != 0) {
			return err_param(e, ERR_MALFORMED_BODY, found, found, "id, parameters, inputs, outputs",
					 "%s is not understood here; id (a string), parameters, inputs and outputs are",
					 found);
		}
	}
	/* Or they are told by the parameter `inputs`. */
	if (!inputs && !intake_param_find(in, "inputs"))
		return err_param(e, ERR_MALFORMED_BODY, "inputs", "no inputs", "inputs",
				 "the request's JSON has no inputs");
	return 0;
}

/* Skip over binary tensors that are complete (empty ones at once). */
static void
next_binary(struct decoder_oip *o)
{
	while (o->current < o->n_binary && o->filled == o->binary[o->current]->t.bytes) {
		o->binary[o->current++]->arrived = true;
		o->filled = 0;
	}
}

static int
read_head(struct decoder_oip *o, struct err *e)
{
	cJSON *tree = NULL;
	char *skeleton;
	int rc = -1;

	if (o->text.len == 0)
		return err_set(e, ERR_MALFORMED_BODY, "the body is empty; JSON with inputs is wanted");
	o->cut = (struct json_cut){.max_depth = o->d.in->limits.json_depth, .member1 = "data"};
	skeleton = json_skeleton(o->text.p, o->text.len, &o->cut, e);
	if (!skeleton)
		goto out;
	tree = json_parse(skeleton, strlen(skeleton), o->cut.max_depth, e);
	if (!tree || read_tree(o, tree, e) < 0)
		goto out;
	o->head_done = true;
	next_binary(o);
	rc = 0;
out:
	cJSON_Delete(tree);
	free(skeleton);
	return rc;
}

static int
oip_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct decoder_oip *o = (struct decoder_oip *)d;
	uint64_t json_bytes = d->in->limits.json_bytes;

	if (o->header_len == 0)
		return json_gather_add(&o->text, d->in->mem, d->in->limits.tensor_bytes, p, n, e);
	if (o->header_len < 0)
		return json_gather_add(&o->text, d->in->mem, json_bytes, p, n, e);
	if (!o->head_done) {
		uint64_t left = (uint64_t)o->header_len - o->text.len;
		size_t take = n < left ? n : (size_t)left;

		if ((uint64_t)o->header_len > json_bytes)
			return err_set(e, ERR_TOO_LARGE,
				       "Inference-Header-Content-Length is %" PRId64 "; JSON of at most %" PRIu64
				       " bytes is read",
				       o->header_len, json_bytes);
		if (json_gather_add(&o->text, d->in->mem, json_bytes, p, take, e) < 0)
			return -1;
		p += take;
		n -= take;
		if (o->text.len == (uint64_t)o->header_len && read_head(o, e) < 0)
			return -1;
	}
	while (n > 0) {
		struct intake_tensor *it;
		uint64_t left;
		size_t take;

		if (o->current == o->n_binary)
			return err_set(
				e, ERR_MALFORMED_BODY,
				"the body goes on after the last binary tensor (%d are announced by binary_data_size)",
				o->n_binary);
		it = o->binary[o->current];
		left = it->t.bytes - o->filled;
		take = n < left ? n : (size_t)left;
		memcpy((unsigned char *)it->t.data + o->filled, p, take);
		o->filled += take;
		p += take;
		n -= take;
		next_binary(o);
	}
	return 0;
}

static size_t
oip_window(struct decoder *d, unsigned char **dst)
{
	struct decoder_oip *o = (struct decoder_oip *)d;
	uint64_t left, most;
	size_t n;

	if (o->head_done) {
		if (o->current == o->n_binary)
			return 0;
		*dst = (unsigned char *)o->binary[o->current]->t.data + o->filled;
		return (size_t)(o->binary[o->current]->t.bytes - o->filled);
	}
	/* a head's last byte goes through feed, which reads it then */
	n = json_gather_window(&o->text, dst);
	if (o->header_len > 0)
		most = (uint64_t)o->header_len - 1;
	else
		most = o->header_len < 0 ? d->in->limits.json_bytes : d->in->limits.tensor_bytes;
	left = most - o->text.len;
	return n > left ? (size_t)left : n;
}

static int
oip_advance(struct decoder *d, size_t n, struct err *e)
{
	struct decoder_oip *o = (struct decoder_oip *)d;

	(void)e;
	if (o->head_done) {
		o->filled += n;
		next_binary(o);
	} else {
		o->text.len += n;
	}
	return 0;
}

/* The only dimension of a shape rule ("N D" has two) that is not a number, and the product of the numbers; false when
 * there is not exactly one, or a run. */
static bool
open_dimension(const char *rule, int *rank, int *open, int64_t shape[TENSOR_RANK_MAX], int64_t *rest)
{
	*rank = 0;
	*open = -1;
	*rest = 1;
	for (const char *p = rule; *p;) {
		size_t n = strcspn(p, " ");
		char *end;

		if (n > 0) {
			long v = strtol(p, &end, 10);

			if (*rank == TENSOR_RANK_MAX || memchr(p, '.', n) || memchr(p, '+', n))
				return false;
			if (end == p + n && v > 0) {
				shape[*rank] = v;
				*rest *= v;
			} else if (*open >= 0) {
				return false;
			} else {
				*open = *rank;
			}
			++*rank;
		}
		p += n + (p[n] == ' ');
	}
	return *open >= 0;
}

/* No JSON: the bytes are the only input, if its type is certain and the number of bytes tells its shape. */
static int
read_raw(struct decoder_oip *o, struct err *e)
{
	const struct op *op = o->d.in->op;
	const struct op_tensor *input = NULL;
	int64_t shape[TENSOR_RANK_MAX], rest;
	struct intake_tensor *it;
	uint64_t unit;
	enum dtype dt;
	int rank, open, required = 0;

	for (const struct op_tensor *t = op ? op->tensors : NULL; t && t->name; t++) {
		if (t->role == OP_IN && !t->optional) {
			input = t;
			required++;
		}
	}
	if (required != 1)
		return err_set(
			e, ERR_MALFORMED_BODY,
			"Inference-Header-Content-Length is 0, a body of one tensor's bytes alone, but %s has %d inputs; "
			"send JSON before the tensors",
			op ? op->name : "the operator", required);
	dt = dtype_find(input->dtypes, strlen(input->dtypes));
	if (dt == DT_NONE || !open_dimension(input->shape, &rank, &open, shape, &rest))
		return err_input(
			e, ERR_MALFORMED_BODY, input->name, "bytes alone", "JSON with shape and datatype",
			"input %s may be %s of shape [%s]: bytes alone do not tell which; send JSON before the tensor",
			input->name, input->dtypes, input->shape);
	unit = (uint64_t)rest * dtype_info(dt)->size;
	if (o->text.len % unit != 0)
		return err_input(e, ERR_MALFORMED_BODY, input->name, "another number of bytes", "whole rows",
				 "input %s: the body's %zu bytes are no multiple of %" PRIu64, input->name, o->text.len,
				 unit);
	shape[open] = (int64_t)(o->text.len / unit);
	it = intake_tensor(o->d.in, input->name, strlen(input->name), dt, rank, shape, e);
	if (!it)
		return -1;
	if (o->text.len)
		memcpy(it->t.data, o->text.p, o->text.len);
	it->arrived = true;
	o->d.in->binary_output_all = true; /* the protocol says so */
	return 0;
}

static int
oip_finish(struct decoder *d, struct err *e)
{
	struct decoder_oip *o = (struct decoder_oip *)d;

	if (o->header_len == 0)
		return read_raw(o, e);
	if (o->header_len > 0 && !o->head_done)
		return err_set(e, ERR_MALFORMED_BODY,
			       "Inference-Header-Content-Length is %" PRId64 ", but the body has only %zu bytes",
			       o->header_len, o->text.len);
	if (o->header_len < 0 && read_head(o, e) < 0)
		return -1;
	if (o->current < o->n_binary) {
		const struct intake_tensor *it = o->binary[o->current];
		char found[64], wanted[64];

		snprintf(found, sizeof(found), "%" PRIu64 " bytes", o->filled);
		snprintf(wanted, sizeof(wanted), "%" PRIu64 " bytes", it->t.bytes);
		return err_input(e, ERR_MALFORMED_BODY, it->name, found, wanted,
				 "input %s: the body ends after %s of its %s", it->name, found, wanted);
	}
	for (int i = 0; i < o->n_lists; i++) {
		struct intake_tensor *it = o->lists[i].it;

		if (json_numbers(o->lists[i].span, &it->t, it->name, e) < 0)
			return -1;
		it->arrived = true;
	}
	return 0;
}

static uint64_t
oip_pending(const struct decoder *d)
{
	const struct decoder_oip *o = (const struct decoder_oip *)d;

	return o->header_len == 0 || (o->head_done && o->n_lists == 0) ? 0 : o->text.len;
}

static void
oip_free(struct decoder *d)
{
	json_gather_free(&((struct decoder_oip *)d)->text);
	free(d);
}

static const struct decoder_ops oip_ops = {
	.name = "oip",
	.feed = oip_feed,
	.window = oip_window,
	.advance = oip_advance,
	.finish = oip_finish,
	.pending = oip_pending,
	.free = oip_free,
};

struct decoder *
decoder_oip_new(struct intake *in, int64_t header_len)
{
	struct decoder_oip *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->d.ops = &oip_ops;
	o->d.in = in;
	o->header_len = header_len;
	return &o->d;
}
