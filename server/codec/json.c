/*
 * json.c: JSON texts into cJSON trees, with tensor data left out (json.h). Used by every decoder that reads JSON.
 *
 * cJSON itself takes more than JSON (control characters in strings, leading zeros, text after the end, NULs) and
 * says little about errors, so a strict check of the grammar goes before it. The caller owns texts and trees.
 */
#include "codec/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json_scan.h"

/* Where in the text a value stands, as far as cutting is concerned. */
enum place { PLACE_ROOT, PLACE_INPUTS, PLACE_INPUT, PLACE_OTHER };

struct scan {
	struct json_scan s;
	struct json_cut *cut;
};

/* How many of the bytes at p surely hold no bracket or quote; blocks, so that the compiler vectorises it. */
static size_t
plain_run(const char *p, const char *end)
{
	const char *begin = p;

	while (end - p >= 64) {
		unsigned char any = 0;

		for (int i = 0; i < 64; i++)
			any |= (unsigned char)((p[i] == '[') | (p[i] == ']') | (p[i] == '"'));
		if (any)
			break;
		p += 64;
	}
	return (size_t)(p - begin);
}

/* Past the value at s->p, which is cut out: whoever reads it checks what is in it. */
static int
skip_value(struct json_scan *s)
{
	unsigned level = s->depth;

	if (json_scan_peek(s) == '{')
		return json_scan_malformed(s, "tensor data is a list or a string, not an object");
	if (json_scan_peek(s) == '"')
		return json_scan_skip_string(s);
	if (json_scan_peek(s) != '[')
		return json_scan_value(s);
	while (s->p < s->end) {
		switch (*s->p) {
		case '[':
			if (++level > s->max_depth)
				return json_scan_too_deep(s);
			s->p++;
			break;
		case ']':
			s->p++;
			if (--level == s->depth)
				return 0;
			break;
		case '"':
			if (json_scan_skip_string(s) < 0)
				return -1;
			break;
		default:
			s->p++;
			s->p += plain_run(s->p, s->end);
		}
	}
	return json_scan_malformed(s, "the text ends inside a list");
}

static bool
key_is(struct json_span key, const char *name)
{
	return name && json_span_is(key, name, strlen(name));
}

static int check_value(struct scan *c, enum place place);

static int
check_member(struct scan *c, enum place place)
{
	struct json_scan *s = &c->s;
	struct json_span key;
	const char *value;
	enum place inner = PLACE_OTHER;

	if (json_scan_key(s, &key) < 0)
		return -1;
	value = s->p;
	if (place == PLACE_INPUT && (key_is(key, c->cut->member1) || key_is(key, c->cut->member2))) {
		if (c->cut->n_spans == JSON_SPANS_MAX)
			return json_scan_malformed(s, "there are too many inputs");
		if (skip_value(s) < 0)
			return -1;
		c->cut->spans[c->cut->n_spans++] = (struct json_span){value, s->p};
		return 0;
	}
	if (place == PLACE_ROOT && key_is(key, "inputs"))
		inner = PLACE_INPUTS;
	else if (place == PLACE_INPUTS)
		inner = PLACE_INPUT;
	if (check_value(c, inner) < 0)
		return -1;
	if (place == PLACE_ROOT && key_is(key, c->cut->keep))
		c->cut->kept = (struct json_span){value, s->p};
	return 0;
}

static int
check_value(struct scan *c, enum place place)
{
	char first = json_scan_peek(&c->s);
	int more;

	if (place == PLACE_OTHER || (first != '{' && first != '['))
		return json_scan_value(&c->s);
	for (more = json_scan_open(&c->s); more > 0; more = json_scan_more(&c->s, first == '{' ? '}' : ']'))
		if ((first == '{' ? check_member(c, place)
				  : check_value(c, place == PLACE_INPUTS ? PLACE_INPUT : PLACE_OTHER)) < 0)
			return -1;
	return more;
}

/* Give the number items, in document order, the number texts as they stand; NULL when out of memory. Strings are the
 * only other things in a checked text that may hold digits. */
