/*
 * call.c: requests to operators: put together, sent as one safetensors body (the header made here, the tensors' data from
 * wherever they lie), answered by a reply, or by lines as they come. A call owns its names and texts, not the data.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "lib.h"

#define SAFETENSORS "application/x-safetensors"

enum aiterd_status
aiterd_call_new(struct aiterd *s, const char *op, struct aiterd_call **call)
{
	struct aiterd_call *c = calloc(1, sizeof(*c));

	*call = NULL;
	if (!c || !(c->op = strdup(op))) {
		free(c);
		return lib_no_memory(s);
	}
	c->server = s;
	*call = c;
	return AITERD_OK;
}

static void
free_params(struct lib_param *params, int n)
{
	for (int i = 0; i < n; i++) {
		free(params[i].name);
		free(params[i].json);
	}
	free(params);
}

void
aiterd_call_free(struct aiterd_call *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->n_tensors; i++)
		free((char *)(uintptr_t)c->tensors[i].name);
	free(c->tensors);
	free_params(c->params, c->n_params);
	free_params(c->sources, c->n_sources);
	free(c->op);
	free(c);
}

static bool
has_input(const struct aiterd_call *c, const char *name)
{
	for (int i = 0; i < c->n_tensors; i++)
		if (strcmp(c->tensors[i].name, name) == 0)
			return true;
	for (int i = 0; i < c->n_sources; i++)
		if (strcmp(c->sources[i].name, name) == 0)
			return true;
	return false;
}

enum aiterd_status
aiterd_call_tensor(struct aiterd_call *c, const struct aiterd_tensor *t)
{
	struct aiterd_tensor *grown;
	struct tensor described;
	struct err e;
	char *name;

	if (!t->name || !*t->name)
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "an input has no name");
	if (!lib_tensor(t, &described, &e))
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "%s", e.msg);
	if (has_input(c, t->name))
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "the input '%s' is given twice", t->name);
	name = strdup(t->name);
	grown = name ? realloc(c->tensors, ((size_t)c->n_tensors + 1) * sizeof(*grown)) : NULL;
	if (!grown) {
		free(name);
		return lib_no_memory(c->server);
	}
	c->tensors = grown;
	grown[c->n_tensors] = *t;
	grown[c->n_tensors++].name = name;
	return AITERD_OK;
}

/* Takes `json`, which may be NULL: then there was no memory for it. */
static enum aiterd_status
set(struct aiterd_call *c, struct lib_param **list, int *n, const char *name, char *json)
{
	struct lib_param *grown;
	char *copy;

	if (!json)
		return lib_no_memory(c->server);
	for (int i = 0; i < *n; i++)
		if (strcmp((*list)[i].name, name) == 0) {
			free((*list)[i].json);
			(*list)[i].json = json;
			return AITERD_OK;
		}
	copy = strdup(name);
	grown = copy ? realloc(*list, ((size_t)*n + 1) * sizeof(*grown)) : NULL;
	if (!grown) {
		free(copy);
		free(json);
		return lib_no_memory(c->server);
	}
	*list = grown;
	grown[(*n)++] = (struct lib_param){copy, json};
	return AITERD_OK;
}

/* A value as JSON text; numbers as they were written. */
static char *
json_text(const cJSON *item)
{
	return cJSON_IsNumber(item) && item->valuestring ? strdup(item->valuestring) : cJSON_PrintUnformatted(item);
}

enum aiterd_status
aiterd_call_source(struct aiterd_call *c, const char *name, const char *json)
{
	struct err e = {.code = ERR_NONE};
	cJSON *tree = json_parse(json, strlen(json), LIB_JSON_DEPTH, &e);
	bool good = cJSON_IsObject(tree);

	cJSON_Delete(tree);
	if (!good)
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "the source of '%s' is no JSON object%s%s", name,
				e.code ? ": " : "", e.code ? e.msg : "");
	if (has_input(c, name))
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "the input '%s' is given twice", name);
	return set(c, &c->sources, &c->n_sources, name, strdup(json));
}

enum aiterd_status
aiterd_call_param(struct aiterd_call *c, const char *name, const char *value)
{
	struct text t;

	if (strncmp(name, "keep.", 5) == 0)
		c->keeps = true;
	text_init(&t, LIB_TEXT_MAX);
	text_json(&t, value);
	return set(c, &c->params, &c->n_params, name, text_take(&t));
}

