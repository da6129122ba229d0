/*
 * json_scan.c: the strict reader of JSON (json_scan.h). Called by json.c and the safetensors decoder; owns nothing.
 */
#include "codec/json_scan.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

/* cJSON's own limits, which hold for all texts: a number's text, and recursion. */
#define NUMBER_TEXT_MAX 63
#define DEPTH_MAX 512
/* So many names are compared each with each. */
#define FEW_NAMES 12

void
json_scan_init(struct json_scan *s, const char *text, size_t len, unsigned max_depth, struct err *e)
{
	s->begin = s->p = text;
	s->end = text + len;
	s->depth = 0;
	s->max_depth = max_depth < DEPTH_MAX ? max_depth : DEPTH_MAX;
	s->e = e;
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		s->p += 3;
	json_scan_space(s);
}

int
json_scan_end(struct json_scan *s)
{
	json_scan_space(s);
	return s->p == s->end ? 0 : json_scan_malformed(s, "something follows the end of the JSON value");
}

int
json_scan_malformed(const struct json_scan *s, const char *what)
{
	return err_set(s->e, ERR_MALFORMED_BODY, "the JSON text is malformed at byte %zu: %s",
		       (size_t)(s->p - s->begin), what);
}

int
json_scan_too_deep(const struct json_scan *s)
{
	return err_set(s->e, ERR_MALFORMED_BODY, "the JSON text is nested deeper than %u levels at byte %zu",
		       s->max_depth, (size_t)(s->p - s->begin));
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

		if (json_is_digit(c))
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
scan_escape(struct json_scan *s)
{
	int v;

	if (s->end - s->p < 2)
		return json_scan_malformed(s, "the text ends inside a string");
	if (s->p[1] != 'u') {
		if (s->p[1] == '\0' || !strchr("\"\\/bfnrt", s->p[1]))
			return json_scan_malformed(s, "an unknown escape in a string");
		s->p += 2;
		return 0;
	}
	v = hex4(s->p + 2, s->end);
	if (v < 0)
		return json_scan_malformed(s, "\\u without four hexadecimal digits");
	if (v == 0)
		return json_scan_malformed(s, "a NUL character in a string");
	if (v >= 0xdc00 && v <= 0xdfff)
		return json_scan_malformed(s, "half a surrogate pair");
	if (v >= 0xd800 && v <= 0xdbff) {
		int low = s->end - s->p >= 12 && s->p[6] == '\\' && s->p[7] == 'u' ? hex4(s->p + 8, s->end) : -1;

		if (low < 0xdc00 || low > 0xdfff)
			return json_scan_malformed(s, "half a surrogate pair");
		s->p += 6;
	}
	s->p += 6;
	return 0;
}

/* What may stand in a string as it is: ASCII without controls, quote and backslash. */
static const bool plain[256] = {[0x20 ... '!'] = true, ['#' ... '['] = true, [']' ... 0x7f] = true};

/* What is not plain: at `s->p` in a string. */
static int
scan_special(struct json_scan *s)
{
	size_t n;

	if (*s->p == '\\')
		return scan_escape(s);
	if ((unsigned char)*s->p < 0x20)
		return json_scan_malformed(s, "a control character in a string");
	n = utf8_len(s->p, s->end);
	if (n == 0)
		return json_scan_malformed(s, "a string that is not UTF-8");
	s->p += n;
	return 0;
}

int
json_scan_string(struct json_scan *s, struct json_span *in)
{
	const char *p = s->p + 1;
	int escapes = 0;

	in->begin = p;
	for (;;) {
		while (p < s->end && plain[(unsigned char)*p])
			p++;
		s->p = p;
		if (p == s->end)
			return json_scan_malformed(s, "the text ends inside a string");
		if (*p == '"') {
			in->end = p;
			s->p = p + 1;
			return escapes;
		}
		escapes |= *p == '\\';
		if (scan_special(s) < 0)
			return -1;
		p = s->p;
	}
}

int
json_scan_skip_string(struct json_scan *s)
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
	return json_scan_malformed(s, "the text ends inside a string");
}

/* Python's json.dumps writes NaN, Infinity and -Infinity. */
static bool
at_word(const struct json_scan *s, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(s->end - s->p) >= n && memcmp(s->p, word, n) == 0;
}

static int
no_such_number(const struct json_scan *s)
{
	return json_scan_malformed(
		s,
		"JSON has no number NaN or Infinity; where one is taken, write it as a string: \"NaN\", \"Infinity\"");
}

int
json_scan_number(struct json_scan *s)
{
	const char *begin = s->p;

	if (json_scan_peek(s) == '-')
		s->p++;
	if (!json_is_digit(json_scan_peek(s)))
		return at_word(s, "Infinity") ? no_such_number(s) : json_scan_malformed(s, "a number without digits");
	if (*s->p == '0' && s->end - s->p > 1 && json_is_digit(s->p[1]))
		return json_scan_malformed(s, "a number that begins with 0");
	while (json_is_digit(json_scan_peek(s)))
		s->p++;
	if (json_scan_peek(s) == '.') {
		s->p++;
		if (!json_is_digit(json_scan_peek(s)))
			return json_scan_malformed(s, "no digit after the decimal point");
		while (json_is_digit(json_scan_peek(s)))
			s->p++;
	}
	if (json_scan_peek(s) == 'e' || json_scan_peek(s) == 'E') {
		s->p++;
		if (json_scan_peek(s) == '+' || json_scan_peek(s) == '-')
			s->p++;
		if (!json_is_digit(json_scan_peek(s)))
			return json_scan_malformed(s, "no digit in the exponent");
		while (json_is_digit(json_scan_peek(s)))
			s->p++;
	}
	if (s->p - begin > NUMBER_TEXT_MAX) {
		s->p = begin;
		return json_scan_malformed(s, "a number of more than 63 characters");
	}
	return 0;
}

