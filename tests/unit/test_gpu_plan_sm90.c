/*
 * test_gpu_plan_sm90.c: the launch planner of 16-bit fused attention for Hopper, byte for byte: arguments and the
 * tensors described to the copy engine. Expected launches are written out by hand from kernels/attn.h and launch.h;
 * no GPU is needed.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "../kernels/attn.h"
#include "gpu_plan_fixture.h"

static const struct launch_device h200 = {.compute_units = 132, .family = LAUNCH_SM90};

/* What all of them have in common. */
static struct attn_args
args(const struct attn_problem *p)
{
	struct attn_args a;

	memset(&a, 0, sizeof a);
	a.q = p->q;
	a.k = p->k;
	a.v = p->v;
	a.out = p->out;
	a.lse = p->lse;
	a.cu_q = p->cu_q;
	a.cu_k = p->cu_k;
	a.q_stride = (struct attn_args_strides){p->q_stride.batch, p->q_stride.seq, p->q_stride.head};
	a.k_stride = (struct attn_args_strides){p->k_stride.batch, p->k_stride.seq, p->k_stride.head};
	a.v_stride = (struct attn_args_strides){p->v_stride.batch, p->v_stride.seq, p->v_stride.head};
	a.out_stride = (struct attn_args_strides){p->out_stride.batch, p->out_stride.seq, p->out_stride.head};
	a.batch = (int32_t)p->batch;
	a.heads_q = (int32_t)p->heads_q;
	a.heads_k = (int32_t)p->heads_k;
	a.dim = (int32_t)p->dim;
	a.dim_v = (int32_t)p->dim_v;
	a.seqlen_q = (int32_t)p->seqlen_q;
	a.seqlen_k = (int32_t)p->seqlen_k;
	a.left = (int32_t)p->left;
	a.right = (int32_t)p->right;
	a.scale = (float)(p->scale * 1.4426950408889634);
	a.pack = a.splits = 1;
	a.groups = a.heads_q / a.heads_k;
	return a;
}

static void
expect(const struct launch *l, const char *object, const char *symbol, uint32_t groups, uint32_t threads, uint32_t lds,
       const struct attn_args *a)
{
	uint8_t want[640] = {0}; /* arguments, then three maps of 128 bytes from 256 on, which are not made yet */

	memcpy(want, a, sizeof *a);
	cr_expect_str_eq(l->object, object);
	cr_expect_str_eq(l->symbol, symbol);
	cr_expect(l->grid[0] == groups && l->grid[1] == 1 && l->grid[2] == 1, "%s: grid %u %u %u, wanted %u 1 1",
		  symbol, l->grid[0], l->grid[1], l->grid[2], groups);
	cr_expect(l->block[0] == threads && l->block[1] == 1 && l->block[2] == 1, "%s: block %u", symbol, l->block[0]);
	cr_expect_eq(l->lds, lds, "%s: %u bytes of shared memory, wanted %u", symbol, l->lds, lds);
	cr_assert_eq(l->arg_len, sizeof want);
	for (size_t i = 0; i < sizeof want; i++)
		cr_expect_eq(l->arg[i], want[i], "%s: byte %zu of the arguments is %02x, wanted %02x", symbol, i,
			     l->arg[i], want[i]);
}

static void
expect_map(const struct launch *l, uint32_t which, const struct launch_map *want)
{
	const struct launch_map *m = &l->map[which];

	cr_assert_lt(which, l->map_count);
	cr_expect_eq(m->data, want->data);
	cr_expect_eq(m->at, want->at, "map %u: at %u, wanted %u", which, m->at, want->at);
	for (int i = 0; i < 4; i++) {
		cr_expect_eq(m->box[i], want->box[i], "map %u: box %d is %u, wanted %u", which, i, m->box[i],
			     want->box[i]);
		cr_expect_eq(m->dim[i], want->dim[i], "map %u: dim %d is %llu, wanted %llu", which, i,
			     (unsigned long long)m->dim[i], (unsigned long long)want->dim[i]);
	}
	for (int i = 0; i < 3; i++)
		cr_expect_eq(m->stride[i], want->stride[i], "map %u: stride %d is %llu, wanted %llu", which, i,
			     (unsigned long long)m->stride[i], (unsigned long long)want->stride[i]);
}

/*
 * 64 tiles of 128 rows for each of 32 heads: all heads' longest tiles first. Two tiles of q, k and v: 128 rows of 256
 * bytes each.
 */
