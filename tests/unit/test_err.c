/*
 * test_err.c: filling errors, cutting what is too long, the table of problems.
 */
#include <criterion/criterion.h>
#include <ctype.h>
#include <string.h>

#include "err.h"

Test(err, set_fills_and_returns_minus_one)
{
	struct err e;

	memset(&e, 0xA5, sizeof e);
	cr_expect_eq(err_set(&e, ERR_NOT_FOUND, "no %s at %d", "thing", 7), -1);
	cr_expect_eq(e.code, ERR_NOT_FOUND);
	cr_expect_str_eq(e.msg, "no thing at 7");
	cr_expect_str_eq(e.input, "");
	cr_expect_str_eq(e.param, "");
	cr_expect_str_eq(e.found, "");
	cr_expect_eq(e.retry_after_s, 0);
	cr_expect_eq(err_input(&e, ERR_INVALID_SHAPE, "q", "[1]", NULL, "%s", "m"), -1);
	cr_expect_str_eq(e.input, "q");
	cr_expect_str_eq(e.found, "[1]");
	cr_expect_str_eq(e.wanted, "");
	cr_expect_str_eq(e.param, "");
	cr_expect_eq(err_param(&e, ERR_INVALID_PARAMETER, "eps", "x", "a number", "m"), -1);
	cr_expect_str_eq(e.param, "eps");
	cr_expect_str_eq(e.wanted, "a number");
	cr_expect_str_eq(e.input, "");
}

Test(err, null_is_allowed)
{
	cr_expect_eq(err_set(NULL, ERR_INTERNAL, "x"), -1);
	cr_expect_eq(err_input(NULL, ERR_INTERNAL, "a", "b", "c", "x"), -1);
	cr_expect_eq(err_param(NULL, ERR_INTERNAL, "a", "b", "c", "x"), -1);
}

Test(err, long_texts_are_cut)
{
	struct err e;
	char big[2000];

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	err_input(&e, ERR_INVALID_SHAPE, big, big, big, "%s", big);
	cr_expect_eq(strlen(e.input), sizeof e.input - 1);
	cr_expect_eq(strlen(e.found), sizeof e.found - 1);
	cr_expect_eq(strlen(e.wanted), sizeof e.wanted - 1);
	cr_expect_eq(strlen(e.msg), sizeof e.msg - 1);
}

/* An error may be wrapped into itself. */
Test(err, arguments_may_point_into_it)
{
	struct err e;

	err_param(&e, ERR_INVALID_PARAMETER, "p", "f", "w", "inner");
	err_param(&e, ERR_INTERNAL, e.param, e.found, e.wanted, "outer: %s", e.msg);
	cr_expect_str_eq(e.msg, "outer: inner");
	cr_expect_str_eq(e.param, "p");
	cr_expect_str_eq(e.found, "f");
	cr_expect_str_eq(e.wanted, "w");
}

Test(err, table)
{
	cr_expect_eq(ERR_NONE, 0);
	cr_expect_eq(err_find("no-such-slug"), ERR_NONE);
	cr_expect_eq(err_info(ERR_TOO_LARGE)->status, 413);
	cr_expect_eq(err_find("invalid-shape"), ERR_INVALID_SHAPE);
	cr_expect_eq(err_info((enum err_code)9999)->status, 500);
	for (int i = ERR_NONE + 1; i < ERR_COUNT; i++) {
		const struct err_info *info = err_info((enum err_code)i);

		cr_expect(info->status >= 400 && info->status < 600, "%s", info->slug);
		cr_expect_gt(strlen(info->title), 10);
		cr_expect_gt(strlen(info->help), 10);
		/* Slugs are unique and fit into a URI as they are. */
		cr_expect_eq((int)err_find(info->slug), i, "%s", info->slug);
		for (const char *p = info->slug; *p; p++)
			cr_expect(islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '-', "%s",
				  info->slug);
	}
}
