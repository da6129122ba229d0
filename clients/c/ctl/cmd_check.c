/*
 * cmd_check.c: aiterctl check: a candidate's outputs judged by the server, the verdict as tables, the case into a file. Status 1
 * when it failed.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static void
add_number(struct table *t, const struct cJSON *o, const char *path)
{
	char n[32];

	table_add(t, json_has(o, path) ? show_number(json_num(o, path, NAN), n, sizeof(n)) : "-");
}

static void
show_comparisons(const struct cJSON *out)
{
	static const struct {
		const char *path, *words;
	} rows[] = {{"vs_reference", "yours and float64"},
		    {"vs_kernel", "yours and the kernel"},
		    {"kernel_vs_reference", "the kernel and float64"}};
	char off[64];
	struct table t;

	table_init(&t, 7, 1);
	for (const char *const *h =
		     (const char *const[]){"", "max abs", "max rel", "mean abs", "rms", "cosine", "off", NULL};
	     *h; h++)
		table_add(&t, *h);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const cJSON *m = json_at(out, rows[i].path);
		double total = json_num(m, "total", 0), bad = json_num(m, "mismatched", 0);

		if (!cJSON_IsObject(m))
			continue;
		table_add(&t, rows[i].words);
		add_number(&t, m, "max_abs");
		add_number(&t, m, "max_rel");
		add_number(&t, m, "mean_abs");
		add_number(&t, m, "rmse");
		snprintf(off, sizeof(off), "%.7f", json_num(m, "cosine", NAN));
		table_add(&t, json_has(m, "cosine") ? off : "-");
		snprintf(off, sizeof(off), "%.0f of %.0f", bad, total);
		table_add(&t, off);
	}
	table_print(&t, stdout, 2);
	table_free(&t);
}

/* Enough digits to find the value again. */
static void
add_value(struct table *t, const struct cJSON *o, const char *path)
{
	char n[32];

	snprintf(n, sizeof(n), "%.7g", json_num(o, path, NAN));
	table_add(t, json_has(o, path) ? n : "-");
}

/* Those that are off, at least one; the verdict has the others as well. */
static void
show_worst(const struct cJSON *worst, double off)
{
	const cJSON *item;
	char index[100];
	struct table t;
	int n = 0;

	if (!cJSON_IsArray(worst) || !worst->child)
		return;
	printf("  worst places\n");
	table_init(&t, 6, 1);
	for (const char *const *h = (const char *const[]){"index", "yours", "kernel", "float64", "abs", "rel", NULL};
	     *h; h++)
		table_add(&t, *h);
	cJSON_ArrayForEach(item, worst)
	{
		if (n++ && n > off)
			break;
		table_add(&t, show_shape(json_at(item, "index"), index, sizeof(index)));
		add_value(&t, item, "yours");
		add_value(&t, item, "kernel");
		add_value(&t, item, "reference");
		add_number(&t, item, "abs");
		add_number(&t, item, "rel");
	}
	table_print(&t, stdout, 4);
	table_free(&t);
}

/* "0: 28000  1: 410  2: 5", without the empty ones. */
static void
show_ulp(const struct cJSON *ulp)
{
	const cJSON *bin;
	bool any = false;

	cJSON_ArrayForEach(bin, ulp)
	{
		if (!cJSON_IsNumber(bin) || bin->valuedouble == 0)
			continue;
		printf(any ? "   " : "  ulp from float64   ");
		print_clean(stdout, bin->string);
		printf(": %.0f", bin->valuedouble);
		any = true;
	}
	if (any)
		printf("\n");
}

