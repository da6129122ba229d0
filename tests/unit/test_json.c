/*
 * test_json.c: strict parsing, skeletons and base64. Accepting and refusing is also compared with Python's json module
 * on mutated texts (check_json.py reads what this test writes).
 */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/encode.h"
#include "codec/json.h"

/* Without a NUL and exactly as long, so that the sanitizer sees reads past the end. */
static char *
exact(const char *text, size_t n)
{
	char *p = malloc(n + !n);

	memcpy(p, text, n);
	return p;
}

static cJSON *
parse(const char *text, struct err *e)
{
	size_t n = strlen(text);
	char *p = exact(text, n);
	cJSON *tree;

	*e = (struct err){.code = ERR_NONE};
	tree = json_parse(p, n, 16, e);
	free(p);
	return tree;
}

Test(json, accepted)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"null",
		"true",
		"false",
		"0",
		"-0",
		"1e5",
		"\"\"",
		" [ 1 , 2 ] \r\n\t",
		"{\"a\":{\"b\":[1,{}]}}",
		"\xef\xbb\xbf{\"a\":1}",
		"\xef\xbb\xbf\61",
		"\"\\ud83d\\ude00\"",
		"\"\xf0\x9f\x98\x80 \xc3\xa9\"",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
		"{\"a\":1,\"A\":2,\"\":3}",
		"[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]",
		"{\"x\":-1.5E-3}",
	};
	struct err e;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		cJSON *tree = parse(texts[i], &e);

		cr_expect(tree, "%s: %s", texts[i], e.msg);
		cJSON_Delete(tree);
	}
}

Test(json, refused)
{
	static const struct {
		const char *text, *word;
	} cases[] = {
		{"", "ends"},
		{" ", "ends"},
		{"{", "name"},
		{"[", "ends"},
		{"[1", "ends"},
		{"[1,", "ends"},
		{"[1,]", "byte 3"},
		{"{\"a\"}", "colon"},
		{"{\"a\":}", "byte 5"},
		{"{\"a\":1,}", "name"},
		{"{a:1}", "name"},
		{"{'a':1}", "name"},
		{"[1 2]", "comma"},
		{"{\"a\":1 \"b\":2}", "comma"},
		{"01", "begins with 0"},
		{"-", "digits"},
		{"+1", "byte 0"},
		{".5", "byte 0"},
		{"1.", "decimal"},
		{"1e", "exponent"},
		{"1e+", "exponent"},
		{"NaN", "byte 0"},
		{"tru", "byte 0"},
		{"truex", "follows"},
		{"1 1", "follows"},
		{"{} {}", "follows"},
		{"\"a", "inside a string"},
		{"\"\\", "inside a string"},
		{"\"\\x\"", "escape"},
		{"\"\\u12\"", "four"},
		{"\"\\u00g0\"", "four"},
		{"\"\\u0000\"", "NUL"},
		{"\"\\ud800\"", "surrogate"},
		{"\"\\udc00\"", "surrogate"},
		{"\"\\ud800\\u0041\"", "surrogate"},
		{"\"a\nb\"", "control"},
		{"\"\xff\"", "UTF-8"},
		{"\"\xc0\x80\"", "UTF-8"},
		{"\"\xed\xa0\x80\"", "UTF-8"},
		{"\"\xf4\x90\x80\x80\"", "UTF-8"},
		{"\"\xe2\x82\"", "UTF-8"},
		{"\"\xc3", "UTF-8"},
		{"{\"a\":1,\"b\":2,\"a\":3}", "\"a\""},
		{"{\"a\":1,\"\\u0061\":3}", "\"a\""},
		{"[{\"x\":{\"k\":1,\"k\":1}}]", "\"k\""},
		{"[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "16 levels"},
		{"{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":1}]}]}]}]}]}]}]}]}",
		 "16 levels"},
		{"1111111111111111111111111111111111111111111111111111111111111111", "63"},
		{"\xef\xbb\xbf", "ends"},
		{"\xef\xbb", "byte 0"},
	};
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cJSON *tree = parse(cases[i].text, &e);

		cr_expect(!tree, "%s was accepted", cases[i].text);
		cr_expect(e.code == ERR_MALFORMED_BODY && strstr(e.msg, cases[i].word), "%s: %s", cases[i].text, e.msg);
		cJSON_Delete(tree);
	}
	/* a NUL in the text is no end of it */
	e = (struct err){.code = ERR_NONE};
	cr_expect(!json_parse("1\0", 2, 16, &e));
	cr_expect(!json_parse("\"a\0b\"", 5, 16, &e));
}

