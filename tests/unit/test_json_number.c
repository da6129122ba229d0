/*
 * test_json_number.c: decimals to binary against the C library's strtod and strtof, bit for bit, and lists of
 * numbers into tensors. The table of powers of ten is checked by check_pow10.py.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t
rnd(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static double
rnd_double(void)
{
	double d;
	uint64_t u;

	do {
		u = rnd();
		memcpy(&d, &u, sizeof(d));
	} while (!isfinite(d));
	return d;
}

static float
rnd_float(void)
{
	float f;
	uint32_t u;

	do {
		u = (uint32_t)rnd();
		memcpy(&f, &u, sizeof(f));
	} while (!isfinite(f));
	return f;
}

static void
compare(const char *text)
{
	size_t n = strlen(text);
	/* an exact copy without a NUL, so that reading past the end is seen by the sanitizer */
	char *copy = malloc(n);
	const char *next;
	double d, want_d = strtod(text, NULL);
	float f, want_f = strtof(text, NULL);

	memcpy(copy, text, n);
	d = json_double(copy, copy + n, &next);
	cr_assert(next == copy + n, "%s: stopped early", text);
	cr_assert(memcmp(&d, &want_d, sizeof(d)) == 0, "%s: %a, strtod says %a", text, d, want_d);
	f = json_float(copy, copy + n, &next);
	cr_assert(next == copy + n, "%s: stopped early", text);
	cr_assert(memcmp(&f, &want_f, sizeof(f)) == 0, "%s: %a, strtof says %a", text, (double)f, (double)want_f);
	free(copy);
}

Test(json_number, random_shapes, .timeout = 120)
{
	char text[512];

	for (int i = 0; i < 400000; i++) {
		double d = rnd_double();
		float f = rnd_float();
		double small = (double)(int64_t)rnd() / 0x1p60;
		uint64_t w = rnd() >> (rnd() % 64);

		snprintf(text, sizeof(text), "%.17g", d);
		compare(text);
		snprintf(text, sizeof(text), "%.16g", small);
		compare(text);
		snprintf(text, sizeof(text), "%.9g", (double)f);
		compare(text);
		snprintf(text, sizeof(text), "%.7g", small);
		compare(text);
		snprintf(text, sizeof(text), "%.4f", small);
		compare(text);
		snprintf(text, sizeof(text), "%" PRIu64 "e%d", w, (int)(rnd() % 700) - 360);
		compare(text);
		snprintf(text, sizeof(text), "-%" PRIu64 ".%" PRIu64 "E%+d", w, rnd(), (int)(rnd() % 90) - 60);
		compare(text);
		snprintf(text, sizeof(text), "0.0000000%" PRIu64, w);
		compare(text);
		snprintf(text, sizeof(text), "%" PRIu64 "%" PRIu64 ".%" PRIu64, (w | 1), rnd(), rnd());
		compare(text);
	}
}

/* The decimal expansions of points halfway between two neighbours, exactly and a digit beside. */
Test(json_number, halfway, .timeout = 120)
{
	static char text[2048];

	for (int i = 0; i < 20000; i++) {
		float f = rnd_float();
		float g = nextafterf(f, INFINITY);
		double half = ((double)f + (double)g) / 2;
		double wide = ldexp((double)(int64_t)(rnd() >> 10) + 0.5, (int)(rnd() % 120) - 60);
		/* 54 bits and a half, which a double cannot hold: two parts of one exact decimal */
		uint64_t odd = (rnd() >> 9) | (UINT64_C(1) << 53);
		char *dot;

		if (!isfinite(g))
			continue;
		snprintf(text, sizeof(text), "%.200f", half);
		compare(text);
		strcat(text, "1");
		compare(text);
		snprintf(text, sizeof(text), "%.110e", half);
		compare(text);
		dot = strchr(text, 'e');
		/* one less in the last place but zeros: nudge below the tie */
		for (char *p = dot - 1; p > text; p--) {
			if (*p == '.')
				continue;
			if (*p > '0') {
				*p = (char)(*p - 1);
				break;
			}
			*p = '9';
		}
		compare(text);
		snprintf(text, sizeof(text), "%.30f", wide);
		compare(text);
		odd |= 1;
		snprintf(text, sizeof(text), "%" PRIu64, odd);
		compare(text);
		snprintf(text, sizeof(text), "%" PRIu64 ".0000000000000000000000001", odd);
		compare(text);
		snprintf(text, sizeof(text), "%" PRIu64 "e-1", odd);
		compare(text);
		/* halves of a unit at small negative powers of ten are ties that need exact quotients */
		snprintf(text, sizeof(text), "%" PRIu64 "e%d", (odd >> 20) * 5, (int)(rnd() % 40) - 25);
		compare(text);
	}
}

