/*
 * request_bench.c: POST /v1/ops/{op}/bench. From a decoded body to the cases of a sweep, each: its parameters and inputs, the
 * device, memory and generated numbers (a helper thread), the job, its line. A case's error ends the case, not the sweep; a
 * reader that is slow is waited for before the next case; one that has left ends all.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/bench.h"
#include "front/routes.h"
#include "front/stream.h"

#define PROGRESS_NS 1000000000u
#define LINE_MAX (4 * 1024 * 1024)
#define WARMUP 3
#define ITERS 20
#define STARTS_MAX (64u << 20) /* bytes of an input that is written on the loop: cu_seqlens */

const struct op_param bench_options[] = {
	[BO_MODE] =
		{.name = "mode",
		 .type = OP_ENUM,
		 .fallback = "cold",
		 .choices = "cold|warm",
		 .help = "cold: runs take copies of inputs and outputs in turn, together twice the device's last-level "
			 "cache, so that each finds its data in memory; warm: the same tensors each time. May be a list."},
	[BO_SAMPLES] = {.name = "samples",
			.type = OP_BOOL,
			.fallback = "false",
			.help = "Also tell the time of every run, in order."},
	[BO_PROGRESS] = {.name = "progress",
			 .type = OP_BOOL,
			 .fallback = "false",
			 .help = "About once a second, a line that says how far the case at hand is; always so with "
				 "text/event-stream."},
	[BO_DTYPE] = {.name = "dtype",
		      .type = OP_ENUM,
		      .fallback = NULL,
		      .choices = NULL,
		      .help = "Of the inputs that are made: fp16 when not given. May be a list."},
	[BO_SEED] = {.name = "seed",
		     .type = OP_INT,
		     .fallback = "0",
		     .min = 0,
		     .max = 9.2e18,
		     .help = "Of the numbers in the inputs that are made: normally distributed, mean 0, deviation 1; input i of "
			     "the operator is stream i."},
	[BO_COUNT] = {.name = NULL},
};

void
bench_free(struct bench **bp)
{
	struct bench *b = *bp;

	if (b == NULL)
		return;
	*bp = NULL;
	intake_fini(&b->given);
	mem_fini(&b->given_mem);
	sweep_fini(&b->sweep);
	free(b);
}

/* ---------------------------------------------------------------- a case's beginning */

static void
case_reset(struct request *req)
{
	struct compute_request *run = req->run;
	struct bench *b = run->bench;

	mem_init(&run->mem, req->loop->svc->pool, 0);
	intake_init(&run->in, req->op, &run->mem, &b->given.limits);
	memset(&run->run, 0, sizeof(run->run));
	memset(&run->job, 0, sizeof(run->job));
	memset(&req->err, 0, sizeof(req->err));
	text_fini(&run->hints);
	text_init(&run->hints, 16 * 1024);
	req->t[T_BEGIN] = req->t[T_RECEIVED] = req->t[T_DECODED] = clock_ns();
	run->reserve_ns = 0;
}

static void
case_free(struct request *req)
{
	intake_fini(&req->run->in);
	mem_fini(&req->run->mem);
}

static enum dtype
case_dtype(const struct request *req)
{
	const struct bench *b = req->run->bench;
	const char *name = sweep_option(&b->sweep, b->index, "dtype");

	return name == NULL ? op_default_dtype(req->op) : dtype_find(name, strlen(name));
}

/* The layout, and what else decides about shapes, must be known before. */
static int
params_early(struct request *req, struct op_call *c, struct err *e)
{
	const struct intake *in = &req->run->in;

	c->op = req->op_index;
	for (int i = 0; i < in->n_params; i++) {
		int k = op_param_find(req->op, in->params[i].name, strlen(in->params[i].name));
		const char *text = in->params[i].value;

		if (k >= 0 && op_value_parse(&req->op->params[k], text, strlen(text), &c->params[k], e) == -1)
			return -1;
	}
	return 0;
}

