/*
 * decode_multipart.c: multipart/form-data (RFC 7578, RFC 2046) as it arrives: what `curl -F` and browsers send.
 *
 * A part is a .npy file (an input, told by its magic), a .safetensors file (several inputs), an input as a JSON
 * object, or else a parameter as text. Files tell their own length, so their bytes go straight into the
 * tensors. A file that is shorter than it says takes what follows for its data; to search all data for the boundary would
 * cost a fifth of the whole decoding, so only the last part of a file is (LAST_SEARCHED), and all of it when no
 * boundary follows where it should. All else is small and is searched in a buffer. multipart_head.c reads the parts'
 * header fields, multipart_json.c inputs as JSON. Owns that buffer and the decoders of the parts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/magic.h"
#include "codec/multipart_head.h"
#include "codec/multipart_json.h"
#include "codec/multipart_scan.h"
#include "text.h"

#define PARTS_MAX 64
#define HEADERS_MAX 8192
#define VALUE_MAX 65536	  /* a parameter's text */
#define IGNORED_MAX 65536 /* preamble, epilogue */
#define PADDING_MAX 64	  /* blanks after a boundary */
#define SNIFF MAGIC_LOOK  /* bytes of content that tell what a part is */
/*
 * Of a file's data, so many bytes before its end are searched for the boundary. A file cut by just the length of the parts
 * behind it would else hide them unseen: parameters, which are shorter than this. An input hidden so is missing.
 */
#define LAST_SEARCHED (2 * VALUE_MAX)
#define CHUNK 4096 /* bytes added to the buffer between two searches */
#define CRLF 2	   /* see begin_search */

enum state {
	IN_PREAMBLE,
	AFTER_DELIMITER, /* "--" or the end of the line comes */
	IN_HEADERS,
	IN_CONTENT, /* not known yet what it is */
	IN_TEXT,    /* a parameter */
	IN_JSON,    /* an input as JSON */
	IN_FILE,    /* npy or safetensors */
	AFTER_FILE, /* the delimiter must follow */
	IN_EPILOGUE,
};

struct multipart {
	struct decoder d;
	enum state state;
	struct delimiter delimiter;
	unsigned char *buf;
	size_t len, cap;
	size_t start, searched; /* of buf: where content begins, what cannot hold the delimiter's begin any more */
	size_t ignored;
	int parts;
	struct multipart_head head; /* of the current part */
	char shown[65];		    /* its name for messages */
	struct decoder *file;	    /* IN_FILE: the part's decoder */
	int first;		    /* the intake's tensors from here on are the file's */
	struct multipart_jsons jsons;
};

static int
bad_body(struct err *e, const char *what)
{
	return err_set(e, ERR_MALFORMED_BODY, "the multipart body is malformed: %s", what);
}

static int
no_memory(struct err *e)
{
	return err_set(e, ERR_OUT_OF_MEMORY, "no memory to read the multipart body");
}

static int
append(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	if (n > m->cap - m->len) {
		size_t cap = m->cap ? m->cap : CHUNK;
		while (cap < m->len + n)
			cap *= 2;
		unsigned char *grown = realloc(m->buf, cap);
		if (!grown)
			return no_memory(e);
		m->buf = grown;
		m->cap = cap;
	}
	memcpy(m->buf + m->len, p, n);
	m->len += n;
	return 0;
}

/*
 * Before the search for a delimiter begins, a line end is put into the buffer that was already consumed with what
 * came before, so that a boundary right at the begin (of the body, of an empty part) is found like any other.
 */
static int
begin_search(struct multipart *m, enum state state, struct err *e)
{
	m->state = state;
	m->len = 0;
	m->start = CRLF;
	m->searched = 0;
	return append(m, (const unsigned char *)"\r\n", CRLF, e);
}

/*
 * Add up to n bytes of content and look for the delimiter. *used tells how many bytes were taken, none behind
 * the delimiter; *found where it begins in the buffer, or -1.
 */
