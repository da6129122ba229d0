/*
 * test_gpu_plan.c: the launch planners of our GPU kernels, byte for byte. Expected arguments are written out here by hand from
 * kernels/attn.h and kernels/rmsnorm.h; no GPU is needed.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../kernels/attn_naive.h"
#include "../kernels/rmsnorm.h"
#include "gpu_plan_fixture.h"
#include "ops/gpu_rmsnorm.h"

static const struct launch_device mi300 = {.compute_units = 304};

static void
expect(const struct launch *l, const char *object, const char *symbol, uint32_t x, uint32_t y, uint32_t z,
       uint32_t threads, const void *arg, size_t len)
{
	cr_expect_str_eq(l->object, object);
	cr_expect_str_eq(l->symbol, symbol);
	cr_expect(l->grid[0] == x && l->grid[1] == y && l->grid[2] == z, "%s: grid %u %u %u, wanted %u %u %u", symbol,
		  l->grid[0], l->grid[1], l->grid[2], x, y, z);
	cr_expect(l->block[0] == threads && l->block[1] == 1 && l->block[2] == 1, "%s: block %u", symbol, l->block[0]);
	cr_expect_eq(l->lds, 0);
	cr_assert_eq(l->arg_len, len, "%s: %u bytes of arguments, wanted %zu", symbol, l->arg_len, len);
	for (size_t i = 0; i < len; i++)
		cr_expect_eq(l->arg[i], ((const uint8_t *)arg)[i], "%s: byte %zu of the arguments is %02x, wanted %02x",
			     symbol, i, l->arg[i], ((const uint8_t *)arg)[i]);
}

Test(gpu_plan, one_launch_when_the_chip_is_full)
{
	struct attn_problem p = dense(DT_BF16, 1, 8192, 8192, 32, 8, 128, 128);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	p.causal = true;
	p.right = 0;
	cr_assert_eq(gpu_attn_plan(&p, 8192, &mi300, NULL, &plan, &e), 0);
	memset(&a, 0, sizeof a);
	a.q = AT(0x10000);
	a.k = AT(0x20000);
	a.v = AT(0x30000);
	a.out = AT(0x40000);
	a.lse = AT(0x50000);
	a.q_stride = a.out_stride = (struct attn_args_strides){8192 * 32 * 128, 32 * 128, 128};
	a.k_stride = a.v_stride = (struct attn_args_strides){8192 * 8 * 128, 8 * 128, 128};
	a.lse_batch = 32 * 8192;
	a.lse_head = 8192;
	a.rows = 32 * 8192;
	a.heads_q = 32;
	a.heads_k = 8;
	a.pack = 1;
	a.splits = 1;
	a.groups = 4;
	a.dim = a.dim_v = 128;
	a.seqlen_q = a.seqlen_k = 8192;
	a.left = -1;
	a.right = 0;
	a.scale = (float)(0.125 * 1.4426950408889634);
	a.batch = 1;
	a.tiles = 32;
	cr_assert_eq(plan.count, 1);
	cr_expect_eq(plan.workspace, 0);
	expect(&plan.launch[0], "attn_bf16.co", "attn_fwd_bf16_d128x128_w8", 8, 4, 32, 512, &a, sizeof a);
}

Test(gpu_plan, one_token_is_packed_and_split)
{
	struct attn_problem p = dense(DT_FP16, 2, 1, 4096, 16, 2, 64, 64);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	p.scale = -0.5;
	p.lse = NULL;
	cr_assert_eq(gpu_attn_plan(&p, 2 * 4096, &mi300, NULL, &plan, &e), 0);
	/* 2 sequences x 2 key/value heads x 1 tile of 8 packed rows; 32 tiles of 128 keys, at least 2 a split. */
	cr_assert_eq(plan.count, 2);
	cr_expect_eq(plan.workspace, 16 * 32 * (64 + 2) * 4);
	cr_assert_eq(gpu_attn_plan(&p, 2 * 4096, &mi300, AT(0x60000), &plan, &e), 0);
	memset(&a, 0, sizeof a);
	a.q = AT(0x10000);
	a.k = AT(0x20000);
	a.v = AT(0x30000);
	a.out = AT(0x40000);
	a.partial = AT(0x60000);
	a.q_stride = a.out_stride = (struct attn_args_strides){16 * 64, 16 * 64, 64};
	a.k_stride = a.v_stride = (struct attn_args_strides){4096 * 2 * 64, 2 * 64, 64};
	a.lse_batch = 16;
	a.lse_head = 1;
	a.rows = 32;
	a.heads_q = 16;
	a.heads_k = 2;
	a.pack = 8;
	a.splits = 16;
	a.groups = 1;
	a.dim = a.dim_v = 64;
	a.seqlen_q = 1;
	a.seqlen_k = 4096;
	a.left = a.right = -1;
	a.flags = ATTN_NEGATE;
	a.scale = (float)(0.5 * 1.4426950408889634);
	a.batch = 2;
	a.tiles = 1;
	expect(&plan.launch[0], "attn_fp16.co", "attn_fwd_fp16_d64x64_w4", 4, 16, 1, 256, &a, sizeof a);
	expect(&plan.launch[1], "attn_fp16.co", "attn_combine_fp16", 8, 1, 1, 256, &a, sizeof a);
}

