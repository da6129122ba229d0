/*
 * op_value.c: parameters as text become values; unknown and refused names get helpful errors. Called by whoever
 * reads parameters in the front (query string, form fields, JSON). Owns nothing.
 */
#include "ops/op.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text.h"

#define NUMBER_MAX 63 /* characters in a number we are willing to read */
#define CLIP 64

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void
trim(const char **text, size_t *len)
{
	while (*len && is_blank(**text)) {
		(*text)++;
		(*len)--;
	}
	while (*len && is_blank((*text)[*len - 1]))
		(*len)--;
}

static bool
is_word(const char *text, size_t len, const char *word)
{
	return strlen(word) == len && !strncasecmp(text, word, len);
}

static bool
is_none(const char *text, size_t len)
{
	return is_word(text, len, "none") || is_word(text, len, "null");
}

static bool
read_int(const char *text, size_t len, int64_t *v)
{
	bool negative = len && text[0] == '-';
	uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, u = 0;
	size_t i = len && (text[0] == '-' || text[0] == '+') ? 1 : 0;

	if (i == len)
		return false;
	for (; i < len; i++) {
		unsigned digit = (unsigned)(text[i] - '0');

		if (text[i] < '0' || text[i] > '9' || u > (limit - digit) / 10)
			return false;
		u = u * 10 + digit;
	}
	*v = negative ? (int64_t)(0 - u) : (int64_t)u;
	return true;
}

/* Decimal, finite; none of strtod's hexadecimal, infinities and NaNs. */
static bool
read_float(const char *text, size_t len, double *v)
{
	char buf[NUMBER_MAX + 1];
	char *end;

	if (!len || len > NUMBER_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isdigit((unsigned char)text[i]) && !memchr("+-.eE", text[i], 5))
			return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	*v = strtod(buf, &end);
	return end == buf + len && isfinite(*v);
}

static bool
read_bool(const char *text, size_t len, int64_t *v)
{
	*v = is_word(text, len, "true") || is_word(text, len, "1");
	return *v || is_word(text, len, "false") || is_word(text, len, "0");
}

/* Without case, but for "none": as a choice it is written just so, as Python's None it means not given. */
static bool
read_enum(const char *choices, const char *text, size_t len, int64_t *v)
{
	bool exact = is_none(text, len);

	for (int64_t i = 0; *choices; i++) {
		size_t n = strcspn(choices, "|");

		if (n == len && (exact ? !memcmp(choices, text, len) : !strncasecmp(choices, text, len))) {
			*v = i;
			return true;
		}
		choices += n + (choices[n] == '|');
	}
	return false;
}

static bool
read_ints(const char *text, size_t len, struct op_value *v)
{
	if (len >= 2 && ((text[0] == '[' && text[len - 1] == ']') || (text[0] == '(' && text[len - 1] == ')'))) {
		text++;
		len -= 2;
	}
	for (;;) {
		const char *comma = memchr(text, ',', len), *item = text;
		size_t n = comma ? (size_t)(comma - text) : len;
		size_t item_len = n;

		trim(&item, &item_len);
		if (v->n == OP_VALUE_INTS || !read_int(item, item_len, &v->i[v->n]))
			return false;
		v->n++;
		if (!comma)
			return true;
		text += n + 1;
		len -= n + 1;
	}
}

/* What a parameter takes, in words. */
static void
wanted_text(const struct op_param *p, char *buf, size_t size)
{
	bool ranged = p->min < 0 || p->min > 0 || p->max < 0 || p->max > 0;
	char range[80] = "", choices[120];

	if (ranged)
		snprintf(range, sizeof range,
			 p->type == OP_INT && p->max >= 9e15 ? " of at least %.10g" : " between %.10g and %.10g",
			 p->min, p->max);
	switch (p->type) {
	case OP_BOOL:
		snprintf(buf, size, "true or false");
		return;
	case OP_INT:
		snprintf(buf, size, "an integer%s", range);
		return;
	case OP_FLOAT:
		snprintf(buf, size, "a finite number%s", range);
		return;
	case OP_ENUM:
		snprintf(buf, size, "%s", op_list_words(p->choices, choices, sizeof choices));
		return;
	case OP_INTS:
		snprintf(buf, size, "a list of up to %d integers%s, such as [8, 0]", OP_VALUE_INTS, range);
		return;
	}
}

