/*
 * encode_json.c: replies as JSON, native and Open Inference Protocol. The frame around the numbers is one text, large
 * lists lie in the request's memory, and the body's pieces take turns. Called by encode.c.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec/encode.h"
#include "digits.h"
#include "text.h"

/* Lists that may be longer than this get memory of their own. */
#define INLINE_MAX ((uint64_t)32 << 10)
#define FRAME_CEILING ((size_t)4 << 20)

/* A body in the making: the frame's text may still move, so its pieces are cuts until the end. */
struct frame {
	struct text text;
	int n;
	struct {
		size_t at; /* the list stands behind so much of the text */
		struct body_piece piece;
	} lists[OP_TENSORS_MAX];
};

unsigned
encode_element_max(enum dtype dt)
{
	switch (dt) {
	case DT_FP64:
		return 25; /* -1.7976931348623157e-308, */
	case DT_INT64:
		return 21;
	case DT_INT32:
		return 12;
	case DT_BOOL:
		return 6;
	case DT_INT8:
	case DT_UINT8:
		return 5;
	default:
		return 17; /* -0.000123456789, and room */
	}
}

static int
put_int(char *buf, int64_t v)
{
	uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	char *p = buf;

	if (v < 0)
		*p++ = '-';
	return (int)(digits_u64(p, u) - buf);
}

static int
put_element(char *out, const struct tensor *t, int64_t i)
{
	switch ((enum dtype)t->dtype) {
	case DT_FP32:
		return format_float(out, ((const float *)t->data)[i]);
	case DT_FP16:
		return format_fp16(out, ((const uint16_t *)t->data)[i]);
	case DT_BF16:
		return format_bf16(out, ((const uint16_t *)t->data)[i]);
	case DT_FP64:
		return format_double(out, ((const double *)t->data)[i]);
	case DT_INT64:
		return put_int(out, ((const int64_t *)t->data)[i]);
	case DT_INT32:
		return put_int(out, ((const int32_t *)t->data)[i]);
	case DT_INT8:
		return put_int(out, ((const int8_t *)t->data)[i]);
	case DT_UINT8:
		return put_int(out, ((const uint8_t *)t->data)[i]);
	case DT_BOOL:
		if (((const uint8_t *)t->data)[i]) {
			memcpy(out, "true", 4);
			return 4;
		}
		memcpy(out, "false", 5);
		return 5;
	default:
		return format_float(out, (float)tensor_get(t, i));
	}
}

/* "[...]"; `out` has room for encode_element_max() each, and 34 bytes more (format_float may use 32). */
static size_t
put_list(char *out, const struct tensor *t)
{
	int64_t n = tensor_elements(t);
	char *p = out;

	*p++ = '[';
	for (int64_t i = 0; i < n; i++) {
		p += put_element(p, t, i);
		*p++ = ',';
	}
	if (n > 0)
		p--;
	*p++ = ']';
	return (size_t)(p - out);
}

static size_t
put_base64(char *out, const struct tensor *t)
{
	size_t n = base64_size(t->bytes);

	out[0] = '"';
	base64_encode(out + 1, t->data, (size_t)t->bytes);
	out[n + 1] = '"';
	return n + 2;
}

/* The tensor's data, into the frame itself or beside it. */
static int
add_data(struct frame *f, struct mem *mem, const struct tensor *t, bool base64, struct err *e)
{
	uint64_t most = base64 ? base64_size(t->bytes) : (uint64_t)tensor_elements(t) * encode_element_max(t->dtype);
	char *heap = NULL, *out;
	size_t n;

	most += 34;
	out = heap = most <= INLINE_MAX ? malloc((size_t)most) : NULL;
	if (!out)
		out = mem_alloc(mem, most, e);
	if (!out)
		return -1;
	n = base64 ? put_base64(out, t) : put_list(out, t);
	assert(n <= most);
	if (heap) {
		text_addn(&f->text, heap, n);
		free(heap);
		return 0;
	}
	assert(f->n < OP_TENSORS_MAX);
	f->lists[f->n].at = f->text.len;
	f->lists[f->n++].piece = (struct body_piece){(const unsigned char *)out, n};
	return 0;
}

/* The frame becomes the body's own text. */
static int
finish_frame(struct frame *f, struct body *b, struct err *e)
{
	size_t len = f->text.len, from = 0;

	b->owned = text_take(&f->text);
	if (!b->owned)
		return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory for the reply's JSON");
	for (int i = 0; i < f->n; i++) {
		body_add(b, b->owned + from, f->lists[i].at - from);
		body_add(b, f->lists[i].piece.p, f->lists[i].piece.n);
		from = f->lists[i].at;
	}
	body_add(b, b->owned + from, len - from);
	return 0;
}

static void
add_shape(struct text *t, const struct tensor *tensor)
{
	text_add(t, "[");
	for (int i = 0; i < tensor->rank; i++)
		text_addf(t, "%s%" PRId64, i ? "," : "", tensor->shape[i]);
	text_add(t, "]");
}

