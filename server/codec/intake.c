/*
 * intake.c: the tensors and parameters of one request, whatever form its body has.
 * Called by the decoders, one after the other, and by the request when the body has ended.
 * Owns the texts; the tensors' memory belongs to the request's `struct mem`.
 */
#include "codec/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define PARAM_NAME_MAX 96
#define SHOWN 65 /* room for foreign text in messages */

static const char expected_prefix[] = "expected.";
static const char dtype_prefix[] = "dtype.";

void
intake_init(struct intake *in, const struct op *op, struct mem *mem, const struct intake_limits *limits)
{
	/* The lists are long, and begin empty: they need no clearing. */
	in->op = op;
	in->mem = mem;
	in->takes_expected = false;
	in->limits = *limits;
	in->kept = NULL;
	in->n_tensors = in->n_params = in->n_outputs = 0;
	in->binary_output_all = false;
	in->id = NULL;
	in->op_named[0] = '\0';
}

void
intake_fini(struct intake *in)
{
	for (int i = 0; i < in->n_params; i++)
		free(in->params[i].name);
	in->n_params = 0;
	in->n_tensors = 0;
	free(in->id);
	in->id = NULL;
}

/* An input's index in the operator's table, or -1. */
static int
input_index(const struct intake *in, const char *name, size_t len)
{
	int i = in->op ? op_tensor_find(in->op, name, len) : -1;

	return i >= 0 && in->op->tensors[i].role == OP_IN ? i : -1;
}

int
intake_expected(const struct intake *in, const char *name, size_t len)
{
	const size_t prefix = sizeof(expected_prefix) - 1;
	int i = -1;

	if (in->takes_expected && in->op && len > prefix && memcmp(name, expected_prefix, prefix) == 0)
		i = op_tensor_find(in->op, name + prefix, len - prefix);
	return i >= 0 && in->op->tensors[i].role == OP_OUT ? i : -1;
}

bool
intake_is_input(const struct intake *in, const char *name, size_t len)
{
	return input_index(in, name, len) >= 0 || intake_expected(in, name, len) >= 0;
}

static struct intake_tensor *
find(struct intake *in, const char *name, size_t len)
{
	for (int i = 0; i < in->n_tensors; i++) {
		struct intake_tensor *it = &in->tensors[i];

		if (it->name_len == len && memcmp(it->name, name, len) == 0)
			return it;
	}
	return NULL;
}

/* The operator's own spelling of input i; names that are no input stay as they are. */
static void
own_name(const struct intake *in, int i, const char **name, size_t *len)
{
	if (i >= 0) {
		*name = in->op->tensors[i].name;
		*len = strlen(*name);
	}
}

struct intake_tensor *
intake_tensor_find(struct intake *in, const char *name, size_t len)
{
	own_name(in, input_index(in, name, len), &name, &len);
	return find(in, name, len);
}

/* "expected.out, expected.softmax_lse". */
static void
candidates(const struct op *op, char *to, size_t size)
{
	size_t used = 0;

	*to = '\0';
	for (int i = 0; op->tensors[i].name && used < size; i++)
		if (op->tensors[i].role == OP_OUT)
			used += (size_t)snprintf(to + used, size - used, "%sexpected.%s", used ? ", " : "",
						 op->tensors[i].name);
}

/* What a check's candidate is called by mistake: out, expected, expect.out, expected_out. */
static bool
missed_prefix(const struct op *op, const char *name, size_t len)
{
	int t = op_tensor_find(op, name, len);

	return (t >= 0 && op->tensors[t].role == OP_OUT) || (len >= 6 && memcmp(name, "expect", 6) == 0);
}

static int
unexpected_name(const struct intake *in, const char *head, struct err *e)
{
	char outputs[160];

	candidates(in->op, outputs, sizeof(outputs));
	return err_input(e, ERR_UNKNOWN_INPUT, head, head, outputs,
			 "%s has no input %s; a candidate to be checked is named %s", in->op->name, head, outputs);
}

