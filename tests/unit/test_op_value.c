/*
 * test_op_value.c: parameters from text, AITER's refused parameters, and what is suggested for unknown names.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"

static const struct op *
find(const char *name)
{
	const struct op *op = op_find(name, strlen(name), NULL);

	cr_assert_not_null(op);
	return op;
}

static const struct op_param flag = {.name = "flag", .type = OP_BOOL};
static const struct op_param any_int = {.name = "any_int", .type = OP_INT};
static const struct op_param small_int = {.name = "small_int", .type = OP_INT, .min = -2, .max = 5};
static const struct op_param need_int = {.name = "need_int", .type = OP_INT, .required = true};
static const struct op_param number = {.name = "number", .type = OP_FLOAT};
static const struct op_param positive = {.name = "positive", .type = OP_FLOAT, .min = 0, .max = 1e30};
static const struct op_param word = {.name = "word", .type = OP_ENUM, .choices = "bshd|bhsd|x"};
static const struct op_param unclear = {
	.name = "unclear", .type = OP_ENUM, .choices = "bshd|bhsd", .unclear = "BHSD", .unclear_help = "say which"};
static const struct op_param maybe = {.name = "maybe", .type = OP_ENUM, .choices = "none|naive"};
static const struct op_param list = {.name = "list", .type = OP_INTS, .min = -1, .max = 100};

/* What is taken, and as what: "T" and "F", numbers, lists with ';', "-" for not given, "!" for refused. */
static const struct {
	const struct op_param *p;
	const char *text, *want;
} values[] = {
	{&flag, "true", "1"},
	{&flag, "True", "1"},
	{&flag, " 1 ", "1"},
	{&flag, "false", "0"},
	{&flag, "False", "0"},
	{&flag, "0", "0"},
	{&flag, "None", "-"},
	{&flag, "null", "-"},
	{&flag, "", "!"},
	{&flag, "yes", "!"},
	{&flag, "2", "!"},
	{&flag, "truee", "!"},
	{&flag, "1.0", "!"},
	{&any_int, "0", "0"},
	{&any_int, "-0", "0"},
	{&any_int, "+7", "7"},
	{&any_int, "9223372036854775807", "9223372036854775807"},
	{&any_int, "-9223372036854775808", "-9223372036854775808"},
	{&any_int, "9223372036854775808", "!"},
	{&any_int, "-9223372036854775809", "!"},
	{&any_int, "99999999999999999999999", "!"},
	{&any_int, "18446744073709551616", "!"},
	{&any_int, "1.0", "!"},
	{&any_int, "1e3", "!"},
	{&any_int, "0x10", "!"},
	{&any_int, "", "!"},
	{&any_int, "-", "!"},
	{&any_int, "+", "!"},
	{&any_int, "1 2", "!"},
	{&any_int, "--1", "!"},
	{&any_int, "NONE", "-"},
	{&need_int, "None", "!"},
	{&need_int, "12", "12"},
	{&small_int, "-2", "-2"},
	{&small_int, "5", "5"},
	{&small_int, "6", "!"},
	{&small_int, "-3", "!"},
	{&number, "0.125", "0.125"},
	{&number, "-1e-3", "-0.001"},
	{&number, "5", "5"},
	{&number, ".5", "0.5"},
	{&number, "5.", "5"},
	{&number, "1E5", "100000"},
	{&number, "None", "-"},
	{&number, "nan", "!"},
	{&number, "inf", "!"},
	{&number, "-Infinity", "!"},
	{&number, "1e999", "!"},
	{&number, "0x1p3", "!"},
	{&number, "1,5", "!"},
	{&number, "1e", "!"},
	{&number, ".", "!"},
	{&number, "1.2.3", "!"},
	{&number, "", "!"},
	{&number, "0.000000000000000000000000000000000000000000000000000000000000000001", "!"},
	{&positive, "-1e-9", "!"},
	{&positive, "0", "0"},
	{&positive, "1e31", "!"},
	{&word, "bshd", "0"},
	{&word, "bhsd", "1"},
	{&word, "x", "2"},
	{&word, "BSHD", "0"},
	{&word, "X", "2"},
	{&unclear, "bhsd", "1"},
	{&unclear, " BHSD", "!"},
	{&unclear, "BSHD", "0"},
	{&maybe, "none", "0"},
	{&maybe, "None", "-"},
	{&maybe, "NULL", "-"},
	{&maybe, "Naive", "1"},
	{&word, "bsh", "!"},
	{&word, "bshd|bhsd", "!"},
	{&word, "", "!"},
	{&list, "8,0", "8;0"},
	{&list, "[8, 0]", "8;0"},
	{&list, "(8, 0)", "8;0"},
	{&list, "[ -1 , -1,0 ]", "-1;-1;0"},
	{&list, "7", "7"},
	{&list, "1,2,3,4", "1;2;3;4"},
	{&list, "1,2,3,4,5", "!"},
	{&list, "[]", "!"},
	{&list, "", "!"},
	{&list, "[1,2", "!"},
	{&list, "[1,2)", "!"},
	{&list, "1,,2", "!"},
	{&list, "1,2,", "!"},
	{&list, "1.5,2", "!"},
	{&list, "-2,0", "!"},
	{&list, "0,101", "!"},
	{&list, "None", "-"},
};

