/*
 * test_intake.c: names, limits, parameters, query strings, JSON parameters, dtype.<input> and shuffle.
 */
#include <criterion/criterion.h>

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "unit/intake_fixture.h"

static struct intake_tensor *
add(struct intake *in, const char *name, enum dtype dt, int64_t n, struct err *e)
{
	return intake_tensor(in, name, strlen(name), dt, 1, &n, e);
}

static int
param(struct intake *in, const char *name, const char *value, struct err *e)
{
	return intake_param(in, name, strlen(name), value, strlen(value), e);
}

Test(intake, tensors_get_memory_and_keep_the_operators_names)
{
	struct fixture f;
	struct err e = {0};

	fixture_init(&f, &fixture_op);
	struct intake_tensor *q = add(&f.in, "q", DT_BF16, 100, &e);
	cr_assert(q, "%s", e.msg);
	cr_expect_eq(q->t.bytes, 200);
	cr_expect(!q->arrived && !q->raw && !q->shuffled);
	memset(q->t.data, 1, 200);
	struct intake_tensor *k = add(&f.in, "keys", DT_FP32, 0, &e);
	cr_assert(k, "%s", e.msg);
	cr_expect_str_eq(k->name, "key", "an alias is stored under the operator's own name");
	cr_expect_eq(intake_tensor_find(&f.in, "k", 1), k);
	cr_expect_null(intake_tensor_find(&f.in, "value", 5));
	cr_expect(intake_is_input(&f.in, "keys", 4) && !intake_is_input(&f.in, "out", 3) &&
		  !intake_is_input(&f.in, "", 0));
	fixture_fini(&f);
}

Test(intake, wrong_tensors_are_refused)
{
	static const struct {
		const char *name;
		enum err_code code;
		const char *says;
	} cases[] = {
		{"valu", ERR_UNKNOWN_INPUT, "did you mean value"},
		{"zzz", ERR_UNKNOWN_INPUT, "q, key, value, weight"},
		{"out", ERR_UNKNOWN_INPUT, "output"},
		{"", ERR_MALFORMED_BODY, "empty"},
		{"q", ERR_MALFORMED_BODY, "twice"},
		{"k", ERR_MALFORMED_BODY, "twice"},
		{"expected.out", ERR_UNEXPECTED_EXPECTED, "check"},
		{"a_name_that_goes_on_and_on_until_it_is_longer_than_any_name_may_be", ERR_UNKNOWN_INPUT, "no input"},
	};
	struct fixture f;
	struct err e = {0};

	fixture_init(&f, &fixture_op);
	cr_assert(add(&f.in, "q", DT_FP32, 1, &e) && add(&f.in, "key", DT_FP32, 1, &e));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&e, 0, sizeof(e));
		cr_expect_null(add(&f.in, cases[i].name, DT_FP32, 1, &e), "%s", cases[i].name);
		cr_expect_eq(e.code, cases[i].code, "%s: %s", cases[i].name, e.msg);
		cr_expect(strstr(e.msg, cases[i].says), "%s: \"%s\" lacks \"%s\"", cases[i].name, e.msg, cases[i].says);
	}
	cr_expect_eq(f.in.n_tensors, 2);
	fixture_fini(&f);
	/* Without an operator any name goes, but not too long a one, and not too many. */
	fixture_init(&f, NULL);
	memset(&e, 0, sizeof(e));
	cr_expect_null(add(&f.in, cases[7].name, DT_FP32, 1, &e));
	cr_expect_eq(e.code, ERR_UNKNOWN_INPUT);
	cr_expect_null(intake_tensor(&f.in, "a\0b", 3, DT_FP32, 0, NULL, &e));
	for (int i = 0; i < INTAKE_TENSORS_MAX; i++) {
		char name[16];
		snprintf(name, sizeof(name), "t%d", i);
		cr_assert(add(&f.in, name, DT_FP32, 1, &e));
	}
	memset(&e, 0, sizeof(e));
	cr_expect_null(add(&f.in, "more", DT_FP32, 1, &e));
	cr_expect_eq(e.code, ERR_MALFORMED_BODY);
	fixture_fini(&f);
}

