/* routes.c: the table of paths; see routes.h. api/openapi.yaml has the same list, and a test compares the two. */
#include "front/routes.h"

#include <string.h>
#include <strings.h>

#include "front/bench.h"
#include "front/request.h"
#include "front/tensors.h"
#include "front/v1.h"
#include "front/v2.h"

#define GET "GET, HEAD"
#define POST "POST"
#define PUT "PUT"
#define DELETE "DELETE"
#define TENSOR_METHODS "GET, HEAD, PUT, DELETE"
#define JOB_METHODS "GET, HEAD, DELETE"

const struct route routes[] = {
	{GET, "/", .answer = v1_index, .summary = "This list"},
	{GET, "/v1/info", .answer = v1_info, .summary = "Versions, devices, memory, what each device can run"},
	{GET, "/v1/limits", .answer = v1_limits, .summary = "Every limit in force"},
	{GET, "/v1/ops", .answer = v1_ops, .summary = "The operators"},
	{GET, "/v1/ops/{op}", .answer = v1_op,
	 .summary = "One operator: inputs, outputs, parameters, tolerances, an example"},
	{POST, "/v1/ops/{op}", .fills = true, .start = request_run_start, .action = "run", .summary = "Run it"},
	{POST, "/v1/ops/{op}/check", .start = request_check_start, .judges = true, .action = "check",
	 .options = request_check_options,
	 .summary = "Judge your result (expected.out) against the kernel and a float64 reference"},
	{POST, "/v1/ops/{op}/bench", .start = request_bench_start, .fills = true, .streams = true, .action = "bench",
	 .options = bench_options, .summary = "Time it, over one case or a sweep: a line of JSON as each case finishes"},
	{GET, "/v1/jobs", .answer = v1_jobs, .summary = "Jobs: what was sent with Prefer: respond-async"},
	{GET, "/v1/jobs/{id}", .allow = JOB_METHODS, .answer = v1_job, .summary = "A job's state and progress"},
	{DELETE, "/v1/jobs/{id}", .allow = JOB_METHODS, .answer = v1_job_delete,
	 .summary = "Cancel it, forget its result"},
	{GET, "/v1/jobs/{id}/result", .answer = v1_job_result, .summary = "The reply, as if one had waited"},
	{GET, "/v1/tensors", .answer = tensors_list, .summary = "The tensors kept here, and their quota"},
	{GET, "/v1/tensors/{name}", .allow = TENSOR_METHODS, .answer = tensors_get, .options = tensors_get_options,
	 .summary = "A kept tensor, by name or id"},
	{PUT, "/v1/tensors/{name}", .allow = TENSOR_METHODS, .open = tensors_put_open, .fills = true,
	 .start = tensors_put_start, .options = tensors_put_options,
	 .summary = "Keep a tensor, to be inputs of many requests"},
	{DELETE, "/v1/tensors/{name}", .allow = TENSOR_METHODS, .answer = tensors_delete, .summary = "Forget it"},
	{GET, "/problems/{slug}", .answer = v1_problem, .summary = "What a problem type means"},
	{GET, "/v2", .oip = true, .answer = v2_server, .summary = "Open Inference Protocol: server metadata"},
	{GET, "/v2/health/live", .oip = true, .answer = v2_live,
	 .summary = "Open Inference Protocol: the server answers"},
	{GET, "/v2/health/ready", .oip = true, .answer = v2_ready,
	 .summary = "Open Inference Protocol: the server takes work"},
	{GET, "/v2/models/stats", .oip = true, .answer = v2_all_stats,
	 .summary = "Open Inference Protocol: statistics of all operators"},
	{GET, "/v2/models/{op}", .oip = true, .answer = v2_model,
	 .summary = "Open Inference Protocol: an operator's metadata"},
	{GET, "/v2/models/{op}/ready", .oip = true, .answer = v2_model_ready,
	 .summary = "Open Inference Protocol: the operator can run"},
	{GET, "/v2/models/{op}/config", .oip = true, .answer = v2_config,
	 .summary = "Open Inference Protocol: model configuration"},
	{GET, "/v2/models/{op}/stats", .oip = true, .answer = v2_stats,
	 .summary = "Open Inference Protocol: its statistics"},
	{POST, "/v2/models/{op}/infer", .oip = true, .fills = true, .start = request_run_start,
	 .summary = "Open Inference Protocol: run it"},
	{GET, "/v2/models/{op}/versions/{version}", .oip = true, .answer = v2_model},
	{GET, "/v2/models/{op}/versions/{version}/ready", .oip = true, .answer = v2_model_ready},
	{GET, "/v2/models/{op}/versions/{version}/config", .oip = true, .answer = v2_config},
	{GET, "/v2/models/{op}/versions/{version}/stats", .oip = true, .answer = v2_stats},
	{POST, "/v2/models/{op}/versions/{version}/infer", .oip = true, .fills = true, .start = request_run_start},
	{POST, "/v2/repository/index", .oip = true, .answer = v2_index,
	 .summary = "Open Inference Protocol: the list of operators"},
	{POST, "/v2/repository/models/{op}/load", .oip = true, .answer = v2_load},
	{POST, "/v2/repository/models/{op}/unload", .oip = true, .answer = v2_load},
	{.path = NULL},
};

struct segment {
	char text[sizeof(((struct request *)NULL)->op_name)];
	size_t len;
};

