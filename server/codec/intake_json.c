/*
 * intake_json.c: parameters that come as members of a JSON object, in JSON bodies, in the part `params` of a form, in
 * safetensors' metadata. Part of intake.h; owns nothing.
 */
#include <string.h>

#include <cjson/cJSON.h>

#include "codec/intake.h"
#include "codec/json.h"
#include "text.h"

#define SHOWN 65 /* room for foreign text in messages */

/* A value as JSON text; numbers as they were written. -1: it is or holds an object, and none may be there. */
static int
value_text(struct text *t, const cJSON *v, bool objects)
{
	const cJSON *child;

	if (cJSON_IsObject(v) && !objects)
		return -1;
	if (cJSON_IsString(v)) {
		text_json(t, v->valuestring);
	} else if (cJSON_IsNumber(v)) {
		text_add(t, v->valuestring);
	} else if (!cJSON_IsArray(v) && !cJSON_IsObject(v)) {
		text_add(t, cJSON_IsTrue(v) ? "true" : cJSON_IsFalse(v) ? "false" : "null");
	} else {
		text_add(t, cJSON_IsArray(v) ? "[" : "{");
		cJSON_ArrayForEach(child, v)
		{
			if (child != v->child)
				text_add(t, ",");
			if (cJSON_IsObject(v)) {
				text_json(t, child->string);
				text_add(t, ":");
			}
			if (value_text(t, child, objects) < 0)
				return -1;
		}
		text_add(t, cJSON_IsArray(v) ? "]" : "}");
	}
	return 0;
}

int
intake_json_param(struct intake *in, const cJSON *v, struct err *e)
{
	size_t name_len = strlen(v->string);
	char head[SHOWN];
	struct text t;
	int rc;

	/* json_parse keeps the text of numbers here, too. */
	if (cJSON_IsString(v) || cJSON_IsNumber(v))
		return intake_param(in, v->string, name_len, v->valuestring, strlen(v->valuestring), e);
	text_clip(head, sizeof(head), v->string, name_len);
	text_init(&t, INTAKE_VALUE_MAX);
	if (value_text(&t, v, strcmp(v->string, "inputs") == 0) < 0)
		rc = err_param(
			e, ERR_INVALID_PARAMETER, head, "an object", "a string, number, boolean or list",
			"the parameter '%s' is or holds a JSON object; parameters are strings, numbers, booleans or lists",
			head);
	else if (text_failed(&t))
		rc = err_param(e, ERR_INVALID_PARAMETER, head, "a longer list", "at most 65536 bytes",
			       "the value of '%s' is longer than %d bytes", head, INTAKE_VALUE_MAX);
	else
		rc = intake_param(in, v->string, name_len, t.p, t.len, e);
	text_fini(&t);
	return rc;
}

int
intake_json_params(struct intake *in, const struct cJSON *object, struct err *e)
{
	const cJSON *v;

	if (!cJSON_IsObject(object))
		return err_set(e, ERR_MALFORMED_BODY, "the parameters must be a JSON object, like {\"causal\": true}");
	cJSON_ArrayForEach(v, object) if (intake_json_param(in, v, e) < 0) return -1;
	return 0;
}

int
intake_json_params_text(struct intake *in, const char *text, size_t len, const char *where, struct err *e)
{
	struct err parse = {.code = ERR_NONE};
	cJSON *object = json_parse(text, len, in->limits.json_depth, &parse);
	int rc;

	if (!object)
		return err_set(e, parse.code, "%s: %s", where, parse.msg);
	if (cJSON_IsObject(object))
		rc = intake_json_params(in, object, e);
	else
		rc = err_set(e, ERR_MALFORMED_BODY, "%s must be a JSON object, like {\"causal\": true}", where);
	cJSON_Delete(object);
	return rc;
}
