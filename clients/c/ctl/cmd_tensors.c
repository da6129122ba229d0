/*
 * cmd_tensors.c: aiterctl tensors: what the server keeps between requests: listed, put, fetched, removed.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static const char *
show_seconds(const struct cJSON *item, const char *name, char *buf, size_t size)
{
	double s = json_num(item, name, -1);

	if (s < 0)
		snprintf(buf, size, "-");
	else if (s < 120)
		snprintf(buf, size, "%.0f s", s);
	else
		snprintf(buf, size, "%.0f min", s / 60);
	return buf;
}

static void
show_list(const struct cJSON *json)
{
	const cJSON *item;
	char text[110], bytes[24];
	struct table t;

	table_init(&t, 6, 0x27);
	for (const char *const *h = (const char *const[]){"name", "dtype", "shape", "size", "expires in", "id", NULL};
	     *h; h++)
		table_add(&t, *h);
	cJSON_ArrayForEach(item, json_at(json, "tensors"))
	{
		table_add(&t, json_str(item, "name", "?"));
		table_add(&t, json_str(item, "dtype", "?"));
		table_add(&t, show_shape(json_at(item, "shape"), text, sizeof(text)));
		table_add(&t, show_bytes(json_num(item, "bytes", -1), bytes, sizeof(bytes)));
		table_add(&t, show_seconds(item, "expires_in_s", text, sizeof(text)));
		snprintf(text, sizeof(text), "%.19s", json_str(item, "id", "-"));
		table_add(&t, text);
	}
	table_print(&t, stdout, 0);
	table_free(&t);
	printf("%.0f tensors, %s", json_num(json, "count", 0),
	       show_bytes(json_num(json, "bytes", -1), bytes, sizeof(bytes)));
	printf(" of %s\n", show_bytes(json_num(json, "quota_bytes", -1), bytes, sizeof(bytes)));
}

static int
put_file(struct ctl *c, const char *name, const char *path, char **text)
{
	const char *hash = strrchr(path, '#');
	struct aiterd_file *f = NULL;
	enum aiterd_status status;
	struct aiterd_tensor t;
	char *shorter = NULL;
	int rc = 0;

	status = aiterd_file_open(c->server, path, &f);
	if (status != AITERD_OK && hash && hash[1]) {
		shorter = strndup(path, (size_t)(hash - path));
		status = shorter ? aiterd_file_open(c->server, shorter, &f) : AITERD_NO_MEMORY;
	}
	free(shorter);
	if (status != AITERD_OK)
		return fail(c, status);
	if (aiterd_file_find(f, hash ? hash + 1 : name, &t) != AITERD_OK && aiterd_file_find(f, name, &t) != AITERD_OK &&
	    (aiterd_file_count(f) != 1 || aiterd_file_tensor(f, 0, &t) != AITERD_OK)) {
		rc = fail_usage("%s holds %d tensors; name one of them: %s=%s#TENSOR", path, aiterd_file_count(f), name,
				path);
	} else {
		status = aiterd_tensor_put(c->server, name, &t, c->o.ttl_s, text);
		rc = status == AITERD_OK ? 0 : fail(c, status);
	}
	aiterd_file_close(f);
	return rc;
}

static int
put(struct ctl *c, const char *arg)
{
	const char *eq = strchr(arg, '=');
	char name[130], why[300], *text = NULL, size[24];
	struct cJSON *json;
	struct source s;
	int rc;

	if (!eq || eq == arg || (size_t)(eq - arg) >= sizeof(name))
		return fail_usage("'%s': put wants NAME=SOURCE, as in w1=w1.npy or w1=normal:4096x4096:bf16", arg);
	memcpy(name, arg, (size_t)(eq - arg));
	name[eq - arg] = '\0';
	if (source_parse(eq + 1, &s, why, sizeof(why)) < 0)
		return fail_usage("%s=%s", name, why);
	if (s.kind == SOURCE_FILE) {
		rc = put_file(c, name, s.text, &text);
	} else {
		enum aiterd_status status = aiterd_tensor_put_source(c->server, name, s.text, c->o.ttl_s, &text);

		rc = status == AITERD_OK ? 0 : fail(c, status);
	}
	free(s.text);
	progress_clear();
	if (rc)
		return rc;
	json = json_of(text);
	if (c->o.json) {
		print_json(text);
	} else if (!c->o.quiet) {
		print_clean(stdout, json_str(json, "name", name));
		printf("  %s  ", show_bytes(json_num(json, "bytes", -1), size, sizeof(size)));
		print_clean(stdout, json_str(json, "id", ""));
		printf("\n");
	}
	cJSON_Delete(json);
	free(text);
	return 0;
}

static int
get(struct ctl *c)
{
	const char *name = c->o.n_args > 1 ? c->o.args[1] : "", *path = c->o.n_outputs ? c->o.outputs[0] : NULL;
	struct aiterd_reply *r;
	enum aiterd_status status;
	struct aiterd_tensor t;
	char *made = NULL;
	size_t n;

	if (c->o.n_args != 2 || c->o.n_outputs > 1)
		return fail_usage("get wants one name or id, and one -o FILE at most");
	if (path && strcmp(path, "-") == 0 && c->tty_out)
		return fail_usage(
			"the tensor is binary and standard output is a terminal: -o FILE, or send it to a program");
	if (!path && asprintf(&made, "%s.npy", name) < 0)
		return fail(c, AITERD_NO_MEMORY);
	path = path ? path : made;
	if (made && strchr(made, '/')) {
		free(made);
		return fail_usage("give -o FILE");
	}
	status = aiterd_tensor_get(c->server, name, &r);
	progress_clear();
	if (status != AITERD_OK) {
		free(made);
		return fail(c, status);
	}
	aiterd_reply_tensor(r, 0, &t);
	t.name = name;
	n = strlen(path);
	if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0)
		status = aiterd_write_safetensors(c->server, path, &t, 1, NULL);
	else
		status = aiterd_write_npy(c->server, path, &t);
	aiterd_reply_free(r);
	if (status != AITERD_OK)
		fail(c, status);
	else if (made && !c->o.quiet)
		printf("%s\n", made);
	free(made);
	return status == AITERD_OK ? 0 : EXIT_LOCAL;
}

int
cmd_tensors(struct ctl *c)
{
	const char *what = c->o.n_args ? c->o.args[0] : "list";
	int rc = 0;

	progress_on(c);
	if (strcmp(what, "list") == 0 || strcmp(what, "ls") == 0)
		return c->o.n_args > 1 ? fail_usage("list takes no argument")
				       : get_and_show(c, "/v1/tensors", show_list);
	if (strcmp(what, "get") == 0)
		return get(c);
	if (c->o.n_args < 2 && (strcmp(what, "put") == 0 || strcmp(what, "rm") == 0))
		return fail_usage(what[0] == 'p'
					  ? "tensors put wants NAME=SOURCE, as in w1=weight.npy or w1=ones:4096:fp16"
					  : "tensors rm wants at least one name; aiterctl tensors lists them");
	for (int i = 1; i < c->o.n_args && !rc; i++) {
		if (strcmp(what, "put") == 0) {
			rc = put(c, c->o.args[i]);
		} else if (strcmp(what, "rm") == 0) {
			enum aiterd_status status = aiterd_tensor_delete(c->server, c->o.args[i]);

			rc = status == AITERD_OK ? 0 : fail(c, status);
		} else {
			break;
		}
	}
	if (strcmp(what, "put") != 0 && strcmp(what, "rm") != 0)
		return fail_usage("there is no 'aiterctl tensors %s'; there are list, put, get and rm", what);
	return rc;
}
