/*
 * test_options.c: the option table: defaults, environment, command line, their order, what is refused,
 * and that --help and the man page tell every option.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define ARGV_MAX 8

static enum options_verdict
parse(struct options *o, struct err *e, const char *a, const char *b, const char *c)
{
	static char program[] = "aiterd";
	char *argv[ARGV_MAX] = {program};
	const char *words[] = {a, b, c};
	enum options_verdict verdict;
	char *copies[3] = {NULL, NULL, NULL};
	int argc = 1;

	memset(e, 0, sizeof(*e));
	for (size_t i = 0; i < 3 && words[i] != NULL; i++)
		argv[argc++] = copies[i] = strdup(words[i]);
	verdict = options_parse(o, argc, argv, e);
	/* STR values are borrowed from argv: tests that look at them pass literals through the environment or compare here. */
	if (verdict == OPTIONS_OK && o->listen == copies[1])
		o->listen = b;
	for (size_t i = 0; i < 3; i++)
		free(copies[i]);
	return verdict;
}

Test(options, defaults)
{
	struct options o;
	struct err e;

	cr_assert_eq(parse(&o, &e, NULL, NULL, NULL), OPTIONS_OK, "%s", e.msg);
	cr_expect_str_eq(o.listen, "127.0.0.1:8000");
	cr_expect_str_eq(o.device, "cpu");
	cr_expect_str_eq(o.worker_dir, "");
	cr_expect_eq(o.loops, 0);
	cr_expect_eq(o.max_body, 8ull << 30);
	cr_expect_eq(o.max_json, 256ull << 20);
	cr_expect_eq(o.min_body_rate, 4096);
	cr_expect_eq(o.timeout, 300.0);
	cr_expect_eq(o.queue, 2048);
}

/* -h is the only short one. */
Test(options, asked_for_help)
{
	struct options o;
	struct err e;

	cr_assert_eq(parse(&o, &e, "-h", NULL, NULL), OPTIONS_EXIT);
	cr_assert_eq(parse(&o, &e, "--queue", "3", "--help"), OPTIONS_EXIT);
	cr_assert_eq(parse(&o, &e, "-v", NULL, NULL), OPTIONS_BAD);
}

Test(options, command_line_wins_over_environment)
{
	struct options o;
	struct err e;

	setenv("AITERD_QUEUE", "7", 1);
	setenv("AITERD_MAX_BODY", "3M", 1);
	setenv("AITERD_LISTEN", "[::1]:0", 1);
	setenv("AITERD_DRAIN_TIMEOUT", "0.25", 1);
	setenv("AITERD_DEVICE", "", 1);
	cr_assert_eq(parse(&o, &e, "--queue", "9", NULL), OPTIONS_OK, "%s", e.msg);
	cr_expect_eq(o.queue, 9);
	cr_expect_eq(o.max_body, 3u << 20);
	cr_expect_str_eq(o.listen, "[::1]:0");
	cr_expect_eq(o.drain_timeout, 0.25);
	cr_expect_str_eq(o.device, "cpu", "an empty variable counts as absent");

	cr_assert_eq(parse(&o, &e, "--queue=11", "--queue=12", NULL), OPTIONS_OK, "%s", e.msg);
	cr_expect_eq(o.queue, 12, "the last one counts");
	cr_assert_eq(parse(&o, &e, "--listen", "unix:/run/a=b", NULL), OPTIONS_OK, "%s", e.msg);
	cr_expect_str_eq(o.listen, "unix:/run/a=b");
}

Test(options, values)
{
	static const struct {
		const char *word;
		int64_t queue; /* 0: refused */
	} nums[] = {{"1", 1},	    {"1000000", 1000000},
		    {"+5", 5},	    {"0", 0},
		    {"1000001", 0}, {"-1", 0},
		    {"", 0},	    {"12x", 0},
		    {" 12", 0},	    {"1e3", 0},
		    {"0x10", 0},    {"99999999999999999999", 0},
		    {"+", 0},	    {"1 ", 0}};
	static const struct {
		const char *word;
		uint64_t bytes;
	} sizes[] = {{"1024", 1024},
		     {"1K", 1024},
		     {"1k", 1024},
		     {"2M", 2u << 20},
		     {"8G", 8ull << 30},
		     {"512t", 512ull << 40},
		     {"1023", 0},
		     {"1.5G", 0},
		     {"G", 0},
		     {"1KB", 0},
		     {"-1K", 0},
		     {"999999T", 0},
		     {"", 0},
		     {"1 K", 0},
		     {"18014398509481984K", 0},
		     {"99999999999999999999", 0},
		     {"0x1000", 0}};
	static const struct {
		const char *word;
		double secs;
	} secs[] = {{"300", 300}, {"0.001", 0.001}, {"1e3", 1000}, {".5", 0.5}, {"0", 0}, {"0.0009", 0},
		    {"86401", 0}, {"nan", 0},	    {"inf", 0},	   {"-1", 0},	{"", 0},  {"5s", 0},
		    {"0x5", 0},	  {"1e", 0},	    {"1 ", 0},	   {"--", 0}};
	struct options o;
	struct err e;
	enum options_verdict verdict;

	for (size_t i = 0; i < sizeof(nums) / sizeof(nums[0]); i++) {
		verdict = parse(&o, &e, "--queue", nums[i].word, NULL);
		cr_expect_eq(verdict, nums[i].queue == 0 ? OPTIONS_BAD : OPTIONS_OK, "--queue '%s'", nums[i].word);
		if (verdict == OPTIONS_OK)
			cr_expect_eq(o.queue, nums[i].queue);
		else
			cr_expect(strstr(e.msg, "--queue") != NULL && strstr(e.msg, "1 to 1000000") != NULL, "%s",
				  e.msg);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		verdict = parse(&o, &e, "--max-body", sizes[i].word, NULL);
		cr_expect_eq(verdict, sizes[i].bytes == 0 ? OPTIONS_BAD : OPTIONS_OK, "--max-body '%s'", sizes[i].word);
		if (verdict == OPTIONS_OK)
			cr_expect_eq(o.max_body, sizes[i].bytes);
	}
	for (size_t i = 0; i < sizeof(secs) / sizeof(secs[0]); i++) {
		verdict = parse(&o, &e, "--timeout", secs[i].word, NULL);
		cr_expect_eq(verdict, secs[i].secs == 0 ? OPTIONS_BAD : OPTIONS_OK, "--timeout '%s'", secs[i].word);
		if (verdict == OPTIONS_OK)
			cr_expect_eq(o.timeout, secs[i].secs);
	}
}

