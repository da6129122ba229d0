/*
 * test_gpu_aiter.c: the planner of AITER's attention kernels, byte for byte. The table is written out here, and the expected
 * arguments by hand from AITER's argument struct (fmha_fwd_v3_args: slots of 16 bytes, strides in bytes); no GPU is needed.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "ops/aiter_table.h"
#include "ops/gpu_aiter.h"
#include "ops/gpu_ops.h"

/* Addresses that are never followed. */
#define AT(n) ((void *)(uintptr_t)(n))

static struct aiter_table table;
static struct launch_device mi300 = {.compute_units = 304, .aiter = &table};

/* All 24 of AITER's bf16 rows, made from their naming scheme. */
static void
setup(void)
{
	static const char *const dims[] = {"128", "192x128"}, *const cvts[] = {"rtne", "rtna", "rtz"};
	char csv[8192];
	struct err e = {0};
	int n = snprintf(csv, sizeof csv,
			 "dtype,hdim_q,hdim_v,mask,mode,bf16_cvt,ts_qo,ts_kv,knl_name,co_name\n"
			 "fp8bf16,128,128,0,0,1,256,64,_ZN5aiter18fmha_fwd_hd128_fp8E,fwd_hd128_fp8.co\n");

	for (int i = 0; i < 24; i++) {
		int d = i / 12, mask = i / 6 % 2, group = i / 3 % 2, cvt = i % 3;
		char name[64];

		snprintf(name, sizeof name, "hd%s_bf16_%s%s%s", dims[d], mask ? "causal_" : "", cvts[cvt],
			 group ? "_group" : "");
		n += snprintf(csv + n, sizeof csv - (size_t)n, "bf16,%d,128,%d,%d,%d,%d,32,K_%s,fwd_%s.co\n",
			      d ? 192 : 128, mask * 2, group, cvt, d ? 128 : 256, name, name);
	}
	cr_assert_eq(aiter_table_parse(&table, csv, (size_t)n, &e), 0, "%s", e.msg);
	cr_assert_eq(table.n, 24);
	for (int i = 0; i < table.n; i++) {
		char file[64], object[AITER_FILE_MAX];

		memcpy(file, table.rows[i].file, sizeof file);
		snprintf(object, sizeof object, "fmha_v3_fwd/MI300/%.*s", (int)strcspn(file, "."), file);
		memcpy(table.rows[i].object, object, sizeof object);
		table.rows[i].image = AT(0x900000 + i);
	}
}

TestSuite(gpu_aiter, .init = setup);

/* [B, S, H, D] tensors, as flash_attn_func gives them. */
static struct attn_problem
dense(int64_t b, int64_t sq, int64_t sk, int64_t hq, int64_t hk, int64_t d, bool causal)
{
	return (struct attn_problem){
		.dtype = DT_BF16,
		.batch = b,
		.heads_q = hq,
		.heads_k = hk,
		.dim = d,
		.dim_v = 128,
		.seqlen_q = sq,
		.seqlen_k = sk,
		.q = AT(0x10000),
		.k = AT(0x20000),
		.v = AT(0x30000),
		.out = AT(0x40000),
		.lse = AT(0x50000),
		.q_stride = {sq * hq * d, hq * d, d},
		.k_stride = {sk * hk * d, hk * d, d},
		.v_stride = {sk * hk * 128, hk * 128, 128},
		.out_stride = {sq * hq * 128, hq * 128, 128},
		.lse_stride = {sq * hq, 1, sq},
		.scale = 0.08838834764831845,
		.causal = causal,
		.left = -1,
		.right = causal ? 0 : -1,
		.bf16_cvt = 1,
	};
}

/* [T, H, D] tensors, as flash_attn_varlen_func gives them. */
static struct attn_problem
packed(int64_t b, int64_t tq, int64_t max_q, int64_t hq, int64_t hk, int64_t d, bool causal)
{
	struct attn_problem p = dense(b, max_q, 77, hq, hk, d, causal);

	p.cu_q = AT(0x60000);
	p.cu_k = AT(0x70000);
	p.q_stride.batch = p.k_stride.batch = p.v_stride.batch = p.out_stride.batch = 0;
	p.lse_stride = (struct attn_strides){0, 1, tq};
	return p;
}

