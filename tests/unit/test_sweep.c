/*
 * test_sweep.c: lists of values become cases in their order, however lists are written; what is no value is refused with its
 * name before anything runs.
 */
#include <criterion/criterion.h>

#include <string.h>

#include "front/bench.h"
#include "front/sweep.h"

/* main.c's, for the pages that come along with the options. */
bool
service_ready(struct service *svc)
{
	return svc != NULL;
}

static struct arena_pool *pool;
static struct mem mem;
static struct intake in, one;
static struct sweep s;
static struct text t;
static struct err e;
static const struct intake_limits limits = {.json_bytes = 1 << 20, .json_depth = 16, .tensor_bytes = 1 << 30};

static void
setup(void)
{
	pool = arena_pool_new(16 << 20, 0, &e);
	cr_assert(pool);
	mem_init(&mem, pool, 0);
	text_init(&t, 1 << 20);
}

static void
teardown(void)
{
	sweep_fini(&s);
	intake_fini(&in);
	intake_fini(&one);
	text_fini(&t);
	mem_fini(&mem);
	arena_pool_free(&pool);
}

static int
make(const char *op_name, const char *query, uint64_t most)
{
	const struct op *op = op_find(op_name, strlen(op_name), NULL);

	sweep_fini(&s);
	intake_fini(&in);
	intake_init(&in, op, &mem, &limits);
	memset(&e, 0, sizeof(e));
	cr_assert_eq(intake_query(&in, query, &e), 0, "%s", e.msg);
	return sweep_make(&s, op, &in, bench_options, most, &e);
}

static const char *
case_text(uint64_t at)
{
	t.len = 0;
	sweep_case(&s, at, &t);
	return t.p;
}

TestSuite(sweep, .init = setup, .fini = teardown);

Test(sweep, the_first_named_varies_slowest)
{
	static const char *const wanted[] = {
		"{\"batch\":1,\"causal\":true,\"dtype\":\"fp16\"}",
		"{\"batch\":1,\"causal\":false,\"dtype\":\"fp16\"}",
		"{\"batch\":4,\"causal\":true,\"dtype\":\"fp16\"}",
		"{\"batch\":4,\"causal\":false,\"dtype\":\"fp16\"}",
		"{\"batch\":16,\"causal\":true,\"dtype\":\"fp16\"}",
		"{\"batch\":16,\"causal\":false,\"dtype\":\"fp16\"}",
	};
	int64_t sizes[OP_SIZES_MAX];

	cr_assert_eq(make("flash_attn_func", "batch=1,4,16&causal=true,false&iters=3&dtype=fp16", 100), 0, "%s", e.msg);
	cr_assert_eq(s.cases, 6);
	cr_assert(s.sized);
	for (uint64_t i = 0; i < 6; i++)
		cr_assert_str_eq(case_text(i), wanted[i]);
	sweep_sizes(&s, 3, sizes);
	cr_assert_eq(sizes[0], 4);
	cr_assert_eq(sizes[1], 512, "the default");
	cr_assert_str_eq(sweep_option(&s, 3, "dtype"), "fp16");
	cr_assert_null(sweep_option(&s, 3, "device"));
	/* What a run's code is to parse: everything but sizes, with the case's own values. */
	intake_init(&one, in.op, &mem, &limits);
	cr_assert_eq(sweep_params(&s, 3, &one, &e), 0);
	cr_assert_str_eq(intake_param_find(&one, "causal"), "false");
	cr_assert_str_eq(intake_param_find(&one, "iters"), "3");
	cr_assert_null(intake_param_find(&one, "batch"));
}

Test(sweep, nothing_is_one_case)
{
	cr_assert_eq(make("rmsnorm", "", 1), 0);
	cr_assert_eq(s.cases, 1);
	cr_assert_not(s.sized);
	cr_assert_str_eq(case_text(0), "{}");
	cr_assert_eq(make("rmsnorm", "eps=1e-5,1e-6&impl=own,naive&mode=cold,warm&device=cpu:0,auto", 16), 0, "%s",
		     e.msg);
	cr_assert_eq(s.cases, 16);
	cr_assert_not(s.sized, "no inputs are asked for");
	cr_assert_str_eq(case_text(15), "{\"eps\":1e-06,\"impl\":\"naive\",\"mode\":\"warm\",\"device\":\"auto\"}");
}

