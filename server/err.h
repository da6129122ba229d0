/*
 * err.h: one error value for everything a client, a worker or the outside world can cause.
 *
 * Functions that can fail take a `struct err *` last and return -1; `err_set` and its kin always
 * return -1, so callers write `return err_set(e, ...)`. The value is untouched on success and
 * nothing is allocated, so errors also work when memory is short. Bugs are assert()s instead.
 */
#ifndef AITERD_ERR_H
#define AITERD_ERR_H

#include <stdint.h>

enum err_code {
	ERR_NONE = 0,
#define E(code, slug, status, title, help) ERR_##code,
#include "errors.def"
#undef E
	ERR_COUNT
};

struct err {
	enum err_code code;
	uint32_t retry_after_s; /* Retry-After, 0: none */
	char input[48];		/* the tensor it is about, or "" */
	char param[48];		/* the parameter, header or field it is about, or "" */
	char found[160];
	char wanted[200];
	char msg[512]; /* a sentence for people: what was wrong, where, what would be right */
};

struct err_info {
	const char *slug; /* stable, the end of the problem type's URI */
	int status;	  /* HTTP status */
	const char *title;
	const char *help; /* a paragraph, served at /problems/<slug> */
};

/* Fill `e` (may be NULL) and return -1. Only the first error counts: the callers return at once. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same, naming the input (tensor) or the parameter and what was found and wanted there. */
int err_input(struct err *e, enum err_code code, const char *input, const char *found, const char *wanted,
	      const char *fmt, ...) __attribute__((format(printf, 6, 7)));
int err_param(struct err *e, enum err_code code, const char *param, const char *found, const char *wanted,
	      const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Never NULL. */
const struct err_info *err_info(enum err_code code);

/* The code whose slug this is, or ERR_NONE. */
enum err_code err_find(const char *slug);

#endif