static bool
within(const struct op_param *p, double v)
{
	bool ranged = p->min < 0 || p->min > 0 || p->max < 0 || p->max > 0;

	return !ranged || (v >= p->min && v <= p->max);
}

static bool
read_value(const struct op_param *p, const char *text, size_t len, struct op_value *v)
{
	switch (p->type) {
	case OP_BOOL:
		return read_bool(text, len, &v->i[0]);
	case OP_INT:
		if (!read_int(text, len, &v->i[0]))
			return false;
		v->f = (double)v->i[0];
		return within(p, v->f);
	case OP_FLOAT:
		return read_float(text, len, &v->f) && within(p, v->f);
	case OP_ENUM:
		return read_enum(p->choices, text, len, &v->i[0]);
	case OP_INTS:
		if (!read_ints(text, len, v))
			return false;
		for (int i = 0; i < v->n; i++)
			if (!within(p, (double)v->i[i]))
				return false;
		return true;
	}
	return false;
}

int
op_value_parse(const struct op_param *p, const char *text, size_t len, struct op_value *v, struct err *e)
{
	struct op_value tmp;
	char found[CLIP], wanted[160];

	trim(&text, &len);
	memset(&tmp, 0, sizeof tmp);
	if (p->unclear && strlen(p->unclear) == len && !memcmp(p->unclear, text, len))
		return err_param(e, ERR_INVALID_PARAMETER, p->name, p->unclear,
				 op_list_words(p->choices, wanted, sizeof wanted), "%s=%s is not clear: %s", p->name,
				 p->unclear, p->unclear_help);
	/* "none" may also be one of the choices */
	if (!p->required && is_none(text, len) && !(p->type == OP_ENUM && read_enum(p->choices, text, len, &tmp.i[0]))) {
		*v = tmp;
		return 0;
	}
	if (!read_value(p, text, len, &tmp)) {
		text_clip(found, sizeof found, text, len);
		wanted_text(p, wanted, sizeof wanted);
		return err_param(e, ERR_INVALID_PARAMETER, p->name, found, wanted, "%s is \"%s\", wanted %s", p->name,
				 found, wanted);
	}
	tmp.given = true;
	*v = tmp;
	return 0;
}

void
op_default(const struct op_param *p, struct op_value *v)
{
	int rc = 0;

	memset(v, 0, sizeof *v);
	if (p->fallback)
		rc = op_value_parse(p, p->fallback, strlen(p->fallback), v, NULL);
	assert(rc == 0 && "a default is a valid value");
	(void)rc;
	v->given = false;
}

enum {
#define OP(name) INDEX_##name,
#include "ops/ops.def"
#undef OP
	OPS
};

/* The defaults of the operators in the table are read once: most parameters of most calls have them. */
static struct op_value defaults[OPS][OP_PARAMS_MAX];

static void
read_defaults(void)
{
	for (uint32_t k = 0; k < OPS; k++)
		for (int i = 0; op_get(k)->params[i].name; i++)
			op_default(&op_get(k)->params[i], &defaults[k][i]);
}

static const struct op_value *
defaults_of(const struct op *op)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint32_t k = 0;

	pthread_once(&once, read_defaults);
	while (op_get(k) != op) /* which asserts that it is there */
		k++;
	return defaults[k];
}

static int
missing_param(const struct op *op, const struct op_param *p, struct err *e)
{
	char wanted[160];

	wanted_text(p, wanted, sizeof wanted);
	return err_param(e, ERR_INVALID_PARAMETER, p->name, "nothing", wanted, "%s needs the parameter %s: %s (%s)",
			 op->name, p->name, wanted, p->help);
}

