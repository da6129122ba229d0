/*
 * cmd_jobs.c: aiterctl jobs: requests that were handed over to the server: listed, watched, fetched, cancelled.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl.h"

#define ASK_EVERY_MS 500

static void
add_row(struct table *t, const struct cJSON *job)
{
	char text[60];

	table_add(t, json_str(job, "id", "?"));
	table_add(t, json_str(job, "op", "?"));
	table_add(t, json_str(job, "action", "?"));
	table_add(t, json_str(job, "state", "?"));
	snprintf(text, sizeof(text), "%.0f of %.0f %s", json_num(job, "progress.done", 0),
		 json_num(job, "progress.of", 0), json_str(job, "progress.unit", ""));
	table_add(t, json_has(job, "progress") ? text : "-");
	snprintf(text, sizeof(text), "%.1f s", json_num(job, "elapsed_ms", 0) / 1000);
	table_add(t, text);
}

static void
show(const struct cJSON *json)
{
	const cJSON *job, *list = json_at(json, "jobs");
	struct table t;

	table_init(&t, 6, 0x1f);
	for (const char *const *h =
		     (const char *const[]){"job", "operator", "action", "state", "progress", "time", NULL};
	     *h; h++)
		table_add(&t, *h);
	if (cJSON_IsArray(list))
		cJSON_ArrayForEach(job, list) add_row(&t, job);
	else
		add_row(&t, json);
	table_print(&t, stdout, 0);
	table_free(&t);
	if (json_has(json, "error.detail")) {
		print_clean(stdout, json_str(json, "error.detail", ""));
		printf("\n");
	}
}

static char *
job_path(const char *id, const char *more)
{
	char *escaped = aiterd_escape(id), *path = NULL;

	if (escaped && asprintf(&path, "/v1/jobs/%s%s", escaped, more) < 0)
		path = NULL;
	free(escaped);
	return path;
}

/* Until it has ended; shows how far it is. */
static int
wait_for(struct ctl *c, const char *id)
{
	struct timespec pause = {0, ASK_EVERY_MS * 1000000L};
	char *path = job_path(id, ""), *text, line[160];
	int rc = path ? 0 : fail(c, AITERD_NO_MEMORY);
	bool ended = false;

	while (!rc && !ended) {
		enum aiterd_status status = aiterd_get(c->server, path, &text);
		const char *state;
		struct cJSON *json;

		if (status != AITERD_OK) {
			rc = fail(c, status);
			break;
		}
		json = json_of(text);
		state = json_str(json, "state", "?");
		ended = strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
		snprintf(line, sizeof(line), "%s %s: %.0f of %.0f %s", id, state, json_num(json, "progress.done", 0),
			 json_num(json, "progress.of", 0), json_str(json, "progress.unit", ""));
		progress_line(c, line);
		if (ended) {
			progress_clear();
			if (strcmp(state, "done") != 0) {
				const char *why = json_str(json, "error.detail", "");

				say(stderr, "aiterctl: job %s: %s%s%s", id, state, *why ? ": " : "", why);
				rc = strcmp(state, "failed") == 0
					     ? exit_of_http((int)json_num(json, "error.status", 500))
					     : EXIT_REFUSED;
			}
		} else {
			nanosleep(&pause, NULL);
		}
		cJSON_Delete(json);
		free(text);
	}
	free(path);
	return rc;
}

/* A sweep's result is lines, as they would have come. */
static int
give_lines(struct ctl *c, const char *text)
{
	struct sweep *s = sweep_new(c);
	char *copy = strdup(text), *line = copy;

	while (s && line && *line) {
		size_t n = strcspn(line, "\n");
		bool more = line[n] != '\0';

		line[n] = '\0';
		if (n && sweep_line(s, line, n))
			break;
		line += n + more;
	}
	free(copy);
	return s ? sweep_end(s, true) : EXIT_LOCAL;
}

static int
write_result(struct ctl *c, const struct aiterd_reply *r)
{
	const char *path = c->o.n_outputs ? c->o.outputs[0] : NULL;
	struct aiterd_tensor t;
	enum aiterd_status status;
	const void *bytes;
	size_t size, n;

	if (!path)
		return fail_usage("the result is %d tensors: -o FILE.safetensors (or .npy)", aiterd_reply_count(r));
	n = strlen(path);
	bytes = aiterd_reply_bytes(r, &size);
	if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0)
		status = aiterd_write_bytes(c->server, path, bytes, size);
	else if (aiterd_reply_count(r) == 1 && aiterd_reply_tensor(r, 0, &t) == AITERD_OK)
		status = aiterd_write_npy(c->server, path, &t);
	else
		return fail_usage("the result is %d tensors: -o FILE.safetensors", aiterd_reply_count(r));
	if (status == AITERD_OK)
		return 0;
	fail(c, status);
	return EXIT_LOCAL;
}

static int
result(struct ctl *c, const char *id)
{
	char *path = job_path(id, "/result");
	struct aiterd_reply *r = NULL;
	enum aiterd_status status = path ? aiterd_fetch(c->server, path, &r) : AITERD_NO_MEMORY;
	int rc = 0;

	free(path);
	if (status != AITERD_OK)
		return fail(c, status);
	progress_clear();
	if (strstr(aiterd_reply_type(r), "ndjson")) {
		size_t size;

		rc = give_lines(c, aiterd_reply_bytes(r, &size));
	} else if (*aiterd_reply_json(r) && !aiterd_reply_count(r)) {
		struct cJSON *json = json_of(aiterd_reply_json(r));

		if (c->o.json || !json_has(json, "pass"))
			print_json(aiterd_reply_json(r));
		else
			show_verdict(json);
		if (json_has(json, "pass") && !cJSON_IsTrue(json_at(json, "pass")))
			rc = EXIT_CHECK_FAILED;
		cJSON_Delete(json);
	} else {
		rc = write_result(c, r);
		if (!rc && !c->o.quiet) {
			struct cJSON *stats = json_of(aiterd_reply_stats(r));

			show_stats(strcmp(c->o.outputs[0], "-") == 0 ? stderr : stdout, stats);
			cJSON_Delete(stats);
		}
	}
	aiterd_reply_free(r);
	return rc;
}

static int
cancel(struct ctl *c, const char *id)
{
	char *path = job_path(id, ""), *text = NULL;
	enum aiterd_status status = path ? aiterd_delete(c->server, path, &text) : AITERD_NO_MEMORY;

	free(path);
	free(text);
	return status == AITERD_OK ? 0 : fail(c, status);
}

int
cmd_jobs(struct ctl *c)
{
	const char *what = c->o.n_args ? c->o.args[0] : "list", *id = c->o.n_args > 1 ? c->o.args[1] : NULL;
	char *path;
	int rc;

	if (strcmp(what, "list") == 0 && !id)
		return get_and_show(c, "/v1/jobs", show);
	if (!id || c->o.n_args > 2)
		return fail_usage("aiterctl jobs: list, or one of show, wait, get and cancel with one job's id");
	progress_on(c);
	if (strcmp(what, "show") == 0) {
		path = job_path(id, "");
		rc = path ? get_and_show(c, path, show) : fail(c, AITERD_NO_MEMORY);
		free(path);
		return rc;
	}
	if (strcmp(what, "wait") == 0)
		return wait_for(c, id);
	if (strcmp(what, "get") == 0) {
		rc = wait_for(c, id);
		return rc ? rc : result(c, id);
	}
	if (strcmp(what, "cancel") == 0)
		return cancel(c, id);
	return fail_usage("there is no 'aiterctl jobs %s'; there are list, show, wait, get and cancel", what);
}
