/* request.c: a request's life; see request.h. The steps themselves: request_{open,run,reply}.c. */
#include "front/request.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/bench.h"
#include "front/http.h"
#include "front/jobs.h"
#include "front/problem.h"
#include "front/routes.h"
#include "front/stream.h"
#include "front/tensors.h"
#include "log.h"

#define TEXT_MAX (256 * 1024) /* of JSON, whose memory is made ahead */
#define OVERDUE_NS 700000000u

/* A client's own id is echoed when it is harmless in a header and a log line. */
static bool
id_is_fine(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+=");

	return n > 0 && n <= 64 && s[n] == '\0';
}

/* Requests and their compute parts are kept for the next ones: too large for malloc's fast lists, they would cost more
 * there than a small RMSNorm. */
static void *
spare_take(struct loop_spares *spares, size_t size, size_t cleared)
{
	void *p = spares->n > 0 ? spares->p[--spares->n] : malloc(size);

	if (p != NULL)
		memset(p, 0, cleared);
	return p;
}

static void
spare_give(struct loop_spares *spares, void *p)
{
	if (spares->n < LOOP_SPARES_MAX)
		spares->p[spares->n++] = p;
	else
		free(p);
}

struct compute_request *
request_compute_new(struct request *req)
{
	return spare_take(&req->loop->computes, sizeof(struct compute_request), offsetof(struct compute_request, mem));
}

struct request *
request_new(struct conn *c, void *mhd)
{
	struct request *req = spare_take(&c->loop->requests, sizeof(*req), sizeof(*req));
	const char *id;

	if (req == NULL)
		return NULL;
	req->loop = c->loop;
	req->conn = c;
	req->mhd = mhd;
	req->refs = 1;
	req->task.loop = c->loop;
	req->t[T_BEGIN] = clock_ns();
	req->reply.body.oip_header_len = -1;
	id = http_header(req, "X-Request-Id");
	if (id != NULL && id_is_fine(id))
		memcpy(req->id, id, strlen(id) + 1);
	else
		problem_request_id(c->loop->svc, req->id);
	return req;
}

/* All but what a reply may lie in. */
static void
compute_shed(struct compute_request *run)
{
	inflater_free(&run->inflater);
	decoder_free(&run->decoder);
	intake_fini(&run->in);
	bench_free(&run->bench);
	request_check_free(&run->check);
	free(run->fill);
	run->fill = NULL;
	text_fini(&run->hints);
}

static void
compute_fini(struct request *req)
{
	struct compute_request *run = req->run;

	compute_shed(run);
	request_device_done(req);
	request_keep_free(req);
	tensors_request_free(req);
	mem_fini(&run->mem);
	text_fini(&run->kept);
	text_fini(&run->stats);
	text_fini(&run->stats_quoted);
}

void
request_unref(struct request *req)
{
	if (--req->refs > 0)
		return;
	body_fini(&req->reply.body);
	stream_free(&req->stream);
	if (req->run != NULL) {
		compute_fini(req);
		spare_give(&req->loop->computes, req->run);
	}
	if (req->counted)
		atomic_fetch_sub(&req->loop->svc->requests, 1);
	jobs_unref(req->loop->svc->jobs, &req->asks);
	spare_give(&req->loop->requests, req);
}

void
request_shed(struct request *req)
{
	const void *keep[BODY_PIECES_MAX];
	int n = req->reply.body.n;

	for (int i = 0; i < n; i++)
		keep[i] = req->reply.body.pieces[i].p;
	compute_shed(req->run);
	mem_shed(&req->run->mem, keep, n);
	request_kept_shed(req->run, keep, n);
	stream_free(&req->stream);
}

void
request_free_work(struct request *work)
{
	body_fini(&work->reply.body);
	stream_free(&work->stream);
	compute_fini(work);
	free(work->run);
	free(work);
}

bool
request_is_submitted(const struct request *req)
{
	return req->run != NULL && req->run->submitted && !req->ready;
}