Test(json, hostile_sizes)
{
	enum { N = 200000 };
	char *p = malloc(N * 12 + 2);
	size_t n = 0;
	struct err e = {0};
	cJSON *tree;

	/* a million brackets are refused before any recursion takes place on them */
	memset(p, '[', N);
	cr_expect(!json_parse(p, N, 100000000, &e));
	/* many keys, the last twice: sorting finds it soon */
	p[n++] = '{';
	for (int i = 0; i < N; i++)
		n += (size_t)sprintf(p + n, "\"%d\":0,", i == N - 1 ? 0 : i);
	p[n - 1] = '}';
	e = (struct err){.code = ERR_NONE};
	tree = json_parse(p, n, 16, &e);
	cr_expect(!tree && strstr(e.msg, "\"0\""), "%s", e.msg);
	cJSON_Delete(tree);
	free(p);
}

Test(json, numbers_keep_their_text)
{
	struct err e;
	cJSON *tree = parse(
		"{\"1\":[9007199254740993,{\"a 2\":-1.50e+3},\"3\\\"4\",true,18446744073709551615],\"b\":0}", &e);
	cJSON *list;

	cr_assert(tree, "%s", e.msg);
	list = cJSON_GetObjectItemCaseSensitive(tree, "1");
	cr_expect_str_eq(cJSON_GetArrayItem(list, 0)->valuestring, "9007199254740993");
	cr_expect_str_eq(cJSON_GetArrayItem(list, 1)->child->valuestring, "-1.50e+3");
	cr_expect_str_eq(cJSON_GetArrayItem(list, 2)->valuestring, "3\"4");
	cr_expect_str_eq(cJSON_GetArrayItem(list, 4)->valuestring, "18446744073709551615");
	cr_expect_str_eq(cJSON_GetObjectItemCaseSensitive(tree, "b")->valuestring, "0");
	cJSON_Delete(tree);
}

static char *
skeleton(const char *text, struct json_cut *cut, struct err *e)
{
	size_t n = strlen(text);
	static char *kept;

	free(kept);
	kept = exact(text, n);
	*e = (struct err){.code = ERR_NONE};
	*cut = (struct json_cut){.max_depth = 8, .member1 = "data", .member2 = "base64", .keep = "params"};
	return json_skeleton(kept, n, cut, e);
}