Test(json_number, nasty)
{
	static const char *const texts[] = {
		"0",
		"-0",
		"0.0",
		"-0.0",
		"0e0",
		"-0e-5",
		"0e999999999999999999999",
		"0.000e-99999",
		"1e-400",
		"-1e-400",
		"1e400",
		"-1e400",
		"1e99999999999999999999",
		"1e-99999999999999999999",
		"4.9406564584124654e-324",
		"2.4703282292062327e-324",
		"2.4703282292062328e-324",
		"2.47032822920623272e-324",
		"1.7976931348623157e308",
		"1.7976931348623158e308",
		"1.7976931348623159e308",
		"179769313486231580793728971405301e276",
		"2.2250738585072011e-308",
		"2.2250738585072012e-308",
		"2.2250738585072014e-308",
		"2.225073858507201e-308",
		"9007199254740993",
		"9007199254740992",
		"9007199254740993.0",
		"9007199254740993.00000000000000000000000001",
		"9007199254740995",
		"18446744073709551615",
		"18446744073709551616",
		"9223372036854775808",
		"0.500000000000000166533453693773481063544750213623046875",
		"3.518437208883201171875e13",
		"62.5364939768271845828",
		"8.10109172351e-10",
		"1.50000000000000011102230246251565",
		"104110013277974872254e-225",
		"12345e0",
		"8533e+68",
		"4104e98",
		"900054602635948575728e72",
		"85904620e+109",
		"3.4028234664e38",
		"3.4028235e38",
		"3.4028235677973366e38",
		"3.4028235677973367e38",
		"3.40282357e38",
		"1.17549435e-38",
		"1.1754942e-38",
		"1.40129846e-45",
		"7.0064923216240853546186479164495e-46",
		"7.0064923216240853546186479164496e-46",
		"7.0064923216240854e-46",
		"7e-46",
		"16777217",
		"16777219",
		"16777217.000000000000000001",
		"33554434.000000001",
		"1.00000005960464477539062500000000000000000001",
		"1.000000059604644775390625",
		"1.00000005960464477539062499",
		"0.1",
		"0.3",
		"1e22",
		"1e23",
		"1e-22",
		"1e-23",
		"5e-324",
		"123456789012345678901234567890",
		"0.00000000000000000000000000000000000000000000000000000000000000000000000000000000001234567890123456789012",
		"1090544144181609348671888949248",
		"1.0905441441816093e30",
		"1e15",
		"-1e15",
		"6.02214076e23",
	};
	char *zeros = malloc(1u << 20);

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		compare(texts[i]);
	/* thousands of digits, with what decides at their end */
	memset(zeros, '0', 6000);
	memcpy(zeros, "9007199254740993.", 17);
	zeros[6000] = '\0';
	compare(zeros);
	zeros[5999] = '1';
	compare(zeros);
	memset(zeros, '0', 6000);
	memcpy(zeros, "0.", 2);
	strcpy(zeros + 6000, "123e5999");
	compare(zeros);
	memset(zeros, '7', 6000);
	strcpy(zeros + 6000, "e-5999");
	compare(zeros);
	free(zeros);
}

Test(json_number, no_number)
{
	static const char *const texts[] = {"-",   "+1", ".5",	"e5",  "1.", "1.e5", "1e",
					    "1e+", "01", "-01", "nan", "",   "-a"};
	static const char hex[] = "0x10";
	const char *next;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_double(texts[i], texts[i] + strlen(texts[i]), &next);
		cr_expect(next == NULL, "%s was taken for a number", texts[i]);
	}
	json_double(hex, hex + 4, &next);
	cr_expect(next && *next == 'x');
}