static void
show(const struct op_param *p, const struct op_value *v, char *buf, size_t size)
{
	size_t n = 0;

	if (!v->given)
		snprintf(buf, size, "-");
	else if (p->type == OP_FLOAT)
		snprintf(buf, size, "%.17g", v->f);
	else if (p->type != OP_INTS)
		snprintf(buf, size, "%ld", v->i[0]);
	else
		for (int i = 0; i < v->n; i++)
			n += (size_t)snprintf(buf + n, size - n, "%s%ld", i ? ";" : "", v->i[i]);
}

Test(op_value, parse)
{
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		const struct op_param *p = values[i].p;
		struct op_value v;
		struct err e = {0};
		char got[100], padded[100];
		int rc;

		memset(&v, 0xA5, sizeof v);
		/* Not terminated where it ends: the length counts. */
		snprintf(padded, sizeof padded, "%s9", values[i].text);
		rc = op_value_parse(p, padded, strlen(values[i].text), &v, &e);
		if (values[i].want[0] == '!') {
			cr_expect_eq(rc, -1, "%s=%s is taken", p->name, values[i].text);
			cr_expect_eq(e.code, ERR_INVALID_PARAMETER);
			cr_expect_str_eq(e.param, p->name);
			cr_expect_not_null(strstr(e.msg, p->name));
			cr_expect(e.wanted[0]);
			continue;
		}
		cr_expect_eq(rc, 0, "%s=%s: %s", p->name, values[i].text, e.msg);
		show(p, &v, got, sizeof got);
		if (p->type == OP_FLOAT && v.given)
			cr_expect_eq(v.f, strtod(values[i].want, NULL), "%s=%s: %s", p->name, values[i].text, got);
		else
			cr_expect_str_eq(got, values[i].want, "%s=%s: %s", p->name, values[i].text, got);
	}
}

Test(op_value, messages)
{
	struct op_value v;
	struct err e;
	char big[5000];

	op_value_parse(&small_int, "6", 1, &v, &e);
	cr_expect_str_eq(e.found, "6");
	cr_expect_str_eq(e.wanted, "an integer between -2 and 5");
	op_value_parse(&word, "q", 1, &v, &e);
	cr_expect_str_eq(e.wanted, "bshd, bhsd or x");
	op_value_parse(&unclear, "BHSD", 4, &v, &e);
	cr_expect_str_eq(e.msg, "unclear=BHSD is not clear: say which");
	cr_expect_str_eq(e.wanted, "bshd or bhsd");
	op_refused_check(find("flash_attn_func"), "softcap", 7, "30", 2, &e);
	cr_expect_str_eq(e.msg, "softcap=30: a soft cap on the scores is not offered. Leave it out or give 0 or None");
	cr_expect_str_eq(e.wanted, "0 or None");
	cr_expect_str_eq(op_list_words("one", big, sizeof big), "one");
	cr_expect_str_eq(op_list_words("a|b|c", big, 6), "a, b ");
	memset(big, '1', sizeof big);
	big[3] = '\n';
	big[4] = '\0';
	op_value_parse(&any_int, big, sizeof big, &v, &e);
	cr_expect_lt(strlen(e.found), 70);
	cr_expect_null(strchr(e.msg, '\n'));
	op_value_parse(&list, big, sizeof big, &v, &e);
	op_value_parse(&number, big, sizeof big, &v, &e);
	cr_expect_eq(e.code, ERR_INVALID_PARAMETER);
}

