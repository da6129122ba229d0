/*
 * cmd_info.c: aiterctl info and aiterctl ops: what the server is, and what it can run.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static void
show_devices(const struct cJSON *info)
{
	const cJSON *device;
	char text[64], free_text[24], total[24];
	struct table t;

	table_init(&t, 6, 0x0f);
	for (const char *const *h =
		     (const char *const[]){"device", "state", "what", "arch", "memory free", "jobs", NULL};
	     *h; h++)
		table_add(&t, *h);
	cJSON_ArrayForEach(device, json_at(info, "devices"))
	{
		table_add(&t, json_str(device, "id", "?"));
		table_add(&t, json_str(device, "state", "?"));
		table_add(&t, json_str(device, "name", "?"));
		table_add(&t, json_str(device, "arch", "?"));
		snprintf(text, sizeof(text), "%s of %s", show_bytes(json_num(device, "memory.free", -1), free_text, 24),
			 show_bytes(json_num(device, "memory.total", -1), total, 24));
		table_add(&t, text);
		snprintf(text, sizeof(text), "%.0f", json_num(device, "jobs_finished", 0));
		table_add(&t, text);
	}
	table_print(&t, stdout, 0);
	table_free(&t);
}

/* What each device has of each operator: "flash_attn_func  cpu:0: own, naive, reference". */
static void
show_impls(const struct cJSON *info)
{
	const cJSON *device, *op, *impl;

	cJSON_ArrayForEach(device, json_at(info, "devices"))
	{
		printf("\n");
		print_clean(stdout, json_str(device, "id", "?"));
		printf(" runs\n");
		cJSON_ArrayForEach(op, json_at(device, "ops"))
		{
			printf("  ");
			print_clean(stdout, op->string);
			printf(":");
			cJSON_ArrayForEach(impl, op)
			{
				printf(" ");
				print_clean(stdout, cJSON_IsString(impl) ? impl->valuestring : "?");
			}
			printf("\n");
		}
		if (json_has(device, "aiter")) {
			printf("  AITER's kernels: ");
			print_clean(stdout, json_str(device, "aiter", ""));
			printf("\n");
		}
	}
}

static int
get_json(struct ctl *c, const char *path, char **text, struct cJSON **json)
{
	enum aiterd_status status = aiterd_get(c->server, path, text);

	*json = NULL;
	if (status != AITERD_OK)
		return fail(c, status);
	*json = json_of(*text);
	if (*json)
		return 0;
	free(*text);
	fprintf(stderr, "aiterctl: the server's answer to %s is no JSON\n", path);
	return EXIT_SERVER;
}

int
cmd_info(struct ctl *c)
{
	struct cJSON *info;
	char *text;
	int rc;

	if (c->o.n_args)
		return fail_usage("aiterctl info takes no argument");
	rc = get_json(c, "/v1/info", &text, &info);
	if (rc)
		return rc;
	if (c->o.json) {
		print_json(text);
	} else {
		say(stdout, "%s %s at %s, up %.0f s, %.0f requests under way%s", json_str(info, "server.name", "?"),
		    json_str(info, "server.version", "?"), aiterd_url(c->server), json_num(info, "server.uptime_s", 0),
		    json_num(info, "server.requests", 0),
		    cJSON_IsTrue(json_at(info, "server.draining")) ? ", shutting down" : "");
		if (json_has(info, "aiter.commit"))
			say(stdout, "AITER's kernels of commit %s", json_str(info, "aiter.commit", "?"));
		else
			printf("without AITER's own kernels\n");
		printf("\n");
		show_devices(info);
		show_impls(info);
	}
	cJSON_Delete(info);
	free(text);
	return 0;
}

static void
show_tensors(const struct cJSON *list, const char *title)
{
	const cJSON *item, *dtype;
	char shape[100], dtypes[120];
	struct table t;

	printf("\n%s\n", title);
	table_init(&t, 4, 0x0f);
	cJSON_ArrayForEach(item, list)
	{
		size_t n = 0;

		dtypes[0] = '\0';
		cJSON_ArrayForEach(dtype, json_at(item, "dtypes")) if (cJSON_IsString(dtype) && n < sizeof(dtypes))
			n += (size_t)snprintf(dtypes + n, sizeof(dtypes) - n, "%s%s", n ? " " : "", dtype->valuestring);
		table_add(&t, json_str(item, "name", "?"));
		table_add(&t, show_shape(json_at(item, "shape"), shape, sizeof(shape)));
		table_add(&t, *dtypes == '=' ? "" : dtypes);
		table_add(&t, json_str(item, "help", ""));
	}
	table_print(&t, stdout, 2);
	table_free(&t);
}

