/* test_oip.c: Open Inference Protocol bodies: JSON, JSON and binary tensors, raw; in pieces, by feed and by window. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/intake_fixture.h"

static const size_t steps[] = {1, 3, 64, 4096, SIZE_MAX};

static int
decode_bytes(struct fixture *f, const struct op *op, int64_t header, const void *body, size_t n, size_t step,
	     struct err *e)
{
	fixture_init(f, op);
	*e = (struct err){.code = ERR_NONE};
	return fixture_drive(decoder_oip_new(&f->in, header), body, n, step, step % 2, e);
}

static const struct tensor *
tensor(struct fixture *f, const char *name)
{
	const struct intake_tensor *it = intake_tensor_find(&f->in, name, strlen(name));

	cr_assert(it && it->arrived, "%s is missing", name);
	return &it->t;
}

Test(oip, json)
{
	static const char body[] =
		"{\"id\":\"a-1\",\"model_name\":\"x\",\"parameters\":{\"causal\":true,\"scale\":0.125,\"window_size\":\"[8, 0]\","
		"\"big\":9007199254740993,\"timeout\":1500001,\"sequence_id\":5,\"priority\":0,\"triton_x\":{\"y\":1},\"headers\":[],"
		"\"binary_data_output\":true},\"inputs\":[{\"name\":\"q\",\"shape\":[1,3],\"datatype\":\"BF16\",\"data\":[1,2,3]},"
		"{\"name\":\"k\",\"shape\":[2,2],\"datatype\":\"FP32\",\"parameters\":{},\"data\":[[0.5,1],[\"NaN\",2]]}],"
		"\"outputs\":[{\"name\":\"out\",\"parameters\":{\"binary_data\":false}}]}";
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		for (int header = 0; header < 2; header++) {
			cr_assert_eq(decode_bytes(&f, &fixture_op, header ? (int64_t)sizeof(body) - 1 : -1, body,
						  sizeof(body) - 1, steps[i], &e),
				     0, "%s", e.msg);
			cr_expect(tensor(&f, "q")->dtype == DT_BF16 && tensor_get(tensor(&f, "q"), 2) == 3);
			cr_expect(tensor(&f, "k")->rank == 2 && tensor_get(tensor(&f, "k"), 0) == 0.5);
			cr_expect_str_eq(f.in.id, "a-1");
			cr_expect_str_eq(intake_param_find(&f.in, "causal"), "true");
			cr_expect_str_eq(intake_param_find(&f.in, "scale"), "0.125");
			cr_expect_str_eq(intake_param_find(&f.in, "window_size"), "[8, 0]");
			cr_expect_str_eq(intake_param_find(&f.in, "big"), "9007199254740993");
			cr_expect_str_eq(intake_param_find(&f.in, "timeout_ms"), "1501");
			cr_expect(!intake_param_find(&f.in, "timeout") && !intake_param_find(&f.in, "sequence_id"));
			cr_expect_eq(f.in.n_params, 5);
			cr_expect(f.in.binary_output_all && f.in.n_outputs == 1);
			cr_expect(!f.in.outputs[0].binary && f.in.outputs[0].binary_given);
			cr_expect_str_eq(f.in.outputs[0].name, "out");
			fixture_fini(&f);
		}
	}
}

Test(oip, binary)
{
	enum { N = 5000 };
	static const char head[] =
		"{\"inputs\":[{\"name\":\"key\",\"shape\":[2,2500],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":20000}},"
		"{\"name\":\"value\",\"shape\":[3],\"datatype\":\"FP32\",\"data\":[7,8,9]},"
		"{\"name\":\"weight\",\"shape\":[0],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":0}},"
		"{\"name\":\"q\",\"shape\":[3],\"datatype\":\"FP16\",\"parameters\":{\"binary_data_size\":6}}]}  ";
	size_t h = sizeof(head) - 1, n = h + 4 * N + 6;
	unsigned char *body = malloc(n);
	const uint16_t half[3] = {0x3c00, 0x4000, 0x4200};
	float *data = malloc(4 * N);
	struct fixture f;
	struct err e;

	for (int i = 0; i < N; i++)
		data[i] = (float)i / 3;
	memcpy(body, head, h);
	memcpy(body + h, data, 4 * N);
	memcpy(body + h + 4 * N, half, 6);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		cr_assert_eq(decode_bytes(&f, &fixture_op, (int64_t)h, body, n, steps[i], &e), 0, "%s", e.msg);
		cr_expect_eq(memcmp(tensor(&f, "key")->data, data, 4 * N), 0);
		cr_expect_eq(memcmp(tensor(&f, "q")->data, half, 6), 0);
		cr_expect_eq(tensor_get(tensor(&f, "value"), 1), 8);
		cr_expect_eq(tensor(&f, "weight")->bytes, 0);
		fixture_fini(&f);
	}
	/* too little, too much, and a header length that is too large or cuts the JSON */
	for (size_t cut = 0; cut<n; cut += cut> h + 10 && cut < n - 20 ? 997 : 1) {
		cr_assert_eq(decode_bytes(&f, &fixture_op, (int64_t)h, body, cut, 64, &e), -1);
		cr_assert(e.code == ERR_MALFORMED_BODY && strstr(e.msg, cut < h ? "Inference-Header" : "body ends"),
			  "%zu: %s", cut, e.msg);
		fixture_fini(&f);
	}
	body = realloc(body, n + 1);
	body[n] = 0;
	cr_expect(decode_bytes(&f, &fixture_op, (int64_t)h, body, n + 1, 64, &e) == -1 && strstr(e.msg, "goes on"),
		  "%s", e.msg);
	fixture_fini(&f);
	cr_expect(decode_bytes(&f, &fixture_op, (int64_t)h - 5, body, n, 64, &e) == -1 && e.code == ERR_MALFORMED_BODY);
	fixture_fini(&f);
	cr_expect(decode_bytes(&f, &fixture_op, INT64_MAX, body, n, 64, &e) == -1 && e.code == ERR_TOO_LARGE, "%s",
		  e.msg);
	fixture_fini(&f);
	free(body);
	free(data);
}