Test(op_value, defaults_and_required)
{
	const struct op *dense = find("flash_attn_func"), *varlen = find("flash_attn_varlen_func");
	struct op_call c;
	struct err e = {0};
	int scale = op_param_find(dense, "softmax_scale", 13), window = op_param_find(dense, "window_size", 11);
	int cvt = op_param_find(dense, "how_v3_bf16_cvt", 15), max_k = op_param_find(varlen, "max_seqlen_k", 12);

	memset(&c, 0xA5, sizeof c);
	for (int i = 0; i < OP_PARAMS_MAX; i++)
		c.params[i].given = false;
	cr_assert_eq(op_params_finish(dense, &c, &e), 0, "%s", e.msg);
	cr_expect_not(c.params[scale].given);
	cr_expect_eq(c.params[window].n, 2);
	cr_expect_eq(c.params[window].i[0], -1);
	cr_expect_eq(c.params[window].i[1], -1);
	cr_expect_not(c.params[window].given);
	cr_expect_eq(c.params[cvt].i[0], 1);
	memset(&c, 0, sizeof c);
	cr_expect_eq(op_params_finish(varlen, &c, &e), -1);
	cr_expect_str_eq(e.param, "max_seqlen_q");
	cr_expect_not_null(strstr(e.msg, "needs the parameter max_seqlen_q: an integer"));
	c.params[max_k - 1].given = c.params[max_k].given = true;
	cr_expect_eq(op_params_finish(varlen, &c, &e), 0);
}

Test(op_value, refused)
{
	/* 1: ignored, -1: refused, 0: nothing known of it. */
	static const struct {
		const char *op, *name, *value;
		int want;
		const char *word;
	} table[] = {
		{"flash_attn_func", "dropout_p", "0.0", 1, NULL},
		{"flash_attn_func", "dropout_p", "0", 1, NULL},
		{"flash_attn_func", "dropout_p", "0.1", -1, "dropout"},
		{"flash_attn_func", "bias", "None", 1, NULL},
		{"flash_attn_func", "bias", "null", 1, NULL},
		{"flash_attn_func", "bias", "[1]", -1, "bias"},
		{"flash_attn_func", "alibi_slopes", "None", 1, NULL},
		{"flash_attn_func", "alibi_slopes", "1", -1, "ALiBi"},
		{"flash_attn_func", "deterministic", "True", 1, NULL},
		{"flash_attn_func", "deterministic", "false", 1, NULL},
		{"flash_attn_func", "deterministic", "maybe", -1, "deterministic"},
		{"flash_attn_func", "return_attn_probs", "False", 1, NULL},
		{"flash_attn_func", "return_attn_probs", "true", -1, "return_lse"},
		{"flash_attn_func", "sink_ptr", "None", 1, NULL},
		{"flash_attn_func", "sink", "3", -1, "sinks"},
		{"flash_attn_func", "num_splits", "0", 1, NULL},
		{"flash_attn_func", "num_splits", "4", -1, "num_splits=4"},
		{"flash_attn_func", "logits_soft_cap", "0.0", 1, NULL},
		{"flash_attn_func", "softcap", "30", -1, "cap"},
		{"flash_attn_func", "cu_seqlens_q", "None", 1, NULL},
		{"flash_attn_func", "cu_seqlens_kv", "[0,1]", -1, "flash_attn_varlen_func"},
		{"flash_attn_varlen_func", "min_seqlen_q", "0", 1, NULL},
		{"flash_attn_varlen_func", "min_seqlen_q", "1", -1, "0"},
		{"flash_attn_varlen_func", "block_table", "None", 1, NULL},
		{"flash_attn_varlen_func", "block_table", "x", -1, "paged"},
		{"flash_attn_varlen_func", "cu_seqlens_q_padded", "None", 1, NULL},
		{"flash_attn_varlen_func", "out", "None", 1, NULL},
		{"flash_attn_varlen_func", "layout", "bshd", 0, NULL},
		{"rmsnorm", "gemma_norm", "False", 1, NULL},
		{"rmsnorm", "gemma_norm", "true", -1, "add 1 to the weight"},
		{"rmsnorm", "use_model_sensitive_rmsnorm", "0", 1, NULL},
		{"rmsnorm", "use_model_sensitive_rmsnorm", "1", -1, "T5"},
		{"rmsnorm", "dropout_p", "0", 0, NULL},
		{"rmsnorm", "", "", 0, NULL},
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct err e = {0};
		int got = op_refused_check(find(table[i].op), table[i].name, strlen(table[i].name), table[i].value,
					   strlen(table[i].value), &e);

		cr_expect_eq(got, table[i].want, "%s %s=%s: %d", table[i].op, table[i].name, table[i].value, got);
		if (got >= 0)
			continue;
		cr_expect_eq(e.code, ERR_UNSUPPORTED_PARAMETER);
		cr_expect_str_eq(e.param, table[i].name);
		cr_expect_not_null(strstr(e.msg, table[i].word), "%s", e.msg);
	}
}

