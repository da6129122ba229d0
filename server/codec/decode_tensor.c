/*
 * decode_tensor.c: a body that is one tensor: a .npy file, a safetensors file, or JSON as it stands for an input. Which
 * of them, its first bytes tell where the Content-Type does not. Driven by the inflater; owns the decoder of that form.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/magic.h"
#include "codec/multipart_json.h"

#define HEAD 8 /* bytes that tell */
/* What safetensors files' headers are shorter than; as text, 8 bytes are a far larger number. */
#define SAFETENSORS_HEADER_MAX ((uint64_t)1 << 32)

struct decoder_tensor {
	struct decoder d;
	enum tensor_form form;
	unsigned char head[HEAD];
	size_t head_len;
	struct decoder *file; /* npy or safetensors */
	struct multipart_jsons json;
};

/* Once it is a file, there is no work left for the end. */
static const struct decoder_ops file_ops;

static enum tensor_form
form_of(const unsigned char *p, size_t n)
{
	uint64_t length = 0;

	for (size_t i = n; i-- > 0;)
		length = length << 8 | p[i];
	if (n == HEAD && length < SAFETENSORS_HEADER_MAX)
		return TENSOR_SAFETENSORS;
	if (magic_find(p, n) == MAGIC_NPY)
		return TENSOR_NPY;
	for (size_t i = 0; i < n; i++)
		if (!memchr(" \t\r\n", p[i], 4))
			return p[i] == '{' ? TENSOR_JSON : TENSOR_SAFETENSORS;
	return n == HEAD ? TENSOR_JSON : TENSOR_SAFETENSORS; /* eight blanks; next to nothing */
}

static int
begin(struct decoder_tensor *f, struct err *e)
{
	if (f->form == TENSOR_ANY)
		f->form = form_of(f->head, f->head_len);
	if (f->form == TENSOR_JSON)
		return multipart_json_begin(&f->json, f->d.in, TENSOR_BODY_NAME, e);
	f->d.ops = &file_ops;
	f->file = f->form == TENSOR_NPY ? decoder_npy_new(f->d.in, TENSOR_BODY_NAME) : decoder_safetensors_new(f->d.in);
	return f->file ? 0 : err_set(e, ERR_OUT_OF_MEMORY, "no memory to read a tensor");
}

static int
pass(struct decoder_tensor *f, const unsigned char *p, size_t n, struct err *e)
{
	return f->file ? f->file->ops->feed(f->file, p, n, e) : multipart_json_add(&f->json, p, n, e);
}

/* The first bytes are there, or all there are. */
static int
begin_with_head(struct decoder_tensor *f, struct err *e)
{
	return begin(f, e) < 0 ? -1 : pass(f, f->head, f->head_len, e);
}

static int
tensor_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct decoder_tensor *f = (struct decoder_tensor *)d;

	while (n > 0 && f->head_len < HEAD) {
		f->head[f->head_len++] = *p++;
		n--;
		if (f->head_len == HEAD && begin_with_head(f, e) < 0)
			return -1;
	}
	return n > 0 ? pass(f, p, n, e) : 0;
}

static size_t
tensor_window(struct decoder *d, unsigned char **dst)
{
	struct decoder_tensor *f = (struct decoder_tensor *)d;

	return f->file ? f->file->ops->window(f->file, dst) : 0;
}

static int
tensor_advance(struct decoder *d, size_t n, struct err *e)
{
	struct decoder_tensor *f = (struct decoder_tensor *)d;

	return f->file->ops->advance(f->file, n, e);
}

static int
tensor_finish(struct decoder *d, struct err *e)
{
	struct decoder_tensor *f = (struct decoder_tensor *)d;

	if (f->head_len == 0)
		return err_set(
			e, ERR_MALFORMED_BODY,
			"the body is empty; a tensor is wanted: .npy, safetensors or JSON with dtype, shape and data");
	if (f->head_len < HEAD && begin_with_head(f, e) < 0)
		return -1;
	if (f->file)
		return f->file->ops->finish(f->file, e);
	return multipart_json_end(&f->json, e) < 0 ? -1 : multipart_json_finish(&f->json, e);
}

static uint64_t
tensor_pending(const struct decoder *d)
{
	const struct decoder_tensor *f = (const struct decoder_tensor *)d;

	return multipart_json_pending(&f->json);
}

static void
tensor_free(struct decoder *d)
{
	struct decoder_tensor *f = (struct decoder_tensor *)d;

	decoder_free(&f->file);
	multipart_json_free(&f->json);
	free(f);
}

static const struct decoder_ops tensor_ops = {
	.name = "tensor",
	.feed = tensor_feed,
	.window = tensor_window,
	.advance = tensor_advance,
	.finish = tensor_finish,
	.pending = tensor_pending,
	.free = tensor_free,
};

static const struct decoder_ops file_ops = {
	.name = "tensor file",
	.feed = tensor_feed,
	.window = tensor_window,
	.advance = tensor_advance,
	.finish = tensor_finish,
	.free = tensor_free,
};

struct decoder *
decoder_tensor_new(struct intake *in, enum tensor_form form)
{
	struct decoder_tensor *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->d.ops = form == TENSOR_NPY || form == TENSOR_SAFETENSORS ? &file_ops : &tensor_ops;
	f->d.in = in;
	f->form = form;
	return &f->d;
}