static int
hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Percent-decode one segment; what does not fit cannot be a name of ours. */
static void
decode(const char *p, size_t n, struct segment *s)
{
	size_t i;
	int hi, lo;

	s->len = 0;
	for (i = 0; i < n && s->len < sizeof(s->text) - 1; i++) {
		if (p[i] == '%' && i + 2 < n && (hi = hex(p[i + 1])) >= 0 && (lo = hex(p[i + 2])) >= 0 && hi + lo > 0) {
			s->text[s->len++] = (char)(hi * 16 + lo);
			i += 2;
		} else {
			s->text[s->len++] = p[i];
		}
	}
	s->text[s->len] = '\0';
}

/* Does the path fit the pattern? The first {name} is taken into `first`, the second into `second`. */
static bool
fits(const char *pattern, const char *path, size_t len, struct segment *first, struct segment *second)
{
	const char *end = path + len, *stop;
	struct segment *take = first, one;
	size_t n;

	while (*pattern != '\0') {
		if (path == end || *path != '/' || *pattern != '/')
			return false;
		path++;
		pattern++;
		stop = memchr(path, '/', (size_t)(end - path));
		n = (size_t)((stop != NULL ? stop : end) - path);
		if (*pattern == '{') {
			if (n == 0)
				return false;
			decode(path, n, take);
			take = second;
			pattern = strchr(pattern, '}') + 1;
		} else {
			decode(path, n, &one);
			/* An encoded slash is a name's, not the path's. */
			if (memchr(one.text, '/', one.len) != NULL || strncmp(pattern, one.text, one.len) != 0 ||
			    (pattern[one.len] != '/' && pattern[one.len] != '\0'))
				return false;
			pattern += one.len;
		}
		path += n;
	}
	return path == end;
}

static bool
allows(const char *methods, const char *method)
{
	size_t n = strlen(method);
	const char *p = strstr(methods, method);

	return n > 0 && p != NULL && (p[n] == ',' || p[n] == '\0') && (p == methods || p[-1] == ' ');
}

static int
unknown_operator(const struct segment *name, struct err *e)
{
	const char *names[MSG_OPS_MAX], *near;
	uint32_t i;

	for (i = 0; i < op_count() && i < MSG_OPS_MAX; i++)
		names[i] = op_get(i)->name;
	/* What people write for these two is further away than a slip of the finger. */
	near = strncasecmp(name->text, "flash", 5) == 0
		       ? (strstr(name->text, "varlen") != NULL ? "flash_attn_varlen_func" : "flash_attn_func")
		       : op_nearest(name->text, name->len, names, i);
	if (near == NULL)
		return err_param(e, ERR_UNKNOWN_OPERATOR, "op", name->text, "a name from GET /v1/ops",
				 "there is no operator '%s'; GET /v1/ops lists them", name->text);
	return err_param(e, ERR_UNKNOWN_OPERATOR, "op", name->text, near,
			 "there is no operator '%s'; did you mean %s? GET /v1/ops lists them", name->text, near);
}

static int
find_op(struct request *req, const struct segment *name, const struct segment *version, struct err *e)
{
	memcpy(req->op_name, name->text, name->len + 1);
	if (strstr(req->route->path, "{op}") == NULL)
		return 0;
	req->op = op_find(name->text, name->len, &req->op_index);
	if (req->op == NULL && req->oip)
		return err_set(e, ERR_UNKNOWN_OPERATOR, "Request for unknown model: '%s' is not found", name->text);
	if (req->op == NULL)
		return unknown_operator(name, e);
	if (version->len > 0 && strcmp(version->text, "1") != 0)
		return err_set(e, ERR_UNKNOWN_OPERATOR,
			       "Request for unknown model: '%s' version %s is not found; there is version 1",
			       name->text, version->text);
	return 0;
}

int
routes_find(struct request *req, const char *method, const char *target, struct err *e)
{
	struct segment first = {.len = 0}, second = {.len = 0};
	const struct route *r;
	const char *slash;
	size_t len;

	/* absolute-form: http://host/path */
	if (target[0] != '/' && (slash = strstr(target, "://")) != NULL) {
		slash = strchr(slash + 3, '/');
		target = slash != NULL ? slash : "/";
	}
	len = strcspn(target, "?");
	req->oip = strncmp(target, "/v2", 3) == 0 && (target[3] == '/' || target[3] == '?' || target[3] == '\0');
	if (len > 1 && target[len - 1] == '/') /* clients differ about "/v2/" */
		len--;
	for (r = routes; r->path != NULL; r++) {
		if (r->path[1] == '\0' ? len != 1 || target[0] != '/' : !fits(r->path, target, len, &first, &second))
			continue;
		if (allows(r->methods, method)) {
			req->route = r;
			req->reply.allow = NULL;
			return find_op(req, &first, &second, e);
		}
		if (r->allow != NULL)
			req->reply.allow = r->allow;
		else if (req->reply.allow != NULL && strcmp(req->reply.allow, r->methods) != 0)
			req->reply.allow = "GET, HEAD, POST";
		else
			req->reply.allow = r->methods;
	}
	if (req->reply.allow != NULL)
		return err_param(e, ERR_METHOD_NOT_ALLOWED, "method", method, req->reply.allow, "%.*s takes %s, not %s",
				 (int)len, target, req->reply.allow, method);
	return err_set(e, ERR_NOT_FOUND, "nothing is served at %.200s; GET / lists what is", target);
}