Test(op_value, unknown_names)
{
	static const char *const options[] = {"impl", "device", "timeout_ms", "iters", NULL, "format"};
	static const struct {
		const char *op, *name, *word;
	} params[] = {
		{"flash_attn_func", "casual", "did you mean causal?"},
		{"flash_attn_func", "Causal", "did you mean causal?"},
		{"flash_attn_func", "is_causal", "did you mean causal?"},
		{"flash_attn_func", "scale", "did you mean softmax_scale?"},
		{"flash_attn_func", "windowsize", "did you mean window_size?"},
		{"flash_attn_func", "timeout", "did you mean timeout_ms?"},
		{"flash_attn_func", "devcie", "did you mean device?"},
		{"flash_attn_func", "itres", "did you mean iters?"},
		{"rmsnorm", "esp", "did you mean eps?"},
		{"flash_attn_func", "dropoutp", "did you mean dropout_p, which AITER has but"},
		{"flash_attn_func", "xyzzy", "GET /v1/ops/flash_attn_func lists them"},
		{"flash_attn_func", "q", "q is an input tensor of flash_attn_func"},
		{"flash_attn_func", "softmax_lse", "softmax_lse is an output of flash_attn_func"},
		{"flash_attn_varlen_func", "layout", "has no parameter layout"},
		{"rmsnorm", "epsilom", "did you mean epsilon?"},
		{"rmsnorm", "a\nb", "no parameter a?b"},
		{"rmsnorm", "", "no parameter "},
	};
	static const struct {
		const char *op, *name, *word;
	} inputs[] = {
		{"flash_attn_func", "querry", "did you mean query? Its inputs are q, k, v"},
		{"flash_attn_func", "K", "did you mean k?"},
		{"flash_attn_func", "out", "out is an output of flash_attn_func"},
		{"flash_attn_func", "causal", "causal is a parameter"},
		{"flash_attn_func", "bias", "an additive bias is not offered"},
		{"flash_attn_func", "something", "its inputs are q, k, v"},
		{"flash_attn_varlen_func", "cu_seqlen_q", "did you mean cu_seqlens_q?"},
		{"flash_attn_varlen_func", "block_table", "paged"},
		{"rmsnorm", "wieght", "did you mean weight?"},
	};
	struct err e;
	char big[3000];

	for (size_t i = 0; i < sizeof params / sizeof params[0]; i++) {
		cr_expect_eq(
			op_param_unknown(find(params[i].op), params[i].name, strlen(params[i].name), options, 6, &e),
			-1);
		cr_expect_eq(e.code, ERR_UNKNOWN_PARAMETER);
		cr_expect_not_null(strstr(e.msg, params[i].word), "%s: %s", params[i].name, e.msg);
	}
	for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
		cr_expect_eq(op_input_unknown(find(inputs[i].op), inputs[i].name, strlen(inputs[i].name), &e), -1);
		cr_expect_not_null(strstr(e.msg, inputs[i].word), "%s: %s", inputs[i].name, e.msg);
	}
	memset(big, 'k', sizeof big);
	cr_expect_eq(op_param_unknown(find("rmsnorm"), big, sizeof big, options, 6, &e), -1);
	cr_expect_eq(op_input_unknown(find("rmsnorm"), big, sizeof big, &e), -1);
	cr_expect_lt(strlen(e.msg), 200);
	cr_expect_eq(op_param_unknown(find("rmsnorm"), "impl2", 5, NULL, 0, NULL), -1);
}

Test(op_value, nearest)
{
	static const char *const names[] = {"causal", NULL, "softmax_scale", "return_lse"};

	cr_expect_str_eq(op_nearest("casual", 6, names, 4), "causal");
	cr_expect_str_eq(op_nearest("return_lsee", 11, names, 4), "return_lse");
	cr_expect_str_eq(op_nearest("scale", 5, names, 4), "softmax_scale");
	cr_expect_null(op_nearest("completely_else", 15, names, 4));
	cr_expect_null(op_nearest("", 0, names, 4));
	cr_expect_null(op_nearest("causal", 6, NULL, 0));
}
