/*
 * source.c: where an input comes from, as it is written on the command line. Text alone: no file is opened, no server asked.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

static const char *const kinds[] = {"normal", "uniform", "zeros", "ones", "arange", "randint"};
static const char *const keys[] = {"seed", "stream", "mean", "std", "low", "high", "start", "step"};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))
#define N_KEYS (sizeof(keys) / sizeof(keys[0]))

static const char *
kind_of(const char *text)
{
	for (size_t i = 0; i < N_KINDS; i++)
		if (strncmp(text, kinds[i], strlen(kinds[i])) == 0 && text[strlen(kinds[i])] == ':')
			return kinds[i];
	return NULL;
}

static bool
ends(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n > m && strcmp(text + n - m, end) == 0;
}

bool
source_is_plain(const char *text)
{
	return *text == '@' || strncmp(text, "tensor:", 7) == 0 || strncmp(text, "sha256:", 7) == 0 ||
	       strncmp(text, "file:", 5) == 0 || kind_of(text) || strncmp(text, "{\"tensor\"", 9) == 0 ||
	       strncmp(text, "{\"generate\"", 11) == 0 || ends(text, ".npy") || ends(text, ".safetensors") ||
	       strstr(text, ".safetensors#");
}

static int
bad(char *why, size_t size, const char *text, const char *what)
{
	char shown[100];

	snprintf(why, size, "'%s': %s", text_clip(shown, sizeof(shown), text, strlen(text)), what);
	return -1;
}

/* "2x512x8x64" or "2,512,8,64", "" or "scalar" for none, as a JSON list. */
static bool
add_shape(struct text *t, const char *p, size_t n)
{
	int rank = 0;

	text_add(t, "[");
	if (n == 0 || (n == 6 && strncmp(p, "scalar", 6) == 0)) {
		text_add(t, "]");
		return true;
	}
	for (const char *end = p + n;; p++) {
		size_t digits = 0;

		while (p + digits < end && isdigit((unsigned char)p[digits]))
			digits++;
		if (!digits || digits > 18 || rank++ == AITERD_RANK_MAX)
			return false;
		text_addf(t, "%s%lld", rank > 1 ? "," : "", strtoll(p, NULL, 10));
		p += digits;
		if (p == end)
			break;
		if (*p != 'x' && *p != ',')
			return false;
	}
	text_add(t, "]");
	return true;
}

/* What JSON calls a number. */
static bool
is_number(const char *p, size_t n)
{
	const char *end = p + n;

	if (p < end && *p == '-')
		p++;
	if (p == end || !isdigit((unsigned char)*p) || (*p == '0' && p + 1 < end && isdigit((unsigned char)p[1])))
		return false;
	while (p < end && isdigit((unsigned char)*p))
		p++;
	if (p < end && *p == '.') {
		if (++p == end || !isdigit((unsigned char)*p))
			return false;
		while (p < end && isdigit((unsigned char)*p))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (p == end || !isdigit((unsigned char)*p))
			return false;
		while (p < end && isdigit((unsigned char)*p))
			p++;
	}
	return p == end;
}

static bool
is_key(const char *p, size_t n)
{
	for (size_t i = 0; i < N_KEYS; i++)
		if (strlen(keys[i]) == n && strncmp(keys[i], p, n) == 0)
			return true;
	return false;
}

/* After the shape: ":fp16:seed=7:std=0.02". */
static int
add_rest(struct text *t, const char *p, const char *whole, bool *has_dtype, char *why, size_t size)
{
	char name[32];

	while (*p == ':') {
		size_t n = strcspn(++p, ":"), key = strcspn(p, "=:");

		if (key < n) {
			if (!is_key(p, key))
				return bad(why, size, whole,
					   "what is generated has seed, stream, mean, std, low, high, start and step");
			if (!is_number(p + key + 1, n - key - 1))
				return bad(why, size, whole, "the value behind '=' is no number");
			text_addf(t, ",\"%.*s\":%.*s", (int)key, p, (int)(n - key - 1), p + key + 1);
		} else {
			enum aiterd_dtype dtype;

			snprintf(name, sizeof(name), "%.*s", (int)(n < 31 ? n : 31), p);
			dtype = aiterd_dtype_find(name);
			if (dtype == AITERD_NONE)
				return bad(why, size, whole, "the dtype is unknown; wanted fp16, bf16, fp32 ...");
			if (*has_dtype)
				return bad(why, size, whole, "the dtype stands twice");
			*has_dtype = true;
			text_addf(t, ",\"dtype\":\"%s\"", aiterd_dtype_name(dtype));
		}
		p += n;
	}
	return 0;
}

static int
generated(const char *text, const char *kind, struct source *s, char *why, size_t size)
{
	const char *p = text + strlen(kind) + 1;
	size_t n = strcspn(p, ":");
	bool has_dtype = false;
	struct text t;
	int rc = 0;

	text_init(&t, 4096);
	text_addf(&t, "{\"generate\":\"%s\",\"shape\":", kind);
	if (!add_shape(&t, p, n))
		rc = bad(why, size, text, "the shape is written 2x512x8x64, at most 8 lengths");
	else
		rc = add_rest(&t, p + n, text, &has_dtype, why, size);
	if (!rc && !has_dtype)
		rc = bad(why, size, text, "the dtype is missing; wanted KIND:SHAPE:DTYPE, as in normal:2x512x8x64:fp16");
	text_add(&t, "}");
	s->kind = SOURCE_JSON;
	s->text = text_take(&t);
	if (!rc && !s->text)
		rc = bad(why, size, text, "it is too long");
	if (rc) {
		free(s->text);
		s->text = NULL;
	}
	return rc;
}

static int
kept(const char *name, const char *text, struct source *s, char *why, size_t size)
{
	struct text t;

	if (!*name)
		return bad(why, size, text, "the kept tensor has no name");
	text_init(&t, 4096);
	text_add(&t, "{\"tensor\":");
	text_json(&t, name);
	text_add(&t, "}");
	s->kind = SOURCE_JSON;
	s->text = text_take(&t);
	return s->text ? 0 : bad(why, size, text, "it is too long");
}

/* "nomal:2x512x8x64:fp16", where no file has that name. */
static bool
foreign_kind(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz");

	return n > 0 && text[n] == ':' && isdigit((unsigned char)text[n + 1]) && access(text, F_OK) != 0;
}

int
source_parse(const char *text, struct source *s, char *why, size_t size)
{
	const char *kind = kind_of(text);

	*s = (struct source){.text = NULL};
	if (kind)
		return generated(text, kind, s, why, size);
	if (*text == '@')
		return kept(text + 1, text, s, why, size);
	if (strncmp(text, "tensor:", 7) == 0)
		return kept(text + 7, text, s, why, size);
	if (strncmp(text, "sha256:", 7) == 0)
		return kept(text, text, s, why, size);
	if (foreign_kind(text))
		return bad(why, size, text,
			   "there is no such file, and what can be generated is normal, uniform, zeros, ones, "
			   "arange and randint");
	s->kind = *text == '{' ? SOURCE_JSON : SOURCE_FILE;
	if (strncmp(text, "file:", 5) == 0)
		text += 5;
	if (!*text)
		return bad(why, size, text, "nothing is given as input");
	s->text = strdup(text);
	return s->text ? 0 : bad(why, size, text, "there is not enough memory");
}
