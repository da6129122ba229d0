/*
 * test_multipart.c: multipart/form-data as curl, browsers and Python send it, whatever the pieces, and what is refused.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "unit/bodies.h"
#include "unit/intake_fixture.h"

static const size_t steps[] = {1, 2, 3, 5, 11, 64, 1000, 1 << 20};
#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

static const char npy_f4[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";

static int
decode(struct fixture *f, const struct op *op, const void *p, size_t n, size_t step, bool window, struct err *e)
{
	memset(e, 0, sizeof(*e));
	fixture_init(f, op);
	return fixture_drive(decoder_multipart_new(&f->in, "XX", 2), p, n, step, window, e);
}

static void
expect_param(const struct fixture *f, const char *name, const char *want)
{
	const char *v = intake_param_find(&f->in, name);

	cr_assert(v, "no parameter %s", name);
	cr_expect_str_eq(v, want, "%s is '%s', not '%s'", name, v, want);
}

static void
expect_tensor(struct fixture *f, const char *name, enum dtype dt, const void *data, size_t n)
{
	const struct intake_tensor *it = intake_tensor_find(&f->in, name, strlen(name));

	cr_assert(it, "no tensor %s", name);
	cr_expect(it->arrived && it->t.dtype == dt && it->t.bytes == n, "%s", name);
	cr_expect_arr_eq(it->t.data, data, n, "%s", name);
}

Test(multipart, inputs_and_parameters_in_pieces_of_any_size)
{
	struct bytes b = {NULL, 0}, q = {NULL, 0}, s = {NULL, 0};

	/* Data that looks like a boundary, but is none, is data. */
	bytes_npy(&q, 1, npy_f4, "\r\n--X\r--", 8);
	bytes_safetensors(
		&s,
		"{\"key\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"value\":{\"dtype\":\"U8\",\"shape\":[2],"
		"\"data_offsets\":[8,10]}}",
		"kkkk\r\n--vv", 10);
	bytes_text(&b, "This is the preamble. --XX is no boundary here.\r\n");
	bytes_part(&b, "name=\"causal\"", "", "true", 4);
	bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "Content-Type: application/octet-stream\r\n", q.p, q.n);
	bytes_part(&b, "name=rest; filename=\"a.safetensors\"", "X-Other: 1\r\n", s.p, s.n);
	bytes_part(&b, "filename=\"weight.npy\"; NAME=\"weight\"", "content-transfer-encoding: BINARY\r\n", q.p, q.n);
	bytes_part(&b, "name=\"params\"", "Content-Type: application/json\r\n",
		   "{\"seed\":9007199254740993,\"s\":\"x\"}", 33);
	bytes_part(&b, "name=\"shuffle\";", "", "q\r\n", 3);
	bytes_part(&b, "name=\"empty\"", "", "", 0);
	bytes_part(&b, "name=\"file\"; filename=\"\"", "Content-Type: application/octet-stream\r\n", "", 0);
	bytes_part(&b, "name=\"a \\\"b\\\" \\\\ \\c\"", "", "--XX\r\n --XX-- \r--XX", 19);
	bytes_text(&b, "--XX--\r\nepilogue\r\n--XX\r\n");
	for (size_t i = 0; i < N_STEPS; i++) {
		for (int window = 0; window < 2; window++) {
			struct fixture f;
			struct err e;
			cr_assert_eq(decode(&f, &fixture_op, b.p, b.n, steps[i], window, &e), -1,
				     "a line '--XX' in a value");
			fixture_fini(&f);
		}
	}
	/* Without the last part it is fine. */
	unsigned char *last = memmem(b.p, b.n, "--XX\r\nContent-Disposition: form-data; name=\"a ", 46);
	cr_assert(last);
	b.n = (size_t)(last - b.p);
	bytes_part(&b, "name=\"a \\\"b\\\" \\\\ \\c\"", "", "\r--XX\n--XX-\r\n--X", 16);
	bytes_text(&b, "--XX--\r\nepilogue\r\n--XX\r\n");
	for (size_t i = 0; i < N_STEPS; i++) {
		for (int window = 0; window < 2; window++) {
			struct fixture f;
			struct err e;
			cr_assert_eq(decode(&f, &fixture_op, b.p, b.n, steps[i], window, &e), 0, "step %zu: %s",
				     steps[i], e.msg);
			cr_expect_eq(f.in.n_tensors, 4);
			expect_tensor(&f, "q", DT_FP32, "\r\n--X\r--", 8);
			expect_tensor(&f, "weight", DT_FP32, "\r\n--X\r--", 8);
			expect_tensor(&f, "key", DT_FP32, "kkkk\r\n--", 8);
			expect_tensor(&f, "value", DT_UINT8, "vv", 2);
			cr_expect_eq(f.in.n_params, 6);
			expect_param(&f, "causal", "true");
			expect_param(&f, "seed", "9007199254740993");
			expect_param(&f, "s", "x");
			expect_param(&f, "shuffle", "q");
			expect_param(&f, "empty", "");
			expect_param(&f, "a \"b\" \\ \\c", "\r--XX\n--XX-\r\n--X");
			fixture_fini(&f);
		}
	}
	bytes_free(&b);
	bytes_free(&q);
	bytes_free(&s);
}

