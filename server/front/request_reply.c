/*
 * request_reply.c: the device is done: count it, write the statistics, encode the outputs, compress where asked.
 * What takes long (formatting JSON, hashing, compressing) goes to a helper thread.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "front/request.h"
#include "log.h"

#define INLINE_MAX (128 * 1024) /* bytes of encoding work that may be done on the loop */
#define STATS_HEADER_MAX 4096
#define COMPRESS_MIN 1024 /* smaller bodies do not gain */

/* A key and a number with six (milliseconds) or four decimals: printf is too slow to be called forty times for a small
 * request. */
static void
add_fixed(struct text *t, const char *key, double v, int decimals)
{
	char buf[40], *p = buf + sizeof(buf);
	uint64_t scaled;
	int i;

	text_add(t, key);
	if (!(v >= 0 && v < 1e12)) {
		text_number(t, v);
		return;
	}
	scaled = (uint64_t)(v * (decimals == 6 ? 1e6 : 1e4) + 0.5);
	for (i = 0; i < decimals; i++, scaled /= 10)
		*--p = (char)('0' + scaled % 10);
	*--p = '.';
	do
		*--p = (char)('0' + scaled % 10);
	while ((scaled /= 10) != 0);
	text_addn(t, p, (size_t)(buf + sizeof(buf) - p));
}

static void
add_ms(struct text *t, const char *key, double ms)
{
	add_fixed(t, key, ms, 6);
}

static void
add_rate(struct text *t, const char *key, double rate)
{
	add_fixed(t, key, isfinite(rate) ? rate : 0, 4);
}

static void
add_u64(struct text *t, const char *key, uint64_t v)
{
	text_add(t, key);
	text_u64(t, v);
}

static double
ms_between(const struct request *req, enum request_time from, enum request_time to)
{
	uint64_t a = req->t[from], b = req->t[to];

	return a == 0 || b <= a ? 0 : (double)(b - a) / 1e6;
}

static void
add_samples(struct text *t, const struct sample_stats *s, double batch)
{
	add_u64(t, "{\"warmup\":", s->warmup);
	add_u64(t, ",\"iters\":", s->iters);
	add_ms(t, ",\"min\":", s->min);
	add_ms(t, ",\"median\":", s->median);
	add_ms(t, ",\"mean\":", s->mean);
	add_ms(t, ",\"p95\":", s->p95);
	add_ms(t, ",\"max\":", s->max);
	add_ms(t, ",\"stddev\":", s->stddev);
	if (batch > 0)
		add_ms(t, ",\"per_sample\":", s->median / batch);
	text_add(t, "}");
}

/*
 * The statistics object, in two halves: timing_ms is left open between them, because encode and total are known only
 * when the body, which holds the statistics too, has been made.
 */
static void
make_stats(struct request *req)
{
	struct compute_request *run = req->run;
	const struct msg_done *d = &run->done;
	const struct memory_stats *m = &d->memory;
	const struct op_call *c = &run->job.msg.call;
	struct text *t = &run->stats_head;
	struct device_state dev;
	double flop = req->op->flop(c), bytes = op_bytes_moved(c), ms = d->kernel.median;
	uint64_t known = m->allocated_before + m->inputs + m->outputs;

	supervisor_device(req->loop->svc->sup, run->device, &dev);
	text_add(t, "{\"op\":");
	text_json(t, req->op->name);
	text_add(t, ",\"impl\":");
	text_json(t, d->impl);
	add_u64(t, ",\"device\":{\"index\":", run->device);
	text_add(t, ",\"id\":");
	text_json(t, dev.id);
	text_add(t, ",\"name\":");
	text_json(t, dev.info.name);
	text_add(t, ",\"arch\":");
	text_json(t, dev.info.arch);
	if (dev.info.timing_meaningless)
		text_add(t, ",\"timing_meaningless\":true");
	add_ms(t, "},\"timing_ms\":{\"receive\":", ms_between(req, T_BODY, T_RECEIVED));
	add_ms(t, ",\"decode\":", ms_between(req, T_RECEIVED, T_DECODED));
	add_ms(t, ",\"reserve\":", (double)run->reserve_ns / 1e6);
	add_ms(t, ",\"queue\":", d->wait_ms);
	add_ms(t, ",\"upload\":", d->upload_ms);
	add_ms(t, ",\"kernel\":", d->kernel.median);
	add_ms(t, ",\"download\":", d->download_ms);
	add_ms(t, ",\"device\":", ms_between(req, T_SUBMITTED, T_DONE));

	t = &run->stats_tail;
	text_add(t, "},\"kernel_ms\":");
	add_samples(t, &d->kernel, (double)op_dim(c, "B"));
	text_add(t, ",\"rates\":{\"flop\":");
	text_number(t, flop);
	text_add(t, ",\"bytes_moved\":");
	text_number(t, bytes);
	add_rate(t, ",\"tflops\":", flop / ms / 1e9);
	add_rate(t, ",\"gb_per_s\":", bytes / ms / 1e6);
	text_add(t, "}");
	if (d->baseline_impl[0] != '\0') {
		text_add(t, ",\"baseline\":{\"impl\":");
		text_json(t, d->baseline_impl);
		text_add(t, ",\"kernel_ms\":");
		add_samples(t, &d->baseline, 0);
		add_rate(t, ",\"speedup\":", d->baseline.median / ms);
		text_add(t, ",\"max_abs_diff\":");
		text_number(t, d->baseline_max_abs_diff);
		text_add(t, "}");
	}
	add_u64(t, ",\"memory\":{\"allocated_before\":", m->allocated_before);
	add_u64(t, ",\"inputs\":", m->inputs);
	add_u64(t, ",\"outputs\":", m->outputs);
	add_u64(t, ",\"workspace\":", m->workspace);
	add_u64(t, ",\"peak\":", m->peak);
	add_u64(t, ",\"overhead\":", m->peak > known ? m->peak - known : 0);
	add_u64(t, ",\"device_free\":", m->device_free);
	add_u64(t, ",\"device_total\":", m->device_total);
	text_add(t, "},\"hints\":");
	text_add(t, run->hints.len > 0 ? run->hints.p : "[]");
	text_add(t, "}");
}