/* The connection broke while device or helper have the request: it lives until they are done with its memory. */
static void
outlive(struct request *req)
{
	struct compute_request *run = req->run;

	req->gone = true;
	if (request_is_submitted(req)) {
		run->orphaned = true;
		req->refs++;
		link_cancel(req->loop->links[run->device].link, &run->job);
		req->loop->links[run->device].dirty = true;
	} else if (req->helped != NULL) {
		req->helped = request_unref;
		req->refs++;
	}
}

void
request_end(struct request *req)
{
	request_leave(req);
	if (req->stream != NULL)
		stream_closed(req);
	else if (!req->ready)
		outlive(req);
	log_debug("%s: %s %s -> %d", req->id, req->conn->method, req->conn->target, req->reply.status);
	conn_request_end(req->conn);
	request_unref(req);
}

/* ---------------------------------------------------------------- libmicrohttpd's turns */

void
request_begin_failed(struct request *req)
{
	struct conn *c = req->conn;

	if (!conn_has_body(c))
		request_reply_error(req);
	else if (!conn_body_discard(c, req))
		request_refuse(req);
}

void
request_take_body(struct request *req)
{
	req->t[T_BODY] = clock_ns();
	conn_body_start(req->conn, req);
}

static void
request_begin(struct request *req)
{
	struct conn *c = req->conn;

	req->head_only = strcmp(c->method, "HEAD") == 0;
	if (routes_find(req, c->method, c->target, &req->err) == -1) {
		request_begin_failed(req);
		return;
	}
	if (req->route->start != NULL) {
		switch (request_open(req, &req->err)) {
		case -1:
			request_begin_failed(req);
			break;
		case 0:
			request_take_body(req);
			break;
		}
		return;
	}
	/* The rest takes no body worth keeping; the index may come with one. */
	if (conn_has_body(c)) {
		if (!conn_body_discard(c, req))
			request_refuse(req);
		return;
	}
	req->route->answer(req);
	assert(req->ready || req->helped != NULL || req->wait_until_ns != 0);
}

enum request_turn
request_turn(struct request *req)
{
	if (!req->begun) {
		req->begun = true;
		request_begin(req);
	}
	if (req->gone)
		return TURN_GONE;
	return req->ready ? TURN_REPLY : TURN_WAIT;
}

void
request_ready(struct request *req)
{
	if (req->ready)
		return;
	req->ready = true;
	if (req->job != NULL)
		request_settled(req);
	else if (req->suspended)
		http_resume(req);
	else if (req->held)
		req->loop->http_ready = true;
}

/* ---------------------------------------------------------------- helpers */

struct request *
request_of_task(struct helper_task *t)
{
	return (struct request *)((char *)t - offsetof(struct request, task));
}

void
request_helped(struct request *req)
{
	request_done_f done = req->helped;

	req->helped = NULL;
	if (done == request_unref || req->stream != NULL)
		done(req);
	else if (req->gone)
		request_ready(req);
	else
		done(req);
}

static void
helped(struct helper_task *t)
{
	request_helped(request_of_task(t));
}

void
request_help(struct request *req, void (*work)(struct helper_task *t), request_done_f done)
{
	req->helped = done;
	req->task.work = work;
	req->task.done = helped;
	helpers_submit(req->loop->svc->helpers, &req->task);
}

/* ---------------------------------------------------------------- conn.c's news */

void
request_body_error(struct request *req, const struct err *e)
{
	if (req->err.code == ERR_NONE)
		req->err = *e;
}

int
request_body_feed(struct request *req, const unsigned char *p, size_t n)
{
	struct compute_request *run = req->run;

	if (req->err.code != ERR_NONE)
		return -1;
	return inflater_feed(run->inflater, p, n, &req->err);
}

bool
request_body_is_coded(const struct request *req)
{
	return req->run->coding != CODING_IDENTITY;
}

bool
request_body_is_work(const struct request *req)
{
	const struct compute_request *run = req->run;
	const struct http_head *h = &req->conn->head;

	return run->coding != CODING_IDENTITY || h->chunked ||
	       (run->decoder->ops->pending != NULL && h->content_length > TEXT_MAX);
}

size_t
request_body_window(struct request *req, unsigned char **dst)
{
	return inflater_window(req->run->inflater, dst);
}

