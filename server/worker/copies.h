/*
 * copies.h: a device's copies of tensors that the server keeps (front/store.h), so that weights are uploaded once. A copy
 * is known by the tensor's uid, which no other tensor ever has: it cannot be stale. The host's tensor is the truth; any
 * copy may go at any time but while a job uses it. A worker's main thread only.
 */
#ifndef AITERD_COPIES_H
#define AITERD_COPIES_H

#include <stdbool.h>
#include <stdint.h>

struct device;

struct copy {
	struct copy *next; /* used less recently */
	uint64_t uid, bytes;
	void *p;
	bool held; /* by the job at hand */
	bool gone; /* forgotten meanwhile: to be freed when the job is over */
};

struct copies { /* part of a device; all zero at first */
	struct copy *first;
};

/* The device's memory that has the tensor, held until copies_release(); NULL: there is none. */
void *copies_find(struct copies *c, uint64_t uid, uint64_t bytes);
/* Memory from dev_alloc() becomes a copy; or is freed, when there is one already or no memory to note it. */
void copies_add(struct device *d, uint64_t uid, void *p, uint64_t bytes);
/* The job is over: it holds nothing any more. */
void copies_release(struct device *d);
/* Free what was used least recently and is not held; false: there is nothing. */
bool copies_drop(struct device *d);
/* The tensor is gone; all are, perhaps. May come while a job runs: what that holds goes with its end. */
void copies_forget(struct device *d, uint64_t uid);
void copies_clear(struct device *d);

#endif