static void
show_output(const struct cJSON *out)
{
	char shape[100];

	printf("\n%s ", cJSON_IsTrue(json_at(out, "pass")) ? "pass" : "FAIL");
	print_clean(stdout, out->string);
	printf(" ");
	print_clean(stdout, json_str(out, "dtype", ""));
	printf(" ");
	print_clean(stdout, show_shape(json_at(out, "shape"), shape, sizeof(shape)));
	printf("  atol %g, rtol %g", json_num(out, "atol", NAN), json_num(out, "rtol", NAN));
	if (json_has(out, "tolerance_from")) {
		printf(" (");
		print_clean(stdout, json_str(out, "tolerance_from", ""));
		printf(")");
	}
	printf("\n");
	show_comparisons(out);
	show_ulp(json_at(out, "vs_reference.ulp"));
	for (int i = 0; i < 2; i++) {
		const cJSON *odd = json_at(out, i ? "inf" : "nan");

		if (cJSON_IsFalse(json_at(odd, "agree")))
			printf("  %s do not agree: yours %.0f, float64 %.0f\n", i ? "infinities" : "NaNs",
			       json_num(odd, "yours", 0), json_num(odd, "reference", 0));
	}
	if (json_has(out, "looks_like")) {
		printf("  looks like: ");
		print_clean(stdout, json_str(out, "looks_like", ""));
		printf("\n");
	}
	if (!cJSON_IsTrue(json_at(out, "pass")))
		show_worst(json_at(out, "worst"), json_num(out, "vs_reference.mismatched", 10));
}

void
show_verdict(const struct cJSON *verdict)
{
	const cJSON *out;

	printf("%s: ", cJSON_IsTrue(json_at(verdict, "pass")) ? "passed" : "FAILED");
	print_clean(stdout, json_str(verdict, "summary", ""));
	printf("\n");
	cJSON_ArrayForEach(out, json_at(verdict, "outputs")) show_output(out);
	if (json_has(verdict, "determinism"))
		printf("\n%.0f runs of the kernel gave %s bits\n", json_num(verdict, "determinism.runs", 0),
		       cJSON_IsTrue(json_at(verdict, "determinism.identical")) ? "the same" : "DIFFERENT");
	printf("\n");
	show_stats(stdout, json_at(verdict, "stats"));
}

static int
judge(struct ctl *c, struct inputs *in)
{
	struct aiterd_reply *r;
	struct cJSON *verdict;
	enum aiterd_status status;
	const void *bytes;
	int pass = 0, rc;
	size_t size;

	if (c->o.background)
		return inputs_submit(c, in, "check");
	status = aiterd_check(in->call, c->o.save != NULL, &r, &pass);
	progress_clear();
	if (status != AITERD_OK)
		return inputs_lost(c, in, status) ? 0 : fail(c, status);
	rc = pass ? 0 : EXIT_CHECK_FAILED;
	verdict = json_of(aiterd_reply_json(r));
	if (c->o.json)
		print_json(aiterd_reply_json(r));
	else if (!c->o.quiet)
		show_verdict(verdict);
	cJSON_Delete(verdict);
	if (c->o.save) {
		bytes = aiterd_reply_bytes(r, &size);
		status = aiterd_write_bytes(c->server, c->o.save, bytes, size);
		if (status != AITERD_OK) {
			fail(c, status);
			rc = EXIT_LOCAL;
		} else if (!c->o.quiet && !c->o.json) {
			printf("saved     ");
			print_clean(stdout, c->o.save);
			printf("; once more: aiterctl check ");
			print_clean(stdout, c->o.save);
			printf("\n");
		}
	}
	aiterd_reply_free(r);
	return rc;
}

int
cmd_check(struct ctl *c)
{
	const char *first = c->o.n_args ? c->o.args[0] : NULL;

	if (!first)
		return fail_usage(
			"check wants an operator with inputs and expected.OUTPUT=FILE, or a file that --save wrote");
	if (c->o.save && c->o.background)
		return fail_usage("--save and --background do not go together");
	/* Operators have no dots or slashes in their names: this is a case, which tells its own. */
	if (strpbrk(first, "./"))
		return inputs_with(c, NULL, c->o.args, c->o.n_args, judge);
	return inputs_with(c, first, c->o.args + 1, c->o.n_args - 1, judge);
}
