/* v1.c: see v1.h. Everything told here is read from the tables and the devices, nothing is written twice. */
#include "front/v1.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "front/bench.h"
#include "front/jobs.h"
#include "front/problem.h"
#include "front/request.h"
#include "front/routes.h"

static const char json[] = "application/json";

#define C(commit) commit
#define S(path, sum)
static const char aiter_commit[] =
#include "worker/aiter_sums.def"
	;
#undef S
#undef C

void
v1_index(struct request *req)
{
	const struct route *r;
	struct text t;

	text_init(&t, 64 * 1024);
	text_addf(&t, "aiterd %s: AITER's operators over HTTP\n\n", PACKAGE_VERSION);
	for (r = routes; r->path != NULL; r++)
		if (r->summary != NULL)
			text_addf(&t, "%-10s %-28s %s\n", r->methods, r->path, r->summary);
	text_add(&t, "\nGET /v1/ops/flash_attn_func shows a curl line to try.\n");
	request_reply_text(req, 200, "text/plain; charset=utf-8", &t);
}

void
v1_problem(struct request *req)
{
	struct text t;

	text_init(&t, 16 * 1024);
	if (problem_page(&t, req->op_name) == -1) {
		text_fini(&t);
		err_set(&req->err, ERR_NOT_FOUND, "there is no problem type '%s'", req->op_name);
		request_reply_error(req);
		return;
	}
	request_reply_text(req, 200, "text/plain; charset=utf-8", &t);
}

static void
add_impls(struct text *t, uint32_t mask)
{
	const char *sep = "";
	int i;

	text_add(t, "[");
	for (i = 0; i < IMPL_COUNT; i++) {
		if ((mask & (1u << i)) == 0)
			continue;
		text_addf(t, "%s\"%s\"", sep, impl_name((enum impl)i));
		sep = ",";
	}
	text_add(t, "]");
}

static void
add_device(struct text *t, struct service *svc, unsigned i)
{
	struct device_state d;
	uint32_t k;

	supervisor_device(svc->sup, i, &d);
	text_addf(t, "{\"index\":%u,\"id\":\"%s\",\"state\":\"%s\",\"kind\":\"%s\",\"name\":", i, d.id,
		  worker_state_name(d.state), d.info.kind);
	text_json(t, d.info.name);
	text_add(t, ",\"arch\":");
	text_json(t, d.info.arch);
	text_add(t, ",\"runtime\":");
	text_json(t, d.info.runtime);
	text_add(t, ",\"driver\":");
	text_json(t, d.info.driver);
	text_addf(t, ",\"compute_units\":%u,\"clock_mhz\":%u", d.info.compute_units, d.info.clock_mhz);
	text_addf(t, ",\"cache_bytes\":%llu", (unsigned long long)d.info.cache_bytes);
	text_addf(t, ",\"memory\":{\"total\":%llu,\"free\":%llu,\"allocated\":%llu,\"peak\":%llu}",
		  (unsigned long long)d.info.memory_total, (unsigned long long)d.info.memory_free,
		  (unsigned long long)d.allocated, (unsigned long long)d.peak);
	text_addf(t, ",\"pid\":%d,\"restarts\":%u,\"jobs_finished\":%llu,\"busy_ms\":%llu", d.pid, d.restarts,
		  (unsigned long long)d.finished, (unsigned long long)(d.busy_ns / 1000000));
	if (d.info.timing_meaningless)
		text_add(t, ",\"timing_meaningless\":true");
	if (d.info.aiter[0] != '\0') {
		text_add(t, ",\"aiter\":");
		text_json(t, d.info.aiter);
	}
	if (d.obituary.code != ERR_NONE) {
		text_add(t, ",\"last_death\":");
		text_json(t, d.obituary.msg);
	}
	text_add(t, ",\"ops\":{");
	for (k = 0; k < op_count(); k++) {
		text_addf(t, "%s\"%s\":", k > 0 ? "," : "", op_get(k)->name);
		add_impls(t, d.info.impls[k]);
	}
	text_add(t, "}}");
}

