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

void
text_init(struct text *t, size_t ceiling)
{
	memset(t, 0, sizeof *t);
	t->ceiling = ceiling;
}

void
text_fini(struct text *t)
{
	free(t->p);
	memset(t, 0, sizeof *t);
}

/* The slow part of reserve(): grow the buffer. */
static bool
grow(struct text *t, size_t n)
{
	size_t cap;
	char *p;

	if (t->failed)
		return false;
	if (n > t->ceiling || t->len > t->ceiling - n) {
		t->failed = true;
		return false;
	}
	if (t->p && t->len + n < t->cap)
		return true;
	cap = t->cap ? t->cap : 1024;
	while (cap <= t->len + n) {
		if (cap > SIZE_MAX / 2) {
			t->failed = true;
			return false;
		}
		cap *= 2;
	}
	p = realloc(t->p, cap);
	if (!p) {
		t->failed = true;
		return false;
	}
	t->p = p;
	t->cap = cap;
	t->p[t->len] = '\0';
	return true;
}

/* Room for n more characters and the NUL; false and failed when there is none to be had. */
static inline bool
reserve(struct text *t, size_t n)
{
	/* cap - len cannot wrap: len < cap as soon as there is a buffer. */
	if (n < t->cap - t->len && t->cap <= t->ceiling && !t->failed)
		return true;
	return grow(t, n);
}

void
text_addn(struct text *t, const char *s, size_t n)
{
	if (!reserve(t, n))
		return;
	if (n)
		memcpy(t->p + t->len, s, n);
	t->len += n;
	t->p[t->len] = '\0';
}

void
text_add(struct text *t, const char *s)
{
	text_addn(t, s, strlen(s));
}

void
text_addf(struct text *t, const char *fmt, ...)
{
	size_t room;
	va_list ap;
	int n;

	if (!reserve(t, t->ceiling - t->len < 64 ? t->ceiling - t->len : 64))
		return;
	room = t->cap - t->len;
	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, room, fmt, ap);
	va_end(ap);
	if (n < 0) {
		t->failed = true;
		return;
	}
	if ((size_t)n >= room || (size_t)n > t->ceiling - t->len) {
		t->p[t->len] = '\0';
		if (!reserve(t, (size_t)n))
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

void
text_jsonn(struct text *t, const char *str, size_t n)
{
	const unsigned char *s = (const unsigned char *)str;

	size_t i = 0;
	char *p;

	if (!reserve(t, n < SIZE_MAX - 2 ? n + 2 : n))
		return;
	t->p[t->len++] = '"';
	while (i < n) {
		uint32_t c;
		size_t end;

		/* Plain characters and two-character escapes, up to 256 at a time, without a check for room at each: a JSON
		 * text inside a JSON string is full of escapes. */
		end = n - i < 256 ? n : i + 256;
		if (!reserve(t, 2 * (end - i)))
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
	char buf[24], *p = buf + sizeof(buf);

	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	text_addn(t, p, (size_t)(buf + sizeof(buf) - p));
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

	if (reserve(t, 0)) {
		p = t->p;
		t->p = NULL;
	}
	text_fini(t);
	return p;
}