/* Rows of 18 and 22 bytes are copied to rows of 32 and 48; pieces of the workspace begin at multiples of 256. */
Test(gpu_plan, odd_dims_go_through_the_workspace)
{
	struct attn_problem p = dense(DT_BF16, 1, 40, 70, 3, 1, 9, 11);
	struct attn_pad_args pads[4] = {{AT(0x10000), AT(0x60000 + 3840), 120, 9, 16},
					{AT(0x20000), AT(0x60000 + 7680), 70, 9, 16},
					{AT(0x30000), AT(0x60000 + 9984), 70, 11, 16},
					{AT(0x60000), AT(0x40000), 120, 16, 11}};
	const uint32_t grids[4] = {8, 5, 5, 6};
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	cr_assert_eq(gpu_attn_plan(&p, 70, &mi300, AT(0x60000), &plan, &e), 0);
	cr_assert_eq(plan.count, 5);
	cr_expect_eq(plan.workspace, 9984 + 2304);
	for (int i = 0; i < 4; i++)
		expect(&plan.launch[i < 3 ? i : 4], "attn_bf16.co", "attn_pad_bf16", grids[i], 1, 1, 256, &pads[i],
		       sizeof pads[i]);
	cr_expect_str_eq(plan.launch[3].symbol, "attn_fwd_bf16_d32x32_w8");
	memcpy(&a, plan.launch[3].arg, sizeof a);
	cr_expect(a.q == pads[0].to && a.k == pads[1].to && a.v == pads[2].to && a.out == AT(0x60000));
	cr_expect(a.dim == 16 && a.dim_v == 16);
	cr_expect(a.q_stride.batch == 40 * 3 * 16 && a.q_stride.seq == 3 * 16 && a.q_stride.head == 16);
	cr_expect(a.out_stride.batch == 40 * 3 * 16 && a.out_stride.seq == 3 * 16 && a.out_stride.head == 16);
}

Test(gpu_plan, instance_by_head_dims)
{
	static const struct {
		enum dtype dt;
		int d, dv;
		const char *symbol;
	} cases[] = {
		{DT_BF16, 8, 8, "attn_fwd_bf16_d32x32_w8"},	  {DT_FP16, 40, 64, "attn_fwd_fp16_d64x64_w8"},
		{DT_FP16, 64, 72, "attn_fwd_fp16_d96x96_w8"},	  {DT_BF16, 192, 128, "attn_fwd_bf16_d192x128_w8"},
		{DT_BF16, 192, 136, "attn_fwd_bf16_d192x192_w4"}, {DT_BF16, 128, 256, "attn_fwd_bf16_d256x256_w4"},
		{DT_FP32, 192, 128, "attn_fwd_fp32_d192x192_w4"}, {DT_FP32, 256, 256, "attn_fwd_fp32_d256x256_w4"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct attn_problem p = dense(cases[i].dt, 1, 1024, 1024, 304, 304, cases[i].d, cases[i].dv);
		struct launch_plan plan;
		struct err e;

		cr_assert_eq(gpu_attn_plan(&p, 1024, &mi300, NULL, &plan, &e), 0, "%s", e.msg);
		cr_expect_eq(plan.count, 1);
		cr_expect_str_eq(plan.launch[0].symbol, cases[i].symbol);
	}
}

Test(gpu_plan, scales)
{
	static const double scales[] = {0, 1e-60, 3e38, -3e38, 2};
	struct attn_problem p = dense(DT_FP32, 1, 64, 64, 1, 1, 64, 64);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
		p.scale = scales[i];
		cr_assert_eq(gpu_attn_plan(&p, 64, &mi300, NULL, &plan, &e), 0);
		memcpy(&a, plan.launch[0].arg, sizeof a);
		cr_expect(isnormal(a.scale) && a.scale > 0, "scale %g became %g", scales[i], (double)a.scale);
		cr_expect_eq(a.flags, scales[i] < 0 ? ATTN_NEGATE : 0u);
	}
}

