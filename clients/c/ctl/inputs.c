/*
 * inputs.c: the arguments of run, check and bench into a call: which NAME=VALUE is an input and which a parameter is told by
 * the server's catalogue, or by the value where it can be nothing else. Keeps the files open that the call sends from.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

#define KEEP_FROM ((uint64_t)64 << 10) /* smaller ones are sent sooner than asked for */
#define NAME_MAX_LENGTH 64

static bool
is_input(const struct cJSON *op, const char *name)
{
	const cJSON *in;

	cJSON_ArrayForEach(in, json_at(op, "inputs")) if (strcmp(json_str(in, "name", ""), name) == 0) return true;
	return strncmp(name, "expected.", 9) == 0;
}

bool
inputs_has_param(const struct ctl *c, const char *name)
{
	size_t n = strlen(name);

	for (int i = 0; i < c->o.n_args; i++)
		if (strncmp(c->o.args[i], name, n) == 0 && c->o.args[i][n] == '=')
			return true;
	return false;
}

static int
catalogue(struct ctl *c, struct inputs *in, const char *op)
{
	char *escaped = aiterd_escape(op), *path = NULL, *text = NULL;
	enum aiterd_status status;

	if (!escaped || asprintf(&path, "/v1/ops/%s", escaped) < 0) {
		free(escaped);
		return fail(c, AITERD_NO_MEMORY);
	}
	status = aiterd_get(c->server, path, &text);
	free(path);
	free(escaped);
	if (status != AITERD_OK)
		return fail(c, status);
	in->op = json_of(text);
	free(text);
	return 0;
}

static int
add_tensor(struct ctl *c, struct inputs *in, struct aiterd_tensor *t)
{
	enum aiterd_status status;
	int sent = 0;

	if (c->o.keep && t->bytes >= KEEP_FROM && strncmp(t->name, "expected.", 9) != 0) {
		status = aiterd_call_kept(in->call, t, &sent);
		in->kept_sent += sent;
		in->kept_had += status == AITERD_OK && !sent;
		if (status == AITERD_FAILED && aiterd_problem(c->server)->status == 507)
			status = aiterd_call_tensor(in->call, t); /* no room to keep it: sent as ever */
	} else {
		status = aiterd_call_tensor(in->call, t);
	}
	return status == AITERD_OK ? 0 : fail(c, status);
}

/* "file.safetensors#name" where there is no file of the whole name. */
static int
open_file(struct ctl *c, struct inputs *in, const char *path, const char **member)
{
	const char *hash = strrchr(path, '#');
	enum aiterd_status status;
	char *shorter = NULL;

	*member = NULL;
	if (in->n_files == FILES_MAX)
		return fail_usage("more than %d files", FILES_MAX);
	if (hash && hash[1] && strcmp(path, "-") != 0 && access(path, F_OK) != 0) {
		shorter = strndup(path, (size_t)(hash - path));
		*member = hash + 1;
	}
	status = aiterd_file_open(c->server, shorter ? shorter : path, &in->files[in->n_files]);
	free(shorter);
	if (status != AITERD_OK)
		return fail(c, status);
	in->n_files++;
	return 0;
}

static int
add_file(struct ctl *c, struct inputs *in, const char *name, const char *path)
{
	struct aiterd_file *f;
	struct aiterd_tensor t;
	const char *member;
	int rc = open_file(c, in, path, &member);

	if (rc)
		return rc;
	f = in->files[in->n_files - 1];
	if (member) {
		if (aiterd_file_find(f, member, &t) != AITERD_OK)
			return fail_usage("%s: there is no tensor '%s' in it", path, member);
	} else if (aiterd_file_find(f, name, &t) != AITERD_OK &&
		   (aiterd_file_count(f) != 1 || aiterd_file_tensor(f, 0, &t) != AITERD_OK)) {
		return fail_usage("%s holds %d tensors and none is called '%s'; name one: %s=%s#TENSOR", path,
				  aiterd_file_count(f), name, name, path);
	}
	t.name = name;
	return add_tensor(c, in, &t);
}

static int
add_input(struct ctl *c, struct inputs *in, const char *name, const char *value)
{
	struct source s;
	char why[300];
	int rc;

	if (source_parse(value, &s, why, sizeof(why)) < 0)
		return fail_usage("%s=%s", name, why);
	if (s.kind == SOURCE_FILE) {
		rc = add_file(c, in, name, s.text);
	} else {
		enum aiterd_status status = aiterd_call_source(in->call, name, s.text);

		rc = status == AITERD_OK ? 0 : fail(c, status);
	}
	free(s.text);
	return rc;
}

