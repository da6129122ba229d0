/*
 * request_reply.c: the device is done: count it, encode the outputs with the statistics, compress where asked. What
 * takes long (formatting JSON, hashing, compressing) goes to a helper thread.
 */
#include <string.h>
#include <time.h>

#include "clock.h"
#include "front/request.h"

#define INLINE_MAX (128 * 1024) /* bytes of encoding work that may be done on the loop */
#define COMPRESS_MIN 1024	/* smaller bodies do not gain */

/* ---------------------------------------------------------------- encoding */

static bool
output_binary(const struct request *req, const char *name)
{
	const struct intake *in = &req->run->in;
	int i;

	for (i = 0; i < in->n_outputs; i++)
		if (strcmp(in->outputs[i].name, name) == 0 && in->outputs[i].binary_given)
			return in->outputs[i].binary;
	return in->binary_output_all;
}

/* OIP: when outputs are named, only those come back. */
static bool
output_wanted(const struct request *req, const char *name)
{
	const struct intake *in = &req->run->in;
	int i;

	for (i = 0; i < in->n_outputs; i++)
		if (strcmp(in->outputs[i].name, name) == 0)
			return true;
	return in->n_outputs == 0;
}

static void
describe(struct request *req, struct encode_job *job)
{
	struct compute_request *run = req->run;
	const struct op_call *c = &run->job.msg.call;
	int i, n = op_tensor_count(req->op);

	job->form = req->form;
	job->mode = run->run.outputs;
	job->base64 = run->run.base64;
	job->bare = false;
	job->op = req->op->name;
	job->id = run->in.id;
	job->model_version = "1";
	job->n_meta = 0;
	job->room = run->head_room;
	job->room_size = sizeof(run->head_room);
	job->n = 0;
	for (i = 0; i < n; i++) {
		const char *name = req->op->tensors[i].name;
		struct encode_tensor *et = &job->tensors[job->n];

		if (req->op->tensors[i].role != OP_OUT || c->tensors[i].dtype == DT_NONE || !output_wanted(req, name))
			continue;
		et->name = name;
		et->t = &c->tensors[i];
		et->binary = output_binary(req, name);
		job->n++;
	}
}

static void
encode_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct compute_request *run = req->run;
	struct encode_job *job = &run->encode;
	struct err *e = &req->err;
	int i;

	for (i = 0; job->mode == DATA_DIGEST && i < job->n; i++)
		digest_tensor(job->tensors[i].t, &job->tensors[i].digest);
	if (request_stats(req, e) == -1)
		return;
	job->stats_json = run->stats.p;
	job->stats_quoted = run->stats_quoted.p;
	if (encode_body(job, &run->mem, &req->reply.body, e) == 0 && req->reply_coding != CODING_IDENTITY &&
	    req->reply.body.bytes >= COMPRESS_MIN &&
	    body_compress(&req->reply.body, req->reply_coding, &run->mem, e) == 0)
		req->reply.encoding = coding_name(req->reply_coding);
}

void
request_encoded(struct request *req)
{
	if (req->err.code != ERR_NONE) {
		request_reply_error(req);
		return;
	}
	req->t[T_ENCODED] = clock_ns();
	req->reply.stats = request_stats_finish(req);
	request_server_timing(req);
	req->reply.status = 200;
	request_ready(req);
}

/* ---------------------------------------------------------------- counters */

static uint64_t
to_ns(double ms)
{
	return ms > 0 && ms < 1e12 ? (uint64_t)(ms * 1e6) : 0; /* a worker's word: whatever it says fits */
}

void
request_count(struct request *req)
{
	struct op_counters *n = &req->loop->svc->ops[req->op_index];
	const struct msg_done *d = &req->run->done;
	uint64_t total = req->t[T_DONE] - req->t[T_BEGIN];
	struct timespec now;

	if (d->err.code != ERR_NONE) {
		atomic_fetch_add(&n->fail, 1);
		atomic_fetch_add(&n->fail_ns, total);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	atomic_fetch_add(&n->success, 1);
	atomic_fetch_add(&n->success_ns, total);
	atomic_fetch_add(&n->queue_ns, to_ns(d->wait_ms));
	atomic_fetch_add(&n->input_ns, to_ns(d->upload_ms));
	atomic_fetch_add(&n->infer_ns, to_ns(d->kernel.mean * d->kernel.iters));
	atomic_fetch_add(&n->output_ns, to_ns(d->download_ms));
	atomic_fetch_add(&n->executions, d->kernel.iters);
	atomic_store(&n->last_ms, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

void
request_answer(struct request *req)
{
	struct compute_request *run = req->run;
	uint64_t cost;

	request_count(req);
	request_kept_drop(run); /* before the reply: who has that may count on their room */
	if (run->done.err.code != ERR_NONE) {
		req->err = run->done.err;
		request_reply_error(req);
		return;
	}
	if (run->keep != NULL && request_keep(req, &req->err) == -1) {
		request_reply_error(req);
		return;
	}
	run->bytes_moved = op_bytes_moved(&run->job.msg.call);
	describe(req, &run->encode);
	cost = encode_cost(&run->encode);
	if (req->reply_coding != CODING_IDENTITY && run->encode.mode == DATA_ALL)
		cost += (uint64_t)run->bytes_moved;
	if (cost > INLINE_MAX) {
		request_help(req, encode_work, request_encoded);
		return;
	}
	encode_work(&req->task);
	request_encoded(req);
}