/* A device has something to say about AITER's code objects, if only what is wrong with them. */
static bool
aiter_in_use(struct service *svc)
{
	unsigned n = supervisor_devices(svc->sup);
	struct device_state d;

	for (unsigned i = 0; i < n; i++) {
		supervisor_device(svc->sup, i, &d);
		if (d.info.aiter[0] != '\0')
			return true;
	}
	return false;
}

void
v1_info(struct request *req)
{
	struct service *svc = req->loop->svc;
	struct store_stats kept;
	struct arena_stats a;
	unsigned i, n = supervisor_devices(svc->sup);
	struct text t;

	arena_pool_stats(svc->pool, &a);
	text_init(&t, 256 * 1024);
	text_addf(&t, "{\"server\":{\"name\":\"aiterd\",\"version\":\"%s\",\"build\":", PACKAGE_VERSION);
	text_json(&t, msg_build());
	text_addf(
		&t,
		",\"pid\":%d,\"uptime_s\":%llu,\"loops\":%d,\"connections\":%u,\"requests\":%u,\"ready\":%s,\"draining\":%s}",
		(int)getpid(), (unsigned long long)((clock_ns() - svc->started_ns) / 1000000000u), svc->n_loops,
		atomic_load(&svc->connections), atomic_load(&svc->requests), service_ready(svc) ? "true" : "false",
		atomic_load(&svc->draining) ? "true" : "false");
	text_add(&t, ",\"aiter\":");
	if (aiter_in_use(svc)) {
		text_add(&t, "{\"dir\":");
		text_json(&t, svc->aiter_dir);
		text_addf(&t, ",\"commit\":\"%s\"}", aiter_commit);
	} else {
		text_add(&t, "null");
	}
	text_add(&t, ",\"devices\":[");
	for (i = 0; i < n; i++) {
		text_add(&t, i > 0 ? "," : "");
		add_device(&t, svc, i);
	}
	text_addf(&t, "],\"arena\":{\"limit\":%llu,\"reserved\":%llu,\"borrowed\":%llu,\"quarantined\":%llu}",
		  (unsigned long long)a.limit, (unsigned long long)a.reserved, (unsigned long long)a.borrowed,
		  (unsigned long long)a.quarantined);
	store_stats(svc->store, &kept);
	text_addf(&t, ",\"tensors\":{\"count\":%llu,\"bytes\":%llu,\"in_use_bytes\":%llu,\"quota_bytes\":%llu",
		  (unsigned long long)kept.names, (unsigned long long)kept.bytes, (unsigned long long)kept.in_use,
		  (unsigned long long)kept.quota);
	text_addf(&t, ",\"evicted\":%llu,\"expired\":%llu}}", (unsigned long long)kept.evicted,
		  (unsigned long long)kept.expired);
	request_reply_text(req, 200, json, &t);
}

void
v1_limits(struct request *req)
{
	const struct options *o = req->loop->svc->opt;
	struct store_stats kept;
	struct arena_stats a;
	struct jobs_stats jobs;
	struct text t;

	arena_pool_stats(req->loop->svc->pool, &a);
	text_init(&t, 16 * 1024);
	text_addf(&t, "{\"max_body_bytes\":%llu,\"max_json_bytes\":%llu,\"max_json_depth\":%lld,\"max_expansion\":%lld",
		  (unsigned long long)o->max_body, (unsigned long long)o->max_json, (long long)o->max_json_depth,
		  (long long)o->max_expansion);
	text_addf(&t, ",\"max_head_bytes\":%llu,\"max_head_fields\":%lld,\"max_target_bytes\":%llu",
		  (unsigned long long)o->max_head, (long long)o->max_head_fields, (unsigned long long)o->max_target);
	text_addf(
		&t,
		",\"max_iters\":%lld,\"max_cases\":%lld,\"max_requests\":%lld,\"max_connections\":%lld,\"arena_bytes\":%llu",
		(long long)o->max_iters, (long long)o->max_cases, (long long)o->queue, (long long)o->connections,
		(unsigned long long)a.limit);
	jobs_stats(req->loop->svc->jobs, &jobs);
	text_addf(&t, ",\"max_jobs\":%u,\"jobs_quota_bytes\":%llu,\"jobs_ttl_ms\":", jobs.max,
		  (unsigned long long)jobs.quota);
	text_number(&t, o->jobs_ttl * 1e3);
	text_add(&t, ",\"timeout_ms\":");
	text_number(&t, o->timeout * 1e3);
	text_add(&t, ",\"head_timeout_ms\":");
	text_number(&t, o->head_timeout * 1e3);
	text_add(&t, ",\"idle_timeout_ms\":");
	text_number(&t, o->idle_timeout * 1e3);
	text_addf(&t, ",\"min_body_bytes_per_s\":%llu", (unsigned long long)o->min_body_rate);
	store_stats(req->loop->svc->store, &kept);
	text_addf(&t, ",\"tensors_quota_bytes\":%llu,\"max_tensor_names\":%d,\"tensors_ttl_s\":",
		  (unsigned long long)kept.quota, STORE_NAMES_MAX);
	text_number(&t, o->tensors_ttl);
	text_add(&t, "}");
	request_reply_text(req, 200, json, &t);
}

