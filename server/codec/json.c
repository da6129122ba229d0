/*
 * json.c: JSON texts into cJSON trees, with tensor data left out (json.h). Used by every decoder that reads JSON.
 *
 * cJSON itself takes more than JSON (control characters in strings, leading zeros, text after the end, NULs) and
 * says little about errors, so a strict check of the grammar goes before it. The caller owns texts and trees.
 */
#include "codec/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* cJSON's own limits: a number's text, and recursion. */
#define NUMBER_TEXT_MAX 63
#define DEPTH_MAX 512

/* Where in the text a value stands, as far as cutting is concerned. */
enum place { PLACE_ROOT, PLACE_INPUTS, PLACE_INPUT, PLACE_OTHER };

struct scan {
	const char *begin, *p, *end;
	unsigned max_depth;
	struct json_cut *cut; /* NULL: nothing is cut */
	struct err *e;
};

static int
malformed(const struct scan *s, const char *what)
{
	return err_set(s->e, ERR_MALFORMED_BODY, "the JSON text is malformed at byte %zu: %s",
		       (size_t)(s->p - s->begin), what);
}

static int
too_deep(const struct scan *s)
{
	return err_set(s->e, ERR_MALFORMED_BODY, "the JSON text is nested deeper than %u levels at byte %zu",
		       s->max_depth, (size_t)(s->p - s->begin));
}

static void
skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Four hexadecimal digits at p, or -1. */
static int
hex4(const char *p, const char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d;

		if (is_digit(c))
			d = c - '0';
		else if (c >= 'a' && c <= 'f')
			d = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			d = c - 'A' + 10;
		else
			return -1;
		v = v * 16 + d;
	}
	return v;
}

/* Bytes of the well-formed UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), or 0. */
static size_t
utf8_len(const char *text, const char *end)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t left = (size_t)(end - text), n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static int
check_escape(struct scan *s)
{
	int v;

	if (s->end - s->p < 2)
		return malformed(s, "the text ends inside a string");
	if (s->p[1] != 'u') {
		if (s->p[1] == '\0' || !strchr("\"\\/bfnrt", s->p[1]))
			return malformed(s, "an unknown escape in a string");
		s->p += 2;
		return 0;
	}
	v = hex4(s->p + 2, s->end);
	if (v < 0)
		return malformed(s, "\\u without four hexadecimal digits");
	if (v == 0)
		return malformed(s, "a NUL character in a string");
	if (v >= 0xdc00 && v <= 0xdfff)
		return malformed(s, "half a surrogate pair");
	if (v >= 0xd800 && v <= 0xdbff) {
		int low = s->end - s->p >= 12 && s->p[6] == '\\' && s->p[7] == 'u' ? hex4(s->p + 8, s->end) : -1;

		if (low < 0xdc00 || low > 0xdfff)
			return malformed(s, "half a surrogate pair");
		s->p += 6;
	}
	s->p += 6;
	return 0;
}

static int
check_string(struct scan *s)
{
	s->p++;
	while (s->p < s->end) {
		unsigned char c = (unsigned char)*s->p;
		size_t n;

		if (c == '"') {
			s->p++;
			return 0;
		}
		if (c == '\\') {
			if (check_escape(s) < 0)
				return -1;
			continue;
		}
		if (c < 0x20)
			return malformed(s, "a control character in a string");
		n = utf8_len(s->p, s->end);
		if (n == 0)
			return malformed(s, "a string that is not UTF-8");
		s->p += n;
	}
	return malformed(s, "the text ends inside a string");
}

static int
check_number(struct scan *s)
{
	const char *begin = s->p;

	if (*s->p == '-')
		s->p++;
	if (s->p == s->end || !is_digit(*s->p))
		return malformed(s, "a number without digits");
	if (*s->p == '0' && s->end - s->p > 1 && is_digit(s->p[1]))
		return malformed(s, "a number that begins with 0");
	while (s->p < s->end && is_digit(*s->p))
		s->p++;
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (s->p == s->end || !is_digit(*s->p))
			return malformed(s, "no digit after the decimal point");
		while (s->p < s->end && is_digit(*s->p))
			s->p++;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (s->p == s->end || !is_digit(*s->p))
			return malformed(s, "no digit in the exponent");
		while (s->p < s->end && is_digit(*s->p))
			s->p++;
	}
	if (s->p - begin > NUMBER_TEXT_MAX) {
		s->p = begin;
		return malformed(s, "a number of more than 63 characters");
	}
	return 0;
}

static int
check_word(struct scan *s)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
			s->p += n;
			return 0;
		}
	}
	return malformed(s, "no JSON value begins like this");
}

/* Past the string at s->p, looking for its end only. */
static int
skip_string(struct scan *s)
{
	const char *p = s->p + 1;

	while (p < s->end) {
		const char *quote = memchr(p, '"', (size_t)(s->end - p));
		const char *slash;

		if (!quote)
			break;
		slash = memchr(p, '\\', (size_t)(quote - p));
		if (!slash) {
			s->p = quote + 1;
			return 0;
		}
		p = slash + 2;
	}
	return malformed(s, "the text ends inside a string");
}