int
op_params_finish(const struct op *op, struct op_call *c, struct err *e)
{
	const struct op_value *values = defaults_of(op);

	for (int i = 0; op->params[i].name; i++) {
		if (c->params[i].given)
			continue;
		if (op->params[i].required)
			return missing_param(op, &op->params[i], e);
		c->params[i] = values[i];
	}
	return 0;
}

/* "None" and "null" are the same, and so are 0, 0.0 and -0; words compare without case. */
static bool
is_neutral(const char *neutral, const char *text, size_t len)
{
	double have, want;

	while (neutral && *neutral) {
		size_t n = strcspn(neutral, "|");

		if (n == len && !strncasecmp(neutral, text, len))
			return true;
		if (is_none(neutral, n) && is_none(text, len))
			return true;
		if (read_float(neutral, n, &want) && read_float(text, len, &have) && !(have < want) && !(have > want))
			return true;
		neutral += n + (neutral[n] == '|');
	}
	return false;
}

int
op_refused_check(const struct op *op, const char *name, size_t name_len, const char *text, size_t text_len,
		 struct err *e)
{
	const struct op_refused *r = op->refused;
	char found[CLIP], neutral[96] = "";

	while (r && r->name && (strlen(r->name) != name_len || memcmp(r->name, name, name_len)))
		r++;
	if (!r || !r->name)
		return 0;
	trim(&text, &text_len);
	if (is_neutral(r->neutral, text, text_len))
		return 1;
	text_clip(found, sizeof found, text, text_len);
	if (r->neutral)
		op_list_words(r->neutral, neutral, sizeof neutral);
	return err_param(e, ERR_UNSUPPORTED_PARAMETER, r->name, found, r->neutral ? neutral : "leave it out",
			 "%s=%s: %s. Leave it out%s%s", r->name, found, r->help, r->neutral ? " or give " : "", neutral);
}

static bool
same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edit distance without case, swapped neighbours being one slip; SIZE_MAX when a name is too long to be one. */
static size_t
distance(const char *a, size_t an, const char *b, size_t bn)
{
	size_t rows[3][TENSOR_NAME_MAX + 1], *above = rows[0], *last = rows[1], *row = rows[2];

	if (an > TENSOR_NAME_MAX || bn > TENSOR_NAME_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= bn; j++)
		row[j] = j;
	for (size_t i = 1; i <= an; i++) {
		size_t *spare = above;

		above = last;
		last = row;
		row = spare;
		row[0] = i;
		for (size_t j = 1; j <= bn; j++) {
			size_t d = last[j - 1] + !same(a[i - 1], b[j - 1]);

			if (last[j] + 1 < d)
				d = last[j] + 1;
			if (row[j - 1] + 1 < d)
				d = row[j - 1] + 1;
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) &&
			    above[j - 2] + 1 < d)
				d = above[j - 2] + 1;
			row[j] = d;
		}
	}
	return row[bn];
}

/* Does the shorter stand in the longer, as "scale" in "softmax_scale"? */
static bool
contains(const char *a, size_t an, const char *b, size_t bn)
{
	const char *big = an > bn ? a : b, *small = an > bn ? b : a;
	size_t big_n = an > bn ? an : bn, small_n = an > bn ? bn : an;

	return small_n >= 4 && memmem(big, big_n, small, small_n) != NULL;
}

const char *
op_nearest(const char *name, size_t len, const char *const *names, size_t count)
{
	const char *best = NULL;
	size_t best_d = SIZE_MAX;

	for (size_t i = 0; i < count; i++) {
		size_t n, shorter, d;

		if (!names[i])
			continue;
		n = strlen(names[i]);
		shorter = n < len ? n : len;
		d = distance(name, len, names[i], n);
		/* A third of the letters may be wrong; a part of the name counts as just within that. */
		if (d == SIZE_MAX || d > shorter / 3 + (shorter < 3)) {
			if (d == SIZE_MAX || !contains(name, len, names[i], n))
				continue;
			d = TENSOR_NAME_MAX;
		}
		if (d < best_d) {
			best_d = d;
			best = names[i];
		}
	}
	return best;
}