Test(sweep, ways_to_write_lists)
{
	static const char *const scalars[] = {"seqlen=16,32", "seqlen=+16+,+32", "seqlen=[16,32]",
					      "seqlen=%5B16,+32%5D", "Sq=16,32"};

	for (size_t i = 0; i < sizeof(scalars) / sizeof(scalars[0]); i++) {
		cr_assert_eq(make("flash_attn_func", scalars[i], 10), 0, "%s: %s", scalars[i], e.msg);
		cr_assert_eq(s.cases, 2, "%s", scalars[i]);
		cr_assert_str_eq(sweep_value(&s, 0, 0), "16");
		cr_assert_str_eq(sweep_value(&s, 1, 0), "32");
	}
	cr_assert_eq(make("flash_attn_func", "dtype=%5B\"fp16\",\"bf16\"%5D", 10), 0, "%s", e.msg);
	cr_assert_str_eq(case_text(1), "{\"dtype\":\"bf16\"}");
	/* One value that is a list, and lists of those. */
	static const char *const single[] = {"window_size=8,0", "window_size=[8,0]", "window_size=(8,0)"};
	static const char *const several[] = {"window_size=8,0;-1,-1", "window_size=[8,0];[-1,-1]",
					      "window_size=[[8,0],[-1,-1]]", "window_size=[\"8,0\",\"-1,-1\"]",
					      "window_size=[(8,0),(-1,-1)]"};
	for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
		cr_assert_eq(make("flash_attn_func", single[i], 10), 0, "%s", e.msg);
		cr_assert_eq(s.cases, 1, "%s", single[i]);
		cr_assert_str_eq(case_text(0), "{\"window_size\":[8,0]}");
	}
	for (size_t i = 0; i < sizeof(several) / sizeof(several[0]); i++) {
		cr_assert_eq(make("flash_attn_func", several[i], 10), 0, "%s: %s", several[i], e.msg);
		cr_assert_eq(s.cases, 2, "%s", several[i]);
		cr_assert_str_eq(case_text(1), "{\"window_size\":[-1,-1]}", "%s", several[i]);
	}
}

Test(sweep, what_is_wrong_is_named)
{
	static const struct {
		const char *query, *param, *words;
		enum err_code code;
	} rows[] = {
		{"batch=1,x", "batch", "wanted an integer", ERR_INVALID_PARAMETER},
		{"batch=1,,4", "batch", "empty", ERR_INVALID_PARAMETER},
		{"batch=1,", "batch", "empty", ERR_INVALID_PARAMETER},
		{"batch=", "batch", "empty", ERR_INVALID_PARAMETER},
		{"batch=-1", "batch", "wanted an integer", ERR_INVALID_PARAMETER},
		{"batch=99999999999999999999", "batch", "wanted an integer", ERR_INVALID_PARAMETER},
		{"causal=true,maybe", "causal", "true or false", ERR_INVALID_PARAMETER},
		{"impl=own,fast", "impl", "aiter", ERR_INVALID_PARAMETER},
		{"mode=tepid", "mode", "cold or warm", ERR_INVALID_PARAMETER},
		{"dtype=fp16,fp17", "dtype", "fp17", ERR_INVALID_PARAMETER},
		{"batch=1&B=2", "B", "mean the same", ERR_CONFLICTING_PARAMETER},
		{"bach=1", "bach", "batch", ERR_UNKNOWN_PARAMETER},
		{"head_dimm=64", "head_dimm", "head_dim", ERR_UNKNOWN_PARAMETER},
		{"sample=true", "sample", "samples", ERR_UNKNOWN_PARAMETER},
		{"rows=5", "rows", "no parameter rows", ERR_UNKNOWN_PARAMETER},
		{"dropout_p=0.5", "dropout_p", "dropout", ERR_UNSUPPORTED_PARAMETER},
		{"batch=1,2,3&seqlen=1,2,3,4", "cases", "12 cases", ERR_INVALID_PARAMETER},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_assert_eq(make("flash_attn_func", rows[i].query, 11), -1, "%s", rows[i].query);
		cr_assert_eq(e.code, rows[i].code, "%s: %s", rows[i].query, e.msg);
		cr_assert_str_eq(e.param, rows[i].param, "%s", rows[i].query);
		cr_assert(strstr(e.msg, rows[i].words), "%s: %s", rows[i].query, e.msg);
	}
	cr_assert_eq(make("flash_attn_func", "batch=1,2,3&seqlen=1,2,3,4", 12), 0);
	cr_assert_eq(make("flash_attn_func", "dropout_p=0", 12), 0, "changes nothing");
	cr_assert_str_eq(case_text(0), "{}");
}
