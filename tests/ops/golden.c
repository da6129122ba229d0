/*
 * golden.c: reading the golden vectors. A plain safetensors reader of its own: the decoder in server/codec is under
 * test elsewhere and must not vouch for itself.
 */
#include "ops/golden.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *
golden_alloc(struct golden *g, size_t n)
{
	void *p = aligned_alloc(64, (n + 127) / 64 * 64);

	assert(p && g->n_owned < (int)(sizeof g->owned / sizeof g->owned[0]));
	memset(p, 0, n);
	g->owned[g->n_owned++] = p;
	return p;
}

void
golden_free(struct golden *g)
{
	for (int i = 0; i < g->n_owned; i++)
		free(g->owned[i]);
	memset(g, 0, sizeof *g);
}

static unsigned char *
read_file(const char *path, size_t *size, struct err *e)
{
	const char *root = getenv("AITERD_SRCDIR");
	char full[1024];
	unsigned char *p;
	FILE *f;

	if (strchr(path, '/'))
		snprintf(full, sizeof full, "%s", path);
	else
		snprintf(full, sizeof full, "%s/tests/data/%s", root ? root : ".", path);
	f = fopen(full, "rb");
	if (!f) {
		err_set(e, ERR_INTERNAL, "%s cannot be opened", full);
		return NULL;
	}
	p = malloc(16u << 20);
	assert(p);
	*size = fread(p, 1, 16u << 20, f);
	fclose(f);
	return p;
}

static const char *
text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	assert(cJSON_IsString(item));
	return item->valuestring;
}

static int
load_tensor(struct golden *g, const cJSON *entry, const unsigned char *data, size_t size, struct tensor *t,
	    struct err *e)
{
	const cJSON *shape = cJSON_GetObjectItemCaseSensitive(entry, "shape"), *item;
	const cJSON *range = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
	const char *dtype = text_of(entry, "dtype");
	int64_t lengths[TENSOR_RANK_MAX];
	size_t begin = (size_t)cJSON_GetArrayItem(range, 0)->valuedouble;
	int rank = 0;

	cJSON_ArrayForEach(item, shape)
	{
		lengths[rank++] = (int64_t)item->valuedouble;
	}
	if (tensor_describe(t, entry->string, dtype_find_safetensors(dtype, strlen(dtype)), rank, lengths, e))
		return -1;
	assert(begin + t->bytes <= size);
	t->data = golden_alloc(g, t->bytes);
	memcpy(t->data, data + begin, t->bytes);
	return 0;
}

static int
load_entry(struct golden *g, const cJSON *entry, const unsigned char *data, size_t size, struct err *e)
{
	static const char prefix[] = "expected.";
	const char *name = entry->string;
	struct tensor *into = g->call.tensors;
	int i;

	if (!strcmp(name, "__metadata__"))
		return 0;
	if (!strncmp(name, prefix, strlen(prefix))) {
		name += strlen(prefix);
		into = g->expected;
	}
	i = op_tensor_find(g->op, name, strlen(name));
	assert(i >= 0);
	if (into == g->expected && g->op->tensors[i].asked)
		g->call.params[op_param_find(g->op, g->op->tensors[i].asked, strlen(g->op->tensors[i].asked))] =
			(struct op_value){.given = true, .i = {1}};
	return load_tensor(g, entry, data, size, &into[i], e);
}

static int
load_params(struct golden *g, const char *json, struct err *e)
{
	cJSON *params = cJSON_Parse(json), *item;
	int rc = 0;

	assert(params);
	cJSON_ArrayForEach(item, params)
	{
		char *text = cJSON_PrintUnformatted(item);
		int i = op_param_find(g->op, item->string, strlen(item->string));

		assert(i >= 0);
		rc = op_value_parse(&g->op->params[i], text, strlen(text), &g->call.params[i], e);
		free(text);
		if (rc)
			break;
	}
	cJSON_Delete(params);
	return rc;
}

int
golden_prepare(struct golden *g, struct err *e)
{
	if (op_params_finish(g->op, &g->call, e) || op_bind(g->op, &g->call, e))
		return -1;
	for (int i = 0; g->op->tensors[i].name; i++) {
		struct tensor *t = &g->call.tensors[i];

		if (g->op->tensors[i].role != OP_OUT || t->dtype == DT_NONE)
			continue;
		t->data = golden_alloc(g, t->bytes);
		memset(t->data, 0xA5, t->bytes);
	}
	return 0;
}

int
golden_load(const char *path, struct golden *g, struct err *e)
{
	unsigned char *file;
	const char *name;
	cJSON *header, *entry, *meta;
	uint64_t header_len = 0;
	size_t size;
	int rc = 0;

	memset(g, 0, sizeof *g);
	file = read_file(path, &size, e);
	if (!file)
		return -1;
	memcpy(&header_len, file, 8);
	assert(size >= 8 && header_len <= size - 8);
	header = cJSON_ParseWithLength((const char *)file + 8, header_len);
	assert(header);
	meta = cJSON_GetObjectItemCaseSensitive(header, "__metadata__");
	name = text_of(meta, "op");
	g->op = op_find(name, strlen(name), &g->call.op);
	assert(g->op);
	rc = load_params(g, text_of(meta, "params"), e);
	cJSON_ArrayForEach(entry, header)
	{
		if (!rc)
			rc = load_entry(g, entry, file + 8 + header_len, size - 8 - header_len, e);
	}
	cJSON_Delete(header);
	free(file);
	if (rc || golden_prepare(g, e)) {
		golden_free(g);
		return -1;
	}
	return 0;
}

void
golden_outputs_fp64(struct golden *g)
{
	for (int i = 0; g->op->tensors[i].name; i++) {
		struct tensor *t = &g->call.tensors[i];
		struct tensor wide;

		if (g->op->tensors[i].role != OP_OUT || t->dtype == DT_NONE)
			continue;
		assert(!tensor_describe(&wide, g->op->tensors[i].name, DT_FP64, t->rank, t->shape, NULL));
		wide.data = golden_alloc(g, wide.bytes);
		memset(wide.data, 0xA5, wide.bytes);
		*t = wide;
	}
}

double
golden_worst(const struct golden *g, int i, double atol, double rtol)
{
	const struct tensor *got = &g->call.tensors[i], *want = &g->expected[i];
	int64_t n = tensor_elements(want);
	double worst = 0;

	assert(got->dtype != DT_NONE && want->dtype != DT_NONE && tensor_elements(got) == n);
	for (int64_t k = 0; k < n; k++) {
		double a = tensor_get(got, k), b = tensor_get(want, k), ratio;

		if ((isnan(a) && isnan(b)) || (isinf(a) && isinf(b) && signbit(a) == signbit(b)))
			continue;
		ratio = isfinite(a) && isfinite(b) ? fabs(a - b) / (atol + rtol * fabs(b)) : INFINITY;
		if (ratio > worst)
			worst = ratio;
	}
	return worst;
}
