/*
 * request_keep.c: inputs that the server has kept, and outputs that stay with it under a name, so that they can be the next
 * run's inputs: the run option keep.<output>=NAME. Those are made where they will stay (store.h) and named when the
 * device has succeeded. Owns one request's references to both.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/request.h"
#include "front/routes.h"

#define PREFIX "keep."

struct keeping {
	const char *names[OP_TENSORS_MAX]; /* borrowed from the intake; NULL: not to be kept */
	struct kept *kept[OP_TENSORS_MAX];
};

int
request_kept_find(void *cls, const char *input, const char *name, struct tensor *t, struct err *e)
{
	struct compute_request *run = cls;
	struct kept *k = store_find(run->store, run->owner, name, strlen(name));
	char shown[100];

	if (k == NULL) {
		text_clip(shown, sizeof(shown), name, strlen(name));
		return err_input(e, ERR_UNKNOWN_TENSOR, input, shown, "one that GET /v1/tensors lists",
				 "input %s: no tensor '%s' is kept here (any more); PUT /v1/tensors/NAME sends one, GET "
				 "/v1/tensors lists them",
				 input, shown);
	}
	if (run->n_kept == INTAKE_TENSORS_MAX) {
		store_unref(run->store, &k);
		return err_input(e, ERR_MALFORMED_BODY, input, "more", "fewer",
				 "the request names more than %d kept tensors", INTAKE_TENSORS_MAX);
	}
	run->inputs[run->n_kept++] = k;
	*t = *kept_tensor(k);
	return 0;
}

struct kept *
request_kept_of(const struct compute_request *run, const struct tensor *t)
{
	for (int i = 0; i < run->n_kept; i++)
		if (kept_tensor(run->inputs[i])->data == t->data)
			return run->inputs[i];
	return NULL;
}

void
request_kept_drop(struct compute_request *run)
{
	while (run->n_kept > 0)
		store_unref(run->store, &run->inputs[--run->n_kept]);
}

static int
no_such_output(const struct op *op, const char *name, const char *output, struct err *e)
{
	char outputs[160] = "", shown[80];
	size_t used = 0;

	for (int i = 0; i < op_tensor_count(op) && used < sizeof(outputs); i++)
		if (op->tensors[i].role == OP_OUT)
			used += (size_t)snprintf(outputs + used, sizeof(outputs) - used, "%s%s", used > 0 ? ", " : "",
						 op->tensors[i].name);
	text_clip(shown, sizeof(shown), output, strlen(output));
	return err_param(e, ERR_UNSUPPORTED_OUTPUT, name, shown, outputs, "%s has no output '%s' to keep; it has %s",
			 op->name, shown, outputs);
}

int
request_keep_param(struct request *req, const char *name, const char *value, struct err *e)
{
	const struct op *op = req->op;
	struct compute_request *run = req->run;
	const char *output = name + sizeof(PREFIX) - 1;
	int i;

	if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0 || req->route->start != request_run_start)
		return 0;
	i = op_tensor_find(op, output, strlen(output));
	if (i == -1 || op->tensors[i].role != OP_OUT)
		return no_such_output(op, name, output, e);
	if (store_name_check(value, strlen(value), e) == -1) {
		snprintf(e->param, sizeof(e->param), "%.47s", name);
		return -1;
	}
	if (run->keep == NULL && (run->keep = calloc(1, sizeof(*run->keep))) == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for a request");
	for (int k = 0; k < OP_TENSORS_MAX; k++)
		if (run->keep->names[k] != NULL && strcmp(run->keep->names[k], value) == 0)
			return err_param(e, ERR_CONFLICTING_PARAMETER, name, value, "another name",
					 "%s: the output %s is to be kept as '%.100s' already", name,
					 op->tensors[k].name, value);
	run->keep->names[i] = value;
	return 1;
}

int
request_keep_ask(struct request *req, struct err *e)
{
	struct op_call *c = &req->run->job.msg.call;

	for (int i = 0; req->run->keep != NULL && i < op_tensor_count(req->op); i++) {
		const char *asked = req->op->tensors[i].asked;
		int k;

		if (req->run->keep->names[i] == NULL || asked == NULL)
			continue;
		k = op_param_find(req->op, asked, strlen(asked));
		if (op_value_parse(&req->op->params[k], "true", 4, &c->params[k], e) == -1)
			return -1;
	}
	return 0;
}

