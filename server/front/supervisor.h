/*
 * supervisor.h: starts, watches, buries and replaces the device workers. Runs on the main thread: the
 * loops never wait for a process. A worker is an executable (aiterd-worker-cpu ...), found beside aiterd first, then
 * in the installed libexec directory; it gets one socket per loop, a control socket and a status page (msg.h), and its
 * standard output and error come back through a pipe and are logged line by line; the last lines are its last words.
 *
 * States: OFF -> STARTING -> READY -> DEAD -> (back-off) -> STARTING, plus FAILED (exit status 2: it will never
 * work here; not tried again) and LOST (killed but cannot be reaped: never a second one on that device).
 */
#ifndef AITERD_SUPERVISOR_H
#define AITERD_SUPERVISOR_H

#include "arena.h"
#include "err.h"
#include "msg.h"

#define DEVICES_MAX 16

enum worker_state { W_OFF, W_STARTING, W_READY, W_DEAD, W_FAILED, W_LOST };
const char *worker_state_name(enum worker_state s);

struct supervisor;

/* What the loops are told; called on the supervisor's thread, must only pass the news on. */
struct supervisor_events {
	void *cls;
	/* A ready worker's socket for this loop (ownership moves). The status page is the device's, the same for all
	 * generations of its worker, and stays mapped until supervisor_free. */
	void (*up)(void *cls, int loop, unsigned device, uint32_t generation, int sock, const struct worker_status *st);
	/* The worker is dead and reaped (or lost); `running_loop`/`running_id` as in the status page at its death.
	 * When no other will come (FAILED, LOST), also after a start that never came to `up`, a second one follows
	 * with ERR_DEVICE_UNAVAILABLE in `why`: nobody is to wait. A lost one that dies after all is replaced: `up`. */
	void (*gone)(void *cls, int loop, unsigned device, uint32_t generation, uint64_t running_loop,
		     uint64_t running_id, const struct err *why);
};

struct supervisor_config {
	const char *devices;	/* "cpu" or "hip:0,cpu": a cpu worker is always added, last, if none is named */
	const char *worker_dir; /* NULL: beside the executable, then PKGLIBEXECDIR */
	const char *aiter_dir;	/* AITER's code objects, for GPU workers; NULL: none */
	int loops;
	int cpu_threads;
	unsigned start_timeout_s, ping_s; /* HELLO within; a ping unanswered for this long while idle is a hang */
	struct arena_pool *pool;	  /* for quarantine */
	struct supervisor_events events;
};

struct device_state { /* a copy, for /v1/info, routing and metrics */
	char id[24];  /* "cpu:0" */
	enum worker_state state;
	uint32_t generation, restarts;
	int pid;
	struct device_info info; /* of the newest HELLO; kind set from the start */
	struct err obituary;	 /* of the last death; code 0: none yet */
	uint64_t allocated, peak, finished, busy_ns, running_since_ns; /* from the status page */
};

/* Is this a list of devices? Whether there are such is found out later. */
int supervisor_check(const char *devices, struct err *e);
struct supervisor *supervisor_new(const struct supervisor_config *c, struct err *e); /* starts the workers */
unsigned supervisor_devices(const struct supervisor *s);
/* Any thread. */
void supervisor_device(struct supervisor *s, unsigned device, struct device_state *out);
/* What a device runs now, by its status page; loop 0: nothing. Any thread, no lock. */
struct running {
	uint64_t loop, id; /* as in the page */
	uint64_t runs, of; /* 0 of 0: not told yet */
};
void supervisor_running(const struct supervisor *s, unsigned device, struct running *out);
/* Any thread: kill this worker (if it is still that generation) and write `why` as its obituary. */
void supervisor_kill(struct supervisor *s, unsigned device, uint32_t generation, const struct err *why);
/* Main thread: handle events for at most timeout_ms; also wakes when supervisor_wake was called (signal-safe). */
void supervisor_run(struct supervisor *s, int timeout_ms);
void supervisor_wake(struct supervisor *s);
/* Asks all workers to leave, kills those that do not within 2 s, reaps. */
void supervisor_free(struct supervisor **s);

#endif
