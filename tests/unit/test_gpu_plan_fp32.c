/*
 * test_gpu_plan_fp32.c: the launch planners for Hopper of what is not 16-bit fused attention (fp32, unfused, RMSNorm), and of
 * RMSNorm's unfused baseline on both families. Expected launches are written out by hand from kernels/attn_fp32.h,
 * kernels/attn_naive.h and kernels/rmsnorm.h; no GPU is needed.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "../kernels/attn_fp32.h"
#include "../kernels/attn_naive.h"
#include "../kernels/rmsnorm.h"
#include "gpu_plan_fixture.h"
#include "ops/gpu_rmsnorm.h"

static const struct launch_device mi300 = {.compute_units = 304, .family = LAUNCH_CDNA};
static const struct launch_device h200 = {.compute_units = 132, .family = LAUNCH_SM90};

static void
expect(const struct launch *l, const char *object, const char *symbol, uint32_t x, uint32_t y, uint32_t z,
       uint32_t threads, uint32_t lds)
{
	cr_expect_str_eq(l->object, object);
	cr_expect_str_eq(l->symbol, symbol);
	cr_expect(l->grid[0] == x && l->grid[1] == y && l->grid[2] == z, "%s: grid %u %u %u, wanted %u %u %u", symbol,
		  l->grid[0], l->grid[1], l->grid[2], x, y, z);
	cr_expect(l->block[0] == threads && l->block[1] == 1 && l->block[2] == 1, "%s: block %u", symbol, l->block[0]);
	cr_expect_eq(l->lds, lds, "%s: %u bytes of shared memory, wanted %u", symbol, l->lds, lds);
}

static void
expect_args(const struct launch *l, const void *arg, size_t len)
{
	cr_assert_eq(l->arg_len, len, "%s: %u bytes of arguments, wanted %zu", l->symbol, l->arg_len, len);
	for (size_t i = 0; i < len; i++)
		cr_expect_eq(l->arg[i], ((const uint8_t *)arg)[i], "%s: byte %zu of the arguments is %02x, wanted %02x",
			     l->symbol, i, l->arg[i], ((const uint8_t *)arg)[i]);
}

/* 256 rows a workgroup; two tiles of 64 keys, rows of 64 + 16 and 64 + 4 floats, and 256 rows of q. */
Test(gpu_plan_fp32, one_launch_when_the_chip_is_full)
{
	struct attn_problem p = dense(DT_FP32, 4, 1024, 1024, 16, 8, 64, 64);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	cr_assert_eq(gpu_attn_plan(&p, 4 * 1024, &h200, NULL, &plan, &e), 0);
	memset(&a, 0, sizeof a);
	a.q = AT(0x10000);
	a.k = AT(0x20000);
	a.v = AT(0x30000);
	a.out = AT(0x40000);
	a.lse = AT(0x50000);
	a.q_stride = a.out_stride = (struct attn_args_strides){1024 * 16 * 64, 16 * 64, 64};
	a.k_stride = a.v_stride = (struct attn_args_strides){1024 * 8 * 64, 8 * 64, 64};
	a.lse_batch = 16 * 1024;
	a.lse_head = 1024;
	a.rows = 4 * 16 * 1024;
	a.heads_q = 16;
	a.heads_k = 8;
	a.pack = a.splits = 1;
	a.groups = 2;
	a.dim = a.dim_v = 64;
	a.seqlen_q = a.seqlen_k = 1024;
	a.left = a.right = -1;
	a.scale = (float)(0.125 * 1.4426950408889634);
	a.batch = 4;
	a.tiles = 4;
	cr_assert_eq(plan.count, 1);
	cr_expect_eq(plan.workspace, 0);
	expect(&plan.launch[0], "attn_fp32.cubin", "attn_fwd_fp32_d64x64_w8", 4 * 8, 2, 4, 256,
	       2 * 64 * (80 + 68) * 4 + 256 * 80 * 4);
	expect_args(&plan.launch[0], &a, sizeof a);
}

/* 8 heads' tokens are rows of one tile of 64; 4 such workgroups, so 132 / 4 splits, but 4 tiles of 64 keys each at least. */
Test(gpu_plan_fp32, one_token_is_packed_and_split)
{
	struct attn_problem p = dense(DT_FP32, 2, 1, 4096, 16, 2, 64, 64);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	cr_assert_eq(gpu_attn_plan(&p, 2 * 4096, &h200, AT(0x60000), &plan, &e), 0);
	cr_assert_eq(plan.count, 2);
	cr_expect_eq(plan.workspace, 16 * 32 * (64 + 2) * 4);
	memcpy(&a, plan.launch[0].arg, sizeof a);
	cr_expect(a.pack == 8 && a.splits == 16 && a.groups == 1 && a.tiles == 1 && a.partial == AT(0x60000));
	expect(&plan.launch[0], "attn_fp32.cubin", "attn_fwd_fp32_d64x64_w4", 4, 16, 1, 128, 2 * 64 * (80 + 68) * 4);
	expect(&plan.launch[1], "attn_fp32.cubin", "attn_combine_fp32", 8, 1, 1, 128, 0);
	expect_args(&plan.launch[1], &a, sizeof a);
}

