/*
 * request_check.c: the start of POST /v1/ops/{op}/check: the kernel on the chosen device, once or several times; the float64
 * reference on the cpu device; then the comparison, on a helper thread. The steps are a run's (request_run.c), and each
 * calls the next one when its job is done; when the client has left, none is called.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/check.h"
#include "front/routes.h"

#define INLINE_MAX 16384 /* elements that may be compared on the loop */

enum { CO_RTOL, CO_ATOL, CO_RUNS, CO_COUNT };

const struct op_param request_check_options[] = {
	[CO_RTOL] = {.name = "rtol",
		     .type = OP_FLOAT,
		     .fallback = NULL,
		     .min = 0,
		     .max = 1e300,
		     .help = "An element is right if |yours - float64| <= atol + rtol * |float64|. Not given: the operator's, "
			     "by the output's dtype (tolerance)."},
	[CO_ATOL] = {.name = "atol", .type = OP_FLOAT, .fallback = NULL, .min = 0, .max = 1e300, .help = "See rtol."},
	[CO_RUNS] = {.name = "runs",
		     .type = OP_INT,
		     .fallback = "1",
		     .min = 1,
		     .max = 1000,
		     .help = "How often the kernel runs; its outputs are compared bit for bit, and determinism tells."},
	[CO_COUNT] = {.name = NULL},
};

void
request_check_free(struct check **kp)
{
	struct check *k = *kp;

	if (k == NULL)
		return;
	*kp = NULL;
	text_fini(&k->verdict);
	free(k);
}

static bool
is_made(const struct request *req, const struct op_call *c, int i)
{
	return req->op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE;
}

/* A candidate for an optional output asks for that output, as naming it in the Open Inference Protocol does. */
static void
ask_output(struct intake *in, const char *name)
{
	struct intake_output *out = &in->outputs[in->n_outputs];

	if (in->n_outputs == OP_TENSORS_MAX)
		return;
	snprintf(out->name, sizeof(out->name), "%s", name);
	out->binary = out->binary_given = false;
	in->n_outputs++;
}

static int
find_candidates(struct request *req, struct err *e)
{
	struct check *k = req->run->check;
	struct intake *in = &req->run->in;
	int n = 0;

	for (int i = 0; i < in->n_tensors; i++) {
		struct intake_tensor *it = &in->tensors[i];
		int output = intake_expected(in, it->name, it->name_len);

		if (output < 0)
			continue;
		k->yours[output] = &it->t;
		ask_output(in, req->op->tensors[output].name);
		n++;
	}
	if (n == 0)
		return err_input(e, ERR_MISSING_INPUT, "expected.out", "nothing", "a tensor like the output",
				 "a check needs a result to judge: send it as expected.out beside the inputs (curl: "
				 "-F expected.out=@mine.npy)");
	return 0;
}

static int
wrong_shape(const struct request *req, const struct tensor *yours, const struct tensor *wanted, const char *name,
	    struct err *e)
{
	char a[160], b[160], full[TENSOR_NAME_MAX + 16];
	bool other = req->op->layout != NULL && yours->rank == 4 && wanted->rank == 4 &&
		     yours->shape[0] == wanted->shape[0] && yours->shape[1] == wanted->shape[2] &&
		     yours->shape[2] == wanted->shape[1] && yours->shape[3] == wanted->shape[3];

	snprintf(full, sizeof(full), "expected.%s", name);
	tensor_shape_text(yours, a, sizeof(a));
	tensor_shape_text(wanted, b, sizeof(b));
	return err_input(e, ERR_INVALID_SHAPE, full, a, b, "%s is %s, but %s of these inputs is %s%s", full, a, name, b,
			 other ? ". It looks as if it had the other layout than the inputs" : "");
}

/* Do the candidates fit what the call will make? */
static int
check_candidates(const struct request *req, struct err *e)
{
	const struct check *k = req->run->check;
	const struct op_call *c = &req->run->job.msg.call;

	for (int i = 0; i < op_tensor_count(req->op); i++) {
		const struct tensor *yours = k->yours[i], *wanted = &c->tensors[i];
		const char *name = req->op->tensors[i].name;
		char full[TENSOR_NAME_MAX + 16];

		if (yours == NULL)
			continue;
		assert(is_made(req, c, i));
		snprintf(full, sizeof(full), "expected.%s", name);
		if (!dtype_info((enum dtype)yours->dtype)->is_float)
			return err_input(e, ERR_INVALID_DTYPE, full, dtype_info((enum dtype)yours->dtype)->name,
					 "a floating-point dtype",
					 "%s is %s; a candidate may have any floating-point dtype, fp64 too", full,
					 dtype_info((enum dtype)yours->dtype)->name);
		if (yours->rank != wanted->rank ||
		    memcmp(yours->shape, wanted->shape, wanted->rank * sizeof(wanted->shape[0])) != 0)
			return wrong_shape(req, yours, wanted, name, e);
	}
	return 0;
}