/* "expected.x" where no candidate is taken, or that is no output's. */
static int
unexpected(const struct intake *in, const char *name, const char *head, struct err *e)
{
	char outputs[160], shown[SHOWN], to[96];

	if (in->takes_expected && in->op) {
		candidates(in->op, outputs, sizeof(outputs));
		return err_input(e, ERR_UNKNOWN_INPUT, head, head, outputs,
				 "%s has no output '%s'; candidates can be %s", in->op->name,
				 text_clip(shown, sizeof(shown), name, strlen(name)), outputs);
	}
	snprintf(to, sizeof(to), "POST /v1/ops/%.64s/check", in->op ? in->op->name : "{op}");
	return err_input(e, ERR_UNEXPECTED_EXPECTED, head, head, to,
			 "'%s' is a candidate's output to be judged, which a run does not do: send the same to %s",
			 head, to);
}

/* A name that is none of the operator's inputs, or there is no operator. */
static int
check_foreign_name(struct intake *in, const char *name, size_t len, struct err *e)
{
	const size_t prefix = sizeof(expected_prefix) - 1;
	char head[SHOWN];

	text_clip(head, sizeof(head), name, len);
	if (len == 0)
		return err_set(e, ERR_MALFORMED_BODY, "a tensor has an empty name");
	if (memchr(name, 0, len))
		return err_set(e, ERR_MALFORMED_BODY, "the tensor name '%s' holds a zero byte", head);
	if (len >= prefix && memcmp(name, expected_prefix, prefix) == 0)
		return unexpected(in, head + prefix, head, e);
	if (in->op && in->takes_expected && missed_prefix(in->op, name, len))
		return unexpected_name(in, head, e);
	if (in->op)
		return op_input_unknown(in->op, name, len, e);
	if (len >= TENSOR_NAME_MAX)
		return err_input(e, ERR_UNKNOWN_INPUT, head, head, "a shorter name",
				 "the tensor name '%s' is longer than %d bytes", head, TENSOR_NAME_MAX - 1);
	return 0;
}

static int
given_twice(const char *name, size_t len, struct err *e)
{
	char head[SHOWN];

	text_clip(head, sizeof(head), name, len);
	return err_input(e, ERR_MALFORMED_BODY, head, "two tensors", "one", "the input '%s' was given twice", head);
}

static int
too_large(const struct intake *in, const struct intake_tensor *it, uint64_t total, struct err *e)
{
	char found[40], wanted[60];

	snprintf(found, sizeof(found), "%llu bytes", (unsigned long long)(total + it->t.bytes));
	snprintf(wanted, sizeof(wanted), "at most %llu bytes", (unsigned long long)in->limits.tensor_bytes);
	return err_input(
		e, ERR_TOO_LARGE, it->name, found, wanted,
		"with '%s' (%llu bytes) the request's tensors come to %s, more than the %llu this server accepts",
		it->name, (unsigned long long)it->t.bytes, found, (unsigned long long)in->limits.tensor_bytes);
}

struct intake_tensor *
intake_announce(struct intake *in, const char *name, size_t name_len, enum dtype dt, int rank, const int64_t *shape,
		struct err *e)
{
	const char *given = name;
	size_t given_len = name_len;
	struct intake_tensor *it;
	uint64_t total = 0;
	int input = input_index(in, name, name_len);

	if (input < 0 && intake_expected(in, name, name_len) < 0 && check_foreign_name(in, name, name_len, e) < 0)
		return NULL;
	own_name(in, input, &name, &name_len);
	if (find(in, name, name_len)) {
		given_twice(given, given_len, e);
		return NULL;
	}
	if (in->n_tensors == INTAKE_TENSORS_MAX) {
		err_set(e, ERR_MALFORMED_BODY, "the request holds more than %d tensors", INTAKE_TENSORS_MAX);
		return NULL;
	}
	it = &in->tensors[in->n_tensors];
	it->arrived = it->raw = it->shuffled = it->kept = it->generated = false;
	it->name_len = name_len;
	memcpy(it->name, name, name_len);
	it->name[name_len] = '\0';
	if (tensor_describe(&it->t, it->name, dt, rank, shape, e) < 0)
		return NULL;
	for (int i = 0; i < in->n_tensors; i++)
		total += in->tensors[i].kept ? 0 : in->tensors[i].t.bytes;
	if (it->t.bytes > in->limits.tensor_bytes || total > in->limits.tensor_bytes - it->t.bytes) {
		too_large(in, it, total, e);
		return NULL;
	}
	in->n_tensors++;
	return it;
}

