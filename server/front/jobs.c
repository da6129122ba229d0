/* jobs.c: see jobs.h. A hash table by id; one list of all jobs by their beginning, one of the finished ones by their end. */
#include "front/jobs.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "log.h"

#define BUCKETS 4096
#define GONE_MAX 1024 /* ids that are remembered to tell what became of their jobs */

enum gone_why { GONE_EXPIRED = 1, GONE_ROOM, GONE_DELETED, GONE_CANCELLED };

struct gone {
	uint64_t key[2];
	enum gone_why why; /* 0: nobody yet */
};

struct jobs {
	struct jobs_config c;
	pthread_mutex_t lock; /* all below */
	struct job *buckets[BUCKETS];
	struct job *oldest, *newest, *first, *last; /* all; the finished ones */
	uint32_t count;
	uint64_t bytes;
	struct gone gone[GONE_MAX];
	unsigned n_gone; /* ever, so to speak: the next place */
};

const char *
job_state_name(enum job_state s)
{
	static const char *const names[] = {"queued", "running", "done", "failed", "cancelled"};

	return names[s];
}

struct jobs *
jobs_new(const struct jobs_config *c, struct err *e)
{
	struct jobs *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for a table of jobs");
		return NULL;
	}
	j->c = *c;
	pthread_mutex_init(&j->lock, NULL);
	return j;
}

void
jobs_unref(struct jobs *j, struct job **jobp)
{
	struct job *job = *jobp;

	*jobp = NULL;
	if (job == NULL || atomic_fetch_sub(&job->refs, 1) > 1)
		return;
	j->c.free_work(job->work);
	free(job);
}

/* ---------------------------------------------------------------- the table, under its lock */

static struct job **
bucket(struct jobs *j, const uint64_t key[2])
{
	return &j->buckets[key[0] % BUCKETS];
}

static void
enter(struct jobs *j, struct job *job)
{
	struct job **b = bucket(j, job->key);

	job->next_in_bucket = *b;
	*b = job;
	job->older = j->newest;
	if (j->newest != NULL)
		j->newest->newer = job;
	else
		j->oldest = job;
	j->newest = job;
	job->listed = true;
	j->count++;
}

static void
finished_add(struct jobs *j, struct job *job)
{
	job->sooner = j->last;
	if (j->last != NULL)
		j->last->later = job;
	else
		j->first = job;
	j->last = job;
	j->bytes += job->bytes;
}

static void
finished_remove(struct jobs *j, struct job *job)
{
	*(job->sooner != NULL ? &job->sooner->later : &j->first) = job->later;
	*(job->later != NULL ? &job->later->sooner : &j->last) = job->sooner;
	j->bytes -= job->bytes;
}

/* Out of the table; its reference is the caller's now, to be dropped without the lock. */
static struct job *
leave(struct jobs *j, struct job *job)
{
	struct job **b = bucket(j, job->key);

	assert(job->listed);
	while (*b != job)
		b = &(*b)->next_in_bucket;
	*b = job->next_in_bucket;
	job->next_in_bucket = NULL;
	*(job->older != NULL ? &job->older->newer : &j->oldest) = job->newer;
	*(job->newer != NULL ? &job->newer->older : &j->newest) = job->older;
	if (job->finished_ns != 0)
		finished_remove(j, job);
	job->listed = false;
	j->count--;
	return job;
}

static struct job *
forget(struct jobs *j, struct job *job, enum gone_why why)
{
	struct gone *g = &j->gone[j->n_gone++ % GONE_MAX];

	*g = (struct gone){.key = {job->key[0], job->key[1]}, .why = why};
	return leave(j, job);
}

/* The finished one that has been there longest, out of the table; NULL: none. */
static struct job *
forget_first(struct jobs *j, enum gone_why why)
{
	return j->first != NULL ? forget(j, j->first, why) : NULL;
}