/* What sizes say beside shapes (max_seqlen_q), as if it had been given. */
static int
params_late(struct request *req, const struct op_call *c, struct err *e)
{
	struct intake *in = &req->run->in;
	char text[32];

	for (int i = 0; req->op->params[i].name != NULL; i++) {
		const char *name = req->op->params[i].name;
		bool given = false;

		for (int k = 0; k < in->n_params; k++)
			given = given || op_param_find(req->op, in->params[k].name, strlen(in->params[k].name)) == i;
		if (given || !c->params[i].given)
			continue;
		snprintf(text, sizeof(text), "%lld", (long long)c->params[i].i[0]);
		if (intake_param(in, name, strlen(name), text, strlen(text), e) == -1)
			return -1;
	}
	return 0;
}

/* Inputs by sizes: described, and those whose values mean something written. Random ones follow on a helper thread, when
 * it is known that the operator takes them. */
static int
describe_inputs(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct bench *b = run->bench;
	struct op_call c = {.op = req->op_index};

	sweep_sizes(&b->sweep, b->index, b->sizes);
	if (params_early(req, &c, e) == -1 || op_sizes_call(req->op, b->sizes, case_dtype(req), &c, e) == -1 ||
	    params_late(req, &c, e) == -1)
		return -1;
	for (int i = 0; req->op->tensors[i].name != NULL; i++) {
		struct intake_tensor *it = &run->in.tensors[run->in.n_tensors];
		const char *name = req->op->tensors[i].name;

		if (c.tensors[i].dtype == DT_NONE)
			continue;
		memset(it, 0, sizeof(*it));
		it->name_len = strlen(name);
		memcpy(it->name, name, it->name_len + 1);
		it->t = c.tensors[i];
		it->arrived = true;
		it->generated = dtype_info((enum dtype)it->t.dtype)->is_float;
		generate_init(&it->generate, GEN_NORMAL, (enum dtype)it->t.dtype);
		it->generate.seed = (uint64_t)b->options[BO_SEED].i[0];
		it->generate.stream = (uint64_t)i;
		if (!it->generated) { /* of the integers that operators take, each means something */
			if (it->t.bytes > STARTS_MAX)
				return err_input(e, ERR_TOO_LARGE, name, "", "", "%s would have %llu bytes", name,
						 (unsigned long long)it->t.bytes);
			if (mem_tensor(&run->mem, &it->t, e) == -1)
				return -1;
			c.tensors[i] = it->t;
			assert(req->op->make_input != NULL);
			(void)req->op->make_input(&c, i, b->sizes);
		}
		run->in.n_tensors++;
	}
	return 0;
}

static int
given_inputs(struct request *req)
{
	struct intake *in = &req->run->in;
	const struct bench *b = req->run->bench;

	memcpy(in->tensors, b->given.tensors, (size_t)b->given.n_tensors * sizeof(in->tensors[0]));
	in->n_tensors = b->given.n_tensors;
	return 0;
}

static int
case_prepare(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct bench *b = run->bench;

	if (sweep_params(&b->sweep, b->index, &run->in, e) == -1 ||
	    option_values(bench_options, b->options, &run->in, e) == -1)
		return -1;
	if ((b->given.n_tensors > 0 ? given_inputs(req) : describe_inputs(req, e)) == -1)
		return -1;
	if (request_bind(req, e) == -1 || request_device(req, e) == -1)
		return -1;
	if (intake_param_find(&run->in, "warmup") == NULL)
		run->run.warmup = WARMUP;
	if (intake_param_find(&run->in, "iters") == NULL)
		run->run.iters = ITERS;
	return 0;
}

/* ---------------------------------------------------------------- memory */