Test(gpu_plan_sm90, causal_with_fewer_key_heads)
{
	struct attn_problem p = dense(DT_BF16, 1, 8192, 8192, 32, 8, 128, 128);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	p.causal = true;
	p.right = 0;
	cr_assert_eq(gpu_attn_plan(&p, 8192, &h200, NULL, &plan, &e), 0);
	a = args(&p);
	a.lse_batch = 32 * 8192;
	a.lse_head = 8192;
	a.rows = 32 * 8192;
	a.tiles = 64;
	a.chunk = 32;
	cr_assert_eq(plan.count, 1);
	cr_expect_eq(plan.workspace, 0);
	expect(&plan.launch[0], "attn_bf16.cubin", "attn_fwd_bf16_d128x128_g2", 132, 384, 6 * 128 * 256 + 768, &a);
	cr_assert_eq(plan.launch[0].map_count, 3);
	expect_map(&plan.launch[0], 0,
		   &(struct launch_map){.data = AT(0x10000),
					.at = 256,
					.box = {64, 128, 1, 1},
					.dim = {128, 8192, 32, 1},
					.stride = {32 * 128 * 2, 128 * 2, 32 * 128 * 2}});
	expect_map(&plan.launch[0], 1,
		   &(struct launch_map){.data = AT(0x20000),
					.at = 384,
					.box = {64, 128, 1, 1},
					.dim = {128, 8192, 8, 1},
					.stride = {8 * 128 * 2, 128 * 2, 8 * 128 * 2}});
	expect_map(&plan.launch[0], 2,
		   &(struct launch_map){.data = AT(0x30000),
					.at = 512,
					.box = {64, 128, 1, 1},
					.dim = {128, 8192, 8, 1},
					.stride = {8 * 128 * 2, 128 * 2, 8 * 128 * 2}});
}

/* As many rows to a workgroup as gets all of them done first: 192, 128 or 64 of 64 columns. */
Test(gpu_plan_sm90, rows_of_a_workgroup)
{
	static const struct {
		int batch, seq, heads;
		const char *symbol;
		uint32_t groups, threads, lds;
		int rows;
	} cases[] = {
		/* 6 tiles for each of 64 heads: 3 rounds of 192 rows rather than 4 of 128 */
		{4, 1024, 16, "attn_fwd_fp16_d64x64_g3", 132, 512, 2 * 192 * 128 + 8 * 128 * 128 + 768, 192},
		/* 4 tiles for each of 32 heads: one round of 128 rows */
		{4, 512, 8, "attn_fwd_fp16_d64x64_g2", 128, 384, 2 * 128 * 128 + 8 * 128 * 128 + 768, 128},
		/* 8 tiles for each of 8 heads */
		{1, 512, 8, "attn_fwd_fp16_d64x64_g1", 64, 256, 2 * 64 * 128 + 8 * 128 * 128 + 768, 64},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t b = cases[i].batch, s = cases[i].seq, h = cases[i].heads;
		struct attn_problem p = dense(DT_FP16, b, s, s, h, h, 64, 64);
		struct launch_plan plan;
		struct attn_args a;
		struct err e;

		cr_assert_eq(gpu_attn_plan(&p, b * s, &h200, NULL, &plan, &e), 0);
		a = args(&p);
		a.lse_batch = h * s;
		a.lse_head = s;
		a.rows = b * h * s;
		a.tiles = (int32_t)((s + cases[i].rows - 1) / cases[i].rows);
		a.chunk = 1;
		cr_assert_eq(plan.count, 1);
		expect(&plan.launch[0], "attn_fp16.cubin", cases[i].symbol, cases[i].groups, cases[i].threads,
		       cases[i].lds, &a);
		cr_assert_eq(plan.launch[0].map_count, 3);
		expect_map(&plan.launch[0], 0,
			   &(struct launch_map){
				   .data = AT(0x10000),
				   .at = 256,
				   .box = {64, (uint32_t)cases[i].rows, 1, 1},
				   .dim = {64, (uint64_t)s, (uint64_t)h, (uint64_t)b},
				   .stride = {(uint64_t)(h * 128), 128, (uint64_t)(b > 1 ? s * h * 128 : h * 128)}});
	}
}

/*
 * 8 heads of one token as rows of a tile of 64, whose q is copied without the copy engine; 32 tiles of keys, at least
 * 4 a split.
 */