static int
search(struct multipart *m, const unsigned char *p, size_t n, size_t *used, ptrdiff_t *found, struct err *e)
{
	if (append(m, p, n, e) < 0)
		return -1;
	*used = n;
	*found = -1;
	unsigned char *hit = memmem(m->buf + m->searched, m->len - m->searched, m->delimiter.text, m->delimiter.len);
	if (hit) {
		*found = hit - m->buf;
		*used -= m->len - ((size_t)*found + m->delimiter.len);
	} else if (m->len >= m->delimiter.len) {
		m->searched = m->len - (m->delimiter.len - 1);
	}
	return 0;
}

static void
end_part(struct multipart *m)
{
	m->state = AFTER_DELIMITER;
	m->len = 0;
}

static int
begin_json(struct multipart *m, struct err *e)
{
	m->state = IN_JSON;
	return multipart_json_begin(&m->jsons, m->d.in, m->head.name, e);
}

static int
end_json(struct multipart *m, struct err *e)
{
	end_part(m);
	return multipart_json_end(&m->jsons, e);
}

/* ---- what a part is ---- */

static bool
must_be_file(const struct multipart *m)
{
	return m->head.safetensors || m->head.npy || intake_is_input(m->d.in, m->head.name, strlen(m->head.name));
}

/* The whole content of a part that is no file is in the buffer. */
static int
end_text(struct multipart *m, size_t end, struct err *e)
{
	const unsigned char *p = m->buf + m->start;
	size_t n = end > m->start ? end - m->start : 0;
	char where[80];

	/* What browsers send for a file field that was left empty. */
	if (n == 0 && m->head.has_filename && !m->head.filename[0]) {
		end_part(m);
		return 0;
	}
	if (must_be_file(m)) {
		if (m->head.safetensors || m->head.npy || !looks_like_json(p, n))
			return multipart_not_a_file(&m->head, m->shown, p, n, e);
		return begin_json(m, e) < 0 || multipart_json_add(&m->jsons, p, n, e) < 0 ? -1 : end_json(m, e);
	}
	if (n == 0 && m->head.has_filename)
		return multipart_not_a_file(&m->head, m->shown, p, n, e);
	if (strcmp(m->head.name, "params") == 0) {
		snprintf(where, sizeof(where), "the part 'params'");
		if (intake_json_params_text(m->d.in, (const char *)p, n, where, e) < 0)
			return -1;
	} else {
		while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r'))
			n--;
		if (intake_param(m->d.in, m->head.name, strlen(m->head.name), (const char *)p, n, e) < 0)
			return -1;
	}
	end_part(m);
	return 0;
}

static int
end_file(struct multipart *m, struct err *e)
{
	if (m->file->ops->want(m->file) > 0)
		return 0;
	if (m->file->ops->finish(m->file, e) < 0)
		return -1;
	decoder_free(&m->file);
	m->state = AFTER_FILE;
	m->len = 0;
	return 0;
}

/* The file ends `left` bytes before its last tensor's end. */
static int
cut_short(const struct multipart *m, uint64_t left, struct err *e)
{
	const struct intake *in = m->d.in;
	const struct intake_tensor *it = NULL;
	char found[40], wanted[40];
	uint64_t have = 0, all = 0;

	for (int i = m->first; i < in->n_tensors; i++)
		all += in->tensors[i].t.bytes;
	if (all == 0 || left > all)
		return err_input(e, ERR_MALFORMED_BODY, m->shown, "a part of its header", "all of the file",
				 "the file in the part '%s' is cut short: it ends within its header", m->shown);
	have = all - left;
	for (int i = m->first; i < in->n_tensors; i++) {
		it = &in->tensors[i];
		if (have < it->t.bytes)
			break;
		have -= it->t.bytes;
	}
	snprintf(found, sizeof(found), "%" PRIu64 " bytes of data", have);
	snprintf(wanted, sizeof(wanted), "%" PRIu64 " bytes of data", it->t.bytes);
	return err_input(e, ERR_MALFORMED_BODY, it->name, found, wanted,
			 "the file in the part '%s' is cut short: it has %s for '%s', its header tells of %s", m->shown,
			 found, it->name, wanted);
}

