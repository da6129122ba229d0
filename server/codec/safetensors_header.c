/*
 * safetensors_header.c: reading a safetensors header (safetensors_header.h). Called by decode_safetensors.c; owns
 * nothing but lists of names while it reads.
 *
 * Everything about the grammar comes first, for the whole header, and only then what the entries say: a file that is
 * cut off or no JSON at all is told so, whatever its first bytes look like.
 */
#include "codec/safetensors_header.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define EXACT_MAX 9007199254740992.0 /* 2^53: doubles hold every integer up to here */

static const char *const meta_names[META_COUNT] = {"params", "shuffle", "op"};

/* Names of one object's members. */
struct names {
	struct json_span *p, few[16];
	size_t n, cap;
};

struct reader {
	struct json_scan s;
	char *text;
	struct safetensors_header *h;
	bool has_metadata;
	struct names names, meta_names;
};

const char *
safetensors_clip(struct json_span name, char shown[SAFETENSORS_SHOWN])
{
	return text_clip(shown, SAFETENSORS_SHOWN, name.begin, (size_t)(name.end - name.begin));
}

int
safetensors_bad_entry(const struct safetensors_entry *t, const char *found, const char *wanted, struct err *e)
{
	char shown[SAFETENSORS_SHOWN];

	safetensors_clip(t->name, shown);
	return err_input(e, ERR_MALFORMED_BODY, shown, found, wanted,
			 "the safetensors header's entry '%s' is not valid: %s, wanted %s", shown, found, wanted);
}

/* ---- reading: the grammar, and what is where ---- */

static int
names_add(struct names *names, struct json_span name, struct err *e)
{
	if (names->n == names->cap) {
		struct json_span *grown = realloc(names->p == names->few ? NULL : names->p,
						  2 * names->cap * sizeof(*grown));

		if (!grown)
			return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read the JSON text");
		if (names->p == names->few)
			memcpy(grown, names->few, sizeof(names->few));
		names->p = grown;
		names->cap *= 2;
	}
	names->p[names->n++] = name;
	return 0;
}

static void
names_init(struct names *names)
{
	names->p = names->few;
	names->n = 0;
	names->cap = sizeof(names->few) / sizeof(names->few[0]);
}

static void
names_fini(struct names *names)
{
	if (names->p != names->few)
		free(names->p);
}

/* Undo the escapes of what was just read; `escapes` is what json_scan.h's functions returned. */
static int
plain(struct reader *r, struct json_span *span, int escapes)
{
	if (escapes > 0)
		span->end = json_unescape(r->text + (span->begin - r->s.begin), span->end);
	return escapes < 0 ? -1 : 0;
}

static int
read_key(struct reader *r, struct json_span *name)
{
	return plain(r, name, json_scan_key(&r->s, name));
}

/* 1: a string; 0: another value, passed. */
static int
read_string(struct reader *r, struct json_span *text)
{
	if (json_scan_peek(&r->s) != '"')
		return json_scan_value(&r->s);
	return plain(r, text, json_scan_string(&r->s, text)) < 0 ? -1 : 1;
}

/* An integer in the common spelling; false, and nothing is passed, when it is another one. */
static bool
read_digits(struct json_scan *s, uint64_t *n)
{
	const char *p = s->p, *end = s->end - p > 15 ? p + 15 : s->end;
	uint64_t v = 0;

	for (; p < end && json_is_digit(*p); p++)
		v = v * 10 + (uint64_t)(*p - '0');
	if (p == s->p || p == end || (*s->p == '0' && p > s->p + 1) || (*p != ',' && *p != ']' && *p != ' '))
		return false;
	s->p = p;
	*n = v;
	return true;
}

/* 1: a non-negative integer that a double holds exactly; 0: another value, passed. */
static int
read_count(struct json_scan *s, uint64_t *n)
{
	const char *begin = s->p, *next;
	bool number;
	double v;

	if (read_digits(s, n))
		return 1;
	number = json_scan_peek(s) == '-' || json_is_digit(json_scan_peek(s));
	if (json_scan_value(s) < 0)
		return -1;
	if (!number)
		return 0;
	v = json_double(begin, s->p, &next);
	if (!(v >= 0) || v > EXACT_MAX || v != floor(v))
		return 0;
	*n = (uint64_t)v;
	return 1;
}