Test(multipart, what_a_part_is_told_by_its_content)
{
	struct bytes b = {NULL, 0}, q = {NULL, 0}, s = {NULL, 0};
	struct fixture f;
	struct err e;

	/* No filenames, no types, safetensors without tensors, an empty array, void types. */
	bytes_npy(&q, 2, "{'descr': '|V1', 'fortran_order': False, 'shape': (3,), }", "abc", 3);
	bytes_part(&b, "name=\"q\"", "", q.p, q.n);
	bytes_free(&q);
	bytes_npy(&q, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", "", 0);
	bytes_part(&b, "name=\"k\"", "", q.p, q.n);
	bytes_safetensors(&s, "{}", "", 0);
	bytes_part(&b, "name=\"x.safetensors\"", "Content-Type: application/x-safetensors\r\n", s.p, s.n);
	bytes_free(&s);
	bytes_safetensors(&s, "{\"value\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "v", 1);
	bytes_part(&b, "name=\"any\"", "", s.p, s.n);
	/* The parameter comes after the tensor it is about. */
	bytes_part(&b, "name=\"dtype.q\"", "", "fp8_e4m3", 8);
	bytes_text(&b, "--XX--");
	for (size_t i = 0; i < N_STEPS; i++) {
		cr_assert_eq(decode(&f, &fixture_op, b.p, b.n, steps[i], i % 2, &e), 0, "step %zu: %s", steps[i], e.msg);
		expect_tensor(&f, "q", DT_UINT8, "abc", 3);
		expect_tensor(&f, "key", DT_FP32, "", 0);
		expect_tensor(&f, "value", DT_UINT8, "v", 1);
		cr_assert_eq(intake_finish(&f.in, &e), 0, "%s", e.msg);
		expect_tensor(&f, "q", DT_FP8_E4M3, "abc", 3);
		cr_expect_eq(f.in.n_params, 0);
		fixture_fini(&f);
	}
	bytes_free(&b);
	bytes_free(&q);
	bytes_free(&s);
}

Test(multipart, inputs_as_json)
{
	static const char json[] = " {\"dtype\": \"fp32\", \"shape\": [2], \"data\": [1.5, -2]} \r\n";
	static const char base64[] = "{\"dtype\":\"fp32\",\"shape\":[2],\"base64\":\"AADAPwAAAMA=\"}";
	struct bytes b = {NULL, 0};
	struct fixture f;
	struct err e;
	const float want[2] = {1.5f, -2.0f};

	bytes_part(&b, "name=\"q\"", "", json, sizeof(json) - 1);
	bytes_part(&b, "name=\"keys\"; filename=k.json", "Content-Type: application/json\r\n", base64,
		   sizeof(base64) - 1);
	bytes_text(&b, "--XX--\r\n");
	for (size_t i = 0; i < N_STEPS; i++) {
		cr_assert_eq(decode(&f, &fixture_op, b.p, b.n, steps[i], i % 2, &e), 0, "step %zu: %s", steps[i], e.msg);
		expect_tensor(&f, "q", DT_FP32, want, 8);
		expect_tensor(&f, "key", DT_FP32, want, 8);
		fixture_fini(&f);
	}
	bytes_free(&b);

	static const struct {
		const char *json;
		int status;
	} bad[] = {
		{"{\"generate\":\"nromal\",\"seed\":7,\"shape\":[2],\"dtype\":\"fp32\"}", 422},
		{"{\"tensor\":\"w1\"}", 422},
		{"{\"dtype\":\"fp32\",\"shape\":[2],\"data\":[1]}", 400},
		{"{\"dtype\":\"fp32\",\"shape\":[2],\"data\":[1,2]", 400},
		{"{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]},\"k\":{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]}",
		 400},
		{"{\"dtype\":\"fp32\",\"shape\":[1],\"data\":[1]}}}", 400},
		{"{}", 400},
		{"{", 400},
		{"[1,2]", 400},
		{"1", 400},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bytes_part(&b, "name=\"q\"", "", bad[i].json, strlen(bad[i].json));
		bytes_text(&b, "--XX--\r\n");
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 7, false, &e), -1, "%s", bad[i].json);
		cr_expect(e.code != ERR_NONE && err_info(e.code)->status / 100 == 4, "%s: %s", bad[i].json, e.msg);
		if (bad[i].status == 422)
			cr_expect_eq(err_info(e.code)->status, 422, "%s: %s", bad[i].json, e.msg);
		fixture_fini(&f);
		bytes_free(&b);
	}
}