static int
settle_form(struct request *req, struct err *e)
{
	const char *format = req->run->run.format;

	if (format != NULL && strcmp(format, "npy") == 0)
		return err_param(e, ERR_NOT_ACCEPTABLE, "format", format, "json or safetensors",
				 "a verdict is no array: format=json, or safetensors for a case file");
	if (format != NULL)
		req->form = strcmp(format, "safetensors") == 0 ? FORM_SAFETENSORS : FORM_JSON;
	return 0;
}

static int
read_options(struct request *req, struct err *e)
{
	struct check *k = req->run->check;
	struct op_value v[CO_COUNT];

	if (option_values(request_check_options, v, &req->run->in, e) == -1)
		return -1;
	k->atol_given = v[CO_ATOL].given;
	k->rtol_given = v[CO_RTOL].given;
	k->atol = v[CO_ATOL].f;
	k->rtol = v[CO_RTOL].f;
	k->runs = (uint32_t)v[CO_RUNS].i[0];
	return 0;
}

/* The reference is the cpu device's; then the one that was asked for. */
static int
choose_devices(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	const struct run_options asked = run->run;

	run->run.impl = IMPL_REFERENCE;
	run->run.baseline = IMPL_AUTO;
	run->run.device = "auto";
	if (request_device(req, e) == -1)
		return -1;
	run->check->reference_device = run->device;
	run->run = asked;
	return request_device(req, e);
}

/* ---------------------------------------------------------------- the end */

/* The job in hand failed; `what`: which of them, for the message. */
static void
fail(struct request *req, const char *what)
{
	const struct err *e = &req->run->done.err;

	request_count(req);
	req->err = *e;
	snprintf(req->err.msg, sizeof(req->err.msg), "%s: %.400s", what, e->msg);
	request_reply_error(req);
}

static void
compare_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct check *k = req->run->check;
	uint64_t begin = clock_ns();

	for (int i = 0; i < op_tensor_count(req->op); i++) {
		struct compare *c = &k->compared[i];
		const struct op_tolerance *tolerance;

		if (k->yours[i] == NULL)
			continue;
		tolerance = op_tolerance(req->op, (enum dtype)k->call.tensors[i].dtype);
		assert(tolerance != NULL);
		c->yours = k->yours[i];
		c->kernel = &k->call.tensors[i];
		c->reference = &k->reference.tensors[i];
		c->atol = k->atol_given ? k->atol : tolerance->atol;
		c->rtol = k->rtol_given ? k->rtol : tolerance->rtol;
		compare_run(c);
	}
	k->compare_ms = (double)(clock_ns() - begin) / 1e6;
	if (request_stats(req, &req->err) == 0 && check_verdict(req, &req->err) == 0)
		check_encode(req, &req->err);
}

/* ---------------------------------------------------------------- the reference */

static void
reference_done(struct request *req)
{
	struct compute_request *run = req->run;
	struct check *k = run->check;
	int64_t elements = 0;

	if (run->done.err.code != ERR_NONE) {
		fail(req, "the float64 reference");
		return;
	}
	/* From here on the request is the kernel's run again. */
	k->reference_done = run->done;
	run->done = k->done;
	run->job.msg.call = k->call;
	run->device = k->device;
	run->reserve_ns = k->reserve_ns;
	req->t[T_SUBMITTED] = k->submitted_ns;
	req->t[T_DONE] = k->done_ns;
	run->bytes_moved = op_bytes_moved(&run->job.msg.call);
	request_count(req);
	for (int i = 0; i < op_tensor_count(req->op); i++)
		elements += k->yours[i] != NULL ? tensor_elements(k->yours[i]) : 0;
	if (elements > INLINE_MAX || req->form == FORM_SAFETENSORS) {
		request_help(req, compare_work, request_encoded);
		return;
	}
	compare_work(&req->task);
	request_encoded(req);
}