static int
make_samples(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	int64_t shape[2] = {run->run.baseline != IMPL_AUTO ? 2 : 1, run->run.iters};

	if (run->bench->options[BO_SAMPLES].i[0] == 0)
		return 0;
	if (tensor_describe(&run->job.msg.samples, "samples", DT_FP64, 2, shape, e) == -1)
		return -1;
	return mem_tensor(&run->mem, &run->job.msg.samples, e);
}

static void
reserve_work(struct helper_task *t)
{
	struct request *req = request_of_task(t);
	struct op_call *c = &req->run->job.msg.call;

	for (int i = 0; i < op_tensor_count(req->op); i++)
		if (req->op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE &&
		    mem_tensor(&req->run->mem, &c->tensors[i], &req->err) == -1)
			return;
	(void)make_samples(req, &req->err);
}

/* ---------------------------------------------------------------- the sweep */

static void sweep_on(struct request *req);

/* As NDJSON or as the event of that name. */
static void
tell(struct request *req, const char *event, struct text *line)
{
	struct text t;

	text_init(&t, line->ceiling + 64);
	if (req->events)
		text_addf(&t, "event: %s\ndata: ", event);
	if (line->failed)
		text_fail(&t);
	else
		text_addn(&t, line->p, line->len);
	text_add(&t, req->events ? "\n\n" : "\n");
	if (!t.failed)
		stream_write(req, t.p, t.len);
	text_fini(&t);
	req->run->bench->told_ns = clock_ns();
}

static void
case_end(struct request *req, const struct err *e)
{
	struct bench *b = req->run->bench;
	struct text t;

	text_init(&t, LINE_MAX);
	if (e != NULL) {
		b->failed++;
		bench_line_failed(req, e, &t);
	} else {
		bench_line(req, &t);
	}
	tell(req, e != NULL ? "error" : "case", &t);
	text_fini(&t);
	case_free(req);
	b->index++;
	request_progress(req, b->index, b->sweep.cases, "cases");
}

static void
case_done(struct request *req)
{
	const struct msg_done *done = &req->run->done;

	if (done->err.code != ERR_CLIENT_GONE)
		request_count(req);
	case_end(req, done->err.code != ERR_NONE ? &done->err : NULL);
	sweep_on(req);
}

static void
case_submit(struct request *req)
{
	struct compute_request *run = req->run;
	struct msg_job *m = &run->job.msg;

	if (stream_is_gone(req))
		err_set(&req->err, ERR_CLIENT_GONE, "the client closed the connection");
	if (req->err.code != ERR_NONE) {
		case_end(req, &req->err);
		sweep_on(req);
		return;
	}
	m->impl = run->run.impl;
	m->baseline = run->run.baseline;
	m->warmup = run->run.warmup;
	m->iters = run->run.iters;
	m->flush = run->run.flush;
	m->bench = run->bench->options[BO_MODE].i[0] == 0 ? BENCH_COLD : BENCH_WARM;
	run->bytes_moved = op_bytes_moved(&m->call);
	req->t[T_RECEIVED] = clock_ns(); /* timeout_ms is a case's */
	request_submit(req, case_done);
}

/* The inputs are there: memory for what comes out. */
static void
case_filled(struct request *req)
{
	if (req->err.code == ERR_NONE && !stream_is_gone(req) && request_gather_data(req, &req->err) == 0)
		request_help(req, reserve_work, case_submit);
	else
		case_submit(req);
}

static void
sweep_over(struct request *req)
{
	struct bench *b = req->run->bench;
	struct text t;

	text_init(&t, LINE_MAX);
	text_addf(&t, "{\"done\":true,\"cases\":%llu,\"failed\":%llu}", (unsigned long long)b->sweep.cases,
		  (unsigned long long)b->failed);
	tell(req, "done", &t);
	text_fini(&t);
	stream_end(req);
}