static int
numbers(struct tensor *t, enum dtype dt, int rank, const int64_t *shape, void *data, const char *text, struct err *e)
{
	size_t n = strlen(text);
	char *copy = malloc(n + !n);
	int rc;

	*e = (struct err){.code = ERR_NONE};
	memcpy(copy, text, n);
	cr_assert_eq(tensor_describe(t, "q", dt, rank, shape, e), 0, "%s", e->msg);
	t->data = data;
	rc = json_numbers((struct json_span){copy, copy + n}, t, "q", e);
	free(copy);
	return rc;
}

/* A decimal beyond a dtype's range is refused with its place; the largest below it, and a written infinity, are taken. */
Test(json_number, too_large_for_the_dtype)
{
	static const struct {
		enum dtype dt;
		const char *good, *bad;
	} cases[] = {
		{DT_FP64, "1.7976931348623158e308", "1.7976931348623159e308"},
		{DT_FP64, "0e999999", "1e400"},
		{DT_FP32, "3.4028235677973366e38", "3.40282357e38"},
		{DT_FP32, "-3.4028234e38", "-1e400"},
		{DT_FP16, "65519.99", "65520"},
		{DT_FP16, "-65504", "-1e6"},
		{DT_BF16, "3.3895e38", "3.3962e38"},
		{DT_BF16, "-3.3e38", "-1e39"},
	};
	int64_t shape[1] = {3};
	double data[3];
	struct tensor t;
	char text[100], says[100];
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool negative = cases[i].bad[0] == '-';

		snprintf(text, sizeof(text), "[1,2,%s]", cases[i].good);
		memset(&e, 0, sizeof(e));
		cr_expect_eq(numbers(&t, cases[i].dt, 1, shape, data, text, &e), 0, "%s: %s", text, e.msg);
		cr_expect(isfinite(tensor_get(&t, 2)), "%s", text);
		snprintf(text, sizeof(text), "[1,2,%s]", cases[i].bad);
		cr_expect_eq(numbers(&t, cases[i].dt, 1, shape, data, text, &e), -1, "%s", text);
		cr_expect_eq(e.code, ERR_MALFORMED_BODY);
		snprintf(says, sizeof(says), "element 2 of its data is %s, too large for %s; write \"%sInfinity\"",
			 cases[i].bad, dtype_info(cases[i].dt)->name, negative ? "-" : "");
		cr_expect(strstr(e.msg, says), "%s", e.msg);
		snprintf(text, sizeof(text), "[1,2,\"%sInfinity\"]", negative ? "-" : "");
		cr_expect_eq(numbers(&t, cases[i].dt, 1, shape, data, text, &e), 0);
		cr_expect(isinf(tensor_get(&t, 2)));
	}
}