/* One job of a check: nothing but the implementation, once. */
static void
submit(struct request *req, unsigned device, enum impl impl, request_done_f after)
{
	struct msg_job *m = &req->run->job.msg;

	req->run->device = device;
	m->impl = impl;
	m->baseline = IMPL_AUTO;
	m->warmup = 0;
	m->iters = 1;
	m->flush = m->dry = 0;
	request_progress(req, req->run->check->runs_done, req->run->check->runs + UINT64_C(1), "iterations");
	request_submit(req, after);
}

static void
reference_submit(struct request *req)
{
	struct check *k = req->run->check;

	k->reference = req->run->job.msg.call;
	submit(req, k->reference_device, IMPL_REFERENCE, reference_done);
}

static void
reference_start(struct request *req)
{
	struct check *k = req->run->check;
	struct op_call *c = &req->run->job.msg.call;

	*c = k->call;
	for (int i = 0; i < op_tensor_count(req->op); i++) {
		int64_t shape[TENSOR_RANK_MAX];

		if (!is_made(req, c, i))
			continue;
		memcpy(shape, c->tensors[i].shape, sizeof(shape));
		if (tensor_describe(&c->tensors[i], req->op->tensors[i].name, DT_FP64, c->tensors[i].rank, shape,
				    &req->err) == -1) {
			request_reply_error(req);
			return;
		}
	}
	request_reserve(req, reference_submit);
}

/* ---------------------------------------------------------------- the kernel, again */

/* Elements whose bits differ. */
static uint64_t
differing(const struct tensor *a, const struct tensor *b)
{
	size_t size = dtype_info((enum dtype)a->dtype)->size;
	const char *x = a->data, *y = b->data;
	uint64_t n = 0;

	if (memcmp(x, y, a->bytes) == 0)
		return 0;
	for (uint64_t i = 0; i < a->bytes; i += size)
		n += memcmp(x + i, y + i, size) != 0;
	return n;
}

static void
again_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct check *k = req->run->check;
	uint64_t n = 0;

	for (int i = 0; i < op_tensor_count(req->op); i++)
		if (is_made(req, &k->call, i))
			n += differing(&k->call.tensors[i], &req->run->job.msg.call.tensors[i]);
	k->runs_differing += n > 0;
	k->differing = n > k->differing ? n : k->differing;
	k->runs_done++;
}

static void again_submit(struct request *req);

static void
again_compared(struct request *req)
{
	if (req->run->check->runs_done < req->run->check->runs)
		again_submit(req);
	else
		reference_start(req);
}

static void
again_done(struct request *req)
{
	if (req->run->done.err.code != ERR_NONE)
		fail(req, "the kernel, run again");
	else
		request_help(req, again_work, again_compared);
}

static void
again_submit(struct request *req)
{
	struct check *k = req->run->check;

	submit(req, k->device, req->run->run.impl, again_done);
}

/* ---------------------------------------------------------------- the kernel */

static void
kernel_done(struct request *req)
{
	struct compute_request *run = req->run;
	struct check *k = run->check;

	if (run->done.err.code != ERR_NONE) {
		fail(req, "the kernel");
		return;
	}
	k->call = run->job.msg.call;
	k->done = run->done;
	k->device = run->device;
	k->submitted_ns = req->t[T_SUBMITTED];
	k->done_ns = req->t[T_DONE];
	k->reserve_ns = run->reserve_ns;
	k->runs_done = 1;
	if (k->runs > 1)
		request_reserve(req, again_submit); /* fresh memory, and the same for all repetitions */
	else
		reference_start(req);
}

static void
kernel_submit(struct request *req)
{
	request_submit_run(req, kernel_done);
}

void
request_check_start(struct request *req)
{
	struct compute_request *run = req->run;
	struct err *e = &req->err;

	run->check = calloc(1, sizeof(*run->check));
	if (run->check == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for a check");
	} else {
		text_init(&run->check->verdict, 256 * 1024);
		if (find_candidates(req, e) == 0 && request_gather(req, e) == 0 && read_options(req, e) == 0 &&
		    check_candidates(req, e) == 0 && settle_form(req, e) == 0)
			(void)choose_devices(req, e);
	}
	if (e->code != ERR_NONE)
		request_reply_error(req);
	else if (run->run.dry_run)
		kernel_submit(req);
	else
		request_reserve(req, kernel_submit);
}