/* Something is wrong with the file, of which `want` bytes have not come: is there a boundary in what has? */
static int
look_back(struct multipart *m, uint64_t want, struct err *e)
{
	const struct intake *in = m->d.in;
	bool alone = in->n_tensors == m->first + 1;
	uint64_t before = 0, all = 0;
	ptrdiff_t at;

	for (int i = m->first; i < in->n_tensors; i++)
		all += in->tensors[i].t.bytes;
	for (int i = m->first; i < in->n_tensors; before += in->tensors[i++].t.bytes) {
		const struct intake_tensor *it = &in->tensors[i];

		if (!it->arrived && (!alone || want > all))
			continue;
		m->delimiter.tail_len = 0;
		if (delimiter_scan(&m->delimiter, it->t.data, (size_t)(it->arrived ? it->t.bytes : all - want), &at))
			return cut_short(m, all - before - (uint64_t)at, e);
	}
	return 0;
}

/* Look for the delimiter in the next n bytes of the file, which wanted `want` before them, as far as they are its last. */
static int
check_data(struct multipart *m, const unsigned char *p, size_t n, uint64_t want, struct err *e)
{
	uint64_t early = want > LAST_SEARCHED ? want - LAST_SEARCHED : 0;
	size_t skip = early < n ? (size_t)early : n;
	ptrdiff_t at, first;

	if (!delimiter_scan(&m->delimiter, p + skip, n - skip, &at))
		return 0;
	/* It may be the second one. */
	if (look_back(m, want, e) < 0)
		return -1;
	at += (ptrdiff_t)skip;
	m->delimiter.tail_len = 0;
	if (delimiter_scan(&m->delimiter, p, n, &first) && first < at)
		at = first;
	return cut_short(m, want - (uint64_t)at, e);
}

/* Give the file up to n bytes, as many as it wants. Returns how many, or -1. */
static ptrdiff_t
add_file(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	uint64_t want = m->file->ops->want(m->file);

	if (n > want)
		n = (size_t)want;
	if (check_data(m, p, n, want, e) < 0 || m->file->ops->feed(m->file, p, n, e) < 0 || end_file(m, e) < 0)
		return -1;
	return (ptrdiff_t)n;
}

