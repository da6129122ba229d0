/*
 * last_words.h: what a worker writes to its standard output and error: logged line by line, the last lines kept for
 * its obituary. The supervisor's thread only.
 */
#ifndef AITERD_LAST_WORDS_H
#define AITERD_LAST_WORDS_H

#include <stddef.h>

#define LAST_WORDS_LINES 10
#define LAST_WORDS_LINE 240

struct last_words {
	char lines[LAST_WORDS_LINES][LAST_WORDS_LINE];
	unsigned n; /* lines ever */
	char partial[LAST_WORDS_LINE];
	size_t len; /* of partial */
};

void last_words_init(struct last_words *w);
/* Read what is there, at most about 64 KiB, so that a babbling worker cannot hold the supervisor; `who` begins each
 * logged line. Returns 0 at the end of the file, 1 otherwise. */
int last_words_read(struct last_words *w, int fd, const char *who);
/* A last line without its end counts too. */
void last_words_finish(struct last_words *w, const char *who);
/* The last lines that fit, oldest first, joined by " | "; "" when nothing was said. Returns buf. */
char *last_words_text(const struct last_words *w, char *buf, size_t size);

#endif
