/*
 * test_emu_aiter.c: what AITER's own code objects do that one must know to drive them, executed: the options and arguments that
 * make them read and write elsewhere or nothing at all, the one that computes something else, the one whose result depends
 * on the order of its waves. server/ops/gpu_aiter.c avoids the former and server/worker/aiter_sums.def leaves out the rest. Skipped
 * unless AITER_ASM_DIR names AITER's files.
 */
#include "emulator/emu_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/emulator.h"

TestSuite(aiter, .fini = emu_fixture_end);

/* The kernel of a file below gfx942/; the test is skipped when there is none. */
static hipFunction_t
kernel(const char *file, const char *name)
{
	const char *dir = getenv("AITER_ASM_DIR");
	char path[1024], symbol[128];
	FILE *there;

	if (dir == NULL || *dir == '\0')
		cr_skip_test("AITER_ASM_DIR is not set: AITER's own kernels are not run");
	snprintf(path, sizeof path, "%s/gfx942/%s.co", dir, file);
	there = fopen(path, "re");
	if (there == NULL)
		cr_skip_test("%s is not there", path);
	fclose(there);
	snprintf(symbol, sizeof symbol, "_ZN5aiter%zu%sE", strlen(name), name);
	return emu_fixture_kernel(emu_fixture_load(path), symbol);
}

static void
quantum(const char *n)
{
	cr_assert_eq(setenv("EMUHIP_QUANTUM", n, 1), 0);
	emu_settings_read();
}

static hipError_t
launch(hipFunction_t f, unsigned x, unsigned y, unsigned z, unsigned threads, void *args, size_t size)
{
	void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, args, HIP_LAUNCH_PARAM_BUFFER_SIZE, &size,
			 HIP_LAUNCH_PARAM_END};
	hipError_t e = hipModuleLaunchKernel(f, x, y, z, threads, 1, 1, 0, NULL, NULL, extra);

	return e != hipSuccess ? e : hipDeviceSynchronize();
}

static void
put(uint8_t *args, int at, uint64_t v, size_t size)
{
	memcpy(args + at, &v, size);
}

/* One sequence [S, H, D] of 8- or 16-bit elements, and what fmha_v3_fwd is told of it. */
struct problem {
	int sq, sk, heads, dim, element, opt, group, slot96;
	float scale, descale_q;
	void *q, *k, *v, *o, *cu_q, *cu_k, *descales;
	size_t out_bytes;
};

static void
prepare(struct problem *p)
{
	size_t nq = (size_t)(p->sq * p->heads * p->dim), nk = (size_t)(p->sk * p->heads * p->dim),
	       nv = (size_t)(p->sk * p->heads * 128), n = nq > nk ? nq : nk;
	const int32_t cu_q[] = {0, p->sq}, cu_k[] = {0, p->sk};
	float descales[3] = {p->descale_q, 1, 1};
	void **const to[] = {&p->q, &p->k, &p->v};
	const size_t sizes[] = {nq, nk, nv};
	uint8_t *data = malloc(n * 2);

	cr_assert_not_null(data);
	for (int i = 0; i < 3; i++) {
		for (size_t j = 0; j < sizes[i]; j++) {
			uint32_t r = emu_fixture_random();
			float f = emu_fixture_random_float();

			if (p->element == 1) /* an 8-bit float of 0.06 to 0.94, either sign; never the NaN */
				data[j] = (uint8_t)((r & 0x8f) | 0x30);
			else
				memcpy(data + 2 * j, (uint8_t *)&f + 2, 2);
		}
		*to[i] = emu_fixture_device(data, sizes[i] * (size_t)p->element);
	}
	free(data);
	p->out_bytes = (size_t)(p->sq * p->heads * 128) * 2;
	p->o = emu_fixture_device(NULL, p->out_bytes);
	HIP(hipMemset(p->o, 0x5a, p->out_bytes));
	p->cu_q = emu_fixture_device(cu_q, sizeof cu_q);
	p->cu_k = emu_fixture_device(cu_k, sizeof cu_k);
	p->descales = emu_fixture_device(descales, sizeof descales);
}

