/*
 * cmd_complete.c: aiterctl _complete WHAT [NAME]: words for the shells' completion, one a line. What only the server knows is
 * asked of it with little patience; without an answer there are no words and no message.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#define PATIENCE_MS 400

static struct cJSON *
ask(struct ctl *c, const char *path)
{
	struct cJSON *json = NULL;
	char *text;

	aiterd_set_timeouts(c->server, PATIENCE_MS, PATIENCE_MS);
	aiterd_set_retries(c->server, 0, 0);
	if (aiterd_get(c->server, path, &text) == AITERD_OK) {
		json = json_of(text);
		free(text);
	}
	return json;
}

/* Shells put words into command lines: only those pass that mean nothing else there. */
static void
word(const char *before, const char *w, const char *after)
{
	if (*w && w[strspn(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:+-")] == '\0')
		printf("%s%s%s\n", before, w, after);
}

static void
names(const struct cJSON *list, const char *before, const char *after)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list) word(before, json_str(item, "name", ""), after);
}

static void
words_of(struct ctl *c, const char *op, const char *command)
{
	char *escaped = aiterd_escape(op), *path = NULL;
	struct cJSON *json;

	if (escaped && asprintf(&path, "/v1/ops/%s", escaped) < 0)
		path = NULL;
	json = path ? ask(c, path) : NULL;
	names(json_at(json, "inputs"), "", "=");
	names(json_at(json, "params"), "", "=");
	names(json_at(json, "run_options"), "", "=");
	if (strcmp(command, "run") == 0)
		names(json_at(json, "outputs"), "keep.", "=");
	if (strcmp(command, "check") == 0) {
		names(json_at(json, "outputs"), "expected.", "=");
		names(json_at(json, "check_options"), "", "=");
	}
	if (strcmp(command, "bench") == 0) {
		const cJSON *size, *alias;

		names(json_at(json, "sizes"), "", "=");
		cJSON_ArrayForEach(size, json_at(json, "sizes")) cJSON_ArrayForEach(alias, json_at(size, "aliases"))
			word("", cJSON_IsString(alias) ? alias->valuestring : "", "=");
		names(json_at(json, "bench_options"), "", "=");
	}
	cJSON_Delete(json);
	free(path);
	free(escaped);
}

/* "causal" of flash_attn_func: true, false. */
static void
values_of(struct ctl *c, const char *op, const char *param)
{
	char *escaped = aiterd_escape(op), *path = NULL;
	const cJSON *item, *choice;
	struct cJSON *json;

	if (escaped && asprintf(&path, "/v1/ops/%s", escaped) < 0)
		path = NULL;
	json = path ? ask(c, path) : NULL;
	for (const char *const *list =
		     (const char *const[]){"params", "run_options", "check_options", "bench_options", NULL};
	     *list; list++)
		cJSON_ArrayForEach(item, json_at(json, *list))
		{
			if (strcmp(json_str(item, "name", ""), param) != 0)
				continue;
			if (strcmp(json_str(item, "type", ""), "bool") == 0)
				printf("true\nfalse\n");
			cJSON_ArrayForEach(choice, json_at(item, "choices")) if (cJSON_IsString(choice))
				word("", choice->valuestring, "");
		}
	cJSON_Delete(json);
	free(path);
	free(escaped);
}

int
cmd_complete(struct ctl *c)
{
	const char *what = c->o.n_args ? c->o.args[0] : "", *name = c->o.n_args > 1 ? c->o.args[1] : NULL;
	struct cJSON *json = NULL;

	if (strcmp(what, "commands") == 0) {
		args_list(stdout, NULL);
	} else if (strcmp(what, "options") == 0 && name) {
		args_list(stdout, name);
	} else if (strcmp(what, "ops") == 0) {
		json = ask(c, "/v1/ops");
		names(json_at(json, "ops"), "", "");
	} else if (strcmp(what, "tensors") == 0) {
		json = ask(c, "/v1/tensors");
		names(json_at(json, "tensors"), "", "");
	} else if (strcmp(what, "words") == 0 && name) {
		words_of(c, name, c->o.n_args > 2 ? c->o.args[2] : "run");
	} else if (strcmp(what, "values") == 0 && c->o.n_args > 2) {
		values_of(c, name, c->o.args[2]);
	}
	cJSON_Delete(json);
	return 0;
}
