/*
 * check_reply.c: a check's verdict as JSON, with a sentence for people, and as a case file: a safetensors file with inputs,
 * candidate, parameters and verdict, which can be sent to check again. Called by request_check.c, mostly on a helper thread.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "front/check.h"
#include "front/routes.h"

#define COMPRESS_MIN 1024

/* null where nothing was to be had. */
static void
add_figure(struct text *t, const char *name, double v)
{
	text_addf(t, "\"%s\":", name);
	if (isnan(v))
		text_add(t, "null");
	else
		text_number(t, v);
}

static void
add_index(struct text *t, const struct tensor *of, const int64_t *index)
{
	text_add(t, "[");
	for (int a = 0; a < of->rank; a++)
		text_addf(t, "%s%" PRId64, a ? "," : "", index[a]);
	text_add(t, "]");
}

static void
add_metrics(struct text *t, const char *name, const struct compare_metrics *m, int64_t total)
{
	int last = COMPARE_ULPS - 1;

	text_addf(t, ",\"%s\":{", name);
	add_figure(t, "max_abs", m->max_abs);
	text_add(t, ",");
	add_figure(t, "max_rel", m->max_rel);
	text_add(t, ",");
	add_figure(t, "mean_abs", m->mean_abs);
	text_add(t, ",");
	add_figure(t, "rmse", m->rmse);
	text_add(t, ",");
	add_figure(t, "cosine", m->cosine);
	/* Up to the furthest that there is, and the three nearest always. */
	while (last > 2 && m->ulp[last] == 0)
		last--;
	text_add(t, ",\"ulp\":{");
	for (int i = 0; i <= last; i++)
		text_addf(t, "%s\"%s\":%" PRId64, i ? "," : "", compare_ulp_name(i), m->ulp[i]);
	text_addf(t, "},\"mismatched\":%" PRId64 ",\"total\":%" PRId64 ",", m->mismatched, total);
	add_figure(t, "mismatched_share", total > 0 ? (double)m->mismatched / (double)total : 0);
	text_add(t, "}");
}

static void
add_worst(struct text *t, const struct compare *c)
{
	text_add(t, ",\"worst\":[");
	for (int i = 0; i < c->n_worst; i++) {
		int64_t at = c->worst[i].at, index[TENSOR_RANK_MAX];
		double y = tensor_get(c->yours, at), r = tensor_get(c->reference, at), off = fabs(y - r);

		compare_index(c->yours, at, index);
		text_addf(t, "%s{\"index\":", i ? "," : "");
		add_index(t, c->yours, index);
		text_add(t, ",\"yours\":");
		text_number(t, y);
		text_add(t, ",\"kernel\":");
		text_number(t, tensor_get(c->kernel, at));
		text_add(t, ",\"reference\":");
		text_number(t, r);
		text_add(t, ",");
		add_figure(t, "abs", off);
		text_add(t, ",");
		add_figure(t, "rel", r < 0 || r > 0 ? off / fabs(r) : NAN);
		text_add(t, "}");
	}
	text_add(t, "]");
}

static void
add_count(struct text *t, const char *name, const struct compare_count *n)
{
	text_addf(t, ",\"%s\":{\"yours\":%" PRId64 ",\"kernel\":%" PRId64 ",\"reference\":%" PRId64 ",\"agree\":%s}",
		  name, n->yours, n->kernel, n->reference, n->agree ? "true" : "false");
}

static void
add_tolerance(struct text *t, const struct request *req, const struct compare *c)
{
	const struct check *k = req->run->check;
	const char *dtype = dtype_info((enum dtype)c->kernel->dtype)->name;
	char from[128];

	if (k->atol_given && k->rtol_given)
		snprintf(from, sizeof(from), "given");
	else
		snprintf(from, sizeof(from), "%s%s of %s",
			 k->atol_given	 ? "atol given, rtol of "
			 : k->rtol_given ? "rtol given, atol of "
					 : "",
			 dtype, req->op->name);
	add_figure(t, "rtol", c->rtol);
	text_add(t, ",");
	add_figure(t, "atol", c->atol);
	text_add(t, ",\"tolerance_from\":");
	text_json(t, from);
}