static int
scan_word(struct json_scan *s)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < 3; i++) {
		if (at_word(s, words[i])) {
			s->p += strlen(words[i]);
			return 0;
		}
	}
	if (at_word(s, "NaN") || at_word(s, "Infinity"))
		return no_such_number(s);
	return json_scan_malformed(s, "no JSON value begins like this");
}

int
json_scan_open(struct json_scan *s)
{
	char close = *s->p == '{' ? '}' : ']';

	if (s->depth >= s->max_depth)
		return json_scan_too_deep(s);
	s->p++;
	json_scan_space(s);
	if (json_scan_peek(s) == close) {
		s->p++;
		return 0;
	}
	s->depth++;
	return 1;
}

int
json_scan_more(struct json_scan *s, char close)
{
	json_scan_space(s);
	if (s->p == s->end)
		return json_scan_malformed(s, close == '}' ? "the text ends inside an object"
							   : "the text ends inside a list");
	if (*s->p == close) {
		s->p++;
		s->depth--;
		return 0;
	}
	if (*s->p != ',')
		return json_scan_malformed(s, close == '}' ? "a comma or } was expected" : "a comma or ] was expected");
	s->p++;
	json_scan_space(s);
	return 1;
}

int
json_scan_key(struct json_scan *s, struct json_span *name)
{
	int escapes;

	if (json_scan_peek(s) != '"')
		return json_scan_malformed(s, "a member's name in quotes was expected");
	escapes = json_scan_string(s, name);
	if (escapes < 0)
		return -1;
	json_scan_space(s);
	if (json_scan_peek(s) != ':')
		return json_scan_malformed(s, "a colon was expected after a member's name");
	s->p++;
	json_scan_space(s);
	return escapes;
}

int
json_scan_value(struct json_scan *s)
{
	struct json_span span;
	char first = json_scan_peek(s), close = first == '{' ? '}' : ']';
	int more;

	if (s->p == s->end)
		return json_scan_malformed(s, "the text ends where a value was expected");
	if (first == '"')
		return json_scan_string(s, &span) < 0 ? -1 : 0;
	if (first == '-' || json_is_digit(first))
		return json_scan_number(s);
	if (first != '{' && first != '[')
		return scan_word(s);
	for (more = json_scan_open(s); more > 0; more = json_scan_more(s, close))
		if ((close == '}' && json_scan_key(s, &span) < 0) || json_scan_value(s) < 0)
			return -1;
	return more;
}

/* The code point as UTF-8; returns the end. */
static char *
put_utf8(char *out, unsigned c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*out++ = (char)(0xe0 | c >> 12);
		} else {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (c & 0x3f));
	return out;
}

char *
json_unescape(char *begin, const char *end)
{
	static const char letters[] = "bfnrt", controls[] = "\b\f\n\r\t";
	const char *p = begin, *letter;
	char *out = begin;

	while (p < end) {
		if (*p != '\\') {
			*out++ = *p++;
		} else if (p[1] != 'u') {
			letter = strchr(letters, p[1]);
			*out++ = letter ? controls[letter - letters] : p[1];
			p += 2;
		} else {
			unsigned c = (unsigned)hex4(p + 2, end);

			p += 6;
			if (c >= 0xd800 && c <= 0xdbff) {
				c = 0x10000 + ((c & 0x3ff) << 10 | ((unsigned)hex4(p + 2, end) & 0x3ff));
				p += 6;
			}
			out = put_utf8(out, c);
		}
	}
	return out;
}

static int
span_order(const void *x, const void *y)
{
	const struct json_span *a = x, *b = y;
	ptrdiff_t an = a->end - a->begin, bn = b->end - b->begin;

	return an != bn ? (an < bn ? -1 : 1) : memcmp(a->begin, b->begin, (size_t)an);
}

static int
same_name(struct json_span name, struct err *e)
{
	char clip[48];

	text_clip(clip, sizeof(clip), name.begin, (size_t)(name.end - name.begin));
	return err_param(e, ERR_MALFORMED_BODY, clip, "the same name twice", "each name once",
			 "the JSON text has two members called \"%s\" in one object", clip);
}

int
json_names_differ(struct json_span *names, size_t n, struct err *e)
{
	/* Sorting, because comparing each with each would let a small text take minutes. */
	if (n > FEW_NAMES)
		qsort(names, n, sizeof(*names), span_order);
	for (size_t i = 1; i < n; i++)
		for (size_t k = n > FEW_NAMES ? i - 1 : 0; k < i; k++)
			if (span_order(&names[k], &names[i]) == 0)
				return same_name(names[i], e);
	return 0;
}
