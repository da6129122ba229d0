/*
 * json_number.c: JSON lists of numbers straight into tensors, checked against the shape on the way.
 * Called by the JSON and OIP decoders; owns nothing. decimal.h does the numbers themselves.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/decimal.h"
#include "codec/json.h"

#define INLINE DECIMAL_INLINE

/* Filling a tensor from a list. */
struct fill {
	const char *begin, *p, *end;
	struct tensor *t;
	const char *name;
	struct err *e;
	int64_t n, room;
	bool guessed; /* the shape is that of the list's first elements: nobody gave one */
};

/* What stands at p, for a message. */
static const char *
excerpt(const struct fill *f, char *buf, size_t size)
{
	size_t n = 0, left = (size_t)(f->end - f->p);

	while (n < left && n + 1 < size && f->p[n] > ' ' && f->p[n] < 127 && (n == 0 || !strchr(",]", f->p[n]))) {
		buf[n] = f->p[n];
		n++;
	}
	buf[n] = '\0';
	return buf;
}

/* Python's json.dumps writes NaN, Infinity and -Infinity, which are no JSON. */
static bool
is_python_number(const char *text)
{
	return strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0;
}

static int
bad_value(const struct fill *f, const char *wanted)
{
	char found[32];

	if (f->p < f->end && *f->p == ']')
		return err_input(f->e, ERR_MALFORMED_BODY, f->name, "a comma before ]", "an element, or no comma",
				 "input %s: its data has a comma before ] (after %" PRId64
				 " elements), where JSON wants another element",
				 f->name, f->n);
	excerpt(f, found, sizeof(found));
	if (is_python_number(found) && dtype_info(f->t->dtype)->is_float)
		return err_input(f->e, ERR_MALFORMED_BODY, f->name, found, wanted,
				 "input %s: element %" PRId64
				 " of its data is %s, and JSON has no such number; the string \"%s\" is taken",
				 f->name, f->n, found, found);
	return err_input(f->e, ERR_MALFORMED_BODY, f->name, found, wanted,
			 "input %s: element %" PRId64 " of its data is %s; %s is wanted", f->name, f->n, found, wanted);
}

static int
bad_syntax(const struct fill *f)
{
	char found[32];

	if (f->p == f->end)
		return err_input(f->e, ERR_MALFORMED_BODY, f->name, "the end of the text", "a list",
				 "input %s: its data is no complete list", f->name);
	excerpt(f, found, sizeof(found));
	return err_input(f->e, ERR_MALFORMED_BODY, f->name, found, "a comma or ]",
			 "input %s: its data has %s after %" PRId64 " elements, where a comma or ] belongs", f->name,
			 found, f->n);
}

/* The first `levels` of the places, as in [1][0]. */
static const char *
place_text(const int64_t *place, int levels, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = 0; i < levels && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "[%" PRId64 "]", place[i]);
	return buf;
}

static int
bad_row(const struct fill *f, const int64_t *place, int levels, const char *found, const char *wanted)
{
	char where[TENSOR_RANK_MAX * 22 + 1];

	return err_input(
		f->e, ERR_MALFORMED_BODY, f->name, found, wanted,
		"input %s: data%s is %s, but %s is wanted: all lists of a level must be alike where no shape is "
		"given",
		f->name, place_text(place, levels, where, sizeof(where)), found, wanted);
}

/*
 * Where a nested list, whose first elements gave the shape, departs from it. Its brackets match and its strings are
 * closed, or else it would not be here. 0 when it does not depart.
 */
static int
ragged(const struct fill *f)
{
	const struct tensor *t = f->t;
	int64_t next[TENSOR_RANK_MAX + 1] = {0}, place[TENSOR_RANK_MAX] = {0}; /* next: how many items were seen */
	char found[48], wanted[48];
	int depth = 0;

	for (const char *p = f->begin; p < f->end; p++) {
		if (strchr(" \t\r\n,", *p))
			continue;
		if (*p == ']') {
			if (next[depth] != t->shape[depth - 1]) {
				snprintf(found, sizeof(found), "a list of %" PRId64, next[depth]);
				snprintf(wanted, sizeof(wanted), "one of %" PRId64, t->shape[depth - 1]);
				return bad_row(f, place, depth - 1, found, wanted);
			}
			if (--depth == 0)
				return 0;
			continue;
		}
		if (depth > 0)
			place[depth - 1] = next[depth]++;
		if (*p == '[') {
			if (depth == t->rank)
				return bad_row(f, place, depth, "a list", "a value");
			next[++depth] = 0;
			continue;
		}
		if (depth < t->rank)
			return bad_row(f, place, depth, "no list", "a list");
		if (*p == '"')
			while (++p < f->end && *p != '"')
				p += *p == '\\';
		while (f->end - p > 1 && !strchr(" \t\r\n,[]", p[1]))
			p++;
	}
	return 0;
}

static int
bad_shape(const struct fill *f, const char *what)
{
	char shape[160];

	if (f->guessed && ragged(f) < 0)
		return -1;
	tensor_shape_text(f->t, shape, sizeof(shape));
	return err_input(f->e, ERR_MALFORMED_BODY, f->name, what, shape,
			 "input %s: its data %s, but its shape is %s (%" PRId64 " elements)", f->name, what, shape,
			 f->room);
}