static bool
read_key(const char *id, uint64_t key[2])
{
	key[0] = key[1] = 0;
	for (int i = 0; i < JOB_ID_SIZE - 1; i++) {
		char c = id[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
			return false;
		key[i / 16] = key[i / 16] << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return id[JOB_ID_SIZE - 1] == '\0';
}

static int
gone(const char *id, unsigned why, struct err *e)
{
	static const char *const what[] = {
		[GONE_EXPIRED] = "its time to live (--jobs-ttl) was over",
		[GONE_ROOM] = "it made room for newer ones (--jobs, --jobs-quota)",
		[GONE_DELETED] = "it was deleted",
		[GONE_CANCELLED] = "it was cancelled",
	};

	return err_set(e, ERR_JOB_GONE, "the job %.40s is no longer there: %s", id, what[why]);
}

static int
unknown(const struct jobs *j, const char *id, const uint64_t key[2], struct err *e)
{
	for (unsigned i = 0; i < GONE_MAX && key != NULL; i++)
		if (j->gone[i].why != 0 && j->gone[i].key[0] == key[0] && j->gone[i].key[1] == key[1])
			return gone(id, j->gone[i].why, e);
	return err_set(e, ERR_UNKNOWN_JOB, "there is no job '%.40s'; GET /v1/jobs lists what there is", id);
}

static struct job *
find(struct jobs *j, const char *id, struct err *e)
{
	struct job *job = NULL;
	uint64_t key[2];

	if (!read_key(id, key)) {
		unknown(j, id, NULL, e);
		return NULL;
	}
	for (job = *bucket(j, key); job != NULL; job = job->next_in_bucket)
		if (job->key[0] == key[0] && job->key[1] == key[1])
			return job;
	unknown(j, id, key, e);
	return NULL;
}

/* ---------------------------------------------------------------- their lives */

static int
choose_id(struct job *job, struct err *e)
{
	ssize_t n;

	do
		n = getrandom(job->key, sizeof(job->key), 0);
	while (n == -1 && errno == EINTR);
	if (n != (ssize_t)sizeof(job->key))
		return err_set(e, ERR_INTERNAL, "no random numbers for a job's id");
	snprintf(job->id, sizeof(job->id), "%016llx%016llx", (unsigned long long)job->key[0],
		 (unsigned long long)job->key[1]);
	snprintf(job->path, sizeof(job->path), "/v1/jobs/%s", job->id);
	return 0;
}

struct job *
jobs_add(struct jobs *j, struct loop *l, struct request *work, const char *op, const char *action, struct err *e)
{
	struct job *job = calloc(1, sizeof(*job)), *old = NULL;
	bool full;

	if (job == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for a job");
		return NULL;
	}
	if (choose_id(job, e) == -1) {
		free(job);
		return NULL;
	}
	snprintf(job->op, sizeof(job->op), "%s", op);
	job->action = action;
	job->loop = l;
	job->begun_ns = clock_ns();
	clock_gettime(CLOCK_REALTIME, &job->created);
	job->cancel_task.run = j->c.cancel;
	atomic_init(&job->refs, 2);

	pthread_mutex_lock(&j->lock);
	if (j->count >= j->c.max)
		old = forget_first(j, GONE_ROOM);
	full = j->count >= j->c.max;
	if (!full) {
		job->work = work;
		enter(j, job);
	}
	pthread_mutex_unlock(&j->lock);
	jobs_unref(j, &old);
	if (full) {
		err_set(e, ERR_OVERLOADED, "%u jobs are queued or running; no more are taken at the moment (--jobs)",
			j->c.max);
		free(job);
		return NULL;
	}
	return job;
}

void
jobs_submitted(struct jobs *j, struct job *job, const struct job_place *p, uint64_t runs)
{
	pthread_mutex_lock(&j->lock);
	if (job->placed) /* not its first: what came before has run */
		job->state = JOB_RUNNING;
	job->placed = true;
	job->place = *p;
	if (job->unit == NULL) {
		job->done = 0;
		job->of = runs;
	}
	pthread_mutex_unlock(&j->lock);
}

void
jobs_progress(struct jobs *j, struct job *job, uint64_t done, uint64_t of, const char *unit)
{
	pthread_mutex_lock(&j->lock);
	job->unit = unit;
	job->done = done;
	job->of = of;
	if (done > 0)
		job->state = JOB_RUNNING;
	pthread_mutex_unlock(&j->lock);
}

void
jobs_finish(struct jobs *j, struct job *job, enum job_state how, uint64_t bytes)
{
	struct job *out = NULL, *next;

	pthread_mutex_lock(&j->lock);
	job->state = how;
	if (how == JOB_DONE)
		job->done = job->of;
	if (how == JOB_CANCELLED || job->cancelled) { /* the latter: it was done before it heard of that */
		out = forget(j, job, GONE_CANCELLED);
	} else {
		job->finished_ns = clock_ns();
		job->bytes = bytes;
		finished_add(j, job);
		/* Itself it is not: who finishes with more than the quota has no result but an error. */
		while (j->bytes > j->c.quota && j->first != job) {
			next = forget_first(j, GONE_ROOM);
			next->next_in_bucket = out;
			out = next;
		}
	}
	pthread_mutex_unlock(&j->lock);
	for (; out != NULL; out = next) {
		next = out->next_in_bucket;
		jobs_unref(j, &out);
	}
}

void
jobs_withdraw(struct jobs *j, struct job *job)
{
	struct job *out = NULL;

	pthread_mutex_lock(&j->lock);
	if (job->listed)
		out = leave(j, job);
	pthread_mutex_unlock(&j->lock);
	jobs_unref(j, &out);
}

/* ---------------------------------------------------------------- questions */

/* As it is now: of an unfinished one, what its device says. */
static void
view(struct jobs *j, struct job *job, struct job_view *v)
{
	uint64_t now = clock_ns(), age;
	struct job_look look = {.running = false};

	*v = (struct job_view){.finished = job->finished_ns != 0, .position = -1};
	if (!v->finished && job->placed) {
		j->c.look(j->c.cls, &job->place, &look);
		if (look.running)
			job->state = JOB_RUNNING;
		if (look.running && look.of > 0 && job->unit == NULL) {
			job->done = look.runs;
			job->of = look.of;
		}
	}
	v->state = job->cancelled && !v->finished ? JOB_CANCELLED : job->state;
	if (v->state == JOB_QUEUED)
		v->position = (int64_t)look.before;
	v->unit = job->unit != NULL ? job->unit : "iterations";
	v->done = job->done;
	v->of = job->of;
	v->elapsed_ms = (double)((v->finished ? job->finished_ns : now) - job->begun_ns) / 1e6;
	if (v->finished) {
		age = now > job->finished_ns ? now - job->finished_ns : 0;
		v->expires_in_s = j->c.ttl_s - (double)age / 1e9;
		v->expires_in_s = v->expires_in_s > 0 ? v->expires_in_s : 0;
	}
}

int
jobs_look(struct jobs *j, const char *id, job_tell_f tell, void *cls, struct err *e)
{
	struct job *job;
	struct job_view v;

	pthread_mutex_lock(&j->lock);
	if ((job = find(j, id, e)) != NULL) {
		view(j, job, &v);
		tell(cls, job, &v);
	}
	pthread_mutex_unlock(&j->lock);
	return job != NULL ? 0 : -1;
}

void
jobs_each(struct jobs *j, job_tell_f tell, void *cls)
{
	struct job_view v;

	pthread_mutex_lock(&j->lock);
	for (struct job *job = j->newest; job != NULL; job = job->older) {
		view(j, job, &v);
		tell(cls, job, &v);
	}
	pthread_mutex_unlock(&j->lock);
}

int
jobs_take(struct jobs *j, const char *id, struct job **out, struct err *e)
{
	struct job *job;
	int rc = -1;

	pthread_mutex_lock(&j->lock);
	if ((job = find(j, id, e)) != NULL) {
		rc = job->finished_ns != 0;
		if (rc == 1) {
			atomic_fetch_add(&job->refs, 1);
			*out = job;
		} else if (job->cancelled) { /* it still runs, and yet there will be no result */
			rc = gone(id, GONE_CANCELLED, e);
		}
	}
	pthread_mutex_unlock(&j->lock);
	return rc;
}

int
jobs_delete(struct jobs *j, const char *id, struct err *e)
{
	struct job *job, *out = NULL;
	int rc = -1;

	pthread_mutex_lock(&j->lock);
	if ((job = find(j, id, e)) == NULL)
		goto out;
	rc = job->finished_ns != 0;
	if (rc == 1) {
		out = forget(j, job, GONE_DELETED);
	} else if (!job->cancelled) {
		job->cancelled = true;
		atomic_fetch_add(&job->refs, 1);
		/* Under the lock: as long as the job is unfinished, its loop will come to this. */
		loop_post(job->loop, &job->cancel_task);
	}
out:
	pthread_mutex_unlock(&j->lock);
	jobs_unref(j, &out);
	return rc;
}

void
jobs_expire(struct jobs *j, uint64_t now_ns)
{
	uint64_t ttl = (uint64_t)(j->c.ttl_s * 1e9);
	struct job *out;

	do {
		pthread_mutex_lock(&j->lock);
		out = j->first != NULL && now_ns > j->first->finished_ns && now_ns - j->first->finished_ns >= ttl
			      ? forget_first(j, GONE_EXPIRED)
			      : NULL;
		pthread_mutex_unlock(&j->lock);
		if (out == NULL)
			return;
		jobs_unref(j, &out);
	} while (true);
}

void
jobs_stats(struct jobs *j, struct jobs_stats *s)
{
	pthread_mutex_lock(&j->lock);
	*s = (struct jobs_stats){.count = j->count, .max = j->c.max, .bytes = j->bytes, .quota = j->c.quota};
	pthread_mutex_unlock(&j->lock);
}

void
jobs_free(struct jobs **jp)
{
	struct jobs *j = *jp;
	struct job *out;

	if (j == NULL)
		return;
	*jp = NULL;
	while ((out = j->newest) != NULL) {
		leave(j, out);
		jobs_unref(j, &out);
	}
	pthread_mutex_destroy(&j->lock);
	free(j);
}
