/*
 * cmd_bench.c: aiterctl bench: a sweep's lines as they arrive, as rows of a table that is laid out by the first of them.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#define KEYS_MAX 12

struct sweep {
	struct ctl *c;
	char *keys[KEYS_MAX]; /* of the case: a column each */
	int widths[KEYS_MAX];
	int n_keys;
	bool header, baseline, per_sample, peak;
	bool done, suspect, invalid;
	char *mode, *impl; /* of the first row; where another differs, it says so */
	int worst;	   /* exit status */
	int failed, cases;
};

struct column {
	const char *title, *path;
	int width;
	const bool *shown; /* NULL: always */
};

static void
cell(const char *text, int width, bool first)
{
	printf("%s%*s", first ? "" : "  ", width - (int)strlen(text) > 0 ? width - (int)strlen(text) : 0, "");
	print_clean(stdout, text);
}

/* What stands behind the case's own columns. */
static void
columns(const struct sweep *s, struct column to[10], int *n)
{
	const struct column all[] = {
		{"median ms", "kernel_ms.median", 9, NULL},
		{"p95 ms", "kernel_ms.p95", 9, NULL},
		{"per sample", "kernel_ms.per_sample", 10, &s->per_sample},
		{"TFLOP/s", "rates.tflops", 8, NULL},
		{"of peak %", "rates.peak_share", 9, &s->peak},
		{"GB/s", "rates.gb_per_s", 8, NULL},
		{"naive ms", "baseline.kernel_ms.median", 9, &s->baseline},
		{"speed-up", "baseline.speedup", 8, &s->baseline},
		{"max diff", "baseline.max_abs_diff", 9, &s->baseline},
	};

	*n = 0;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!all[i].shown || *all[i].shown)
			to[(*n)++] = all[i];
}

/* The first case's inputs: lengths and dtypes that were not given have defaults. */
static void
say_inputs(const struct cJSON *json)
{
	const cJSON *input;
	char shape[120];

	cJSON_ArrayForEach(input, json_at(json, "inputs"))
	{
		printf("%s", input->prev->next ? ", " : "first case: ");
		print_clean(stdout, input->string);
		printf(" %s %s", json_str(input, "dtype", "?"),
		       show_shape(json_at(input, "shape"), shape, sizeof(shape)));
	}
	if (cJSON_GetArraySize(json_at(json, "inputs")))
		printf("\n");
}

static void
draw_header(struct sweep *s, const struct cJSON *json)
{
	const cJSON *key;
	struct column list[10];
	char value[60];
	int n;

	s->header = true;
	s->baseline = json_has(json, "baseline");
	s->per_sample = json_has(json, "kernel_ms.per_sample");
	s->peak = json_has(json, "rates.peak_share");
	if (json_has(json, "impl")) {
		say(stdout, "%s on %s, %s inputs", json_str(json, "impl", "?"),
		    json_str(json, "device", json_str(json, "device.id", "?")), json_str(json, "mode", "?"));
		say_inputs(json);
		s->mode = strdup(json_str(json, "mode", ""));
		s->impl = strdup(json_str(json, "impl", ""));
	}
	cJSON_ArrayForEach(key, json_at(json, "case"))
	{
		int a, b;

		if (s->n_keys == KEYS_MAX || !key->string)
			break;
		a = (int)strlen(key->string);
		b = (int)strlen(json_show(key, value, sizeof(value)));
		s->widths[s->n_keys] = a > b ? a : b;
		if (s->widths[s->n_keys] < 5)
			s->widths[s->n_keys] = 5;
		s->keys[s->n_keys] = strdup(key->string);
		s->n_keys += s->keys[s->n_keys] != NULL;
	}
	for (int i = 0; i < s->n_keys; i++)
		cell(s->keys[i], s->widths[i], i == 0);
	columns(s, list, &n);
	for (int i = 0; i < n; i++)
		cell(list[i].title, list[i].width, i == 0 && !s->n_keys);
	printf("\n");
}

static void
draw_case(const struct sweep *s, const struct cJSON *json)
{
	char value[60];

	for (int i = 0; i < s->n_keys; i++)
		cell(json_show(cJSON_GetObjectItemCaseSensitive(json_at(json, "case"), s->keys[i]), value,
			       sizeof(value)),
		     s->widths[i], i == 0);
}