static int
plan(const struct attn_problem *p, struct launch_plan *out, struct err *e)
{
	int64_t tq = p->cu_q ? p->lse_stride.head : p->batch * p->seqlen_q;

	memset(e, 0, sizeof *e);
	memset(out, 0xee, sizeof *out);
	return gpu_aiter_attn_plan(p, tq, p->cu_k ? 500 : p->batch * p->seqlen_k, &mi300, out, e);
}

struct slot {
	int at;
	uint64_t value;
	bool wide;
};

/* All 656 bytes: what the list does not name is zero. */
static void
expect_arguments(const struct launch *l, const struct slot *slots, size_t n)
{
	uint8_t want[656] = {0};

	for (size_t i = 0; i < n; i++)
		memcpy(want + slots[i].at, &slots[i].value, slots[i].wide ? 8 : 4); /* little-endian, like the GPU */
	cr_assert_eq(l->arg_len, sizeof want);
	for (int i = 0; i < 656; i++)
		cr_expect_eq(l->arg[i], want[i], "byte %d (slot %d) is %02x, wanted %02x", i, i / 16 * 16, l->arg[i],
			     want[i]);
}

static void
expect_launch(const struct launch_plan *p, const char *name, uint32_t x, uint32_t y, uint32_t z, uint32_t threads)
{
	const struct launch *l = &p->launch[0];
	char object[96], symbol[64];

	snprintf(object, sizeof object, "fmha_v3_fwd/MI300/fwd_%s", name);
	snprintf(symbol, sizeof symbol, "K_%s", name);
	cr_assert_eq(p->count, 1);
	cr_expect_eq(p->named, 0);
	cr_expect_eq(p->workspace, 0);
	cr_expect_str_eq(l->object, object);
	cr_expect_str_eq(l->symbol, symbol);
	cr_expect((uintptr_t)l->image >= 0x900000 && (uintptr_t)l->image < 0x900018);
	cr_expect(l->grid[0] == x && l->grid[1] == y && l->grid[2] == z, "%s: grid %u %u %u, wanted %u %u %u", name,
		  l->grid[0], l->grid[1], l->grid[2], x, y, z);
	cr_expect(l->block[0] == threads && l->block[1] == 1 && l->block[2] == 1, "%s: block %u", name, l->block[0]);
	cr_expect_eq(l->lds, 0);
}

/* The example worked out in numbers when AITER's host code was studied: b 2, 32 heads on 8, 1024 tokens, causal. */
/* What the front says of an operator is what the workers have. */
Test(gpu_aiter, operators_say_whether)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < op_count(); i++) {
		const struct gpu_op *g = gpu_op_find(op_get(i));

		cr_assert(g);
		cr_expect_eq(g->aiter != NULL, g->op->aiter, "%s", g->op->name);
		n += g->op->aiter;
	}
	cr_expect_eq(n, 2);
}

Test(gpu_aiter, worked_example)
{
	struct attn_problem p = dense(2, 1024, 1024, 32, 8, 128, true);
	static const struct slot slots[] = {
		{0, 0x40000, true},    {16, 0x10000, true},	{32, 0x20000, true},   {48, 0x30000, true},
		{64, 0x50000, true},   {80, 0x3db504f3, false}, /* 0.088388346 */
		{96, 1024, false},     {112, 8192, false},	{128, 2097152, false}, {144, 256, false},
		{160, 8388608, false}, {176, 4, false},		{192, 2048, false},    {208, 256, false},
		{224, 2097152, false}, {240, 5, false},		{256, 1, false},       {272, 1024, false},
		{288, 128, false},     {304, 128, false},	{320, 32, false},      {336, 2048, false},
		{352, 256, false},     {368, 2097152, false},	{384, 8192, false},    {400, 256, false},
		{416, 8388608, false}, {464, 4096, false},
	};
	struct launch_plan l;
	struct err e;

	cr_assert_eq(plan(&p, &l, &e), 0, "%s", e.msg);
	expect_launch(&l, "hd128_bf16_causal_rtna", 2, 32, 2, 512);
	expect_arguments(&l.launch[0], slots, sizeof slots / sizeof *slots);
}