struct intake_tensor *
intake_tensor(struct intake *in, const char *name, size_t name_len, enum dtype dt, int rank, const int64_t *shape,
	      struct err *e)
{
	struct intake_tensor *it = intake_announce(in, name, name_len, dt, rank, shape, e);

	if (it && mem_tensor(in->mem, &it->t, e) < 0) {
		in->n_tensors--;
		return NULL;
	}
	return it;
}

static int
bad_param(const char *name, size_t name_len, const char *value, size_t value_len, struct err *e)
{
	char head[SHOWN];

	text_clip(head, sizeof(head), name, name_len);
	if (name_len == 0)
		return err_set(e, ERR_INVALID_PARAMETER, "a parameter has an empty name");
	if (name_len > PARAM_NAME_MAX)
		return err_param(e, ERR_UNKNOWN_PARAMETER, head, head, "a shorter name",
				 "the parameter name '%s' is longer than %d bytes", head, PARAM_NAME_MAX);
	if (memchr(name, 0, name_len) || memchr(value, 0, value_len))
		return err_param(e, ERR_INVALID_PARAMETER, head, "a zero byte", "text",
				 "the parameter '%s' holds a zero byte in its name or value", head);
	return err_param(e, ERR_INVALID_PARAMETER, head, "a longer text", "at most 65536 bytes",
			 "the value of '%s' is longer than %d bytes", head, INTAKE_VALUE_MAX);
}

static int
second_value(const struct intake_param *p, const char *value, size_t value_len, struct err *e)
{
	char head[SHOWN], first[SHOWN], second[SHOWN];

	if (strlen(p->value) == value_len && memcmp(p->value, value, value_len) == 0)
		return 0;
	text_clip(head, sizeof(head), p->name, strlen(p->name));
	return err_param(e, ERR_CONFLICTING_PARAMETER, head, "two values", "one value",
			 "the parameter '%s' was given twice, as '%s' and as '%s'", head,
			 text_clip(first, sizeof(first), p->value, strlen(p->value)),
			 text_clip(second, sizeof(second), value, value_len));
}

int
intake_param(struct intake *in, const char *name, size_t name_len, const char *value, size_t value_len, struct err *e)
{
	char head[SHOWN];
	struct intake_param *p;

	if (name_len == 0 || name_len > PARAM_NAME_MAX || value_len > INTAKE_VALUE_MAX || memchr(name, 0, name_len) ||
	    memchr(value, 0, value_len))
		return bad_param(name, name_len, value, value_len, e);
	for (int i = 0; i < in->n_params; i++) {
		p = &in->params[i];
		if (strlen(p->name) == name_len && memcmp(p->name, name, name_len) == 0)
			return second_value(p, value, value_len, e);
	}
	if (in->n_params == INTAKE_PARAMS_MAX)
		return err_param(e, ERR_INVALID_PARAMETER, text_clip(head, sizeof(head), name, name_len), "more",
				 "fewer parameters", "the request has more than %d parameters", INTAKE_PARAMS_MAX);
	p = &in->params[in->n_params];
	p->name = malloc(name_len + value_len + 2);
	if (!p->name)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the parameter '%s'",
			       text_clip(head, sizeof(head), name, name_len));
	p->value = p->name + name_len + 1;
	memcpy(p->name, name, name_len);
	p->name[name_len] = '\0';
	memcpy(p->value, value, value_len);
	p->value[value_len] = '\0';
	in->n_params++;
	return 0;
}

const char *
intake_param_find(const struct intake *in, const char *name)
{
	for (int i = 0; i < in->n_params; i++)
		if (strcmp(in->params[i].name, name) == 0)
			return in->params[i].value;
	return NULL;
}