/* The union of what the devices can do. */
static uint32_t
impls_anywhere(struct service *svc, uint32_t op)
{
	struct device_state d;
	unsigned i, n = supervisor_devices(svc->sup);
	uint32_t mask = 0;

	for (i = 0; i < n; i++) {
		supervisor_device(svc->sup, i, &d);
		mask |= d.info.impls[op];
	}
	return mask;
}

void
v1_ops(struct request *req)
{
	struct text t;
	uint32_t k;

	text_init(&t, 256 * 1024);
	text_add(&t, "{\"ops\":[");
	for (k = 0; k < op_count(); k++) {
		text_addf(&t, "%s{\"name\":\"%s\",\"summary\":", k > 0 ? "," : "", op_get(k)->name);
		text_json(&t, op_get(k)->summary);
		text_add(&t, ",\"impls\":");
		add_impls(&t, impls_anywhere(req->loop->svc, k));
		text_addf(&t, ",\"href\":\"/v1/ops/%s\"}", op_get(k)->name);
	}
	text_add(&t, "]}");
	request_reply_text(req, 200, json, &t);
}

/* "fp32|fp16|bf16" or "B Sq Hq D" as a JSON list; "=q" stays as it is. */
static void
add_words(struct text *t, const char *words, char split)
{
	const char *p = words, *stop;

	text_add(t, "[");
	while (*p != '\0') {
		stop = strchr(p, split);
		text_jsonn(t, p, stop != NULL ? (size_t)(stop - p) : strlen(p));
		p = stop != NULL ? stop + 1 : p + strlen(p);
		if (*p != '\0')
			text_add(t, ",");
	}
	text_add(t, "]");
}

static void
add_tensors(struct text *t, const struct op *op, enum op_role role)
{
	const struct op_tensor *x;
	const char *sep = "";

	for (x = op->tensors; x->name != NULL; x++) {
		if (x->role != role)
			continue;
		text_addf(t, "%s{\"name\":\"%s\",\"dtypes\":", sep, x->name);
		add_words(t, x->dtypes, '|');
		text_add(t, ",\"shape\":");
		add_words(t, x->shape, ' ');
		text_addf(t, ",\"optional\":%s,\"help\":", x->optional ? "true" : "false");
		text_json(t, x->help);
		if (x->asked != NULL)
			text_addf(t, ",\"asked_by\":\"%s\"", x->asked);
		text_add(t, "}");
		sep = ",";
	}
}

static const char *
type_name(enum op_type type)
{
	switch (type) {
	case OP_BOOL:
		return "bool";
	case OP_INT:
		return "int";
	case OP_FLOAT:
		return "float";
	case OP_ENUM:
		return "string";
	case OP_INTS:
		return "int list";
	}
	return "";
}