static void
draw_row(struct sweep *s, const struct cJSON *json)
{
	struct column list[10];
	char value[32];
	int n;

	draw_case(s, json);
	columns(s, list, &n);
	for (int i = 0; i < n; i++) {
		double v = json_num(json, list[i].path, NAN);
		bool share = strcmp(list[i].path, "rates.peak_share") == 0;

		cell(json_has(json, list[i].path) ? show_number(share ? v * 100 : v, value, sizeof(value)) : "-",
		     list[i].width, i == 0 && !s->n_keys);
	}
	if (s->impl && strcmp(s->impl, json_str(json, "impl", "")) != 0) {
		printf("  by ");
		print_clean(stdout, json_str(json, "impl", "?"));
	}
	if (s->mode && strcmp(s->mode, json_str(json, "mode", "")) != 0) {
		printf("  ");
		print_clean(stdout, json_str(json, "mode", "?"));
	}
	if (json_has(json, "rates.suspect")) {
		printf("  ! suspect: ");
		print_clean(stdout, json_str(json, "rates.suspect", "?"));
	}
	if (cJSON_IsFalse(json_at(json, "validated"))) {
		printf("  ! the results were not right after timing");
		s->worst = s->worst ? s->worst : EXIT_SERVER;
	}
	printf("\n");
}

static void
draw_error(struct sweep *s, const struct cJSON *json)
{
	int status = (int)json_num(json, "error.status", 500);

	s->worst = exit_of_http(status);
	s->failed++;
	if (s->c->o.json)
		return;
	draw_case(s, json);
	printf("  ");
	print_clean(stdout, json_str(json, "error.detail", json_str(json, "error.title", "failed")));
	say(stdout, " (status %d, request %s)", status, json_str(json, "error.request_id", "?"));
}

static void
draw_progress(struct sweep *s, const struct cJSON *json)
{
	char line[120];

	snprintf(line, sizeof(line), "case %.0f of %.0f, %.0f of %.0f runs", json_num(json, "index", 0) + 1,
		 json_num(json, "of", 0), json_num(json, "iterations", 0), json_num(json, "iterations_of", 0));
	progress_line(s->c, line);
}

struct sweep *
sweep_new(struct ctl *c)
{
	struct sweep *s = calloc(1, sizeof(*s));

	if (s)
		s->c = c;
	return s;
}

int
sweep_line(void *sweep, const char *line, size_t length)
{
	struct sweep *s = sweep;
	struct cJSON *json = json_of(line);
	bool is_progress = json_has(json, "progress");

	(void)length;
	if (is_progress) {
		draw_progress(s, json_at(json, "progress"));
	} else if (json_has(json, "done") && !json_has(json, "case")) {
		s->done = true;
	} else if (json_has(json, "case") || json_has(json, "error") || json_has(json, "kernel_ms")) {
		s->cases++;
		progress_clear();
		if (!s->header && !s->c->o.json && !json_has(json, "error"))
			draw_header(s, json);
		if (json_has(json, "error"))
			draw_error(s, json);
		else if (!s->c->o.json)
			draw_row(s, json);
		else if (cJSON_IsFalse(json_at(json, "validated")))
			s->worst = EXIT_SERVER;
	}
	if (s->c->o.json && !is_progress)
		print_json(line);
	cJSON_Delete(json);
	/* Rows are there to be watched; and a reader that is gone ends the sweep. */
	return fflush(stdout) || ferror(stdout);
}

int
sweep_end(struct sweep *s, bool complete)
{
	int rc = s->worst;

	progress_clear();
	if (complete && !s->done) {
		fprintf(stderr, "aiterctl: the sweep ended before its last line; %d cases were measured\n", s->cases);
		rc = EXIT_SERVER;
	} else if (s->failed) {
		fprintf(stderr, "aiterctl: %d of %d cases failed\n", s->failed, s->cases);
	}
	for (int i = 0; i < s->n_keys; i++)
		free(s->keys[i]);
	free(s->mode);
	free(s->impl);
	free(s);
	return rc;
}

static int
bench(struct ctl *c, struct inputs *in)
{
	enum aiterd_status status;
	struct sweep *s;
	int rc;

	if (c->o.background)
		return inputs_submit(c, in, "bench");
	if (c->tty_err && !c->o.quiet && !inputs_has_param(c, "progress"))
		aiterd_call_param(in->call, "progress", "true");
	s = sweep_new(c);
	status = s ? aiterd_bench(in->call, sweep_line, s) : AITERD_NO_MEMORY;
	rc = s ? sweep_end(s, status == AITERD_OK) : 0;
	if (status != AITERD_OK && !ferror(stdout))
		rc = inputs_lost(c, in, status) ? 0 : fail(c, status);
	return rc;
}

int
cmd_bench(struct ctl *c)
{
	if (!c->o.n_args)
		return fail_usage("bench wants an operator; aiterctl ops lists them");
	return inputs_with(c, c->o.args[0], c->o.args + 1, c->o.n_args - 1, bench);
}
