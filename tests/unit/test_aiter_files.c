/*
 * test_aiter_files.c: AITER's files as a worker reads them at its start, from trees made here: what is missing, damaged or of
 * another make costs the kernels concerned, is named, and nothing else. Sums are sha256sum's.
 */
#include <criterion/criterion.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/aiter_files.h"

#define CSV                                                                                                            \
	"dtype,hdim_q,hdim_v,mask,mode,bf16_cvt,ts_qo,ts_kv,knl_name,co_name\n"                                        \
	"bf16,128,128,0,0,1,256,32,KA,a.co\n"                                                                          \
	"bf16,128,128,2,0,1,256,32,KB,b.co\n"
#define OBJECT(name) "object with " name ".kd\0 in it" /* and its NUL is no part of the file */
#define CSV_SUM "ba169f97a69f9a1a8abaa99b6d7a1875920528489c64a2ea8b10035115103f99"
#define A_SUM "ca505d6e1ed65e226602992addf970a26f90594015c3e6a4cdab87e49375b9be"
#define B_SUM "84228fee563313823077bc89cdfd8adf9170d7f999149065e5d32646a9361187"
#define C_SUM "896c5211bc2bf44f478c00f92b5c768c373370fd04b1f5bd2582d60f3139b6be" /* of OBJECT("KC") */

static const struct aiter_sum sums[] = {{"gfx942/fmha_v3_fwd/fmha_fwd.csv", CSV_SUM},
					{"gfx942/fmha_v3_fwd/MI300/a.co", A_SUM},
					{"gfx942/fmha_v3_fwd/MI300/b.co", B_SUM},
					{NULL, NULL}};
static char dir[64];

static char *
path(const char *name)
{
	static char p[256];

	snprintf(p, sizeof p, "%s/gfx942/fmha_v3_fwd/%s", dir, name);
	return p;
}

static void
put(const char *name, const void *data, size_t size)
{
	FILE *f = fopen(path(name), "we");

	cr_assert_not_null(f);
	cr_assert_eq(fwrite(data, 1, size, f), size);
	cr_assert_eq(fclose(f), 0);
}

/* A tree in which all is right. */
static void
setup(void)
{
	static const char *const folders[] = {"/gfx942", "/gfx942/fmha_v3_fwd", "/gfx942/fmha_v3_fwd/MI300"};
	char p[256];

	snprintf(dir, sizeof dir, "/tmp/aiterd-test-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		snprintf(p, sizeof p, "%s%s", dir, folders[i]);
		cr_assert_eq(mkdir(p, 0700), 0);
	}
	put("fmha_fwd.csv", CSV, sizeof CSV - 1);
	put("MI300/a.co", OBJECT("KA"), sizeof OBJECT("KA") - 1);
	put("MI300/b.co", OBJECT("KB"), sizeof OBJECT("KB") - 1);
}

static void
cleanup(void)
{
	static const char *const names[] = {"fmha_fwd.csv", "MI300/a.co", "MI300/b.co", "MI300", ""};
	char p[256];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)remove(path(names[i]));
	snprintf(p, sizeof p, "%s/gfx942", dir);
	(void)rmdir(p);
	cr_expect_eq(rmdir(dir), 0);
}

TestSuite(aiter_files, .init = setup, .fini = cleanup);

/* Expect so many usable rows, and each of the words, up to NULL, in the summary. */
static void
expect(struct aiter_files *f, int usable, ...)
{
	const char *words;
	va_list ap;

	cr_assert_not_null(f);
	cr_expect_eq(f->usable, usable, "%d usable, wanted %d: %s", f->usable, usable, f->summary);
	cr_expect_eq(f->table.n > 0, usable > 0);
	cr_expect_eq(f->table.problem[0] != '\0', usable == 0);
	va_start(ap, usable);
	while ((words = va_arg(ap, const char *)) != NULL)
		cr_expect(strstr(f->summary, words), "'%s' does not say '%s'", f->summary, words);
	va_end(ap);
	aiter_files_free(&f);
	cr_expect_null(f);
}

static struct aiter_files *
load(const struct aiter_sum *s)
{
	return aiter_files_load(dir, "gfx942", "MI300", s);
}

Test(aiter_files, all_is_right)
{
	struct aiter_files *f = load(sums);
	const struct aiter_row *r;

	cr_assert_not_null(f);
	r = aiter_table_find(&f->table, 128, 128, 2, false, 1);
	cr_assert_not_null(r);
	cr_expect_str_eq(r->object, "fmha_v3_fwd/MI300/b");
	cr_assert_not_null(r->image);
	cr_expect_eq(memcmp(r->image, OBJECT("KB"), sizeof OBJECT("KB") - 1), 0);
	expect(f, 2, "2 kernels of fmha_v3_fwd/MI300", NULL);
}

/* The runtime takes one of them only, then none. */
Test(aiter_files, dropped)
{
	struct aiter_files *f = load(sums);
	int first = 0;

	cr_assert_not_null(f);
	while (!f->table.rows[first].image)
		first++;
	aiter_files_drop(f, first, "the first is too new");
	cr_expect_null(f->table.rows[first].image);
	cr_expect_str_eq(f->table.rows[first].why, "the first is too new");
	cr_expect(strstr(f->summary, "1 of 2 kernels of fmha_v3_fwd/MI300; the first is too new"), "%s", f->summary);
	for (int i = 0; i < f->table.n; i++)
		if (f->table.rows[i].image)
			aiter_files_drop(f, i, "the other, too");
	expect(f, 0, "none of AITER's kernels: ", NULL);
}