/* A body of one part, given its header lines (with their line ends) and content. */
static int
one_part(struct err *e, const char *fields, const char *content)
{
	struct bytes b = {NULL, 0};
	struct fixture f;

	bytes_text(&b, "--XX\r\n");
	bytes_text(&b, fields);
	bytes_text(&b, "\r\n");
	bytes_text(&b, content);
	bytes_text(&b, "\r\n--XX--\r\n");
	int rc = decode(&f, &fixture_op, b.p, b.n, 1000, true, e);
	fixture_fini(&f);
	bytes_free(&b);
	return rc;
}

#define CD "Content-Disposition: form-data; "

Test(multipart, parts_that_are_refused)
{
	static const struct {
		const char *fields, *content;
		enum err_code code;
		const char *says;
	} cases[] = {
		{"", "x", ERR_MALFORMED_BODY, "no Content-Disposition"},
		{"Content-Type: text/plain\r\n", "x", ERR_MALFORMED_BODY, "no Content-Disposition"},
		{"Content-Disposition: form-data\r\n", "x", ERR_MALFORMED_BODY, "no name"},
		{"Content-Disposition: attachment; name=\"a\"\r\n", "x", ERR_MALFORMED_BODY, "other than form-data"},
		{CD "name=\"\"\r\n", "x", ERR_MALFORMED_BODY, "empty name"},
		{CD "name=\"a\"; name=\"b\"\r\n", "x", ERR_MALFORMED_BODY, "two names"},
		{CD "name=\"a\"; filename=b; filename=c\r\n", "x", ERR_MALFORMED_BODY, "two filenames"},
		{CD "name=\"a\r\n", "x", ERR_MALFORMED_BODY, "quote"},
		{CD "name=\r\n", "x", ERR_MALFORMED_BODY, "none"},
		{CD "name\r\n", "x", ERR_MALFORMED_BODY, "no value"},
		{CD "name=\"a\" b\r\n", "x", ERR_MALFORMED_BODY, "';'"},
		{CD "name=\"a\"\r\n" CD "name=\"a\"\r\n", "x", ERR_MALFORMED_BODY, "two Content-Dispositions"},
		{CD "name=\"a\"\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n", "x", ERR_MALFORMED_BODY,
		 "two Content-Types"},
		{CD "name=\"a\"\r\n folded\r\n", "x", ERR_MALFORMED_BODY, "'name: value'"},
		{CD "name=\"a\"\r\nno colon\r\n", "x", ERR_MALFORMED_BODY, "'name: value'"},
		{CD "name=\"a\x01\"\r\n", "x", ERR_MALFORMED_BODY, "control"},
		{CD "name=\"a\"\nb: c\r\n", "x", ERR_MALFORMED_BODY, "control"},
		{CD "name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n", "x", ERR_UNSUPPORTED_ENCODING, "base64"},
		{CD "name=\"q\"; filename=\"q.npy\"\r\n", "", ERR_MALFORMED_BODY, "empty"},
		{CD "name=\"q\"\r\n", "", ERR_MALFORMED_BODY, "empty"},
		{CD "name=\"q\"\r\n", "1,2,3", ERR_MALFORMED_BODY, "'q' should be a tensor"},
		{CD "name=\"q\"\r\n", "not a file at all", ERR_MALFORMED_BODY, "'q' should be a tensor"},
		{CD "name=\"q\"; filename=\"q.npz\"\r\n", "PK\3\4zzzzzzzzzzzzzzz", ERR_MALFORMED_BODY,
		 ".npz and .pt files are"},
		{CD "name=\"q\"; filename=\"q.npy.gz\"\r\n", "\x1f\x8b\x08zzzzzzzzzzzzzzz", ERR_MALFORMED_BODY,
		 "looks like gzip"},
		{CD "name=\"q\"; filename=\"q.npy\"\r\n", "\x1f\x8b", ERR_MALFORMED_BODY, "Content-Encoding: gzip"},
		{CD "name=\"q\"\r\n", "\x28\xb5\x2f\xfdzzzzzzzzz", ERR_MALFORMED_BODY, "Content-Encoding: zstd"},
		{CD "name=\"causal\"; filename=\"c.txt\"\r\n", "", ERR_MALFORMED_BODY, "empty"},
		{CD "name=\"zz\"; filename=\"Z.NPY\"\r\n", "not a file at all", ERR_MALFORMED_BODY,
		 "should be a tensor"},
		{CD "name=\"zz\"; filename=\"z.safetensors\"\r\n", "abc", ERR_MALFORMED_BODY, "too short"},
		{CD "name=\"zz\"; filename=\"z.safetensors\"\r\n", "not a file at all", ERR_MALFORMED_BODY,
		 "safetensors"},
		{CD "name=\"zz\"\r\nContent-Type: application/vnd.safetensors; a=b\r\n", "not a file at all",
		 ERR_MALFORMED_BODY, "safetensors"},
		{CD "name=\"zz\"; filename=\"z.safetensors\"\r\n", "\x1f\x8b\x08zzzzzzzzzzzzzzz", ERR_MALFORMED_BODY,
		 "the part 'zz' looks like gzip"},
		{CD "name=\"window_size\"\r\nContent-Type: multipart/mixed; boundary=YY\r\n",
		 "--YY\r\n\r\n8,0)\r\n--YY--\r\n", ERR_MALFORMED_BODY, "write -F window_size=8,0"},
		{"Content-Type: Multipart/Form-Data;boundary=YY\r\n" CD "name=\"q\"\r\n", "--YY--\r\n",
		 ERR_MALFORMED_BODY, "the part 'q' is a multipart one itself"},
		{CD "name=\"params\"\r\n", "causal=true", ERR_MALFORMED_BODY, "the part 'params'"},
		{CD "name=\"params\"\r\n", "[1]", ERR_MALFORMED_BODY, "the part 'params'"},
		{CD "name=\"params\"\r\n", "{\"a\":{}}", ERR_INVALID_PARAMETER, "'a'"},
	};
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(one_part(&e, cases[i].fields, cases[i].content), -1, "%s%s", cases[i].fields,
			     cases[i].content);
		cr_expect_eq(e.code, cases[i].code, "%s%s: %s", cases[i].fields, cases[i].content, e.msg);
		cr_expect(strstr(e.msg, cases[i].says), "%s%s: \"%s\" lacks \"%s\"", cases[i].fields, cases[i].content,
			  e.msg, cases[i].says);
	}
	cr_expect_eq(one_part(&e, CD "name=\"a\"; filename*=UTF-8''x; other=\"y\"\r\n", "x"), 0, "%s", e.msg);
}