Test(json, skeleton)
{
	static const struct {
		const char *text, *want;
		const char *spans[4];
	} cases[] = {
		{"{\"inputs\":{\"q\":{\"data\":[1,2,3]}}}", "{\"inputs\":{\"q\":{\"data\":0}}}", {"[1,2,3]"}},
		{"{\"inputs\":{\"q\":{\"data\": [[1],[\"]\\\"\"]] ,\"a\":5},\"k\":{\"base64\":\"AA==\"}}}",
		 "{\"inputs\":{\"q\":{\"data\": 0 ,\"a\":5},\"k\":{\"base64\":1}}}",
		 {"[[1],[\"]\\\"\"]]", "\"AA==\""}},
		{"{\"inputs\":[{\"data\":7},{\"data\":[]}]}", "{\"inputs\":[{\"data\":0},{\"data\":1}]}", {"7", "[]"}},
		/* elsewhere nothing is cut */
		{"{\"params\":{\"data\":[1],\"base64\":\"x\"},\"inputs\":{\"data\":{\"data\":[2]}}}",
		 "{\"params\":{\"data\":[1],\"base64\":\"x\"},\"inputs\":{\"data\":{\"data\":0}}}",
		 {"[2]"}},
		{"{\"data\":[1],\"x\":{\"inputs\":{\"q\":{\"data\":[1]}}}}",
		 "{\"data\":[1],\"x\":{\"inputs\":{\"q\":{\"data\":[1]}}}}",
		 {NULL}},
		{"{\"inputs\":{\"q\":{\"x\":{\"data\":[1]}}}}", "{\"inputs\":{\"q\":{\"x\":{\"data\":[1]}}}}", {NULL}},
		{"{\"inputs\":{\"q\":[{\"data\":[1]}]}}", "{\"inputs\":{\"q\":[{\"data\":[1]}]}}", {NULL}},
		{"[{\"inputs\":{\"q\":{\"data\":[1]}}}]", "[{\"inputs\":{\"q\":{\"data\":[1]}}}]", {NULL}},
		{"{\"inputs\":{\"q\":{\"d\\u0061ta\":[1]}}}", "{\"inputs\":{\"q\":{\"d\\u0061ta\":[1]}}}", {NULL}},
		/* both times, so that the parser can refuse the duplicate */
		{"{\"inputs\":{\"q\":{\"data\":[1],\"data\":[2]}}}",
		 "{\"inputs\":{\"q\":{\"data\":0,\"data\":1}}}",
		 {"[1]", "[2]"}},
	};
	struct json_cut cut;
	struct err e;
	char *s;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int n = 0;

		s = skeleton(cases[i].text, &cut, &e);
		cr_assert(s, "%s: %s", cases[i].text, e.msg);
		cr_expect_str_eq(s, cases[i].want);
		free(s);
		for (; n < 4 && cases[i].spans[n]; n++) {
			size_t len = (size_t)(cut.spans[n].end - cut.spans[n].begin);

			cr_expect(len == strlen(cases[i].spans[n]) &&
					  memcmp(cut.spans[n].begin, cases[i].spans[n], len) == 0,
				  "%s: span %d is %.*s", cases[i].text, n, (int)len, cut.spans[n].begin);
		}
		cr_expect_eq(cut.n_spans, n, "%s: %d spans", cases[i].text, cut.n_spans);
	}
	s = skeleton("{\"params\": {\"a\":[1]} }", &cut, &e);
	cr_expect(cut.kept.begin && memcmp(cut.kept.begin, "{\"a\":[1]}", 9) == 0 && cut.kept.end - cut.kept.begin == 9);
	free(s);
	s = skeleton("{\"inputs\":{\"params\":{}}}", &cut, &e);
	cr_expect(s && !cut.kept.begin);
	free(s);
}

Test(json, skeleton_refused)
{
	static const char *const texts[] = {
		"{\"inputs\":{\"q\":{\"data\":[1,2",
		"{\"inputs\":{\"q\":{\"data\":[1,2]",
		"{\"inputs\":{\"q\":{\"data\":[\"x]}}}",
		"{\"inputs\":{\"q\":{\"data\":{}}}}",
		"{\"inputs\":{\"q\":{\"data\":}}}",
		"{\"inputs\":{\"q\":{\"data\":x}}}",
		"{\"inputs\":{\"q\":{\"data\":[[[[[[1]]]]]]}}}",
		"{\"inputs\":{\"q\":{\"data\":",
		"{\"inputs\":{\"q\":{\"base64\":\"\\",
		"{\"inputs\":{\"q\":{\"data\":[1]]}}}",
		"{\"inputs\":{\"q\":{\"data\":1 2}}}",
		"",
		"{\"a\":\"\x01\"}",
	};
	struct json_cut cut;
	struct err e;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *s = skeleton(texts[i], &cut, &e);

		cr_expect(!s && e.code == ERR_MALFORMED_BODY, "%s was accepted", texts[i]);
		free(s);
	}
	/* more inputs than spans; more text than a skeleton may have */
	char *many = malloc(600000);
	size_t n = (size_t)sprintf(many, "{\"inputs\":[");

	for (int i = 0; i < 40; i++)
		n += (size_t)sprintf(many + n, "{\"data\":[1]}%s", i < 39 ? "," : "]}");
	cr_expect(!skeleton(many, &cut, &e) && strstr(e.msg, "too many"));
	n = (size_t)sprintf(many, "{\"inputs\":[");
	for (int i = 0; i < 200000; i++)
		n += (size_t)sprintf(many + n, "1,");
	sprintf(many + n, "1]}");
	cr_expect(!skeleton(many, &cut, &e) && e.code == ERR_TOO_LARGE);
	free(many);
}

static int
decode(const char *text, void *out, uint64_t bytes, struct err *e)
{
	struct tensor t = {.dtype = DT_UINT8, .rank = 1, .bytes = bytes, .shape = {(int64_t)bytes}, .data = out};
	size_t n = strlen(text);
	char *p = exact(text, n);
	int rc;

	*e = (struct err){.code = ERR_NONE};
	rc = json_base64((struct json_span){p, p + n}, &t, "q", e);
	free(p);
	return rc;
}