static hipError_t
attention(hipFunction_t f, const struct problem *p, unsigned x, unsigned y, unsigned z)
{
	uint64_t row = (uint64_t)(p->heads * p->dim * p->element), head = (uint64_t)(p->dim * p->element),
		 row_v = (uint64_t)(p->heads * 128 * p->element), head_v = (uint64_t)(128 * p->element);
	int tile = p->dim == 192 ? 128 : 256;
	uint8_t args[656] = {0};
	uint32_t scale;

	memcpy(&scale, &p->scale, sizeof scale);
	put(args, 0, (uintptr_t)p->o, 8);
	put(args, 16, (uintptr_t)p->q, 8);
	put(args, 32, (uintptr_t)p->k, 8);
	put(args, 48, (uintptr_t)p->v, 8);
	put(args, 80, scale, 4);
	put(args, 96, (uint64_t)p->slot96, 4);
	put(args, 112, row, 4);
	put(args, 128, row * (uint64_t)tile, 4);
	put(args, 144, head, 4);
	put(args, 160, row * (uint64_t)p->sq, 4);
	put(args, 176, 1, 4);
	put(args, 192, row, 4);
	put(args, 208, head, 4);
	put(args, 224, row * (uint64_t)p->sk, 4);
	put(args, 240, (uint64_t)p->opt, 4);
	put(args, 272, (uint64_t)p->sk, 4);
	put(args, 288, (uint64_t)p->dim, 4);
	put(args, 304, 128, 4);
	put(args, 320, (uint64_t)p->heads, 4);
	put(args, 336, row_v, 4);
	put(args, 352, head_v, 4);
	put(args, 368, row_v * (uint64_t)p->sk, 4);
	put(args, 384, (uint64_t)p->heads * 256, 4);
	put(args, 400, 256, 4);
	put(args, 416, (uint64_t)(p->heads * p->sq) * 256, 4);
	if (p->group) {
		put(args, 432, (uintptr_t)p->cu_q, 8);
		put(args, 448, (uintptr_t)p->cu_k, 8);
		put(args, 480, (uintptr_t)p->cu_q, 8);
		put(args, 496, (uintptr_t)p->cu_k, 8);
	}
	if (p->element == 1)
		for (int i = 0; i < 3; i++)
			put(args, 512 + 16 * i, (uintptr_t)p->descales + 4 * (unsigned)i, 8);
	return launch(f, x, y, z, tile == 128 ? 256 : 512, args, sizeof args);
}

static void *
output(const struct problem *p)
{
	void *out = malloc(p->out_bytes);

	cr_assert_not_null(out);
	emu_fixture_read(out, p->o, p->out_bytes);
	return out;
}

/* Options 4 and up with a number of heads that 8 does not divide: memory that is nobody's. */
Test(aiter, option_and_heads)
{
	hipFunction_t f = kernel("fmha_v3_fwd/MI300/fwd_hd128_bf16_causal_rtne", "fmha_fwd_hd128_bf16_causal_rtne");
	struct problem p = {.sq = 600, .sk = 600, .heads = 3, .dim = 128, .element = 2, .slot96 = 600, .scale = 0.1f};

	prepare(&p);
	for (p.opt = 0; p.opt < 4; p.opt++)
		cr_expect_eq(attention(f, &p, 2, 3, 1), hipSuccess, "option %d", p.opt);
	p.opt = 5;
	cr_expect_eq(attention(f, &p, 2, 3, 1), hipErrorIllegalAddress);
}

/* With slot 96 empty, in group mode, the causal kernel for 192x128 writes nothing, and says nothing. The others look away. */
Test(aiter, slot_96)
{
	static const struct {
		const char *name;
		int dim;
		bool needs;
	} cases[] = {{"hd128_bf16_rtne_group", 128, false},
		     {"hd128_bf16_causal_rtne_group", 128, false},
		     {"hd192x128_bf16_rtne_group", 192, false},
		     {"hd192x128_bf16_causal_rtne_group", 192, true}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct problem p = {.sq = 200, .sk = 60, .heads = 1, .dim = cases[i].dim, .element = 2, .scale = 0.1f};
		unsigned tiles = p.dim == 192 ? 2 : 1;
		char file[96], name[64];
		uint16_t *with, *without;
		hipFunction_t f;
		size_t unwritten = 0;

		snprintf(file, sizeof file, "fmha_v3_fwd/MI300/fwd_%s", cases[i].name);
		snprintf(name, sizeof name, "fmha_fwd_%s", cases[i].name);
		f = kernel(file, name);
		p.group = 1;
		prepare(&p);
		HIP(attention(f, &p, 1, 1, tiles));
		without = output(&p);
		for (size_t j = 0; j < p.out_bytes / 2; j++)
			unwritten += without[j] == 0x5a5a;
		p.slot96 = 200;
		HIP(attention(f, &p, 1, 1, tiles));
		with = output(&p);
		cr_expect_eq(memcmp(with, without, p.out_bytes) != 0, cases[i].needs, "%s", name);
		cr_expect_eq(unwritten == p.out_bytes / 2, cases[i].needs, "%s: %zu unwritten", name, unwritten);
		free(with);
		free(without);
	}
}

/*
 * The causal fp8 kernel multiplies by q's and k's factors once more for the second tile of a workgroup: the same product of
 * scale and factors, the same first 256 rows, other rows behind them. fp8 is not offered.
 */
