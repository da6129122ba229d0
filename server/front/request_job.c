/*
 * request_job.c: a request whose client does not wait (Prefer: respond-async). Its work becomes a struct request of its own,
 * without a connection, which the table of jobs (jobs.h) knows; what its route starts, and all that follows, does not
 * notice. The connection's request stays behind, small, and answers 202, or, where the client waits a little, the work's
 * reply. Everything here runs on the loop's thread, but for what jobs_config says otherwise.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/http.h"
#include "front/jobs.h"
#include "front/prefer.h"
#include "front/request.h"
#include "front/routes.h"
#include "front/v1.h"
#include "log.h"

/* ---------------------------------------------------------------- the connection's request */

static void
read_prefer(const struct request *req, struct prefer *p)
{
	struct text joined;

	text_init(&joined, 64 * 1024);
	prefer_parse(http_header_list(req, "Prefer", &joined), p);
	text_fini(&joined);
}

/* When it leaves, the server waits for those who fetch a result, too. */
static void
count_in(struct request *req)
{
	if (!req->counted)
		atomic_fetch_add(&req->loop->svc->requests, 1);
	req->counted = true;
}

/* The job's reply as this request's, which keeps the job for it. */
static void
deliver(struct request *req)
{
	const struct request *work = req->asks->work;

	req->reply = work->reply;
	req->reply.body.owned = NULL;
	req->reply.close = false;
	count_in(req);
	request_ready(req);
}

/* The job goes on without its client: 202. */
static void
let_go(struct request *req)
{
	struct job *job = req->asks;

	job->waiter = NULL;
	req->first = false;
	req->reply.location = job->path;
	req->reply.applied = "respond-async";
	v1_job_state(req, job->id, 202);
}

void
request_leave(struct request *req)
{
	struct job *job = req->asks;

	if (!req->first)
		return;
	/* Nobody else was told of the job. */
	req->first = false;
	job->waiter = NULL;
	request_gone(job->work);
}

void
request_tick(struct request *req, uint64_t now_ns)
{
	if (req->wait_until_ns == 0 || req->ready)
		return;
	if (!req->first)
		v1_job_wait(req, now_ns >= req->wait_until_ns);
	else if (now_ns >= req->wait_until_ns)
		let_go(req);
}

void
request_result(struct request *req, struct job *job)
{
	req->asks = job;
	deliver(req);
}

bool
request_wait(struct request *req)
{
	struct prefer p;

	read_prefer(req, &p);
	if (!p.wait_given || p.wait_s == 0)
		return false;
	req->wait_until_ns = clock_ns() + (uint64_t)p.wait_s * 1000000000u;
	count_in(req);
	conn_wait(req->conn, req);
	return true;
}

/* ---------------------------------------------------------------- the work */

/* What the request was to do, with all that it has for it; the connection's own things stay. */
static struct request *
work_new(struct request *req)
{
	struct request *work = malloc(sizeof(*work));

	if (work == NULL)
		return NULL;
	*work = *req;
	work->conn = NULL;
	work->mhd = NULL;
	work->refs = 1;
	work->suspended = work->held = false;
	req->run = NULL;
	req->counted = false;
	return work;
}

/* It did not come to a job: the request is whole again. */
static void
work_undo(struct request *req, struct request *work)
{
	if (work == NULL)
		return;
	req->run = work->run;
	req->counted = work->counted;
	free(work);
}

bool
request_defer(struct request *req)
{
	struct service *svc = req->loop->svc;
	struct request *work = NULL;
	struct prefer p;

	if (req->route->action == NULL || svc->opt->jobs == 0 || http_header(req, "Prefer") == NULL)
		return false;
	read_prefer(req, &p);
	if (!p.respond_async)
		return false;
	if ((work = work_new(req)) == NULL)
		err_set(&req->err, ERR_OUT_OF_MEMORY, "no memory for a request");
	else
		req->asks = jobs_add(svc->jobs, req->loop, work, req->op->name, req->route->action, &req->err);
	if (req->asks == NULL) {
		work_undo(req, work);
		request_reply_error(req);
		return true;
	}
	work->job = req->asks;
	req->asks->waiter = req;
	req->first = true;
	if (p.wait_given)
		req->wait_until_ns = clock_ns() + (uint64_t)p.wait_s * 1000000000u;
	work->route->start(work);
	/* What was wrong with the request itself is mostly known by now, and said at once. */
	if (!req->ready && (!p.wait_given || p.wait_s == 0))
		let_go(req);
	return true;
}

static bool
lies_in(const unsigned char *p, const void *begin, uint64_t bytes)
{
	return p >= (const unsigned char *)begin && p < (const unsigned char *)begin + bytes;
}

