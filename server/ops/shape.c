/*
 * shape.c: reading shape rules and unifying tensors with them. Called by op_bind(); owns nothing.
 */
#include "ops/shape.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHAPE_TEXT 192 /* enough for 8 lengths of 19 digits */

static bool
in_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* The dimension whose name the text begins with; *end is behind it. -1: none. */
static int
dim_index(const struct op *op, const char *text, const char **end)
{
	for (int i = 0; op->dims[i].name; i++) {
		const char *name = op->dims[i].name, *p = text;

		for (; *name && *name == *p; p++)
			name++;
		*end = p;
		if (*name == '\0' && !in_name(*p))
			return i;
	}
	return -1;
}

void
shape_rule_read(const struct op *op, const char *text, struct shape_rule *r)
{
	const char *p = text;

	r->n = 0;
	while (*p) {
		struct shape_dim *d = &r->d[r->n];
		const char *end = p;

		assert(r->n < TENSOR_RANK_MAX);
		d->length = 0;
		d->run = false;
		if (*p >= '0' && *p <= '9') {
			char *after;

			d->dim = -1;
			d->length = strtoll(p, &after, 10);
			end = after;
		} else {
			d->dim = dim_index(op, p, &end);
			assert(d->dim >= 0 && "every name of a shape rule stands in the operator's dims");
			if (*end == '+') {
				char *after;

				d->length = strtoll(end + 1, &after, 10);
				end = after;
			} else if (end[0] == '.' && end[1] == '.') {
				assert(r->n == 0 && "a run stands first");
				d->run = true;
				end += 2;
			}
		}
		r->n++;
		assert(*end == ' ' || *end == '\0');
		p = *end ? end + 1 : end;
	}
}

void
shape_binding_init(struct shape_binding *b)
{
	memset(b, 0, sizeof *b);
	for (int i = 0; i < OP_DIMS_MAX; i++)
		b->by[i] = -1;
}

/* "[2, 512, Hk, D]": numbers where a name is bound, names where not. */
static void
wanted_text(const struct op *op, const struct shape_rule *r, const struct shape_binding *b, char *buf, size_t size)
{
	size_t n = (size_t)snprintf(buf, size, "[");

	for (int i = 0; i < r->n && n < size; i++) {
		const struct shape_dim *d = &r->d[i];
		const char *sep = i ? ", " : "";
		int w;

		if (d->dim < 0)
			w = snprintf(buf + n, size - n, "%s%" PRId64, sep, d->length);
		else if (d->run)
			w = snprintf(buf + n, size - n, "%s%s..", sep, op->dims[d->dim].name);
		else if (b->by[d->dim] >= 0)
			w = snprintf(buf + n, size - n, "%s%" PRId64, sep, b->length[d->dim] + d->length);
		else if (d->length)
			w = snprintf(buf + n, size - n, "%s%s+%" PRId64, sep, op->dims[d->dim].name, d->length);
		else
			w = snprintf(buf + n, size - n, "%s%s", sep, op->dims[d->dim].name);
		n += w > 0 ? (size_t)w : 0;
	}
	if (n < size)
		snprintf(buf + n, size - n, "]");
}

static int
wrong_rank(const struct op *op, const struct tensor *t, const char *name, const char *text, const struct shape_rule *r,
	   struct err *e)
{
	char found[SHAPE_TEXT], wanted[200], words[320];
	int fixed = r->n > 0 && r->d[0].run ? r->n - 1 : r->n;

	tensor_shape_text(t, found, sizeof found);
	op_shape_words(op, text, words, sizeof words);
	snprintf(wanted, sizeof wanted, "%s%d dimensions: %s", fixed < r->n ? "at least " : "", fixed, text);
	return err_input(e, ERR_INVALID_SHAPE, name, found, wanted, "%s %s has %d dimension%s, wanted %s%d: %s", name,
			 found, t->rank, t->rank == 1 ? "" : "s", fixed < r->n ? "at least " : "", fixed, words);
}