Test(aiter, fp8_causal_factors)
{
	hipFunction_t f = kernel("fmha_v3_fwd/MI300/fwd_hd128_fp8_causal", "fmha_fwd_hd128_fp8_causal");
	struct problem p = {.sq = 300, .sk = 300, .heads = 1, .dim = 128, .element = 1, .slot96 = 300, .scale = 0.2f};
	float two[3] = {2, 1, 1};
	uint8_t *folded, *apart;

	p.descale_q = 1;
	prepare(&p);
	HIP(attention(f, &p, 1, 1, 1));
	folded = output(&p);
	p.scale = 0.1f;
	HIP(hipMemcpy(p.descales, two, sizeof two, hipMemcpyHostToDevice));
	HIP(attention(f, &p, 1, 1, 1));
	apart = output(&p);
	cr_expect_eq(memcmp(folded, apart, 256 * 256), 0, "the first tile differs");
	cr_expect_neq(memcmp(folded + 256 * 256, apart + 256 * 256, 44 * 256), 0, "the second tile is right");
	free(folded);
	free(apart);
}

/* All attention kernels that are used give the same bits however their waves take turns. */
Test(aiter, attention_in_any_order)
{
	static const char *const quanta[] = {"8", "1", "64", "0"}, *const cvts[] = {"rtne", "rtna", "rtz"};

	for (int i = 0; i < 24; i++) {
		struct problem p = {.sq = 260,
				    .sk = 100,
				    .heads = 1,
				    .dim = i < 12 ? 128 : 192,
				    .element = 2,
				    .group = i / 3 % 2,
				    .slot96 = 260,
				    .scale = 0.1f};
		char base[64], file[128], name[96];
		uint8_t *first = NULL;
		hipFunction_t f;
		unsigned tiles;

		snprintf(base, sizeof base, "fwd_hd%s_bf16_%s%s%s", i < 12 ? "128" : "192x128",
			 i / 6 % 2 ? "causal_" : "", cvts[i % 3], p.group ? "_group" : "");
		snprintf(file, sizeof file, "fmha_v3_fwd/MI300/%s", base);
		snprintf(name, sizeof name, "fmha_%s", base);
		f = kernel(file, name);
		prepare(&p);
		tiles = p.dim == 192 ? 3 : i / 6 % 2 ? 1 : 2;
		for (int j = 0; j < 4; j++) {
			uint8_t *out;

			quantum(quanta[j]);
			if (p.group)
				HIP(attention(f, &p, 1, 1, tiles));
			else if (p.dim == 192)
				HIP(attention(f, &p, 1, tiles, 1));
			else
				HIP(attention(f, &p, tiles, 1, 1));
			out = output(&p);
			if (first != NULL)
				cr_expect_eq(memcmp(first, out, p.out_bytes), 0, "%s, quantum %s", name, quanta[j]);
			else
				first = out;
			if (out != first)
				free(out);
		}
		free(first);
	}
}

/*
 * One of those whose result depends on the order: an int8 matrix product that lacks a barrier. Right only as long as its waves
 * stay close together; nothing of its kind is among the files that are used.
 */
Test(aiter, a_kernel_without_a_barrier)
{
	enum { M = 112, N = 256, K = 256 };
	hipFunction_t f = kernel("i8gemm/I8gemm_bf16_perTokenI8_BpreShuffle_112x256",
				 "I8gemm_bf16_perTokenI8_BpreShuffle_112x256");
	static const char *const quanta[] = {"8", "1", "64"};
	static uint8_t a[M * K], b[N * K], out[3][M * N * 2];
	static float ones[N], zeros[N];
	uint8_t args[1024] = {0};
	void *c;

	for (size_t i = 0; i < sizeof a; i++)
		a[i] = (uint8_t)emu_fixture_random();
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (uint8_t)emu_fixture_random();
	for (size_t i = 0; i < N; i++)
		ones[i] = 1;
	c = emu_fixture_device(NULL, sizeof out[0]);
	put(args, 0, (uintptr_t)c, 8);
	put(args, 16, (uintptr_t)emu_fixture_device(a, sizeof a), 8);
	put(args, 32, (uintptr_t)emu_fixture_device(b, sizeof b), 8);
	put(args, 48, (uintptr_t)emu_fixture_device(ones, sizeof ones), 8);
	put(args, 64, (uintptr_t)emu_fixture_device(ones, sizeof ones), 8);
	put(args, 80, (uintptr_t)emu_fixture_device(zeros, sizeof zeros), 8);
	put(args, 96, M, 4);
	put(args, 112, N, 4);
	put(args, 128, K, 4);
	put(args, 144, K, 4);
	put(args, 160, K, 4);
	put(args, 176, N * 2, 4);
	put(args, 192, 1, 4);
	for (int i = 0; i < 3; i++) {
		quantum(quanta[i]);
		HIP(launch(f, 1, 1, 1, 256, args, sizeof args));
		emu_fixture_read(out[i], c, sizeof out[i]);
	}
	cr_expect_eq(memcmp(out[0], out[1], sizeof out[0]), 0, "8 and 1 differ");
	cr_expect_neq(memcmp(out[0], out[2], sizeof out[0]), 0, "8 and 64 agree");
}