/* The lengths of "shape", as far as they are fine. 1: a list; 0: another value, passed. */
static int
read_shape(struct json_scan *s, struct safetensors_entry *t, enum safetensors_flaw *flaw)
{
	int more;

	if (json_scan_peek(s) != '[')
		return json_scan_value(s);
	for (more = json_scan_open(s); more > 0; more = json_scan_more(s, ']')) {
		uint64_t n;
		int rc = read_count(s, &n);

		if (rc < 0)
			return -1;
		if (*flaw != FLAW_NONE)
			continue;
		if (rc == 0)
			*flaw = FLAW_LENGTH;
		else if (t->rank == TENSOR_RANK_MAX)
			*flaw = FLAW_RANK;
		else
			t->shape[t->rank++] = (int64_t)n;
	}
	return more < 0 ? -1 : 1;
}

/* 1: two values, of which FLAW_RANGE says whether they are a range; 0: something else, passed. */
static int
read_offsets(struct json_scan *s, struct safetensors_entry *t, enum safetensors_flaw *flaw)
{
	int more, i = 0, counts = 0;

	if (json_scan_peek(s) != '[')
		return json_scan_value(s);
	for (more = json_scan_open(s); more > 0; more = json_scan_more(s, ']'), i++) {
		uint64_t beyond;
		int rc = read_count(s, i == 0 ? &t->begin : i == 1 ? &t->end : &beyond);

		if (rc < 0)
			return -1;
		counts += rc;
	}
	*flaw = i == 2 && counts == 2 && t->end >= t->begin ? FLAW_NONE : FLAW_RANGE;
	return more < 0 ? -1 : i == 2;
}

static int
read_entry(struct reader *r, struct safetensors_entry *t)
{
	enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
	struct json_scan *s = &r->s;
	struct json_span key;
	enum safetensors_flaw shape = FLAW_NONE, range = FLAW_NONE;
	int more, good = 0, seen = 0;
	bool others = false;

	t->twice.begin = NULL;
	t->flaw = FLAW_MEMBERS;
	t->rank = 0;
	if (json_scan_peek(s) != '{')
		return json_scan_value(s);
	for (more = json_scan_open(s); more > 0; more = json_scan_more(s, '}')) {
		int member, rc;

		if (read_key(r, &key) < 0)
			return -1;
		member = json_span_is(key, "dtype", 5)		 ? DTYPE
			 : json_span_is(key, "shape", 5)	 ? SHAPE
			 : json_span_is(key, "data_offsets", 12) ? OFFSETS
								 : 0;
		others |= member == 0;
		if (member & seen) {
			t->twice = key;
			rc = json_scan_value(s);
		} else if (member == DTYPE) {
			rc = read_string(r, &t->dtype);
		} else if (member == SHAPE) {
			rc = read_shape(s, t, &shape);
		} else if (member == OFFSETS) {
			rc = read_offsets(s, t, &range);
		} else {
			rc = json_scan_value(s);
		}
		if (rc < 0)
			return -1;
		seen |= member;
		good |= rc > 0 ? member : 0;
	}
	if (!others && good == (DTYPE | SHAPE | OFFSETS))
		t->flaw = shape != FLAW_NONE ? shape : range;
	return more;
}

static int
read_metadata(struct reader *r)
{
	struct safetensors_header *h = r->h;
	struct json_scan *s = &r->s;
	struct json_span key, value;
	int more;

	r->has_metadata = true;
	/* null is what the reference reader takes for none */
	if (json_scan_peek(s) != '{') {
		h->no_object = json_scan_peek(s) != 'n';
		return json_scan_value(s);
	}
	for (more = json_scan_open(s); more > 0; more = json_scan_more(s, '}')) {
		int rc;

		if (read_key(r, &key) < 0 || names_add(&r->meta_names, key, s->e) < 0 ||
		    (rc = read_string(r, &value)) < 0)
			return -1;
		if (rc == 0 && !h->no_string.begin)
			h->no_string = key;
		for (int i = 0; i < META_COUNT && rc > 0; i++)
			if (json_span_is(key, meta_names[i], strlen(meta_names[i])))
				h->meta[i] = value;
	}
	return more;
}

static int
check_names(struct reader *r)
{
	if (json_names_differ(r->names.p, r->names.n, r->s.e) < 0 ||
	    json_names_differ(r->meta_names.p, r->meta_names.n, r->s.e) < 0)
		return -1;
	for (int i = 0; i < r->h->n; i++) {
		struct json_span twice[2] = {r->h->entries[i].twice, r->h->entries[i].twice};

		if (twice[0].begin && json_names_differ(twice, 2, r->s.e) < 0)
			return -1;
	}
	return 0;
}

