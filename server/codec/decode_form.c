/*
 * decode_form.c: application/x-www-form-urlencoded bodies (curl -d), which hold parameters and no tensors; and no body at all,
 * which is the shortest of them. Made by request_open.c for routes that need no tensors.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "text.h"

#define FORM_MAX (256 * 1024)

struct form {
	struct decoder d;
	struct text text;
};

/* A curl command that lacks its -F or its Content-Type: what was meant is plain from the first bytes. */
static int
no_form(const unsigned char *p, size_t n, struct err *e)
{
	static const char numpy[] = "\x93NUMPY";
	size_t at = 0;

	if (n >= sizeof(numpy) - 1 && memcmp(p, numpy, sizeof(numpy) - 1) == 0)
		return err_set(
			e, ERR_MALFORMED_BODY,
			"the body is a .npy file, sent as a form: send each as a part of its own (curl -F q=@q.npy)");
	while (at < n && (p[at] == ' ' || p[at] == '\t' || p[at] == '\r' || p[at] == '\n'))
		at++;
	if (at < n && p[at] == '{')
		return err_set(
			e, ERR_MALFORMED_BODY,
			"the body is JSON, sent as a form (so does curl -d): add -H 'Content-Type: application/json'");
	return 0;
}

static int
form_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct form *f = (struct form *)d;

	if (f->text.len == 0 && no_form(p, n, e))
		return -1;
	if (memchr(p, 0, n))
		return err_set(e, ERR_MALFORMED_BODY,
			       "the form holds a zero byte; write it as %%00. A safetensors file needs "
			       "-H 'Content-Type: application/x-safetensors'");
	text_addn(&f->text, (const char *)p, n);
	if (f->text.failed)
		return err_set(e, ERR_TOO_LARGE, "the form is longer than %d bytes", FORM_MAX);
	return 0;
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
	return err_set(e, ERR_INTERNAL, "a form has no window");
}

static int
form_finish(struct decoder *d, struct err *e)
{
	struct form *f = (struct form *)d;

	if (f->text.len > 0 && no_form((const unsigned char *)f->text.p, f->text.len, e))
		return -1;
	return intake_query(d->in, f->text.p, e);
}

static void
form_free(struct decoder *d)
{
	struct form *f = (struct form *)d;

	text_fini(&f->text);
	free(f);
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
	struct form *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->d.ops = &form_ops;
	f->d.in = in;
	text_init(&f->text, FORM_MAX);
	return &f->d;
}