/* [B, H, S, D], 192x128, keys of another length, no LSE. */
Test(gpu_aiter, other_layout)
{
	struct attn_problem p = dense(3, 300, 70, 6, 2, 192, false);
	static const struct slot slots[] = {
		{0, 0x40000, true},
		{16, 0x10000, true},
		{32, 0x20000, true},
		{48, 0x30000, true},
		{80, 0x3f000000, false},
		{96, 300, false},
		{112, 384, false},
		{128, 128 * 384, false},
		{144, 300 * 384, false},
		{160, 6 * 300 * 384, false},
		{176, 3, false},
		{192, 384, false},
		{208, 70 * 384, false},
		{224, 2 * 70 * 384, false},
		{272, 70, false},
		{288, 192, false},
		{304, 128, false},
		{320, 6, false},
		{336, 256, false},
		{352, 70 * 256, false},
		{368, 2 * 70 * 256, false},
		{384, 256, false},
		{400, 300 * 256, false},
		{416, 6 * 300 * 256, false},
	};
	struct launch_plan l;
	struct err e;

	p.q_stride = (struct attn_strides){6 * 300 * 192, 192, 300 * 192};
	p.k_stride = (struct attn_strides){2 * 70 * 192, 192, 70 * 192};
	p.v_stride = (struct attn_strides){2 * 70 * 128, 128, 70 * 128};
	p.out_stride = (struct attn_strides){6 * 300 * 128, 128, 300 * 128};
	p.lse = NULL;
	p.scale = 0.5;
	p.bf16_cvt = 2;
	cr_assert_eq(plan(&p, &l, &e), 0, "%s", e.msg);
	expect_launch(&l, "hd192x128_bf16_rtz", 6, 3, 3, 256);
	expect_arguments(&l.launch[0], slots, sizeof slots / sizeof *slots);
}

/*
 * Variable length: the starts' addresses stand twice, batch strides are 0, LSE's heads are Tq apart, and slot 96 holds the
 * longest query, the one the grid is made from: the causal kernel for 192x128 counts its tiles down from there, and with
 * anything else writes nothing.
 */
Test(gpu_aiter, variable_length)
{
	struct attn_problem p = packed(5, 700, 300, 4, 1, 192, true);
	static const struct slot slots[] = {
		{0, 0x40000, true},	  {16, 0x10000, true},	   {32, 0x20000, true},	 {48, 0x30000, true},
		{64, 0x50000, true},	  {80, 0x3db504f3, false}, {96, 300, false},	 {112, 1536, false},
		{128, 128 * 1536, false}, {144, 384, false},	   {176, 4, false},	 {192, 384, false},
		{208, 384, false},	  {256, 1, false},	   {272, 77, false},	 {288, 192, false},
		{304, 128, false},	  {320, 4, false},	   {336, 256, false},	 {352, 256, false},
		{384, 1024, false},	  {400, 256, false},	   {432, 0x60000, true}, {448, 0x70000, true},
		{464, 2800, false},	  {480, 0x60000, true},	   {496, 0x70000, true},
	};
	struct launch_plan l;
	struct err e;

	cr_assert_eq(plan(&p, &l, &e), 0, "%s", e.msg);
	expect_launch(&l, "hd192x128_bf16_causal_rtna_group", 4, 5, 3, 256);
	expect_arguments(&l.launch[0], slots, sizeof slots / sizeof *slots);
}