/* All of a safetensors file: its tensors by name, its parameters. */
static int
add_whole(struct ctl *c, struct inputs *in, struct aiterd_file *f)
{
	const char *params = aiterd_file_metadata(f, "params");
	struct aiterd_tensor t;

	if (params) {
		enum aiterd_status status = aiterd_call_params(in->call, params);

		if (status != AITERD_OK)
			return fail(c, status);
	}
	for (int i = 0; aiterd_file_tensor(f, i, &t) == AITERD_OK; i++) {
		int rc = *t.name ? add_tensor(c, in, &t) : fail_usage("a .npy file is given as NAME=FILE");

		if (rc)
			return rc;
	}
	return 0;
}

static int
add_argument(struct ctl *c, struct inputs *in, const char *arg)
{
	const char *eq = strchr(arg, '='), *slash = strchr(arg, '/');
	char name[NAME_MAX_LENGTH];

	if (!eq || eq == arg || (slash && slash < eq)) {
		const char *member;
		int rc = open_file(c, in, arg, &member);

		if (!rc && member)
			rc = fail_usage("%s: say which input it is: NAME=%s", arg, arg);
		return rc ? rc : add_whole(c, in, in->files[in->n_files - 1]);
	}
	if ((size_t)(eq - arg) >= sizeof(name))
		return fail_usage("the name before '=' is too long: %s", arg);
	memcpy(name, arg, (size_t)(eq - arg));
	name[eq - arg] = '\0';
	if (is_input(in->op, name) || source_is_plain(eq + 1))
		return add_input(c, in, name, eq + 1);
	return aiterd_call_param(in->call, name, eq + 1) == AITERD_OK ? 0 : fail(c, AITERD_NO_MEMORY);
}

static int
make(struct ctl *c, struct inputs *in, const char *op, char **args, int n)
{
	enum aiterd_status status;
	int rc = 0;

	*in = (struct inputs){.call = NULL};
	if (!op) { /* a case file tells itself */
		const char *member;

		rc = open_file(c, in, args[0], &member);
		if (rc)
			return rc;
		op = aiterd_file_metadata(in->files[0], "op");
		if (!op)
			return fail_usage(
				"%s does not tell its operator (__metadata__.op); give it: aiterctl check OPERATOR %s",
				args[0], args[0]);
	}
	rc = catalogue(c, in, op);
	if (rc)
		return rc;
	status = aiterd_call_new(c->server, op, &in->call);
	if (status != AITERD_OK)
		return fail(c, status);
	if (in->n_files) {
		rc = add_whole(c, in, in->files[0]);
		args++;
		n--;
	}
	progress_on(c);
	for (int i = 0; i < n && !rc; i++)
		rc = add_argument(c, in, args[i]);
	if (!rc && in->kept_sent + in->kept_had && !c->o.quiet && c->tty_err) {
		progress_clear();
		fprintf(stderr, "kept inputs: %d sent, %d already there\n", in->kept_sent, in->kept_had);
	}
	return rc;
}

static void
release(struct inputs *in)
{
	aiterd_call_free(in->call);
	for (int i = 0; i < in->n_files; i++)
		aiterd_file_close(in->files[i]);
	cJSON_Delete(in->op);
}

int
inputs_with(struct ctl *c, const char *op, char **args, int n, inputs_f *act)
{
	struct inputs in;
	int rc = make(c, &in, op, args, n);

	if (!rc)
		rc = act(c, &in);
	if (in.lost) {
		release(&in);
		c->o.keep = false;
		rc = make(c, &in, op, args, n);
		if (!rc)
			rc = act(c, &in);
	}
	release(&in);
	return rc;
}

bool
inputs_lost(const struct ctl *c, struct inputs *in, enum aiterd_status status)
{
	in->lost = status == AITERD_REFUSED && c->o.keep && in->kept_sent + in->kept_had > 0 &&
		   strcmp(aiterd_problem(c->server)->type, "/problems/unknown-tensor") == 0;
	return in->lost;
}

int
inputs_submit(struct ctl *c, struct inputs *in, const char *action)
{
	enum aiterd_status status;
	struct cJSON *json;
	char *text;

	status = aiterd_submit(in->call, action, &text);
	if (status != AITERD_OK)
		return inputs_lost(c, in, status) ? 0 : fail(c, status);
	json = json_of(text);
	if (c->o.json)
		print_json(text);
	else
		say(stdout, "%s", json_str(json, "id", "?"));
	cJSON_Delete(json);
	free(text);
	return 0;
}