#define Q "\"name\":\"q\",\"datatype\":\"FP32\""

Test(oip, refused)
{
	static const struct {
		const char *body;
		enum err_code code;
		const char *word;
	} cases[] = {
		{"", ERR_MALFORMED_BODY, "empty"},
		{"[]", ERR_MALFORMED_BODY, "object"},
		{"{}", ERR_MALFORMED_BODY, "inputs"},
		{"{\"inputs\":{}}", ERR_MALFORMED_BODY, "list"},
		{"{\"inputs\":[1]}", ERR_MALFORMED_BODY, "object"},
		{"{\"inputs\":[{}]}", ERR_MALFORMED_BODY, "name"},
		{"{\"inputs\":[],\"inputs\":[]}", ERR_MALFORMED_BODY, "\"inputs\""},
		{"{\"inputs\":[],\"id\":5}", ERR_MALFORMED_BODY, "id"},
		{"{\"inputs\":[],\"extra\":5}", ERR_MALFORMED_BODY, "extra"},
		{"{\"inputs\":[],\"parameters\":[]}", ERR_MALFORMED_BODY, "parameters"},
		{"{\"inputs\":[],\"parameters\":{\"a\":[1]}}", ERR_INVALID_PARAMETER, "lists go as text"},
		{"{\"inputs\":[],\"parameters\":{\"a\":null}}", ERR_INVALID_PARAMETER, "a must be"},
		{"{\"inputs\":[],\"parameters\":{\"timeout\":-1}}", ERR_INVALID_PARAMETER, "timeout"},
		{"{\"inputs\":[],\"parameters\":{\"timeout\":1.5}}", ERR_INVALID_PARAMETER, "timeout"},
		{"{\"inputs\":[],\"parameters\":{\"timeout\":99999999999999999999999}}", ERR_INVALID_PARAMETER,
		 "timeout"},
		{"{\"inputs\":[],\"parameters\":{\"timeout\":1000,\"timeout_ms\":2}}", ERR_CONFLICTING_PARAMETER,
		 "timeout_ms"},
		{"{\"inputs\":[],\"parameters\":{\"binary_data_output\":1}}", ERR_INVALID_PARAMETER,
		 "binary_data_output"},
		{"{\"inputs\":[{\"name\":\"q\",\"shape\":[1],\"data\":[1]}]}", ERR_MALFORMED_BODY,
		 "datatype is missing"},
		{"{\"inputs\":[{\"name\":\"q\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"a\"]}]}",
		 ERR_INVALID_DTYPE, "strings"},
		{"{\"inputs\":[{\"name\":\"q\",\"shape\":[1],\"datatype\":\"INT4\",\"data\":[1]}]}", ERR_INVALID_DTYPE,
		 "INT4"},
		{"{\"inputs\":[{" Q ",\"data\":[1]}]}", ERR_MALFORMED_BODY, "shape"},
		{"{\"inputs\":[{" Q ",\"shape\":[1]}]}", ERR_MALFORMED_BODY, "neither"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"what\":1,\"data\":[1]}]}", ERR_MALFORMED_BODY, "what"},
		{"{\"inputs\":[{" Q ",\"shape\":[2],\"data\":[1]}]}", ERR_MALFORMED_BODY, "has 1 element,"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"data\":[1],\"parameters\":{\"binary_data_size\":4}}]}",
		 ERR_MALFORMED_BODY, "exclude"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"parameters\":{\"binary_data_size\":4}}]}", ERR_MALFORMED_BODY,
		 "Inference-Header"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"parameters\":{\"shared_memory_region\":\"r\"}}]}",
		 ERR_NOT_IMPLEMENTED, "shared memory"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"data\":[1],\"parameters\":{\"x\":1}}]}",
		 ERR_UNSUPPORTED_PARAMETER, "x"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"data\":[1]},{" Q ",\"shape\":[1],\"data\":[1]}]}",
		 ERR_MALFORMED_BODY, "twice"},
		{"{\"inputs\":[{" Q ",\"shape\":[1],\"d\\u0061ta\":0}]}", ERR_MALFORMED_BODY, "escapes"},
		{"{\"inputs\":[],\"outputs\":[{\"name\":\"nope\"}]}", ERR_UNSUPPORTED_OUTPUT, "nope"},
		{"{\"inputs\":[],\"outputs\":[{\"name\":\"q\"}]}", ERR_UNSUPPORTED_OUTPUT, "q"},
		{"{\"inputs\":[],\"outputs\":[{\"name\":\"out\"},{\"name\":\"out\"}]}", ERR_MALFORMED_BODY, "twice"},
		{"{\"inputs\":[],\"outputs\":[{\"name\":\"out\",\"parameters\":{\"classification\":3}}]}",
		 ERR_UNSUPPORTED_PARAMETER, "classification"},
		{"{\"inputs\":[],\"outputs\":[{\"name\":\"out\",\"parameters\":{\"shared_memory_region\":\"x\"}}]}",
		 ERR_NOT_IMPLEMENTED, "shared memory"},
		{"{\"inputs\":[],\"outputs\":[{\"name\":\"out\",\"shape\":[1]}]}", ERR_MALFORMED_BODY, "shape"},
		{"{\"inputs\":[],\"outputs\":[5]}", ERR_MALFORMED_BODY, "name"},
	};
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc = decode_bytes(&f, &fixture_op, -1, cases[i].body, strlen(cases[i].body), 5, &e);

		cr_expect(rc == -1 && e.code == cases[i].code && strstr(e.msg, cases[i].word), "%s: %d, %s: %s",
			  cases[i].body, rc, err_info(e.code)->slug, e.msg);
		fixture_fini(&f);
	}
	/* sizes that disagree with the shape, found as soon as the JSON is there */
	static const char wrong[] = "{\"inputs\":[{" Q ",\"shape\":[2],\"parameters\":{\"binary_data_size\":4}}]}1234";

	cr_expect_eq(decode_bytes(&f, &fixture_op, (int64_t)sizeof(wrong) - 5, wrong, sizeof(wrong) - 1, 5, &e), -1);
	cr_expect(strcmp(e.input, "q") == 0 && strcmp(e.found, "4 bytes") == 0 && strcmp(e.wanted, "8 bytes") == 0,
		  "%s", e.msg);
	fixture_fini(&f);
}