static int
read_grammar(struct reader *r)
{
	struct safetensors_header *h = r->h;
	struct json_scan *s = &r->s;
	struct json_span key;
	int more;

	for (more = json_scan_open(s); more > 0; more = json_scan_more(s, '}')) {
		bool metadata;
		int rc;

		if (read_key(r, &key) < 0)
			return -1;
		metadata = json_span_is(key, "__metadata__", 12);
		if (!metadata && h->n == INTAKE_TENSORS_MAX) {
			h->too_many = true;
			rc = json_scan_value(s);
		} else if (names_add(&r->names, key, s->e) < 0) {
			rc = -1;
		} else if (metadata) {
			rc = r->has_metadata ? json_scan_value(s) : read_metadata(r);
		} else {
			h->entries[h->n].name = key;
			rc = read_entry(r, &h->entries[h->n++]);
		}
		if (rc < 0)
			return -1;
	}
	if (more < 0 || json_scan_end(s) < 0)
		return -1;
	return check_names(r);
}

/* ---- judging ---- */

static int
no_such_dtype(const struct safetensors_entry *t, struct err *e)
{
	char list[160] = "", shown[SAFETENSORS_SHOWN], dtype_shown[24];
	size_t used = 0;

	for (int i = 1; i < DT_COUNT; i++) {
		int w = snprintf(list + used, sizeof(list) - used, "%s%s", i > 1 ? ", " : "",
				 dtype_info((enum dtype)i)->safetensors);
		used += w > 0 && (size_t)w < sizeof(list) - used ? (size_t)w : 0;
	}
	safetensors_clip(t->name, shown);
	text_clip(dtype_shown, sizeof(dtype_shown), t->dtype.begin, (size_t)(t->dtype.end - t->dtype.begin));
	return err_input(e, ERR_INVALID_DTYPE, shown, dtype_shown, list,
			 "the tensor '%s' has the safetensors dtype '%s', which is not taken; those taken are %s",
			 shown, dtype_shown, list);
}

static int
check_entry(struct safetensors_entry *t, struct err *e)
{
	char shown[SAFETENSORS_SHOWN];

	if (t->flaw == FLAW_MEMBERS)
		return safetensors_bad_entry(t, "other members",
					     "{\"dtype\":\"...\",\"shape\":[...],\"data_offsets\":[begin,end]}", e);
	t->dt = dtype_find_safetensors(t->dtype.begin, (size_t)(t->dtype.end - t->dtype.begin));
	if (t->dt == DT_NONE)
		return no_such_dtype(t, e);
	switch (t->flaw) {
	case FLAW_LENGTH:
		return safetensors_bad_entry(t, "a length in its shape that is no integer", "integers from 0", e);
	case FLAW_RANK:
		safetensors_clip(t->name, shown);
		return err_input(e, ERR_INVALID_SHAPE, shown, "more than 8 dimensions", "at most 8 dimensions",
				 "the tensor '%s' has more than %d dimensions", shown, TENSOR_RANK_MAX);
	case FLAW_RANGE:
		return safetensors_bad_entry(t, "data_offsets that are no range", "[begin, end] with 0 <= begin <= end",
					     e);
	case FLAW_MEMBERS:
	case FLAW_NONE:
		break;
	}
	return 0;
}

int
safetensors_header_read(struct safetensors_header *h, char *text, size_t len, unsigned max_depth, struct err *e)
{
	struct reader r;
	struct err parse;
	int rc;

	h->n = 0;
	h->too_many = h->no_object = false;
	memset(h->meta, 0, sizeof(h->meta));
	h->no_string.begin = NULL;
	r.text = text;
	r.h = h;
	r.has_metadata = false;
	names_init(&r.names);
	names_init(&r.meta_names);
	json_scan_init(&r.s, text, len, max_depth, &parse);
	rc = read_grammar(&r);
	if (rc < 0)
		err_set(e, parse.code, "the safetensors header: %s", parse.msg);
	for (int i = 0; i < h->n && rc == 0; i++)
		rc = check_entry(&h->entries[i], e);
	if (rc == 0 && h->too_many)
		rc = err_set(e, ERR_MALFORMED_BODY, "the safetensors file holds more than %d tensors",
			     INTAKE_TENSORS_MAX);
	names_fini(&r.names);
	names_fini(&r.meta_names);
	return rc;
}