enum aiterd_status
aiterd_call_params(struct aiterd_call *c, const char *json)
{
	struct err e = {.code = ERR_NONE};
	cJSON *tree = json_parse(json, strlen(json), LIB_JSON_DEPTH, &e);
	enum aiterd_status status = AITERD_OK;
	const cJSON *item;

	if (!cJSON_IsObject(tree)) {
		cJSON_Delete(tree);
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "the parameters are no JSON object%s%s",
				e.code ? ": " : "", e.code ? e.msg : "");
	}
	cJSON_ArrayForEach(item, tree)
	{
		if (status != AITERD_OK)
			break;
		if (strncmp(item->string, "keep.", 5) == 0)
			c->keeps = true;
		if (strcmp(item->string, "inputs") == 0 && !cJSON_IsString(item)) {
			const cJSON *source;

			cJSON_ArrayForEach(source, item)
			{
				if (status == AITERD_OK && source->string && !has_input(c, source->string))
					status = set(c, &c->sources, &c->n_sources, source->string, json_text(source));
			}
		} else if (strcmp(item->string, "inputs") == 0) {
			char *wrapped = NULL;

			/* the text of an object: read as if it stood here */
			if (asprintf(&wrapped, "{\"inputs\":%s}", item->valuestring) < 0)
				wrapped = NULL;
			if (!wrapped)
				status = lib_no_memory(c->server);
			else if (item->valuestring[strspn(item->valuestring, " \t\r\n")] != '{')
				status = lib_fail(c->server, AITERD_BAD_ARGUMENT,
						  "the parameter 'inputs' is no JSON object");
			else
				status = aiterd_call_params(c, wrapped);
			free(wrapped);
		} else {
			status = set(c, &c->params, &c->n_params, item->string, json_text(item));
		}
	}
	cJSON_Delete(tree);
	return status;
}

enum aiterd_status
aiterd_call_keep(struct aiterd_call *c, const char *output, const char *name)
{
	char *param = NULL;
	enum aiterd_status status;

	if (asprintf(&param, "keep.%s", output) < 0)
		return lib_no_memory(c->server);
	status = aiterd_call_param(c, param, name);
	free(param);
	return status;
}

/* ---- sending ---- */

/* {"params":"{...}"}: the parameters as the text of an object, sources among them. */
static void
add_metadata(struct text *meta, const struct aiterd_call *c)
{
	struct text params, sources;

	text_init(&params, LIB_TEXT_MAX);
	text_init(&sources, LIB_TEXT_MAX);
	text_add(&params, "{");
	for (int i = 0; i < c->n_params; i++) {
		text_add(&params, i ? "," : "");
		text_json(&params, c->params[i].name);
		text_addf(&params, ":%s", c->params[i].json);
	}
	if (c->n_sources) {
		text_add(&sources, "{");
		for (int i = 0; i < c->n_sources; i++) {
			text_add(&sources, i ? "," : "");
			text_json(&sources, c->sources[i].name);
			text_addf(&sources, ":%s", c->sources[i].json);
		}
		text_add(&sources, "}");
		text_add(&params, c->n_params ? ",\"inputs\":" : "\"inputs\":");
		text_json(&params, text_failed(&sources) ? "" : sources.p);
	}
	text_add(&params, "}");
	text_add(meta, "{\"params\":");
	text_json(meta, text_failed(&params) ? "" : params.p);
	text_add(meta, "}");
	if (text_failed(&params) || text_failed(&sources))
		text_fail(meta);
	text_fini(&sources);
	text_fini(&params);
}

struct sending {
	struct text head, meta;
	struct lib_piece *pieces;
	char *path;
};

static void
sending_fini(struct sending *m)
{
	text_fini(&m->head);
	text_fini(&m->meta);
	free(m->pieces);
	free(m->path);
}

