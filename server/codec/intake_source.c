/*
 * intake_source.c: inputs that are not sent but told: {"generate":"normal","dtype":"fp16","shape":[2,512,8,64],"seed":7}, which
 * generate.c then makes; {"tensor":"w1"} is known as the other kind of source. Called for JSON bodies' inputs and for the
 * parameter `inputs`; part of intake.h. Owns nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "codec/intake.h"
#include "codec/json.h"
#include "text.h"

#define SHOWN 65 /* room for foreign text in messages */

/* Members of a source object, and by bits of 1 << enum generate_kind which kinds have them. */
#define KINDS_ALL ((1u << GEN_COUNT) - 1)
#define KINDS_RANGE (1u << GEN_UNIFORM | 1u << GEN_RANDINT)

enum key {
	KEY_GENERATE,
	KEY_DTYPE,
	KEY_SHAPE,
	KEY_SEED,
	KEY_STREAM,
	KEY_MEAN,
	KEY_STD,
	KEY_LOW,
	KEY_HIGH,
	KEY_START,
	KEY_STEP,
	KEY_TENSOR,
	KEY_COUNT
};

static const char *const key_names[KEY_COUNT] = {"generate", "dtype", "shape", "seed",	"stream", "mean",
						 "std",	     "low",   "high",  "start", "step",	  "tensor"};
static const unsigned key_kinds[KEY_COUNT] = {
	[KEY_GENERATE] = KINDS_ALL,	[KEY_DTYPE] = KINDS_ALL,       [KEY_SHAPE] = KINDS_ALL,
	[KEY_SEED] = KINDS_ALL,		[KEY_STREAM] = KINDS_ALL,      [KEY_MEAN] = 1u << GEN_NORMAL,
	[KEY_STD] = 1u << GEN_NORMAL,	[KEY_LOW] = KINDS_RANGE,       [KEY_HIGH] = KINDS_RANGE,
	[KEY_START] = 1u << GEN_ARANGE, [KEY_STEP] = 1u << GEN_ARANGE,
};

/* The members of one object, by key; NULL: not there. */
struct source {
	const char *name; /* the input's, for messages */
	const cJSON *member[KEY_COUNT];
};

bool
intake_is_source(const char *member)
{
	return strcmp(member, key_names[KEY_GENERATE]) == 0 || strcmp(member, key_names[KEY_TENSOR]) == 0;
}

/* "generate, dtype, shape, ..." of what a kind has. */
static void
list_keys(enum generate_kind kind, char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = '\0';
	for (int k = 0; k < KEY_COUNT && at < size; k++)
		if (key_kinds[k] & 1u << kind)
			at += (size_t)snprintf(buf + at, size - at, "%s%s", at > 0 ? ", " : "", key_names[k]);
}

static int
unknown_key(const struct source *s, const char *key, struct err *e)
{
	const char *near = op_nearest(key, strlen(key), key_names, KEY_COUNT);
	char found[SHOWN];

	text_clip(found, sizeof(found), key, strlen(key));
	if (near)
		return err_input(e, ERR_MALFORMED_BODY, s->name, found, near,
				 "input %s: %s is not understood here; did you mean %s?", s->name, found, near);
	return err_input(
		e, ERR_MALFORMED_BODY, s->name, found, "the members of a generated input",
		"input %s: %s is not understood here; a generated input has generate, dtype, shape, seed, stream "
		"and what its kind needs (mean, std; low, high; start, step)",
		s->name, found);
}

static int
collect(struct source *s, const cJSON *object, struct err *e)
{
	const cJSON *m;

	cJSON_ArrayForEach(m, object)
	{
		int k = 0;

		while (k < KEY_COUNT && strcmp(key_names[k], m->string) != 0)
			k++;
		if (k == KEY_COUNT)
			return unknown_key(s, m->string, e);
		s->member[k] = m;
	}
	if (!s->member[KEY_GENERATE] && !s->member[KEY_TENSOR])
		return err_input(e, ERR_MALFORMED_BODY, s->name, "neither generate nor tensor", "generate or tensor",
				 "input %s: its object has neither generate nor tensor", s->name);
	return 0;
}

