/*
 * op.c: the operator table, finding things in it, and op_bind(), which decides whether a call's tensors fit an
 * operator. Called in the front (validation, catalogue) and in workers; nothing here owns memory.
 */
#include "ops/op.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "ops/shape.h"

#define OP(name) extern const struct op op_##name;
#include "ops/ops.def"
#undef OP

static const struct op *const table[] = {
#define OP(name) &op_##name,
#include "ops/ops.def"
#undef OP
};

uint32_t
op_count(void)
{
	return (uint32_t)(sizeof table / sizeof table[0]);
}

const struct op *
op_get(uint32_t index)
{
	assert(index < op_count());
	return table[index];
}

/* Names are a few letters long, and looked up several times for each request: by hand, without calls. */
static bool
starts_with(const char *text, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] != name[i] || text[i] == '\0')
			return false;
	return true;
}

static bool
same(const char *known, const char *name, size_t len)
{
	return starts_with(known, name, len) && known[len] == '\0';
}

/* Is `name` one of "a|b|c"? A client's name may hold a bar itself. */
static bool
listed(const char *list, const char *name, size_t len)
{
	while (list && *list) {
		if (starts_with(list, name, len) && (list[len] == '|' || list[len] == '\0'))
			return !memchr(name, '|', len);
		while (*list && *list++ != '|')
			;
	}
	return false;
}

bool
op_name_is(const char *known, const char *aliases, const char *name, size_t len)
{
	return len > 0 && (same(known, name, len) || listed(aliases, name, len));
}

const struct op *
op_find(const char *name, size_t len, uint32_t *index)
{
	for (uint32_t i = 0; i < op_count(); i++) {
		if (!same(table[i]->name, name, len))
			continue;
		if (index)
			*index = i;
		return table[i];
	}
	return NULL;
}

char *
op_list_words(const char *list, char *buf, size_t size)
{
	size_t at = 0;

	assert(size > 0);
	buf[0] = '\0';
	while (*list && at < size) {
		size_t n = strcspn(list, "|");
		const char *next = list + n + (list[n] == '|');
		const char *sep = at == 0 ? "" : *next ? ", " : " or ";
		int w = snprintf(buf + at, size - at, "%s%.*s", sep, (int)n, list);

		at += w > 0 ? (size_t)w : 0;
		list = next;
	}
	return buf;
}

int
op_tensor_find(const struct op *op, const char *name, size_t len)
{
	for (int i = 0; op->tensors[i].name; i++)
		if (same(op->tensors[i].name, name, len))
			return i;
	for (int i = 0; op->tensors[i].name; i++)
		if (listed(op->tensors[i].aliases, name, len))
			return i;
	return -1;
}

int
op_param_find(const struct op *op, const char *name, size_t len)
{
	for (int i = 0; op->params[i].name; i++)
		if (same(op->params[i].name, name, len) || listed(op->params[i].aliases, name, len))
			return i;
	return -1;
}

int
op_tensor_count(const struct op *op)
{
	int n = 0;

	while (op->tensors[n].name)
		n++;
	return n;
}

int
op_param_count(const struct op *op)
{
	int n = 0;

	while (op->params[n].name)
		n++;
	return n;
}

int
op_dim_count(const struct op *op)
{
	int n = 0;

	while (op->dims[n].name)
		n++;
	return n;
}

const char *
op_dim_name(const struct op *op, int i)
{
	return i >= 0 && i < op_dim_count(op) ? op->dims[i].name : NULL;
}

int64_t
op_dim(const struct op_call *c, const char *name)
{
	const struct op *op = op_get(c->op);
	size_t n = strlen(name);

	for (int i = 0; op->dims[i].name; i++)
		if (same(op->dims[i].name, name, n))
			return c->dims[i];
	return -1;
}

static int
layout_param(const struct op *op)
{
	int i = op->layout ? op_param_find(op, op->layout, strlen(op->layout)) : -1;

	assert(!op->layout || i >= 0);
	return i;
}

const char *
op_shape_rule(const struct op *op, const struct op_call *c, int i)
{
	int layout = layout_param(op);

	if (layout >= 0 && c->params[layout].i[0] != 0 && op->tensors[i].shape_alt)
		return op->tensors[i].shape_alt;
	return op->tensors[i].shape;
}

