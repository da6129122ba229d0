/*
 * request_run.c: from a complete body to a job at a device: finish decoding, gather parameters, bind the call to the
 * operator's rules, choose the device, make generated inputs, reserve the outputs, submit. For a dry run there are no
 * outputs, and the device only tells what it would run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/request.h"
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
unknown_param(const struct op *op, const char *name, size_t len, struct err *e)
{
	const struct op_param *ro = run_option_table();
	const char *names[32];
	size_t n = 0;

	while (n < sizeof(names) / sizeof(names[0]) && ro[n].name != NULL) {
		names[n] = ro[n].name;
		n++;
	}
	return op_param_unknown(op, name, len, names, n, e);
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
		if (run_option_find(name, len) >= 0)
			continue;
		if ((r = op_refused_check(req->op, name, len, value, strlen(value), e)) == 1)
			continue;
		return r == -1 ? -1 : unknown_param(req->op, name, len, e);
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

static int
gather(struct request *req, struct err *e)
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
	if (gather_params(req, c, e) == -1 || ask_outputs(req, c, e) == -1)
		return -1;
	for (i = 0; i < in->n_tensors; i++) {
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
static int
gather_data(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct op_call *c = &run->job.msg.call;
	const struct intake *in = &run->in;

	for (int i = 0; i < in->n_tensors; i++)
		if (in->tensors[i].generated)
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

/* ---------------------------------------------------------------- devices */

static const char *
impls_text(uint32_t mask, char *buf, size_t size)
{
	size_t at = 0;
	int i;

	buf[0] = '\0';
	for (i = 0; i < IMPL_COUNT && at < size; i++)
		if ((mask & (1u << i)) != 0)
			at += (size_t)snprintf(buf + at, size - at, "%s%s", at > 0 ? ", " : "", impl_name((enum impl)i));
	return buf;
}

static bool
state_usable(enum worker_state s)
{
	return s == W_READY || s == W_STARTING || s == W_DEAD;
}

/* What a device can run of an operator, as bits; before its first HELLO what its kind can be expected to. */
static uint32_t
abilities(const struct device_state *d, uint32_t op)
{
	if (d->info.arch[0] != '\0')
		return d->info.impls[op];
	return strcmp(d->info.kind, "cpu") == 0 ? ~(1u << IMPL_AITER) : ~(1u << IMPL_REFERENCE);
}

/* Is this device asked for? By its id; by its kind alone where there is but one of it. */
static bool
device_meant(const struct device_state *d, const char *want, bool bare)
{
	return strcmp(want, "auto") == 0 || strcmp(want, d->id) == 0 || (bare && strcmp(want, d->info.kind) == 0);
}

/* How many devices are of this kind; their ids. */
static unsigned
devices_of(struct supervisor *sup, const char *kind, char *ids, size_t size)
{
	unsigned n = 0;

	ids[0] = '\0';
	for (unsigned i = 0; i < supervisor_devices(sup); i++) {
		struct device_state d;
		size_t at = strlen(ids);

		supervisor_device(sup, i, &d);
		if (kind != NULL && strcmp(d.info.kind, kind) != 0)
			continue;
		snprintf(ids + at, size - at, "%s%s", n++ > 0 ? ", " : "", d.id);
	}
	return n;
}

/* Why AITER's kernels cannot run this on a GPU that is up, as ": reason", or "". */
static void
why_no_aiter(const struct device_state *d, const struct op *op, char *why, size_t size)
{
	why[0] = '\0';
	if (d->info.arch[0] == '\0' || strcmp(d->info.kind, "cpu") == 0)
		return;
	if (!op->aiter)
		snprintf(why, size, ": AITER has no code object for it");
	else if (strcmp(d->info.kind, "cuda") == 0)
		snprintf(why, size, ": AITER's code objects are for AMD's GPUs");
	else if (d->info.aiter[0] != '\0')
		snprintf(why, size, ": %s has %.280s", d->id, d->info.aiter);
	else
		snprintf(why, size, ": %s has no folder of AITER's code objects; --aiter-dir names it", d->id);
}