/* The next case that takes time, or the end. Nothing of a case is under way. */
static void
sweep_on(struct request *req)
{
	struct bench *b = req->run->bench;
	uint64_t bytes;

	if (b->inside) { /* a case ended in the midst of its beginning */
		b->again = true;
		return;
	}
	for (b->inside = true;;) {
		b->waiting = b->again = false;
		if (b->index == b->sweep.cases || stream_is_gone(req)) {
			sweep_over(req);
			return;
		}
		if (stream_is_full(req)) {
			b->waiting = true;
			break;
		}
		case_reset(req);
		if (case_prepare(req, &req->err) == 0) {
			if (intake_unmade(&req->run->in, &bytes))
				request_fill(req, case_filled);
			else
				case_filled(req);
			if (!b->again)
				break;
			continue;
		}
		case_end(req, &req->err);
	}
	b->inside = false;
}

static void
reader_room(struct request *req)
{
	if (req->run->bench->waiting)
		sweep_on(req);
}

static void
reader_gone(struct request *req)
{
	struct compute_request *run = req->run;

	if (run->submitted) {
		link_cancel(req->loop->links[run->device].link, &run->job);
		req->loop->links[run->device].dirty = true;
	} else if (run->bench->waiting) {
		sweep_on(req);
	}
}

static void
reader_waits(struct request *req, uint64_t now_ns)
{
	struct compute_request *run = req->run;
	struct bench *b = run->bench;
	uint64_t runs, of;
	struct text t;

	if (!(req->events || b->options[BO_PROGRESS].i[0] != 0) || now_ns < b->told_ns + PROGRESS_NS ||
	    !run->submitted || !stream_is_empty(req) ||
	    !link_progress(req->loop->links[run->device].link, &run->job, &runs, &of))
		return;
	text_init(&t, LINE_MAX);
	bench_line_progress(req, runs, of, &t);
	tell(req, "progress", &t);
	text_fini(&t);
}

static const struct stream_events events = {reader_room, reader_gone, reader_waits};

/* ---------------------------------------------------------------- the request */

/* Options of a run that have no meaning here. */
static int
check_options(const struct request *req, struct err *e)
{
	static const char *const others[] = {"dry_run", "outputs", "format", "json"};
	const struct bench *b = req->run->bench;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		const char *value = intake_param_find(&b->given, others[i]);

		if (value != NULL)
			return err_param(e, ERR_UNSUPPORTED_PARAMETER, others[i], value, "leave it out",
					 "%s is an option of a run; bench replies with lines of JSON", others[i]);
	}
	if (b->sweep.sized && b->given.n_tensors > 0)
		return err_param(
			e, ERR_CONFLICTING_PARAMETER, "inputs", "sizes and tensors", "one of them",
			"the request brings tensors, and sizes, dtype or seed for tensors to be made; give one of "
			"the two");
	return 0;
}

void
request_bench_start(struct request *req)
{
	struct compute_request *run = req->run;
	struct bench *b = calloc(1, sizeof(*b));
	struct err *e = &req->err;

	if (b == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for a sweep");
		request_reply_error(req);
		return;
	}
	run->bench = b;
	b->given = run->in;
	b->given_mem = run->mem;
	b->given.mem = &b->given_mem;
	case_reset(req);
	if (sweep_make(&b->sweep, req->op, &b->given, bench_options, (uint64_t)req->loop->svc->opt->max_cases, e) ==
		    -1 ||
	    check_options(req, e) == -1) {
		request_reply_error(req);
		return;
	}
	/* What all cases share is looked at once, before it is too late for an error of the request. */
	if (sweep_params(&b->sweep, 0, &run->in, e) == -1 ||
	    option_values(bench_options, b->options, &run->in, e) == -1 ||
	    run_options_parse(&run->run, &run->in, req->loop->svc, e) == -1) {
		request_reply_error(req);
		return;
	}
	case_free(req);
	b->told_ns = clock_ns();
	request_progress(req, 0, b->sweep.cases, "cases");
	if (stream_begin(req, req->events ? "text/event-stream" : "application/x-ndjson", &events) == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for a reply");
		request_reply_error(req);
		return;
	}
	sweep_on(req);
}
