/*
 * jobs.h: the table of jobs: requests whose clients did not wait (Prefer: respond-async), over all loops. A job's work is a
 * struct request without a connection, which lives on one loop; the table knows who it is, how far it is, and keeps its
 * reply for those who come for it, within limits of number, time and bytes.
 *
 * Threads: any; one mutex inside. The work is its loop's alone until jobs_finish(); from then on nobody changes it, and
 * whoever holds a reference to the job may read its reply. request_job.c knows how works begin and end; v1_jobs.c tells of
 * them.
 */
#ifndef AITERD_JOBS_H
#define AITERD_JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "err.h"
#include "front/loop.h"

#define JOB_ID_SIZE 33 /* 128 bits in hexadecimal: who does not know it cannot guess it */
#define JOB_OWNER_SIZE 64
#define JOB_PATH_SIZE 48 /* "/v1/jobs/ID" */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

/* The device's job on which the work waits now. */
struct job_place {
	unsigned device;
	int loop;
	uint64_t id;	 /* the link's */
	uint64_t ticket; /* how many were submitted to the device before */
};

/* What the device says of that. */
struct job_look {
	bool running;
	uint64_t runs, of; /* when running; 0 of 0: not told yet */
	uint64_t before;   /* when not: how many are to be done before it, about */
};

struct request;

struct job {
	/* Never changes. */
	char id[JOB_ID_SIZE], path[JOB_PATH_SIZE];
	char owner[JOB_OWNER_SIZE]; /* who may see it; "": everybody, as long as there is no access control */
	char op[64];
	const char *action; /* "run", "check", "bench" */
	struct timespec created;
	uint64_t begun_ns;
	struct loop *loop;
	struct request *work;

	/* Its loop's thread. */
	struct request *waiter; /* the connection's request that would rather have the result than a 202; NULL: none */

	_Atomic uint32_t refs;

	/* Under the table's lock. */
	struct loop_task cancel_task; /* on its way to the loop while `cancelled` and unfinished */
	enum job_state state;
	bool listed, placed, cancelled;
	const char *unit;  /* of done and of; NULL: the device job's iterations */
	uint64_t done, of; /* as last seen */
	struct job_place place;
	uint64_t finished_ns, bytes; /* 0: it is not */
	uint64_t key[2];
	struct job *next_in_bucket;
	struct job *older, *newer;  /* all, by their beginning */
	struct job *sooner, *later; /* the finished ones, by their end */
};

/* A job as it is at one moment. */
struct job_view {
	enum job_state state;
	bool finished;
	int64_t position; /* -1: not queued */
	const char *unit;
	uint64_t done, of;
	double elapsed_ms, expires_in_s; /* the latter: of finished ones */
};

struct jobs_config {
	uint32_t max;				 /* jobs of all states */
	double ttl_s;				 /* from a job's end */
	uint64_t quota;				 /* bytes of results together */
	void (*cancel)(struct loop_task *t);	 /* job->cancel_task's run, on its loop */
	void (*free_work)(struct request *work); /* any thread */
	void (*look)(void *cls, const struct job_place *p, struct job_look *out); /* any thread */
	void *cls;
};

struct jobs_stats {
	uint32_t count, max;
	uint64_t bytes, quota;
};

struct jobs;

struct jobs *jobs_new(const struct jobs_config *c, struct err *e);
void jobs_free(struct jobs **j); /* forgets all; there are no other references any more */

/* A new one, queued; it takes the work. The caller has a reference. NULL: ERR_OVERLOADED, as many are unfinished as may be. */
struct job *jobs_add(struct jobs *j, struct loop *l, struct request *work, const char *op, const char *action,
		     struct err *e);
void jobs_unref(struct jobs *j, struct job **job);

/* Its loop's thread: it went to a device, with so many runs to do; it is so far, counted in `unit`. */
void jobs_submitted(struct jobs *j, struct job *job, const struct job_place *p, uint64_t runs);
void jobs_progress(struct jobs *j, struct job *job, uint64_t done, uint64_t of, const char *unit);
/* It is over, as JOB_DONE, _FAILED or _CANCELLED (which forgets it); its reply has so many bytes. Older results go where
 * room is needed. */
void jobs_finish(struct jobs *j, struct job *job, enum job_state how, uint64_t bytes);
/* Take it out of the table as if it had never been there: its client has waited for it after all. */
void jobs_withdraw(struct jobs *j, struct job *job);

typedef void (*job_tell_f)(void *cls, const struct job *job, const struct job_view *v);

/* Under the lock: tell must be quick. -1: ERR_UNKNOWN_JOB or ERR_JOB_GONE. */
int jobs_look(struct jobs *j, const char *id, job_tell_f tell, void *cls, struct err *e);
void jobs_each(struct jobs *j, job_tell_f tell, void *cls); /* the newest first */
/* 1: it is finished, and *job a reference to it, for its reply's sake. 0: it is not. -1 as above. */
int jobs_take(struct jobs *j, const char *id, struct job **job, struct err *e);
/* 1: a finished one is forgotten. 0: it was not finished and is being cancelled. -1 as above. */
int jobs_delete(struct jobs *j, const char *id, struct err *e);
/* Once a second or so: forget the results whose time is over. */
void jobs_expire(struct jobs *j, uint64_t now_ns);
void jobs_stats(struct jobs *j, struct jobs_stats *s);

const char *job_state_name(enum job_state s);

#endif