/* An alias found near is told as it was written; both work. */
static const char *
nearest_alias(const char *aliases, const char *name, size_t len, char *buf, size_t size)
{
	while (aliases && *aliases) {
		size_t n = strcspn(aliases, "|");
		const char *one = buf;

		if (n < size) {
			memcpy(buf, aliases, n);
			buf[n] = '\0';
			if (op_nearest(name, len, &one, 1))
				return buf;
		}
		aliases += n + (aliases[n] == '|');
	}
	return NULL;
}

int
op_param_unknown(const struct op *op, const char *name, size_t len, const char *const *more, size_t n_more,
		 struct err *e)
{
	const char *names[OP_PARAMS_MAX] = {NULL};
	const char *near, *where = "";
	size_t n = 0;
	char found[CLIP], alias[TENSOR_NAME_MAX];
	int t = op_tensor_find(op, name, len);

	text_clip(found, sizeof found, name, len);
	if (t >= 0)
		return err_param(e, ERR_UNKNOWN_PARAMETER, found, "", "", "%s is %s of %s, not a parameter", found,
				 op->tensors[t].role == OP_IN ? "an input tensor" : "an output", op->name);
	for (; op->params[n].name; n++)
		names[n] = op->params[n].name;
	near = op_nearest(name, len, names, n);
	if (!near)
		near = op_nearest(name, len, more, n_more);
	for (size_t i = 0; !near && i < n; i++)
		near = nearest_alias(op->params[i].aliases, name, len, alias, sizeof alias);
	for (const struct op_refused *r = op->refused; !near && r && r->name; r++) {
		near = op_nearest(name, len, &r->name, 1);
		where = near ? ", which AITER has but this service does not offer" : "";
	}
	if (near)
		return err_param(e, ERR_UNKNOWN_PARAMETER, found, found, near,
				 "%s has no parameter %s: did you mean %s%s?", op->name, found, near, where);
	return err_param(e, ERR_UNKNOWN_PARAMETER, found, found, "",
			 "%s has no parameter %s; GET /v1/ops/%s lists them", op->name, found, op->name);
}

int
op_input_unknown(const struct op *op, const char *name, size_t len, struct err *e)
{
	const char *names[OP_TENSORS_MAX] = {NULL};
	size_t n = 0;
	const char *near;
	char found[CLIP], list[200], alias[TENSOR_NAME_MAX];
	size_t used = 0;
	int t = op_tensor_find(op, name, len);

	text_clip(found, sizeof found, name, len);
	list[0] = '\0';
	for (int i = 0; op->tensors[i].name; i++) {
		int w;

		if (op->tensors[i].role != OP_IN)
			continue;
		names[n++] = op->tensors[i].name;
		if (used >= sizeof list)
			continue;
		w = snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", op->tensors[i].name);
		used += w > 0 ? (size_t)w : 0;
	}
	if (t >= 0)
		return err_input(e, ERR_UNKNOWN_INPUT, found, found, list, "%s is an output of %s: its inputs are %s",
				 found, op->name, list);
	if (op_param_find(op, name, len) >= 0)
		return err_input(e, ERR_UNKNOWN_INPUT, found, found, list,
				 "%s is a parameter of %s, not a tensor: its inputs are %s", found, op->name, list);
	for (const struct op_refused *r = op->refused; r && r->name; r++)
		if (strlen(r->name) == len && !memcmp(r->name, name, len))
			return err_input(e, ERR_UNSUPPORTED_PARAMETER, r->name, found, "",
					 "%s: %s; the inputs of %s are %s", r->name, r->help, op->name, list);
	near = op_nearest(name, len, names, n);
	for (int i = 0; !near && op->tensors[i].name; i++)
		near = nearest_alias(op->tensors[i].aliases, name, len, alias, sizeof alias);
	if (near)
		return err_input(e, ERR_UNKNOWN_INPUT, found, found, list,
				 "%s has no input %s: did you mean %s? Its inputs are %s", op->name, found, near, list);
	return err_input(e, ERR_UNKNOWN_INPUT, found, found, list, "%s has no input %s: its inputs are %s", op->name,
			 found, list);
}
