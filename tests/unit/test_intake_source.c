/*
 * test_intake_source.c: source objects in JSON bodies and in the parameter `inputs`: what is announced, when there is memory, default
 * streams, numbers of 64 bits, refusals. That the numbers are right is test_generate.c's.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "codec/json.h"
#include "unit/intake_fixture.h"

/* A JSON body of these inputs. */
static int
decode(struct fixture *f, const struct op *op, const char *inputs, struct err *e)
{
	char body[4096];
	int n = snprintf(body, sizeof(body), "{\"inputs\":%s}", inputs);

	cr_assert(n > 0 && (size_t)n < sizeof(body));
	*e = (struct err){.code = ERR_NONE};
	fixture_init(f, op);
	return fixture_drive(decoder_json_new(&f->in), (const unsigned char *)body, (size_t)n, 7, true, e) < 0
		       ? -1
		       : intake_finish(&f->in, e);
}

/* The same inputs as the text of the parameter `inputs`. */
static int
decode_param(struct fixture *f, const struct op *op, const char *inputs, struct err *e)
{
	*e = (struct err){.code = ERR_NONE};
	fixture_init(f, op);
	return intake_param(&f->in, "inputs", 6, inputs, strlen(inputs), e) < 0 ? -1 : intake_finish(&f->in, e);
}

static struct intake_tensor *
find(struct fixture *f, const char *name)
{
	struct intake_tensor *it = intake_tensor_find(&f->in, name, strlen(name));

	cr_assert(it, "%s is not there", name);
	return it;
}

Test(intake_source, is_announced_and_then_made)
{
	const char *inputs =
		"{\"q\":{\"generate\":\"arange\",\"dtype\":\"fp32\",\"shape\":[2,3],\"start\":0.5,\"step\":-2},"
		"\"keys\":{\"shape\":[0,4],\"dtype\":\"float32\",\"generate\":\"ones\"}}";
	int (*const ways[])(struct fixture *, const struct op *, const char *, struct err *) = {decode, decode_param};

	for (size_t w = 0; w < 2; w++) {
		struct fixture f;
		struct err e;
		uint64_t bytes;

		cr_assert_eq(ways[w](&f, &fixture_op, inputs, &e), 0, "%s", e.msg);
		cr_expect_eq(f.in.n_tensors, 2);
		cr_expect_eq(f.in.n_params, 0, "the parameter is taken away");
		struct intake_tensor *q = find(&f, "q"), *key = find(&f, "key");
		cr_expect(q->generated && q->arrived && !q->t.data && q->t.bytes == 24 && q->t.rank == 2);
		cr_expect(key->generated && key->t.bytes == 0 && key->t.dtype == DT_FP32);
		cr_expect(intake_unmade(&f.in, &bytes) && bytes == 24);
		cr_assert_eq(fixture_fill(&f, &e), 0, "%s", e.msg);
		cr_expect(!intake_unmade(&f.in, &bytes) && bytes == 0);
		for (int i = 0; i < 6; i++)
			cr_expect_eq(tensor_get(&q->t, i), 0.5 - 2 * i);
		fixture_fini(&f);
	}
}

Test(intake_source, streams)
{
	static const struct {
		const char *name, *more;
		uint64_t stream;
	} cases[] = {
		{"q", "", 0},
		{"key", "", 1},
		{"k", "", 1},
		{"value", "", 2},
		{"weight", "", 3},
		{"weight", ",\"stream\":18446744073709551615", UINT64_MAX},
		{"weight", ",\"stream\":0", 0},
		{"weight", ",\"stream\":1e3", 1000},
	};
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[200];

		snprintf(text, sizeof(text), "{\"%s\":{\"generate\":\"normal\",\"dtype\":\"fp16\",\"shape\":[2]%s}}",
			 cases[i].name, cases[i].more);
		cr_assert_eq(decode(&f, &fixture_op, text, &e), 0, "%s: %s", text, e.msg);
		cr_expect_eq(f.in.tensors[0].generate.stream, cases[i].stream, "%s", text);
		fixture_fini(&f);
	}
	cr_assert_eq(decode(&f, NULL, "{\"weight\":{\"generate\":\"normal\",\"dtype\":\"fp16\",\"shape\":[2]}}", &e), 0,
		     "%s", e.msg);
	cr_expect_eq(f.in.tensors[0].generate.stream, 0, "no operator");
	fixture_fini(&f);
}