static int
check_presence(const struct op *op, const struct op_call *c, struct err *e)
{
	char rule[256], dtypes[96];

	for (int i = 0; op->tensors[i].name; i++) {
		const struct op_tensor *t = &op->tensors[i];

		if (t->role != OP_IN || t->optional || c->tensors[i].dtype != DT_NONE)
			continue;
		op_shape_words(op, op_shape_rule(op, c, i), rule, sizeof rule);
		return err_input(e, ERR_MISSING_INPUT, t->name, "nothing", op_shape_rule(op, c, i),
				 "%s needs the input %s: %s %s", op->name, t->name,
				 t->dtypes[0] == '=' ? "a tensor" : op_list_words(t->dtypes, dtypes, sizeof dtypes),
				 rule);
	}
	return 0;
}

static bool
is_fp8(enum dtype dt)
{
	return dt == DT_FP8_E4M3 || dt == DT_FP8_E4M3FNUZ || dt == DT_FP8_E5M2;
}

/* "; " and the operator's sentence about fp8, where it applies. */
static const char *
fp8_note(const struct op *op, enum dtype a, enum dtype b, const char **sep)
{
	bool applies = op->fp8_note && (is_fp8(a) || is_fp8(b));

	*sep = applies ? ". " : "";
	return applies ? op->fp8_note : "";
}

/* Input i says "=first" and differs: all that belong together are named with their dtypes. */
static int
mixed_dtypes(const struct op *op, const struct op_call *c, int i, int first, struct err *e)
{
	enum dtype found = (enum dtype)c->tensors[i].dtype, wanted = (enum dtype)c->tensors[first].dtype;
	const char *note, *sep;
	char list[256];
	size_t n = 0;

	list[0] = '\0';
	for (int k = 0; op->tensors[k].name && n < sizeof list; k++) {
		const struct op_tensor *t = &op->tensors[k];
		bool with = k == first || (t->dtypes[0] == '=' && !strcmp(t->dtypes + 1, op->tensors[first].name));
		int w;

		if (t->role != OP_IN || c->tensors[k].dtype == DT_NONE || !with)
			continue;
		w = snprintf(list + n, sizeof list - n, "%s%s is %s", n ? ", " : "", t->name,
			     dtype_info((enum dtype)c->tensors[k].dtype)->name);
		n += w > 0 ? (size_t)w : 0;
	}
	note = fp8_note(op, found, wanted, &sep);
	return err_input(e, ERR_INVALID_DTYPE, op->tensors[i].name, dtype_info(found)->name, dtype_info(wanted)->name,
			 "%s: they must all have the same dtype%s%s", list, sep, note);
}

static int
check_dtypes(const struct op *op, const struct op_call *c, struct err *e)
{
	for (int i = 0; op->tensors[i].name; i++) {
		const struct op_tensor *t = &op->tensors[i];
		enum dtype found = (enum dtype)c->tensors[i].dtype;
		const struct dtype_info *info = dtype_info(found);
		const char *note, *sep;
		char wanted[96], advice[80];

		if (t->role != OP_IN || found == DT_NONE)
			continue;
		if (t->dtypes[0] == '=') {
			int first = op_tensor_find(op, t->dtypes + 1, strlen(t->dtypes + 1));

			assert(first >= 0 && first < i);
			if (c->tensors[first].dtype != DT_NONE && c->tensors[first].dtype != found)
				return mixed_dtypes(op, c, i, first, e);
			continue;
		}
		if (listed(t->dtypes, info->name, strlen(info->name)))
			continue;
		note = fp8_note(op, found, found, &sep);
		op_list_words(t->dtypes, wanted, sizeof wanted);
		/* What numpy makes unless told otherwise. */
		if (found == DT_FP64) {
			bool fp32 = listed(t->dtypes, "fp32", 4);

			snprintf(advice, sizeof advice, "convert it first, with numpy: %.16s.astype(np.float%d)",
				 t->name, fp32 ? 32 : 16);
			sep = "; ";
			note = advice;
		}
		return err_input(e, ERR_INVALID_DTYPE, t->name, info->name, wanted, "%s is %s, wanted %s%s%s", t->name,
				 info->name, wanted, sep, note);
	}
	return 0;
}