Test(gpu_plan, nothing_to_do_and_too_much)
{
	struct attn_problem p = dense(DT_FP16, 1, 16, 16, 1, 1, 64, 64);
	struct launch_plan plan;
	struct err e;

	p.batch = 0;
	cr_assert_eq(gpu_attn_plan(&p, 0, &mi300, NULL, &plan, &e), 0);
	cr_expect_eq(plan.count, 0);
	p = dense(DT_FP32, 1, 16, 16, 16384, 16384, 256, 256);
	cr_expect_eq(gpu_attn_plan(&p, 16, &mi300, NULL, &plan, &e), -1);
	cr_expect_eq(e.code, ERR_TOO_LARGE);
	p = dense(DT_FP16, 1, INT64_C(1) << 31, 16, 1, 1, 64, 64);
	cr_expect_eq(gpu_attn_plan(&p, 16, &mi300, NULL, &plan, &e), -1);
	cr_expect_eq(e.code, ERR_TOO_LARGE);
	p = dense(DT_FP16, 1, 16, 16, 1, 1, 64, 64);
	p.dtype = DT_INT8;
	cr_expect_eq(gpu_attn_plan(&p, 16, &mi300, NULL, &plan, &e), -1);
	cr_expect_eq(e.code, ERR_UNAVAILABLE_IMPL);
}

Test(gpu_plan, unfused)
{
	struct attn_problem p = dense(DT_FP16, 2, 200, 300, 4, 2, 64, 256);
	struct attn_naive_args n;
	struct launch_plan plan;
	struct err e;

	cr_assert_eq(gpu_attn_naive_plan(&p, 600, &mi300, AT(0x60000), &plan, &e), 0);
	cr_assert_eq(plan.count, 3);
	cr_expect_eq(plan.workspace, 8 * 200 * 320 * (4 + 2));
	memcpy(&n, plan.launch[0].arg, sizeof n);
	cr_expect(n.scores == AT(0x60000) && n.probabilities == AT(0x60000 + 8 * 200 * 320 * 4) && n.width == 320);
	cr_expect(n.scale == 0.125f);
	expect(&plan.launch[0], "attn_naive.co", "attn_scores_fp16", 8, 2, 3, 256, &n, sizeof n);
	expect(&plan.launch[1], "attn_naive.co", "attn_softmax_fp16", 200, 4, 2, 256, &n, sizeof n);
	expect(&plan.launch[2], "attn_naive.co", "attn_product_fp16", 8, 2, 2, 256, &n, sizeof n);
}

Test(gpu_plan, rmsnorm)
{
	static const struct {
		enum dtype dt;
		int64_t rows, n;
		const char *symbol;
		uint32_t grid, block;
	} cases[] = {
		{DT_FP16, 10, 7, "rmsnorm_fp16_long", 10, 1024},
		{DT_FP16, 10, 8, "rmsnorm_fp16_64x1", 3, 256},
		{DT_FP16, 10, 513, "rmsnorm_fp16_64x2", 3, 256},
		{DT_BF16, 10, 2048, "rmsnorm_bf16_64x4", 3, 256},
		{DT_BF16, 10, 2049, "rmsnorm_bf16_256x2", 10, 256},
		{DT_FP32, 10, 4096, "rmsnorm_fp32_256x4", 10, 256},
		{DT_FP32, 10, 32768, "rmsnorm_fp32_1024x8", 10, 1024},
		{DT_FP32, 10, 32769, "rmsnorm_fp32_long", 10, 1024},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct rmsnorm_problem p = {.dtype = cases[i].dt,
					    .rows = cases[i].rows,
					    .n = cases[i].n,
					    .x = AT(0x10000),
					    .weight = AT(0x20000),
					    .out = AT(0x30000),
					    .eps = 1e-6};
		struct launch_plan plan;
		struct rmsnorm_args a;
		struct err e;

		memset(&a, 0, sizeof a);
		a.x = AT(0x10000);
		a.weight = AT(0x20000);
		a.out = AT(0x30000);
		a.rows = cases[i].rows;
		a.n = cases[i].n;
		a.eps = 1e-6;
		a.groups = (int32_t)cases[i].grid;
		cr_assert_eq(gpu_rmsnorm_plan(&p, &mi300, &plan, &e), 0);
		cr_assert_eq(plan.count, 1);
		expect(&plan.launch[0], "rmsnorm.co", cases[i].symbol, cases[i].grid, 1, 1, cases[i].block, &a,
		       sizeof a);
	}
}