Test(aiter_files, damaged)
{
	struct aiter_files *f;

	put("MI300/b.co", OBJECT("KB"), sizeof OBJECT("KB") - 2);
	f = load(sums);
	cr_assert_not_null(f);
	cr_expect_null(aiter_table_find(&f->table, 128, 128, 2, false, 1)->image);
	cr_expect(strstr(aiter_table_find(&f->table, 128, 128, 2, false, 1)->why, "SHA-256 53a2b4de7ede"));
	cr_expect_not_null(aiter_table_find(&f->table, 128, 128, 0, false, 1)->image);
	expect(f, 1, "1 of 2 kernels", "/gfx942/fmha_v3_fwd/MI300/b.co differs from AITER's commit e4048607a535",
	       "SHA-256 53a2b4de7ede", "wanted 84228fee5633", NULL);

	put("MI300/b.co", "", 0);
	expect(load(sums), 1, "b.co is no file of 1 to", NULL);
	unlink(path("MI300/b.co"));
	expect(load(sums), 1, "b.co cannot be opened: No such file", NULL);
	cr_assert_eq(mkfifo(path("MI300/b.co"), 0600), 0);
	expect(load(sums), 1, "b.co is no file", NULL);
	unlink(path("MI300/b.co"));
	cr_assert_eq(mkdir(path("MI300/b.co"), 0700), 0);
	expect(load(sums), 1, "b.co is no file", NULL);
	put("MI300/a.co", "x", 1);
	expect(load(sums), 0, "none of AITER's kernels", "a.co differs", NULL);
}

Test(aiter_files, table_damaged)
{
	static const struct aiter_sum bad_table[] = {
		{"gfx942/fmha_v3_fwd/fmha_fwd.csv", "2e0ae9aeaf48b40dddaccc6535cdd969eac53c356f875b27bb7c4feab0a662c9"},
		{NULL, NULL}};

	put("fmha_fwd.csv", CSV, sizeof CSV - 2);
	expect(load(sums), 0, "none of AITER's kernels", "fmha_fwd.csv differs", NULL);
	put("fmha_fwd.csv", "dtype\n", 6);
	expect(load(bad_table), 0, "fmha_fwd.csv: line 1: there is no column hdim_q", NULL);
	unlink(path("fmha_fwd.csv"));
	expect(load(sums), 0, "fmha_fwd.csv cannot be opened", NULL);
}

/* Another version of AITER: what has no sum is not used, nor is an object without the kernel it should have. */
Test(aiter_files, of_another_make)
{
	static const struct aiter_sum fewer[] = {{"gfx942/fmha_v3_fwd/fmha_fwd.csv", CSV_SUM},
						 {"gfx942/fmha_v3_fwd/MI300/a.co", A_SUM},
						 {NULL, NULL}},
				      other[] = {{"gfx942/fmha_v3_fwd/fmha_fwd.csv", CSV_SUM},
						 {"gfx942/fmha_v3_fwd/MI300/a.co", A_SUM},
						 {"gfx942/fmha_v3_fwd/MI300/b.co", C_SUM},
						 {NULL, NULL}};

	expect(load(fewer), 1, "1 of 2", "MI300/b.co is none of the files", NULL);
	put("MI300/b.co", OBJECT("KC"), sizeof OBJECT("KC") - 1);
	expect(load(other), 1, "1 of 2", "MI300/b.co has no kernel KB", NULL);
	expect(aiter_files_load(dir, "gfx942", "MI308", sums), 0, "none of AITER's kernels", "MI308/a.co", NULL);
	expect(aiter_files_load(dir, "gfx950", "MI300", sums), 0, "gfx942", "this device is gfx950", NULL);
	expect(aiter_files_load("/nonexistent", "gfx942", "MI300", sums), 0, "cannot be opened", NULL);
}

/* The sums that are built in: one table, 24 kernels for each of two chips, of one commit. */
Test(aiter_files, built_in_sums)
{
	int n = 0, mi300 = 0, mi308 = 0;

	for (const struct aiter_sum *s = aiter_sums; s->path; s++, n++) {
		cr_expect_eq(strlen(s->sum), 64, "%s", s->path);
		cr_expect_eq(strspn(s->sum, "0123456789abcdef"), 64, "%s", s->path);
		mi300 += strncmp(s->path, "gfx942/fmha_v3_fwd/MI300/fwd_", 29) == 0;
		mi308 += strncmp(s->path, "gfx942/fmha_v3_fwd/MI308/fwd_", 29) == 0;
	}
	cr_expect(n == 49 && mi300 == 24 && mi308 == 24, "%d files, %d and %d", n, mi300, mi308);
	cr_expect_eq(strlen(aiter_commit), 40);
}

/* AITER's own files, where there are any: all of them. */
Test(aiter_files, the_real_ones)
{
	const char *real = getenv("AITER_ASM_DIR");

	if (!real || !*real)
		cr_skip("AITER_ASM_DIR is not set: AITER's own files are not read");
	expect(aiter_files_load(real, "gfx942", "MI300", aiter_sums), 24, "24 kernels of fmha_v3_fwd/MI300", NULL);
	expect(aiter_files_load(real, "gfx942", "MI308", aiter_sums), 24, "24 kernels of fmha_v3_fwd/MI308", NULL);
}