Test(gpu_plan_sm90, one_token_is_packed_and_split)
{
	struct attn_problem p = dense(DT_FP16, 2, 1, 4096, 16, 2, 64, 64);
	struct launch_plan plan;
	struct attn_args a;
	struct err e;

	p.scale = -0.5;
	p.lse = NULL;
	cr_assert_eq(gpu_attn_plan(&p, 2 * 4096, &h200, NULL, &plan, &e), 0);
	cr_assert_eq(plan.count, 2);
	cr_expect_eq(plan.workspace, (8 * 32 * (64 + 2) * 4 + 255) / 256 * 256);
	cr_assert_eq(gpu_attn_plan(&p, 2 * 4096, &h200, AT(0x60000), &plan, &e), 0);
	a = args(&p);
	a.partial = AT(0x60000);
	a.scale = (float)(0.5 * 1.4426950408889634);
	a.flags = ATTN_NEGATE;
	a.lse_batch = 16;
	a.lse_head = 1;
	a.rows = 32;
	a.pack = 8;
	a.groups = 1;
	a.splits = 8;
	a.tiles = 1;
	a.chunk = 1;
	expect(&plan.launch[0], "attn_fp16.cubin", "attn_fwd_fp16_d64x64_g1", 32, 256,
	       2 * 64 * 128 + 8 * 128 * 128 + 768, &a);
	cr_assert_eq(plan.launch[0].map_count, 2);
	expect_map(&plan.launch[0], 0,
		   &(struct launch_map){.data = AT(0x20000),
					.at = 384,
					.box = {64, 128, 1, 1},
					.dim = {64, 4096, 2, 2},
					.stride = {2 * 64 * 2, 64 * 2, 4096 * 2 * 64 * 2}});
	expect_map(&plan.launch[0], 1,
		   &(struct launch_map){.data = AT(0x30000),
					.at = 512,
					.box = {64, 128, 1, 1},
					.dim = {64, 4096, 2, 2},
					.stride = {2 * 64 * 2, 64 * 2, 4096 * 2 * 64 * 2}});
	cr_expect_str_eq(plan.launch[1].symbol, "attn_combine_fp16");
	cr_expect_eq(plan.launch[1].grid[0], 8);
	cr_expect_eq(plan.launch[1].block[0], 128);
	cr_expect_eq(plan.launch[1].arg_len, sizeof a);
	cr_expect_eq(plan.launch[1].map_count, 0);
}

/* Sequences one after the other are one long one to the copy engine; dims that fill no 16 bytes are padded first. */
Test(gpu_plan_sm90, variable_length_with_padding)
{
	struct attn_problem p = dense(DT_BF16, 3, 70, 100, 4, 2, 36, 20);
	struct launch_plan plan;
	struct err e;
	size_t k_at = (250 * 4 * 24 * 2 + 255) / 256 * 256, q_bytes = (250 * 4 * 40 * 2 + 255) / 256 * 256;

	p.cu_q = AT(0x70000);
	p.cu_k = AT(0x80000);
	p.q_stride.batch = p.k_stride.batch = p.v_stride.batch = p.out_stride.batch = 0;
	p.lse_stride = (struct attn_strides){0, 1, 250};
	cr_assert_eq(gpu_attn_plan(&p, 300, &h200, AT(0x100000), &plan, &e), 0);
	cr_assert_eq(plan.count, 5); /* q, k and v padded, attention, out cut */
	cr_expect_str_eq(plan.launch[3].symbol, "attn_fwd_bf16_d64x64_g1");
	cr_assert_eq(plan.launch[3].map_count, 3);
	expect_map(&plan.launch[3], 0,
		   &(struct launch_map){.data = AT(0x100000 + k_at),
					.at = 256,
					.box = {64, 64, 1, 1},
					.dim = {40, 250, 4, 1},
					.stride = {4 * 40 * 2, 40 * 2, 4 * 40 * 2}});
	expect_map(&plan.launch[3], 1,
		   &(struct launch_map){.data = AT(0x100000 + k_at + q_bytes),
					.at = 384,
					.box = {64, 128, 1, 1},
					.dim = {40, 300, 2, 1},
					.stride = {2 * 40 * 2, 40 * 2, 2 * 40 * 2}});
}

/* The copy engine is not told of tensors that have nothing in them. */
Test(gpu_plan_sm90, no_key)
{
	struct attn_problem p = dense(DT_FP16, 1, 40, 0, 2, 1, 64, 64);
	struct launch_plan plan;
	struct err e;

	p.k = p.v = NULL;
	cr_assert_eq(gpu_attn_plan(&p, 0, &h200, NULL, &plan, &e), 0);
	cr_assert_eq(plan.count, 1);
	cr_assert_eq(plan.launch[0].map_count, 1);
	cr_expect_eq(plan.launch[0].map[0].at, 256);
}

Test(gpu_plan_sm90, too_many_tiles)
{
	struct attn_problem p = dense(DT_FP16, 1 << 20, 1 << 18, 64, 8, 8, 64, 64);
	struct launch_plan plan;
	struct err e;

	cr_assert_eq(gpu_attn_plan(&p, (INT64_C(1) << 20) * 64, &h200, NULL, &plan, &e), -1);
	cr_expect(strstr(e.msg, "tiles of rows"), "%s", e.msg);
}