/* SNIFF bytes of content are in the buffer. */
static int
decide(struct multipart *m, struct err *e)
{
	const unsigned char *p = m->buf + m->start;

	m->first = m->d.in->n_tensors;
	enum magic magic = magic_find(p, SNIFF);
	if (magic == MAGIC_NPY) {
		m->file = decoder_npy_new(m->d.in, m->head.name);
	} else if (looks_like_safetensors(p, SNIFF) || (m->head.safetensors && magic == MAGIC_NONE)) {
		m->file = decoder_safetensors_new(m->d.in);
	} else if (!must_be_file(m)) {
		m->state = IN_TEXT;
		return 0;
	} else if (looks_like_text(p, SNIFF) && !looks_like_json(p, SNIFF)) {
		m->state = IN_TEXT; /* a file's name, perhaps: all of it is for the message */
		return 0;
	} else if (m->head.npy || !looks_like_json(p, SNIFF)) {
		return multipart_not_a_file(&m->head, m->shown, p, SNIFF, e);
	} else {
		return begin_json(m, e);
	}
	if (!m->file)
		return no_memory(e);
	m->state = IN_FILE;
	m->delimiter.tail_len = 0;
	for (size_t n = SNIFF; n > 0;) {
		if (m->state != IN_FILE)
			return bad_body(e, "a file is shorter than its own header");
		ptrdiff_t used = add_file(m, p, n, e);
		if (used < 0)
			return -1;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}

/* ---- the states: each takes some of the n bytes and returns how many, or -1 ---- */

static ptrdiff_t
in_preamble(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	size_t used;
	ptrdiff_t found;

	if (search(m, p, n < CHUNK ? n : CHUNK, &used, &found, e) < 0)
		return -1;
	if (found >= 0)
		end_part(m);
	else if (m->len > IGNORED_MAX)
		return bad_body(e, "its first 65536 bytes hold no boundary");
	return (ptrdiff_t)used;
}

static ptrdiff_t
after_delimiter(struct multipart *m, const unsigned char *p, struct err *e)
{
	if (append(m, p, 1, e) < 0)
		return -1;
	if (m->len == 2 && memcmp(m->buf, "--", 2) == 0) {
		m->state = IN_EPILOGUE;
		m->ignored = 0;
	} else if (m->len >= 2 && memcmp(m->buf + m->len - 2, "\r\n", 2) == 0) {
		if (m->parts == PARTS_MAX)
			return bad_body(e, "it has more than 64 parts");
		m->parts++;
		m->state = IN_HEADERS;
		m->len = 0;
	} else if (m->len > PADDING_MAX || !memchr(" \t\r-", *p, 4) || (*p == '-' && m->len > 1) ||
		   (m->len > 1 && m->buf[m->len - 2] == '\r') || (m->len > 1 && m->buf[0] == '-')) {
		return bad_body(e, "a boundary is followed by something else than the end of the line");
	}
	return 1;
}

static ptrdiff_t
in_headers(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	const unsigned char *nl = memchr(p, '\n', n);

	if (nl)
		n = (size_t)(nl - p) + 1;
	if (n > HEADERS_MAX - m->len)
		return bad_body(e, "a part's header fields are longer than 8192 bytes");
	if (append(m, p, n, e) < 0)
		return -1;
	bool blank = m->len == 2 && memcmp(m->buf, "\r\n", 2) == 0;
	if (blank || (m->len >= 4 && memcmp(m->buf + m->len - 4, "\r\n\r\n", 4) == 0)) {
		if (multipart_head_parse(&m->head, (const char *)m->buf, m->len - 2, m->parts, e) < 0)
			return -1;
		text_clip(m->shown, sizeof(m->shown), m->head.name, strlen(m->head.name));
		if (begin_search(m, IN_CONTENT, e) < 0)
			return -1;
	}
	return (ptrdiff_t)n;
}

static ptrdiff_t
in_content(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	size_t room = m->start + SNIFF - m->len, used;
	ptrdiff_t found;

	if (search(m, p, n < room ? n : room, &used, &found, e) < 0)
		return -1;
	if (found >= 0 ? end_text(m, (size_t)found, e) < 0 : m->len == m->start + SNIFF && decide(m, e) < 0)
		return -1;
	return (ptrdiff_t)used;
}

static ptrdiff_t
in_text(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	size_t used;
	ptrdiff_t found;

	if (search(m, p, n < CHUNK ? n : CHUNK, &used, &found, e) < 0)
		return -1;
	if ((found >= 0 ? (size_t)found : m->searched) > m->start + VALUE_MAX && must_be_file(m))
		return multipart_not_a_file(&m->head, m->shown, m->buf + m->start, VALUE_MAX, e);
	if ((found >= 0 ? (size_t)found : m->searched) > m->start + VALUE_MAX)
		return err_param(e, ERR_INVALID_PARAMETER, m->shown, "a longer text", "at most 65536 bytes",
				 "the part '%s' is neither .npy nor .safetensors, and too long for a parameter",
				 m->shown);
	if (found >= 0 && end_text(m, (size_t)found, e) < 0)
		return -1;
	return (ptrdiff_t)used;
}

static ptrdiff_t
in_json(struct multipart *m, const unsigned char *p, size_t n, struct err *e)
{
	size_t used;
	ptrdiff_t found;

	if (search(m, p, n < VALUE_MAX ? n : VALUE_MAX, &used, &found, e) < 0)
		return -1;
	size_t end = found >= 0 ? (size_t)found : m->searched;
	if (end > m->start && multipart_json_add(&m->jsons, m->buf + m->start, end - m->start, e) < 0)
		return -1;
	if (found >= 0)
		return end_json(m, e) < 0 ? -1 : (ptrdiff_t)used;
	if (end > m->start) {
		memmove(m->buf, m->buf + end, m->len - end);
		m->len -= end;
		m->start = m->searched = 0;
	}
	return (ptrdiff_t)used;
}

static ptrdiff_t
after_file(struct multipart *m, const unsigned char *p, struct err *e)
{
	if (*p != (unsigned char)m->delimiter.text[m->len]) {
		size_t taken = m->len == 0 ? delimiter_begun(&m->delimiter, *p) : 0;
		if (taken > 0)
			return cut_short(m, taken, e);
		if (look_back(m, 0, e) < 0)
			return -1;
		return err_input(e, ERR_MALFORMED_BODY, m->shown, "no boundary behind the data", "the boundary",
				 "the file in the part '%s' goes on after the data its header tells of", m->shown);
	}
	if (++m->len == m->delimiter.len)
		end_part(m);
	return 1;
}

static int
multipart_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct multipart *m = (struct multipart *)d;

	while (n > 0) {
		ptrdiff_t used = -1;
		switch (m->state) {
		case IN_PREAMBLE:
			used = in_preamble(m, p, n, e);
			break;
		case AFTER_DELIMITER:
			used = after_delimiter(m, p, e);
			break;
		case IN_HEADERS:
			used = in_headers(m, p, n, e);
			break;
		case IN_CONTENT:
			used = in_content(m, p, n, e);
			break;
		case IN_TEXT:
			used = in_text(m, p, n, e);
			break;
		case IN_JSON:
			used = in_json(m, p, n, e);
			break;
		case IN_FILE:
			used = add_file(m, p, n, e);
			break;
		case AFTER_FILE:
			used = after_file(m, p, e);
			break;
		case IN_EPILOGUE:
			m->ignored += n;
			if (m->ignored > IGNORED_MAX)
				return bad_body(e, "more than 65536 bytes follow the last boundary");
			return 0;
		}
		if (used < 0)
			return -1;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}

static size_t
multipart_window(struct decoder *d, unsigned char **dst)
{
	struct multipart *m = (struct multipart *)d;

	return m->state == IN_FILE ? m->file->ops->window(m->file, dst) : 0;
}

static int
multipart_advance(struct decoder *d, size_t n, struct err *e)
{
	struct multipart *m = (struct multipart *)d;
	unsigned char *placed;

	m->file->ops->window(m->file, &placed);
	if (check_data(m, placed, n, m->file->ops->want(m->file), e) < 0)
		return -1;
	return m->file->ops->advance(m->file, n, e) < 0 ? -1 : end_file(m, e);
}

static int
multipart_finish(struct decoder *d, struct err *e)
{
	struct multipart *m = (struct multipart *)d;

	if (m->state == IN_FILE)
		return look_back(m, m->file->ops->want(m->file), e) < 0 ? -1 : m->file->ops->finish(m->file, e);
	if (m->state == IN_PREAMBLE)
		return bad_body(e, "it does not hold the boundary that its Content-Type names (lines end with CR LF)");
	if (m->state != IN_EPILOGUE)
		return bad_body(e, "it ends without its last boundary");
	return multipart_json_finish(&m->jsons, e);
}

static uint64_t
multipart_pending(const struct decoder *d)
{
	return multipart_json_pending(&((const struct multipart *)d)->jsons);
}

static void
multipart_free(struct decoder *d)
{
	struct multipart *m = (struct multipart *)d;

	decoder_free(&m->file);
	multipart_json_free(&m->jsons);
	free(m->buf);
	free(m);
}

static const struct decoder_ops multipart_ops = {
	.name = "multipart",
	.feed = multipart_feed,
	.window = multipart_window,
	.advance = multipart_advance,
	.finish = multipart_finish,
	.pending = multipart_pending,
	.free = multipart_free,
};

struct decoder *
decoder_multipart_new(struct intake *in, const char *boundary, size_t len)
{
	struct multipart *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->d.ops = &multipart_ops;
	m->d.in = in;
	delimiter_init(&m->delimiter, boundary, len);
	if (begin_search(m, IN_PREAMBLE, NULL) < 0) {
		multipart_free(&m->d);
		return NULL;
	}
	return &m->d;
}

void
decoder_free(struct decoder **d)
{
	if (*d)
		(*d)->ops->free(*d);
	*d = NULL;
}
