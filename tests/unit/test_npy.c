/*
 * test_npy.c: .npy files: what numpy writes is read whatever the pieces it comes in, and what cannot be read is
 * refused with what to do instead. The verbatim files were written by numpy 1.24.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "unit/bodies.h"
#include "unit/intake_fixture.h"

static const size_t steps[] = {1, 2, 7, 64, 1 << 20};

#define SPACES20 "                    "

/* np.save of np.arange(6, dtype='<f4').reshape(2, 3) */
static const char numpy_f4[] =
	"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" SPACES20 SPACES20
	"                  \n\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\x00\x00\xa0@";
/* np.lib.format.write_array of np.array(7, dtype='<i8') with version=(3, 0) */
static const char numpy_i8_v3[] =
	"\x93NUMPY\x03\x00t\x00\x00\x00{'descr': '<i8', 'fortran_order': False, 'shape': (), }" SPACES20 SPACES20 SPACES20
	"\n\x07\x00\x00\x00\x00\x00\x00\x00";

static int
decode(struct fixture *f, const struct op *op, const char *name, const void *p, size_t n, size_t step, bool window,
       struct err *e)
{
	memset(e, 0, sizeof(*e));
	fixture_init(f, op);
	return fixture_drive(decoder_npy_new(&f->in, name), p, n, step, window, e);
}

Test(npy, files_that_numpy_wrote)
{
	for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
		for (int window = 0; window < 2; window++) {
			struct fixture f;
			struct err e;
			static const float want[6] = {0, 1, 2, 3, 4, 5};
			cr_assert_eq(decode(&f, &fixture_op, "q", numpy_f4, sizeof(numpy_f4) - 1, steps[s], window, &e),
				     0, "step %zu: %s", steps[s], e.msg);
			const struct intake_tensor *q = intake_tensor_find(&f.in, "q", 1);
			cr_assert(q && q->arrived && !q->raw);
			cr_expect(q->t.dtype == DT_FP32 && q->t.rank == 2 && q->t.shape[0] == 2 && q->t.shape[1] == 3);
			cr_expect_arr_eq(q->t.data, want, sizeof(want));
			cr_expect_eq(intake_finish(&f.in, &e), 0);
			fixture_fini(&f);

			cr_assert_eq(decode(&f, NULL, "n", numpy_i8_v3, sizeof(numpy_i8_v3) - 1, steps[s], window, &e),
				     0, "%s", e.msg);
			const struct intake_tensor *t = intake_tensor_find(&f.in, "n", 1);
			cr_assert(t && t->arrived);
			cr_expect(t->t.dtype == DT_INT64 && t->t.rank == 0 && t->t.bytes == 8);
			cr_expect_arr_eq(t->t.data, "\7\0\0\0\0\0\0\0", 8);
			fixture_fini(&f);
		}
	}
}

