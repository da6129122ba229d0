/*
 * link.h: one event loop's line to one device's worker: jobs out, results back, and what becomes of them when the
 * worker dies. The job that was running fails with the worker's last words and is never tried again; jobs that
 * were still queued go to the new worker once. One loop's thread only.
 */
#ifndef AITERD_LINK_H
#define AITERD_LINK_H

#include <stdbool.h>

#include "arena.h"
#include "msg.h"

struct link;
struct link_job;
struct store;

typedef void (*link_done_f)(struct link_job *job, const struct msg_done *done);

struct link_job {	    /* owned by the caller, who keeps it until done was called */
	struct msg_job msg; /* msg.m and submitted_ns are set by link_submit */
	link_done_f done;
	void *cls;
	/* link's own */
	struct link_job *next;
	uint64_t cancel_ns; /* the worker was told to drop it, 0: not */
	uint8_t state, tries;
	bool unwanted, late; /* the client is gone; its time is up */
};

struct link_config {
	int loop;
	unsigned device;
	struct arena_pool *pool; /* to MAP slabs by number */
	struct store *store;	 /* to tell the worker which kept tensors are gone; NULL: another link does */
	/* asks for the worker's death (supervisor_kill) when a running job is past its deadline */
	void (*kill)(void *cls, unsigned device, uint32_t generation, const struct err *why);
	void *cls;
};

struct link *link_new(const struct link_config *c);
void link_free(struct link **l); /* fails what is left with ERR_DRAINING */

/* Supervisor's news, brought to this thread. `why` of ERR_DEVICE_UNAVAILABLE: no worker will come, until link_up. */
void link_up(struct link *l, uint32_t generation, int sock, const struct worker_status *st);
void link_gone(struct link *l, uint32_t generation, uint64_t running_loop, uint64_t running_id, const struct err *why);

/* Always takes the job: while the worker is away it waits (until its deadline, or until it is known that no worker
 * will come). done is called from inside link_event, link_expire, link_up, link_gone and link_free only. A few jobs are
 * with the worker at a time, the others wait here. */
void link_submit(struct link *l, struct link_job *job);
/* Send what was submitted: once a turn of the loop, so that the worker is woken once for many. */
void link_flush(struct link *l);
/* The client is gone: if queued, it is taken out; done follows with ERR_CLIENT_GONE either way (for a job the
 * worker has when that is done with it: its memory is in use until then). */
void link_cancel(struct link *l, struct link_job *job);

/* For the loop's epoll: -1 while there is no worker. The fd changes only in link_up/link_gone/link_event. */
int link_fd(const struct link *l);
/* Take in answers; call when link_has_news, or with `readable` when the descriptor is. */
void link_event(struct link *l, bool readable);
bool link_has_news(const struct link *l);
/* Before the loop waits: false when there is news already; otherwise the descriptor becomes readable when there is. */
bool link_sleep(struct link *l);
void link_awake(struct link *l);
/* Call about every 100 ms while jobs are queued: ends what is past its deadline (a running one a moment later: the
 * worker may say so itself, otherwise it is killed). Once a second or so when idle: tells the worker of slabs given back. */
void link_expire(struct link *l, uint64_t now_ns);

/* How many of a job's runs are done, warm-up included, of how many; false when it does not run (yet). */
bool link_progress(const struct link *l, const struct link_job *job, uint64_t *runs, uint64_t *of);

unsigned link_queued(const struct link *l); /* jobs, running one included */

#endif
