/*
 * request_dry.c: the reply to dry_run: what the device says it would run and why, the outputs' shapes, what it would
 * compute and move. Nothing ran.
 */
#include <string.h>

#include "front/request.h"

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

void
request_dry_answer(struct request *req)
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