/* Objects and grids over dims, masks, modes, rounding and lengths that end within, at and after a tile. */
Test(gpu_aiter, objects_and_grids)
{
	static const struct {
		const char *name;
		int d, cvt, sq;
		bool group, causal;
		uint32_t x, y, z;
	} cases[] = {
		/* 3 sequences, 10 query heads; tiles of 256 rows, the causal ones in pairs */
		{"hd128_bf16_rtne", 128, 0, 256, false, false, 1, 10, 3},
		{"hd128_bf16_rtna", 128, 1, 257, false, false, 2, 10, 3},
		{"hd128_bf16_rtz", 128, 2, 1, false, false, 1, 10, 3},
		{"hd128_bf16_causal_rtne", 128, 0, 512, false, true, 1, 10, 3},
		{"hd128_bf16_causal_rtna", 128, 1, 513, false, true, 2, 10, 3},
		{"hd128_bf16_causal_rtz", 128, 2, 1025, false, true, 3, 10, 3},
		{"hd128_bf16_rtne_group", 128, 0, 513, true, false, 10, 3, 3},
		{"hd128_bf16_rtna_group", 128, 1, 512, true, false, 10, 3, 2},
		{"hd128_bf16_rtz_group", 128, 2, 1, true, false, 10, 3, 1},
		{"hd128_bf16_causal_rtne_group", 128, 0, 513, true, true, 10, 3, 2},
		{"hd128_bf16_causal_rtna_group", 128, 1, 512, true, true, 10, 3, 1},
		{"hd128_bf16_causal_rtz_group", 128, 2, 2, true, true, 10, 3, 1},
		/* tiles of 128 rows, never in pairs */
		{"hd192x128_bf16_rtne", 192, 0, 129, false, false, 10, 2, 3},
		{"hd192x128_bf16_rtna", 192, 1, 128, false, false, 10, 1, 3},
		{"hd192x128_bf16_rtz", 192, 2, 300, false, false, 10, 3, 3},
		{"hd192x128_bf16_causal_rtne", 192, 0, 129, false, true, 10, 2, 3},
		{"hd192x128_bf16_causal_rtna", 192, 1, 128, false, true, 10, 1, 3},
		{"hd192x128_bf16_causal_rtz", 192, 2, 300, false, true, 10, 3, 3},
		{"hd192x128_bf16_rtne_group", 192, 0, 129, true, false, 10, 3, 2},
		{"hd192x128_bf16_rtna_group", 192, 1, 128, true, false, 10, 3, 1},
		{"hd192x128_bf16_rtz_group", 192, 2, 1000, true, false, 10, 3, 8},
		{"hd192x128_bf16_causal_rtne_group", 192, 0, 129, true, true, 10, 3, 2},
		{"hd192x128_bf16_causal_rtna_group", 192, 1, 128, true, true, 10, 3, 1},
		{"hd192x128_bf16_causal_rtz_group", 192, 2, 1000, true, true, 10, 3, 8},
		/* one query sees every key, whatever the mask is called: AITER takes the plain kernel */
		{"hd128_bf16_rtna", 128, 1, 1, false, true, 1, 10, 3},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct attn_problem p = cases[i].group
						? packed(3, 2000, cases[i].sq, 10, 5, cases[i].d, cases[i].causal)
						: dense(3, cases[i].sq, 40, 10, 5, cases[i].d, cases[i].causal);
		struct launch_plan l;
		struct err e;

		p.bf16_cvt = cases[i].cvt;
		cr_assert_eq(plan(&p, &l, &e), 0, "%s: %s", cases[i].name, e.msg);
		expect_launch(&l, cases[i].name, cases[i].x, cases[i].y, cases[i].z, cases[i].d == 192 ? 256 : 512);
	}
}

static uint32_t
option_of(const struct attn_problem *p)
{
	struct launch_plan l;
	struct err e;
	uint32_t v;

	cr_assert_eq(plan(p, &l, &e), 0, "%s", e.msg);
	memcpy(&v, l.launch[0].arg + 240, sizeof v);
	return v;
}

/* 4 and above swizzle over 8 heads: where 8 does not divide their number that reads and writes outside the tensors. */
Test(gpu_aiter, option_fits_the_heads)
{
	for (int heads = 1; heads <= 48; heads++) {
		struct attn_problem p = dense(1, 300, 300, heads, heads, 128, true);

		cr_expect_eq(option_of(&p), heads % 8 ? 3 : 5, "%d heads, causal", heads);
		p = dense(1, 300, 300, heads, 1, 128, false);
		cr_expect_eq(option_of(&p), 5, "%d heads", heads);
		p = packed(2, 400, 300, heads, heads, 128, true);
		cr_expect_eq(option_of(&p), heads % 8 ? 3 : 5, "%d heads, causal, variable length", heads);
		p = dense(1, 300, 300, heads, heads, 192, true);
		cr_expect_eq(option_of(&p), 0, "%d heads of 192", heads);
	}
	for (int sq = 16384; sq <= 16385; sq++) {
		struct attn_problem p = dense(1, sq, 300, 8, 8, 128, true);

		cr_expect_eq(option_of(&p), sq > 16384 ? 3 : 5, "%d queries", sq);
	}
}

static void
expect_refused(const char *what, const struct attn_problem *p, const char *words)
{
	struct launch_plan l;
	struct err e;

	cr_assert_eq(plan(p, &l, &e), -1, "%s was planned", what);
	cr_expect_eq(e.code, ERR_UNAVAILABLE_IMPL, "%s: %s", what, e.msg);
	cr_expect_str_eq(e.param, "impl");
	cr_expect(strstr(e.msg, words), "%s: '%s' does not say '%s'", what, e.msg, words);
}