Test(json_number, lists)
{
	static const struct {
		int rank;
		int64_t shape[4];
		const char *text;
		int rc;
		const char *word; /* in the error */
	} cases[] = {
		{1, {3}, "[1,2,3]", 0, NULL},
		{1, {3}, " [ 1 ,\n2\t, 3 ] ", 0, NULL},
		{2, {2, 3}, "[1,2,3,4,5,6]", 0, NULL},
		{2, {2, 3}, "[[1,2,3],[4,5,6]]", 0, NULL},
		{3, {1, 2, 3}, "[[[1,2,3],[4,5,6]]]", 0, NULL},
		{0, {0}, "7", 0, NULL},
		{0, {0}, "[7]", 0, NULL},
		{1, {0}, "[]", 0, NULL},
		{2, {2, 0}, "[]", 0, NULL},
		{2, {2, 0}, "[[],[]]", 0, NULL},
		{2, {0, 4}, "[]", 0, NULL},
		{2, {2, 3}, "[[1,2,3],[4,5]]", -1, "nested otherwise"},
		{2, {2, 3}, "[[1,2],[3,4],[5,6]]", -1, "nested otherwise"},
		{2, {2, 3}, "[[1,2,3],[4,5,6],[7,8,9]]", -1, "more elements"},
		{2, {2, 3}, "[[1,2,3],4,5,6]", -1, "values beside lists"},
		{2, {2, 3}, "[1,2,3,[4,5,6]]", -1, "nested"},
		{3, {1, 2, 3}, "[[1,2,3],[4,5,6]]", -1, "values beside lists"},
		{2, {2, 3}, "[[[1,2,3],[4,5,6]]]", -1, "deeper"},
		{1, {3}, "[1,2]", -1, "has 2 elements"},
		{1, {3}, "[1,2,3,4]", -1, "more elements"},
		{1, {3}, "[1,2,3", -1, "complete"},
		{1, {3}, "[1,2,3,", -1, "complete"},
		{1, {3}, "[1,2,,3]", -1, "element 2"},
		{1, {3}, "[1,2 3]", -1, "comma"},
		{1, {3}, "[1,2,3,]", -1, "a comma before ] (after 3 elements)"},
		{1, {2}, "[1,2 , ]", -1, "a comma before ] (after 2 elements)"},
		{1, {4}, "[1,2,]", -1, "a comma before ] (after 2 elements)"},
		{1, {2}, "[1,2,,3]", -1, "element 2 of its data is ,"},
		{2, {2, 2}, "[[1,2,],[3,4]]", -1, "a comma before ]"},
		{2, {2, 2}, "[[1,2],[3,4],]", -1, "a comma before ]"},
		{1, {3}, "[1,NaN,3]", -1, "element 1 of its data is NaN, and JSON has no such number; the string \"NaN\""},
		{1, {3}, "[1,2,Infinity]", -1, "the string \"Infinity\" is taken"},
		{1, {3}, "[-Infinity,2,3]", -1, "the string \"-Infinity\" is taken"},
		{1, {3}, "[nan,2,3]", -1, "is nan; a number is wanted"},
		{1, {3}, "[,1,2,3]", -1, "element 0"},
		{1, {3}, "[1,2,3]]", -1, "comma"},
		{1, {3}, "[1,02,3]", -1, "element 1"},
		{1, {3}, "[1,null,3]", -1, "null"},
		{1, {3}, "[1,true,3]", -1, "true"},
		{1, {3}, "[1,\"x\",3]", -1, "\"x\""},
		{1, {3}, "[1,{},3]", -1, "{}"},
		{1, {1}, "1", -1, "list"},
		{1, {1}, "", -1, "list"},
		{0, {0}, "", -1, "list"},
		{1, {1}, "[", -1, "complete"},
		{0, {0}, "[]", -1, "has 0 elements"},
	};
	struct tensor t;
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		float data[6] = {0};
		int rc = numbers(&t, DT_FP32, cases[i].rank, cases[i].shape, data, cases[i].text, &e);

		cr_expect_eq(rc, cases[i].rc, "%s: %d %s", cases[i].text, rc, e.msg);
		if (rc < 0)
			cr_expect(strstr(e.msg, cases[i].word) && strcmp(e.input, "q") == 0, "%s: %s", cases[i].text,
				  e.msg);
		else
			for (int64_t k = 0; k < tensor_elements(&t); k++)
				cr_expect_eq(data[k], t.rank == 0 ? 7 : (float)(k + 1), "%s", cases[i].text);
	}
}