static void
show_params(const struct cJSON *list, const char *title)
{
	const cJSON *item;
	char value[120];
	struct table t;

	printf("\n%s\n", title);
	table_init(&t, 4, 0x0f);
	cJSON_ArrayForEach(item, list)
	{
		table_add(&t, json_str(item, "name", "?"));
		table_add(&t, json_str(item, "type", "?"));
		snprintf(value, sizeof(value), "%s%s", json_has(item, "default") ? "= " : "",
			 json_str(item, "default", ""));
		table_add(&t, value);
		table_add(&t, json_str(item, "help", ""));
	}
	table_print(&t, stdout, 2);
	table_free(&t);
}

/* Lengths that bench makes inputs from: "batch  = 2  ...". */
static void
show_sizes(const struct cJSON *list)
{
	const cJSON *item, *alias;
	char names[120], value[60];
	struct table t;

	printf("\nlengths for bench\n");
	table_init(&t, 3, 7);
	cJSON_ArrayForEach(item, list)
	{
		size_t n = (size_t)snprintf(names, sizeof(names), "%s", json_str(item, "name", "?"));

		cJSON_ArrayForEach(alias, json_at(item, "aliases"))
		{
			if (cJSON_IsString(alias) && n < sizeof(names))
				n += (size_t)snprintf(names + n, sizeof(names) - n, ", %s", alias->valuestring);
		}
		table_add(&t, names);
		if (json_has(item, "default"))
			snprintf(value, sizeof(value), "= %.0f", json_num(item, "default", 0));
		else
			snprintf(value, sizeof(value), "= %s", json_str(item, "like", ""));
		table_add(&t, value);
		table_add(&t, json_str(item, "help", ""));
	}
	table_print(&t, stdout, 2);
	table_free(&t);
}

static void
show_op(const struct cJSON *op)
{
	const cJSON *tolerance;

	print_clean(stdout, json_str(op, "name", "?"));
	printf(": ");
	print_clean(stdout, json_str(op, "summary", ""));
	printf("\n");
	if (*json_str(op, "help", "")) {
		print_clean(stdout, json_str(op, "help", ""));
		printf("\n");
	}
	show_tensors(json_at(op, "inputs"), "inputs");
	show_tensors(json_at(op, "outputs"), "outputs");
	show_params(json_at(op, "params"), "parameters");
	show_params(json_at(op, "run_options"), "run options");
	if (json_has(op, "check_options"))
		show_params(json_at(op, "check_options"), "options of a check");
	if (json_has(op, "sizes"))
		show_sizes(json_at(op, "sizes"));
	if (json_has(op, "bench_options"))
		show_params(json_at(op, "bench_options"), "options of bench");
	printf("\ntolerance of a check: |yours - float64| <= atol + rtol * |float64|\n");
	cJSON_ArrayForEach(tolerance, json_at(op, "tolerance"))
	{
		say(stdout, "  %-6s atol %g, rtol %g", tolerance->string ? tolerance->string : "?",
		    json_num(tolerance, "atol", 0), json_num(tolerance, "rtol", 0));
	}
	if (json_has(op, "tolerance_source")) {
		printf("  ");
		print_clean(stdout, json_str(op, "tolerance_source", ""));
		printf("\n");
	}
}

static void
show_ops(const struct cJSON *ops)
{
	const cJSON *op;
	struct table t;

	table_init(&t, 2, 3);
	cJSON_ArrayForEach(op, json_at(ops, "ops"))
	{
		table_add(&t, json_str(op, "name", "?"));
		table_add(&t, json_str(op, "summary", ""));
	}
	table_print(&t, stdout, 0);
	table_free(&t);
}

int
cmd_ops(struct ctl *c)
{
	char *escaped, *path = NULL, *text;
	struct cJSON *json;
	int rc;

	if (c->o.n_args > 1)
		return fail_usage("aiterctl ops takes one operator at most");
	escaped = aiterd_escape(c->o.n_args ? c->o.args[0] : "");
	if (!escaped || asprintf(&path, "/v1/ops%s%s", *escaped ? "/" : "", escaped) < 0) {
		free(escaped);
		return fail(c, AITERD_NO_MEMORY);
	}
	rc = get_json(c, path, &text, &json);
	free(path);
	free(escaped);
	if (rc)
		return rc;
	if (c->o.json)
		print_json(text);
	else if (c->o.n_args)
		show_op(json);
	else
		show_ops(json);
	cJSON_Delete(json);
	free(text);
	return 0;
}