bool
request_keep_would_grow(const struct request *req)
{
	const struct compute_request *run = req->run;

	for (int i = 0; run->keep != NULL && i < OP_TENSORS_MAX; i++)
		if (run->keep->names[i] != NULL &&
		    arena_would_grow(req->loop->svc->pool, run->job.msg.call.tensors[i].bytes))
			return true;
	return false;
}

int
request_keep_reserve(struct request *req, int i, struct err *e)
{
	struct compute_request *run = req->run;
	struct tensor *t = &run->job.msg.call.tensors[i];

	if (run->keep == NULL || run->keep->names[i] == NULL)
		return mem_tensor(&run->mem, t, e);
	run->keep->kept[i] = store_make(run->store, run->owner, t, e);
	if (run->keep->kept[i] == NULL)
		return -1;
	return 0;
}

void
request_kept_mark(struct request *req)
{
	struct compute_request *run = req->run;
	struct msg_job *m = &run->job.msg;

	memset(m->kept, 0, sizeof(m->kept));
	for (int i = 0; (run->n_kept > 0 || run->keep != NULL) && i < op_tensor_count(req->op); i++) {
		const struct tensor *t = &m->call.tensors[i];
		const struct kept *k = NULL;

		if (t->dtype != DT_NONE && req->op->tensors[i].role == OP_IN)
			k = request_kept_of(run, t);
		else if (t->dtype != DT_NONE && run->keep != NULL)
			k = run->keep->kept[i];
		/* A dry run's outputs lie nowhere; an action's own outputs are not those that are kept. */
		if (k != NULL && kept_tensor(k)->data == t->data)
			m->kept[i] = kept_uid(k);
	}
}

int
request_keep(struct request *req, struct err *e)
{
	struct keeping *keep = req->run->keep;
	struct text *t = &req->run->kept;

	text_init(t, 64 * 1024);
	for (int i = 0; i < OP_TENSORS_MAX; i++) {
		const char *name = keep->names[i];

		if (keep->kept[i] == NULL)
			continue;
		if (store_name_refused(store_name(req->run->store, &keep->kept[i], name, strlen(name), 0, NULL), name,
				       e) == -1)
			return -1;
		text_addf(t, "%s{\"output\":\"%s\",\"name\":\"%s\"}", t->len > 0 ? "," : "[", req->op->tensors[i].name,
			  name);
	}
	text_add(t, t->len > 0 ? "]" : "[]");
	return t->failed ? err_set(e, ERR_OUT_OF_MEMORY, "no memory to tell what is kept") : 0;
}

static void
unref_unless(struct store *store, struct kept **k, const void *const *keep, int n)
{
	const struct tensor *t = *k != NULL ? kept_tensor(*k) : NULL;

	for (int i = 0; i < n && t != NULL; i++)
		if ((const unsigned char *)keep[i] >= (const unsigned char *)t->data &&
		    (const unsigned char *)keep[i] < (const unsigned char *)t->data + t->bytes)
			return;
	store_unref(store, k);
}

void
request_kept_shed(struct compute_request *run, const void *const *keep, int n)
{
	int left = 0;

	for (int i = 0; i < run->n_kept; i++) {
		struct kept *k = run->inputs[i];

		unref_unless(run->store, &k, keep, n);
		if (k != NULL)
			run->inputs[left++] = k;
	}
	run->n_kept = left;
	for (int i = 0; run->keep != NULL && i < OP_TENSORS_MAX; i++)
		unref_unless(run->store, &run->keep->kept[i], keep, n);
}

void
request_keep_free(struct request *req)
{
	struct compute_request *run = req->run;
	struct keeping *keep = run->keep;

	request_kept_drop(run);
	if (keep == NULL)
		return;
	for (int i = 0; i < OP_TENSORS_MAX; i++)
		store_unref(run->store, &keep->kept[i]);
	free(keep);
	run->keep = NULL;
}