Test(multipart, names_of_files_instead_of_files)
{
	static const struct {
		const char *text, *says;
	} cases[] = {{"q.npy", "-F q=@q.npy?"},
		     {"../data/my tensors.safetensors", "-F q=@../data/my tensors.safetensors?"},
		     {"a.npz", "-F q=@a.npz?"},
		     {".npy", "neither"},
		     {"line\none.npy", "neither"},
		     {"zeros(3, 4, 5)", "neither"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes b = {NULL, 0};
		struct fixture f;
		struct err e;

		bytes_part(&b, "name=\"q\"", "", cases[i].text, strlen(cases[i].text));
		bytes_text(&b, "--XX--\r\n");
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1 + i, true, &e), -1);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s", e.msg);
		cr_expect_str_eq(e.input, "q");
		cr_expect(strstr(e.msg, cases[i].says), "%s: %s", cases[i].text, e.msg);
		fixture_fini(&f);
		bytes_free(&b);
	}
}

Test(multipart, bodies_that_are_malformed)
{
	static const struct {
		const char *body;
		const char *says;
	} cases[] = {
		{"", "does not hold the boundary"},
		{"nothing of the kind", "does not hold the boundary"},
		{"--XX\nContent-Disposition: form-data; name=a\n\nx\n--XX--\n", "followed by something else"},
		{"--XXY\r\n", "followed by something else"},
		{"--XX-\r\n", "followed by something else"},
		{"--XX\rx", "followed by something else"},
		{"--XX \r \n", "followed by something else"},
		{"--XX", "last boundary"},
		{"--XX\r\n", "last boundary"},
		{"--XX\r\n" CD "name=a\r\n\r\nx", "last boundary"},
		{"--XX\r\n" CD "name=a\r\n\r\nx\r\n--XX", "last boundary"},
		{"--XX\r\n" CD "name=a\r\n\r\nx\r\n--XX\r\n", "last boundary"},
		{"--XX\r\n" CD "name=a\r\n\r\nx\r\n--XX-", "last boundary"},
	};
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t step = 1; step < 1000; step += 998) {
			cr_expect_eq(decode(&f, &fixture_op, cases[i].body, strlen(cases[i].body), step, true, &e), -1,
				     "%s", cases[i].body);
			cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s: %s", cases[i].body, e.msg);
			cr_expect(strstr(e.msg, cases[i].says), "%s: \"%s\" lacks \"%s\"", cases[i].body, e.msg,
				  cases[i].says);
			fixture_fini(&f);
		}
	}
	/* Blanks after a boundary are allowed, no parts are fine, a part without content too. */
	static const char *const good[] = {"--XX--", "\r\n--XX--\r\n",
					   "--XX \t \r\n" CD "name=a\r\n\r\nx\r\n--XX  \r\n" CD
					   "name=b\r\n\r\n\r\n--XX--",
					   "--XX\r\n" CD "name=a\r\n\r\n--XX--"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_expect_eq(decode(&f, &fixture_op, good[i], strlen(good[i]), 1 + i, true, &e), 0, "%s: %s", good[i],
			     e.msg);
		fixture_fini(&f);
	}
}

