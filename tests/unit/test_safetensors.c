/*
 * test_safetensors.c: the safetensors reader against the format's rules, whatever the pieces a file comes in.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "unit/bodies.h"
#include "unit/intake_fixture.h"

static const size_t steps[] = {1, 3, 8, 100, 1 << 20};

static int
decode(struct fixture *f, const struct op *op, const void *p, size_t n, size_t step, bool window, struct err *e)
{
	memset(e, 0, sizeof(*e));
	fixture_init(f, op);
	return fixture_drive(decoder_safetensors_new(&f->in), p, n, step, window, e);
}

Test(safetensors, tensors_and_metadata)
{
	/* Not in the order of the bytes, an empty tensor between, a scalar, an unaligned one, trailing blanks. */
	static const char header[] =
		"{\"key\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[3,11]},"
		"\"__metadata__\":{\"format\":\"pt\",\"op\":\"sample_op\",\"shuffle\":\"q,k\","
		"\"params\":\"{\\\"causal\\\":true,\\\"seed\\\":9007199254740993,\\\"window\\\":[8,0]}\"},"
		"\"q\":{\"dtype\":\"F8_E4M3\",\"shape\":[3,1],\"data_offsets\":[0,3]},"
		"\"weight\":{\"shape\":[],\"data_offsets\":[11,13],\"dtype\":\"BF16\"},"
		"\"value\":{\"dtype\":\"I64\",\"shape\":[4,0],\"data_offsets\":[11,11]}}   ";

	for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
		for (int window = 0; window < 2; window++) {
			struct bytes b = {NULL, 0};
			struct fixture f;
			struct err e;
			bytes_safetensors(&b, header, "ABCaaaabbbbzz", 13);
			cr_assert_eq(decode(&f, &fixture_op, b.p, b.n, steps[s], window, &e), 0, "step %zu: %s",
				     steps[s], e.msg);
			bytes_free(&b);
			cr_assert_eq(f.in.n_tensors, 4);
			const struct intake_tensor *q = intake_tensor_find(&f.in, "q", 1);
			const struct intake_tensor *k = intake_tensor_find(&f.in, "key", 3);
			const struct intake_tensor *v = intake_tensor_find(&f.in, "value", 5);
			const struct intake_tensor *w = intake_tensor_find(&f.in, "weight", 6);
			cr_assert(q && k && v && w && q->arrived && k->arrived && v->arrived && w->arrived);
			cr_expect(q->t.dtype == DT_FP8_E4M3 && q->t.rank == 2 && q->t.shape[0] == 3 &&
				  q->t.shape[1] == 1);
			cr_expect(k->t.dtype == DT_FP32 && k->t.rank == 1 && k->t.shape[0] == 2);
			cr_expect(v->t.dtype == DT_INT64 && v->t.rank == 2 && v->t.bytes == 0);
			cr_expect(w->t.dtype == DT_BF16 && w->t.rank == 0 && w->t.bytes == 2);
			cr_expect_arr_eq(q->t.data, "ABC", 3);
			cr_expect_arr_eq(k->t.data, "aaaabbbb", 8);
			cr_expect_arr_eq(w->t.data, "zz", 2);
			cr_expect_str_eq(f.in.op_named, "sample_op");
			cr_expect_eq(f.in.n_params, 4, "format is nobody's parameter");
			cr_expect_str_eq(intake_param_find(&f.in, "causal"), "true");
			cr_expect_str_eq(intake_param_find(&f.in, "seed"), "9007199254740993");
			cr_expect_str_eq(intake_param_find(&f.in, "window"), "[8,0]");
			cr_expect_str_eq(intake_param_find(&f.in, "shuffle"), "q,k");
			fixture_fini(&f);
		}
	}
}