Test(json_number, types)
{
	static const int64_t shape[] = {4};
	struct tensor t;
	struct err e;
	int64_t i64[4];
	int32_t i32[4];
	uint16_t half[4];
	uint8_t u8[4];
	double f64[4];
	float f32[4];

	cr_expect_eq(numbers(&t, DT_INT64, 1, shape, i64,
			     "[9007199254740993,-9223372036854775808,9223372036854775807,1e3]", &e),
		     0);
	cr_expect(i64[0] == INT64_C(9007199254740993) && i64[1] == INT64_MIN && i64[2] == INT64_MAX && i64[3] == 1000);
	cr_expect_eq(numbers(&t, DT_INT64, 1, shape, i64, "[9223372036854775808,0,0,0]", &e), -1);
	cr_expect_eq(numbers(&t, DT_INT64, 1, shape, i64, "[-9223372036854775809,0,0,0]", &e), -1);
	cr_expect_eq(numbers(&t, DT_INT64, 1, shape, i64, "[1.5,0,0,0]", &e), -1);
	cr_expect_eq(numbers(&t, DT_INT64, 1, shape, i64, "[\"NaN\",0,0,0]", &e), -1);
	cr_expect_eq(numbers(&t, DT_INT32, 1, shape, i32, "[-2147483648,2147483647,-0,2.0]", &e), 0);
	cr_expect(i32[0] == INT32_MIN && i32[1] == INT32_MAX && i32[2] == 0 && i32[3] == 2);
	cr_expect_eq(numbers(&t, DT_INT32, 1, shape, i32, "[2147483648,0,0,0]", &e), -1);
	cr_expect(strstr(e.msg, "int32") && strstr(e.msg, "element 0"), "%s", e.msg);
	cr_expect_eq(numbers(&t, DT_UINT8, 1, shape, u8, "[0,255,1,2]", &e), 0);
	cr_expect_eq(u8[1], 255);
	cr_expect_eq(numbers(&t, DT_UINT8, 1, shape, u8, "[0,256,1,2]", &e), -1);
	cr_expect_eq(numbers(&t, DT_INT8, 1, shape, u8, "[-128,127,1,2]", &e), 0);
	cr_expect_eq(numbers(&t, DT_INT8, 1, shape, u8, "[-129,127,1,2]", &e), -1);
	cr_expect_eq(numbers(&t, DT_BOOL, 1, shape, u8, "[true,false,1,0]", &e), 0);
	cr_expect(u8[0] == 1 && u8[1] == 0 && u8[2] == 1 && u8[3] == 0);
	cr_expect_eq(numbers(&t, DT_BOOL, 1, shape, u8, "[true,false,10,0]", &e), -1);
	cr_expect_eq(numbers(&t, DT_FP64, 1, shape, f64, "[\"NaN\",\"Infinity\",\"-Infinity\",0.1]", &e), 0);
	cr_expect(isnan(f64[0]) && f64[1] == INFINITY && f64[2] == -INFINITY && f64[3] == 0.1);
	cr_expect_eq(numbers(&t, DT_FP32, 1, shape, f32, "[\"NaN\",\"Infinity\",\"-Infinity\",0.1]", &e), 0);
	cr_expect(isnan(f32[0]) && f32[1] == INFINITY && f32[2] == -INFINITY && f32[3] == 0.1f);
	/* 1 + 2^-11 is a tie in fp16; a hair above it, too little for float32 to tell, must still go up */
	cr_expect_eq(numbers(&t, DT_FP16, 1, shape, half, "[1.00048828125,1.000488281250001,65504,\"Infinity\"]", &e),
		     0);
	cr_expect(half[0] == 0x3c00 && half[1] == 0x3c01 && half[2] == 0x7bff && half[3] == 0x7c00, "%x %x %x %x",
		  half[0], half[1], half[2], half[3]);
	cr_expect_eq(numbers(&t, DT_BF16, 1, shape, half, "[1.00390625,1.003906250000001,-0.0,\"-Infinity\"]", &e), 0);
	cr_expect(half[0] == 0x3f80 && half[1] == 0x3f81 && half[2] == 0x8000 && half[3] == 0xff80);
	cr_expect_eq(numbers(&t, DT_FP8_E4M3, 1, shape, u8, "[1,2,3,4]", &e), -1);
	cr_expect(strstr(e.msg, "base64"), "%s", e.msg);
}

