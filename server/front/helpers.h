/*
 * helpers.h: a few threads for what would hold up an event loop: parsing megabytes of JSON, formatting, hashing,
 * compressing, undoing a byte-shuffle. A task runs on a helper, then its `done` runs on the loop that sent it.
 */
#ifndef AITERD_HELPERS_H
#define AITERD_HELPERS_H

#include <stdbool.h>

#include "front/loop.h"

struct helper_task {
	struct loop_task news; /* first member */
	struct loop *loop;
	void (*work)(struct helper_task *t); /* on a helper thread */
	void (*done)(struct helper_task *t); /* back on the loop's thread */
	struct helper_task *next;
};

struct helpers;

struct helpers *helpers_new(int threads, struct err *e);
void helpers_free(struct helpers **h); /* finishes what was submitted */
/* For a task that could go on for long: does another one wait for a thread, or do they end? */
bool helpers_wanted(struct helpers *h);
void helpers_submit(struct helpers *h, struct helper_task *t);

#endif