/* What the reply keeps occupied: the request's memory as far as it is still lent, and what lies outside of it. */
static uint64_t
footprint(const struct request *work)
{
	const struct compute_request *run = work->run;
	const struct body *b = &work->reply.body;
	uint64_t bytes = run->mem.bytes + sizeof(*work) + sizeof(*run);

	for (int i = 0; i < b->n; i++) {
		bool inside = lies_in(b->pieces[i].p, run, sizeof(*run));

		for (int k = 0; k < run->mem.n && !inside; k++)
			inside = lies_in(b->pieces[i].p, run->mem.blocks[k].data, run->mem.blocks[k].size);
		bytes += inside ? 0 : b->pieces[i].n;
	}
	return bytes;
}

/* Its reply takes more room than all results together may. */
static void
refuse_result(struct request *work, uint64_t bytes, uint64_t quota)
{
	err_set(&work->err, ERR_OUT_OF_MEMORY,
		"the result takes %llu bytes, and all results together may take %llu (--jobs-quota): ask for it without "
		"Prefer: respond-async, or for less (outputs=digest)",
		(unsigned long long)bytes, (unsigned long long)quota);
	work->reply.stats = NULL;
	work->reply.timing[0] = '\0';
	request_reply_error(work);
}

void
request_settled(struct request *work)
{
	struct service *svc = work->loop->svc;
	struct job *job = work->job;
	struct request *waiter = job->waiter;
	bool gone = work->gone, counted = work->counted;
	struct jobs_stats limits;
	uint64_t bytes;

	request_shed(work);
	bytes = footprint(work);
	log_debug("%s: job %s of %s -> %s %d", work->id, job->id, job->op, gone ? "cancelled" : "over",
		  work->reply.status);
	job->waiter = NULL;
	if (waiter != NULL && !gone) {
		waiter->first = false;
		jobs_withdraw(svc->jobs, job);
		deliver(waiter);
		work->counted = false;
		if (counted)
			atomic_fetch_sub(&svc->requests, 1);
		return;
	}
	jobs_stats(svc->jobs, &limits);
	if (!gone && bytes > limits.quota) {
		refuse_result(work, bytes, limits.quota);
		request_shed(work);
		bytes = footprint(work);
	}
	/* From the next call on the work may be gone. */
	work->counted = false;
	jobs_finish(svc->jobs, job, gone ? JOB_CANCELLED : work->reply.status >= 400 ? JOB_FAILED : JOB_DONE, bytes);
	if (counted)
		atomic_fetch_sub(&svc->requests, 1);
	if (waiter != NULL) {
		waiter->first = false;
		err_set(&waiter->err, ERR_JOB_GONE, "the job was cancelled while its client waited");
		request_reply_error(waiter);
	}
}

void
request_placed(struct request *work, uint64_t ticket)
{
	struct compute_request *run = work->run;
	struct job_place p = {
		.device = run->device, .loop = work->loop->index, .id = run->job.msg.m.id, .ticket = ticket};

	jobs_submitted(work->loop->svc->jobs, work->job, &p, (uint64_t)run->job.msg.warmup + run->job.msg.iters);
}

void
request_progress(struct request *req, uint64_t done, uint64_t of, const char *unit)
{
	if (req->job != NULL)
		jobs_progress(req->loop->svc->jobs, req->job, done, of, unit);
}

/* ---------------------------------------------------------------- for the table */

static void
cancel(struct loop_task *t)
{
	struct job *job = (struct job *)((char *)t - offsetof(struct job, cancel_task));

	if (!job->work->ready)
		request_gone(job->work);
	jobs_unref(job->loop->svc->jobs, &job);
}

static void
look(void *cls, const struct job_place *p, struct job_look *out)
{
	struct service *svc = cls;
	struct running r;
	uint64_t ended = atomic_load(&svc->devices[p->device].ended);

	supervisor_running(svc->sup, p->device, &r);
	*out = (struct job_look){.before = p->ticket > ended ? p->ticket - ended : 0};
	if (r.loop != (uint64_t)p->loop + 1 || r.id != p->id)
		return;
	out->running = true;
	out->runs = r.runs;
	out->of = r.of;
}

struct jobs *
request_jobs_new(struct service *svc, struct err *e)
{
	const struct options *o = svc->opt;
	struct jobs_config c = {.max = (uint32_t)o->jobs,
				.ttl_s = o->jobs_ttl,
				.quota = o->jobs_quota > 0 ? o->jobs_quota : arena_limit(svc->pool) / 4,
				.cancel = cancel,
				.free_work = request_free_work,
				.look = look,
				.cls = svc};

	return jobs_new(&c, e);
}
