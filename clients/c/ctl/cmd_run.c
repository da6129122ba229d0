/*
 * cmd_run.c: aiterctl run: an operator with inputs from files, from the server, or made there; outputs into files, or their
 * digests onto the screen.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

static void
show_rates(FILE *to, const struct cJSON *stats)
{
	char a[32];

	if (json_num(stats, "rates.tflops", 0) > 0)
		fprintf(to, ", %s TFLOP/s", show_number(json_num(stats, "rates.tflops", 0), a, sizeof(a)));
	if (json_num(stats, "rates.gb_per_s", 0) > 0)
		fprintf(to, ", %s GB/s", show_number(json_num(stats, "rates.gb_per_s", 0), a, sizeof(a)));
}

void
show_stats(FILE *to, const struct cJSON *stats)
{
	char a[32], b[32];
	const cJSON *hint;
	double iters = json_num(stats, "kernel_ms.iters", 0);

	if (!cJSON_IsObject(stats))
		return;
	fprintf(to, "kernel    %s ms", show_number(json_num(stats, "kernel_ms.median", 0), a, sizeof(a)));
	if (iters > 1)
		fprintf(to, " (median of %.0f, %s to %s)", iters,
			show_number(json_num(stats, "kernel_ms.min", 0), a, 32),
			show_number(json_num(stats, "kernel_ms.max", 0), b, 32));
	show_rates(to, stats);
	fprintf(to, ", by ");
	print_clean(to, json_str(stats, "impl", "?"));
	fprintf(to, " on ");
	print_clean(to, json_str(stats, "device.id", json_str(stats, "device", "?")));
	if (cJSON_IsTrue(json_at(stats, "device.timing_meaningless")))
		fprintf(to, " (its times mean nothing)");
	fprintf(to, "\n");
	if (json_has(stats, "baseline")) {
		fprintf(to, "baseline  %s ms, by ",
			show_number(json_num(stats, "baseline.kernel_ms.median", 0), a, sizeof(a)));
		print_clean(to, json_str(stats, "baseline.impl", "?"));
		fprintf(to, ": speed-up %sx, largest difference %s\n",
			show_number(json_num(stats, "baseline.speedup", NAN), a, sizeof(a)),
			show_number(json_num(stats, "baseline.max_abs_diff", NAN), b, sizeof(b)));
	}
	if (json_has(stats, "memory"))
		fprintf(to, "memory    %s at most, %s of it for the kernel beside inputs and outputs\n",
			show_bytes(json_num(stats, "memory.peak", -1), a, sizeof(a)),
			show_bytes(json_num(stats, "memory.overhead", -1), b, sizeof(b)));
	cJSON_ArrayForEach(hint, json_at(stats, "hints"))
	{
		fprintf(to, "hint      ");
		print_clean(to, cJSON_IsString(hint) ? hint->valuestring : "");
		fprintf(to, "\n");
	}
	cJSON_ArrayForEach(hint, json_at(stats, "kept"))
	{
		fprintf(to, "kept      ");
		print_clean(to, json_str(hint, "output", "?"));
		fprintf(to, " as @");
		print_clean(to, json_str(hint, "name", "?"));
		fprintf(to, "\n");
	}
}

/* What came as JSON: digests, or a dry run. */
static void
show_json_reply(const struct cJSON *json)
{
	const cJSON *out;
	char shape[100], n[4][32];
	struct table t;

	table_init(&t, 5, 0x1f);
	cJSON_ArrayForEach(out, json_at(json, "outputs"))
	{
		char line[200] = "";

		table_add(&t, out->string);
		table_add(&t, json_str(out, "dtype", "?"));
		table_add(&t, show_shape(json_at(out, "shape"), shape, sizeof(shape)));
		if (json_has(out, "digest"))
			snprintf(line, sizeof(line), "min %s  mean %s  max %s  NaN %s",
				 show_number(json_num(out, "digest.min", NAN), n[0], 32),
				 show_number(json_num(out, "digest.mean", NAN), n[1], 32),
				 show_number(json_num(out, "digest.max", NAN), n[2], 32),
				 json_show(json_at(out, "digest.nan"), n[3], 32));
		table_add(&t, line);
		snprintf(line, sizeof(line), "%s%.16s", json_has(out, "digest") ? "sha256 " : "",
			 json_str(out, "digest.sha256", ""));
		table_add(&t, line);
	}
	table_print(&t, stdout, 0);
	table_free(&t);
	if (cJSON_IsTrue(json_at(json, "dry_run"))) {
		printf("would run  ");
		print_clean(stdout, json_str(json, "impl", "?"));
		printf(" on ");
		print_clean(stdout, json_str(json, "device", "?"));
		if (json_has(json, "why_not_aiter")) {
			printf("\nnot AITER  ");
			print_clean(stdout, json_str(json, "why_not_aiter", ""));
		}
		printf("\nwork       %s FLOP, %s moved\n", show_number(json_num(json, "flop", 0), n[0], 32),
		       show_bytes(json_num(json, "bytes_moved", 0), n[1], 32));
	}
	show_stats(stdout, json_at(json, "stats"));
}