/* Run options have limits that the server's own options set: svc; an operator's parameters: NULL. */
static void
add_params(struct text *t, const struct op_param *table, const struct service *svc)
{
	const struct op_param *p;
	const char *sep = "";

	text_add(t, "[");
	for (p = table; p->name != NULL; p++) {
		text_addf(t, "%s{\"name\":\"%s\",\"type\":\"%s\",\"default\":", sep, p->name, type_name(p->type));
		text_json(t, p->fallback);
		if (p->min != 0 || p->max != 0) {
			text_add(t, ",\"min\":");
			text_number(t, p->min);
			text_add(t, ",\"max\":");
			text_number(t, svc != NULL ? run_option_max(svc, (int)(p - table)) : p->max);
		}
		if (p->choices != NULL) {
			text_add(t, ",\"choices\":");
			add_words(t, p->choices, '|');
		}
		if (p->aliases != NULL) {
			text_add(t, ",\"aliases\":");
			add_words(t, p->aliases, '|');
		}
		text_addf(t, ",\"required\":%s,\"help\":", p->required ? "true" : "false");
		text_json(t, p->help);
		text_add(t, "}");
		sep = ",";
	}
	text_add(t, "]");
}

/* Lengths by which inputs are made that nobody brings. */
static void
add_sizes(struct text *t, const struct op *op)
{
	text_add(t, "[");
	for (int i = 0; i < op_size_count(op); i++) {
		const struct op_size *s = &op->sizes[i];

		text_addf(t, "%s{\"name\":\"%s\",\"default\":", i > 0 ? "," : "", s->name);
		if (s->like != NULL)
			text_addf(t, "null,\"like\":\"%s\"", s->like);
		else
			text_addf(t, "%lld,\"like\":null", (long long)s->fallback);
		text_add(t, ",\"aliases\":");
		add_words(t, s->aliases, '|');
		text_add(t, ",\"help\":");
		text_json(t, s->help);
		text_add(t, "}");
	}
	text_add(t, "]");
}

/* The example with this server's address in it. */
static void
add_example(struct text *t, const char *example, const char *address)
{
	struct text line;
	const char *at;

	text_init(&line, 16 * 1024);
	for (; (at = strstr(example, "@HOST@")) != NULL; example = at + 6) {
		text_addn(&line, example, (size_t)(at - example));
		text_add(&line, address);
	}
	text_add(&line, example);
	text_json(t, line.p);
	text_fini(&line);
}

void
v1_op(struct request *req)
{
	const struct op *op = req->op;
	const struct op_tolerance *tol;
	struct service *svc = req->loop->svc;
	struct device_state d;
	unsigned i, n = supervisor_devices(svc->sup);
	struct text t;

	text_init(&t, 256 * 1024);
	text_addf(&t, "{\"name\":\"%s\",\"summary\":", op->name);
	text_json(&t, op->summary);
	text_add(&t, ",\"help\":");
	text_json(&t, op->help);
	text_add(&t, ",\"inputs\":[");
	add_tensors(&t, op, OP_IN);
	text_add(&t, "],\"outputs\":[");
	add_tensors(&t, op, OP_OUT);
	text_add(&t, "],\"params\":");
	add_params(&t, op->params, NULL);
	text_add(&t, ",\"run_options\":");
	add_params(&t, run_option_table(), svc);
	text_add(&t, ",\"check_options\":");
	add_params(&t, request_check_options, NULL);
	text_add(&t, ",\"tolerance_source\":");
	text_json(&t, op->tolerance_source);
	text_add(&t, ",\"bench_options\":");
	add_params(&t, bench_options, NULL);
	text_add(&t, ",\"sizes\":");
	add_sizes(&t, op);
	text_add(&t, ",\"tolerance\":{");
	for (tol = op->tolerances; tol->dtype != DT_NONE; tol++) {
		text_addf(&t, "%s\"%s\":{\"atol\":", tol != op->tolerances ? "," : "", dtype_info(tol->dtype)->name);
		text_number(&t, tol->atol);
		text_add(&t, ",\"rtol\":");
		text_number(&t, tol->rtol);
		text_add(&t, "}");
	}
	text_add(&t, "},\"impls\":{");
	for (i = 0; i < n; i++) {
		supervisor_device(svc->sup, i, &d);
		text_addf(&t, "%s\"%s\":", i > 0 ? "," : "", d.id);
		add_impls(&t, d.info.impls[req->op_index]);
	}
	text_add(&t, "},\"example\":");
	add_example(&t, op->example, svc->address);
	text_add(&t, "}");
	request_reply_text(req, 200, json, &t);
}
