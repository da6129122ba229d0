/*
 * err.c: filling errors and the table of what kinds there are. Called by everybody; allocates nothing.
 */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct err_info infos[ERR_COUNT] = {
	[ERR_NONE] = {"none", 200, "No error", ""},
#define E(code, slug, status, title, help) [ERR_##code] = {slug, status, title, help},
#include "errors.def"
#undef E
};

static void
copy(char *dst, size_t size, const char *src)
{
	snprintf(dst, size, "%s", src ? src : "");
}

static void fill(struct err *e, enum err_code code, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

static void
fill(struct err *e, enum err_code code, const char *fmt, va_list ap)
{
	struct err tmp;

	/* The arguments may point into `e` itself (an error that quotes another one). */
	memset(&tmp, 0, sizeof tmp);
	tmp.code = code;
	vsnprintf(tmp.msg, sizeof tmp.msg, fmt, ap);
	*e = tmp;
}

int
err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	fill(e, code, fmt, ap);
	va_end(ap);
	return -1;
}

int
err_input(struct err *e, enum err_code code, const char *input, const char *found, const char *wanted, const char *fmt,
	  ...)
{
	struct err tmp;
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	fill(&tmp, code, fmt, ap);
	va_end(ap);
	copy(tmp.input, sizeof tmp.input, input);
	copy(tmp.found, sizeof tmp.found, found);
	copy(tmp.wanted, sizeof tmp.wanted, wanted);
	*e = tmp;
	return -1;
}

int
err_param(struct err *e, enum err_code code, const char *param, const char *found, const char *wanted, const char *fmt,
	  ...)
{
	struct err tmp;
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	fill(&tmp, code, fmt, ap);
	va_end(ap);
	copy(tmp.param, sizeof tmp.param, param);
	copy(tmp.found, sizeof tmp.found, found);
	copy(tmp.wanted, sizeof tmp.wanted, wanted);
	*e = tmp;
	return -1;
}

const struct err_info *
err_info(enum err_code code)
{
	unsigned i = (unsigned)code;

	return &infos[i < ERR_COUNT ? i : ERR_INTERNAL];
}

enum err_code
err_find(const char *slug)
{
	for (unsigned i = ERR_NONE + 1; i < ERR_COUNT; i++)
		if (!strcmp(infos[i].slug, slug))
			return (enum err_code)i;
	return ERR_NONE;
}