/* The value that a string in quotes at p spells: NaN and infinities. */
static int
special(struct fill *f, double *v)
{
	static const struct {
		const char *text;
		double v;
	} names[] = {{"\"NaN\"", NAN}, {"\"Infinity\"", INFINITY}, {"\"-Infinity\"", -INFINITY}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i].text);

		if ((size_t)(f->end - f->p) >= n && memcmp(f->p, names[i].text, n) == 0) {
			f->p += n;
			*v = names[i].v;
			return 0;
		}
	}
	return bad_value(f, "a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
}

/* A decimal beyond the dtype's largest value: never an infinity that nobody wrote. */
static int
too_large(const struct fill *f, enum dtype dt)
{
	char found[32], wanted[64];

	excerpt(f, found, sizeof(found));
	snprintf(wanted, sizeof(wanted), "a value in %s's range", dtype_info(dt)->name);
	return err_input(f->e, ERR_MALFORMED_BODY, f->name, found, wanted,
			 "input %s: element %" PRId64 " of its data is %s, too large for %s; write \"%sInfinity\" if "
			 "infinity is meant",
			 f->name, f->n, found, dtype_info(dt)->name, *f->p == '-' ? "-" : "");
}

INLINE int
fill_float(struct fill *f, enum dtype dt)
{
	struct decimal d;
	double v = 0;

	if (f->p < f->end && *f->p == '"') {
		if (special(f, &v) < 0)
			return -1;
		tensor_put(f->t, f->n, v);
		return 0;
	}
	const char *next = decimal_scan(f->p, f->end, &d);
	if (!next)
		return bad_value(f, "a number");
	switch (dt) {
	case DT_FP32: {
		float v32 = decimal_float(&d);

		if (isinf(v32))
			return too_large(f, dt);
		((float *)f->t->data)[f->n] = v32;
		break;
	}
	case DT_FP64:
		v = decimal_double(&d);
		if (isinf(v))
			return too_large(f, dt);
		((double *)f->t->data)[f->n] = v;
		break;
	case DT_FP16: {
		uint16_t bits = fp16_from_double(decimal_double(&d));

		if ((bits & 0x7fff) == 0x7c00)
			return too_large(f, dt);
		((uint16_t *)f->t->data)[f->n] = bits;
		break;
	}
	default: {
		uint16_t bits = bf16_from_double(decimal_double(&d));

		if ((bits & 0x7fff) == 0x7f80)
			return too_large(f, dt);
		((uint16_t *)f->t->data)[f->n] = bits;
	}
	}
	f->p = next;
	return 0;
}

/* An integer of the decimal, exactly; false when it is none or does not fit 64 bits. */
static bool
to_int(const struct decimal *d, int64_t *v)
{
	uint64_t w = d->w;

	if (d->q != 0 || d->cut) { /* 1.0, 1e3 */
		double f = decimal_double(d);

		if (!(fabs(f) <= 0x1p53) || f != floor(f))
			return false;
		*v = (int64_t)f;
		return true;
	}
	if (w > (uint64_t)INT64_MAX + d->negative)
		return false;
	*v = d->negative ? (int64_t)(0 - w) : (int64_t)w;
	return true;
}

static int
fill_int(struct fill *f, enum dtype dt)
{
	struct decimal d;
	const char *next = decimal_scan(f->p, f->end, &d);
	int64_t v;

	if (!next || !to_int(&d, &v))
		return bad_value(f, "a 64-bit integer");
	switch (dt) {
	case DT_INT64:
		((int64_t *)f->t->data)[f->n] = v;
		break;
	case DT_INT32:
		if (v < INT32_MIN || v > INT32_MAX)
			return bad_value(f, "an int32, -2147483648 to 2147483647");
		((int32_t *)f->t->data)[f->n] = (int32_t)v;
		break;
	case DT_INT8:
		if (v < INT8_MIN || v > INT8_MAX)
			return bad_value(f, "an int8, -128 to 127");
		((int8_t *)f->t->data)[f->n] = (int8_t)v;
		break;
	default:
		if (v < 0 || v > UINT8_MAX)
			return bad_value(f, "a uint8, 0 to 255");
		((uint8_t *)f->t->data)[f->n] = (uint8_t)v;
	}
	f->p = next;
	return 0;
}

static int
fill_bool(struct fill *f)
{
	static const char *const words[] = {"false", "true", "0", "1"};
	uint8_t *out = f->t->data;

	for (unsigned i = 0; i < 4; i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(f->end - f->p) >= n && memcmp(f->p, words[i], n) == 0) {
			f->p += n;
			out[f->n] = (uint8_t)(i & 1);
			return 0;
		}
	}
	return bad_value(f, "true or false");
}

INLINE int
fill_value(struct fill *f, enum dtype dt)
{
	switch (dt) {
	case DT_FP32:
	case DT_FP64:
	case DT_FP16:
	case DT_BF16:
		return fill_float(f, dt);
	case DT_BOOL:
		return fill_bool(f);
	default:
		return fill_int(f, dt);
	}
}