int
request_body_advance(struct request *req, size_t n)
{
	return inflater_advance(req->run->inflater, n, &req->err);
}

uint64_t
request_body_inflated(const struct request *req)
{
	const struct compute_request *run = req->run;
	uint64_t in, out;

	if (run == NULL || run->inflater == NULL || run->coding == CODING_IDENTITY)
		return 0;
	inflater_counts(run->inflater, &in, &out);
	return out;
}

void
request_body_end(struct request *req)
{
	req->t[T_RECEIVED] = clock_ns();
	if (req->err.code != ERR_NONE)
		request_reply_error(req);
	else if (req->route->start != NULL)
		request_decode(req);
	else
		req->route->answer(req);
}

void
request_refuse(struct request *req)
{
	struct text t;

	if (req->err.code == ERR_NONE)
		err_set(&req->err, ERR_TOO_LARGE, "%s takes no body of this size", req->conn->target);
	text_init(&t, 64 * 1024);
	problem_raw(&t, req->loop->svc, &req->err, req);
	req->reply.status = err_info(req->err.code)->status;
	conn_refuse(req->conn, t.p, t.len, req);
	text_fini(&t);
}

void
request_gone(struct request *req)
{
	if (req->stream != NULL) {
		req->gone = req->job != NULL; /* a connection's stream breaks off by itself */
		stream_gone(req);
		return;
	}
	if (req->gone)
		return;
	req->gone = true;
	request_leave(req);
	if (req->run != NULL && req->run->submitted && !req->ready) {
		/* The device may be writing into the request's memory: wait for its word. */
		link_cancel(req->loop->links[req->run->device].link, &req->run->job);
		req->loop->links[req->run->device].dirty = true;
		return;
	}
	if (req->helped == NULL)
		request_ready(req);
}

void
request_overdue(struct request *req, uint64_t now_ns)
{
	struct compute_request *run = req->run;

	if (req->stream != NULL) {
		stream_tick(req, now_ns);
		return;
	}
	/* By then a job that runs itself has cost its worker (link_expire), and is answered. */
	if (run == NULL || !run->submitted || run->orphaned || req->ready ||
	    now_ns < run->job.msg.deadline_ns + OVERDUE_NS)
		return;
	run->orphaned = true;
	req->refs++;
	err_param(&req->err, ERR_DEADLINE_EXCEEDED, "timeout_ms", NULL, NULL,
		  "the time was up before the device was free");
	req->t[T_DONE] = now_ns;
	run->done.err = req->err;
	if (!run->run.dry_run)
		request_count(req);
	request_reply_error(req);
}

/* ---------------------------------------------------------------- replies */

void
request_reply_text(struct request *req, int status, const char *content_type, struct text *t)
{
	struct body *b = &req->reply.body;

	if (t->len > 0 && t->p[t->len - 1] != '\n') /* a shell's prompt stands on its own line then */
		text_add(t, "\n");
	body_fini(b);
	memset(b, 0, sizeof(*b));
	b->oip_header_len = -1;
	b->content_type = content_type;
	req->reply.status = t->failed ? 500 : status; /* no memory, or larger than such a page may be */
	b->bytes = t->failed ? 0 : t->len;
	b->owned = text_take(t);
	b->n = 1;
	b->pieces[0].p = (unsigned char *)(b->owned != NULL ? b->owned : "");
	b->pieces[0].n = (size_t)b->bytes;
	request_ready(req);
}

void
request_reply_error(struct request *req)
{
	const struct err *e = &req->err;
	struct text t;

	assert(e->code != ERR_NONE);
	text_init(&t, 64 * 1024);
	problem_body(&t, e, req->op != NULL ? req->op->name : NULL, req->id, req->oip);
	req->reply.retry_after_s = problem_retry_after(e);
	req->reply.encoding = NULL;
	if (e->code == ERR_DRAINING || e->code == ERR_MALFORMED_REQUEST)
		req->reply.close = true;
	request_reply_text(req, err_info(e->code)->status, req->oip ? "application/json" : "application/problem+json",
			   &t);
}