/* Unify all inputs under the call's layout, bind its dims and let the operator check. */
static int
bind_inputs(const struct op *op, struct op_call *c, struct shape_binding *b, struct err *e)
{
	int n = op_dim_count(op);

	assert(n <= OP_DIMS_MAX);
	shape_binding_init(b);
	for (int i = 0; op->tensors[i].name; i++)
		if (op->tensors[i].role == OP_IN && c->tensors[i].dtype != DT_NONE && shape_unify(op, c, i, b, e))
			return -1;
	if (shape_check_bounds(op, c, b, e))
		return -1;
	memset(c->dims, 0, sizeof c->dims);
	for (int i = 0; i < n; i++)
		c->dims[i] = b->by[i] >= 0 ? b->length[i] : -1;
	return op->check ? op->check(c, e) : 0;
}

bool
op_other_layout_fits(const struct op *op, const struct op_call *c)
{
	int layout = layout_param(op);
	struct op_call other = *c;
	struct shape_binding b;

	if (layout < 0)
		return false;
	other.params[layout].i[0] = !c->params[layout].i[0];
	if (bind_inputs(op, &other, &b, NULL))
		return false;
	return !op->plausible || op->plausible(&other);
}

/* "bshd" from "bshd|bhsd" and 0. */
static size_t
choice(const char *choices, int64_t index, const char **name)
{
	while (index-- > 0)
		choices += strcspn(choices, "|") + 1;
	*name = choices;
	return strcspn(choices, "|");
}

static void
suggest_layout(const struct op *op, const struct op_call *c, struct err *e)
{
	int layout = layout_param(op);
	const struct op_param *p = &op->params[layout];
	const char *now, *other;
	size_t now_len = choice(p->choices, c->params[layout].i[0], &now);
	size_t other_len = choice(p->choices, !c->params[layout].i[0], &other);
	size_t n = strlen(e->msg);

	snprintf(e->msg + n, sizeof e->msg - n,
		 ". The shapes were read as %s=%.*s; with %s=%.*s they would fit, if that is what you meant", p->name,
		 (int)now_len, now, p->name, (int)other_len, other);
}

/* Outputs always made, and those asked for. */
static bool
is_wanted(const struct op *op, const struct op_call *c, const struct op_tensor *t)
{
	int asked;

	if (!t->optional)
		return true;
	asked = op_param_find(op, t->asked, strlen(t->asked));
	assert(asked >= 0);
	return c->params[asked].i[0] != 0;
}

static int
describe_outputs(const struct op *op, struct op_call *c, const struct shape_binding *b, struct err *e)
{
	for (int i = 0; op->tensors[i].name; i++) {
		const struct op_tensor *t = &op->tensors[i];
		int64_t shape[TENSOR_RANK_MAX];
		enum dtype dt;
		int rank;

		if (t->role != OP_OUT)
			continue;
		memset(&c->tensors[i], 0, sizeof c->tensors[i]);
		if (!is_wanted(op, c, t))
			continue;
		if (t->dtypes[0] == '=')
			dt = (enum dtype)c->tensors[op_tensor_find(op, t->dtypes + 1, strlen(t->dtypes + 1))].dtype;
		else
			dt = dtype_find(t->dtypes, strlen(t->dtypes));
		rank = shape_make(op, op_shape_rule(op, c, i), b, shape);
		if (tensor_describe(&c->tensors[i], t->name, dt, rank, shape, e))
			return -1;
	}
	return 0;
}

int
op_bind(const struct op *op, struct op_call *c, struct err *e)
{
	struct shape_binding b;
	struct err own;

	if (!e)
		e = &own;
	assert(op_tensor_count(op) <= OP_TENSORS_MAX && op_param_count(op) <= OP_PARAMS_MAX);
	if (check_presence(op, c, e) || check_dtypes(op, c, e))
		return -1;
	if (bind_inputs(op, c, &b, e)) {
		if (e->code == ERR_INVALID_SHAPE && op_other_layout_fits(op, c))
			suggest_layout(op, c, e);
		return -1;
	}
	return describe_outputs(op, c, &b, e);
}

double
op_bytes_moved(const struct op_call *c)
{
	double n = 0;

	for (int i = 0; i < OP_TENSORS_MAX; i++)
		if (c->tensors[i].dtype != DT_NONE)
			n += (double)c->tensors[i].bytes;
	return n;
}

const struct op_tolerance *
op_tolerance(const struct op *op, enum dtype dt)
{
	for (const struct op_tolerance *t = op->tolerances; t->dtype != DT_NONE; t++)
		if (t->dtype == dt)
			return t;
	return NULL;
}
