/*
 * request_run.c: from a complete body to a job at a device: finish decoding, then what the route starts. For a run:
 * gather parameters, bind the call to the operator's rules, choose the device, make generated inputs, reserve the outputs,
 * submit. For a dry run there are no outputs, and the device only tells what it would run.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "front/request.h"
#include "front/routes.h"
#include "log.h"

#define INLINE_MAX (256 * 1024) /* bytes of parsing or unshuffling that may be done on the loop */

static void
add_hint(void *cls, const char *hint)
{
	struct text *t = cls;

	text_add(t, t->len > 0 ? "," : "[");
	text_json(t, hint);
}

static int
unknown_param(const struct request *req, const char *name, size_t len, struct err *e)
{
	const struct op_param *tables[] = {run_option_table(), req->route->options};
	const char *names[48];
	size_t n = 0;

	for (int i = 0; i < 2; i++)
		for (const struct op_param *o = tables[i]; o != NULL && o->name != NULL; o++)
			if (n < sizeof(names) / sizeof(names[0]))
				names[n++] = o->name;
	return op_param_unknown(req->op, name, len, names, n, e);
}

/* The operator's parameters into the call; run options were parsed already; what is neither is refused by name. */
static int
gather_params(struct request *req, struct op_call *c, struct err *e)
{
	struct intake *in = &req->run->in;
	size_t len;
	int i, k, r;

	for (i = 0; i < in->n_params; i++) {
		const char *name = in->params[i].name, *value = in->params[i].value;

		len = strlen(name);
		if ((k = op_param_find(req->op, name, len)) >= 0) {
			if (c->params[k].given)
				return err_param(e, ERR_CONFLICTING_PARAMETER, name, value, req->op->params[k].name,
						 "%s is another spelling of %s; give one of them", name,
						 req->op->params[k].name);
			if (op_value_parse(&req->op->params[k], value, strlen(value), &c->params[k], e) == -1)
				return -1;
			continue;
		}
		if (run_option_find(name, len) >= 0 || option_find(req->route->options, name, len) >= 0)
			continue;
		if ((r = request_keep_param(req, name, value, e)) != 0) {
			if (r == -1)
				return -1;
			continue;
		}
		if ((r = op_refused_check(req->op, name, len, value, strlen(value), e)) == 1)
			continue;
		return r == -1 ? -1 : unknown_param(req, name, len, e);
	}
	return 0;
}

/* Naming an optional output (OIP "outputs") asks for it. */
static int
ask_outputs(struct request *req, struct op_call *c, struct err *e)
{
	struct intake *in = &req->run->in;
	const struct op_tensor *t;
	int i, k;

	for (i = 0; i < in->n_outputs; i++) {
		k = op_tensor_find(req->op, in->outputs[i].name, strlen(in->outputs[i].name));
		if (k == -1 || req->op->tensors[k].role != OP_OUT)
			return err_set(e, ERR_UNSUPPORTED_OUTPUT, "%s has no output '%s'", req->op->name,
				       in->outputs[i].name);
		t = &req->op->tensors[k];
		if (t->asked == NULL)
			continue;
		k = op_param_find(req->op, t->asked, strlen(t->asked));
		if (op_value_parse(&req->op->params[k], "true", 4, &c->params[k], e) == -1)
			return -1;
	}
	return 0;
}

int
request_bind(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct op_call *c = &run->job.msg.call;
	struct intake *in = &run->in;
	int i, k;

	if (in->op_named[0] != '\0' && strcmp(in->op_named, req->op->name) != 0)
		return err_param(e, ERR_CONFLICTING_PARAMETER, "op", in->op_named, req->op->name,
				 "__metadata__.op is %s, but the request was sent to %s", in->op_named, req->op->name);
	if (run_options_parse(&run->run, in, req->loop->svc, e) == -1)
		return -1;
	c->op = req->op_index;
	if (gather_params(req, c, e) == -1 || ask_outputs(req, c, e) == -1 || request_keep_ask(req, e) == -1)
		return -1;
	for (i = 0; i < in->n_tensors; i++) {
		if (intake_expected(in, in->tensors[i].name, in->tensors[i].name_len) >= 0)
			continue;
		k = op_tensor_find(req->op, in->tensors[i].name, strlen(in->tensors[i].name));
		if (k == -1 || req->op->tensors[k].role != OP_IN)
			return op_input_unknown(req->op, in->tensors[i].name, strlen(in->tensors[i].name), e);
		if (c->tensors[k].dtype != DT_NONE)
			return err_input(e, ERR_MALFORMED_BODY, in->tensors[i].name, "twice", "once",
					 "input %s was sent twice", in->tensors[i].name);
		c->tensors[k] = in->tensors[i].t;
	}
	return op_params_finish(req->op, c, e) == -1 ? -1 : op_bind(req->op, c, e);
}