/* "; q is [2, 512, 8, 64]": the other inputs, since the mistake may lie in what they all should have been. */
static void
others_text(const struct op *op, const struct op_call *c, int a, int b, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = 0; op->tensors[i].name && n < size; i++) {
		char shape[SHAPE_TEXT];
		int w;

		if (i == a || i == b || op->tensors[i].role != OP_IN || c->tensors[i].dtype == DT_NONE)
			continue;
		w = snprintf(buf + n, size - n, "%s%s is %s", n ? ", " : "; ", op->tensors[i].name,
			     tensor_shape_text(&c->tensors[i], shape, sizeof shape));
		n += w > 0 ? (size_t)w : 0;
	}
}

/* Dimension `at` of tensor i is the rule's number k, whose name already stands for another length. */
static int
disagree(const struct op *op, const struct op_call *c, int i, int at, const struct shape_rule *r, int k,
	 const struct shape_binding *b, struct err *e)
{
	const struct shape_dim *d = &r->d[k];
	const struct op_dim_info *info = &op->dims[d->dim];
	const struct tensor *t = &c->tensors[i], *first = &c->tensors[b->by[d->dim]];
	const char *name = op->tensors[i].name, *first_name = op->tensors[b->by[d->dim]].name;
	char found[SHAPE_TEXT], first_text[SHAPE_TEXT], wanted[SHAPE_TEXT], others[SHAPE_TEXT];

	tensor_shape_text(t, found, sizeof found);
	tensor_shape_text(first, first_text, sizeof first_text);
	wanted_text(op, r, b, wanted, sizeof wanted);
	others_text(op, c, b->by[d->dim], i, others, sizeof others);
	return err_input(e, ERR_INVALID_SHAPE, name, found, wanted,
			 "%s and %s disagree on the %s (%s): %s %s has %" PRId64 ", %s %s has %" PRId64 "%s",
			 first_name, name, info->help, info->name, first_name, first_text, b->length[d->dim], name,
			 found, t->shape[at] - d->length, others);
}

static int
unify_run(const struct op *op, const struct op_call *c, int i, int dim, int rank, struct shape_binding *b, struct err *e)
{
	const struct tensor *t = &c->tensors[i];
	char found[SHAPE_TEXT], other[SHAPE_TEXT];
	struct tensor head = *t;
	bool same;

	head.rank = (uint8_t)rank;
	if (b->by[dim] < 0) {
		b->by[dim] = i;
		b->length[dim] = tensor_elements(&head);
		b->run_rank = rank;
		memcpy(b->run, t->shape, (size_t)rank * sizeof b->run[0]);
		return 0;
	}
	same = rank == b->run_rank && !memcmp(b->run, t->shape, (size_t)rank * sizeof b->run[0]);
	if (same)
		return 0;
	tensor_shape_text(t, found, sizeof found);
	tensor_shape_text(&c->tensors[b->by[dim]], other, sizeof other);
	return err_input(e, ERR_INVALID_SHAPE, op->tensors[i].name, found, other,
			 "%s %s and %s %s must have the same leading dimensions", op->tensors[b->by[dim]].name, other,
			 op->tensors[i].name, found);
}

