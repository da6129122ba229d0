/*
 * handle.c: a server as its callers hold it: opening, settings, and the error of the last call. Owns all that hangs on
 * struct aiterd; http.c borrows the curl handle for each exchange.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "lib.h"

#define CONNECT_MS 10000
#define RETRIES 3
#define RETRY_SECONDS 30

static const struct aiterd_problem no_problem = {
	.type = "",
	.title = "",
	.detail = "",
	.op = "",
	.input = "",
	.param = "",
	.found = "",
	.wanted = "",
	.request_id = "",
};

const char *
aiterd_version(void)
{
	return PACKAGE_VERSION;
}

void
lib_clear(struct aiterd *s)
{
	if (!s)
		return;
	cJSON_Delete(s->problem_json);
	s->problem_json = NULL;
	s->problem = no_problem;
	s->error[0] = '\0';
}

enum aiterd_status
lib_fail(struct aiterd *s, enum aiterd_status status, const char *fmt, ...)
{
	va_list ap;

	if (!s)
		return status;
	lib_clear(s);
	va_start(ap, fmt);
	vsnprintf(s->error, sizeof(s->error), fmt, ap);
	va_end(ap);
	return status;
}

enum aiterd_status
lib_no_memory(struct aiterd *s)
{
	return lib_fail(s, AITERD_NO_MEMORY, "there is not enough memory");
}

static const char *
member(const cJSON *object, const char *name)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(m) ? m->valuestring : "";
}

/* "; found: X; wanted: Y", where the sentence does not say them already. */
static void
add_part(struct text *t, const char *what, const char *value)
{
	if (*value && !strstr(t->p, value))
		text_addf(t, "; %s: %s", what, value);
}

enum aiterd_status
lib_problem(struct aiterd *s, long http_status, const char *body, size_t len, int retry_after_s)
{
	enum aiterd_status status = http_status >= 500 ? AITERD_FAILED : AITERD_REFUSED;
	const char *detail;
	struct text t;
	cJSON *json;
	char shown[201];

	if (http_status < 400)
		status = AITERD_BAD_REPLY;
	lib_clear(s);
	s->problem.status = (int)http_status;
	s->problem.retry_after_s = retry_after_s;
	json = json_parse(body, len, LIB_JSON_DEPTH, NULL);
	detail = *member(json, "detail") ? member(json, "detail") : member(json, "error");
	if (!*detail)
		detail = member(json, "title");
	if (!*detail) {
		cJSON_Delete(json);
		text_clip(shown, sizeof(shown), body, len);
		lib_fail(s, status, "HTTP status %ld%s%s", http_status, *shown ? ": " : "", shown);
		s->problem.status = (int)http_status;
		s->problem.retry_after_s = retry_after_s;
		return status;
	}
	s->problem_json = json;
	s->problem.type = member(json, "type");
	s->problem.title = member(json, "title");
	s->problem.detail = detail;
	s->problem.op = member(json, "op");
	s->problem.input = member(json, "input");
	s->problem.param = member(json, "param");
	s->problem.found = member(json, "found");
	s->problem.wanted = member(json, "wanted");
	s->problem.request_id = member(json, "request_id");
	text_init_in(&t, s->error, sizeof(s->error), sizeof(s->error) - 1);
	text_add(&t, detail);
	if (!text_failed(&t)) {
		add_part(&t, "found", s->problem.found);
		if (!text_failed(&t))
			add_part(&t, "wanted", s->problem.wanted);
		if (*s->problem.request_id)
			text_addf(&t, " (status %ld, request %s)", http_status, s->problem.request_id);
		else
			text_addf(&t, " (status %ld)", http_status);
	}
	if (text_failed(&t))
		snprintf(s->error, sizeof(s->error), "%.1200s", detail);
	text_fini(&t);
	return status;
}

enum aiterd_status
aiterd_open(struct aiterd **server, const char *url)
{
	struct aiterd *s = calloc(1, sizeof(*s));
	const char *key = getenv("AITERD_KEY");
	struct lib_url parsed;
	char why[300];

	*server = s;
	if (!s)
		return AITERD_NO_MEMORY;
	s->problem = no_problem;
	s->connect_ms = CONNECT_MS;
	s->retries = RETRIES;
	s->retry_s = RETRY_SECONDS;
	if (!url)
		url = getenv("AITERD_URL");
	if (!url || !*url)
		url = AITERD_DEFAULT_URL;
	switch (lib_url_parse(url, &parsed, why, sizeof(why))) {
	case 0:
		break;
	case -1:
		return lib_fail(s, AITERD_BAD_ARGUMENT, "%s", why);
	default:
		return lib_no_memory(s);
	}
	s->base = parsed.base;
	s->unix_path = parsed.unix_path;
	if (key && *key && aiterd_set_key(s, key) != AITERD_OK)
		return AITERD_BAD_ARGUMENT;
	if (http_global() < 0 || !(s->curl = curl_easy_init()))
		return lib_fail(s, AITERD_NO_MEMORY, "libcurl could not be initialised");
	return AITERD_OK;
}

void
aiterd_close(struct aiterd *s)
{
	if (!s)
		return;
	curl_easy_cleanup(s->curl);
	cJSON_Delete(s->problem_json);
	free(s->base);
	free(s->unix_path);
	free(s->key);
	free(s);
}

const char *
aiterd_error(const struct aiterd *s)
{
	return s ? s->error : "there is not enough memory";
}

const struct aiterd_problem *
aiterd_problem(const struct aiterd *s)
{
	return s ? &s->problem : &no_problem;
}

const char *
aiterd_url(const struct aiterd *s)
{
	return s && s->base ? s->unix_path ? s->unix_path : s->base : "";
}

enum aiterd_status
aiterd_set_key(struct aiterd *s, const char *key)
{
	char *copy = NULL;

	for (const char *p = key; p && *p; p++)
		if (*p < ' ' || *p > '~')
			return lib_fail(s, AITERD_BAD_ARGUMENT,
					"the key (AITERD_KEY) has a character that is not printable ASCII");
	if (key && !(copy = strdup(key)))
		return lib_no_memory(s);
	free(s->key);
	s->key = copy;
	return AITERD_OK;
}

void
aiterd_set_timeouts(struct aiterd *s, long connect_ms, long request_ms)
{
	s->connect_ms = connect_ms < 0 ? 0 : connect_ms;
	s->request_ms = request_ms < 0 ? 0 : request_ms;
}

void
aiterd_set_retries(struct aiterd *s, int times, int seconds)
{
	s->retries = times < 0 ? 0 : times;
	s->retry_s = seconds < 0 ? 0 : seconds;
}

enum aiterd_status
aiterd_set_compression(struct aiterd *s, const char *coding)
{
	if (!coding || strcmp(coding, "none") == 0)
		s->coding = LIB_PLAIN;
	else if (strcmp(coding, "gzip") == 0)
		s->coding = LIB_GZIP;
	else if (strcmp(coding, "zstd") == 0)
		s->coding = LIB_ZSTD;
	else
		return lib_fail(s, AITERD_BAD_ARGUMENT, "compression '%s' is unknown; it is gzip, zstd or none", coding);
	return AITERD_OK;
}

void
aiterd_set_progress(struct aiterd *s, aiterd_progress_f *progress, void *user)
{
	s->progress = progress;
	s->progress_user = user;
}

void
aiterd_free(void *p)
{
	free(p);
}