/* Enough workgroups for all multiprocessors, but of one row each. */
Test(gpu_plan_fp32, one_token_of_many_sequences)
{
	struct attn_problem p = dense(DT_FP32, 16, 1, 8192, 16, 16, 64, 64);
	struct launch_plan plan;
	struct err e;

	cr_assert_eq(gpu_attn_plan(&p, 16 * 8192, &h200, AT(0x60000), &plan, &e), 0);
	cr_assert_eq(plan.count, 1);
	expect(&plan.launch[0], "attn_fp32.cubin", "attn_fwd_fp32_d64x64_w4", 256, 1, 1, 128, 2 * 64 * (80 + 68) * 4);
}

Test(gpu_plan_fp32, instance_by_head_dims)
{
	static const struct {
		int d, dv;
		const char *symbol;
		uint32_t threads, lds;
	} cases[] = {
		{8, 8, "attn_fwd_fp32_d32x32_w8", 256, 2 * 64 * (48 + 36) * 4 + 256 * 48 * 4},
		{40, 64, "attn_fwd_fp32_d64x64_w8", 256, 2 * 64 * (80 + 68) * 4 + 256 * 80 * 4},
		{64, 72, "attn_fwd_fp32_d96x96_w8", 256, 2 * 32 * (112 + 100) * 4 + 256 * 112 * 4},
		{128, 128, "attn_fwd_fp32_d128x128_w8", 256, 2 * 32 * (144 + 132) * 4 + 256 * 144 * 4},
		{160, 4, "attn_fwd_fp32_d160x160_w8", 256, 2 * 32 * (176 + 164) * 4 + 128 * 176 * 4},
		{192, 128, "attn_fwd_fp32_d192x192_w8", 256, 2 * 32 * (208 + 196) * 4 + 128 * 208 * 4},
		{256, 256, "attn_fwd_fp32_d256x256_w8", 256, 2 * 16 * (272 + 260) * 4 + 128 * 272 * 4},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct attn_problem p = dense(DT_FP32, 1, 1024, 1024, 132, 132, cases[i].d, cases[i].dv);
		struct launch_plan plan;
		struct err e;

		cr_assert_eq(gpu_attn_plan(&p, 1024, &h200, NULL, &plan, &e), 0, "%s", e.msg);
		cr_assert_eq(plan.count, 1);
		cr_expect_str_eq(plan.launch[0].symbol, cases[i].symbol);
		cr_expect_eq(plan.launch[0].block[0], cases[i].threads);
		cr_expect_eq(plan.launch[0].lds, cases[i].lds, "%s: %u bytes of shared memory", cases[i].symbol,
			     plan.launch[0].lds);
		cr_expect(plan.launch[0].lds <= 227 * 1024, "%s: more than a multiprocessor has", cases[i].symbol);
	}
}

Test(gpu_plan_fp32, odd_dims_are_padded_by_the_same_object)
{
	struct attn_problem p = dense(DT_FP32, 1, 40, 70, 3, 1, 9, 11);
	struct launch_plan plan;
	struct err e;

	cr_assert_eq(gpu_attn_plan(&p, 70, &h200, AT(0x60000), &plan, &e), 0);
	cr_assert_eq(plan.count, 5);
	for (int i = 0; i < 5; i++)
		cr_expect_str_eq(plan.launch[i].object, "attn_fp32.cubin");
	cr_expect_str_eq(plan.launch[0].symbol, "attn_pad_fp32");
	cr_expect_str_eq(plan.launch[3].symbol, "attn_fwd_fp32_d32x32_w4");
	cr_expect_str_eq(plan.launch[4].symbol, "attn_pad_fp32");
}

Test(gpu_plan_fp32, unfused_on_hopper)
{
	static const struct {
		enum dtype dt;
		const char *symbol;
	} cases[] = {{DT_FP16, "attn_scores_fp16"}, {DT_BF16, "attn_scores_bf16"}, {DT_FP32, "attn_scores_fp32"}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct attn_problem p = dense(DT_FP32, 2, 200, 300, 4, 2, 64, 256);
		struct launch_plan plan;
		struct err e;

		p.dtype = cases[i].dt;
		cr_assert_eq(gpu_attn_naive_plan(&p, 600, &h200, AT(0x60000), &plan, &e), 0);
		cr_assert_eq(plan.count, 3);
		expect(&plan.launch[0], "attn_naive.cubin", cases[i].symbol, 8, 2, 3, 256, 0);
	}
}