static enum aiterd_status
sending_make(struct sending *m, const struct aiterd_call *c, const char *action, struct http_request *q)
{
	char *op = aiterd_escape(c->op);

	*m = (struct sending){.path = NULL};
	text_init(&m->head, LIB_TEXT_MAX);
	text_init(&m->meta, LIB_TEXT_MAX);
	m->pieces = calloc((size_t)c->n_tensors + 1, sizeof(*m->pieces));
	if (op && asprintf(&m->path, "/v1/ops/%s%s", op, action) < 0)
		m->path = NULL;
	free(op);
	add_metadata(&m->meta, c);
	if (!m->path || !m->pieces || text_failed(&m->meta) ||
	    lib_safetensors_head(&m->head, c->tensors, c->n_tensors, m->meta.p) < 0)
		return lib_no_memory(c->server);
	m->pieces[0] = (struct lib_piece){m->head.p, m->head.len};
	for (int i = 0; i < c->n_tensors; i++)
		m->pieces[i + 1] = (struct lib_piece){c->tensors[i].data, c->tensors[i].bytes};
	q->method = "POST";
	q->path = m->path;
	q->type = SAFETENSORS;
	q->pieces = m->pieces;
	q->n_pieces = c->n_tensors + 1;
	q->repeatable = !c->keeps;
	return AITERD_OK;
}

static enum aiterd_status
send_call(struct aiterd_call *c, const char *action, struct http_request *q, struct http_reply *r)
{
	struct sending m;
	enum aiterd_status status = sending_make(&m, c, action, q);

	if (status == AITERD_OK)
		status = http_do(c->server, q, r);
	sending_fini(&m);
	return status;
}

enum aiterd_status
aiterd_run(struct aiterd_call *c, struct aiterd_reply **reply)
{
	struct http_request q = {.accept = SAFETENSORS ", application/json;q=0.5"};
	struct http_reply r;
	enum aiterd_status status;

	*reply = NULL;
	status = send_call(c, "", &q, &r);
	return status == AITERD_OK ? lib_reply_new(c->server, &r, reply) : status;
}

enum aiterd_status
aiterd_check(struct aiterd_call *c, int whole, struct aiterd_reply **reply, int *pass)
{
	struct http_request q = {.accept = whole ? SAFETENSORS : "application/json"};
	struct http_reply r;
	enum aiterd_status status;
	const char *verdict;
	const cJSON *item;
	cJSON *tree;

	*reply = NULL;
	status = send_call(c, "/check", &q, &r);
	if (status == AITERD_OK)
		status = lib_reply_new(c->server, &r, reply);
	if (status != AITERD_OK)
		return status;
	verdict = aiterd_reply_json(*reply);
	tree = json_parse(verdict, strlen(verdict), LIB_JSON_DEPTH, NULL);
	item = cJSON_GetObjectItemCaseSensitive(tree, "pass");
	if (!cJSON_IsBool(item)) {
		aiterd_reply_free(*reply);
		*reply = NULL;
		status = lib_fail(c->server, AITERD_BAD_REPLY, "the server's reply holds no verdict");
	} else if (pass) {
		*pass = cJSON_IsTrue(item);
	}
	cJSON_Delete(tree);
	return status;
}

enum aiterd_status
aiterd_bench(struct aiterd_call *c, aiterd_line_f *line, void *user)
{
	struct http_request q = {.accept = "application/x-ndjson", .line = line, .user = user};
	struct http_reply r;
	enum aiterd_status status = send_call(c, "/bench", &q, &r);

	http_reply_fini(&r);
	return status;
}

enum aiterd_status
aiterd_submit(struct aiterd_call *c, const char *action, char **text)
{
	struct http_request q = {.prefer = "respond-async"};
	struct http_reply r;
	enum aiterd_status status;

	*text = NULL;
	if (strcmp(action, "run") != 0 && strcmp(action, "check") != 0 && strcmp(action, "bench") != 0)
		return lib_fail(c->server, AITERD_BAD_ARGUMENT, "a job runs, checks or benches, not '%s'", action);
	/* The result is fetched later; its form is asked for now. */
	q.accept = *action == 'r' ? SAFETENSORS : *action == 'c' ? "application/json" : "application/x-ndjson";
	status = send_call(c, *action == 'r' ? "" : *action == 'c' ? "/check" : "/bench", &q, &r);
	if (status != AITERD_OK)
		return status;
	if (r.status == 202) {
		*text = (char *)r.p;
		r.p = NULL;
	} else {
		status = lib_fail(c->server, AITERD_BAD_REPLY,
				  "the server answered at once (status %ld): it has no jobs", r.status);
	}
	http_reply_fini(&r);
	return status;
}