/* The position in the catalogue counts inputs first: so does every operator's table. */
Test(intake_source, inputs_come_first_in_the_tables)
{
	for (uint32_t k = 0; k < op_count(); k++) {
		const struct op *op = op_get(k);

		for (int i = 1; i < op_tensor_count(op); i++)
			cr_expect(op->tensors[i - 1].role == OP_IN || op->tensors[i].role == OP_OUT, "%s: %s", op->name,
				  op->tensors[i].name);
	}
}

Test(intake_source, numbers)
{
	static const struct {
		const char *members;
		struct generate want;
	} cases[] = {
		{"\"generate\":\"normal\",\"dtype\":\"fp16\",\"seed\":18446744073709551615",
		 {.kind = GEN_NORMAL, .dtype = DT_FP16, .seed = UINT64_MAX, .a = 0, .b = 1, .ib = 1}},
		{"\"generate\":\"normal\",\"dtype\":\"fp16\",\"seed\":9007199254740993,\"mean\":-1e-3,\"std\":0",
		 {.kind = GEN_NORMAL, .dtype = DT_FP16, .seed = 9007199254740993, .a = -1e-3, .b = 0, .ib = 1}},
		{"\"generate\":\"uniform\",\"dtype\":\"F64\",\"low\":-3",
		 {.kind = GEN_UNIFORM, .dtype = DT_FP64, .a = -3, .b = 1, .ib = 1}},
		{"\"generate\":\"randint\",\"dtype\":\"int64\",\"low\":-9223372036854775808,\"high\":9223372036854775807",
		 {.kind = GEN_RANDINT, .dtype = DT_INT64, .b = 1, .ia = INT64_MIN, .ib = INT64_MAX}},
		{"\"generate\":\"randint\",\"dtype\":\"bf16\",\"high\":5.0",
		 {.kind = GEN_RANDINT, .dtype = DT_BF16, .b = 1, .ia = 0, .ib = 5}},
		{"\"generate\":\"arange\",\"dtype\":\"int32\",\"start\":-7,\"step\":-2",
		 {.kind = GEN_ARANGE, .dtype = DT_INT32, .b = 1, .ia = -7, .ib = -2}},
		{"\"generate\":\"arange\",\"dtype\":\"fp8_e5m2\",\"start\":7,\"step\":0.25",
		 {.kind = GEN_ARANGE, .dtype = DT_FP8_E5M2, .a = 7, .b = 0.25, .ib = 1}},
		{"\"generate\":\"zeros\",\"dtype\":\"bool\"", {.kind = GEN_ZEROS, .dtype = DT_BOOL, .b = 1, .ib = 1}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct generate *want = &cases[i].want, *got;
		struct fixture f;
		struct err e;
		char text[300];

		snprintf(text, sizeof(text), "{\"q\":{%s,\"shape\":[3]}}", cases[i].members);
		cr_assert_eq(decode_param(&f, &fixture_op, text, &e), 0, "%s: %s", text, e.msg);
		got = &f.in.tensors[0].generate;
		cr_expect(got->kind == want->kind && got->dtype == want->dtype && got->seed == want->seed &&
				  got->a == want->a && got->b == want->b && got->ia == want->ia && got->ib == want->ib,
			  "%s", text);
		fixture_fini(&f);
	}
}

Test(intake_source, refused)
{
	static const struct {
		const char *members;
		enum err_code code;
		const char *word;
	} cases[] = {
		{"\"generate\":\"uniforn\",\"dtype\":\"fp16\",\"shape\":[3]", ERR_INVALID_PARAMETER, "mean uniform"},
		{"\"generate\":null,\"dtype\":\"fp16\",\"shape\":[3]", ERR_INVALID_PARAMETER, "no text"},
		{"\"generate\":\"ones\",\"shape\":[3]", ERR_MALFORMED_BODY, "dtype is missing"},
		{"\"generate\":\"ones\",\"dtype\":\"fp16\"", ERR_MALFORMED_BODY, "shape is missing"},
		{"\"generate\":\"ones\",\"dtype\":\"fp16\",\"shape\":[3],\"seeds\":3", ERR_MALFORMED_BODY, "mean seed?"},
		{"\"generate\":\"ones\",\"dtype\":\"fp16\",\"shape\":[3],\"zzz\":3", ERR_MALFORMED_BODY, "zzz"},
		{"\"generate\":\"ones\",\"dtype\":\"fp16\",\"shape\":[3],\"mean\":3", ERR_MALFORMED_BODY,
		 "ones has no mean"},
		{"\"generate\":\"ones\",\"dtype\":\"fp16\",\"shape\":[3],\"base64\":\"\"", ERR_MALFORMED_BODY, "base64"},
		{"\"generate\":\"arange\",\"dtype\":\"int8\",\"shape\":[3],\"step\":0.5", ERR_INVALID_PARAMETER, "0.5"},
		{"\"generate\":\"randint\",\"dtype\":\"int64\",\"shape\":[3],\"high\":9223372036854775808",
		 ERR_INVALID_PARAMETER, "9223372036854775808"},
		{"\"generate\":\"randint\",\"dtype\":\"int64\",\"shape\":[3],\"high\":1e30", ERR_INVALID_PARAMETER,
		 "1e30"},
		{"\"generate\":\"normal\",\"dtype\":\"fp64\",\"shape\":[3],\"mean\":1e999", ERR_INVALID_PARAMETER,
		 "finite"},
		{"\"generate\":\"normal\",\"dtype\":\"fp64\",\"shape\":[3],\"mean\":true", ERR_INVALID_PARAMETER,
		 "a number"},
		{"\"generate\":\"normal\",\"dtype\":\"fp64\",\"shape\":[3],\"seed\":-0", ERR_INVALID_PARAMETER, "seed"},
		{"\"generate\":\"normal\",\"dtype\":\"fp64\",\"shape\":[2000000]", ERR_TOO_LARGE, "16000000"},
		{"\"tensor\":\"w1\"", ERR_UNSUPPORTED_PARAMETER, "kept"},
		{"\"tensor\":\"w1\",\"dtype\":\"fp16\"", ERR_MALFORMED_BODY, "beside tensor, dtype"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;
		struct err e;
		char text[300];

		snprintf(text, sizeof(text), "{\"keys\":{%s}}", cases[i].members);
		cr_expect_eq(decode(&f, &fixture_op, text, &e), -1, "%s", text);
		cr_expect(e.code == cases[i].code && strstr(e.msg, cases[i].word), "%s: %s", text, e.msg);
		cr_expect(strncmp(e.input, "key", 3) == 0, "%s: %s", text, e.input);
		fixture_fini(&f);
		cr_expect_eq(decode_param(&f, &fixture_op, text, &e), -1, "%s", text);
		cr_expect_eq(e.code, cases[i].code, "%s: %s", text, e.msg);
		cr_expect_eq(f.mem.bytes, 0, "memory for what is refused");
		fixture_fini(&f);
	}
}

/* The names count together against the limit, generated and sent. */
Test(intake_source, limit_is_for_all_together)
{
	struct fixture f;
	struct err e;

	cr_expect_eq(decode_param(&f, &fixture_op,
				  "{\"q\":{\"generate\":\"ones\",\"dtype\":\"fp16\",\"shape\":[4194304]}}", &e),
		     0, "%s", e.msg);
	fixture_fini(&f);
	cr_expect_eq(decode_param(&f, &fixture_op,
				  "{\"q\":{\"generate\":\"ones\",\"dtype\":\"fp16\",\"shape\":[4194304]},"
				  "\"key\":{\"generate\":\"ones\",\"dtype\":\"int8\",\"shape\":[1]}}",
				  &e),
		     -1);
	cr_expect(e.code == ERR_TOO_LARGE && strcmp(e.input, "key") == 0, "%s", e.msg);
	fixture_fini(&f);
}

/* A form of parameters alone: percent signs, pluses, no text at all. */
Test(intake_source, forms)
{
	static const char body[] =
		"causal=true&inputs=%7B%22q%22:{\"generate\":\"ones\",+\"dtype\":\"fp16\",\"shape\":[2,%202]}}";
	struct fixture f;
	struct err e = {.code = ERR_NONE};

	for (size_t step = 1; step < sizeof(body); step += 9) {
		fixture_init(&f, &fixture_op);
		cr_assert_eq(fixture_drive(decoder_form_new(&f.in), (const unsigned char *)body, sizeof(body) - 1, step,
					   true, &e),
			     0, "%s", e.msg);
		cr_assert_eq(intake_finish(&f.in, &e), 0, "%s", e.msg);
		cr_expect(find(&f, "q")->generated);
		cr_expect_str_eq(intake_param_find(&f.in, "causal"), "true");
		fixture_fini(&f);
	}
	fixture_init(&f, &fixture_op);
	cr_expect_eq(fixture_drive(decoder_form_new(&f.in), (const unsigned char *)"", 0, 1, true, &e), 0, "%s", e.msg);
	cr_expect_eq(f.in.n_params, 0);
	fixture_fini(&f);
	fixture_init(&f, &fixture_op);
	cr_expect_eq(fixture_drive(decoder_form_new(&f.in), (const unsigned char *)"a=\0", 3, 3, true, &e), -1);
	cr_expect_eq(e.code, ERR_MALFORMED_BODY);
	fixture_fini(&f);
}
