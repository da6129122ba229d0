/*
 * generated.c: tensors made here as the server makes them, bit for bit (api/generate.md), by the server's own generator. This
 * file reads the object that tells which.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/generate.h"
#include "codec/json.h"
#include "lib.h"

#define WHOLE_MAX 0x1p53 /* of numbers that are not written as whole ones (1e3) */

static int
bad(struct err *e, const char *member, const char *wanted)
{
	return err_set(e, ERR_INVALID_PARAMETER, "a generated tensor's %s is wrong; %s is wanted", member, wanted);
}

static int
whole(const cJSON *object, const char *member, bool sign, uint64_t *v, struct err *e)
{
	const char *wanted = sign ? "a whole number of 64 bits" : "a whole number, 0 to 2^64 - 1";
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(object, member);
	char *end;
	double d;

	if (!m)
		return 0;
	if (!cJSON_IsNumber(m))
		return bad(e, member, wanted);
	/* json_parse() keeps the text of numbers */
	errno = 0;
	*v = sign ? (uint64_t)strtoll(m->valuestring, &end, 10) : strtoull(m->valuestring, &end, 10);
	if (*end == '\0' && errno == 0 && (sign || m->valuestring[0] != '-'))
		return 0;
	d = m->valuedouble;
	if (*end == '\0' || !(d >= (sign ? -WHOLE_MAX : 0) && d <= WHOLE_MAX) || d != (double)(int64_t)d)
		return bad(e, member, wanted);
	*v = (uint64_t)(int64_t)d;
	return 0;
}

static int
real(const cJSON *object, const char *member, double *v, struct err *e)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(object, member);

	if (m && !cJSON_IsNumber(m))
		return bad(e, member, "a number");
	if (m)
		*v = m->valuedouble;
	return 0;
}

/* The two numbers that a kind has, by their names; NULL: none. */
static void
names_of(enum generate_kind kind, const char **a, const char **b)
{
	*a = kind == GEN_NORMAL				  ? "mean"
	     : kind == GEN_ARANGE			  ? "start"
	     : kind == GEN_UNIFORM || kind == GEN_RANDINT ? "low"
							  : NULL;
	*b = kind == GEN_NORMAL				  ? "std"
	     : kind == GEN_ARANGE			  ? "step"
	     : kind == GEN_UNIFORM || kind == GEN_RANDINT ? "high"
							  : NULL;
}

static int
numbers(const cJSON *object, struct generate *g, struct err *e)
{
	bool is_whole = g->kind == GEN_RANDINT || (g->kind == GEN_ARANGE && !dtype_info(g->dtype)->is_float);
	uint64_t ia = 0, ib = 1;
	const char *a, *b;
	const cJSON *m;

	names_of(g->kind, &a, &b);
	cJSON_ArrayForEach(m, object)
	{
		static const char *const common[] = {"generate", "dtype", "shape", "seed", "stream"};
		bool known = (a && !strcmp(m->string, a)) || (b && !strcmp(m->string, b));

		for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
			known = known || !strcmp(m->string, common[i]);
		if (!known)
			return err_set(e, ERR_MALFORMED_BODY, "'%.40s' means nothing to a generated tensor of kind %s",
				       m->string, generate_kinds[g->kind]);
	}
	if (g->kind == GEN_RANDINT && !cJSON_GetObjectItemCaseSensitive(object, "high"))
		return err_set(e, ERR_MALFORMED_BODY, "randint needs high, one more than the largest number");
	if (whole(object, "seed", false, &g->seed, e) < 0 || whole(object, "stream", false, &g->stream, e) < 0)
		return -1;
	if (!a)
		return 0;
	if (!is_whole)
		return real(object, a, &g->a, e) < 0 ? -1 : real(object, b, &g->b, e);
	if (whole(object, a, true, &ia, e) < 0 || whole(object, b, true, &ib, e) < 0)
		return -1;
	g->ia = (int64_t)ia;
	g->ib = (int64_t)ib;
	return 0;
}

static int
describe(const cJSON *object, struct generate *g, struct tensor *t, struct err *e)
{
	const cJSON *kind = cJSON_GetObjectItemCaseSensitive(object, "generate"), *dim;
	const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(object, "dtype");
	const cJSON *shape = cJSON_GetObjectItemCaseSensitive(object, "shape");
	int64_t lengths[TENSOR_RANK_MAX];
	enum dtype dt = DT_NONE;
	int k = 0, rank = 0;

	while (k < GEN_COUNT && (!cJSON_IsString(kind) || strcmp(generate_kinds[k], kind->valuestring) != 0))
		k++;
	if (k == GEN_COUNT)
		return bad(e, "kind (generate)", "normal, uniform, zeros, ones, arange or randint");
	if (cJSON_IsString(dtype))
		dt = dtype_find(dtype->valuestring, strlen(dtype->valuestring));
	if (dt == DT_NONE)
		return bad(e, "dtype", "fp32, fp16, bf16 ...");
	if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) > TENSOR_RANK_MAX)
		return bad(e, "shape", "a list of at most 8 lengths");
	cJSON_ArrayForEach(dim, shape)
	{
		if (!cJSON_IsNumber(dim) || !(dim->valuedouble >= 0 && dim->valuedouble <= WHOLE_MAX) ||
		    dim->valuedouble != (double)(int64_t)dim->valuedouble)
			return bad(e, "shape", "a list of whole numbers");
		lengths[rank++] = (int64_t)dim->valuedouble;
	}
	generate_init(g, (enum generate_kind)k, dt);
	if (tensor_describe(t, "the tensor", dt, rank, lengths, e) < 0 || numbers(object, g, e) < 0)
		return -1;
	return generate_check(g, "the tensor", tensor_elements(t), e);
}

enum aiterd_status
aiterd_generate(struct aiterd *s, const char *json, struct aiterd_tensor *tensor)
{
	struct err e = {.code = ERR_NONE};
	cJSON *object = json_parse(json, strlen(json), LIB_JSON_DEPTH, &e);
	enum aiterd_status status = AITERD_OK;
	struct generate g;
	struct tensor t;
	void *data;

	tensor->data = NULL;
	if (!object || describe(object, &g, &t, &e) < 0) {
		status = lib_fail(s, AITERD_BAD_ARGUMENT, "%s", e.msg);
	} else if (!(data = aligned_alloc(64, (t.bytes + 64) & ~(uint64_t)63))) {
		status = lib_no_memory(s);
	} else {
		generate_fill(&g, data, 0, (uint64_t)tensor_elements(&t));
		*tensor = (struct aiterd_tensor){
			.name = "", .dtype = (enum aiterd_dtype)t.dtype, .rank = t.rank, .bytes = t.bytes, .data = data};
		memcpy(tensor->shape, t.shape, sizeof(tensor->shape));
	}
	cJSON_Delete(object);
	return status;
}