/* For the header, which must stay short: with what encoding took, and the whole; hints only where they fit. */
static char *
whole_stats(const struct request *req)
{
	struct text t;

	text_init(&t, 64 * 1024);
	text_addn(&t, req->run->stats_head.p, req->run->stats_head.len);
	add_ms(&t, ",\"encode\":", ms_between(req, T_DONE, T_ENCODED));
	add_ms(&t, ",\"total\":", ms_between(req, T_BEGIN, T_ENCODED));
	if (t.len + req->run->stats_tail.len > STATS_HEADER_MAX) {
		text_addn(&t, req->run->stats_tail.p, req->run->stats_tail.len - req->run->hints.len - 1);
		text_add(&t, "[]}");
	} else {
		text_addn(&t, req->run->stats_tail.p, req->run->stats_tail.len);
	}
	return text_take(&t);
}

static void
server_timing(struct request *req)
{
	const struct msg_done *d = &req->run->done;
	struct text t;

	text_init(&t, sizeof(req->reply.timing));
	add_ms(&t, "receive;dur=", ms_between(req, T_BODY, T_RECEIVED));
	add_ms(&t, ", decode;dur=", ms_between(req, T_RECEIVED, T_DECODED));
	add_ms(&t, ", reserve;dur=", (double)req->run->reserve_ns / 1e6);
	add_ms(&t, ", queue;dur=", d->wait_ms);
	add_ms(&t, ", upload;dur=", d->upload_ms);
	add_ms(&t, ", kernel;dur=", d->kernel.median);
	add_ms(&t, ", download;dur=", d->download_ms);
	add_ms(&t, ", encode;dur=", ms_between(req, T_DONE, T_ENCODED));
	add_ms(&t, ", total;dur=", ms_between(req, T_BEGIN, T_ENCODED));
	if (!t.failed)
		memcpy(req->reply.timing, t.p, t.len + 1);
	text_fini(&t);
}

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
describe(const struct request *req, struct encode_job *job)
{
	const struct op_call *c = &req->run->job.msg.call;
	int i, n = op_tensor_count(req->op);

	memset(job, 0, sizeof(*job));
	job->form = req->form;
	job->mode = req->run->run.outputs;
	job->base64 = req->run->run.base64;
	job->op = req->op->name;
	job->id = req->run->in.id;
	job->model_version = "1";
	for (i = 0; i < n; i++) {
		if (req->op->tensors[i].role != OP_OUT || c->tensors[i].dtype == DT_NONE ||
		    !output_wanted(req, req->op->tensors[i].name))
			continue;
		job->tensors[job->n++] = (struct encode_tensor){.name = req->op->tensors[i].name,
								.t = &c->tensors[i],
								.binary = output_binary(req, req->op->tensors[i].name)};
	}
}

static void
encode_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct encode_job job;
	struct text stats;
	int i;

	describe(req, &job);
	make_stats(req);
	text_init(&stats, 64 * 1024);
	text_addn(&stats, req->run->stats_head.p, req->run->stats_head.len);
	text_addn(&stats, req->run->stats_tail.p, req->run->stats_tail.len);
	job.stats_json = stats.p;
	for (i = 0; job.mode == DATA_DIGEST && i < job.n; i++)
		digest_tensor(job.tensors[i].t, &job.tensors[i].digest);
	if (stats.failed || req->run->stats_head.failed || req->run->stats_tail.failed)
		err_set(&req->err, ERR_INTERNAL, "the statistics do not fit");
	else if (encode_body(&job, &req->run->mem, &req->reply.body, &req->err) == 0 &&
		 req->reply_coding != CODING_IDENTITY && req->reply.body.bytes >= COMPRESS_MIN &&
		 body_compress(&req->reply.body, req->reply_coding, &req->run->mem, &req->err) == 0)
		req->reply.encoding = coding_name(req->reply_coding);
	text_fini(&stats);
}

static void
encoded(struct request *req)
{
	if (req->err.code != ERR_NONE) {
		request_reply_error(req);
		return;
	}
	req->t[T_ENCODED] = clock_ns();
	req->reply.stats = whole_stats(req);
	server_timing(req);
	req->reply.status = 200;
	request_ready(req);
}

/* ---------------------------------------------------------------- counters */

static uint64_t
to_ns(double ms)
{
	return ms > 0 ? (uint64_t)(ms * 1e6) : 0;
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
	struct encode_job job;
	uint64_t cost;

	request_count(req);
	if (req->run->done.err.code != ERR_NONE) {
		req->err = req->run->done.err;
		request_reply_error(req);
		return;
	}
	describe(req, &job);
	cost = encode_cost(&job);
	if (req->reply_coding != CODING_IDENTITY && job.mode == DATA_ALL)
		cost += op_bytes_moved(&req->run->job.msg.call) > 0 ? (uint64_t)op_bytes_moved(&req->run->job.msg.call)
								    : 0;
	if (cost > INLINE_MAX) {
		request_help(req, encode_work, encoded);
		return;
	}
	encode_work(&req->task);
	encoded(req);
}