Test(intake, candidates_are_taken_where_they_are_judged)
{
	struct fixture f;
	struct err e = {0};
	struct intake_tensor *out;

	fixture_init(&f, &fixture_op);
	cr_expect_eq(intake_expected(&f.in, "expected.out", 12), -1);
	f.in.takes_expected = true;
	cr_expect_eq(intake_expected(&f.in, "expected.out", 12), 4);
	cr_expect(intake_is_input(&f.in, "expected.out", 12) && !intake_is_input(&f.in, "expected.q", 10));
	out = add(&f.in, "expected.out", DT_FP64, 3, &e);
	cr_assert(out, "%s", e.msg);
	cr_expect_str_eq(out->name, "expected.out");
	cr_expect_eq(intake_tensor_find(&f.in, "expected.out", 12), out);
	cr_expect_null(add(&f.in, "expected.out", DT_FP64, 3, &e));
	cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s", e.msg);
	for (int i = 0; i < 3; i++) {
		static const char *const wrong[] = {"expected.", "expected.q", "expected.outs"};

		memset(&e, 0, sizeof(e));
		cr_expect_null(add(&f.in, wrong[i], DT_FP64, 3, &e), "%s", wrong[i]);
		cr_expect_eq(e.code, ERR_UNKNOWN_INPUT, "%s: %s", wrong[i], e.msg);
		cr_expect(strstr(e.msg, "candidates can be expected.out"), "%s", e.msg);
	}
	fixture_fini(&f);
	fixture_init(&f, NULL);
	f.in.takes_expected = true;
	memset(&e, 0, sizeof(e));
	cr_expect_null(add(&f.in, "expected.out", DT_FP64, 3, &e), "without an operator there are no outputs");
	cr_expect_eq(e.code, ERR_UNEXPECTED_EXPECTED, "%s", e.msg);
	fixture_fini(&f);
}

Test(intake, all_tensors_together_stay_within_the_limit)
{
	struct fixture f;
	struct err e = {0};
	int64_t half = (int64_t)(FIXTURE_TENSOR_BYTES / 2);

	fixture_init(&f, &fixture_op);
	cr_expect_null(add(&f.in, "q", DT_UINT8, half * 2 + 1, &e));
	cr_expect_eq(e.code, ERR_TOO_LARGE);
	cr_expect(add(&f.in, "q", DT_UINT8, half, &e));
	cr_expect(add(&f.in, "key", DT_UINT8, half, &e), "exactly the limit is fine");
	memset(&e, 0, sizeof(e));
	cr_expect_null(add(&f.in, "value", DT_UINT8, 1, &e));
	cr_expect_eq(e.code, ERR_TOO_LARGE);
	cr_expect(strstr(e.msg, "8388609"), "%s", e.msg);
	memset(&e, 0, sizeof(e));
	cr_expect_null(intake_tensor(&f.in, "value", 5, DT_FP32, 3, (int64_t[]){1 << 30, 1 << 30, 1 << 30}, &e));
	cr_expect_eq(e.code, ERR_INVALID_SHAPE, "%s", e.msg);
	fixture_fini(&f);
}

