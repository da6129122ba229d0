/*
 * multipart_head.c: the header fields of one part of a multipart/form-data body (RFC 7578): its name, its
 * filename, what it says about its content; and the refusal of one that is not the file it should be. Called by
 * decode_multipart.c; owns nothing.
 */
#include "codec/multipart_head.h"

#include <string.h>
#include <strings.h>

#include "codec/magic.h"
#include "text.h"

#define FIELDS_MAX 16

struct head_reader {
	struct multipart_head *h;
	int part;
	bool disposition, type, encoding, named;
	bool nested; /* its Content-Type is a multipart one */
	struct err *e;
};

static int
bad_part(const struct head_reader *r, const char *what)
{
	return err_set(r->e, ERR_MALFORMED_BODY, "the header fields of part %d of the multipart body are malformed: %s",
		       r->part, what);
}

static bool
is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool
equals(const char *p, const char *end, const char *word)
{
	size_t n = (size_t)(end - p);

	return n == strlen(word) && strncasecmp(p, word, n) == 0;
}

static const char *
skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

static bool
ends_with(const char *s, size_t n, const char *suffix)
{
	size_t m = strlen(suffix);

	return n >= m && strncasecmp(s + n - m, suffix, m) == 0;
}

/*
 * A parameter's value at p, quoted or not, into `out`, which has room for it. Of backslashes only those before a
 * quote or a backslash are escapes: browsers send others as they are. Returns where it ends, or NULL.
 */
static const char *
read_value(const char *p, const char *end, char *out, size_t *len)
{
	*len = 0;
	if (p == end || *p != '"') {
		while (p < end && is_token(*p))
			out[(*len)++] = *p++;
		return *len ? p : NULL;
	}
	for (p++; p < end && *p != '"'; p++) {
		if (*p == '\\' && end - p > 1 && (p[1] == '"' || p[1] == '\\'))
			p++;
		out[(*len)++] = *p;
	}
	return p < end ? p + 1 : NULL;
}

static int
set_parameter(struct head_reader *r, const char *key, const char *key_end, const char *value, size_t n)
{
	struct multipart_head *h = r->h;

	if (equals(key, key_end, "name")) {
		if (r->named)
			return bad_part(r, "two names");
		if (n == 0)
			return bad_part(r, "an empty name");
		if (n >= sizeof(h->name))
			return bad_part(r, "a name of more than 128 bytes");
		r->named = true;
		memcpy(h->name, value, n);
		h->name[n] = '\0';
	} else if (equals(key, key_end, "filename")) {
		if (h->has_filename)
			return bad_part(r, "two filenames");
		h->has_filename = true;
		h->npy = ends_with(value, n, ".npy");
		h->safetensors = h->safetensors || ends_with(value, n, ".safetensors");
		text_clip(h->filename, sizeof(h->filename), value, n);
	}
	return 0;
}

/* form-data; name="q"; filename="q.npy" */
static int
read_disposition(struct head_reader *r, const char *p, const char *end)
{
	const char *word = p;
	char value[8192];
	size_t n;

	if ((size_t)(end - p) > sizeof(value))
		return bad_part(r, "a Content-Disposition that is too long");
	while (p < end && is_token(*p))
		p++;
	if (!equals(word, p, "form-data"))
		return bad_part(r, "a Content-Disposition other than form-data");
	while ((p = skip_blanks(p, end)) < end) {
		if (*p != ';')
			return bad_part(r, "a ';' was expected in Content-Disposition");
		p = skip_blanks(p + 1, end);
		if (p == end)
			break;
		word = p;
		while (p < end && is_token(*p))
			p++;
		const char *word_end = p;
		if (word == word_end || p == end || *p != '=')
			return bad_part(r, "a parameter of Content-Disposition has no value");
		p = read_value(p + 1, end, value, &n);
		if (!p)
			return bad_part(
				r, "a parameter of Content-Disposition has a value without closing quote, or none");
		if (set_parameter(r, word, word_end, value, n) < 0)
			return -1;
	}
	return r->named ? 0 : bad_part(r, "Content-Disposition has no name");
}

static int
read_encoding(struct head_reader *r, const char *p, const char *end)
{
	char shown[33];

	if (equals(p, end, "binary") || equals(p, end, "8bit") || equals(p, end, "7bit"))
		return 0;
	text_clip(shown, sizeof(shown), p, (size_t)(end - p));
	return err_param(
		r->e, ERR_UNSUPPORTED_ENCODING, "Content-Transfer-Encoding", shown, "binary",
		"part %d of the multipart body has the Content-Transfer-Encoding '%s'; send it as it is (binary)",
		r->part, shown);
}