Test(safetensors, all_dtypes)
{
	static const struct {
		const char *name;
		enum dtype dt;
		int size;
	} cases[] = {
		{"F64", DT_FP64, 8},	     {"F32", DT_FP32, 4},	  {"F16", DT_FP16, 2},
		{"BF16", DT_BF16, 2},	     {"I64", DT_INT64, 8},	  {"I32", DT_INT32, 4},
		{"I8", DT_INT8, 1},	     {"U8", DT_UINT8, 1},	  {"BOOL", DT_BOOL, 1},
		{"F8_E5M2", DT_FP8_E5M2, 1}, {"F8_E4M3", DT_FP8_E4M3, 1}, {"F8_E4M3FNUZ", DT_FP8_E4M3FNUZ, 1},
		{"I16", DT_NONE, 2},	     {"U64", DT_NONE, 8},	  {"C64", DT_NONE, 8},
		{"F4", DT_NONE, 1},	     {"f32", DT_NONE, 4},	  {"", DT_NONE, 4},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes b = {NULL, 0};
		struct fixture f;
		struct err e;
		char header[128];
		snprintf(header, sizeof(header), "{\"t\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,%d]}}",
			 cases[i].name, cases[i].size);
		bytes_safetensors(&b, header, "12345678", (size_t)cases[i].size);
		int rc = decode(&f, NULL, b.p, b.n, 1000, true, &e);
		if (cases[i].dt == DT_NONE) {
			cr_expect(rc == -1 && e.code == ERR_INVALID_DTYPE, "%s: %s", cases[i].name, e.msg);
			cr_expect(strstr(e.msg, "'t'") && strstr(e.msg, cases[i].name) && strstr(e.msg, "BF16"), "%s",
				  e.msg);
		} else {
			cr_expect(rc == 0 && f.in.tensors[0].t.dtype == cases[i].dt, "%s: %s", cases[i].name, e.msg);
		}
		fixture_fini(&f);
		bytes_free(&b);
	}
}

#define T(offsets) "\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" offsets

