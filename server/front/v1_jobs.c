/* v1_jobs.c: the pages about jobs (v1.h): the list, one of them, its result, and how to be rid of it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "front/jobs.h"
#include "front/request.h"
#include "front/v1.h"

#define PAGE_MAX (64 * 1024)
#define LIST_MAX (1024 * 1024 * 1024)
#define RETRY_S 1

static const char json[] = "application/json";

struct telling {
	struct text *t;
	bool finished;
	const char *sep; /* between jobs of a list */
};

static void
add_time(struct text *t, const struct timespec *ts)
{
	struct tm tm;
	char s[32] = "";

	if (gmtime_r(&ts->tv_sec, &tm) != NULL)
		strftime(s, sizeof(s), "%Y-%m-%dT%H:%M:%S", &tm);
	text_addf(t, "\"%s.%03ldZ\"", s, ts->tv_nsec / 1000000);
}

/* A failed one's problem, which is its reply's body. */
static void
add_error(struct text *t, const struct job *job, const struct job_view *v)
{
	const struct body *b = &job->work->reply.body;
	size_t n = v->finished && v->state == JOB_FAILED && b->n == 1 ? b->pieces[0].n : 0;

	while (n > 0 && b->pieces[0].p[n - 1] == '\n')
		n--;
	if (n > 0)
		text_addn(t, (const char *)b->pieces[0].p, n);
	else
		text_add(t, "null");
}

static void
tell(void *cls, const struct job *job, const struct job_view *v)
{
	struct telling *to = cls;
	struct text *t = to->t;

	text_addf(t, "%s{\"id\":\"%s\",\"op\":\"%s\",\"action\":\"%s\",\"state\":\"%s\",\"progress\":", to->sep,
		  job->id, job->op, job->action, job_state_name(v->state));
	if (v->of > 0)
		text_addf(t, "{\"done\":%llu,\"of\":%llu,\"unit\":\"%s\"}", (unsigned long long)v->done,
			  (unsigned long long)v->of, v->unit);
	else
		text_add(t, "null");
	text_add(t, ",\"position\":");
	if (v->position >= 0)
		text_u64(t, (uint64_t)v->position);
	else
		text_add(t, "null");
	text_add(t, ",\"created\":");
	add_time(t, &job->created);
	text_add(t, ",\"elapsed_ms\":");
	text_number(t, v->elapsed_ms);
	text_add(t, ",\"expires_in_s\":");
	if (v->finished)
		text_number(t, v->expires_in_s);
	else
		text_add(t, "null");
	text_add(t, ",\"result\":");
	if (v->finished)
		text_addf(t, "\"%s/result\"", job->path);
	else
		text_add(t, "null");
	text_add(t, ",\"error\":");
	add_error(t, job, v);
	text_add(t, "}");
	to->finished = v->finished;
	to->sep = ",";
}

void
v1_job_state(struct request *req, const char *id, int status)
{
	struct text t;
	struct telling to = {.t = &t, .sep = ""};

	text_init(&t, PAGE_MAX);
	if (jobs_look(req->loop->svc->jobs, id, tell, &to, &req->err) == -1) {
		text_fini(&t);
		request_reply_error(req);
		return;
	}
	if (!to.finished)
		req->reply.retry_after_s = RETRY_S;
	request_reply_text(req, status, json, &t);
}

void
v1_job(struct request *req)
{
	v1_job_state(req, req->op_name, 200);
}

void
v1_jobs(struct request *req)
{
	struct jobs *jobs = req->loop->svc->jobs;
	struct text t;
	struct telling to = {.t = &t, .sep = ""};
	struct jobs_stats s;

	text_init(&t, LIST_MAX);
	text_add(&t, "{\"jobs\":[");
	jobs_each(jobs, tell, &to);
	jobs_stats(jobs, &s);
	text_addf(&t, "],\"count\":%u,\"max\":%u,\"bytes\":%llu,\"quota_bytes\":%llu}", s.count, s.max,
		  (unsigned long long)s.bytes, (unsigned long long)s.quota);
	request_reply_text(req, 200, json, &t);
}

void
v1_job_delete(struct request *req)
{
	struct text t;
	int rc = jobs_delete(req->loop->svc->jobs, req->op_name, &req->err);

	if (rc == -1) {
		request_reply_error(req);
	} else if (rc == 0) {
		/* By now it may have ended: then it is gone, which is what was asked for. */
		struct telling to = {.t = &t, .sep = ""};

		text_init(&t, PAGE_MAX);
		if (jobs_look(req->loop->svc->jobs, req->op_name, tell, &to, NULL) == 0) {
			req->reply.retry_after_s = RETRY_S;
			request_reply_text(req, 202, json, &t);
			return;
		}
		request_reply_text(req, 204, NULL, &t);
	} else {
		text_init(&t, PAGE_MAX);
		request_reply_text(req, 204, NULL, &t);
	}
}

void
v1_job_wait(struct request *req, bool time_up)
{
	struct job *job = NULL;

	switch (jobs_take(req->loop->svc->jobs, req->op_name, &job, &req->err)) {
	case 1:
		request_result(req, job);
		return;
	case 0:
		if (!time_up)
			return;
		err_set(&req->err, ERR_JOB_UNFINISHED,
			"the job %s is not finished; GET /v1/jobs/%s tells how far it is", req->op_name, req->op_name);
		req->err.retry_after_s = RETRY_S;
		break;
	}
	request_reply_error(req);
}

void
v1_job_result(struct request *req)
{
	/* First what is there: waiting is for those who must. */
	v1_job_wait(req, false);
	if (!req->ready && !request_wait(req))
		v1_job_wait(req, true);
}