Test(gpu_plan_fp32, rmsnorm_on_hopper)
{
	static const struct {
		enum dtype dt;
		uintptr_t x;
		int64_t rows, n;
		const char *symbol;
		uint32_t grid, block;
	} cases[] = {
		{DT_FP16, 0x10000, 10, 8, "rmsnorm_fp16_32x1", 2, 256},
		{DT_FP16, 0x10000, 10, 1024, "rmsnorm_fp16_32x4", 2, 256},
		{DT_BF16, 0x10000, 10, 2048, "rmsnorm_bf16_128x2", 10, 128},
		{DT_FP16, 0x10000, 1000000, 4096, "rmsnorm_fp16_128x4", 1000000, 128},
		{DT_FP32, 0x10000, 10, 4096, "rmsnorm_fp32_256x4", 10, 256},
		{DT_FP32, 0x10000, 10, 32768, "rmsnorm_fp32_1024x8", 10, 1024},
		{DT_FP32, 0x10000, 10, 32772, "rmsnorm_fp32_long", 10, 1024},
		/* Rows that do not all begin at multiples of 16 bytes. */
		{DT_FP16, 0x10000, 10, 1, "rmsnorm_fp16_32x1_any", 2, 256},
		{DT_FP16, 0x10000, 10, 4095, "rmsnorm_fp16_256x2_any", 10, 256},
		{DT_FP16, 0x10002, 10, 4096, "rmsnorm_fp16_256x2_any", 10, 256},
		{DT_FP32, 0x10000, 10, 8191, "rmsnorm_fp32_1024x2_any", 10, 1024},
		{DT_FP32, 0x10000, 10, 8193, "rmsnorm_fp32_long", 10, 1024},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct rmsnorm_problem p = {.dtype = cases[i].dt,
					    .rows = cases[i].rows,
					    .n = cases[i].n,
					    .x = AT(cases[i].x),
					    .weight = AT(0x20000),
					    .out = AT(0x30000),
					    .eps = 1e-6};
		struct rmsnorm_args a = {.x = AT(cases[i].x),
					 .weight = AT(0x20000),
					 .out = AT(0x30000),
					 .rows = cases[i].rows,
					 .n = cases[i].n,
					 .eps = 1e-6,
					 .groups = (int32_t)cases[i].grid};
		struct launch_plan plan;
		struct err e;

		cr_assert_eq(gpu_rmsnorm_plan(&p, &h200, &plan, &e), 0);
		cr_assert_eq(plan.count, 1);
		expect(&plan.launch[0], "rmsnorm.cubin", cases[i].symbol, cases[i].grid, 1, 1, cases[i].block, 0);
		expect_args(&plan.launch[0], &a, sizeof a);
	}
}

/* A kernel that makes one row a workgroup cannot have more rows than a grid has workgroups. */
Test(gpu_plan_fp32, rmsnorm_of_more_rows_than_a_grid)
{
	struct rmsnorm_problem p = {.dtype = DT_FP16, .rows = INT64_C(1) << 32, .n = 4096, .eps = 1e-6};
	struct launch_plan plan;
	struct err e;

	cr_assert_eq(gpu_rmsnorm_plan(&p, &h200, &plan, &e), 0);
	cr_expect_str_eq(plan.launch[0].symbol, "rmsnorm_fp16_long");
	cr_expect_eq(plan.launch[0].grid[0], (uint32_t)INT32_MAX);
}

Test(gpu_plan_fp32, unfused_rmsnorm)
{
	static const struct {
		const struct launch_device *device;
		const char *object;
		int64_t n;
		uint32_t grid;
		int together;
	} cases[] = {
		{&mi300, "rmsnorm.co", 4096, 20, 1},
		{&h200, "rmsnorm.cubin", 4096, 20, 1},
		{&h200, "rmsnorm.cubin", 4095, 160, 0}, /* 40950 elements, one by one */
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		size_t squares = cases[i].n == 4096 ? 10 * 4096 * 4 : 163840; /* 163800, in pieces of 256 */
		struct rmsnorm_problem p = {.dtype = DT_BF16,
					    .rows = 10,
					    .n = cases[i].n,
					    .x = AT(0x10000),
					    .weight = AT(0x20000),
					    .out = AT(0x30000),
					    .eps = 1e-6};
		struct rmsnorm_naive_args a = {.x = AT(0x10000),
					       .weight = AT(0x20000),
					       .out = AT(0x30000),
					       .squares = AT(0x60000),
					       .factors = AT(0x60000 + squares),
					       .rows = 10,
					       .n = cases[i].n,
					       .eps = 1e-6,
					       .together = cases[i].together};
		struct launch_plan plan;
		struct err e;

		cr_assert_eq(gpu_rmsnorm_naive_plan(&p, cases[i].device, AT(0x60000), &plan, &e), 0);
		cr_assert_eq(plan.count, 3);
		cr_expect_eq(plan.workspace, squares + 256);
		a.groups = (int32_t)cases[i].grid;
		expect(&plan.launch[0], cases[i].object, "rmsnorm_squares_bf16", cases[i].grid, 1, 1, 256, 0);
		expect_args(&plan.launch[0], &a, sizeof a);
		a.groups = 10;
		expect(&plan.launch[1], cases[i].object, "rmsnorm_mean", 10, 1, 1, 256, 0);
		expect_args(&plan.launch[1], &a, sizeof a);
		a.groups = (int32_t)cases[i].grid;
		expect(&plan.launch[2], cases[i].object, "rmsnorm_scale_bf16", cases[i].grid, 1, 1, 256, 0);
		expect_args(&plan.launch[2], &a, sizeof a);
	}
}