static void
drop_param(struct intake *in, int i)
{
	free(in->params[i].name);
	in->n_params--;
	memmove(&in->params[i], &in->params[i + 1], (size_t)(in->n_params - i) * sizeof(in->params[0]));
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decode [p, end) to out, which has room for as many bytes. Returns the length or -1. */
static ptrdiff_t
percent_decode(char *out, const char *p, const char *end)
{
	char *o = out;

	while (p < end) {
		if (*p == '%') {
			int hi = end - p > 2 ? hex_digit(p[1]) : -1;
			int lo = hi >= 0 ? hex_digit(p[2]) : -1;
			if (lo < 0)
				return -1;
			*o++ = (char)(hi * 16 + lo);
			p += 3;
		} else {
			*o++ = *p == '+' ? ' ' : *p;
			p++;
		}
	}
	return o - out;
}

int
intake_query(struct intake *in, const char *query, struct err *e)
{
	int rc = -1;
	size_t len = query ? strlen(query) : 0;
	char shown[SHOWN], few[256], *buf = few;

	if (len == 0)
		return 0;
	if (len > sizeof(few) && !(buf = malloc(len)))
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the query string");
	for (const char *p = query; *p;) {
		const char *end = p + strcspn(p, "&");
		const char *eq = memchr(p, '=', (size_t)(end - p));
		const char *name_end = eq ? eq : end;
		if (end > p) {
			ptrdiff_t n = percent_decode(buf, p, name_end);
			/* "dry_run" alone is a flag that is set. */
			ptrdiff_t v = n < 0 ? -1 : eq ? percent_decode(buf + n, eq + 1, end) : 4;
			if (v < 0) {
				err_set(e, ERR_INVALID_PARAMETER,
					"'%s' in the query string: '%%' must be followed by two hexadecimal digits",
					text_clip(shown, sizeof(shown), p, (size_t)(end - p)));
				goto out;
			}
			if (n == 0) {
				err_set(e, ERR_INVALID_PARAMETER, "'%s' in the query string has no name",
					text_clip(shown, sizeof(shown), p, (size_t)(end - p)));
				goto out;
			}
			if (intake_param(in, buf, (size_t)n, eq ? buf + n : "true", (size_t)v, e) < 0)
				goto out;
		}
		p = *end ? end + 1 : end;
	}
	rc = 0;
out:
	if (buf != few)
		free(buf);
	return rc;
}

/* ---- when the body has ended ---- */

static int
no_such_tensor(const struct intake *in, const char *param, const char *name, size_t len, struct err *e)
{
	char list[160] = "", head[SHOWN], shown[SHOWN];
	size_t used = 0;

	for (int i = 0; i < in->n_tensors && used < sizeof(list); i++) {
		int w = snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", in->tensors[i].name);
		used += w > 0 ? (size_t)w : 0;
	}
	text_clip(head, sizeof(head), param, strlen(param));
	text_clip(shown, sizeof(shown), name, len);
	return err_param(e, ERR_INVALID_PARAMETER, head, shown, in->n_tensors ? list : "a tensor of this request",
			 "'%s' names '%s', but the request holds no such tensor (it holds: %s)", head, shown,
			 in->n_tensors ? list : "none");
}

/* How bytes travel cannot be said of a tensor that did not travel. */
static int
not_bytes(const struct intake_tensor *it, const char *param, struct err *e)
{
	return err_param(e, ERR_INVALID_PARAMETER, param, "a generated tensor",
			 "an input whose bytes are in the request",
			 "'%s' is about '%s', which is generated: its dtype is known, and its bytes are in order",
			 param, it->name);
}

/* "dtype.q": says what a tensor's bytes are where its file cannot (numpy has no bf16 and no fp8). */
static int
apply_dtype(struct intake *in, const struct intake_param *p, struct err *e)
{
	const char *name = p->name + sizeof(dtype_prefix) - 1;
	enum dtype dt = dtype_find(p->value, strlen(p->value));
	struct intake_tensor *it = intake_tensor_find(in, name, strlen(name));
	char shown[SHOWN];

	if (!it)
		return no_such_tensor(in, p->name, name, strlen(name), e);
	if (it->generated)
		return not_bytes(it, p->name, e);
	if (dt == DT_NONE)
		return err_param(e, ERR_INVALID_PARAMETER, p->name, p->value, "a dtype such as bf16 or fp8_e4m3",
				 "'%s': there is no dtype '%s'", p->name,
				 text_clip(shown, sizeof(shown), p->value, strlen(p->value)));
	const struct dtype_info *have = dtype_info((enum dtype)it->t.dtype), *want = dtype_info(dt);
	if (it->t.dtype == dt) {
		it->raw = false;
		return 0;
	}
	if (!it->raw && it->t.dtype != DT_UINT8)
		return err_param(
			e, ERR_INVALID_PARAMETER, p->name, p->value, have->name,
			"'%s' says %s, but the tensor '%s' came as %s; nothing is converted, only numpy's void types "
			"and uint8 can be declared to be something else",
			p->name, want->name, it->name, have->name);
	if (have->size != want->size)
		return err_param(e, ERR_INVALID_PARAMETER, p->name, p->value, "a dtype of the same size",
				 "'%s' says %s, which has %d bytes, but the elements of '%s' have %d", p->name,
				 want->name, want->size, it->name, have->size);
	it->t.dtype = (uint8_t)dt;
	it->raw = false;
	return 0;
}

static int
mark_shuffled(struct intake *in, const char *list, struct err *e)
{
	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");
		const char *next = p[n] ? p + n + 1 : p + n;

		for (; n > 0 && *p == ' '; n--)
			p++;
		while (n > 0 && p[n - 1] == ' ')
			n--;
		if (n > 0) {
			struct intake_tensor *it = intake_tensor_find(in, p, n);
			if (!it)
				return no_such_tensor(in, "shuffle", p, n, e);
			if (it->generated)
				return not_bytes(it, "shuffle", e);
			it->shuffled = dtype_info((enum dtype)it->t.dtype)->size > 1;
		}
		p = next;
	}
	return 0;
}