Test(safetensors, files_that_break_the_rules)
{
	static const struct {
		const char *header;
		int bytes;
		enum err_code code;
		const char *says;
	} cases[] = {
		{"{\"q\":{" T("[1,3]") "}}", 3, ERR_MALFORMED_BODY, "begins at 1"},
		{"{\"q\":{" T("[0,2]") "},\"key\":{" T("[3,5]") "}}", 5, ERR_MALFORMED_BODY, "no holes"},
		{"{\"q\":{" T("[0,2]") "},\"key\":{" T("[1,3]") "}}", 3, ERR_MALFORMED_BODY, "no overlaps"},
		{"{\"q\":{" T("[0,2]") "},\"key\":{" T("[0,2]") "}}", 2, ERR_MALFORMED_BODY, "no overlaps"},
		{"{\"q\":{" T("[0,3]") "}}", 3, ERR_MALFORMED_BODY, "3 bytes apart, wanted 2"},
		{"{\"q\":{" T("[2,0]") "}}", 2, ERR_MALFORMED_BODY, "range"},
		{"{\"q\":{" T("[0.5,2.5]") "}}", 2, ERR_MALFORMED_BODY, "range"},
		{"{\"q\":{" T("[-2,0]") "}}", 2, ERR_MALFORMED_BODY, "range"},
		{"{\"q\":{" T("[0,1e300]") "}}", 2, ERR_MALFORMED_BODY, "range"},
		{"{\"q\":{" T("[0]") "}}", 2, ERR_MALFORMED_BODY, "data_offsets"},
		{"{\"q\":{" T("[0,2,4]") "}}", 2, ERR_MALFORMED_BODY, "data_offsets"},
		{"{\"q\":{" T("[0,\"2\"]") "}}", 2, ERR_MALFORMED_BODY, "range"},
		{"{\"q\":{" T("[0,2]") ",\"x\":1}}", 2, ERR_MALFORMED_BODY, "other members"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[2]}}", 2, ERR_MALFORMED_BODY, "other members"},
		{"{\"q\":{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,2]}}", 2, ERR_MALFORMED_BODY, "other members"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":2,\"data_offsets\":[0,2]}}", 2, ERR_MALFORMED_BODY,
		 "other members"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[-2],\"data_offsets\":[0,2]}}", 2, ERR_MALFORMED_BODY, "shape"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,2]}}", 2, ERR_MALFORMED_BODY, "shape"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[2,1,1,1,1,1,1,1,1],\"data_offsets\":[0,2]}}", 2,
		 ERR_INVALID_SHAPE, "8"},
		{"{\"q\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
		 ERR_INVALID_SHAPE, "q"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[99999999],\"data_offsets\":[0,99999999]}}", 9, ERR_TOO_LARGE,
		 "accepts"},
		{"{\"q\":[]}", 0, ERR_MALFORMED_BODY, "other members"},
		{"{\"q\":3}", 0, ERR_MALFORMED_BODY, "other members"},
		{"{\"q\":{" T("[0,2]") "},\"q\":{" T("[2,4]") "}}", 4, ERR_MALFORMED_BODY, "two members called \"q\""},
		{"{\"q\":{" T("[0,2]") "},\"\\u0071\":{" T("[2,4]") "}}", 4, ERR_MALFORMED_BODY,
		 "two members called \"q\""},
		{"{\"q\":{" T("[0,2]") ",\"shape\":[2]}}", 2, ERR_MALFORMED_BODY, "two members called \"shape\""},
		{"{\"__metadata__\":{\"a\":\"1\",\"b\":\"\",\"a\":\"2\"}}", 0, ERR_MALFORMED_BODY,
		 "two members called \"a\""},
		{"{\"__metadata__\":{},\"__metadata__\":null}", 0, ERR_MALFORMED_BODY, "__metadata__"},
		{"{\"q\":{\"dtype\":\"\",\"shape\":[],\"data_offsets\":[0,0]", 0, ERR_MALFORMED_BODY,
		 "inside an object"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":", 0, ERR_MALFORMED_BODY,
		 "a value was expected"},
		{"{\"q\":{" T("[00,2]") "}}", 2, ERR_MALFORMED_BODY, "begins with 0"},
		{"{\"q\":{" T("[0,2,]") "}}", 2, ERR_MALFORMED_BODY, "no JSON value"},
		{"{\"q\":{\"dtype\":\"U8\",\"shape\":[[[[[[[[[[[[[[[2]]]]]]]]]]]]]]],\"data_offsets\":[0,2]}}", 2,
		 ERR_MALFORMED_BODY, "nested deeper than 16"},
		{"{\"__metadata__\":nul}", 0, ERR_MALFORMED_BODY, "no JSON value"},
		{"{\"__metadata__\":\"\"}", 0, ERR_MALFORMED_BODY, "__metadata__"},
		{"{\"key\":{" T("[0,2]") "},\"k\":{" T("[2,4]") "}}", 4, ERR_MALFORMED_BODY, "twice"},
		{"{\"zz\":{" T("[0,2]") "}}", 2, ERR_UNKNOWN_INPUT, "zz"},
		{"{\"\":{" T("[0,2]") "}}", 2, ERR_MALFORMED_BODY, "empty"},
		{"{\"expected.out\":{" T("[0,2]") "}}", 2, ERR_UNEXPECTED_EXPECTED, "check"},
		{"{\"q\":{" T("[0,2]") "}", 2, ERR_MALFORMED_BODY, "header"},
		{"{\"q\":{" T("[0,2]") "}}x", 2, ERR_MALFORMED_BODY, "header"},
		{" {\"q\":{" T("[0,2]") "}}", 2, ERR_MALFORMED_BODY, "'{'"},
		{"[]", 0, ERR_MALFORMED_BODY, "'{'"},
		{"{\"__metadata__\":[]}", 0, ERR_MALFORMED_BODY, "__metadata__"},
		{"{\"__metadata__\":{\"params\":{}}}", 0, ERR_MALFORMED_BODY, "__metadata__.params"},
		{"{\"__metadata__\":{\"params\":\"[]\"}}", 0, ERR_MALFORMED_BODY, "__metadata__.params"},
		{"{\"__metadata__\":{\"params\":\"{\"}}", 0, ERR_MALFORMED_BODY, "__metadata__.params"},
		{"{\"__metadata__\":{\"params\":\"{\\\"a\\\":{}}\"}}", 0, ERR_INVALID_PARAMETER, "'a'"},
		{"{\"__metadata__\":{\"op\":\"0123456789012345678901234567890123456789012345678901234567890123\"}}", 0,
		 ERR_MALFORMED_BODY, "longer"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t step = 1; step < 1000; step += 998) {
			struct bytes b = {NULL, 0};
			struct fixture f;
			struct err e;
			bytes_safetensors(&b, cases[i].header, "0123456789", (size_t)cases[i].bytes);
			cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, step, true, &e), -1, "%s", cases[i].header);
			cr_expect_eq(e.code, cases[i].code, "%s: %s", cases[i].header, e.msg);
			cr_expect(strstr(e.msg, cases[i].says), "%s: \"%s\" lacks \"%s\"", cases[i].header, e.msg,
				  cases[i].says);
			fixture_fini(&f);
			bytes_free(&b);
		}
	}
}