static void
add_output(struct text *t, const struct request *req, const struct compare *c)
{
	char shape[160];

	text_addf(t, "{\"pass\":%s,\"dtype\":\"%s\",\"your_dtype\":\"%s\",\"shape\":%s,", c->pass ? "true" : "false",
		  dtype_info((enum dtype)c->kernel->dtype)->name, dtype_info((enum dtype)c->yours->dtype)->name,
		  tensor_shape_text(c->yours, shape, sizeof(shape)));
	add_tolerance(t, req, c);
	add_metrics(t, "vs_reference", &c->pairs[VS_REFERENCE], c->total);
	add_metrics(t, "vs_kernel", &c->pairs[VS_KERNEL], c->total);
	add_metrics(t, "kernel_vs_reference", &c->pairs[KERNEL_VS_REFERENCE], c->total);
	add_worst(t, c);
	text_add(t, ",\"mismatched_within\":");
	if (c->pass) {
		text_add(t, "null");
	} else {
		text_add(t, "{\"from\":");
		add_index(t, c->yours, c->from);
		text_add(t, ",\"to\":");
		add_index(t, c->yours, c->to);
		text_add(t, "}");
	}
	add_count(t, "nan", &c->nan);
	add_count(t, "inf", &c->inf);
	text_add(t, ",\"looks_like\":");
	text_json(t, c->looks_like[0] != '\0' ? c->looks_like : NULL);
	text_add(t, "}");
}

/* ---------------------------------------------------------------- the sentence */

static void
say_number(struct text *t, double v)
{
	if (isnan(v))
		text_add(t, "NaN");
	else
		text_addf(t, "%.6g", v);
}

/* "[1,5,2,60]: yours 0.43, float64 0.18" */
static void
say_worst(struct text *t, const struct compare *c)
{
	int64_t at = c->worst[0].at, index[TENSOR_RANK_MAX];

	compare_index(c->yours, at, index);
	add_index(t, c->yours, index);
	text_add(t, ": yours ");
	say_number(t, tensor_get(c->yours, at));
	text_add(t, ", float64 ");
	say_number(t, tensor_get(c->reference, at));
}

static void
say_output(struct text *t, const char *name, const struct compare *c)
{
	const struct compare_metrics *m = &c->pairs[VS_REFERENCE];
	int64_t kernel = c->pairs[KERNEL_VS_REFERENCE].mismatched;

	text_addf(t, "%s%s: ", t->len > 0 ? ". " : "", name);
	if (c->total == 0) {
		text_add(t, "no elements, nothing to judge");
	} else if (c->pass) {
		text_addf(t, "all %" PRId64 " elements right", c->total);
		if (c->n_worst > 0) {
			text_add(t, ", furthest off at ");
			say_worst(t, c);
		}
	} else {
		text_addf(t, "%" PRId64 " of %" PRId64 " elements off, worst at ", m->mismatched, c->total);
		say_worst(t, c);
	}
	if (c->looks_like[0] != '\0')
		text_addf(t, "; looks like: %s", c->looks_like);
	if (kernel > 0)
		text_addf(t, "; the kernel itself is off in %" PRId64 " elements", kernel);
}

static void
add_summary(struct text *t, const struct request *req)
{
	const struct check *k = req->run->check;
	struct text say;

	text_init(&say, 16 * 1024);
	for (int i = 0; i < op_tensor_count(req->op); i++)
		if (k->yours[i] != NULL)
			say_output(&say, req->op->tensors[i].name, &k->compared[i]);
	if (k->runs_differing > 0)
		text_addf(&say, ". The kernel is not deterministic: %" PRIu64 " elements differed between runs",
			  k->differing);
	text_add(t, ",\"summary\":");
	text_json(t, say.failed ? "" : say.p);
	text_fini(&say);
}

