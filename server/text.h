/*
 * text.h: a growing text buffer with a ceiling, for JSON replies, metrics and headers.
 * A failed append (ceiling, memory) sticks: check text_failed() once at the end.
 */
#ifndef AITERD_TEXT_H
#define AITERD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
	char *p;	 /* NUL-terminated once anything was added */
	char *lent;	 /* text_init_in()'s buffer: not ours to free */
	size_t len, cap; /* cap: never more than ceiling + 1; len once failed, so that nothing fits any more */
	size_t ceiling;
	bool failed;
};

static inline bool
text_failed(const struct text *t)
{
	return t->failed;
}

void text_init(struct text *t, size_t ceiling);
void text_fini(struct text *t);
/* The same, beginning in a buffer of the caller's: nothing is allocated while size - 1 characters are enough. */
void text_init_in(struct text *t, char *buf, size_t size, size_t ceiling);
/* From now on it has failed: a part of it could not be made. */
void text_fail(struct text *t);
/* Make room for n more characters and the NUL; false and failed when there is none to be had. */
bool text_grow(struct text *t, size_t n);

static inline bool
text_room(struct text *t, size_t n)
{
	/* cap - len cannot wrap: len < cap while there is a buffer and nothing failed, else they are equal. */
	return n < t->cap - t->len || text_grow(t, n);
}

static inline void
text_addn(struct text *t, const char *s, size_t n)
{
	if (!text_room(t, n))
		return;
	if (n)
		memcpy(t->p + t->len, s, n);
	t->len += n;
	t->p[t->len] = '\0';
}

static inline void
text_add(struct text *t, const char *s)
{
	text_addn(t, s, strlen(s));
}

void text_addf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string literal; everything outside ASCII as \uXXXX, invalid UTF-8 as U+FFFD. NULL: null. */
void text_json(struct text *t, const char *s);
void text_jsonn(struct text *t, const char *s, size_t n);
/* Nothing in it needs an escape. */
bool text_is_plain(const char *s, size_t n);
/* What stands between the quotes of such a literal. */
void text_escape(struct text *t, const char *s, size_t n);
/* Digits; without printf's price. */
void text_u64(struct text *t, uint64_t v);
/* A JSON number; NaN and infinities as the strings "NaN", "Infinity", "-Infinity". */
void text_number(struct text *t, double v);
/* Foreign text for a message: at most size - 1 characters of it, printable ASCII ('?' for the rest), "..." at the
 * end when cut. Returns buf. */
char *text_clip(char *buf, size_t size, const char *s, size_t n);
/* Take the buffer (caller frees); NULL when failed. */
char *text_take(struct text *t);

#endif