Test(intake, a_parameter_may_be_repeated_but_not_changed)
{
	struct fixture f;
	struct err e = {0};
	char name[128], value[65537 + 1];

	fixture_init(&f, NULL);
	cr_expect_eq(param(&f.in, "causal", "true", &e), 0);
	cr_expect_eq(param(&f.in, "causal", "true", &e), 0);
	cr_expect_eq(f.in.n_params, 1);
	cr_expect_eq(param(&f.in, "causal", "false", &e), -1);
	cr_expect_eq(e.code, ERR_CONFLICTING_PARAMETER);
	cr_expect(strstr(e.msg, "'true'") && strstr(e.msg, "'false'"), "%s", e.msg);
	cr_expect_str_eq(e.param, "causal");
	cr_expect_str_eq(intake_param_find(&f.in, "causal"), "true");
	cr_expect_null(intake_param_find(&f.in, "caus"));
	cr_expect_eq(param(&f.in, "", "x", &e), -1);
	cr_expect_eq(intake_param(&f.in, "a", 1, "x\0y", 3, &e), -1);
	cr_expect_eq(intake_param(&f.in, "a\0", 2, "x", 1, &e), -1);
	memset(name, 'n', sizeof(name));
	cr_expect_eq(intake_param(&f.in, name, 97, "x", 1, &e), -1);
	memset(value, 'v', sizeof(value));
	cr_expect_eq(intake_param(&f.in, "big", 3, value, 65537, &e), -1);
	cr_expect_eq(intake_param(&f.in, "big", 3, value, 65536, &e), 0);
	for (int i = f.in.n_params; i < INTAKE_PARAMS_MAX; i++) {
		snprintf(name, sizeof(name), "p%d", i);
		cr_assert_eq(param(&f.in, name, "", &e), 0);
	}
	cr_expect_eq(param(&f.in, "one more", "1", &e), -1);
	cr_expect_eq(param(&f.in, "causal", "true", &e), 0);
	fixture_fini(&f);
}

Test(intake, query_strings)
{
	static const struct {
		const char *query;
		const char *pairs[7]; /* name, value ... */
	} good[] = {
		{"", {NULL}},
		{"&&", {NULL}},
		{"a=1", {"a", "1"}},
		{"a=1&b=two&", {"a", "1", "b", "two"}},
		{"dry_run&a=", {"dry_run", "true", "a", ""}},
		{"w=%5B8%2C+0%5d&%61b=c=d", {"w", "[8, 0]", "ab", "c=d"}},
		{"x=1&x=1", {"x", "1"}},
		{"n=%c3%a9", {"n", "\xc3\xa9"}},
	};
	static const struct {
		const char *query;
		enum err_code code;
	} bad[] = {
		{"=1", ERR_INVALID_PARAMETER},	  {"a=1&=2", ERR_INVALID_PARAMETER},
		{"a=%", ERR_INVALID_PARAMETER},	  {"a=%4", ERR_INVALID_PARAMETER},
		{"a=%4g", ERR_INVALID_PARAMETER}, {"a=%g4", ERR_INVALID_PARAMETER},
		{"%4=1", ERR_INVALID_PARAMETER},  {"%", ERR_INVALID_PARAMETER},
		{"a=%00", ERR_INVALID_PARAMETER}, {"%00=a", ERR_INVALID_PARAMETER},
		{"%=", ERR_INVALID_PARAMETER},	  {"a=1&a=2", ERR_CONFLICTING_PARAMETER},
	};
	struct fixture f;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct err e = {0};
		int n = 0;
		fixture_init(&f, NULL);
		cr_assert_eq(intake_query(&f.in, good[i].query, &e), 0, "%s: %s", good[i].query, e.msg);
		for (; good[i].pairs[2 * n]; n++) {
			const char *v = intake_param_find(&f.in, good[i].pairs[2 * n]);
			cr_assert(v, "%s", good[i].query);
			cr_expect_str_eq(v, good[i].pairs[2 * n + 1]);
		}
		cr_expect_eq(f.in.n_params, n, "%s", good[i].query);
		fixture_fini(&f);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = {0};
		fixture_init(&f, NULL);
		cr_expect_eq(intake_query(&f.in, bad[i].query, &e), -1, "%s", bad[i].query);
		cr_expect_eq(e.code, bad[i].code, "%s: %s", bad[i].query, e.msg);
		fixture_fini(&f);
	}
	fixture_init(&f, NULL);
	cr_expect_eq(intake_query(&f.in, NULL, NULL), 0);
	fixture_fini(&f);
}

