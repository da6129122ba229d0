/*
 * text.c: a growing text buffer with a ceiling. The caller owns the struct; the buffer is the struct's until
 * text_take(). Used for JSON replies, metrics, headers and log lines.
 */
#include "text.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digits.h"

void
text_init(struct text *t, size_t ceiling)
{
	memset(t, 0, sizeof *t);
	t->ceiling = ceiling;
}

void
text_init_in(struct text *t, char *buf, size_t size, size_t ceiling)
{
	assert(size > 0);
	t->p = t->lent = buf;
	t->len = 0;
	t->cap = size <= ceiling ? size : ceiling + 1;
	t->ceiling = ceiling;
	t->failed = false;
	buf[0] = '\0';
}

void
text_fini(struct text *t)
{
	if (t->p != t->lent)
		free(t->p);
	memset(t, 0, sizeof *t);
}

void
text_fail(struct text *t)
{
	t->failed = true;
	t->cap = t->len;
}

static bool
fail(struct text *t)
{
	text_fail(t);
	return false;
}

bool
text_grow(struct text *t, size_t n)
{
	size_t cap = t->cap ? t->cap : 1024;
	char *p;

	if (t->failed || n > t->ceiling || t->len > t->ceiling - n)
		return fail(t);
	while (cap <= t->len + n) {
		if (cap > SIZE_MAX / 2)
			return fail(t);
		cap *= 2;
	}
	if (cap > t->ceiling)
		cap = t->ceiling + 1;
	p = realloc(t->p == t->lent ? NULL : t->p, cap);
	if (!p)
		return fail(t);
	if (t->p == t->lent && t->len)
		memcpy(p, t->p, t->len);
	t->p = p;
	t->cap = cap;
	t->p[t->len] = '\0';
	return true;
}

void
text_addf(struct text *t, const char *fmt, ...)
{
	size_t room;
	va_list ap;
	int n;

	if (!text_room(t, t->ceiling - t->len < 64 ? t->ceiling - t->len : 64))
		return;
	room = t->cap - t->len;
	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, room, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text_fail(t);
		return;
	}
	if ((size_t)n >= room || (size_t)n > t->ceiling - t->len) {
		t->p[t->len] = '\0';
		if (!text_room(t, (size_t)n))
			return;
		va_start(ap, fmt);
		vsnprintf(t->p + t->len, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	t->len += (size_t)n;
}

/*
 * One code point of UTF-8 at s (n >= 1 bytes left); returns how many bytes it took, and 0xFFFD with the
 * bytes of the longest broken prefix where it is not valid (overlong, surrogate, beyond U+10FFFF, cut off).
 */
static size_t
utf8_next(const unsigned char *s, size_t n, uint32_t *cp)
{
	uint32_t c = s[0], min_second = 0x80, max_second = 0xbf;
	size_t need;

	if (c < 0x80) {
		*cp = c;
		return 1;
	}
	if (c >= 0xc2 && c <= 0xdf) {
		need = 1;
		c &= 0x1f;
	} else if (c >= 0xe0 && c <= 0xef) {
		need = 2;
		if (c == 0xe0)
			min_second = 0xa0;
		if (c == 0xed)
			max_second = 0x9f;
		c &= 0x0f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		need = 3;
		if (c == 0xf0)
			min_second = 0x90;
		if (c == 0xf4)
			max_second = 0x8f;
		c &= 0x07;
	} else {
		*cp = 0xfffd;
		return 1;
	}
	for (size_t i = 1; i <= need; i++) {
		if (i >= n || s[i] < (i == 1 ? min_second : 0x80) || s[i] > (i == 1 ? max_second : 0xbf)) {
			*cp = 0xfffd;
			return i;
		}
		c = c << 6 | (s[i] & 0x3fu);
	}
	*cp = c;
	return need + 1;
}

/* How many characters a byte takes in a JSON string: itself, with a backslash, or (0) something longer. */
static const unsigned char plain[256] = {
	[' ' ... '!'] = 1, ['"'] = 2, ['#' ... '['] = 1, ['\\'] = 2, [']' ... '~'] = 1,
};

bool
text_is_plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (plain[(unsigned char)s[i]] != 1)
			return false;
	return true;
}

void
text_escape(struct text *t, const char *str, size_t n)
{
	const unsigned char *s = (const unsigned char *)str;
	size_t i = 0;
	char *p;

	while (i < n) {
		uint32_t c;
		size_t end;

		/* Plain characters and two-character escapes, up to 256 at a time, without a check for room at each: a JSON
		 * text inside a JSON string is full of escapes. */
		end = n - i < 256 ? n : i + 256;
		if (!text_room(t, 2 * (end - i)))
			return;
		for (p = t->p + t->len; i < end && plain[s[i]] != 0; i++) {
			*p = '\\';
			p += plain[s[i]] - 1;
			*p++ = (char)s[i];
		}
		t->len = (size_t)(p - t->p);
		*p = '\0';
		if (i == end)
			continue;
		i += utf8_next(s + i, n - i, &c);
		if (c == '\n' || c == '\r' || c == '\t')
			text_add(t, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
		else if (c >= 0x10000)
			text_addf(t, "\\u%04x\\u%04x", 0xd800u + ((c - 0x10000u) >> 10),
				  0xdc00u + ((c - 0x10000u) & 0x3ffu));
		else
			text_addf(t, "\\u%04x", c);
		if (t->failed)
			return;
	}
}

void
text_jsonn(struct text *t, const char *s, size_t n)
{
	if (!text_room(t, n < SIZE_MAX - 2 ? n + 2 : n))
		return;
	text_addn(t, "\"", 1);
	if (text_is_plain(s, n))
		text_addn(t, s, n);
	else
		text_escape(t, s, n);
	text_addn(t, "\"", 1);
}

void
text_json(struct text *t, const char *s)
{
	if (s)
		text_jsonn(t, s, strlen(s));
	else
		text_add(t, "null");
}

void
text_u64(struct text *t, uint64_t v)
{
	int n = digits_count(v);

	if (!text_room(t, (size_t)n))
		return;
	digits_put(t->p + t->len, v, n);
	t->len += (size_t)n;
	t->p[t->len] = '\0';
}

void
text_number(struct text *t, double v)
{
	char buf[40];

	if (v >= 0 && v < 1e15 && v == (double)(uint64_t)v && !signbit(v)) {
		text_u64(t, (uint64_t)v);
		return;
	}
	if (isnan(v)) {
		text_add(t, "\"NaN\"");
		return;
	}
	if (isinf(v)) {
		text_add(t, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
		return;
	}
	/* The shortest of these that reads back as the same double. */
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(buf, sizeof buf, "%.*g", digits, v);
		if (strtod(buf, NULL) == v)
			break;
	}
	text_add(t, buf);
}

char *
text_clip(char *buf, size_t size, const char *s, size_t n)
{
	size_t keep = n < size ? n : size - 4;

	assert(size >= 4);
	for (size_t i = 0; i < keep; i++)
		buf[i] = s[i] >= 0x20 && s[i] < 0x7f ? s[i] : '?';
	if (keep < n)
		memcpy(buf + keep, "...", 4);
	else
		buf[keep] = '\0';
	return buf;
}

char *
text_take(struct text *t)
{
	char *p = NULL;

	if (text_room(t, 0)) {
		p = t->p == t->lent ? strdup(t->p) : t->p;
		t->p = t->lent;
	}
	text_fini(t);
	return p;
}
