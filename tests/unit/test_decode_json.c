/* test_decode_json.c: native JSON bodies in pieces of many sizes, by feed and by window. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/intake_fixture.h"

static const size_t steps[] = {1, 7, 4096, SIZE_MAX};

static int
decode(struct fixture *f, const struct op *op, const char *body, size_t step, struct err *e)
{
	fixture_init(f, op);
	*e = (struct err){.code = ERR_NONE};
	return fixture_drive(decoder_json_new(&f->in), (const unsigned char *)body, strlen(body), step, step % 2, e);
}

static const struct intake_tensor *
tensor(struct fixture *f, const char *name, enum dtype dt, int rank)
{
	const struct intake_tensor *it = intake_tensor_find(&f->in, name, strlen(name));

	cr_assert(it, "%s is missing", name);
	cr_assert(it->arrived && it->t.dtype == dt && it->t.rank == rank);
	return it;
}

Test(decode_json, everything)
{
	static const char body[] =
		"{\"inputs\":{\"q\":{\"dtype\":\"fp16\",\"shape\":[2,2],\"data\":[1,-2.5,\"NaN\",\"Infinity\"]},\n"
		" \"k\":{\"base64\":\"AACAPwAAAEA=\",\"shape\":[1,2],\"dtype\":\"F32\"},"
		" \"weight\":{\"dtype\":\"FP32\",\"shape\":[2],\"data\":[0.1,3]}},"
		" \"params\":{\"causal\":true,\"window_size\":[8, 0],\"big\":9007199254740993,\"data\":\"text\",\"eps\":1e-6}}";

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct fixture f;
		struct err e;
		const struct intake_tensor *it;

		cr_assert_eq(decode(&f, &fixture_op, body, steps[i], &e), 0, "%s", e.msg);
		it = tensor(&f, "q", DT_FP16, 2);
		cr_expect(it->t.shape[0] == 2 && it->t.shape[1] == 2);
		cr_expect(tensor_get(&it->t, 0) == 1 && tensor_get(&it->t, 1) == -2.5);
		cr_expect(isnan(tensor_get(&it->t, 2)) && tensor_get(&it->t, 3) == INFINITY);
		it = tensor(&f, "key", DT_FP32, 2);
		cr_expect(tensor_get(&it->t, 0) == 1 && tensor_get(&it->t, 1) == 2);
		it = tensor(&f, "weight", DT_FP32, 1);
		cr_expect(tensor_get(&it->t, 0) == (double)0.1f && tensor_get(&it->t, 1) == 3);
		cr_expect_str_eq(intake_param_find(&f.in, "causal"), "true");
		cr_expect_str_eq(intake_param_find(&f.in, "big"), "9007199254740993");
		cr_expect_str_eq(intake_param_find(&f.in, "data"), "text");
		cr_expect_str_eq(intake_param_find(&f.in, "eps"), "1e-6");
		cr_expect(strchr(intake_param_find(&f.in, "window_size"), '8'));
		fixture_fini(&f);
	}
}

Test(decode_json, shapes)
{
	static const struct {
		const char *input;
		int rank;
		int64_t shape[4];
	} cases[] = {
		{"{\"dtype\":\"fp32\",\"data\":[[1,2,3],[4,5,6]]}", 2, {2, 3}},
		{"{\"dtype\":\"float32\",\"data\":[1,2,3]}", 1, {3}},
		{"{\"dtype\":\"fp32\",\"data\":[]}", 1, {0}},
		{"{\"data\":[[[1],[2]]],\"dtype\":\"fp32\"}", 3, {1, 2, 1}},
		{"{\"dtype\":\"fp32\",\"shape\":[2,3],\"data\":[[1,2,3],[4,5,6]]}", 2, {2, 3}},
		{"{\"dtype\":\"fp32\",\"shape\":[],\"data\":1}", 0, {0}},
		{"{\"dtype\":\"fp32\",\"shape\":[0,7],\"data\":[]}", 2, {0, 7}},
		{"{\"dtype\":\"fp32\",\"shape\":[0,7],\"base64\":\"\"}", 2, {0, 7}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;
		struct err e;
		char body[256];
		const struct intake_tensor *it;

		snprintf(body, sizeof(body), "{\"inputs\":{\"q\":%s}}", cases[i].input);
		cr_assert_eq(decode(&f, &fixture_op, body, 3, &e), 0, "%s: %s", body, e.msg);
		it = tensor(&f, "q", DT_FP32, cases[i].rank);
		for (int k = 0; k < cases[i].rank; k++)
			cr_expect_eq(it->t.shape[k], cases[i].shape[k]);
		for (int64_t k = 0; k < tensor_elements(&it->t); k++)
			cr_expect_eq(tensor_get(&it->t, k), (double)(k + 1));
		fixture_fini(&f);
	}
}

Test(decode_json, refused)
{
	static const struct {
		const char *body;
		enum err_code code;
		const char *word;
	} cases[] = {
		{"", ERR_MALFORMED_BODY, "empty"},
		{"{", ERR_MALFORMED_BODY, "byte 1"},
		{"[]", ERR_MALFORMED_BODY, "object"},
		{"{\"input\":{}}", ERR_MALFORMED_BODY, "member input"},
		{"{\"inputs\":[]}", ERR_MALFORMED_BODY, "object"},
		{"{\"params\":[]}", ERR_MALFORMED_BODY, "object"},
		{"{\"params\":{},\"params\":{}}", ERR_MALFORMED_BODY, "\"params\""},
		{"{\"p\\u0061rams\":{}}", ERR_MALFORMED_BODY, "escapes"},
		{"{\"inputs\":{\"q\":[1,2]}}", ERR_MALFORMED_BODY, "input q"},
		{"{\"inputs\":{\"q\":{}}}", ERR_MALFORMED_BODY, "dtype is missing"},
		{"{\"inputs\":{\"q\":{\"dtype\":1,\"data\":[1]}}}", ERR_MALFORMED_BODY, "dtype (a string)"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp17\",\"shape\":[1],\"data\":[1]}}}", ERR_INVALID_DTYPE, "fp17"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"data\":1}}}", ERR_MALFORMED_BODY, "shape is missing"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"float\",\"data\":[1]}}}", ERR_INVALID_DTYPE, "float is no dtype"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"base64\":\"\"}}}", ERR_MALFORMED_BODY, "shape is missing"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1]}}}", ERR_MALFORMED_BODY, "data and base64"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1],\"base64\":\"AACAPw==\"}}}",
		 ERR_MALFORMED_BODY, "exactly one"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1],\"data\":[1]}}}",
		 ERR_MALFORMED_BODY, "\"data\""},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"d\\u0061ta\":0}}}", ERR_MALFORMED_BODY,
		 "escapes"},
		/* a number of one's own that would mean another input's data */
		{"{\"inputs\":{\"k\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]},\"q\":{\"dtype\":\"fp32\",\"shape\":[1],"
		 "\"d\\u0061ta\":0}}}",
		 ERR_MALFORMED_BODY, "escapes"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[2],\"data\":[1]}}}", ERR_MALFORMED_BODY,
		 "has 1 element,"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"data\":[[1,2],[3]]}}}", ERR_MALFORMED_BODY,
		 "data[1] is a list of 1, but one of 2 is wanted"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[2,2],\"data\":[[1,2],[3]]}}}", ERR_MALFORMED_BODY,
		 "its shape is [2, 2]"},
		{"{\"params\":{\"softcap\":NaN}}", ERR_MALFORMED_BODY, "byte 21: JSON has no number NaN"},
		{"{\"params\":{\"softcap\":-Infinity}}", ERR_MALFORMED_BODY, "JSON has no number NaN or Infinity"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[-1],\"data\":[1]}}}", ERR_MALFORMED_BODY, "-1"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1.5],\"data\":[1]}}}", ERR_MALFORMED_BODY, "1.5"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1e300],\"data\":[1]}}}", ERR_MALFORMED_BODY,
		 "1e300"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[\"1\"],\"data\":[1]}}}", ERR_MALFORMED_BODY,
		 "whole number"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":{},\"data\":[1]}}}", ERR_MALFORMED_BODY, "list"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data\":[1]}}}",
		 ERR_INVALID_SHAPE, "8"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[9007199254740992,9007199254740992],\"data\":[1]}}}",
		 ERR_INVALID_SHAPE, ""},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"extra\":1,\"data\":[1]}}}", ERR_MALFORMED_BODY,
		 "extra"},
		{"{\"inputs\":{\"q\":{\"genrate\":\"normal\",\"seed\":7,\"shape\":[1],\"dtype\":\"fp16\"}}}",
		 ERR_MALFORMED_BODY, "did you mean generate?"},
		{"{\"inputs\":{\"q\":{\"tensor\":\"w1\"}}}", ERR_UNSUPPORTED_PARAMETER, "tensor"},
		{"{\"inputs\":{\"nope\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]}}}", ERR_UNKNOWN_INPUT, "nope"},
		{"{\"inputs\":{\"\xc3\xa9\\n\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]}}}", ERR_UNKNOWN_INPUT,
		 "?"},
		{"{\"inputs\":{\"k\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]},\"key\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]}}}",
		 ERR_MALFORMED_BODY, "twice"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"base64\":[1]}}}", ERR_MALFORMED_BODY, "string"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":\"AACAPw==\"}}}", ERR_MALFORMED_BODY,
		 "list"},
		{"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]}}} x", ERR_MALFORMED_BODY,
		 "follows"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
			struct fixture f;
			struct err e;
			int rc = decode(&f, &fixture_op, cases[i].body, steps[k], &e);

			cr_expect(rc == -1 && e.code == cases[i].code && strstr(e.msg, cases[i].word), "%s: %d, %s: %s",
				  cases[i].body, rc, err_info(e.code)->slug, e.msg);
			fixture_fini(&f);
		}
	}
}