Test(npy, headers_that_are_taken)
{
	static const struct {
		unsigned version;
		const char *dict;
		size_t bytes;
		enum dtype dt;
		int rank;
		int64_t first;
		bool raw;
	} cases[] = {
		{1, "{'descr': '<f2', 'fortran_order': False, 'shape': (3,), }", 6, DT_FP16, 1, 3, false},
		{2, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }", 16, DT_FP64, 2, 1, false},
		{1, "{'descr': '|i1', 'fortran_order': False, 'shape': (5,), }", 5, DT_INT8, 1, 5, false},
		{1, "{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }", 5, DT_UINT8, 1, 5, false},
		{1, "{'descr': '|b1', 'fortran_order': False, 'shape': (5,), }", 5, DT_BOOL, 1, 5, false},
		{1, "{'descr': '<i4', 'fortran_order': False, 'shape': (), }", 4, DT_INT32, 0, 0, false},
		{1, "{'descr': '<i8', 'fortran_order': False, 'shape': (0, 7), }", 0, DT_INT64, 2, 0, false},
		{1, "{'descr': '<V2', 'fortran_order': False, 'shape': (4,), }", 8, DT_BF16, 1, 4, true},
		{1, "{'descr': '|V2', 'fortran_order': False, 'shape': (4,), }", 8, DT_BF16, 1, 4, true},
		{1, "{'descr': '|V1', 'fortran_order': False, 'shape': (4,), }", 4, DT_UINT8, 1, 4, true},
		/* Other writers, other orders and blanks; Python 2 wrote L. */
		{1, "{\"shape\":(2L,1L),\"fortran_order\":False,\"descr\":\"<f4\"}", 8, DT_FP32, 2, 2, false},
		{1, " { 'fortran_order' : False , 'shape' : ( 2 , ) , 'descr' : '=f4' } ", 8, DT_FP32, 1, 2, false},
		{1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3, 1), }", 12, DT_FP32, 3, 1, false},
		{1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 0, 2), }", 0, DT_FP32, 3, 2, false},
		{1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1), }", 4, DT_FP32, 8, 1, false},
	};
	unsigned char data[16];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i + 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes b = {NULL, 0};
		struct fixture f;
		struct err e;
		bytes_npy(&b, cases[i].version, cases[i].dict, data, cases[i].bytes);
		cr_assert_eq(decode(&f, NULL, "x", b.p, b.n, 5, i % 2, &e), 0, "%s: %s", cases[i].dict, e.msg);
		const struct intake_tensor *x = intake_tensor_find(&f.in, "x", 1);
		cr_assert(x && x->arrived, "%s", cases[i].dict);
		cr_expect_eq(x->t.dtype, cases[i].dt, "%s", cases[i].dict);
		cr_expect_eq(x->t.rank, cases[i].rank, "%s", cases[i].dict);
		cr_expect(cases[i].rank == 0 || x->t.shape[0] == cases[i].first, "%s", cases[i].dict);
		cr_expect_eq(x->raw, cases[i].raw, "%s", cases[i].dict);
		cr_expect_eq(x->t.bytes, cases[i].bytes, "%s", cases[i].dict);
		cr_expect_arr_eq(x->t.data, data, cases[i].bytes, "%s", cases[i].dict);
		fixture_fini(&f);
		/* One byte less is a truncated file, one more is left over. */
		if (cases[i].bytes > 0)
			cr_expect_eq(decode(&f, NULL, "x", b.p, b.n - 1, 9, true, &e), -1, "%s", cases[i].dict);
		else
			fixture_init(&f, NULL);
		fixture_fini(&f);
		bytes_add(&b, "\n", 1);
		cr_expect_eq(decode(&f, NULL, "x", b.p, b.n, 1000, false, &e), -1, "%s", cases[i].dict);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY);
		fixture_fini(&f);
		bytes_free(&b);
	}
}