Test(json, base64)
{
	static const struct {
		const char *text, *bytes;
	} cases[] = {/* RFC 4648, section 10 */
		     {"\"\"", ""},
		     {"\"Zg==\"", "f"},
		     {"\"Zm8=\"", "fo"},
		     {"\"Zm9v\"", "foo"},
		     {"\"Zm9vYg==\"", "foob"},
		     {"\"Zm9vYmE=\"", "fooba"},
		     {"\"Zm9vYmFy\"", "foobar"},
		     {"\"\\/\\/\\/\\/\"", "\xff\xff\xff"},
		     {"\"//+/Zm9vYmFy\"", "\xff\xff\277foobar"}};
	static const char *const bad[] = {
		"\"Zg=\"",  "\"Zg\"",	"\"Z\"",    "\"Zm9v!mFy\"",	   "\"Zg==Zg==\"", "\"=\"",
		"\"====\"", "\"Zh==\"", "\"Zm9=\"", "\"Zm9v YmFy\"",	   "\"Z===\"",	   "\"Zg=a\"",
		"12",	    "[]",	"\"",	    "\"Zm9vYmFyZm9v\\n\"", "\"Zm-_\""};
	char out[16], text[64];
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = strlen(cases[i].bytes);

		cr_expect_eq(decode(cases[i].text, out, n, &e), 0, "%s: %s", cases[i].text, e.msg);
		cr_expect_eq(memcmp(out, cases[i].bytes, n), 0);
		/* too short and too long are told apart from what was wanted */
		cr_expect_eq(decode(cases[i].text, out, n + 1, &e), -1);
		cr_expect(strstr(e.found, "bytes"), "%s", e.msg);
		if (n > 0)
			cr_expect_eq(decode(cases[i].text, out, n - 1, &e), -1);
		if (!strchr(cases[i].text, '\\')) {
			base64_encode(text, (const unsigned char *)cases[i].bytes, n);
			cr_expect(base64_size(n) == strlen(cases[i].text) - 2 &&
				  memcmp(text, cases[i].text + 1, base64_size(n)) == 0);
		}
	}
	/* much more than there is room for */
	for (uint64_t n = 0; n < 9; n++) {
		char *room = malloc(n + !n);

		cr_expect_eq(decode("\"Zm9vYmFyZm9vYmFyZm9vYmFy\"", room, n, &e), -1);
		cr_expect_str_eq(e.found, "18 bytes");
		free(room);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (uint64_t n = 0; n < 10; n++)
			cr_expect_eq(decode(bad[i], out, n, &e), -1, "%s was accepted", bad[i]);
}

/* Mutated texts: one line each with our verdict, for Python's json to agree with. */
Test(json, python_agrees)
{
	static const char seed[] =
		"{\"a\":[1,-2.5e3,true,null,\"x\\u00e9\\n\"],\"b\":{\"c\":false,\"d\":\"\"},\"e\":0.5}";
	static const char alphabet[] = "{}[]\",:\\ 0123456789.-+eEtrufalsn\tx/";
	const char *dir = getenv("AITERD_SRCDIR");
	char command[512];
	FILE *py;
	unsigned x = 99;

	snprintf(command, sizeof(command), "/usr/bin/python3 %s/tests/unit/check_json.py", dir ? dir : ".");
	py = popen(command, "w");
	cr_assert(py);
	for (int i = 0; i < 20000; i++) {
		char text[sizeof(seed) + 4];
		size_t n = sizeof(seed) - 1;
		struct err e = {0};
		cJSON *tree;
		char *p;

		memcpy(text, seed, n);
		for (int k = 0; k <= i % 3; k++) {
			size_t at = (x = x * 1103515245u + 12345u) / 65536 % n;
			char c = alphabet[(x = x * 1103515245u + 12345u) / 65536 % (sizeof(alphabet) - 1)];

			if (x & 0x400000) {
				memmove(text + at, text + at + 1, n - at - 1);
				n--;
			} else {
				text[at] = c;
			}
		}
		p = exact(text, n);
		tree = json_parse(p, n, 16, &e);
		free(p);
		fprintf(py, "%d ", tree != NULL);
		for (size_t k = 0; k < n; k++)
			fprintf(py, "%02x", (unsigned char)text[k]);
		fprintf(py, "\n");
		cJSON_Delete(tree);
	}
	cr_expect_eq(pclose(py), 0, "Python's json differs");
}