/* What follows a file that is too short is taken for its data: the message counts what the file had. */
Test(multipart, everything_has_a_limit)
{
	static char big[(2 << 20) + 1];
	struct bytes b = {NULL, 0};
	struct fixture f;
	struct err e;
	char name[32];

	memset(big, 'a', sizeof(big) - 1);
	/* A value of 64 KiB is the largest parameter. */
	for (int over = 0; over < 2; over++) {
		for (size_t step = 1; step < 10000; step += 9998) {
			bytes_part(&b, "name=\"a\"", "", big, 65536 + (size_t)over);
			bytes_text(&b, "--XX--");
			cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, step, true, &e), -over, "%s", e.msg);
			fixture_fini(&f);
			bytes_free(&b);
		}
	}
	bytes_part(&b, "name=\"a\"", "", big, 2 << 20);
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1 << 16, true, &e), -1);
	cr_expect_eq(e.code, ERR_INVALID_PARAMETER, "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	/* JSON up to the limit for JSON. */
	big[0] = '{';
	bytes_part(&b, "name=\"q\"", "", big, 2 << 20);
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1 << 16, true, &e), -1);
	cr_expect_eq(e.code, ERR_TOO_LARGE, "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	/* Preamble and epilogue. */
	cr_expect_eq(decode(&f, &fixture_op, big, 2 << 20, 1 << 16, true, &e), -1);
	cr_expect(strstr(e.msg, "no boundary"), "%s", e.msg);
	fixture_fini(&f);
	bytes_text(&b, "--XX--");
	bytes_add(&b, big, 65537);
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n - 1, 1 << 16, true, &e), 0, "%s", e.msg);
	fixture_fini(&f);
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1 << 16, true, &e), -1);
	fixture_fini(&f);
	bytes_free(&b);
	/* Header fields: their number, their length, the name's length. */
	for (int n = 15; n <= 16; n++) {
		struct bytes h = {NULL, 0};
		for (int i = 0; i < n; i++)
			bytes_text(&h, "X: y\r\n");
		bytes_add(&h, "", 1);
		bytes_part(&b, "name=\"a\"", (const char *)h.p, "x", 1);
		bytes_text(&b, "--XX--");
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 50, true, &e), n == 15 ? 0 : -1, "%d: %s", n, e.msg);
		fixture_fini(&f);
		bytes_free(&h);
		bytes_free(&b);
	}
	bytes_text(&b, "--XX\r\nX: ");
	bytes_add(&b, big, 10000);
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 50, true, &e), -1);
	cr_expect(strstr(e.msg, "8192"), "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	bytes_text(&b, "--XX\r\n" CD "name=\"");
	bytes_add(&b, big + 1, 129);
	bytes_text(&b, "\"\r\n\r\nx\r\n--XX--");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 50, true, &e), -1);
	cr_expect(strstr(e.msg, "128"), "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	/* Parts. */
	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "name=\"p%d\"", i);
		bytes_part(&b, name, "", "1", 1);
	}
	size_t before = b.n;
	bytes_text(&b, "--XX--");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 50, true, &e), 0, "%s", e.msg);
	cr_expect_eq(f.in.n_params, 64);
	fixture_fini(&f);
	b.n = before;
	bytes_part(&b, "name=\"p0\"", "", "1", 1);
	bytes_text(&b, "--XX--");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 50, true, &e), -1);
	cr_expect(strstr(e.msg, "64 parts"), "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
}

