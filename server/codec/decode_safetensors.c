/*
 * decode_safetensors.c: the safetensors file format, read as it arrives: 8 bytes of length, a JSON header,
 * then the tensors' bytes, which go straight into their memory.
 *
 * A whole request body, or a part of a multipart one. The rules are the reference reader's: offsets begin at 0
 * and leave no holes, sizes agree with shapes, nothing is left over, no key stands twice. Owns the header's
 * bytes, whose buffer grows with what arrives, never with what is promised.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/magic.h"
#include "codec/safetensors_header.h"

/* The format allows 100 MB. Here a file has at most INTAKE_TENSORS_MAX tensors. */
#define HEADER_MAX (1u << 20)
#define HEADER_FIRST 4096

struct safetensors {
	struct decoder d;
	unsigned char prefix[8];
	size_t prefix_len;
	unsigned char *head;
	size_t head_len, head_cap, head_need; /* head_need: the length the file told */
	bool ready;			      /* the header was read */
	int n;
	int current;
	uint64_t got;					   /* bytes of the current tensor */
	uint64_t left;					   /* bytes of all tensors still to come */
	struct intake_tensor *tensors[INTAKE_TENSORS_MAX]; /* in the order of their bytes */
};

static int
bad_file(struct err *e, const char *what)
{
	return err_set(e, ERR_MALFORMED_BODY, "the safetensors file is not valid: %s", what);
}

/*
 * What was found instead of the length or the '{' behind it: another kind of file, often. Told only once it cannot be
 * safetensors any more: a header may well be as long as the first bytes of a gzip file say.
 */
static int
bad_begin(const struct safetensors *s, const char *what, struct err *e)
{
	enum magic magic = magic_find(s->prefix, sizeof(s->prefix));
	const char *coding = magic_coding(magic);

	if (coding)
		return err_param(e, ERR_MALFORMED_BODY, "Content-Encoding", "none", coding,
				 "the safetensors file is not valid: it looks like %s; say so with the field "
				 "Content-Encoding: %s",
				 coding, coding);
	if (magic == MAGIC_NPY)
		what = "it looks like a .npy file; send those as multipart/form-data, each as a part with its input's "
		       "name (curl -F x=@x.npy)";
	else if (magic == MAGIC_ZIP)
		what = "it looks like a ZIP archive; .npz and .pt files are not read: write safetensors, or send "
		       ".npy files as multipart/form-data";
	return bad_file(e, what);
}

static bool
lies_before(const struct safetensors_entry *a, const struct safetensors_entry *b)
{
	return a->begin < b->begin || (a->begin == b->begin && a->end < b->end);
}

/* Announce the tensors in the order of their bytes. */
static int
add_tensors(struct safetensors *s, const struct safetensors_header *h, struct err *e)
{
	const struct safetensors_entry *order[INTAKE_TENSORS_MAX];
	uint64_t at = 0;
	char found[64], wanted[64], shown[SAFETENSORS_SHOWN];

	/* By insertion: files have few tensors here, mostly in order. */
	for (int i = 0; i < h->n; i++) {
		int k = i;

		for (; k > 0 && lies_before(&h->entries[i], order[k - 1]); k--)
			order[k] = order[k - 1];
		order[k] = &h->entries[i];
	}
	for (int i = 0; i < h->n; i++) {
		const struct safetensors_entry *t = order[i];
		struct tensor probe;

		if (t->begin != at) {
			snprintf(found, sizeof(found), "data that begins at %llu", (unsigned long long)t->begin);
			snprintf(wanted, sizeof(wanted), "%llu: no holes, no overlaps", (unsigned long long)at);
			return safetensors_bad_entry(t, found, wanted, e);
		}
		/* Sizes are compared before any memory is borrowed. */
		if (tensor_describe(&probe, "", t->dt, t->rank, t->shape, NULL) < 0)
			return tensor_describe(&probe, safetensors_clip(t->name, shown), t->dt, t->rank, t->shape, e);
		if (probe.bytes != t->end - t->begin) {
			snprintf(found, sizeof(found), "data_offsets %llu bytes apart",
				 (unsigned long long)(t->end - t->begin));
			snprintf(wanted, sizeof(wanted), "%llu by dtype and shape", (unsigned long long)probe.bytes);
			return safetensors_bad_entry(t, found, wanted, e);
		}
		at = t->end;
	}
	for (int i = 0; i < h->n; i++) {
		const struct safetensors_entry *t = order[i];
		struct intake_tensor *it = intake_tensor(s->d.in, t->name.begin, (size_t)(t->name.end - t->name.begin),
							 t->dt, t->rank, t->shape, e);
		if (!it)
			return -1;
		it->arrived = it->t.bytes == 0;
		s->tensors[s->n++] = it;
	}
	s->left = at;
	return 0;
}

static int
use_metadata(struct intake *in, const struct safetensors_header *h, struct err *e)
{
	const struct json_span *params = &h->meta[META_PARAMS], *shuffle = &h->meta[META_SHUFFLE];
	struct json_span op = h->meta[META_OP];
	char shown[SAFETENSORS_SHOWN];

	if (h->no_object)
		return bad_file(e, "__metadata__ is not an object of strings");
	if (h->no_string.begin) {
		safetensors_clip(h->no_string, shown);
		return err_param(e, ERR_MALFORMED_BODY, shown, "a value that is no string", "a string",
				 "the safetensors file is not valid: __metadata__.%s is not a string (JSON values go "
				 "into it as text)",
				 shown);
	}
	if (params->begin && intake_json_params_text(in, params->begin, (size_t)(params->end - params->begin),
						     "__metadata__.params", e) < 0)
		return -1;
	if (shuffle->begin &&
	    intake_param(in, "shuffle", 7, shuffle->begin, (size_t)(shuffle->end - shuffle->begin), e) < 0)
		return -1;
	if (op.begin) {
		if ((size_t)(op.end - op.begin) >= sizeof(in->op_named))
			return err_param(e, ERR_MALFORMED_BODY, "op", safetensors_clip(op, shown), "an operator's name",
					 "__metadata__.op is longer than any operator's name");
		memcpy(in->op_named, op.begin, (size_t)(op.end - op.begin));
		in->op_named[op.end - op.begin] = '\0';
	}
	return 0;
}

static int
read_header(struct safetensors *s, struct err *e)
{
	struct safetensors_header h;
	size_t len = s->head_len;
	int rc = 0;

	while (len > 0 && s->head[len - 1] == ' ')
		len--;
	if (safetensors_header_read(&h, (char *)s->head, len, s->d.in->limits.json_depth, e) < 0 ||
	    add_tensors(s, &h, e) < 0 || use_metadata(s->d.in, &h, e) < 0)
		rc = -1;
	s->ready = rc == 0;
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
		return bad_begin(
			s, "its header's length (the first 8 bytes) is beyond 100 MB; is it a safetensors file?", e);
	if (n > max && magic_find(s->prefix, sizeof(s->prefix)) != MAGIC_NONE)
		return bad_begin(s, "", e);
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
		return bad_begin(s, "its header does not begin with '{'", e);
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
			size_t k = sizeof(s->prefix) - s->prefix_len;
			if (k > n)
				k = n;
			memcpy(s->prefix + s->prefix_len, p, k);
			s->prefix_len += k;
			m = s->prefix_len == sizeof(s->prefix) && read_length(s, e) < 0 ? -1 : (ptrdiff_t)k;
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
	/* not calloc, which does not take what was freed a moment ago */
	struct safetensors *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	memset(s, 0, offsetof(struct safetensors, tensors));
	s->d.ops = &safetensors_ops;
	s->d.in = in;
	return &s->d;
}