Test(json_number, nesting)
{
	static const struct {
		const char *text;
		int rank;
		int64_t shape[4];
	} cases[] = {
		{"[1,2,3]", 1, {3}},
		{"[]", 1, {0}},
		{"[[1,2],[3,4],[5,6]]", 2, {3, 2}},
		{" [ [ [1] , [2] ] ] ", 3, {1, 2, 1}},
		{"[[],[]]", 2, {2, 0}},
		{"[[[1,2,3],[4,5,6]]]", 3, {1, 2, 3}},
		{"[[1],[2,3]]", 2, {2, 1}},
		{"1", -1, {0}},
		{"", -1, {0}},
		{"[1", -1, {0}},
		{"[[[[[[[[[1]]]]]]]]]", -1, {0}},
		{"]", -1, {0}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t shape[TENSOR_RANK_MAX] = {0};
		const char *p = cases[i].text;
		int rank = json_nesting((struct json_span){p, p + strlen(p)}, shape);

		cr_expect_eq(rank, cases[i].rank, "%s: rank %d", p, rank);
		for (int k = 0; k < rank; k++)
			cr_expect_eq(shape[k], cases[i].shape[k], "%s: length %d is %d", p, k, (int)shape[k]);
	}
}

/* Lists that are not all of one length: the first that departs is named, in what order the elements may be read. */
Test(json_number, ragged)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"[[1,2,3],[4,5]]", "data[1] is a list of 2, but one of 3 is wanted"},
		{"[[1,2],[3,4,5]]", "data[1] is a list of 3, but one of 2 is wanted"},
		{"[[1,2],[3,4,5],[6]]", "data[1] is a list of 3, but one of 2 is wanted"},
		{"[[1],[],[2,3]]", "data[1] is a list of 0, but one of 1 is wanted"},
		{"[[], [1]]", "data[1] is a list of 1, but one of 0 is wanted"},
		{"[[[1,2],[3,4]],[[5,6]]]", "data[1] is a list of 1, but one of 2 is wanted"},
		{"[[[1,2],[3,4]],[[5,6],[7]]]", "data[1][1] is a list of 1, but one of 2 is wanted"},
		{"[[1,2], 3 ]", "data[1] is no list, but a list is wanted"},
		{"[1,[2]]", "data[0] is no list, but a list is wanted"},
		{"[[1,2],[3,[4]]]", "data[0][0] is no list, but a list is wanted"},
		{"[[[[[[[[1]]]]]]],[[[[[[[2,3]]]]]]]]", "data[1][0][0][0][0][0][0] is a list of 2, but one of 1"},
		{"[[\"NaN\",2],[\"Infinity\", \"NaN\" ,5]]", "data[1] is a list of 3, but one of 2 is wanted"},
		{"[[1],[2,3,\"\\\"],[\"]]", "data[1] is a list of 3, but one of 1 is wanted"},
		{"[[1,2],[3,4,]]", "a comma before ]"},
		{"[[1,2],[3,x],[4]]", "element 3 of its data is x"},
	};
	float data[16];
	struct tensor t;
	struct err e;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t shape[TENSOR_RANK_MAX] = {0};
		size_t n = strlen(cases[i].text);
		char *copy = malloc(n);
		struct json_span span = {copy, copy + n};

		e = (struct err){.code = ERR_NONE};
		memcpy(copy, cases[i].text, n);
		int rank = json_nesting(span, shape);
		cr_assert(rank > 0 && tensor_describe(&t, "q", DT_FP32, rank, shape, &e) == 0 &&
			  tensor_elements(&t) <= 16);
		t.data = data;
		cr_expect_eq(json_nested_numbers(span, &t, "q", &e), -1, "%s", cases[i].text);
		cr_expect(e.code == ERR_MALFORMED_BODY && strcmp(e.input, "q") == 0 && strstr(e.msg, cases[i].says),
			  "%s: %s", cases[i].text, e.msg);
		free(copy);
	}
	static const char deeper[] = "[1,[2]]";
	int64_t two[1] = {2};

	e = (struct err){.code = ERR_NONE};
	cr_assert_eq(tensor_describe(&t, "q", DT_FP32, 1, two, &e), 0);
	t.data = data;
	cr_expect_eq(json_nested_numbers((struct json_span){deeper, deeper + 7}, &t, "q", &e), -1);
	cr_expect(strstr(e.msg, "data[1] is a list, but a value is wanted"), "%s", e.msg);
}

Test(json_number, table_of_powers)
{
	const char *dir = getenv("AITERD_SRCDIR");
	char command[512];

	dir = dir ? dir : ".";
	snprintf(command, sizeof(command), "/usr/bin/python3 %s/tests/unit/check_pow10.py %s/server/codec/pow10.h", dir,
		 dir);
	cr_expect_eq(system(command), 0);
}