int
shape_unify(const struct op *op, const struct op_call *c, int i, struct shape_binding *b, struct err *e)
{
	const char *text = op_shape_rule(op, c, i), *name = op->tensors[i].name;
	const struct tensor *t = &c->tensors[i];
	char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
	struct shape_rule r;
	int at = 0, run_rank = 0, first = 0;

	shape_rule_read(op, text, &r);
	if (r.n > 0 && r.d[0].run) {
		if (t->rank < r.n - 1)
			return wrong_rank(op, t, name, text, &r, e);
		run_rank = t->rank - (r.n - 1);
		if (unify_run(op, c, i, r.d[0].dim, run_rank, b, e))
			return -1;
		first = 1;
		at = run_rank;
	} else if (t->rank != r.n) {
		return wrong_rank(op, t, name, text, &r, e);
	}
	for (int k = first; k < r.n; k++, at++) {
		const struct shape_dim *d = &r.d[k];
		int64_t length = t->shape[at];

		if (d->dim < 0 ? length != d->length : length < d->length) {
			tensor_shape_text(t, found, sizeof found);
			wanted_text(op, &r, b, wanted, sizeof wanted);
			return err_input(e, ERR_INVALID_SHAPE, name, found, wanted,
					 "%s %s has %" PRId64 " at dimension %d, wanted %s%" PRId64, name, found,
					 length, at, d->dim < 0 ? "" : "at least ", d->length);
		}
		if (d->dim < 0)
			continue;
		if (b->by[d->dim] < 0) {
			b->by[d->dim] = i;
			b->place[d->dim] = at;
			b->length[d->dim] = length - d->length;
		} else if (b->length[d->dim] != length - d->length) {
			return disagree(op, c, i, at, &r, k, b, e);
		}
	}
	return 0;
}

int
shape_check_bounds(const struct op *op, const struct op_call *c, const struct shape_binding *b, struct err *e)
{
	char found[SHAPE_TEXT], wanted[64];

	for (int k = 0; op->dims[k].name; k++) {
		const struct op_dim_info *info = &op->dims[k];
		const char *name;

		if (b->by[k] < 0 || (b->length[k] >= info->min && (!info->max || b->length[k] <= info->max)))
			continue;
		name = op->tensors[b->by[k]].name;
		tensor_shape_text(&c->tensors[b->by[k]], found, sizeof found);
		if (info->max)
			snprintf(wanted, sizeof wanted, "between %" PRId64 " and %" PRId64, info->min, info->max);
		else
			snprintf(wanted, sizeof wanted, "at least %" PRId64, info->min);
		return err_input(e, ERR_INVALID_SHAPE, name, found, wanted,
				 "the %s (%s) must be %s, and is %" PRId64 " (dimension %d of %s %s)", info->help,
				 info->name, wanted, b->length[k], b->place[k], name, found);
	}
	return 0;
}

int
shape_make(const struct op *op, const char *rule, const struct shape_binding *b, int64_t *shape)
{
	struct shape_rule r;
	int rank = 0;

	shape_rule_read(op, rule, &r);
	for (int i = 0; i < r.n; i++) {
		const struct shape_dim *d = &r.d[i];

		if (d->run) {
			memcpy(shape, b->run, (size_t)b->run_rank * sizeof shape[0]);
			rank = b->run_rank;
			continue;
		}
		if (rank == TENSOR_RANK_MAX)
			return TENSOR_RANK_MAX + 1;
		assert(d->dim < 0 || b->by[d->dim] >= 0);
		shape[rank++] = d->dim < 0 ? d->length : b->length[d->dim] + d->length;
	}
	return rank;
}

char *
op_shape_words(const struct op *op, const char *rule, char *buf, size_t size)
{
	struct shape_rule r;
	size_t n;

	shape_rule_read(op, rule, &r);
	n = (size_t)snprintf(buf, size, "[");
	for (int i = 0; i < r.n && n < size; i++) {
		const struct shape_dim *d = &r.d[i];
		const char *sep = i ? ", " : "";
		int w;

		if (d->dim < 0)
			w = snprintf(buf + n, size - n, "%s%" PRId64, sep, d->length);
		else if (d->length)
			w = snprintf(buf + n, size - n, "%s%s + %" PRId64, sep, op->dims[d->dim].help, d->length);
		else
			w = snprintf(buf + n, size - n, "%s%s", sep, op->dims[d->dim].help);
		n += w > 0 ? (size_t)w : 0;
	}
	if (n < size)
		snprintf(buf + n, size - n, "]");
	return buf;
}