Test(npy, headers_that_are_refused_say_what_to_do)
{
	static const struct {
		const char *dict;
		enum err_code code;
		const char *says;
	} cases[] = {
		{"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", ERR_UNSUPPORTED_LAYOUT, "astype"},
		{"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", ERR_UNSUPPORTED_LAYOUT, "astype('<f4')"},
		{"{'descr': '>V2', 'fortran_order': False, 'shape': (2,), }", ERR_UNSUPPORTED_LAYOUT, "big-endian"},
		{"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", ERR_UNSUPPORTED_LAYOUT,
		 "np.ascontiguousarray(q)"},
		{"{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "(int16)"},
		{"{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "q.view('V2')"},
		{"{'descr': '<u2', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "(uint16)"},
		{"{'descr': '<u2', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "bits of bf16"},
		{"{'descr': 'float32', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE,
		 "'float32', which is no"},
		{"{'descr': '<u4', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "uint32"},
		{"{'descr': '<u8', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "uint64"},
		{"{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "complex64"},
		{"{'descr': '<f16', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "float128"},
		{"{'descr': '<U7', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "text"},
		{"{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "date"},
		{"{'descr': '|V8', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "8 bytes"},
		{"{'descr': '<f99999999999999999999', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE,
		 "dtype"},
		{"{'descr': '', 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "dtype"},
		{"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", ERR_INVALID_DTYPE, "structured"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", ERR_INVALID_SHAPE,
		 "8 dimensions"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999999, 999999999999999999), }",
		 ERR_INVALID_SHAPE, "q"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999,), }", ERR_TOO_LARGE, "accepts"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999,), }", ERR_MALFORMED_BODY,
		 "shape"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", ERR_MALFORMED_BODY, "shape"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2), }", ERR_MALFORMED_BODY, "shape"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3), }", ERR_MALFORMED_BODY, "shape"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,", ERR_MALFORMED_BODY, "shape"},
		{"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", ERR_MALFORMED_BODY, "fortran_order"},
		{"{'descr': '|f4', 'fortran_order': False, 'shape': (2,), }", ERR_MALFORMED_BODY, "byte order"},
		{"{'descr': '<f4', 'fortran_order': False, }", ERR_MALFORMED_BODY, "missing"},
		{"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", ERR_MALFORMED_BODY,
		 "twice"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'shape': (2,)}", ERR_MALFORMED_BODY, "twice"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", ERR_MALFORMED_BODY, "key"},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x", ERR_MALFORMED_BODY, "after"},
		{"{'descr': '<f4' 'fortran_order': False}", ERR_MALFORMED_BODY, "','"},
		{"{'descr", ERR_MALFORMED_BODY, "key"},
		{"{'descr' '<f4'}", ERR_MALFORMED_BODY, "':'"},
		{"{", ERR_MALFORMED_BODY, "key"},
		{"", ERR_MALFORMED_BODY, "'{'"},
		{"(2,)", ERR_MALFORMED_BODY, "'{'"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes b = {NULL, 0};
		struct fixture f;
		struct err e;
		bytes_npy(&b, 1, cases[i].dict, "12345678", 8);
		cr_expect_eq(decode(&f, &fixture_op, "q", b.p, b.n, 3, false, &e), -1, "%s", cases[i].dict);
		cr_expect_eq(e.code, cases[i].code, "%s: %s", cases[i].dict, e.msg);
		cr_expect(strstr(e.msg, cases[i].says), "%s: \"%s\" lacks \"%s\"", cases[i].dict, e.msg, cases[i].says);
		cr_expect_str_eq(e.input, "q", "%s", cases[i].dict);
		fixture_fini(&f);
		bytes_free(&b);
	}
}

Test(npy, files_that_are_none)
{
	static const char *const junk[] = {"",
					   "\x93",
					   "\x93NUMPY",
					   "\x93NUMPX\x01~~~~~~~~~~~",
					   "\x93NUMPY\x04~~~~~~~~~~~",
					   "PK\3\4~~~~~~~~~~",
					   "\x93NUMPY\x01~~~~~~~~~~~",
					   "{\"a\":1}       "};
	struct fixture f;
	struct err e;

	for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++) {
		cr_expect_eq(decode(&f, &fixture_op, "q", junk[i], strlen(junk[i]), 4, true, &e), -1, "case %zu", i);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY, "case %zu: %s", i, e.msg);
		fixture_fini(&f);
	}
	/* A header that claims 2 GiB is not believed, and an unknown input not read. */
	cr_expect_eq(decode(&f, &fixture_op, "q", "\x93NUMPY\x02\x00\x00\x00\x00\x80", 12, 4, true, &e), -1);
	cr_expect(strstr(e.msg, "65536"), "%s", e.msg);
	fixture_fini(&f);
	cr_expect_eq(decode(&f, &fixture_op, "zz", numpy_f4, sizeof(numpy_f4) - 1, 4, true, &e), -1);
	cr_expect_eq(e.code, ERR_UNKNOWN_INPUT);
	fixture_fini(&f);
	/* Every truncation is found. */
	for (size_t n = 0; n < sizeof(numpy_f4) - 1; n++) {
		cr_expect_eq(decode(&f, &fixture_op, "q", numpy_f4, n, 50, n % 2, &e), -1, "%zu bytes", n);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%zu bytes: %s", n, e.msg);
		fixture_fini(&f);
	}
}

Test(npy, the_window_is_the_tensor_itself_and_want_counts_down)
{
	struct fixture f;
	struct err e = {0};
	unsigned char *dst = NULL;
	size_t head = sizeof(numpy_f4) - 1 - 24;

	fixture_init(&f, &fixture_op);
	struct decoder *d = decoder_npy_new(&f.in, "q");
	cr_assert(d);
	cr_expect_eq(d->ops->want(d), 10);
	cr_expect_eq(d->ops->window(d, &dst), 0);
	cr_assert_eq(d->ops->feed(d, (const unsigned char *)numpy_f4, 10, &e), 0);
	cr_expect_eq(d->ops->want(d), head - 10);
	cr_assert_eq(d->ops->feed(d, (const unsigned char *)numpy_f4 + 10, head - 10, &e), 0);
	cr_expect_eq(d->ops->want(d), 24);
	cr_assert_eq(d->ops->window(d, &dst), 24);
	cr_expect_eq(dst, f.in.tensors[0].t.data);
	cr_assert_eq(d->ops->advance(d, 4, &e), 0);
	cr_assert_eq(d->ops->window(d, &dst), 20);
	cr_expect_eq(dst, (unsigned char *)f.in.tensors[0].t.data + 4);
	cr_expect_not(f.in.tensors[0].arrived);
	cr_assert_eq(d->ops->advance(d, 20, &e), 0);
	cr_expect(f.in.tensors[0].arrived);
	cr_expect_eq(d->ops->want(d), 0);
	cr_expect_eq(d->ops->finish(d, &e), 0);
	decoder_free(&d);
	cr_expect_null(d);
	fixture_fini(&f);
}