/* Files of another kind are called by their name, but a header's length is never taken for one. */
Test(safetensors, files_of_another_kind)
{
	static const struct {
		const char *p;
		size_t n;
		const char *says;
	} cases[] = {
		{"\x1f\x8b\x08\0\x12\x34\x56\x65\x02\xffxxxxxx", 16, "looks like gzip; say so"},
		{"\x1f\x8b\x08\0\0\0\0\0\x02\xffxxxxxx", 16, "Content-Encoding: gzip"},
		{"\x28\xb5\x2f\xfd\x24\x05xxxxxxxxxx", 16, "Content-Encoding: zstd"},
		{"\x28\xb5\x2f\xfd\0\0\0\0xxxxxxxx", 16, "Content-Encoding: zstd"},
		{"\x93NUMPY\x01\0v\0{'descr", 16, ".npy file; send those as multipart/form-data"},
		{"PK\3\4\x14\0\0\0xxxxxxxx", 16, "looks like a ZIP archive"},
		{"PK\3\4\0\0\0\0xxxxxxxx", 16, "looks like a ZIP archive"},
		{"xxxxxxxxxxxxxxxx", 16, "beyond 100 MB"},
		{"\x20\0\0\0\0\0\0\0xxxxxxxx", 16, "does not begin with '{'"},
		{"\x1f\x8b\x08\0\0\0\0\0{\"q\":{", 14, "ends within its header"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
			struct fixture f;
			struct err e;

			cr_expect_eq(decode(&f, &fixture_op, cases[i].p, cases[i].n, steps[s], true, &e), -1);
			cr_expect(e.code == ERR_MALFORMED_BODY && strstr(e.msg, cases[i].says), "%zu: %s: %s", i,
				  err_info(e.code)->slug, e.msg);
			fixture_fini(&f);
		}
	}
}

Test(safetensors, other_spellings)
{
	/* Escapes in every kind of text, integers as JSON also writes them, null where the reference reader takes it. */
	static const char *const headers[] = {
		"{\"\\u0071\":{\"d\\u0074ype\":\"\\u0055\\u0038\",\"sh\\u0061pe\":[2.0],\"data_offsets\":[-0,2e0]},"
		"\"__metadata__\":null}",
		"{ \"q\" :\t{ \"data_offsets\" : [ 0 , 2 ] , \"dtype\" : \"U8\" , \"shape\":[ 20E-1 ] } }\n ",
		"{\"__meta\\u0064ata__\":{\"params\":\"{\\\"\\ud83d\\ude00\\\":\\u0022\\\\ud83d\\\\ude00\\\"}\"},\"q\":{" T(
			"[0,2]") "}}",
	};
	struct bytes b = {NULL, 0};
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		bytes_safetensors(&b, headers[i], "ab", 2);
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 5, true, &e), 0, "%s: %s", headers[i], e.msg);
		cr_expect(f.in.n_tensors == 1 && f.in.tensors[0].t.dtype == DT_UINT8 && f.in.tensors[0].t.rank == 1 &&
			  f.in.tensors[0].t.shape[0] == 2);
		cr_expect_str_eq(f.in.tensors[0].name, "q");
		cr_expect_eq(f.in.n_params, i == 2);
		if (f.in.n_params > 0) {
			cr_expect_str_eq(f.in.params[0].name, "\xf0\x9f\x98\x80");
			cr_expect_str_eq(f.in.params[0].value, "\xf0\x9f\x98\x80");
		}
		fixture_fini(&f);
		bytes_free(&b);
	}
}