/* How many of the bytes at p surely hold no bracket or quote; blocks, so that the compiler vectorises it. */
static size_t
plain_run(const char *p, const char *end)
{
	const char *begin = p;

	while (end - p >= 64) {
		unsigned char any = 0;

		for (int i = 0; i < 64; i++)
			any |= (unsigned char)((p[i] == '[') | (p[i] == ']') | (p[i] == '"'));
		if (any)
			break;
		p += 64;
	}
	return (size_t)(p - begin);
}

/* Past the value at s->p, which is cut out: whoever reads it checks what is in it. */
static int
skip_value(struct scan *s, unsigned depth)
{
	unsigned level = depth;

	if (*s->p == '"')
		return skip_string(s);
	if (*s->p == '{')
		return malformed(s, "tensor data is a list or a string, not an object");
	if (*s->p != '[')
		return *s->p == '-' || is_digit(*s->p) ? check_number(s) : check_word(s);
	while (s->p < s->end) {
		switch (*s->p) {
		case '[':
			if (++level > s->max_depth)
				return too_deep(s);
			s->p++;
			break;
		case ']':
			s->p++;
			if (--level == depth)
				return 0;
			break;
		case '"':
			if (skip_string(s) < 0)
				return -1;
			break;
		default:
			s->p++;
			s->p += plain_run(s->p, s->end);
		}
	}
	return malformed(s, "the text ends inside a list");
}

static bool
key_is(const struct json_span *key, const char *name)
{
	size_t n = (size_t)(key->end - key->begin);

	return name && n == strlen(name) && memcmp(key->begin, name, n) == 0;
}

static int check_value(struct scan *s, unsigned depth, enum place place);

static int
check_member(struct scan *s, unsigned depth, enum place place)
{
	struct json_span key;
	const char *value;
	enum place inner = PLACE_OTHER;

	skip_space(s);
	if (s->p == s->end || *s->p != '"')
		return malformed(s, "a member's name in quotes was expected");
	key.begin = s->p + 1;
	if (check_string(s) < 0)
		return -1;
	key.end = s->p - 1;
	skip_space(s);
	if (s->p == s->end || *s->p != ':')
		return malformed(s, "a colon was expected after a member's name");
	s->p++;
	skip_space(s);
	value = s->p;
	if (s->cut && place == PLACE_INPUT && value < s->end &&
	    (key_is(&key, s->cut->member1) || key_is(&key, s->cut->member2))) {
		if (s->cut->n_spans == JSON_SPANS_MAX)
			return malformed(s, "there are too many inputs");
		if (skip_value(s, depth) < 0)
			return -1;
		s->cut->spans[s->cut->n_spans++] = (struct json_span){value, s->p};
		return 0;
	}
	if (place == PLACE_ROOT && key_is(&key, "inputs"))
		inner = PLACE_INPUTS;
	else if (place == PLACE_INPUTS)
		inner = PLACE_INPUT;
	if (check_value(s, depth, inner) < 0)
		return -1;
	if (s->cut && place == PLACE_ROOT && key_is(&key, s->cut->keep))
		s->cut->kept = (struct json_span){value, s->p};
	return 0;
}

/* depth: how many lists and objects are open around the value. */
static int
check_value(struct scan *s, unsigned depth, enum place place)
{
	char close;

	skip_space(s);
	if (s->p == s->end)
		return malformed(s, "the text ends where a value was expected");
	if (*s->p == '"')
		return check_string(s);
	if (*s->p == '-' || is_digit(*s->p))
		return check_number(s);
	if (*s->p != '{' && *s->p != '[')
		return check_word(s);
	if (depth >= s->max_depth)
		return too_deep(s);
	close = *s->p == '{' ? '}' : ']';
	s->p++;
	skip_space(s);
	if (s->p < s->end && *s->p == close) {
		s->p++;
		return 0;
	}
	for (;;) {
		if (close == '}') {
			if (check_member(s, depth + 1, place) < 0)
				return -1;
		} else if (check_value(s, depth + 1, place == PLACE_INPUTS ? PLACE_INPUT : PLACE_OTHER) < 0) {
			return -1;
		}
		skip_space(s);
		if (s->p == s->end)
			return malformed(s, close == '}' ? "the text ends inside an object"
							 : "the text ends inside a list");
		if (*s->p == close) {
			s->p++;
			return 0;
		}
		if (*s->p != ',')
			return malformed(s, close == '}' ? "a comma or } was expected" : "a comma or ] was expected");
		s->p++;
	}
}

static int
check_text(struct scan *s)
{
	if (s->max_depth > DEPTH_MAX)
		s->max_depth = DEPTH_MAX;
	/* A byte order mark is not JSON, but some programs write it. */
	if (s->end - s->p >= 3 && memcmp(s->p, "\xef\xbb\xbf", 3) == 0)
		s->p += 3;
	if (check_value(s, 0, PLACE_ROOT) < 0)
		return -1;
	skip_space(s);
	if (s->p != s->end)
		return malformed(s, "something follows the end of the JSON value");
	return 0;
}