INLINE void
skip_space(struct fill *f)
{
	while (f->p < f->end && (*f->p == ' ' || *f->p == '\n' || *f->p == '\t' || *f->p == '\r'))
		f->p++;
}

INLINE int
fill_list(struct fill *f, enum dtype dt)
{
	int64_t count[TENSOR_RANK_MAX + 1] = {0};
	int depth = 0, leaf = 1; /* values stand in this many brackets: 1 (flat), or the rank once an inner [ is seen */

	for (;;) {
		skip_space(f);
		if (f->p == f->end)
			return bad_syntax(f);
		if (*f->p == '[') {
			if (depth == 1 && f->n == 0 && count[1] == 0 && f->t->rank > 1)
				leaf = f->t->rank;
			if (++depth > leaf)
				return bad_shape(f, leaf == 1 ? "is nested" : "is nested deeper than its rank");
			count[depth] = 0;
			f->p++;
			skip_space(f);
			if (f->p == f->end || *f->p != ']')
				continue;
		} else {
			if (depth != leaf || f->n == f->room) {
				if (*f->p == ']' || *f->p == ',')
					return bad_value(f, "a value");
				return bad_shape(f, depth != leaf ? "has values beside lists" : "has more elements");
			}
			if (fill_value(f, dt) < 0)
				return -1;
			f->n++;
			count[depth]++;
			skip_space(f);
		}
		while (f->p < f->end && *f->p == ']') {
			if (leaf > 1 && count[depth] != f->t->shape[depth - 1])
				return bad_shape(f, "is nested otherwise");
			f->p++;
			if (--depth == 0)
				return 0;
			count[depth]++;
			skip_space(f);
		}
		if (f->p == f->end || *f->p != ',')
			return bad_syntax(f);
		f->p++;
	}
}

static int
fill_tensor(struct json_span span, struct tensor *t, const char *name, bool guessed, struct err *e)
{
	struct fill f = {
		.begin = span.begin, .p = span.begin, .end = span.end, .t = t, .name = name, .e = e, .guessed = guessed};

	f.room = tensor_elements(t);
	if (dtype_info(t->dtype)->is_float && dtype_info(t->dtype)->size == 1)
		return err_input(e, ERR_INVALID_DTYPE, name, dtype_info(t->dtype)->name, "base64",
				 "input %s: %s cannot be given as numbers; send its bytes as base64 or in a binary form",
				 name, dtype_info(t->dtype)->name);
	skip_space(&f);
	if (t->rank == 0 && f.p < f.end && *f.p != '[') {
		if (fill_value(&f, t->dtype) < 0)
			return -1;
		f.n++;
	} else if (f.p == f.end || *f.p != '[') {
		return err_input(e, ERR_MALFORMED_BODY, name, "no list", "a list", "input %s: its data must be a list",
				 name);
	} else {
		int rc;

		/* one copy of the loop for the types that are worth it */
		if (t->dtype == DT_FP32)
			rc = fill_list(&f, DT_FP32);
		else if (t->dtype == DT_FP64)
			rc = fill_list(&f, DT_FP64);
		else if (t->dtype == DT_BF16)
			rc = fill_list(&f, DT_BF16);
		else
			rc = fill_list(&f, t->dtype);
		if (rc < 0)
			return -1;
	}
	skip_space(&f);
	if (f.p != f.end)
		return bad_syntax(&f);
	if (f.n != f.room) {
		char found[48];

		snprintf(found, sizeof(found), "has %" PRId64 " element%s", f.n, f.n == 1 ? "" : "s");
		return bad_shape(&f, found);
	}
	return 0;
}

int
json_numbers(struct json_span span, struct tensor *t, const char *name, struct err *e)
{
	return fill_tensor(span, t, name, false, e);
}

int
json_nested_numbers(struct json_span span, struct tensor *t, const char *name, struct err *e)
{
	return fill_tensor(span, t, name, true, e);
}

int
json_nesting(struct json_span span, int64_t shape[TENSOR_RANK_MAX])
{
	bool closed[TENSOR_RANK_MAX] = {false}; /* the first list of this level has ended: its length is known */
	int depth = 0, rank = 0;

	for (const char *p = span.begin; p < span.end; p++) {
		if (*p == '[') {
			if (depth == TENSOR_RANK_MAX)
				return -1;
			if (depth == rank)
				shape[rank++] = 0;
			depth++;
		} else if (*p == ']') {
			if (depth == 0)
				return -1;
			closed[--depth] = true;
			if (depth == 0)
				break;
		} else if (depth > 0 && *p == ',') {
			if (!closed[depth - 1])
				shape[depth - 1]++;
			continue;
		} else if (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r' || depth == 0) {
			continue;
		}
		/* the first element has no comma before it */
		int level = *p == '[' ? depth - 2 : *p == ']' ? -1 : depth - 1;
		if (level >= 0 && !closed[level] && shape[level] == 0)
			shape[level] = 1;
	}
	return rank == 0 || depth != 0 ? -1 : rank;
}
