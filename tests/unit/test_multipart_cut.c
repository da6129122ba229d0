/*
 * test_multipart_cut.c: files in forms that end before or after the place their own header tells.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "unit/bodies.h"
#include "unit/intake_fixture.h"

static const char npy_f4[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";

static int
decode(struct fixture *f, const struct op *op, const void *p, size_t n, size_t step, bool window, struct err *e)
{
	memset(e, 0, sizeof(*e));
	fixture_init(f, op);
	return fixture_drive(decoder_multipart_new(&f->in, "XX", 2), p, n, step, window, e);
}

Test(multipart_cut, files_cut_short)
{
	static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (200,), }";
	char data[800], found[40];

	memset(data, 'd', sizeof(data));
	for (size_t have = 0; have < sizeof(data); have += have < 780 ? 130 : 1) {
		for (int last = 0; last < 2; last++) {
			struct bytes q = {NULL, 0}, b = {NULL, 0};
			struct fixture f;
			struct err e;

			bytes_npy(&q, 1, dict, data, have);
			bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n);
			if (!last)
				bytes_part(&b, "name=\"key\"; filename=\"k.npy\"", "", data, sizeof(data));
			bytes_text(&b, "--XX--\r\n");
			snprintf(found, sizeof(found), "%zu bytes of data", have);
			for (size_t step = 1; step < 2000; step += 666) {
				cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, step, step % 2, &e), -1);
				cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s", e.msg);
				cr_expect_str_eq(e.found, found, "%zu: %s", have, e.msg);
				cr_expect_str_eq(e.wanted, "800 bytes of data");
				cr_expect_str_eq(e.input, "q");
				cr_expect(strstr(e.msg, "is cut short"), "%s", e.msg);
				fixture_fini(&f);
			}
			bytes_free(&b);
			bytes_free(&q);
		}
	}
	/* Several tensors in one file: the one in which it ends. */
	static const char head[] = "{\"q\":{\"dtype\":\"F32\",\"shape\":[20],\"data_offsets\":[0,80]},"
				   "\"key\":{\"dtype\":\"F32\",\"shape\":[20],\"data_offsets\":[80,160]}}";
	struct bytes s = {NULL, 0}, b = {NULL, 0};
	struct fixture f;
	struct err e;

	bytes_safetensors(&s, head, data, 40);
	bytes_part(&b, "name=\"all\"; filename=\"a.safetensors\"", "", s.p, s.n);
	bytes_part(&b, "name=\"weight\"; filename=\"w.npy\"", "", data, sizeof(data));
	bytes_text(&b, "--XX--\r\n");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 100, true, &e), -1);
	cr_expect_str_eq(e.found, "40 bytes of data", "%s", e.msg);
	cr_expect_str_eq(e.input, "q");
	fixture_fini(&f);
	bytes_free(&b);
	bytes_free(&s);
}

/*
 * The worst cuts: the delimiter and the next part end just where the file should, or the delimiter lies across its end;
 * in pieces of every size, fed and placed.
 */
Test(multipart_cut, files_cut_by_the_length_of_what_follows)
{
	static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (200,), }";
	char data[800], found[40];
	struct bytes next = {NULL, 0};
	struct fixture f;
	struct err e;

	memset(data, '-', sizeof(data));
	memcpy(data + 300, "\r\n--X\r\n--XY\r\r\n-", 16); /* nearly one, all the way */
	bytes_text(&next, "\r\n");
	bytes_part(&next, "name=\"causal\"", "", "true", 4);
	for (size_t cut = 1; cut <= next.n + 8; cut++) {
		struct bytes q = {NULL, 0}, b = {NULL, 0};

		bytes_npy(&q, 1, dict, data, sizeof(data) - cut);
		bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n);
		bytes_add(&b, next.p + 2, next.n - 2);
		bytes_text(&b, "--XX--\r\n");
		snprintf(found, sizeof(found), "%zu bytes of data", sizeof(data) - cut);
		/* All sizes for the cut that hides a parameter, a few for the others. */
		for (size_t step = 1; step < b.n; step += cut == next.n - 2 ? 1 : 97) {
			for (int window = 0; window < 2; window++) {
				cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, step, window, &e), -1, "%zu by %zu", cut,
					     step);
				cr_expect_str_eq(e.found, found, "%zu by %zu: %s", cut, step, e.msg);
				cr_expect_str_eq(e.wanted, "800 bytes of data");
				fixture_fini(&f);
			}
		}
		bytes_free(&b);
		bytes_free(&q);
	}
	/* Within the header of the file. */
	for (size_t n = 10; n < 128; n++) {
		struct bytes q = {NULL, 0}, b = {NULL, 0};

		bytes_npy(&q, 1, dict, data, sizeof(data));
		bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, n);
		bytes_text(&b, "--XX--\r\n");
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, n, n % 2, &e), -1);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s", e.msg);
		if (n < 120)
			cr_expect(strstr(e.msg, "ends within its header"), "%zu: %s", n, e.msg);
		fixture_fini(&f);
		bytes_free(&b);
		bytes_free(&q);
	}
	bytes_free(&next);
}

