/*
 * last_words.c: see last_words.h. The bytes come from a process that may have gone mad: control characters and bytes
 * that are no ASCII are replaced, lines are cut, none is kept for long.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "front/last_words.h"
#include "log.h"

void
last_words_init(struct last_words *w)
{
	w->n = 0;
	w->len = 0;
}

static void
line_end(struct last_words *w, const char *who)
{
	w->partial[w->len] = '\0';
	w->len = 0;
	if (!*w->partial)
		return;
	memcpy(w->lines[w->n % LAST_WORDS_LINES], w->partial, LAST_WORDS_LINE);
	w->n++;
	log_info("%s: %s", who, w->partial);
}

int
last_words_read(struct last_words *w, int fd, const char *who)
{
	char buf[4096];

	for (int round = 0; round < 16; round++) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n == 0)
			return 0;
		if (n == -1) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN ? 1 : 0;
		}
		for (ssize_t i = 0; i < n; i++) {
			unsigned char c = (unsigned char)buf[i];

			if (c == '\n') {
				line_end(w, who);
				continue;
			}
			if (w->len == LAST_WORDS_LINE - 1)
				line_end(w, who);
			w->partial[w->len++] = (char)(c == '\t' ? ' ' : c < 32 || c > 126 ? '?' : c);
		}
	}
	return 1;
}

void
last_words_finish(struct last_words *w, const char *who)
{
	if (w->len > 0)
		line_end(w, who);
}

char *
last_words_text(const struct last_words *w, char *buf, size_t size)
{
	unsigned kept = w->n < LAST_WORDS_LINES ? w->n : LAST_WORDS_LINES, first = w->n;
	size_t room = size - 1, at = 0;

	buf[0] = '\0';
	/* Walk back while lines fit. A single one that is too long is cut. */
	while (first > w->n - kept) {
		size_t len = strlen(w->lines[(first - 1) % LAST_WORDS_LINES]) + (first < w->n ? 3 : 0);

		if (len > room && first < w->n)
			break;
		room -= len < room ? len : room;
		first--;
	}
	for (; first < w->n && at < size; first++) {
		int n = snprintf(buf + at, size - at, "%s%s", at > 0 ? " | " : "", w->lines[first % LAST_WORDS_LINES]);

		at += (size_t)(n > 0 ? n : 0);
	}
	return buf;
}
