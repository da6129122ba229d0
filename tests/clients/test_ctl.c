/*
 * test_ctl.c: how aiterctl understands its command line: options, and where inputs come from. How values are shown.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"

static int
parse(struct options *o, const char **command, const char *a, const char *b, const char *c, const char *d, const char *e)
{
	char *argv[8] = {(char *)(uintptr_t) "aiterctl"};
	const char *all[] = {a, b, c, d, e};
	int argc = 1;

	for (int i = 0; i < 5 && all[i]; i++)
		argv[argc++] = (char *)(uintptr_t)all[i];
	return args_parse(o, argc, argv, command);
}

Test(ctl, command_lines)
{
	const char *command;
	struct options o;

	cr_assert(parse(&o, &command, "run", "rmsnorm", "x=a b.npy", "-o", "out=y.npy") == 0);
	cr_expect_str_eq(command, "run");
	cr_expect(o.n_args == 2 && !strcmp(o.args[1], "x=a b.npy") && o.n_outputs == 1 && !o.json && o.retries == -1);
	free(o.args);
	cr_assert(parse(&o, &command, "--json", "--url=http://h:1", "info", "-q", NULL) == 0);
	cr_expect(o.json && o.quiet && !strcmp(o.url, "http://h:1") && o.n_args == 0);
	free(o.args);
	cr_assert(parse(&o, &command, "run", "-oout.npy", "--", "--odd", "-o") == 0);
	cr_expect(o.n_outputs == 1 && !strcmp(o.outputs[0], "out.npy") && o.n_args == 2 && !strcmp(o.args[0], "--odd"));
	free(o.args);
	cr_assert(parse(&o, &command, "run", "rmsnorm", "x=-", "-o", "-") == 0, "a single - is a file");
	cr_expect(o.n_args == 2 && !strcmp(o.outputs[0], "-"));
	free(o.args);
	cr_assert(parse(&o, &command, "top", "-d", "0.5", "--count", "3") == 0);
	cr_expect(o.interval_s == 0.5 && o.count == 3);
	free(o.args);
}

Test(ctl, command_lines_that_are_refused)
{
	static const char *const bad[][5] = {
		{"fly"},
		{"--fly", "info"},
		{"info", "--json=yes"},
		{"run", "-o"},
		{"info", "--save", "x"},
		{"run", "--ttl", "5"},
		{"top", "-n", "1.5"},
		{"top", "-d", "-1"},
		{"top", "-d", "1e999"},
		{"top", "-d", "soon"},
		{"info", "--retries", ""},
		{NULL},
		{"tensors", "--ttl", "1s"},
		{"info", "-x"},
	};
	const char *command;
	struct options o;

	cr_assert(dup2(open("/dev/null", O_WRONLY), STDERR_FILENO) >= 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect(parse(&o, &command, bad[i][0], bad[i][1], bad[i][2], bad[i][3], NULL) == EXIT_USAGE,
			  "%s %s %s", bad[i][0] ? bad[i][0] : "", bad[i][1] ? bad[i][1] : "",
			  bad[i][2] ? bad[i][2] : "");
		free(o.args);
	}
}

Test(ctl, sources)
{
	static const struct {
		const char *text;
		enum source_kind kind;
		const char *want;
	} good[] = {
		{"q.npy", SOURCE_FILE, "q.npy"},
		{"-", SOURCE_FILE, "-"},
		{"odd name:with=all.npy", SOURCE_FILE, "odd name:with=all.npy"},
		{"file:normal:2", SOURCE_FILE, "normal:2"},
		{"./normal:2:fp16", SOURCE_FILE, "./normal:2:fp16"},
		{"normally.npy", SOURCE_FILE, "normally.npy"},
		{"@w1", SOURCE_JSON, "{\"tensor\":\"w1\"}"},
		{"tensor:a\"b", SOURCE_JSON, "{\"tensor\":\"a\\\"b\"}"},
		{"sha256:00ff", SOURCE_JSON, "{\"tensor\":\"sha256:00ff\"}"},
		{"{\"tensor\":\"x\"}", SOURCE_JSON, "{\"tensor\":\"x\"}"},
		{"normal:2x512x8x64:fp16:seed=7", SOURCE_JSON,
		 "{\"generate\":\"normal\",\"shape\":[2,512,8,64],\"dtype\":\"fp16\",\"seed\":7}"},
		{"normal:2,3:bfloat16:mean=-1.5e-3:std=2", SOURCE_JSON,
		 "{\"generate\":\"normal\",\"shape\":[2,3],\"dtype\":\"bf16\",\"mean\":-1.5e-3,\"std\":2}"},
		{"ones::fp32", SOURCE_JSON, "{\"generate\":\"ones\",\"shape\":[],\"dtype\":\"fp32\"}"},
		{"zeros:scalar:bool", SOURCE_JSON, "{\"generate\":\"zeros\",\"shape\":[],\"dtype\":\"bool\"}"},
		{"randint:0:int32:low=0:high=18446744073709551615", SOURCE_JSON,
		 "{\"generate\":\"randint\",\"shape\":[0],\"dtype\":\"int32\",\"low\":0,\"high\":18446744073709551615}"},
	};
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"normal:2x3", "dtype is missing"},
		{"normal:2x:fp16", "shape"},
		{"normal:axb:fp16", "shape"},
		{"normal:-1:fp16", "shape"},
		{"normal:1x1x1x1x1x1x1x1x1:fp16", "8"},
		{"normal:2:fp17", "dtype is unknown"},
		{"normal:2:fp16:fp32", "twice"},
		{"normal:2:fp16:seed=seven", "no number"},
		{"normal:2:fp16:seed=", "no number"},
		{"normal:2:fp16:seed=07", "no number"},
		{"normal:2:fp16:seed=1,\"x\":2", "no number"},
		{"normal:2:fp16:sead=7", "seed, stream"},
		{"normal:99999999999999999999:fp16", "shape"},
		{"@", "no name"},
		{"tensor:", "no name"},
		{"", "nothing"},
		{"file:", "nothing"},
		{"normal:2:fp16:", "dtype is unknown"},
	};
	struct source s;
	char why[300];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert(source_parse(good[i].text, &s, why, sizeof(why)) == 0, "%s: %s", good[i].text, why);
		cr_expect(s.kind == good[i].kind, "%s", good[i].text);
		cr_expect_str_eq(s.text, good[i].want);
		free(s.text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(source_parse(bad[i].text, &s, why, sizeof(why)) == -1, "'%s' is taken", bad[i].text);
		cr_expect(strstr(why, bad[i].says) && !s.text, "'%s': %s", bad[i].text, why);
	}
}

Test(ctl, what_is_no_parameter)
{
	static const char *const plain[] = {"@w",    "tensor:w",      "sha256:ab",	 "normal:2:fp16",
					    "a.npy", "b.safetensors", "b.safetensors#x", "{\"tensor\":\"w\"}"};
	static const char *const not_plain[] = {"true", "8,0",	"0.5", "normal", "npy",
						".npy", "a.np", "{}",  "",	 "1,4,16"};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		cr_expect(source_is_plain(plain[i]), "%s", plain[i]);
	for (size_t i = 0; i < sizeof(not_plain) / sizeof(not_plain[0]); i++)
		cr_expect(!source_is_plain(not_plain[i]), "%s", not_plain[i]);
}

Test(ctl, shown)
{
	char buf[40];

	cr_expect_str_eq(show_bytes(0, buf, sizeof(buf)), "0 B");
	cr_expect_str_eq(show_bytes(1023, buf, sizeof(buf)), "1023 B");
	cr_expect_str_eq(show_bytes(1536, buf, sizeof(buf)), "1.5 KiB");
	cr_expect_str_eq(show_bytes(25276510208.0, buf, sizeof(buf)), "23.5 GiB");
	cr_expect_str_eq(show_bytes(NAN, buf, sizeof(buf)), "-");
	cr_expect_str_eq(show_number(0, buf, sizeof(buf)), "0");
	cr_expect_str_eq(show_number(2.0631, buf, sizeof(buf)), "2.063");
	cr_expect_str_eq(show_number(55.6258, buf, sizeof(buf)), "55.63");
	cr_expect_str_eq(show_number(0.00012207, buf, sizeof(buf)), "0.000122");
	cr_expect_str_eq(show_number(-INFINITY, buf, sizeof(buf)), "-Inf");
	cr_expect_str_eq(show_number(1e12, buf, sizeof(buf)), "1e+12");
}
