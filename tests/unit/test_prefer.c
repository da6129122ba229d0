/* test_prefer.c: the Prefer field, by the RFC's own examples and by what is hostile. */
#include <criterion/criterion.h>

#include "front/prefer.h"

struct row {
	const char *value;
	bool respond_async, wait_given;
	uint32_t wait_s;
};

static const struct row rows[] = {
	{NULL, false, false, 0},
	{"", false, false, 0},
	{"respond-async", true, false, 0},
	{"Respond-ASYNC", true, false, 0},
	{"respond-async, wait=10", true, true, 10},
	{"wait=10,respond-async", true, true, 10},
	{"respond-async;foo=bar, wait=100, handling=lenient", true, true, 100},
	{"lenient , respond-async ,", true, false, 0},
	{",, ,respond-async", true, false, 0},
	{"respond-async=\"\"", true, false, 0},
	{"wait = 7", false, true, 7},
	{"wait=\"7\"", false, true, 7},
	{"wait=7;x", false, true, 7},
	{"wait=0", false, true, 0},
	{"wait=4294967295", false, true, 4294967295u},
	{"wait=4294967296", false, true, 4294967295u},
	{"wait=99999999999999999999999999999", false, true, 4294967295u},
	/* The first counts, also where it makes no sense. */
	{"wait=1, wait=2", false, true, 1},
	{"wait=x, wait=2", false, false, 0},
	{"wait", false, false, 0},
	{"wait=", false, false, 0},
	{"wait=-1", false, false, 0},
	{"wait=1.5", false, false, 0},
	{"wait=1s", false, false, 0},
	{"wait=\"1", false, false, 0},
	{"wait=\"1s\"", false, false, 0},
	/* Inside a quoted string, or as another's parameter or value, it is no preference. */
	{"foo=\"respond-async\"", false, false, 0},
	{"foo=\"a, respond-async, \\\" wait=3\", wait=5", false, true, 5},
	{"foo=respond-async", false, false, 0},
	{"foo;respond-async", false, false, 0},
	{"respond-asynchronously", false, false, 0},
	{"respond", false, false, 0},
	{"x=\"unfinished, respond-async", false, false, 0},
	{"x=\"unfinished\\", false, false, 0},
	{"\"respond-async\"", false, false, 0},
	{"=, ;, respond-async", true, false, 0},
};

Test(prefer, rows)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct prefer p = {.respond_async = true, .wait_given = true, .wait_s = 77};

		prefer_parse(r->value, &p);
		cr_expect_eq(p.respond_async, r->respond_async, "%s: respond-async", r->value);
		cr_expect_eq(p.wait_given, r->wait_given, "%s: wait", r->value);
		if (r->wait_given)
			cr_expect_eq(p.wait_s, r->wait_s, "%s: wait=%u", r->value, p.wait_s);
	}
}

/* No string of these characters makes it run on or past the end (under a sanitizer: nor read past it). */
Test(prefer, every_short_string)
{
	static const char alphabet[] = "w=,;\" \\1";
	char s[8];
	struct prefer p;

	for (unsigned n = 0; n < 1u << 18; n++) {
		for (int i = 0; i < 6; i++)
			s[i] = alphabet[n >> (3 * i) & 7];
		s[6] = '\0';
		prefer_parse(s, &p);
		cr_assert(!p.respond_async && !p.wait_given, "'%s'", s);
	}
}
