/*
 * json_scan.h: a strict reader of JSON (RFC 8259, UTF-8) that walks over the bytes and allocates nothing. json.c checks
 * texts with it before cJSON sees them; a small text of known form (safetensors' header) is read with it alone.
 *
 * Functions that return int give -1 and an error that names the byte when the text is malformed there; whatever was
 * walked over is well-formed. The reader stands at `p`: at a value or a member's name, white space already skipped.
 */
#ifndef AITERD_JSON_SCAN_H
#define AITERD_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "codec/json.h"

struct json_scan {
	const char *begin, *p, *end;
	unsigned depth, max_depth; /* how many lists and objects are open around p */
	struct err *e;
};

/* Nesting is limited to 512 levels in any case. A byte order mark is skipped: it is not JSON, but some write it. */
void json_scan_init(struct json_scan *s, const char *text, size_t len, unsigned max_depth, struct err *e);
/* Nothing but white space may follow. */
int json_scan_end(struct json_scan *s);

int json_scan_malformed(const struct json_scan *s, const char *what);
int json_scan_too_deep(const struct json_scan *s);

static inline void
json_scan_space(struct json_scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
}

static inline bool
json_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The byte at p, 0 at the end: tells what kind of value begins here. */
static inline char
json_scan_peek(const struct json_scan *s)
{
	return s->p < s->end ? *s->p : '\0';
}

/* Over the value at p, whatever it is, with all that is in it. */
int json_scan_value(struct json_scan *s);
/* Over the string at p (which is its quote). `in`: what stands between the quotes. 1: it has escapes, 0: it has none. */
int json_scan_string(struct json_scan *s, struct json_span *in);
int json_scan_number(struct json_scan *s);

/* Into the object or list at p. 1: at the first member or element; 0: it is empty, and passed. */
int json_scan_open(struct json_scan *s);
/* Behind a member or element: on to the next one, 1; or out, 0. `close` is '}' or ']'. */
int json_scan_more(struct json_scan *s, char close);
/* Over the name at p and its colon, to the value. 1: the name has escapes, 0: it has none. */
int json_scan_key(struct json_scan *s, struct json_span *name);

/* Past the string at p, looking for its end only. */
int json_scan_skip_string(struct json_scan *s);

/* Undo the escapes of what stands between a string's quotes, in place; returns the new end. */
char *json_unescape(char *begin, const char *end);

static inline bool
json_span_is(struct json_span s, const char *text, size_t n)
{
	return (size_t)(s.end - s.begin) == n && memcmp(s.begin, text, n) == 0;
}

/* An error when two of the names are the same. Sorts them when there are many. */
int json_names_differ(struct json_span *names, size_t n, struct err *e);

#endif
