/* v2.c: see v2.h. What perf_analyzer and the stock clients read is spelled out there without checks: keep every key. */
#include "front/v2.h"

#include <string.h>

#include "front/request.h"

static const char json[] = "application/json";

static void
reply(struct request *req, struct text *t)
{
	request_reply_text(req, 200, json, t);
}

void
v2_server(struct request *req)
{
	struct text t;

	text_init(&t, 4096);
	text_addf(&t,
		  "{\"name\":\"aiterd\",\"version\":\"%s\",\"extensions\":[\"binary_tensor_data\",\"statistics\","
		  "\"model_configuration\",\"model_repository\",\"parameters\"]}",
		  PACKAGE_VERSION);
	reply(req, &t);
}

void
v2_live(struct request *req)
{
	struct text t;

	text_init(&t, 64);
	text_add(&t, "{\"live\":true}");
	reply(req, &t);
}

static void
ready_reply(struct request *req, struct text *t)
{
	bool ready = service_ready(req->loop->svc);

	text_addf(t, "\"ready\":%s}", ready ? "true" : "false");
	request_reply_text(req, ready ? 200 : 503, json, t);
}

void
v2_ready(struct request *req)
{
	struct text t;

	text_init(&t, 64);
	text_add(&t, "{");
	ready_reply(req, &t);
}

void
v2_model_ready(struct request *req)
{
	struct text t;

	text_init(&t, 256);
	text_addf(&t, "{\"name\":\"%s\",", req->op->name);
	ready_reply(req, &t);
}

static bool
may_be_absent(const struct op_tensor *x)
{
	return x->optional || x->asked != NULL;
}

/* OIP knows no alternatives: the first dtype stands for all, and every length that may vary is -1. */
static void
add_tensors(struct text *t, const struct op *op, enum op_role role, bool config)
{
	const struct op_tensor *x, *from;
	const char *sep = "", *p;
	size_t n;

	text_add(t, "[");
	for (x = op->tensors; x->name != NULL; x++) {
		if (x->role != role || (role == OP_IN && x->optional))
			continue;
		for (from = x; from->dtypes[0] == '=';)
			from = &op->tensors[op_tensor_find(op, from->dtypes + 1, strlen(from->dtypes + 1))];
		n = strcspn(from->dtypes, "|");
		text_addf(t, "%s{\"name\":\"%s\",\"%s\":\"%s%s\",\"%s\":[", sep, x->name,
			  config ? "data_type" : "datatype", config ? "TYPE_" : "",
			  dtype_info(dtype_find(from->dtypes, n))->oip, config ? "dims" : "shape");
		for (p = x->shape; *p != '\0'; p += n) {
			p += strspn(p, " ");
			n = strcspn(p, " ");
			text_addf(t, "%s-1", p == x->shape ? "" : ",");
		}
		text_addf(t, "]%s}", config && role == OP_IN && may_be_absent(x) ? ",\"optional\":true" : "");
		sep = ",";
	}
	text_add(t, "]");
}

void
v2_model(struct request *req)
{
	struct text t;

	text_init(&t, 64 * 1024);
	text_addf(&t, "{\"name\":\"%s\",\"versions\":[\"1\"],\"platform\":\"aiterd\",\"inputs\":", req->op->name);
	add_tensors(&t, req->op, OP_IN, false);
	text_add(&t, ",\"outputs\":");
	add_tensors(&t, req->op, OP_OUT, false);
	text_add(&t, "}");
	reply(req, &t);
}

void
v2_config(struct request *req)
{
	struct text t;

	text_init(&t, 64 * 1024);
	text_addf(&t, "{\"name\":\"%s\",\"platform\":\"aiterd\",\"backend\":\"aiterd\",\"max_batch_size\":0,\"input\":",
		  req->op->name);
	add_tensors(&t, req->op, OP_IN, true);
	text_add(&t, ",\"output\":");
	add_tensors(&t, req->op, OP_OUT, true);
	text_add(&t, "}");
	reply(req, &t);
}

static void
add_duration(struct text *t, const char *name, uint64_t count, uint64_t ns)
{
	text_addf(t, "\"%s\":{\"count\":%llu,\"ns\":%llu}", name, (unsigned long long)count, (unsigned long long)ns);
}

static void
add_stats(struct text *t, struct service *svc, uint32_t op)
{
	struct op_counters *n = &svc->ops[op];
	uint64_t ok = atomic_load(&n->success);

	text_addf(
		t,
		"{\"name\":\"%s\",\"version\":\"1\",\"last_inference\":%llu,\"inference_count\":%llu,\"execution_count\":%llu,",
		op_get(op)->name, (unsigned long long)atomic_load(&n->last_ms), (unsigned long long)ok,
		(unsigned long long)atomic_load(&n->executions));
	text_add(t, "\"inference_stats\":{");
	add_duration(t, "success", ok, atomic_load(&n->success_ns));
	text_add(t, ",");
	add_duration(t, "fail", atomic_load(&n->fail), atomic_load(&n->fail_ns));
	text_add(t, ",");
	add_duration(t, "queue", ok, atomic_load(&n->queue_ns));
	text_add(t, ",");
	add_duration(t, "compute_input", ok, atomic_load(&n->input_ns));
	text_add(t, ",");
	add_duration(t, "compute_infer", ok, atomic_load(&n->infer_ns));
	text_add(t, ",");
	add_duration(t, "compute_output", ok, atomic_load(&n->output_ns));
	text_add(t, ",");
	add_duration(t, "cache_hit", 0, 0);
	text_add(t, ",");
	add_duration(t, "cache_miss", 0, 0);
	text_add(t, "},\"batch_stats\":[]}");
}

void
v2_stats(struct request *req)
{
	struct text t;

	text_init(&t, 16 * 1024);
	text_add(&t, "{\"model_stats\":[");
	add_stats(&t, req->loop->svc, req->op_index);
	text_add(&t, "]}");
	reply(req, &t);
}

void
v2_all_stats(struct request *req)
{
	struct text t;
	uint32_t k;

	text_init(&t, 256 * 1024);
	text_add(&t, "{\"model_stats\":[");
	for (k = 0; k < op_count(); k++) {
		text_add(&t, k > 0 ? "," : "");
		add_stats(&t, req->loop->svc, k);
	}
	text_add(&t, "]}");
	reply(req, &t);
}

void
v2_index(struct request *req)
{
	struct text t;
	uint32_t k;

	text_init(&t, 64 * 1024);
	text_add(&t, "[");
	for (k = 0; k < op_count(); k++)
		text_addf(&t, "%s{\"name\":\"%s\",\"version\":\"1\",\"state\":\"%s\",\"reason\":\"\"}",
			  k > 0 ? "," : "", op_get(k)->name, service_ready(req->loop->svc) ? "READY" : "UNAVAILABLE");
	text_add(&t, "]");
	reply(req, &t);
}

void
v2_load(struct request *req)
{
	err_set(&req->err, ERR_NOT_IMPLEMENTED,
		"failed to load '%s': operators are always loaded and cannot be loaded or unloaded", req->op->name);
	request_reply_error(req);
}
