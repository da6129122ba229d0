/*
 * test_text.c: the text buffer: growth, ceiling, JSON strings (against cJSON and Python's replacement rules), numbers;
 * and log lines, which are made with it.
 */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "text.h"

Test(text, grows)
{
	struct text t;
	char *p;

	text_init(&t, 1u << 20);
	for (int i = 0; i < 10000; i++)
		text_addf(&t, "%d,", i);
	text_add(&t, "");
	text_addn(&t, "end!", 3);
	cr_expect_not(text_failed(&t));
	cr_expect_eq(t.len, 10 * 2 + 90 * 3 + 900 * 4 + 9000 * 5 + 3);
	cr_expect_eq(strlen(t.p), t.len);
	p = text_take(&t);
	cr_assert_not_null(p);
	cr_expect_eq(strncmp(p, "0,1,2,", 6), 0);
	cr_expect_str_eq(p + strlen(p) - 8, "9999,end");
	cr_expect_null(t.p);
	free(p);
	/* Nothing added is the empty text. */
	text_init(&t, 10);
	p = text_take(&t);
	cr_assert_not_null(p);
	cr_expect_str_eq(p, "");
	free(p);
}

Test(text, ceiling_sticks)
{
	volatile size_t huge = SIZE_MAX; /* volatile: the compiler would warn of it */
	struct text t;

	text_init(&t, 10);
	text_add(&t, "0123456789");
	cr_expect_not(text_failed(&t));
	text_add(&t, "x");
	cr_expect(text_failed(&t));
	text_addf(&t, "y");
	cr_expect_str_eq(t.p, "0123456789");
	cr_expect_null(text_take(&t));
	text_init(&t, 10);
	text_addf(&t, "%s", "01234567890");
	cr_expect(text_failed(&t));
	text_addn(&t, "huge", huge);
	cr_expect(text_failed(&t));
	text_fini(&t);
}

/* A lent buffer is left when it is too small, and never given away. */
Test(text, begins_in_a_lent_buffer)
{
	char room[16], *p;
	struct text t;

	text_init_in(&t, room, sizeof room, 100);
	cr_expect_str_eq(t.p, "");
	text_add(&t, "0123456789");
	text_u64(&t, 12345);
	cr_expect(t.p == room && t.len == 15);
	cr_expect_str_eq(room, "012345678912345");
	p = text_take(&t);
	cr_assert(p && p != room);
	cr_expect_str_eq(p, "012345678912345");
	free(p);
	text_init_in(&t, room, sizeof room, 100);
	for (int i = 0; i < 25; i++)
		text_add(&t, "abcd");
	cr_expect(!text_failed(&t) && t.p != room && t.len == 100 && strlen(t.p) == 100);
	text_add(&t, "x");
	cr_expect(text_failed(&t) && t.len == 100);
	text_fini(&t);
	/* the ceiling holds in the buffer, too */
	text_init_in(&t, room, sizeof room, 10);
	text_add(&t, "0123456789");
	cr_expect_not(text_failed(&t));
	text_u64(&t, 0);
	cr_expect(text_failed(&t) && t.p == room);
	cr_expect_null(text_take(&t));
	text_init_in(&t, room, sizeof room, 10);
	text_add(&t, "ab");
	text_fail(&t);
	text_add(&t, "c");
	cr_expect_str_eq(room, "ab");
	cr_expect_null(text_take(&t));
}

static char *
json(const char *s, size_t n)
{
	struct text t;

	text_init(&t, 1000);
	text_jsonn(&t, s, n);
	return text_take(&t);
}

Test(text, json_strings)
{
	/* The right side as Python's json.dumps(bytes.decode("utf-8", "replace")) gives it. */
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"", "\"\""},
		{"plain", "\"plain\""},
		{"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
		{"\n\r\t\x01\x1f\x7f", "\"\\n\\r\\t\\u0001\\u001f\\u007f\""},
		{"\xc3\xa4", "\"\\u00e4\""},
		{"\xf0\x9f\x98\x80", "\"\\ud83d\\ude00\""},
		{"\xf4\x8f\xbf\xbf", "\"\\udbff\\udfff\""},
		{"\xf0\x80\x80\x41", "\"\\ufffd\\ufffd\\ufffdA\""},
		{"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
		{"\xe2\x82", "\"\\ufffd\""},
		{"\xc0\xaf", "\"\\ufffd\\ufffd\""},
		{"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
		{"\xe2\x82\x41", "\"\\ufffdA\""},
		{"\xff", "\"\\ufffd\""},
		{"\xf1\x80\x80\xe1\x80\xc2\x62", "\"\\ufffd\\ufffd\\ufffdb\""},
	};
	struct text t;
	char *p;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		p = json(cases[i].in, strlen(cases[i].in));
		cr_expect_str_eq(p, cases[i].out, "case %zu: %s", i, p);
		free(p);
	}
	p = json("a\0b", 3);
	cr_expect_str_eq(p, "\"a\\u0000b\"");
	free(p);
	text_init(&t, 10);
	text_json(&t, NULL);
	cr_expect_str_eq(t.p, "null");
	text_fini(&t);
}

