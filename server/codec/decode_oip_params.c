/*
 * decode_oip_params.c: what an Open Inference Protocol request says besides its inputs: parameters and the outputs it
 * names. Called by decode_oip.c; what it finds goes into the intake.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decode_oip.h"
#include "text.h"

bool
oip_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

int
oip_shared_memory(const char *name, struct err *e)
{
	return err_input(e, ERR_NOT_IMPLEMENTED, name, "shared_memory_region", "data or binary_data_size",
			 "tensor %s: shared memory is not offered; send the data as JSON or binary", name);
}

/* The text of a parameter: a string, a number as written, true or false. NULL: something else. */
static const char *
scalar_text(const cJSON *item)
{
	if (cJSON_IsBool(item))
		return cJSON_IsTrue(item) ? "true" : "false";
	return cJSON_IsString(item) || cJSON_IsNumber(item) ? item->valuestring : NULL;
}

/* Clients' timeouts are in microseconds (0: none), ours in milliseconds; a part of one counts as a whole. */
static int
read_timeout(struct intake *in, const char *text, struct err *e)
{
	char ms[32], *end;
	unsigned long long us;

	errno = 0;
	us = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
		char found[48];

		text_clip(found, sizeof(found), text, strlen(text));
		return err_param(e, ERR_INVALID_PARAMETER, "timeout", found, "a whole number of microseconds",
				 "the parameter timeout is %s; a whole number of microseconds is wanted", found);
	}
	if (us == 0)
		return 0;
	snprintf(ms, sizeof(ms), "%llu", us / 1000 + (us % 1000 != 0));
	return intake_param(in, "timeout_ms", strlen("timeout_ms"), ms, strlen(ms), e);
}

/* Names that belong to the protocol or to Triton and mean nothing here. */
static bool
is_reserved(const char *name)
{
	static const char *const names[] = {"sequence_id", "sequence_start", "sequence_end", "priority", "headers"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return oip_starts(name, "triton_");
}

int
oip_parameters(struct intake *in, const cJSON *object, struct err *e)
{
	const cJSON *item;

	if (!cJSON_IsObject(object))
		return err_param(e, ERR_MALFORMED_BODY, "parameters", "no object", "an object",
				 "parameters must be an object");
	cJSON_ArrayForEach(item, object)
	{
		const char *value = scalar_text(item), *name = item->string;
		char found[48];

		if (is_reserved(name))
			continue;
		if (strcmp(name, "inputs") == 0) {
			if (intake_json_param(in, item, e) < 0)
				return -1;
			continue;
		}
		text_clip(found, sizeof(found), name, strlen(name));
		if (!value)
			return err_param(
				e, ERR_INVALID_PARAMETER, found, "no scalar", "a string, a number or a boolean",
				"the parameter %s must be a string, a number or a boolean; lists go as text (\"[8, 0]\")",
				found);
		if (strcmp(name, "binary_data_output") == 0) {
			if (!cJSON_IsBool(item))
				return err_param(e, ERR_INVALID_PARAMETER, found, value, "true or false",
						 "the parameter binary_data_output must be true or false");
			in->binary_output_all = cJSON_IsTrue(item);
		} else if (strcmp(name, "timeout") == 0) {
			if (read_timeout(in, value, e) < 0)
				return -1;
		} else if (intake_param(in, name, strlen(name), value, strlen(value), e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* An output the request names. */
int
oip_output(struct intake *in, const cJSON *object, struct err *e)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(object, "name");
	const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(object, "parameters"), *item;
	struct intake_output *out;
	char shown[TENSOR_NAME_MAX], found[64];
	const char *own; /* the name as we spell it */

	if (!cJSON_IsObject(object) || !cJSON_IsString(name) || (parameters && !cJSON_IsObject(parameters)))
		return err_param(e, ERR_MALFORMED_BODY, "outputs", "something else", "objects with name and parameters",
				 "each of outputs must be an object with a name and, if need be, parameters");
	own = name->valuestring;
	text_clip(shown, sizeof(shown), own, strlen(own));
	if (in->op) {
		int i = op_tensor_find(in->op, own, strlen(own));

		if (i < 0 || in->op->tensors[i].role != OP_OUT)
			return err_param(e, ERR_UNSUPPORTED_OUTPUT, "outputs", shown, "one of the model's outputs",
					 "%s has no output %s", in->op->name, shown);
		own = in->op->tensors[i].name;
	}
	for (int i = 0; i < in->n_outputs; i++)
		if (strcmp(in->outputs[i].name, own) == 0)
			return err_param(e, ERR_MALFORMED_BODY, "outputs", shown, "each output once",
					 "the output %s is named twice", shown);
	if (in->n_outputs == OP_TENSORS_MAX || strlen(own) >= TENSOR_NAME_MAX)
		return err_param(e, ERR_UNSUPPORTED_OUTPUT, "outputs", shown, "one of the model's outputs",
				 "there is no output %s, or too many are named", shown);
	out = &in->outputs[in->n_outputs++];
	*out = (struct intake_output){.binary = false};
	memcpy(out->name, own, strlen(own) + 1);
	cJSON_ArrayForEach(item, parameters)
	{
		if (strcmp(item->string, "binary_data") == 0 && cJSON_IsBool(item)) {
			out->binary = cJSON_IsTrue(item);
			out->binary_given = true;
			continue;
		}
		if (oip_starts(item->string, "shared_memory_"))
			return oip_shared_memory(shown, e);
		if (strcmp(item->string, "classification") == 0 && cJSON_IsNumber(item) && item->valuedouble == 0)
			continue; /* some clients send it so when they want none */
		text_clip(found, sizeof(found), item->string, strlen(item->string));
		return err_param(e, ERR_UNSUPPORTED_PARAMETER, found, found, "binary_data",
				 "output %s: the parameter %s is not offered; binary_data (true or false) is", shown,
				 found);
	}
	cJSON_ArrayForEach(item, object)
	{
		if (item == name || item == parameters)
			continue;
		text_clip(found, sizeof(found), item->string, strlen(item->string));
		return err_param(e, ERR_MALFORMED_BODY, "outputs", found, "name, parameters",
				 "output %s: %s is not understood here; name and parameters are", shown, found);
	}
	return 0;
}