/* Sources that stand in the parameter `inputs`. */
static int
take_sources(struct intake *in, struct err *e)
{
	for (int i = 0; i < in->n_params; i++) {
		const struct intake_param *p = &in->params[i];

		if (strcmp(p->name, "inputs") != 0)
			continue;
		if (intake_sources_text(in, p->value, strlen(p->value), e) < 0)
			return -1;
		drop_param(in, i);
		return 0;
	}
	return 0;
}

int
intake_finish(struct intake *in, struct err *e)
{
	if (take_sources(in, e) < 0)
		return -1;
	for (int i = 0; i < in->n_tensors; i++)
		if (!in->tensors[i].arrived)
			return err_input(e, ERR_MALFORMED_BODY, in->tensors[i].name, "a part of it", "all of it",
					 "the tensor '%s' has not arrived completely", in->tensors[i].name);
	for (int i = 0; i < in->n_params;) {
		const struct intake_param *p = &in->params[i];
		bool is_dtype = strncmp(p->name, dtype_prefix, sizeof(dtype_prefix) - 1) == 0;
		bool is_shuffle = strcmp(p->name, "shuffle") == 0;
		if (!is_dtype && !is_shuffle) {
			i++;
			continue;
		}
		if ((is_dtype ? apply_dtype(in, p, e) : mark_shuffled(in, p->value, e)) < 0)
			return -1;
		drop_param(in, i);
	}
	for (int i = 0; i < in->n_tensors; i++) {
		const struct intake_tensor *it = &in->tensors[i];
		if (it->raw && dtype_info((enum dtype)it->t.dtype)->size == 1)
			return err_input(
				e, ERR_INVALID_DTYPE, it->name, "V1 (one byte of any kind)", "fp8, named",
				"the .npy file of '%s' has numpy's type V1, which does not tell which fp8 it is; add the "
				"parameter dtype.%s=fp8_e4m3 (or fp8_e4m3fnuz, fp8_e5m2)",
				it->name, it->name);
	}
	return 0;
}

uint64_t
intake_shuffled_bytes(const struct intake *in)
{
	uint64_t n = 0;

	for (int i = 0; i < in->n_tensors; i++)
		if (in->tensors[i].shuffled)
			n += in->tensors[i].t.bytes;
	return n;
}

int
intake_unshuffle(struct intake *in, struct err *e)
{
	for (int i = 0; i < in->n_tensors; i++) {
		struct intake_tensor *it = &in->tensors[i];
		if (!it->shuffled)
			continue;
		struct tensor fresh = it->t;
		if (mem_tensor(in->mem, &fresh, e) < 0)
			return -1;
		byte_unshuffle(fresh.data, it->t.data, (size_t)tensor_elements(&it->t),
			       dtype_info((enum dtype)it->t.dtype)->size);
		it->t = fresh;
		it->shuffled = false;
	}
	return 0;
}