static void
read_type(struct head_reader *r, const char *p, const char *end)
{
	const char *stop = memchr(p, ';', (size_t)(end - p));

	if (!stop)
		stop = end;
	while (stop > p && (stop[-1] == ' ' || stop[-1] == '\t'))
		stop--;
	r->nested = stop - p > 10 && strncasecmp(p, "multipart/", 10) == 0;
	if (equals(p, stop, "application/x-safetensors") || equals(p, stop, "application/vnd.safetensors") ||
	    equals(p, stop, "application/safetensors"))
		r->h->safetensors = true;
}

/* What curl makes of -F 'window_size=(8,0)': for it the bracket opens parts within the part. */
static int
bad_nesting(const struct head_reader *r)
{
	char shown[65];

	text_clip(shown, sizeof(shown), r->h->name, strlen(r->h->name));
	return err_param(r->e, ERR_MALFORMED_BODY, shown, "parts within a part", "a value or a file",
			 "the part '%s' is a multipart one itself, and parts within parts are not taken; curl -F makes "
			 "them of a value that begins with '(': write -F %s=8,0 where (8,0) is meant",
			 shown, shown);
}

static int
read_field(struct head_reader *r, const char *line, const char *end)
{
	const char *p = line;

	for (const char *c = line; c < end; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
			return bad_part(r, "a control character");
	while (p < end && is_token(*p))
		p++;
	const char *name_end = p;
	if (name_end == line || p == end || *p != ':')
		return bad_part(r, "a line that is no 'name: value'");
	p = skip_blanks(p + 1, end);
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (equals(line, name_end, "Content-Disposition")) {
		if (r->disposition)
			return bad_part(r, "two Content-Dispositions");
		r->disposition = true;
		return read_disposition(r, p, end);
	}
	if (equals(line, name_end, "Content-Transfer-Encoding")) {
		if (r->encoding)
			return bad_part(r, "two Content-Transfer-Encodings");
		r->encoding = true;
		return read_encoding(r, p, end);
	}
	if (equals(line, name_end, "Content-Type")) {
		if (r->type)
			return bad_part(r, "two Content-Types");
		r->type = true;
		read_type(r, p, end);
	}
	return 0;
}

int
multipart_head_parse(struct multipart_head *h, const char *text, size_t len, int part, struct err *e)
{
	struct head_reader r = {.h = h, .part = part, .e = e};
	const char *p = text, *end = text + len;
	int fields = 0;

	memset(h, 0, sizeof(*h));
	while (p < end) {
		const char *nl = memmem(p, (size_t)(end - p), "\r\n", 2);
		if (!nl)
			return bad_part(&r, "a line does not end with CR LF");
		if (++fields > FIELDS_MAX)
			return bad_part(&r, "more than 16 fields");
		if (read_field(&r, p, nl) < 0)
			return -1;
		p = nl + 2;
	}
	if (!r.disposition)
		return bad_part(&r, "there is no Content-Disposition");
	return r.nested ? bad_nesting(&r) : 0;
}

/* What curl sends when the @ before it was forgotten. */
static bool
is_file_name(const unsigned char *p, size_t n)
{
	static const char *const ends[] = {".npy", ".npz", ".safetensors"};

	for (size_t i = 0; i < n; i++)
		if (p[i] < ' ' || p[i] == 127)
			return false;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t len = strlen(ends[i]);

		if (n > len && memcmp(p + n - len, ends[i], len) == 0)
			return true;
	}
	return false;
}

int
multipart_not_a_file(const struct multipart_head *h, const char *shown, const unsigned char *p, size_t n, struct err *e)
{
	const char *what = "neither numpy's nor safetensors' begin",
		   *good = "a .npy or .safetensors file, or a JSON object";
	enum magic magic = magic_find(p, n);
	const char *packed = magic_coding(magic);

	if (packed)
		return err_input(
			e, ERR_MALFORMED_BODY, shown, packed, good,
			"the part '%s' looks like %s: parts are not decompressed one by one; send the file as it is, "
			"or compress the whole body and say so in Content-Encoding: %s",
			shown, packed, packed);
	if (magic == MAGIC_ZIP)
		return err_input(
			e, ERR_MALFORMED_BODY, shown, "a ZIP archive", ".npy files, a part each",
			"the part '%s' looks like a ZIP archive: .npz and .pt files are not read; send each array "
			"as a .npy file (numpy.save) in a part of its own",
			shown);
	if (is_file_name(p, n)) {
		char file[65];

		text_clip(file, sizeof(file), (const char *)p, n);
		return err_input(e, ERR_MALFORMED_BODY, shown, "a file's name", good,
				 "the part '%s' holds a file's name, not the file; did you mean -F %s=@%s?", shown,
				 shown, file);
	}
	if (n == 0)
		what = "nothing: the file is empty";
	else if (h->safetensors)
		what = "a file too short for safetensors";
	return err_input(e, ERR_MALFORMED_BODY, shown, what, good,
			 "the part '%s' should be a tensor, but holds %s; send %s", shown, what, good);
}