static int
read_kind(const struct source *s, enum generate_kind *kind, struct err *e)
{
	const cJSON *m = s->member[KEY_GENERATE];
	const char *text = cJSON_IsString(m) ? m->valuestring : "no text";
	char found[SHOWN];

	for (int k = 0; k < GEN_COUNT; k++) {
		if (strcmp(generate_kinds[k], text) == 0) {
			*kind = (enum generate_kind)k;
			return 0;
		}
	}
	text_clip(found, sizeof(found), text, strlen(text));
	const char *near = op_nearest(text, strlen(text), generate_kinds, GEN_COUNT);
	return err_input(e, ERR_INVALID_PARAMETER, s->name, found, "normal, uniform, zeros, ones, arange or randint",
			 "input %s: nothing is generated that is called %s; %s%s%snormal, uniform, zeros, ones, arange "
			 "and randint are",
			 s->name, found, near ? "did you mean " : "", near ? near : "", near ? "? " : "");
}

/* Members that the kind has no use for would be ignored, and somebody would wonder. */
static int
check_keys(const struct source *s, enum generate_kind kind, struct err *e)
{
	char keys[160];

	for (int k = 0; k < KEY_COUNT; k++) {
		if (!s->member[k] || key_kinds[k] & 1u << kind)
			continue;
		list_keys(kind, keys, sizeof(keys));
		return err_input(e, ERR_MALFORMED_BODY, s->name, key_names[k], keys,
				 "input %s: %s has no %s; it has %s", s->name, generate_kinds[kind], key_names[k], keys);
	}
	return 0;
}

static int
bad_number(const struct source *s, enum key k, const char *wanted, struct err *e)
{
	const cJSON *m = s->member[k];
	char found[SHOWN];

	/* json_parse keeps the text of numbers here, too. */
	text_clip(found, sizeof(found), m->valuestring ? m->valuestring : "no number",
		  m->valuestring ? strlen(m->valuestring) : 9);
	return err_input(e, ERR_INVALID_PARAMETER, s->name, found, wanted, "input %s: its %s is %s; %s is wanted",
			 s->name, key_names[k], found, wanted);
}

static int
read_real(const struct source *s, enum key k, double *v, struct err *e)
{
	const cJSON *m = s->member[k];
	const char *next;

	if (!m)
		return 0;
	if (!cJSON_IsNumber(m))
		return bad_number(s, k, "a number", e);
	*v = json_double(m->valuestring, m->valuestring + strlen(m->valuestring), &next);
	return 0;
}

/* A whole number without loss; 1e3 and 5.0 are whole, too, as far as a float64 is exact. */
static int
read_whole(const struct source *s, enum key k, bool sign, uint64_t *v, struct err *e)
{
	const char *wanted = sign ? "a whole number of 64 bits" : "a whole number, 0 to 2^64 - 1";
	const cJSON *m = s->member[k];
	char *end;
	double d;

	if (!m)
		return 0;
	if (!cJSON_IsNumber(m))
		return bad_number(s, k, wanted, e);
	errno = 0;
	*v = sign ? (uint64_t)strtoll(m->valuestring, &end, 10) : strtoull(m->valuestring, &end, 10);
	if (*end == '\0' && errno == 0 && (sign || m->valuestring[0] != '-'))
		return 0;
	d = m->valuedouble;
	if (*end == '\0' || !(d >= (sign ? -0x1p53 : 0) && d <= 0x1p53) || d != (double)(int64_t)d)
		return bad_number(s, k, wanted, e);
	*v = (uint64_t)(int64_t)d;
	return 0;
}