Test(multipart, long_boundaries_and_windows)
{
	static const char boundary[] = "0123456789'()+_,-./:=?0123456789'()+_,-./:=?0123456789'()+_,-./:=?0123";
	struct bytes q = {NULL, 0}, b = {NULL, 0};
	struct fixture f;
	struct err e = {0};
	unsigned char *dst = NULL;

	cr_assert_eq(strlen(boundary), 70);
	bytes_npy(&q, 1, npy_f4, "01234567", 8);
	bytes_text(&b, "--");
	bytes_text(&b, boundary);
	bytes_text(&b, "\r\n" CD "name=\"q\"\r\n\r\n");
	bytes_add(&b, q.p, q.n - 8);
	fixture_init(&f, &fixture_op);
	struct decoder *d = decoder_multipart_new(&f.in, boundary, 70);
	cr_assert(d);
	cr_assert_eq(d->ops->feed(d, b.p, b.n - 1, &e), 0, "%s", e.msg);
	cr_expect_eq(d->ops->window(d, &dst), 0);
	cr_assert_eq(d->ops->feed(d, b.p + b.n - 1, 1, &e), 0, "%s", e.msg);
	cr_expect_eq(d->ops->window(d, &dst), 8);
	cr_expect_eq(dst, f.in.tensors[0].t.data);
	memcpy(dst, "01234567", 8);
	cr_assert_eq(d->ops->advance(d, 8, &e), 0);
	cr_expect_eq(d->ops->window(d, &dst), 0);
	bytes_free(&b);
	bytes_text(&b, "\r\n--");
	bytes_text(&b, boundary);
	bytes_text(&b, "--\r\n");
	cr_assert_eq(d->ops->feed(d, b.p, b.n, &e), 0, "%s", e.msg);
	cr_assert_eq(d->ops->finish(d, &e), 0, "%s", e.msg);
	expect_tensor(&f, "q", DT_FP32, "01234567", 8);
	decoder_free(&d);
	fixture_fini(&f);
	bytes_free(&b);
	bytes_free(&q);
}