/* What may look at the inputs' data, when all of them have any: generated ones only now. */
int
request_gather_data(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct op_call *c = &run->job.msg.call;
	const struct intake *in = &run->in;

	for (int i = 0; i < in->n_tensors; i++)
		if (in->tensors[i].generated && intake_expected(in, in->tensors[i].name, in->tensors[i].name_len) < 0)
			c->tensors[op_tensor_find(req->op, in->tensors[i].name, in->tensors[i].name_len)] =
				in->tensors[i].t;
	if (req->op->check_data != NULL && req->op->check_data(c, e) == -1)
		return -1;
	if (req->op->hints != NULL)
		req->op->hints(c, add_hint, &run->hints);
	if (run->hints.len > 0)
		text_add(&run->hints, "]");
	return 0;
}

int
request_gather(struct request *req, struct err *e)
{
	return request_bind(req, e) == -1 ? -1 : request_gather_data(req, e);
}

/* ---------------------------------------------------------------- forms that depend on the outputs */

static int
outputs_made(const struct request *req)
{
	const struct op_call *c = &req->run->job.msg.call;
	int i, n = 0;

	for (i = 0; i < op_tensor_count(req->op); i++)
		n += req->op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE;
	return n;
}

static int
settle_form(struct request *req, struct err *e)
{
	const char *format = req->run->run.format;
	bool npy_fits = req->run->run.outputs == DATA_ALL && outputs_made(req) == 1;
	char found[40];

	if (req->oip)
		return 0;
	if (format != NULL)
		req->form = strcmp(format, "npy") == 0		 ? FORM_NPY
			    : strcmp(format, "safetensors") == 0 ? FORM_SAFETENSORS
								 : FORM_JSON;
	if (req->form != FORM_NPY || npy_fits)
		return 0;
	if (format == NULL && !req->npy_asked) {
		req->form = FORM_SAFETENSORS;
		return 0;
	}
	snprintf(found, sizeof(found), "%d output%s", outputs_made(req), outputs_made(req) == 1 ? "" : "s");
	return err_param(e, ERR_NOT_ACCEPTABLE, "format", found, "safetensors or json",
			 "npy holds exactly one output with its data; this reply has %s%s: ask for safetensors or json",
			 found, req->run->run.outputs != DATA_ALL ? " without data" : "");
}

/* ---------------------------------------------------------------- submit */

static void
job_done(struct link_job *job, const struct msg_done *done)
{
	struct request *req = job->cls;

	req->t[T_DONE] = clock_ns();
	req->run->done = *done;
	req->run->submitted = false;
	atomic_fetch_add(&req->loop->svc->devices[req->run->device].ended, 1);
	request_device_done(req);
	if (req->run->orphaned) { /* counted when it was answered */
		request_unref(req);
		return;
	}
	if (req->gone && req->stream == NULL) {
		request_ready(req);
		return;
	}
	req->run->after(req);
}

void
request_submit(struct request *req, request_done_f after)
{
	struct compute_request *run = req->run;
	struct msg_job *m = &run->job.msg;
	uint64_t ticket;

	m->m.type = MSG_JOB;
	m->m.length = sizeof(*m);
	request_kept_mark(req);
	req->t[T_SUBMITTED] = clock_ns();
	m->deadline_ns = req->t[T_RECEIVED] + (uint64_t)(run->run.timeout_s * 1e9);
	run->after = after;
	run->job.done = job_done;
	run->job.cls = req;
	run->submitted = true;
	ticket = atomic_fetch_add(&req->loop->svc->devices[run->device].submitted, 1);
	loop_submit(req->loop, run->device, &run->job);
	if (req->job != NULL)
		request_placed(req, ticket);
}

