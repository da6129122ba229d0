/*
 * log.h: lines to standard error, as text or JSON. Never tensor data, never keys.
 * Any thread; a line is one write.
 */
#ifndef AITERD_LOG_H
#define AITERD_LOG_H

enum log_level { LOG_ERROR_, LOG_WARN_, LOG_INFO_, LOG_DEBUG_ };

void log_setup(const char *program, enum log_level level, int json);
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Log and exit(1): for what the environment makes impossible at start. */
void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Small allocations that cannot fail in a healthy process; fatal when they do. */
void *xcalloc(unsigned long n, unsigned long size);
char *xstrdup(const char *s);

#endif