/* A text that leaves the heap, and one beyond the limit. */
Test(decode_json, large)
{
	enum { N = 60000 };
	char *body = malloc(FIXTURE_JSON_BYTES * 2);
	size_t n = (size_t)sprintf(body, "{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[%d],\"data\":[", N);
	struct fixture f;
	struct err e;
	const struct intake_tensor *it;

	for (int i = 0; i < N; i++)
		n += (size_t)sprintf(body + n, "%s%d.25", i ? ", " : "", i);
	n += (size_t)sprintf(body + n, "]}}}");
	cr_assert(n > 500000 && n < FIXTURE_JSON_BYTES);
	for (size_t step = 977; step < 200000; step = step * 5) {
		cr_assert_eq(decode(&f, &fixture_op, body, step, &e), 0, "%s", e.msg);
		it = tensor(&f, "q", DT_FP32, 1);
		for (int i = 0; i < N; i++)
			cr_assert_eq(tensor_get(&it->t, i), i + 0.25);
		fixture_fini(&f);
	}
	/* spaces in the list, up to the limit and one beyond */
	for (size_t more = 0; more < 2; more++) {
		size_t end = FIXTURE_JSON_BYTES + more - 4;

		memset(body + n - 4, ' ', end - (n - 4));
		memcpy(body + end, "]}}}", 5);
		for (size_t k = 1; k < sizeof(steps) / sizeof(steps[0]); k++) {
			cr_expect_eq(decode(&f, &fixture_op, body, steps[k], &e), more ? -1 : 0, "%s", e.msg);
			cr_expect_eq(e.code, more ? ERR_TOO_LARGE : ERR_NONE, "%s", e.msg);
			fixture_fini(&f);
		}
		n = end + 4;
	}
	free(body);
}

/* Cut anywhere, a body is refused, and nothing is read beyond it. */
Test(decode_json, truncated)
{
	static const char body[] =
		"{\"inputs\":{\"q\":{\"dtype\":\"fp32\",\"shape\":[2],\"data\":[1.5,\"NaN\"]},\"k\":{\"dtype\":\"fp32\","
		"\"shape\":[1],\"base64\":\"AACAPw==\"}},\"params\":{\"causal\":true}}";

	for (size_t n = 0; n < sizeof(body) - 1; n++) {
		struct fixture f;
		struct err e = {0};

		fixture_init(&f, &fixture_op);
		cr_expect_eq(fixture_drive(decoder_json_new(&f.in), (const unsigned char *)body, n, 5, false, &e), -1,
			     "%zu bytes", n);
		fixture_fini(&f);
	}
}
