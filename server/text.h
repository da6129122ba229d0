/*
 * text.h: a growing text buffer with a ceiling, for JSON replies, metrics and headers.
 * A failed append (ceiling, memory) sticks: check text_failed() once at the end.
 */
#ifndef AITERD_TEXT_H
#define AITERD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *p; /* NUL-terminated once anything was added */
	size_t len, cap, ceiling;
	bool failed;
};

static inline bool
text_failed(const struct text *t)
{
	return t->failed;
}

void text_init(struct text *t, size_t ceiling);
void text_fini(struct text *t);
void text_add(struct text *t, const char *s);
void text_addn(struct text *t, const char *s, size_t n);
void text_addf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string literal; everything outside ASCII as \uXXXX, invalid UTF-8 as U+FFFD. NULL: null. */
void text_json(struct text *t, const char *s);
void text_jsonn(struct text *t, const char *s, size_t n);
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
