/*
 * sweep.c: lists of values become cases; see sweep.h. Called by request_bench.c; owns the values' texts.
 */
#include "front/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/request.h"

#define NAMES_MAX 96
#define CLIP 64

/* Options whose value may be a list. */
static bool
may_be_list(const char *name)
{
	static const char *const lists[] = {"impl", "dtype", "device", "mode"};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (strcmp(name, lists[i]) == 0)
			return true;
	return false;
}

/* ---------------------------------------------------------------- lists */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void
trim(const char **p, size_t *n)
{
	while (*n > 0 && is_blank(**p)) {
		(*p)++;
		(*n)--;
	}
	while (*n > 0 && is_blank((*p)[*n - 1]))
		(*n)--;
}

static int
value_add(struct sweep_axis *a, const char *p, size_t n, struct err *e)
{
	char **grown = realloc(a->values, (size_t)(a->n + 1) * sizeof(*grown)), *copy;

	if (grown == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the values of %.90s", a->name);
	a->values = grown;
	trim(&p, &n);
	if (n >= 2 && p[0] == '"' && p[n - 1] == '"') { /* of a JSON list */
		p++;
		n -= 2;
	}
	if (n == 0)
		return err_param(e, ERR_INVALID_PARAMETER, a->name, "nothing", "a value",
				 "a value of %.90s is empty: a list is written %.90s=1,4,16", a->name, a->name);
	copy = malloc(n + 1);
	if (copy == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the values of %.90s", a->name);
	memcpy(copy, p, n);
	copy[n] = '\0';
	a->values[a->n++] = copy;
	return 0;
}

/* At each separator outside of brackets and strings. */
static int
split(struct sweep_axis *a, const char *p, size_t n, char separator, struct err *e)
{
	size_t begin = 0;
	bool quoted = false;
	int depth = 0;

	for (size_t i = 0; i <= n; i++) {
		if (i < n && p[i] == '"')
			quoted = !quoted;
		if (i < n && !quoted && (p[i] == '[' || p[i] == '('))
			depth++;
		if (i < n && !quoted && (p[i] == ']' || p[i] == ')'))
			depth--;
		if (i < n && (p[i] != separator || depth > 0 || quoted))
			continue;
		if (value_add(a, p + begin, i - begin, e) == -1)
			return -1;
		begin = i + 1;
	}
	return 0;
}

/* "1,4", "[1, 4]", "[\"fp16\", \"bf16\"]"; where a value is a list itself: "8,0;-1,-1" and "[[8, 0], [-1, -1]]". */
static int
values_read(struct sweep_axis *a, const char *text, bool of_lists, struct err *e)
{
	size_t n = strlen(text), inner;
	const char *p = text;

	trim(&p, &n);
	if (n >= 2 && p[0] == '[' && p[n - 1] == ']') {
		for (inner = 1; inner < n && is_blank(p[inner]); inner++)
			;
		if (!of_lists || p[inner] == '[' || p[inner] == '(' || p[inner] == '"')
			return split(a, p + 1, n - 2, ',', e);
	}
	return split(a, p, n, of_lists ? ';' : ',', e);
}

/* ---------------------------------------------------------------- what a name means */

static int
unknown(const struct op *op, const struct op_param *own, const char *name, struct err *e)
{
	const struct op_param *tables[] = {run_option_table(), own};
	const char *names[NAMES_MAX];
	char aliases[NAMES_MAX][24];
	size_t n = 0;

	for (int i = 0; i < 2; i++)
		for (const struct op_param *o = tables[i]; o != NULL && o->name != NULL && n < NAMES_MAX; o++)
			names[n++] = o->name;
	for (int i = 0; i < op_size_count(op) && n < NAMES_MAX; i++) {
		const char *list = op->sizes[i].aliases;

		names[n++] = op->sizes[i].name;
		while (list != NULL && *list != '\0' && n < NAMES_MAX) {
			size_t len = strcspn(list, "|");

			snprintf(aliases[n], sizeof(aliases[n]), "%.*s", (int)len, list);
			names[n] = aliases[n];
			n++;
			list += len + (list[len] == '|');
		}
	}
	return op_param_unknown(op, name, strlen(name), names, n, e);
}

static int
classify(const struct sweep *s, struct sweep_axis *a, const char *value, const struct op_param *own, struct err *e)
{
	size_t len = strlen(a->name);
	int k;

	if ((k = op_size_find(s->op, a->name, len)) >= 0) {
		a->kind = SWEEP_SIZE;
	} else if ((k = op_param_find(s->op, a->name, len)) >= 0) {
		a->kind = SWEEP_PARAM;
	} else if ((k = run_option_find(a->name, len)) >= 0 || (k = option_find(own, a->name, len)) >= 0) {
		a->kind = may_be_list(a->name) ? SWEEP_OPTION : SWEEP_OTHER;
	} else {
		k = op_refused_check(s->op, a->name, len, value, strlen(value), e);
		if (k != 1)
			return k == -1 ? -1 : unknown(s->op, own, a->name, e);
		a->kind = SWEEP_OTHER;
	}
	a->index = k;
	return 0;
}

/* ---------------------------------------------------------------- values */

static struct op_param
size_as_param(const struct sweep_axis *a)
{
	return (struct op_param){.name = a->name, .type = OP_INT, .max = 9007199254740992.0, .required = true};
}

static int
dtype_check(const char *text, struct err *e)
{
	char shown[CLIP];

	if (dtype_find(text, strlen(text)) != DT_NONE)
		return 0;
	text_clip(shown, sizeof(shown), text, strlen(text));
	return err_param(e, ERR_INVALID_PARAMETER, "dtype", shown, "fp32, fp16 or bf16", "there is no dtype '%s'",
			 shown);
}

static int
value_check(const struct sweep *s, const struct sweep_axis *a, const char *text, const struct op_param *own,
	    struct err *e)
{
	struct op_param size = size_as_param(a);
	const struct op_param *p = &size;
	struct op_value v;

	if (a->kind == SWEEP_PARAM) {
		p = &s->op->params[a->index];
	} else if (a->kind == SWEEP_OPTION) {
		int k = run_option_find(a->name, strlen(a->name));

		if (strcmp(a->name, "dtype") == 0)
			return dtype_check(text, e);
		p = k >= 0 ? &run_option_table()[k] : &own[a->index];
		if (p->choices == NULL) /* device: looked at when its turn comes */
			return 0;
	} else if (a->kind == SWEEP_OTHER) {
		return 0;
	}
	return op_value_parse(p, text, strlen(text), &v, e);
}

static int
axis_make(struct sweep *s, const struct intake_param *p, const struct op_param *own, struct err *e)
{
	struct sweep_axis *a = &s->axes[s->n++];
	bool of_lists;

	*a = (struct sweep_axis){.name = p->name};
	if (classify(s, a, p->value, own, e) == -1)
		return -1;
	for (int i = 0; i < s->n - 1 && a->kind <= SWEEP_PARAM; i++)
		if (s->axes[i].kind == a->kind && s->axes[i].index == a->index)
			return err_param(e, ERR_CONFLICTING_PARAMETER, a->name, p->value, s->axes[i].name,
					 "%.90s and %.90s mean the same; give one of them", s->axes[i].name, a->name);
	of_lists = a->kind == SWEEP_PARAM && s->op->params[a->index].type == OP_INTS;
	if (a->kind == SWEEP_OTHER) {
		if (value_add(a, p->value, strlen(p->value), e) == -1)
			return -1;
	} else if (values_read(a, p->value, of_lists, e) == -1) {
		return -1;
	}
	for (int i = 0; i < a->n; i++)
		if (value_check(s, a, a->values[i], own, e) == -1)
			return -1;
	s->sized = s->sized || a->kind == SWEEP_SIZE || strcmp(a->name, "dtype") == 0 || strcmp(a->name, "seed") == 0;
	return 0;
}

int
sweep_make(struct sweep *s, const struct op *op, const struct intake *in, const struct op_param *own, uint64_t most,
	   struct err *e)
{
	char found[32], wanted[48];
	double cases = 1;

	s->op = op;
	s->n = 0;
	s->sized = false;
	for (int i = 0; i < in->n_params; i++) {
		if (axis_make(s, &in->params[i], own, e) == -1)
			return -1;
		cases *= s->axes[s->n - 1].n;
	}
	if (cases > (double)most) {
		snprintf(found, sizeof(found), "%.10g cases", cases);
		snprintf(wanted, sizeof(wanted), "at most %llu", (unsigned long long)most);
		return err_param(e, ERR_INVALID_PARAMETER, "cases", found, wanted,
				 "the lists make %s; this server takes %s (--max-cases)", found, wanted);
	}
	s->cases = (uint64_t)cases;
	return 0;
}

void
sweep_fini(struct sweep *s)
{
	for (int i = 0; i < s->n; i++) {
		for (int k = 0; k < s->axes[i].n; k++)
			free(s->axes[i].values[k]);
		free(s->axes[i].values);
	}
	s->n = 0;
}

/* ---------------------------------------------------------------- cases */

const char *
sweep_value(const struct sweep *s, uint64_t at, int axis)
{
	for (int i = s->n - 1; i > axis; i--)
		at /= (uint64_t)s->axes[i].n;
	return s->axes[axis].values[at % (uint64_t)s->axes[axis].n];
}

const char *
sweep_option(const struct sweep *s, uint64_t at, const char *name)
{
	for (int i = 0; i < s->n; i++)
		if (s->axes[i].kind >= SWEEP_OPTION && strcmp(s->axes[i].name, name) == 0)
			return sweep_value(s, at, i);
	return NULL;
}

void
sweep_sizes(const struct sweep *s, uint64_t at, int64_t *sizes)
{
	for (int i = 0; i < OP_SIZES_MAX; i++)
		sizes[i] = -1;
	for (int i = 0; i < s->n; i++)
		if (s->axes[i].kind == SWEEP_SIZE)
			sizes[s->axes[i].index] = strtoll(sweep_value(s, at, i), NULL, 10);
	op_sizes_finish(s->op, sizes);
}

int
sweep_params(const struct sweep *s, uint64_t at, struct intake *in, struct err *e)
{
	for (int i = 0; i < s->n; i++) {
		const char *value = sweep_value(s, at, i);

		if (s->axes[i].kind != SWEEP_SIZE &&
		    intake_param(in, s->axes[i].name, strlen(s->axes[i].name), value, strlen(value), e) == -1)
			return -1;
	}
	return 0;
}

/* As a value of JSON: one of a parameter. */
static void
add_param(struct text *t, const struct op_param *p, const char *text)
{
	struct op_value v = {.given = false};

	(void)op_value_parse(p, text, strlen(text), &v, NULL); /* it was parsed before */
	if (!v.given) {
		text_add(t, "null");
		return;
	}
	switch (p->type) {
	case OP_BOOL:
		text_add(t, v.i[0] != 0 ? "true" : "false");
		return;
	case OP_INT:
		text_addf(t, "%lld", (long long)v.i[0]);
		return;
	case OP_FLOAT:
		text_number(t, v.f);
		return;
	case OP_ENUM:
		text_json(t, text);
		return;
	case OP_INTS:
		for (int i = 0; i < v.n; i++)
			text_addf(t, "%s%lld", i > 0 ? "," : "[", (long long)v.i[i]);
		text_add(t, "]");
		return;
	}
}

void
sweep_case(const struct sweep *s, uint64_t at, struct text *t)
{
	const char *sep = "{";

	for (int i = 0; i < s->n; i++) {
		const struct sweep_axis *a = &s->axes[i];
		const char *value = sweep_value(s, at, i);
		struct op_param size = size_as_param(a);

		if (a->kind == SWEEP_OTHER)
			continue;
		text_add(t, sep);
		text_json(t, a->name);
		text_add(t, ":");
		if (a->kind == SWEEP_OPTION)
			text_json(t, value);
		else
			add_param(t, a->kind == SWEEP_SIZE ? &size : &s->op->params[a->index], value);
		sep = ",";
	}
	text_add(t, *sep == '{' ? "{}" : "}");
}