static int
read_numbers(const struct source *s, struct generate *g, struct err *e)
{
	bool whole = g->kind == GEN_RANDINT || (g->kind == GEN_ARANGE && !dtype_info(g->dtype)->is_float);
	enum key a = g->kind == GEN_NORMAL ? KEY_MEAN : g->kind == GEN_ARANGE ? KEY_START : KEY_LOW;
	enum key b = g->kind == GEN_NORMAL ? KEY_STD : g->kind == GEN_ARANGE ? KEY_STEP : KEY_HIGH;
	uint64_t ia = 0, ib = 1;

	if (read_whole(s, KEY_SEED, false, &g->seed, e) < 0 || read_whole(s, KEY_STREAM, false, &g->stream, e) < 0)
		return -1;
	if (g->kind == GEN_RANDINT && !s->member[KEY_HIGH])
		return err_input(e, ERR_MALFORMED_BODY, s->name, "no high", "high",
				 "input %s: randint needs high, one more than the largest number", s->name);
	if (!whole)
		return read_real(s, a, &g->a, e) < 0 ? -1 : read_real(s, b, &g->b, e);
	if (read_whole(s, a, true, &ia, e) < 0 || read_whole(s, b, true, &ib, e) < 0)
		return -1;
	g->ia = (int64_t)ia;
	g->ib = (int64_t)ib;
	return 0;
}

/* The position in the operator's catalogue; a candidate's expected.out is where out is. */
static uint64_t
default_stream(const struct intake *in, const char *name, size_t len)
{
	static const char prefix[] = "expected.";
	const size_t skip = sizeof(prefix) - 1;
	int i;

	if (len > skip && memcmp(name, prefix, skip) == 0) {
		name += skip;
		len -= skip;
	}
	i = in->op ? op_tensor_find(in->op, name, len) : -1;
	return i > 0 ? (uint64_t)i : 0;
}

static int
add_generated(struct intake *in, const struct source *s, const char *name, size_t len, struct err *e)
{
	const cJSON *dtype = s->member[KEY_DTYPE];
	int64_t shape[TENSOR_RANK_MAX];
	struct intake_tensor *it;
	enum generate_kind kind = GEN_NORMAL;
	struct generate g;
	enum dtype dt;
	int rank;

	if (read_kind(s, &kind, e) < 0 || check_keys(s, kind, e) < 0)
		return -1;
	if (!cJSON_IsString(dtype))
		return err_input(e, ERR_MALFORMED_BODY, s->name, "no dtype", "dtype", "input %s: its dtype is missing",
				 s->name);
	if (!s->member[KEY_SHAPE])
		return err_input(e, ERR_MALFORMED_BODY, s->name, "no shape", "shape", "input %s: its shape is missing",
				 s->name);
	dt = json_dtype_known(dtype->valuestring, s->name, e);
	rank = dt == DT_NONE ? -1 : json_shape(s->member[KEY_SHAPE], s->name, shape, e);
	if (rank < 0)
		return -1;
	generate_init(&g, kind, dt);
	g.stream = default_stream(in, name, len);
	if (read_numbers(s, &g, e) < 0)
		return -1;
	it = intake_announce(in, name, len, dt, rank, shape, e);
	if (!it || generate_check(&g, s->name, tensor_elements(&it->t), e) < 0)
		return -1;
	it->generated = it->arrived = true;
	it->generate = g;
	return 0;
}