/* {"dtype","shape" and data or digest} */
static int
add_output(struct frame *f, struct mem *mem, const struct encode_job *job, const struct encode_tensor *et, struct err *e)
{
	struct text *t = &f->text;

	text_addf(t, "{\"dtype\":\"%s\",\"shape\":", dtype_info(et->t->dtype)->name);
	add_shape(t, et->t);
	if (job->mode == DATA_DIGEST) {
		text_add(t, ",\"digest\":");
		encode_digest(t, &et->digest);
	} else if (job->mode == DATA_ALL) {
		text_add(t, job->base64 ? ",\"base64\":" : ",\"data\":");
		if (add_data(f, mem, et->t, job->base64, e) < 0)
			return -1;
	}
	text_add(t, "}");
	return 0;
}

int
encode_json_body(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e)
{
	struct frame f = {.n = 0};
	struct text *t = &f.text;

	text_init(t, FRAME_CEILING);
	text_add(t, job->bare ? "" : "{\"outputs\":{");
	for (int i = 0; i < job->n; i++) {
		const struct encode_tensor *et = &job->tensors[i];

		if (!job->bare) {
			text_add(t, i > 0 ? "," : "");
			text_json(t, et->name);
			text_add(t, ":");
		}
		if (add_output(&f, mem, job, et, e) < 0)
			goto fail;
	}
	text_add(t, job->bare ? "" : "}");
	if (job->stats_json && !job->bare) {
		text_add(t, ",\"stats\":");
		text_add(t, job->stats_json);
	}
	text_add(t, job->bare ? "\n" : "}\n");
	b->content_type = "application/json";
	return finish_frame(&f, b, e);
fail:
	text_fini(t);
	return -1;
}

static int
add_oip_output(struct frame *f, struct mem *mem, const struct encode_tensor *et, struct err *e)
{
	struct text *t = &f->text;

	text_add(t, "{\"name\":");
	text_json(t, et->name);
	text_addf(t, ",\"datatype\":\"%s\",\"shape\":", dtype_info(et->t->dtype)->oip);
	add_shape(t, et->t);
	if (et->binary) {
		text_addf(t, ",\"parameters\":{\"binary_data_size\":%" PRIu64 "}}", et->t->bytes);
		return 0;
	}
	text_add(t, ",\"data\":");
	if (add_data(f, mem, et->t, false, e) < 0)
		return -1;
	text_add(t, "}");
	return 0;
}

/* Clients take the outputs they find; digests have no place there and go with the statistics. */
static void
add_oip_parameters(struct text *t, const struct encode_job *job)
{
	const char *sep = "";

	text_add(t, ",\"parameters\":{");
	if (job->stats_quoted) {
		text_add(t, "\"stats\":\"");
		text_add(t, job->stats_quoted);
		text_add(t, "\"");
		sep = ",";
	}
	for (int i = 0; i < job->n && job->mode == DATA_DIGEST; i++) {
		struct text name, digest;

		text_init(&name, FRAME_CEILING);
		text_init(&digest, FRAME_CEILING);
		text_addf(&name, "digest.%s", job->tensors[i].name);
		encode_digest(&digest, &job->tensors[i].digest);
		text_add(t, sep);
		text_json(t, name.p ? name.p : "");
		text_add(t, ":");
		text_json(t, digest.p ? digest.p : "");
		if (name.failed || digest.failed)
			text_fail(t);
		text_fini(&name);
		text_fini(&digest);
		sep = ",";
	}
	text_add(t, "}");
}

int
encode_oip_body(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e)
{
	struct frame f = {.n = 0};
	struct text *t = &f.text;
	bool binary = false;

	text_init(t, FRAME_CEILING);
	text_add(t, "{\"model_name\":");
	text_json(t, job->op ? job->op : "");
	text_add(t, ",\"model_version\":");
	text_json(t, job->model_version ? job->model_version : "1");
	if (job->id) {
		text_add(t, ",\"id\":");
		text_json(t, job->id);
	}
	text_add(t, ",\"outputs\":[");
	for (int i = 0; i < job->n && job->mode == DATA_ALL; i++) {
		if (i > 0)
			text_add(t, ",");
		binary |= job->tensors[i].binary;
		if (add_oip_output(&f, mem, &job->tensors[i], e) < 0)
			goto fail;
	}
	text_add(t, "]");
	add_oip_parameters(t, job);
	text_add(t, "}");
	if (binary) {
		uint64_t len = t->len;

		/* spaces, so that binary data begins at a multiple of 8 */
		for (int i = 0; i < f.n; i++)
			len += f.lists[i].piece.n;
		for (; len % 8 != 0; len++)
			text_add(t, " ");
	} else {
		text_add(t, "\n");
	}
	if (finish_frame(&f, b, e) < 0)
		return -1;
	b->content_type = binary ? "application/octet-stream" : "application/json";
	if (!binary)
		return 0;
	b->oip_header_len = (int64_t)b->bytes;
	for (int i = 0; i < job->n; i++)
		if (job->tensors[i].binary)
			body_add(b, job->tensors[i].t->data, (size_t)job->tensors[i].t->bytes);
	return 0;
fail:
	text_fini(t);
	return -1;
}