/* No device that is meant has the implementation: what each has instead. */
static int
unavailable(struct request *req, bool bare, struct err *e)
{
	const struct compute_request *run = req->run;
	struct supervisor *sup = req->loop->svc->sup;
	char who[40] = "", impls[128], each[300] = "", why[340] = "";
	const char *baseline = run->run.baseline != IMPL_AUTO ? " with that baseline" : "";
	const char *impl = impl_name(run->run.impl);
	unsigned meant = 0;
	struct device_state d;
	uint32_t all = 0;

	for (unsigned i = 0; i < supervisor_devices(sup); i++) {
		uint32_t mask;
		size_t at = strlen(each);

		supervisor_device(sup, i, &d);
		if (!device_meant(&d, run->run.device, bare))
			continue;
		mask = abilities(&d, req->op_index);
		all |= mask;
		snprintf(who, sizeof(who), "%s has no", d.id);
		snprintf(each + at, sizeof(each) - at, "%s%s has %s", meant++ > 0 ? "; " : "", d.id,
			 impls_text(mask, impls, sizeof(impls)));
		if (run->run.impl == IMPL_AITER && (mask & (1u << IMPL_AITER)) == 0 && why[0] == '\0')
			why_no_aiter(&d, req->op, why, sizeof(why));
	}
	if (run->run.impl == IMPL_AITER && (all & (1u << IMPL_AITER)) == 0 && why[0] == '\0')
		snprintf(why, sizeof(why), ": AITER's kernels are gfx942 machine code, which the cpu device cannot run");
	impls_text(all, impls, sizeof(impls));
	if (meant > 1)
		snprintf(who, sizeof(who), "no device here has the");
	return err_param(e, ERR_UNAVAILABLE_IMPL, "impl", impl, impls, "%s %s implementation of %s%s%s; %s", who, impl,
			 req->op->name, baseline, why, each);
}

/*
 * auto: the first device in --device's order that has the implementation, or the least busy of its kind. reference is
 * the cpu worker's, which always runs.
 */
static int
choose_device(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct service *svc = req->loop->svc;
	const char *want = run->run.device;
	unsigned n = supervisor_devices(svc->sup), i, best = n, load, best_load = 0, of_kind = 0;
	struct device_state d;
	char best_kind[sizeof(d.info.kind)] = "";
	uint32_t impl_bit = 1u << run->run.impl, mask;
	char have[128] = "", ids[256] = "";
	bool known = false, away = false;

	if (strcmp(want, "auto") != 0)
		of_kind = devices_of(svc->sup, want, ids, sizeof(ids));
	for (i = 0; i < n; i++) {
		supervisor_device(svc->sup, i, &d);
		if (!device_meant(&d, want, of_kind == 1))
			continue;
		known = true;
		mask = abilities(&d, req->op_index);
		if (run->run.baseline != IMPL_AUTO && (mask & (1u << run->run.baseline)) == 0)
			mask = 0;
		if ((mask & impl_bit) == 0)
			continue;
		if (!state_usable(d.state)) {
			away = true;
			snprintf(have, sizeof(have), "%s is %s: %.80s", d.id, worker_state_name(d.state),
				 d.obituary.msg);
			continue;
		}
		load = link_queued(req->loop->links[i].link) + (d.running_since_ns != 0);
		if (best == n || (load < best_load && strcmp(d.info.kind, best_kind) == 0)) {
			best = i;
			best_load = load;
			memcpy(best_kind, d.info.kind, sizeof(best_kind));
		}
	}
	if (best < n) {
		run->device = best;
		return 0;
	}
	if (!known && of_kind > 1)
		return err_param(e, ERR_UNKNOWN_DEVICE, "device", want, ids,
				 "there are %u devices of the kind '%s' here; give the id of one: %s", of_kind, want,
				 ids);
	(void)devices_of(svc->sup, NULL, ids, sizeof(ids));
	if (!known)
		return err_param(e, ERR_UNKNOWN_DEVICE, "device", want, ids,
				 "there is no device '%s' here; there is %s", want, ids);
	if (away)
		return err_set(e, ERR_DEVICE_UNAVAILABLE, "no device can run this at the moment: %s", have);
	return unavailable(req, of_kind == 1, e);
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

/* ---------------------------------------------------------------- the dry run */

/* The protocol's clients want a reply of its form: no outputs, the plan as a parameter. */
static void
wrap_plan(struct request *req, struct text *plan)
{
	struct text t;

	text_init(&t, 128 * 1024);
	text_add(&t, "{\"model_name\":");
	text_json(&t, req->op->name);
	text_add(&t, ",\"model_version\":\"1\"");
	if (req->run->in.id != NULL) {
		text_add(&t, ",\"id\":");
		text_json(&t, req->run->in.id);
	}
	text_add(&t, ",\"outputs\":[],\"parameters\":{\"dry_run\":");
	text_json(&t, plan->p);
	text_add(&t, "}}");
	text_fini(plan);
	*plan = t;
}

/* The device has said what it would run. */
static void
dry_answer(struct request *req)
{
	struct compute_request *run = req->run;
	const struct op_call *c = &run->job.msg.call;
	struct device_state d;
	const char *sep = "";
	char shape[160];
	struct text t;
	int i;

	if (run->done.err.code != ERR_NONE) {
		req->err = run->done.err;
		request_reply_error(req);
		return;
	}
	supervisor_device(req->loop->svc->sup, run->device, &d);
	text_init(&t, 64 * 1024);
	text_add(&t, "{\"op\":");
	text_json(&t, req->op->name);
	text_add(&t, ",\"dry_run\":true,\"device\":");
	text_json(&t, d.id);
	text_add(&t, ",\"impl\":");
	text_json(&t, run->done.impl);
	text_add(&t, ",\"why_not_aiter\":");
	text_json(&t, run->done.why_not_aiter[0] != '\0' ? run->done.why_not_aiter : NULL);
	text_add(&t, ",\"outputs\":{");
	for (i = 0; i < op_tensor_count(req->op); i++) {
		if (req->op->tensors[i].role != OP_OUT || c->tensors[i].dtype == DT_NONE)
			continue;
		text_add(&t, sep);
		text_json(&t, req->op->tensors[i].name);
		text_addf(&t, ":{\"dtype\":\"%s\",\"shape\":%s,\"bytes\":%llu}",
			  dtype_info((enum dtype)c->tensors[i].dtype)->name,
			  tensor_shape_text(&c->tensors[i], shape, sizeof(shape)),
			  (unsigned long long)c->tensors[i].bytes);
		sep = ",";
	}
	text_add(&t, "},\"flop\":");
	text_number(&t, req->op->flop(c));
	text_add(&t, ",\"bytes_moved\":");
	text_number(&t, op_bytes_moved(c));
	text_addf(&t, ",\"hints\":%s}", run->hints.len > 0 ? run->hints.p : "[]");
	if (req->oip)
		wrap_plan(req, &t);
	request_reply_text(req, 200, "application/json", &t);
}

/* ---------------------------------------------------------------- submit */

static void
job_done(struct link_job *job, const struct msg_done *done)
{
	struct request *req = job->cls;

	req->t[T_DONE] = clock_ns();
	req->run->done = *done;
	req->run->submitted = false;
	if (req->run->orphaned) { /* counted when it was answered */
		request_unref(req);
		return;
	}
	if (req->gone) {
		request_ready(req);
		return;
	}
	if (req->run->run.dry_run)
		dry_answer(req);
	else
		request_answer(req);
}

static void
submit(struct request *req)
{
	struct compute_request *run = req->run;
	struct msg_job *m = &run->job.msg;

	if (req->err.code != ERR_NONE) {
		request_reply_error(req);
		return;
	}
	m->m.type = MSG_JOB;
	m->m.length = sizeof(*m);
	m->impl = run->run.impl;
	m->baseline = run->run.baseline;
	m->warmup = run->run.warmup;
	m->iters = run->run.iters;
	m->flush = run->run.flush;
	m->dry = run->run.dry_run;
	req->t[T_SUBMITTED] = clock_ns();
	m->deadline_ns = req->t[T_RECEIVED] + (uint64_t)(run->run.timeout_s * 1e9);
	run->job.done = job_done;
	run->job.cls = req;
	run->submitted = true;
	loop_submit(req->loop, run->device, &run->job);
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
		    mem_tensor(&req->run->mem, &c->tensors[i], &req->err) == -1)
			return;
}