static int
add_kept(struct intake *in, const struct source *s, const char *name, size_t len, struct err *e)
{
	const cJSON *kept = s->member[KEY_TENSOR];
	uint64_t limit = in->limits.tensor_bytes;
	struct intake_tensor *it;
	struct tensor t;

	for (int k = 0; k < KEY_COUNT; k++)
		if (s->member[k] && k != KEY_TENSOR)
			return err_input(e, ERR_MALFORMED_BODY, s->name, key_names[k], "tensor alone",
					 "input %s: beside tensor, %s has no meaning", s->name, key_names[k]);
	if (!cJSON_IsString(kept))
		return err_input(e, ERR_MALFORMED_BODY, s->name, "no text", "the name of a kept tensor",
				 "input %s: tensor must be the name of a kept tensor, or its id", s->name);
	if (!in->kept)
		return err_input(e, ERR_UNSUPPORTED_PARAMETER, s->name, "tensor", "data, base64 or generate",
				 "input %s: no tensors are kept here; send data or base64, or generate", s->name);
	if (in->kept(in->kept_cls, s->name, kept->valuestring, &t, e) < 0)
		return -1;
	in->limits.tensor_bytes = UINT64_MAX; /* which is about what a request brings along */
	it = intake_announce(in, name, len, (enum dtype)t.dtype, t.rank, t.shape, e);
	in->limits.tensor_bytes = limit;
	if (!it)
		return -1;
	it->t = t;
	it->kept = it->arrived = true;
	return 0;
}

int
intake_source(struct intake *in, const char *name, size_t len, const struct cJSON *object, struct err *e)
{
	struct source s = {.name = NULL};
	char shown[TENSOR_NAME_MAX];

	s.name = text_clip(shown, sizeof(shown), name, len);
	if (!cJSON_IsObject(object))
		return err_input(e, ERR_MALFORMED_BODY, s.name, "no object", "{\"generate\":...} or {\"tensor\":...}",
				 "input %s: an object is wanted, with generate or tensor", s.name);
	if (collect(&s, object, e) < 0)
		return -1;
	if (s.member[KEY_TENSOR])
		return add_kept(in, &s, name, len, e);
	return add_generated(in, &s, name, len, e);
}

int
intake_sources_text(struct intake *in, const char *text, size_t len, struct err *e)
{
	struct err parse = {.code = ERR_NONE};
	cJSON *object = json_parse(text, len, in->limits.json_depth, &parse);
	const cJSON *m;
	int rc = -1;

	if (!object)
		return err_param(e, parse.code, "inputs", "no JSON", "{\"q\":{\"generate\":...}}",
				 "the parameter inputs: %s", parse.msg);
	if (!cJSON_IsObject(object)) {
		err_param(e, ERR_MALFORMED_BODY, "inputs", "no object", "{\"q\":{\"generate\":...}}",
			  "the parameter inputs must be a JSON object, an input's name to each source object");
		goto out;
	}
	cJSON_ArrayForEach(m, object)
	{
		if (intake_source(in, m->string, strlen(m->string), m, e) < 0)
			goto out;
	}
	rc = 0;
out:
	cJSON_Delete(object);
	return rc;
}

/* ---------------------------------------------------------------- memory and data */

bool
intake_unmade(const struct intake *in, uint64_t *bytes)
{
	bool any = false;

	*bytes = 0;
	for (int i = 0; i < in->n_tensors; i++) {
		const struct intake_tensor *it = &in->tensors[i];

		if (it->generated && !it->t.data) {
			*bytes += it->t.bytes;
			any = true;
		}
	}
	return any;
}

int
intake_reserve(struct intake *in, struct err *e)
{
	uint64_t bytes;

	/* One arena for all of them, each from a page's begin on. */
	if (intake_unmade(in, &bytes) && mem_expect(in->mem, bytes + (uint64_t)in->n_tensors * 4096, e) < 0)
		return -1;
	for (int i = 0; i < in->n_tensors; i++) {
		struct intake_tensor *it = &in->tensors[i];

		if (it->generated && !it->t.data && mem_tensor(in->mem, &it->t, e) < 0)
			return -1;
	}
	return 0;
}

void
intake_fill(const struct intake_tensor *it, uint64_t first, uint64_t n)
{
	size_t size = dtype_info((enum dtype)it->t.dtype)->size;

	generate_fill(&it->generate, (unsigned char *)it->t.data + first * size, first, n);
}