Test(intake, json_parameters_keep_their_text)
{
	static const char text[] =
		" {\"causal\": true, \"none\":null , \"scale\":0.1250, \"seed\": 9223372036854775807, \"big\":"
		"18446744073709551615,\"s\":\"a \\\"b\\\" \\u00e9\", \"window\": [ 8, -1 ], \"tiny\":-1.50E-7,"
		"\"mixed\":[true,[1.0,null],\"x\\\"\"],\"empty\":\"\", \"l\":[]}";
	static const char *const want[][2] = {
		{"causal", "true"},
		{"none", "null"},
		{"scale", "0.1250"},
		{"seed", "9223372036854775807"},
		{"big", "18446744073709551615"},
		{"s", "a \"b\" \xc3\xa9"},
		{"window", "[8,-1]"},
		{"tiny", "-1.50E-7"},
		{"mixed", "[true,[1.0,null],\"x\\\"\"]"},
		{"empty", ""},
		{"l", "[]"},
	};
	static const char *const bad[] = {
		"", "[]", "1", "{\"a\":{}}", "{\"a\":[{}]}", "{\"a\":1", "{\"a\":1,\"a\":1}", "{\"\":1}"};
	struct fixture f;
	struct err e = {0};

	fixture_init(&f, NULL);
	cr_assert_eq(intake_json_params_text(&f.in, text, strlen(text), "params", &e), 0, "%s", e.msg);
	cr_expect_eq(f.in.n_params, (int)(sizeof(want) / sizeof(want[0])));
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		const char *v = intake_param_find(&f.in, want[i][0]);
		cr_assert(v, "%s", want[i][0]);
		cr_expect_str_eq(v, want[i][1], "%s: %s", want[i][0], v);
	}
	fixture_fini(&f);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&e, 0, sizeof(e));
		fixture_init(&f, NULL);
		cr_expect_eq(intake_json_params_text(&f.in, bad[i], strlen(bad[i]), "params", &e), -1, "%s", bad[i]);
		cr_expect_neq(e.code, ERR_NONE, "%s", bad[i]);
		fixture_fini(&f);
	}
}

/* A tensor as decode_npy leaves it: numpy's void types are raw. */
static struct intake_tensor *
arrived(struct intake *in, const char *name, enum dtype dt, int64_t n, bool raw)
{
	struct intake_tensor *it = add(in, name, dt, n, NULL);

	cr_assert(it);
	it->raw = raw;
	it->arrived = true;
	return it;
}

Test(intake, dtype_says_what_bytes_are_but_converts_nothing)
{
	static const struct {
		enum dtype have;
		bool raw;
		const char *says; /* NULL: no parameter */
		enum dtype want;  /* DT_NONE: refused */
		enum err_code code;
	} cases[] = {
		{DT_BF16, true, NULL, DT_BF16, 0},
		{DT_BF16, true, "bf16", DT_BF16, 0},
		{DT_BF16, true, "fp16", DT_FP16, 0},
		{DT_BF16, true, "fp32", DT_NONE, ERR_INVALID_PARAMETER},
		{DT_BF16, true, "fp8_e4m3", DT_NONE, ERR_INVALID_PARAMETER},
		{DT_UINT8, true, NULL, DT_NONE, ERR_INVALID_DTYPE},
		{DT_UINT8, true, "fp8_e4m3fnuz", DT_FP8_E4M3FNUZ, 0},
		{DT_UINT8, true, "uint8", DT_UINT8, 0},
		{DT_UINT8, false, "fp8_e5m2", DT_FP8_E5M2, 0},
		{DT_UINT8, false, NULL, DT_UINT8, 0},
		{DT_FP16, false, "fp16", DT_FP16, 0},
		{DT_FP16, false, "bf16", DT_NONE, ERR_INVALID_PARAMETER},
		{DT_FP32, false, "nonsense", DT_NONE, ERR_INVALID_PARAMETER},
		{DT_FP32, false, "", DT_NONE, ERR_INVALID_PARAMETER},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;
		struct err e = {0};
		fixture_init(&f, &fixture_op);
		struct intake_tensor *it = arrived(&f.in, "q", cases[i].have, 6, cases[i].raw);
		if (cases[i].says)
			cr_assert_eq(param(&f.in, "dtype.q", cases[i].says, &e), 0);
		cr_assert_eq(param(&f.in, "causal", "true", &e), 0);
		int rc = intake_finish(&f.in, &e);
		if (cases[i].want == DT_NONE) {
			cr_expect_eq(rc, -1, "case %zu", i);
			cr_expect_eq(e.code, cases[i].code, "case %zu: %s", i, e.msg);
		} else {
			cr_expect_eq(rc, 0, "case %zu: %s", i, e.msg);
			cr_expect_eq(it->t.dtype, cases[i].want, "case %zu", i);
			cr_expect_eq(f.in.n_params, 1, "only causal is left");
			cr_expect_str_eq(f.in.params[0].name, "causal");
		}
		fixture_fini(&f);
	}
}