static const char *
keep_numbers(cJSON *item, const char *p, const char *end)
{
	cJSON *child;

	if (cJSON_IsNumber(item)) {
		const char *begin;
		size_t n;

		while (p < end && *p != '-' && !json_is_digit(*p)) {
			struct json_scan s = {.p = p, .end = end};

			if (*p != '"')
				p++;
			else if (json_scan_skip_string(&s) < 0)
				return NULL;
			else
				p = s.p;
		}
		begin = p;
		while (p < end && (json_is_digit(*p) || *p == '-' || *p == '+' || *p == '.' || *p == 'e' || *p == 'E'))
			p++;
		n = (size_t)(p - begin);
		item->valuestring = cJSON_malloc(n + 1);
		if (!item->valuestring)
			return NULL;
		memcpy(item->valuestring, begin, n);
		item->valuestring[n] = '\0';
	}
	cJSON_ArrayForEach(child, item)
	{
		p = keep_numbers(child, p, end);
		if (!p)
			return NULL;
	}
	return p;
}

static int
check_names(const cJSON *object, struct err *e)
{
	const cJSON *child;
	struct json_span few[16], *names = few;
	size_t n = 0, i = 0;
	int rc;

	cJSON_ArrayForEach(child, object) n++;
	if (n > sizeof(few) / sizeof(few[0]) && !(names = calloc(n, sizeof(*names))))
		return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read the JSON text");
	cJSON_ArrayForEach(child, object)
	{
		names[i].begin = child->string;
		names[i++].end = child->string + strlen(child->string);
	}
	rc = json_names_differ(names, n, e);
	if (names != few)
		free(names);
	return rc;
}

static int
check_duplicates(const cJSON *item, struct err *e)
{
	const cJSON *child;

	if (cJSON_IsObject(item) && check_names(item, e) < 0)
		return -1;
	cJSON_ArrayForEach(child, item)
	{
		if ((child->type & (cJSON_Object | cJSON_Array)) && check_duplicates(child, e) < 0)
			return -1;
	}
	return 0;
}

cJSON *
json_parse(const char *text, size_t len, unsigned max_depth, struct err *e)
{
	struct json_scan s;
	cJSON *tree;

	json_scan_init(&s, text, len, max_depth, e);
	if (json_scan_value(&s) < 0 || json_scan_end(&s) < 0)
		return NULL;
	if (*text == '\xef') {
		text += 3;
		len -= 3;
	}
	tree = cJSON_ParseWithLength(text, len);
	if (!tree || !keep_numbers(tree, text, text + len)) {
		err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read %zu bytes of JSON", len);
		goto fail;
	}
	if (check_duplicates(tree, e) < 0)
		goto fail;
	return tree;
fail:
	cJSON_Delete(tree);
	return NULL;
}

char *
json_skeleton(const char *text, size_t len, struct json_cut *cut, struct err *e)
{
	struct scan c = {.cut = cut};
	const char *from = text;
	size_t size = len;
	char *out, *o;

	cut->n_spans = 0;
	cut->kept = (struct json_span){NULL, NULL};
	json_scan_init(&c.s, text, len, cut->max_depth, e);
	if (check_value(&c, PLACE_ROOT) < 0 || json_scan_end(&c.s) < 0)
		return NULL;
	for (int i = 0; i < cut->n_spans; i++)
		size -= (size_t)(cut->spans[i].end - cut->spans[i].begin);
	if (size > JSON_SKELETON_MAX) {
		err_set(e, ERR_TOO_LARGE, "the JSON text has %zu bytes besides the inputs' data; at most %zu are read",
			size, JSON_SKELETON_MAX);
		return NULL;
	}
	out = malloc(size + 3 * JSON_SPANS_MAX + 1);
	if (!out) {
		err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory to read %zu bytes of JSON", size);
		return NULL;
	}
	o = out;
	for (int i = 0; i < cut->n_spans; i++) {
		size_t n = (size_t)(cut->spans[i].begin - from);

		memcpy(o, from, n);
		o += n;
		if (i >= 10)
			*o++ = (char)('0' + i / 10);
		*o++ = (char)('0' + i % 10);
		from = cut->spans[i].end;
	}
	memcpy(o, from, (size_t)(text + len - from));
	o[text + len - from] = '\0';
	return out;
}