static const struct op_tensor raw_tensors[] = {
	{.name = "x", .role = OP_IN, .dtypes = "fp32", .shape = "N 4"},
	{.name = "extra", .role = OP_IN, .dtypes = "fp32", .shape = "N", .optional = true},
	{.name = "out", .role = OP_OUT, .dtypes = "=x", .shape = "N 4"},
	{.name = NULL},
};
static const struct op_tensor vague_tensors[] = {
	{.name = "x", .role = OP_IN, .dtypes = "fp32|fp16", .shape = "N 4"},
	{.name = NULL},
};
static const struct op_tensor open_tensors[] = {
	{.name = "x", .role = OP_IN, .dtypes = "fp32", .shape = "M.. N"},
	{.name = NULL},
};

Test(oip, raw)
{
	static const struct op raw = {.name = "raw", .tensors = raw_tensors, .params = fixture_params};
	static const struct op vague = {.name = "vague", .tensors = vague_tensors, .params = fixture_params};
	static const struct op open = {.name = "open", .tensors = open_tensors, .params = fixture_params};
	float data[12];
	struct fixture f;
	struct err e;

	for (int i = 0; i < 12; i++)
		data[i] = (float)i;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		cr_assert_eq(decode_bytes(&f, &raw, 0, data, sizeof(data), steps[i], &e), 0, "%s", e.msg);
		cr_expect(tensor(&f, "x")->rank == 2 && tensor(&f, "x")->shape[0] == 3 &&
			  tensor(&f, "x")->shape[1] == 4);
		cr_expect(memcmp(tensor(&f, "x")->data, data, sizeof(data)) == 0 && f.in.binary_output_all);
		fixture_fini(&f);
	}
	cr_expect(decode_bytes(&f, &raw, 0, data, 44, 7, &e) == -1 && strstr(e.msg, "multiple"), "%s", e.msg);
	fixture_fini(&f);
	cr_expect_eq(decode_bytes(&f, &raw, 0, data, 0, 7, &e), 0, "%s", e.msg);
	fixture_fini(&f);
	cr_expect(decode_bytes(&f, &vague, 0, data, 48, 7, &e) == -1 && strstr(e.msg, "do not tell"), "%s", e.msg);
	fixture_fini(&f);
	cr_expect(decode_bytes(&f, &open, 0, data, 48, 7, &e) == -1 && strstr(e.msg, "do not tell"), "%s", e.msg);
	fixture_fini(&f);
	cr_expect(decode_bytes(&f, &fixture_op, 0, data, 48, 7, &e) == -1 && strstr(e.msg, "has 2 inputs"), "%s", e.msg);
	fixture_fini(&f);
}