static void
reserve_done(struct request *req)
{
	req->run->reserve_ns += clock_ns() - req->t[T_DECODED];
	submit(req);
}

static void
reserve(struct request *req)
{
	const struct op_call *c = &req->run->job.msg.call;
	uint64_t bytes = 0;
	int i;

	for (i = 0; i < op_tensor_count(req->op); i++)
		if (req->op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE)
			bytes = c->tensors[i].bytes > UINT64_MAX - bytes ? UINT64_MAX : bytes + c->tensors[i].bytes;
	if (mem_would_grow(&req->run->mem, bytes)) {
		request_help(req, reserve_work, reserve_done);
		return;
	}
	reserve_work(&req->task);
	submit(req);
}

static void
filled(struct request *req)
{
	struct err *e = &req->err;

	req->t[T_DECODED] = clock_ns();
	if (e->code != ERR_NONE || gather_data(req, e) == -1)
		request_reply_error(req);
	else if (req->run->run.dry_run)
		submit(req);
	else
		reserve(req);
}

static void
decoded(struct request *req)
{
	struct err *e = &req->err;
	uint64_t bytes;
	bool bound = e->code == ERR_NONE && gather(req, e) == 0 && choose_device(req, e) == 0 &&
		     settle_form(req, e) == 0;

	if (!bound) {
		req->t[T_DECODED] = clock_ns();
		request_reply_error(req);
	} else if (intake_unmade(&req->run->in, &bytes) && !(req->run->run.dry_run && req->op->check_data == NULL)) {
		request_fill(req, filled);
	} else {
		filled(req);
	}
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
request_run(struct request *req)
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
