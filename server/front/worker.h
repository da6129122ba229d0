/*
 * worker.h: one device's worker process as the supervisor sees it: start, HELLO, pings, death, burial, back-off.
 * For supervisor.c only. The supervisor's thread, except worker_kill.
 */
#ifndef AITERD_WORKER_H
#define AITERD_WORKER_H

#include <pthread.h>

#include "front/last_words.h"
#include "front/spawn.h"
#include "front/supervisor.h"

enum worker_fd { WORKER_CONTROL, WORKER_OUTPUT, WORKER_PIDFD };

struct worker {
	unsigned device;
	int ordinal;
	char who[40]; /* "cpu:0 (pid 123)" */
	struct last_words words;
	int status_fd;
	struct worker_status *status; /* one page for all generations: jobs' numbers tell them apart */
	bool told_up;		      /* the loops know of this generation */
	bool tell_hopeless;	      /* the loops are still to be told that none will come */
	uint64_t since_ns, retry_ns, delay_ns, closed_ns, ping_ns, ping_finished;
	bool pinged;

	/* Under the supervisor's lock. */
	struct spawned p; /* pid -1: there is none, or it is reaped */
	struct device_state state;
	bool killed, hopeless;
	uint64_t killed_ns;
	struct err kill_why;
};

struct supervisor {
	struct supervisor_config config;
	int epoll, wake;
	pthread_mutex_t lock;
	unsigned n;
	struct worker workers[DEVICES_MAX];
};

/* Find nothing yet, start nothing yet. */
int worker_init(struct worker *w, unsigned device, const char *kind, int ordinal, struct err *e);
void worker_fini(struct worker *w);
void worker_close(struct supervisor *s, struct worker *w); /* all descriptors of a process */
void worker_start(struct supervisor *s, struct worker *w);
void worker_event(struct supervisor *s, struct worker *w, enum worker_fd what);
/* Whatever is due by now; worker_due tells when there will be something, UINT64_MAX: not by itself. */
void worker_tick(struct supervisor *s, struct worker *w, uint64_t now);
uint64_t worker_due(const struct supervisor *s, const struct worker *w);
/* Under the lock, any thread. */
void worker_kill(struct supervisor *s, struct worker *w, const struct err *why);

#endif