Test(intake, finish_refuses_what_names_nothing_or_is_incomplete)
{
	static const char *const names[] = {"dtype.value", "dtype.", "dtype.zzz", "shuffle"};
	struct fixture f;
	struct err e = {0};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		memset(&e, 0, sizeof(e));
		fixture_init(&f, &fixture_op);
		arrived(&f.in, "q", DT_FP32, 1, false);
		cr_assert_eq(param(&f.in, names[i], i == 3 ? "q,value" : "fp32", &e), 0);
		cr_expect_eq(intake_finish(&f.in, &e), -1, "%s", names[i]);
		cr_expect_eq(e.code, ERR_INVALID_PARAMETER, "%s: %s", names[i], e.msg);
		cr_expect_str_eq(e.param, names[i]);
		fixture_fini(&f);
	}
	fixture_init(&f, &fixture_op);
	arrived(&f.in, "q", DT_FP32, 1, false)->arrived = false;
	cr_expect_eq(intake_finish(&f.in, &e), -1);
	fixture_fini(&f);
}

Test(intake, shuffled_tensors_are_mended)
{
	struct fixture f;
	struct err e = {0};

	fixture_init(&f, &fixture_op);
	struct intake_tensor *q = arrived(&f.in, "q", DT_BF16, 3, true);
	struct intake_tensor *k = arrived(&f.in, "key", DT_FP32, 2, false);
	struct intake_tensor *v = arrived(&f.in, "value", DT_INT8, 2, false);
	memcpy(q->t.data, "\1\2\3\4\5\6", 6);
	memcpy(k->t.data, "abcdefgh", 8);
	memcpy(v->t.data, "xy", 2);
	cr_assert_eq(param(&f.in, "shuffle", " q, k,value,", &e), 0);
	cr_assert_eq(intake_finish(&f.in, &e), 0, "%s", e.msg);
	cr_expect_eq(f.in.n_params, 0);
	cr_expect_eq(intake_shuffled_bytes(&f.in), 14, "bytes of one-byte elements are in order already");
	cr_assert_eq(intake_unshuffle(&f.in, &e), 0, "%s", e.msg);
	cr_expect_arr_eq(q->t.data, "\1\4\2\5\3\6", 6);
	cr_expect_arr_eq(k->t.data, "acegbdfh", 8);
	cr_expect_arr_eq(v->t.data, "xy", 2);
	cr_expect_eq(intake_shuffled_bytes(&f.in), 0);
	cr_expect_eq(intake_unshuffle(&f.in, &e), 0);
	cr_expect_arr_eq(k->t.data, "acegbdfh", 8, "once is enough");
	fixture_fini(&f);
}