/* More names than are compared each with each. */
Test(safetensors, long_metadata)
{
	for (int twice = 0; twice < 2; twice++) {
		struct bytes b = {NULL, 0}, h = {NULL, 0};
		struct fixture f;
		struct err e;

		for (int i = 0; i < 5000; i++) {
			char member[40];

			snprintf(member, sizeof(member), "%s\"key%d\":\"\"", i ? "," : "{\"__metadata__\":{",
				 twice && i == 4999 ? 17 : i);
			bytes_text(&h, member);
		}
		bytes_add(&h, "}}", 3);
		bytes_safetensors(&b, (const char *)h.p, "", 0);
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 4096, true, &e), twice ? -1 : 0, "%s", e.msg);
		cr_expect(!twice || strstr(e.msg, "two members called \"key17\""), "%s", e.msg);
		fixture_fini(&f);
		bytes_free(&b);
		bytes_free(&h);
	}
}

Test(safetensors, truncated_and_overlong_files)
{
	struct bytes b = {NULL, 0};
	struct fixture f;
	struct err e;

	bytes_safetensors(&b, "{\"q\":{" T("[0,2]") "},\"key\":{" T("[2,4]") "}}", "abcd", 4);
	for (size_t n = 0; n < b.n; n++) {
		cr_expect_eq(decode(&f, &fixture_op, b.p, n, 10, n % 2, &e), -1, "%zu bytes", n);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%zu bytes: %s", n, e.msg);
		fixture_fini(&f);
	}
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n - 3, 10, true, &e), -1);
	cr_expect_str_eq(e.input, "q");
	cr_expect(strstr(e.msg, "3 bytes are missing, 1 of them of 'q'"), "%s", e.msg);
	fixture_fini(&f);
	bytes_add(&b, "e", 1);
	for (int window = 0; window < 2; window++) {
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1000, window, &e), -1);
		cr_expect(strstr(e.msg, "goes on"), "%s", e.msg);
		fixture_fini(&f);
	}
	bytes_free(&b);
	/* The smallest file there is. */
	bytes_safetensors(&b, "{}", "", 0);
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 3, true, &e), 0, "%s", e.msg);
	cr_expect_eq(f.in.n_tensors, 0);
	fixture_fini(&f);
	bytes_free(&b);
}

Test(safetensors, promised_lengths_are_not_believed)
{
	static const struct {
		const char *prefix;
		enum err_code code;
	} cases[] = {
		{"\0\0\0\0\0\0\0\0", ERR_MALFORMED_BODY},   {"\1\0\0\0\0\0\0\0", ERR_MALFORMED_BODY},
		{"\1\0\x10\0\0\0\0\0", ERR_TOO_LARGE}, /* 1 MiB + 1 */
		{"\0\0\0\0\0\0\0\x80", ERR_MALFORMED_BODY}, {"\xff\xff\xff\xff\xff\xff\xff\xff", ERR_MALFORMED_BODY},
		{"{\"inputs", ERR_MALFORMED_BODY},
	};
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(decode(&f, &fixture_op, cases[i].prefix, 8, 8, true, &e), -1, "case %zu", i);
		cr_expect_eq(e.code, cases[i].code, "case %zu: %s", i, e.msg);
		fixture_fini(&f);
	}
	/* More tensors than fit. */
	struct bytes b = {NULL, 0}, h = {NULL, 0};
	for (int i = 0; i <= INTAKE_TENSORS_MAX; i++) {
		char entry[100];
		snprintf(entry, sizeof(entry), "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
			 i ? ',' : '{', i);
		bytes_text(&h, entry);
	}
	bytes_add(&h, "}", 2);
	bytes_safetensors(&b, (const char *)h.p, "", 0);
	cr_expect_eq(decode(&f, NULL, b.p, b.n, 100, true, &e), -1);
	cr_expect(strstr(e.msg, "more than 24"), "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	bytes_free(&h);
}