/* Every code point, and every pair of bytes, through an independent reader. */
Test(text, json_strings_read_back)
{
	for (unsigned c = 1; c < 0x10ffff; c += c < 0x3000 ? 1 : 97) {
		char u[5] = {0}, *p;
		cJSON *back;

		if (c >= 0xd800 && c < 0xe000)
			continue;
		if (c < 0x80) {
			u[0] = (char)c;
		} else if (c < 0x800) {
			u[0] = (char)(0xc0 | c >> 6);
			u[1] = (char)(0x80 | (c & 63));
		} else if (c < 0x10000) {
			u[0] = (char)(0xe0 | c >> 12);
			u[1] = (char)(0x80 | (c >> 6 & 63));
			u[2] = (char)(0x80 | (c & 63));
		} else {
			u[0] = (char)(0xf0 | c >> 18);
			u[1] = (char)(0x80 | (c >> 12 & 63));
			u[2] = (char)(0x80 | (c >> 6 & 63));
			u[3] = (char)(0x80 | (c & 63));
		}
		p = json(u, strlen(u));
		back = cJSON_Parse(p);
		cr_assert(cJSON_IsString(back), "U+%04X: %s", c, p);
		cr_assert_str_eq(back->valuestring, u, "U+%04X", c);
		cJSON_Delete(back);
		free(p);
	}
	for (unsigned i = 0; i < 65536; i++) {
		char u[2] = {(char)(i >> 8), (char)i}, *p = json(u, 2);
		cJSON *back = cJSON_Parse(p);

		for (const char *s = p; *s; s++)
			cr_assert(*s >= 0x20 && *s < 0x7f);
		cr_assert(i >> 8 == 0 || (i & 255) == 0 || cJSON_IsString(back), "%04x: %s", i, p);
		cJSON_Delete(back);
		free(p);
	}
}

Test(text, numbers)
{
	static const struct {
		double v;
		const char *out;
	} cases[] = {
		{0, "0"},
		{-0.0, "-0"},
		{0.1, "0.1"},
		{1e-6, "1e-06"},
		{1.0 / 3, "0.3333333333333333"},
		{9007199254740993.0, "9007199254740992"},
		{NAN, "\"NaN\""},
		{INFINITY, "\"Infinity\""},
		{-INFINITY, "\"-Infinity\""},
		{5e-324, "4.94065645841247e-324"},
	};
	uint64_t state = 1;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct text t;

		text_init(&t, 100);
		text_number(&t, cases[i].v);
		cr_expect_str_eq(t.p, cases[i].out);
		text_fini(&t);
	}
	for (int i = 0; i < 100000; i++) {
		struct text t;
		double v;

		state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
		memcpy(&v, &state, sizeof v);
		if (!isfinite(v))
			continue;
		text_init(&t, 100);
		text_number(&t, v);
		cr_assert_eq(strtod(t.p, NULL), v, "%s", t.p);
		text_fini(&t);
	}
}

Test(text, clip)
{
	char buf[8];

	cr_expect_str_eq(text_clip(buf, sizeof buf, "short", 5), "short");
	cr_expect_str_eq(text_clip(buf, sizeof buf, "exactly", 7), "exactly");
	cr_expect_str_eq(text_clip(buf, sizeof buf, "too long", 8), "too ...");
	cr_expect_str_eq(text_clip(buf, sizeof buf, "a\n\xff\0b", 5), "a???b");
	cr_expect_str_eq(text_clip(buf, 4, "abcdef", 6), "...");
	cr_expect_str_eq(text_clip(buf, sizeof buf, "", 0), "");
}

/* What `write_lines` puts on standard error. */
static void
capture(void (*write_lines)(void), char *buf, size_t size)
{
	int saved = dup(STDERR_FILENO), fds[2];
	ssize_t n;

	cr_assert_eq(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	write_lines();
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(fds[0], buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	close(fds[0]);
}

static void
two_lines(void)
{
	log_warn("one\nforged \x1b[1mline %d", 1);
	log_debug("not shown");
}

Test(text, log_lines)
{
	char buf[4096];
	cJSON *line;

	log_setup("prog", LOG_INFO_, 0);
	capture(two_lines, buf, sizeof buf);
	cr_expect_not_null(strstr(buf, "Z prog["));
	cr_expect_not_null(strstr(buf, "warn: one forged  [1mline 1\n"), "%s", buf);
	cr_expect_eq(strchr(buf, '\n'), buf + strlen(buf) - 1, "one line");
	log_setup("prog", LOG_DEBUG_, 1);
	capture(two_lines, buf, sizeof buf);
	cr_assert_not_null(strchr(buf, '\n'));
	line = cJSON_ParseWithLength(buf, (size_t)(strchr(buf, '\n') - buf));
	cr_assert_not_null(line, "%s", buf);
	cr_expect_str_eq(cJSON_GetObjectItem(line, "msg")->valuestring, "one\nforged \x1b[1mline 1");
	cr_expect_str_eq(cJSON_GetObjectItem(line, "level")->valuestring, "warn");
	cr_expect_not_null(strstr(buf, "not shown"));
	cJSON_Delete(line);
}
