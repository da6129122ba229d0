/*
 * test_decode_tensor.c: bodies that are one tensor: their form found by the first bytes, in pieces of any size, and what is
 * none.
 */
#include <criterion/criterion.h>

#include <stdio.h>

#include "unit/intake_fixture.h"

#define NPY_HEAD "\x93NUMPY\x01\x00\x76\x00"

static const float values[6] = {0, 1, -2, 3.5f, 4, 5};

/* [2, 3] of fp32 as a .npy file; its length. */
static size_t
make_npy(unsigned char *p)
{
	memcpy(p, NPY_HEAD, 10);
	memset(p + 10, ' ', 117);
	memcpy(p + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 59);
	p[127] = '\n';
	memcpy(p + 128, values, sizeof(values));
	return 128 + sizeof(values);
}

/* The same as safetensors, filled up with blanks to a header of `len` bytes. */
static size_t
make_safetensors(unsigned char *p, size_t len)
{
	static const char head[] = "{\"some.name\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}";

	memset(p, 0, 8);
	p[0] = (unsigned char)(len & 255);
	p[1] = (unsigned char)(len >> 8);
	memset(p + 8, ' ', len);
	memcpy(p + 8, head, sizeof(head) - 1);
	memcpy(p + 8 + len, values, sizeof(values));
	return 8 + len + sizeof(values);
}

static void
check(const unsigned char *p, size_t n, enum tensor_form form, const char *name, const char *what)
{
	for (size_t step = 1; step <= n; step += step < 20 ? 1 : 37)
		for (int window = 0; window < 2; window++) {
			struct fixture f;
			struct err e = {.code = ERR_NONE};

			fixture_init(&f, NULL);
			cr_assert_eq(fixture_drive(decoder_tensor_new(&f.in, form), p, n, step, window, &e), 0,
				     "%s in pieces of %zu: %s", what, step, e.msg);
			cr_assert_eq(intake_finish(&f.in, &e), 0, "%s", e.msg);
			cr_assert_eq(f.in.n_tensors, 1);
			cr_assert_str_eq(f.in.tensors[0].name, name);
			cr_assert_eq(f.in.tensors[0].t.dtype, DT_FP32);
			cr_assert(f.in.tensors[0].t.rank == 2 && f.in.tensors[0].t.shape[0] == 2 &&
				  f.in.tensors[0].t.shape[1] == 3);
			cr_assert_eq(memcmp(f.in.tensors[0].t.data, values, sizeof(values)), 0, "%s", what);
			fixture_fini(&f);
		}
}

Test(decode_tensor, forms_are_found_by_the_first_bytes)
{
	static const char json[] = "\n {\"dtype\":\"fp32\",\"shape\":[2,3],\"data\":[0,1,-2,3.5,4,5]} \n";
	unsigned char body[1024];
	size_t n = make_npy(body);

	check(body, n, TENSOR_ANY, TENSOR_BODY_NAME, "npy");
	check(body, n, TENSOR_NPY, TENSOR_BODY_NAME, "npy that is said to be");
	check((const unsigned char *)json, sizeof(json) - 1, TENSOR_ANY, TENSOR_BODY_NAME, "json");
	check((const unsigned char *)json, sizeof(json) - 1, TENSOR_JSON, TENSOR_BODY_NAME, "json that is said to be");
	/* Lengths whose first byte is that of JSON, of a blank, of npy: it is safetensors all the same. */
	for (size_t len = 72; len < 500; len += len == '{' - 1 || len == 0x93 - 1 ? 1 : 9) {
		n = make_safetensors(body, len);
		check(body, n, TENSOR_ANY, "some.name", "safetensors");
	}
	n = make_safetensors(body, '{');
	check(body, n, TENSOR_ANY, "some.name", "safetensors that begin with a brace");
	n = make_safetensors(body, 0x93);
	check(body, n, TENSOR_SAFETENSORS, "some.name", "safetensors that begin as npy does");
}

/* Once it is known to be a file there is no work left for the end: it is read straight into its memory. */
Test(decode_tensor, files_leave_nothing_for_the_end)
{
	unsigned char body[1024], *dst;
	size_t n = make_npy(body);
	struct err e = {.code = ERR_NONE};
	struct decoder *d;
	struct fixture f;

	fixture_init(&f, NULL);
	d = decoder_tensor_new(&f.in, TENSOR_ANY);
	cr_assert(d->ops->pending);
	cr_assert_eq(d->ops->window(d, &dst), 0);
	cr_assert_eq(d->ops->feed(d, body, 128, &e), 0, "%s", e.msg);
	cr_assert_null(d->ops->pending);
	cr_assert_eq(d->ops->window(d, &dst), sizeof(values));
	memcpy(dst, body + 128, n - 128);
	cr_assert_eq(d->ops->advance(d, n - 128, &e), 0);
	cr_assert_eq(d->ops->finish(d, &e), 0, "%s", e.msg);
	decoder_free(&d);
	fixture_fini(&f);
}

Test(decode_tensor, what_is_none)
{
	static const struct {
		const char *body;
		enum tensor_form form;
		enum err_code code;
	} cases[] = {
		{"", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"", TENSOR_NPY, ERR_MALFORMED_BODY},
		{"x", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"{", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"{}", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"        ", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"   ", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"[1,2,3,4,5]", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"{\"dtype\":\"fp32\",\"data\":[1]}}}", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"{\"dtype\":\"fp32\",\"data\":[1]},\"b\":{\"dtype\":\"fp32\",\"data\":[1]}", TENSOR_ANY,
		 ERR_MALFORMED_BODY},
		{"{\"dtype\":\"fp32\"}", TENSOR_JSON, ERR_MALFORMED_BODY},
		{"{\"tensor\":\"w\"}", TENSOR_ANY, ERR_UNSUPPORTED_PARAMETER}, /* there is no store here */
		{"\x93NUMPY", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"\x93NUMPY\x01", TENSOR_ANY, ERR_MALFORMED_BODY},
		{"{\"dtype\":\"fp32\",\"data\":[1]}", TENSOR_NPY, ERR_MALFORMED_BODY},
		{"{\"dtype\":\"fp32\",\"data\":[1]}", TENSOR_SAFETENSORS, ERR_MALFORMED_BODY},
		{"\x1f\x8b and what follows", TENSOR_ANY, ERR_MALFORMED_BODY},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t step = 1; step < 40; step += 6) {
			struct fixture f;
			struct err e = {.code = ERR_NONE};
			int rc;

			fixture_init(&f, NULL);
			rc = fixture_drive(decoder_tensor_new(&f.in, cases[i].form),
					   (const unsigned char *)cases[i].body, strlen(cases[i].body), step, true, &e);
			cr_assert_eq(rc, -1, "case %zu", i);
			cr_assert_eq(e.code, cases[i].code, "case %zu: %s", i, e.msg);
			cr_assert_neq(e.msg[0], '\0');
			fixture_fini(&f);
		}
}