int
check_verdict(struct request *req, struct err *e)
{
	struct check *k = req->run->check;
	struct text *t = &k->verdict;
	struct device_state d;
	bool pass = true, first = true;

	supervisor_device(req->loop->svc->sup, k->reference_device, &d);
	for (int i = 0; i < op_tensor_count(req->op); i++)
		pass = pass && (k->yours[i] == NULL || k->compared[i].pass);
	text_addf(t, "{\"pass\":%s,\"op\":", pass ? "true" : "false");
	text_json(t, req->op->name);
	text_add(t, ",\"impl\":");
	text_json(t, k->done.impl);
	text_add(t, ",\"outputs\":{");
	for (int i = 0; i < op_tensor_count(req->op); i++) {
		if (k->yours[i] == NULL)
			continue;
		text_addf(t, "%s\"%s\":", first ? "" : ",", req->op->tensors[i].name);
		add_output(t, req, &k->compared[i]);
		first = false;
	}
	text_add(t, "}");
	add_summary(t, req);
	if (k->runs > 1)
		text_addf(t,
			  ",\"determinism\":{\"runs\":%" PRIu32 ",\"identical\":%s,\"differing\":%" PRIu64
			  ",\"runs_differing\":%" PRIu32 "}",
			  k->runs, k->runs_differing == 0 ? "true" : "false", k->differing, k->runs_differing);
	text_add(t, ",\"reference\":{\"device\":");
	text_json(t, d.id);
	text_add(t, ",");
	add_figure(t, "kernel_ms", k->reference_done.kernel.median);
	text_add(t, ",");
	add_figure(t, "queue_ms", k->reference_done.wait_ms);
	text_add(t, "},");
	add_figure(t, "compare_ms", k->compare_ms);
	if (t->failed)
		return err_set(e, ERR_INTERNAL, "the verdict does not fit");
	return 0;
}

/* ---------------------------------------------------------------- the reply */

/* What a replay needs: the operator's parameters and the check's, as they were given; not where and how they ran. */
static void
add_params(struct text *t, const struct request *req)
{
	const struct intake *in = &req->run->in;
	bool first = true;

	text_add(t, "{");
	for (int i = 0; i < in->n_params; i++) {
		const char *name = in->params[i].name;

		if (op_param_find(req->op, name, strlen(name)) < 0 &&
		    option_find(req->route->options, name, strlen(name)) < 0)
			continue;
		text_add(t, first ? "" : ",");
		text_json(t, name);
		text_add(t, ":");
		text_json(t, in->params[i].value);
		first = false;
	}
	text_add(t, "}");
}

static int
encode_case(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct encode_job *job = &run->encode;
	struct encode_meta meta[] = {{"aiterd_case", "1"}, {"params", NULL}, {"verdict", NULL}};
	struct text params;
	int rc = -1;

	text_init(&params, 1024 * 1024);
	add_params(&params, req);
	if (params.failed || run->in.n_tensors > OP_TENSORS_MAX) {
		err_set(e, ERR_INTERNAL, "the case does not fit into a file");
		goto out;
	}
	meta[1].text = params.p;
	meta[2].text = run->check->verdict.p;
	memset(job, 0, sizeof(*job));
	job->form = FORM_SAFETENSORS;
	job->mode = DATA_ALL;
	job->op = req->op->name;
	job->meta = meta;
	job->n_meta = sizeof(meta) / sizeof(meta[0]);
	job->room = run->head_room;
	job->room_size = sizeof(run->head_room);
	for (int i = 0; i < run->in.n_tensors; i++)
		job->tensors[job->n++] = (struct encode_tensor){.name = run->in.tensors[i].name,
								.t = &run->in.tensors[i].t};
	rc = encode_body(job, &run->mem, &req->reply.body, e);
	job->meta = NULL;
	job->n_meta = 0;
	if (rc == 0 && req->reply_coding != CODING_IDENTITY && req->reply.body.bytes >= COMPRESS_MIN) {
		rc = body_compress(&req->reply.body, req->reply_coding, &run->mem, e);
		if (rc == 0)
			req->reply.encoding = coding_name(req->reply_coding);
	}
out:
	text_fini(&params);
	return rc;
}

int
check_encode(struct request *req, struct err *e)
{
	struct text *t = &req->run->check->verdict;
	struct body *b = &req->reply.body;

	text_add(t, ",\"stats\":");
	text_add(t, req->run->stats.p);
	text_add(t, "}");
	if (t->failed)
		return err_set(e, ERR_INTERNAL, "the verdict does not fit");
	if (req->form == FORM_SAFETENSORS)
		return encode_case(req, e);
	text_add(t, "\n");
	memset(b, 0, sizeof(*b));
	b->oip_header_len = -1;
	b->content_type = "application/json";
	body_add(b, t->p, t->len);
	b->owned = text_take(t);
	return 0;
}