/* Memory for the outputs. */
static void
reserve_work(struct helper_task *t)
{
	struct request *req = request_of_task(t);
	struct op_call *c = &req->run->job.msg.call;
	int i;

	for (i = 0; i < op_tensor_count(req->op); i++)
		if (req->op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE &&
		    request_keep_reserve(req, i, &req->err) == -1)
			return;
}

static void
reserved(struct request *req)
{
	if (req->err.code != ERR_NONE)
		request_reply_error(req);
	else
		req->run->after(req);
}

static void
reserve_done(struct request *req)
{
	req->run->reserve_ns += clock_ns() - req->t[T_DECODED];
	reserved(req);
}

void
request_reserve(struct request *req, request_done_f after)
{
	const struct op_call *c = &req->run->job.msg.call;
	uint64_t bytes = 0;
	int i;

	req->run->after = after;
	for (i = 0; i < op_tensor_count(req->op); i++)
		if (req->op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE)
			bytes = c->tensors[i].bytes > UINT64_MAX - bytes ? UINT64_MAX : bytes + c->tensors[i].bytes;
	if (mem_would_grow(&req->run->mem, bytes) || request_keep_would_grow(req)) {
		request_help(req, reserve_work, reserve_done);
		return;
	}
	reserve_work(&req->task);
	reserved(req);
}

/* ---------------------------------------------------------------- the run */

void
request_submit_run(struct request *req, request_done_f after)
{
	struct compute_request *run = req->run;
	struct msg_job *m = &run->job.msg;

	m->impl = run->run.impl;
	m->baseline = run->run.baseline;
	m->warmup = run->run.warmup;
	m->iters = run->run.iters;
	m->flush = run->run.flush;
	m->dry = run->run.dry_run;
	request_submit(req, run->run.dry_run ? request_dry_answer : after);
}

static void
submit_run(struct request *req)
{
	request_submit_run(req, request_answer);
}

static void
run_filled(struct request *req)
{
	req->t[T_DECODED] = clock_ns();
	if (req->err.code != ERR_NONE || request_gather_data(req, &req->err) == -1)
		request_reply_error(req);
	else if (req->run->run.dry_run)
		submit_run(req);
	else
		request_reserve(req, submit_run);
}

void
request_run_start(struct request *req)
{
	struct err *e = &req->err;
	uint64_t bytes;

	if (request_bind(req, e) == -1 || request_device(req, e) == -1 || settle_form(req, e) == -1)
		request_reply_error(req);
	else if (intake_unmade(&req->run->in, &bytes) && (!req->run->run.dry_run || req->op->check_data != NULL))
		request_fill(req, run_filled);
	else
		run_filled(req);
}

/* ---------------------------------------------------------------- the body is complete */

static void
filled(struct request *req)
{
	req->t[T_DECODED] = clock_ns();
	if (req->err.code != ERR_NONE)
		request_reply_error(req);
	else if (!request_defer(req))
		req->route->start(req);
}

static void
decoded(struct request *req)
{
	uint64_t bytes;

	if (req->err.code == ERR_NONE && !req->route->fills && intake_unmade(&req->run->in, &bytes))
		request_fill(req, filled);
	else
		filled(req);
}

static void
decode_work(struct helper_task *t)
{
	struct request *req = request_of_task(t);
	struct compute_request *run = req->run;

	if (inflater_finish(run->inflater, &req->err) == 0 && intake_finish(&run->in, &req->err) == 0)
		intake_unshuffle(&run->in, &req->err);
}

void
request_decode(struct request *req)
{
	struct compute_request *run = req->run;
	struct decoder *d = run->decoder;
	uint64_t cost = d->ops->pending != NULL ? d->ops->pending(d) : 0, in, out;

	/* Which tensors are shuffled is known only once parameters are complete: any large body that names some. */
	if (intake_param_find(&run->in, "shuffle") != NULL) {
		inflater_counts(run->inflater, &in, &out);
		cost += out;
	}
	if (cost > INLINE_MAX) {
		request_help(req, decode_work, decoded);
		return;
	}
	decode_work(&req->task);
	decoded(req);
}
