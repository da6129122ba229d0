/*
 * log.c: log lines on standard error, as text or JSON, one write each so that lines of several threads and
 * processes never mix. Called by everybody; what is logged never contains tensor data or keys.
 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

#define LINE_MAX_BYTES 4096

static const char *program = "aiterd";
static enum log_level max_level = LOG_INFO_;
static int as_json;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void
log_setup(const char *name, enum log_level level, int json)
{
	program = name;
	max_level = level;
	as_json = json;
}

/* write(2) until done; a full or broken standard error is nobody's problem. */
static void
write_all(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(STDERR_FILENO, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return;
		p += w;
		n -= (size_t)w;
	}
}

static void
line_text(const char *when, enum log_level level, char *msg)
{
	char line[LINE_MAX_BYTES + 256];
	int n;

	/* A message holding a line break could pass itself off as another line. */
	for (char *p = msg; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	n = snprintf(line, sizeof line, "%s %s[%ld] %s: %s\n", when, program, (long)getpid(), level_names[level], msg);
	if (n > 0)
		write_all(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static void
line_json(const char *when, enum log_level level, const char *msg)
{
	struct text t;

	text_init(&t, 8 * LINE_MAX_BYTES);
	text_addf(&t, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":", when, level_names[level]);
	text_json(&t, program);
	text_addf(&t, ",\"pid\":%ld,\"msg\":", (long)getpid());
	text_json(&t, msg);
	text_add(&t, "}\n");
	if (!t.failed)
		write_all(t.p, t.len);
	text_fini(&t);
}

static void emit(enum log_level level, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void
emit(enum log_level level, const char *fmt, va_list ap)
{
	int saved = errno;
	char msg[LINE_MAX_BYTES], when[64];
	size_t n;
	struct timespec ts;
	struct tm tm;

	if (level > max_level)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof when - n, ".%03ldZ", ts.tv_nsec / 1000000);
	errno = saved; /* for %m */
	vsnprintf(msg, sizeof msg, fmt, ap);
	if (as_json)
		line_json(when, level, msg);
	else
		line_text(when, level, msg);
	errno = saved;
}

void
log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_ERROR_, fmt, ap);
	va_end(ap);
}

void
log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_WARN_, fmt, ap);
	va_end(ap);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_INFO_, fmt, ap);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_DEBUG_, fmt, ap);
	va_end(ap);
}

void
fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_ERROR_, fmt, ap);
	va_end(ap);
	exit(1);
}

void *
xcalloc(unsigned long n, unsigned long size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		fatal("out of memory: %lu times %lu bytes", n, size);
	return p;
}

char *
xstrdup(const char *s)
{
	char *p = strdup(s);

	if (!p)
		fatal("out of memory: %zu bytes", strlen(s) + 1);
	return p;
}