Test(options, refused)
{
	static const char *const words[] = {"--nonsense", "--nonsense=1",  "queue",	 "-q",	"--", "-",
					    "",		  "--max_body=1M", "--queueX=1", "--=1"};
	struct options o;
	struct err e;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		cr_expect_eq(parse(&o, &e, words[i], NULL, NULL), OPTIONS_BAD, "'%s'", words[i]);
		cr_expect(e.msg[0] != '\0');
	}
	cr_expect_eq(parse(&o, &e, "--queue", NULL, NULL), OPTIONS_BAD);
	cr_expect(strstr(e.msg, "missing") != NULL, "%s", e.msg);
	cr_expect_eq(parse(&o, &e, "--max-bdy", "1M", NULL), OPTIONS_BAD);
	cr_expect(strstr(e.msg, "max-body") != NULL, "names the nearest: %s", e.msg);

	setenv("AITERD_LOOPS", "many", 1);
	cr_expect_eq(parse(&o, &e, NULL, NULL, NULL), OPTIONS_BAD);
	cr_expect(strstr(e.msg, "AITERD_LOOPS") != NULL, "%s", e.msg);
}

static const char *const names[] = {
#define O(field, type, name, fallback, arg, min, max, help) name,
#include "options.def"
#undef O
};

/* Every option in both, lines of the help no longer than a terminal's. */
Test(options, help_and_man_are_complete)
{
	struct text help, man;
	char word[100];

	text_init(&help, 1 << 20);
	text_init(&man, 1 << 20);
	options_help(&help);
	options_man(&man);
	cr_assert(!help.failed && !man.failed);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(word, sizeof(word), "  --%s ", names[i]);
		cr_expect(strstr(help.p, word) != NULL, "%s", word);
		size_t at = (size_t)snprintf(word, sizeof(word), "\\fB\\-\\-");
		for (const char *s = names[i]; *s != '\0'; s++)
			at += (size_t)snprintf(word + at, sizeof(word) - at, *s == '-' ? "\\-" : "%c", *s);
		cr_expect(strstr(man.p, word) != NULL, "%s", word);
	}
	for (const char *s = help.p; *s != '\0';) {
		size_t n = strcspn(s, "\n");

		cr_expect_leq(n, 80, "%.*s", (int)n, s);
		s += n + (s[n] == '\n');
	}
	text_fini(&help);
	text_fini(&man);
}

/* docs/aiterd.8 is committed; "make man" renews it. */
Test(options, committed_man_page_is_current)
{
	const char *srcdir = getenv("AITERD_SRCDIR");
	char path[4096], *text;
	struct text man;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/docs/aiterd.8", srcdir != NULL ? srcdir : ".");
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s", path);
	text = calloc(1, 1 << 20);
	n = fread(text, 1, (1 << 20) - 1, f);
	fclose(f);
	text_init(&man, 1 << 20);
	options_man(&man);
	cr_expect(n == man.len && memcmp(text, man.p, n) == 0,
		  "docs/aiterd.8 differs from aiterd --man: run 'make man'");
	text_fini(&man);
	free(text);
}

Test(options, json)
{
	struct options o;
	struct text t;
	struct err e;

	cr_assert_eq(parse(&o, &e, "--max-body=1G", "--timeout=0.5", NULL), OPTIONS_OK);
	text_init(&t, 1 << 16);
	options_json(&o, &t);
	cr_assert(!t.failed);
	cr_expect_eq(t.p[0], '{');
	cr_expect_eq(t.p[t.len - 1], '}');
	cr_expect_not_null(strstr(t.p, "\"max_body\":1073741824,"), "%s", t.p);
	cr_expect_not_null(strstr(t.p, "\"timeout\":0.5,"), "%s", t.p);
	cr_expect_not_null(strstr(t.p, "\"listen\":\"127.0.0.1:8000\","), "%s", t.p);
	text_fini(&t);
}