static bool
ends(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static enum aiterd_status
write_all_outputs(struct ctl *c, const struct aiterd_reply *r, const char *path)
{
	int n = aiterd_reply_count(r);
	struct aiterd_tensor *tensors = calloc((size_t)n + 1, sizeof(*tensors));
	enum aiterd_status status;
	struct text meta;

	if (!tensors)
		return AITERD_NO_MEMORY;
	for (int i = 0; i < n; i++) {
		aiterd_reply_tensor(r, i, &tensors[i]);
		if (!*tensors[i].name)
			tensors[i].name = "out";
	}
	text_init(&meta, (size_t)64 << 20);
	text_add(&meta, "{\"stats\":");
	text_json(&meta, aiterd_reply_stats(r));
	text_add(&meta, "}");
	status = aiterd_write_safetensors(c->server, path, tensors, n, text_failed(&meta) ? NULL : meta.p);
	text_fini(&meta);
	free(tensors);
	return status;
}

/* -o FILE, or -o NAME=FILE where the operator has an output of that name. */
static int
write_output(struct ctl *c, const struct aiterd_reply *r, const char *spec)
{
	const char *eq = strchr(spec, '='), *path = spec;
	enum aiterd_status status = AITERD_BAD_ARGUMENT;
	struct aiterd_tensor t;
	char name[64];

	if (eq && eq > spec && (size_t)(eq - spec) < sizeof(name)) {
		memcpy(name, spec, (size_t)(eq - spec));
		name[eq - spec] = '\0';
		status = aiterd_reply_find(r, name, &t);
		if (status == AITERD_OK)
			path = eq + 1;
	}
	if (status != AITERD_OK && !ends(path, ".safetensors")) {
		if (aiterd_reply_count(r) != 1)
			return fail_usage(
				"the reply has %d outputs: -o NAME=FILE for each, or a .safetensors file for all of them",
				aiterd_reply_count(r));
		status = aiterd_reply_tensor(r, 0, &t);
	}
	if (status == AITERD_OK && !ends(path, ".safetensors"))
		status = aiterd_write_npy(c->server, path, &t);
	else if (status == AITERD_OK && path != spec)
		status = aiterd_write_safetensors(c->server, path, &t, 1, NULL);
	else
		status = write_all_outputs(c, r, path);
	if (status == AITERD_OK)
		return 0;
	fail(c, status);
	return EXIT_LOCAL;
}

/* What was written, as JSON or for people. */
static void
tell(const struct ctl *c, const struct aiterd_reply *r, FILE *to)
{
	const char *stats = aiterd_reply_stats(r);
	struct cJSON *json = json_of(stats);
	struct aiterd_tensor t;
	struct table table;
	char shape[100];

	if (c->o.json)
		fprintf(to, "{\"outputs\":{");
	table_init(&table, 3, 7);
	for (int i = 0; aiterd_reply_tensor(r, i, &t) == AITERD_OK; i++) {
		size_t n = 0;

		shape[0] = '\0';
		for (int k = 0; k < t.rank && n < sizeof(shape); k++)
			n += (size_t)snprintf(shape + n, sizeof(shape) - n, "%s%lld", k ? ", " : "",
					      (long long)t.shape[k]);
		if (c->o.json) {
			struct text name;

			text_init(&name, 4096);
			text_json(&name, *t.name ? t.name : "out");
			fprintf(to, "%s%s:{\"dtype\":\"%s\",\"shape\":[%s],\"bytes\":%llu}", i ? "," : "",
				text_failed(&name) ? "\"?\"" : name.p, aiterd_dtype_name(t.dtype), shape,
				(unsigned long long)t.bytes);
			text_fini(&name);
		} else {
			char in_brackets[110];

			snprintf(in_brackets, sizeof(in_brackets), "[%s]", shape);
			table_add(&table, *t.name ? t.name : "out");
			table_add(&table, aiterd_dtype_name(t.dtype));
			table_add(&table, in_brackets);
		}
	}
	if (c->o.json) {
		fprintf(to, "},\"stats\":");
		print_bytes(to, json ? stats : "null", json ? strlen(stats) : 4);
		fprintf(to, "}\n");
	} else if (!c->o.quiet) {
		table_print(&table, to, 0);
		show_stats(to, json);
	}
	table_free(&table);
	cJSON_Delete(json);
}

static int
run(struct ctl *c, struct inputs *in)
{
	struct aiterd_reply *r;
	enum aiterd_status status;
	int rc = 0;
	FILE *to = stdout;

	if (c->o.background)
		return inputs_submit(c, in, "run");
	if (!c->o.n_outputs && !inputs_has_param(c, "outputs") && !inputs_has_param(c, "format"))
		aiterd_call_param(in->call, "outputs", "digest");
	if (!c->o.n_outputs && !inputs_has_param(c, "format"))
		aiterd_call_param(in->call, "format", "json");
	status = aiterd_run(in->call, &r);
	progress_clear();
	if (status != AITERD_OK)
		return inputs_lost(c, in, status) ? 0 : fail(c, status);
	if (*aiterd_reply_json(r)) {
		struct cJSON *json = json_of(aiterd_reply_json(r));

		if (c->o.json)
			print_json(aiterd_reply_json(r));
		else
			show_json_reply(json);
		if (c->o.n_outputs)
			rc = fail_usage("nothing was written: this reply has no data");
		cJSON_Delete(json);
	} else {
		for (int i = 0; i < c->o.n_outputs && !rc; i++) {
			rc = write_output(c, r, c->o.outputs[i]);
			if (strcmp(c->o.outputs[i], "-") == 0)
				to = stderr;
		}
		if (!rc)
			tell(c, r, to);
	}
	aiterd_reply_free(r);
	return rc;
}

int
cmd_run(struct ctl *c)
{
	if (!c->o.n_args)
		return fail_usage("run wants an operator; aiterctl ops lists them");
	for (int i = 0; i < c->o.n_outputs; i++)
		if (strcmp(c->o.outputs[i], "-") == 0 && c->tty_out)
			return fail_usage(
				"the output is binary and standard output is a terminal: -o FILE, or send it to a program");
	return inputs_with(c, c->o.args[0], c->o.args + 1, c->o.n_args - 1, run);
}