#define REFUSED(what, words, ...)                                                                                      \
	do {                                                                                                           \
		struct attn_problem p = dense(1, 300, 300, 8, 8, 128, false);                                          \
		__VA_ARGS__;                                                                                           \
		expect_refused(what, &p, words);                                                                       \
	} while (0)

Test(gpu_aiter, what_it_does_not_take)
{
	struct attn_problem none = dense(0, 0, 0, 8, 8, 128, false);
	struct launch_plan l;
	struct err e;

	REFUSED("fp16", "bf16, not fp16", p.dtype = DT_FP16);
	REFUSED("fp32", "bf16, not fp32", p.dtype = DT_FP32);
	REFUSED("hd64", "128 and 192x128, not 64x64", p.dim = p.dim_v = 64);
	REFUSED("hd128x64", "not 128x64", p.dim_v = 64);
	REFUSED("hd192", "not 192x192", p.dim = p.dim_v = 192);
	REFUSED("hd127", "not 127x128", p.dim = 127);
	REFUSED("a window", "window", p.left = 5);
	REFUSED("a window to the right", "window", p.right = 5);
	REFUSED("a causal window", "window", p.left = 0; p.right = 0);
	REFUSED("scale 0", "softmax_scale", p.scale = 0);
	REFUSED("a negative scale", "softmax_scale", p.scale = -0.1);
	REFUSED("a denormal scale", "softmax_scale", p.scale = 1e-38);
	REFUSED("a huge scale", "softmax_scale", p.scale = 3e38);
	REFUSED("a rounding that is not there", "how_v3_bf16_cvt=3", p.bf16_cvt = 3);
	REFUSED("2^31 keys", "31 bits", p = packed(2, 400, 300, 8, 8, 128, true); p.seqlen_k = INT64_C(1) << 31);
	/* Nothing to do is no reason to refuse. */
	cr_assert_eq(plan(&none, &l, &e), 0, "%s", e.msg);
	cr_expect_eq(l.count, 0);
}

/* 4 GiB: the last size below is planned, the next one not. */
Test(gpu_aiter, limits)
{
	static const struct {
		const char *words;
		int64_t b, sq, sk, hq, hk;
		bool fits;
	} cases[] = {
		{"q", 1, (1 << 18) - 1, 8, 64, 1, true},
		{"q takes 4294967296", 1, 1 << 18, 8, 64, 1, false},
		{"", 4, (1 << 16) - 1, 8, 64, 64, true},
		{"q takes 4294967296", 4, 1 << 16, 8, 64, 64, false},
		{"", 1, 8, (1 << 18) - 1, 64, 64, true},
		{"k takes 4294967296", 1, 8, 1 << 18, 64, 64, false},
		/* a tile's stride, 256 rows, although q itself is small */
		{"", 1, 1, 8, 65535, 65535, true},
		{"tile of q takes 4294967296", 1, 1, 8, 65536, 1, false},
		/* the grid: 65535 in y and z */
		{"", 65535, 1, 1, 1, 1, true},
		{"grid of 1 x 1 x 65536", 65536, 1, 1, 1, 1, false},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct attn_problem p = dense(cases[i].b, cases[i].sq, cases[i].sk, cases[i].hq, cases[i].hk, 128,
					      false);
		struct launch_plan l;
		struct err e;

		if (cases[i].fits)
			cr_expect_eq(plan(&p, &l, &e), 0, "case %zu: %s", i, e.msg);
		else
			expect_refused("too large", &p, cases[i].words);
	}
	/* No rows, of so many heads that 256 rows would leave 64 bits. */
	struct attn_problem p = packed(1, 0, 1, INT64_C(1) << 54, 1, 128, false);
	expect_refused("too many heads", &p, "tile of q");
}

Test(gpu_aiter, files_that_are_not_there)
{
	struct attn_problem p = dense(1, 300, 300, 8, 8, 128, false);

	snprintf(table.rows[1].why, sizeof table.rows[1].why, "x.co differs");
	table.rows[1].image = NULL; /* hd128, batch, rtna */
	expect_refused("a damaged object", &p, "x.co differs");
	p.bf16_cvt = 0;
	cr_expect_eq(option_of(&p), 5); /* its neighbour is fine */
	table.n = 0;
	snprintf(table.problem, sizeof table.problem, "the table is gone");
	expect_refused("no table", &p, "the table is gone");
	mi300.aiter = NULL;
	expect_refused("no folder", &p, "--aiter-dir");
}