/* Of a large file only the end is searched as it comes; what was cut is found afterwards. */
Test(multipart_cut, large_files)
{
	enum { ALL = 1 << 20, HEAD = 118 };
	static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (262144,), }";
	static char data[ALL];
	static const size_t cuts[] = {1, 100, 1000, 131000, 131072, 131100, 500000, ALL - 40, ALL};
	char found[40];

	memset(data, '-', sizeof(data));
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		/* Behind it: nothing; an input, at whose end the file should end too, or not. */
		for (int behind = 0; behind < 3; behind++) {
			struct bytes q = {NULL, 0}, b = {NULL, 0};
			struct fixture f;
			struct err e;

			bytes_npy(&q, 1, dict, data, sizeof(data) - cuts[i]);
			bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n);
			if (behind > 0)
				bytes_part(&b, "name=\"key\"; filename=\"k.npy\"", "", data,
					   behind == 2 && cuts[i] > HEAD ? cuts[i] - HEAD : 4000);
			bytes_text(&b, "--XX--\r\n");
			snprintf(found, sizeof(found), "%zu bytes of data", sizeof(data) - cuts[i]);
			for (int window = 0; window < 2; window++) {
				cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 70000, window, &e), -1, "%zu", cuts[i]);
				cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s", e.msg);
				cr_expect_str_eq(e.found, found, "%zu, %d behind: %s", cuts[i], behind, e.msg);
				cr_expect_str_eq(e.wanted, "1048576 bytes of data");
				cr_expect_str_eq(e.input, "q");
				fixture_fini(&f);
			}
			bytes_free(&b);
			bytes_free(&q);
		}
	}
}

/* A large file cut by just the length of a whole input behind it: that input is missing, which the operator tells. */
Test(multipart_cut, a_large_file_that_hides_an_input)
{
	enum { ALL = 1 << 20 };
	static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (262144,), }";
	static char data[ALL];
	struct bytes next = {NULL, 0}, q = {NULL, 0}, b = {NULL, 0};
	struct fixture f;
	struct err e;

	memset(data, '-', sizeof(data));
	bytes_text(&next, "\r\n");
	bytes_part(&next, "name=\"key\"; filename=\"k.npy\"", "", data, 500000);
	bytes_npy(&q, 1, dict, data, sizeof(data) - (next.n - 2));
	bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n);
	bytes_add(&b, next.p + 2, next.n - 2);
	bytes_text(&b, "--XX--\r\n");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 70000, true, &e), 0, "%s", e.msg);
	cr_expect_eq(f.in.n_tensors, 1);
	cr_expect_null(intake_tensor_find(&f.in, "key", 3));
	fixture_fini(&f);
	bytes_free(&b);
	bytes_free(&q);
	bytes_free(&next);
}

Test(multipart_cut, files_that_end_early_or_late)
{
	struct bytes q = {NULL, 0}, b = {NULL, 0};
	struct fixture f;
	struct err e;

	bytes_npy(&q, 1, npy_f4, "01234567", 8);
	bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n - 1);
	bytes_text(&b, "--XX--\r\n");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1000, true, &e), -1);
	cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	bytes_add(&q, "8", 1);
	bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n);
	bytes_text(&b, "--XX--\r\n");
	for (int window = 0; window < 2; window++) {
		cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1000, window, &e), -1);
		cr_expect(strstr(e.msg, "goes on after the data"), "%s", e.msg);
		cr_expect_str_eq(e.input, "q");
		fixture_fini(&f);
	}
	bytes_free(&b);
	/* Cut anywhere, the body is refused. */
	q.n--;
	bytes_part(&b, "name=\"q\"; filename=\"q.npy\"", "", q.p, q.n);
	bytes_text(&b, "--XX--");
	for (size_t n = 0; n < b.n; n++) {
		cr_expect_eq(decode(&f, &fixture_op, b.p, n, 77, n % 2, &e), -1, "%zu bytes", n);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY, "%zu bytes: %s", n, e.msg);
		fixture_fini(&f);
	}
	/* The same input twice. */
	b.n -= 6;
	bytes_part(&b, "name=\"q\"", "", q.p, q.n);
	bytes_text(&b, "--XX--");
	cr_expect_eq(decode(&f, &fixture_op, b.p, b.n, 1000, true, &e), -1);
	cr_expect(strstr(e.msg, "twice"), "%s", e.msg);
	fixture_fini(&f);
	bytes_free(&b);
	bytes_free(&q);
}
