/*
 * decode_form.c: bodies that hold no tensors but parameters: application/x-www-form-urlencoded, as `curl -d` sends it, and no
 * body at all. The inputs come by the parameter `inputs` then. Driven by the inflater; owns the text.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/json.h"

#define FORM_MAX                                                                                                       \
	((uint64_t)256 << 10) /* `inputs` alone may have 64 KiB, three times that when its quotes are escaped */

struct decoder_form {
	struct decoder d;
	struct json_gather text;
};

static int
form_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct decoder_form *f = (struct decoder_form *)d;

	if (f->text.len + n > FORM_MAX)
		return err_set(
			e, ERR_TOO_LARGE,
			"the form is longer than 262144 bytes; application/x-www-form-urlencoded is for parameters, "
			"send tensors as multipart/form-data (curl -F)");
	return json_gather_add(&f->text, d->in->mem, FORM_MAX, p, n, e);
}

static size_t
form_window(struct decoder *d, unsigned char **dst)
{
	(void)d;
	(void)dst;
	return 0;
}

static int
form_advance(struct decoder *d, size_t n, struct err *e)
{
	(void)d;
	(void)n;
	return err_set(e, ERR_INTERNAL, "a form offers no window");
}

static int
form_finish(struct decoder *d, struct err *e)
{
	struct decoder_form *f = (struct decoder_form *)d;

	if (f->text.len == 0)
		return 0;
	if (memchr(f->text.p, 0, f->text.len))
		return err_set(e, ERR_MALFORMED_BODY, "the form holds a zero byte");
	if (json_gather_add(&f->text, d->in->mem, FORM_MAX + 1, "", 1, e) < 0)
		return -1;
	return intake_query(d->in, f->text.p, e);
}

static void
form_free(struct decoder *d)
{
	json_gather_free(&((struct decoder_form *)d)->text);
	free(d);
}

static const struct decoder_ops form_ops = {
	.name = "form",
	.feed = form_feed,
	.window = form_window,
	.advance = form_advance,
	.finish = form_finish,
	.free = form_free,
};

struct decoder *
decoder_form_new(struct intake *in)
{
	struct decoder_form *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->d.ops = &form_ops;
	f->d.in = in;
	return &f->d;
}