/* Give the number items, in document order, the number texts as they stand; NULL when out of memory. Strings are the
 * only other things in a checked text that may hold digits. */
static const char *
keep_numbers(cJSON *item, const char *p, const char *end)
{
	cJSON *child;

	if (cJSON_IsNumber(item)) {
		const char *begin;
		size_t n;

		while (p < end && *p != '-' && !is_digit(*p)) {
			struct scan s = {.begin = p, .p = p, .end = end};

			if (*p != '"')
				p++;
			else if (skip_string(&s) < 0)
				return NULL;
			else
				p = s.p;
		}
		begin = p;
		while (p < end && (is_digit(*p) || *p == '-' || *p == '+' || *p == '.' || *p == 'e' || *p == 'E'))
			p++;
		n = (size_t)(p - begin);
		item->valuestring = cJSON_malloc(n + 1);
		if (!item->valuestring)
			return NULL;
		memcpy(item->valuestring, begin, n);
		item->valuestring[n] = '\0';
	}
	cJSON_ArrayForEach(child, item)
	{
		p = keep_numbers(child, p, end);
		if (!p)
			return NULL;
	}
	return p;
}

static int
name_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int
duplicate(const char *name, struct err *e)
{
	char clip[48];

	text_clip(clip, sizeof(clip), name, strlen(name));
	return err_param(e, ERR_MALFORMED_BODY, clip, "the same name twice", "each name once",
			 "the JSON text has two members called \"%s\" in one object", clip);
}

/* Sorting, because comparing each with each would let a small text take minutes. */
static int
check_names(const cJSON *object, struct err *e)
{
	const cJSON *child;
	const char **names;
	size_t n = 0, i = 0;
	int rc = 0;

	cJSON_ArrayForEach(child, object) n++;
	if (n < 2)
		return 0;
	names = calloc(n, sizeof(*names));
	if (!names)
		return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read the JSON text");
	cJSON_ArrayForEach(child, object) names[i++] = child->string;
	qsort(names, n, sizeof(*names), name_order);
	for (i = 1; i < n && rc == 0; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			rc = duplicate(names[i], e);
	free(names);
	return rc;
}

static int
check_duplicates(const cJSON *item, struct err *e)
{
	const cJSON *child;

	if (cJSON_IsObject(item) && check_names(item, e) < 0)
		return -1;
	cJSON_ArrayForEach(child, item)
	{
		if ((child->type & (cJSON_Object | cJSON_Array)) && check_duplicates(child, e) < 0)
			return -1;
	}
	return 0;
}

/* As json_parse; `exact`: keep each number's text in valuestring. */
static cJSON *
parse(const char *text, size_t len, unsigned max_depth, bool exact, struct err *e)
{
	struct scan s = {.begin = text, .p = text, .end = text + len, .max_depth = max_depth, .e = e};
	cJSON *tree;

	if (check_text(&s) < 0)
		return NULL;
	if (*text == '\xef') {
		text += 3;
		len -= 3;
	}
	tree = cJSON_ParseWithLength(text, len);
	if (!tree || (exact && !keep_numbers(tree, text, text + len))) {
		err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read %zu bytes of JSON", len);
		goto fail;
	}
	if (check_duplicates(tree, e) < 0)
		goto fail;
	return tree;
fail:
	cJSON_Delete(tree);
	return NULL;
}

cJSON *
json_parse(const char *text, size_t len, unsigned max_depth, struct err *e)
{
	return parse(text, len, max_depth, true, e);
}

cJSON *
json_parse_doubles(const char *text, size_t len, unsigned max_depth, struct err *e)
{
	return parse(text, len, max_depth, false, e);
}

char *
json_skeleton(const char *text, size_t len, struct json_cut *cut, struct err *e)
{
	struct scan s = {.begin = text, .p = text, .end = text + len, .max_depth = cut->max_depth, .cut = cut, .e = e};
	const char *from = text;
	size_t size = len;
	char *out, *o;

	cut->n_spans = 0;
	cut->kept = (struct json_span){NULL, NULL};
	if (check_text(&s) < 0)
		return NULL;
	for (int i = 0; i < cut->n_spans; i++)
		size -= (size_t)(cut->spans[i].end - cut->spans[i].begin);
	if (size > JSON_SKELETON_MAX) {
		err_set(e, ERR_TOO_LARGE, "the JSON text has %zu bytes besides the inputs' data; at most %zu are read",
			size, JSON_SKELETON_MAX);
		return NULL;
	}
	out = malloc(size + 3 * JSON_SPANS_MAX + 1);
	if (!out) {
		err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read %zu bytes of JSON", size);
		return NULL;
	}
	o = out;
	for (int i = 0; i < cut->n_spans; i++) {
		size_t n = (size_t)(cut->spans[i].begin - from);

		memcpy(o, from, n);
		o += n;
		if (i >= 10)
			*o++ = (char)('0' + i / 10);
		*o++ = (char)('0' + i % 10);
		from = cut->spans[i].end;
	}
	memcpy(o, from, (size_t)(s.end - from));
	o[s.end - from] = '\0';
	return out;
}
