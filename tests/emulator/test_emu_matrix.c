/*
 * test_emu_matrix.c: each matrix instruction against sums in double, with the operands laid out as AMD's matrix
 * instruction calculator gives it.
 */
#include "emulator/emu_fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum element { HALF, BF16, FLOAT, FP8, BF8, INT8 };

struct shape {
	const char *name;
	int m, blocks, k, words, regs;
	enum element a, b;
};

static const struct shape shapes[] = {
#define MFMA(name, m, blocks, k, words, regs, ta, tb) {#name, m, blocks, k, words, regs, ta, tb},
#include "emulator/mfma.def"
};

/* The j-th element of a lane's words. */
static double
element(enum element t, const uint32_t *words, int j)
{
	const uint8_t *bytes = (const uint8_t *)words;
	uint16_t h;
	float f;

	switch (t) {
	case HALF:
	case BF16:
		memcpy(&h, bytes + 2 * j, sizeof h);
		return t == HALF ? emu_fixture_from_half(h) : emu_fixture_from_bf16(h);
	case FLOAT:
		memcpy(&f, bytes + 4 * j, sizeof f);
		return (double)f;
	case FP8:
		return emu_fixture_from_fp8(bytes[j], 3, 8);
	case BF8:
		return emu_fixture_from_fp8(bytes[j], 2, 16);
	case INT8:
	default:
		return (int8_t)bytes[j];
	}
}

/* Random numbers of moderate size in whatever format. */
static void
fill(enum element t, uint32_t *words, int n)
{
	for (int i = 0; i < n; i++) {
		uint32_t r = emu_fixture_random(), x;
		float f = emu_fixture_random_float();

		switch (t) {
		case HALF: /* exponents 11 to 14: below 1 */
			x = (r & 0x83ff83ff) | 0x2c002c00 | (r >> 3 & 0x0c000c00);
			break;
		case BF16:
			x = (r & 0x807f807f) | 0x3e003e00 | (r >> 3 & 0x01800180);
			break;
		case FLOAT:
			memcpy(&x, &f, sizeof x);
			break;
		case FP8: /* exponents 4 to 7 */
			x = (r & 0x9f9f9f9f) | 0x20202020;
			break;
		case BF8: /* exponents 12 to 15 */
			x = (r & 0x8f8f8f8f) | 0x30303030;
			break;
		case INT8:
		default:
			x = r;
			break;
		}
		words[i] = x;
	}
}

/* Where a lane's register of D is: its block, row and column. */
static void
place(const struct shape *s, int lane, int reg, int *block, int *row, int *column)
{
	*column = lane % s->m;
	if (s->m == 32) {
		*block = reg / 16;
		*row = reg % 16 / 4 * 8 + lane / 32 * 4 + reg % 4;
	} else if (s->m == 16) {
		*block = reg / 4;
		*row = lane / 16 * 4 + reg % 4;
	} else {
		*block = lane / 4;
		*row = reg;
	}
}

static void
check(const struct shape *s, const uint32_t *a, const uint32_t *b, const uint32_t *c, const uint32_t *d)
{
	int groups = 64 / s->m / s->blocks;

	for (int lane = 0; lane < 64; lane++)
		for (int reg = 0; reg < s->regs; reg++) {
			double sum, magnitude, got;
			int block, row, column;
			float f;

			place(s, lane, reg, &block, &row, &column);
			memcpy(&f, &c[lane * s->regs + reg], sizeof f);
			sum = s->a == INT8 ? (int32_t)c[lane * s->regs + reg] : (double)f;
			magnitude = fabs(sum);
			for (int g = 0; g < groups; g++)
				for (int j = 0; j < s->k; j++) {
					int la = (block * groups + g) * s->m + row,
					    lb = (block * groups + g) * s->m + column;
					double p = element(s->a, a + la * s->words, j) *
						   element(s->b, b + lb * s->words, j);

					sum += p;
					magnitude += fabs(p);
				}
			memcpy(&f, &d[lane * s->regs + reg], sizeof f);
			got = s->a == INT8 ? (int32_t)d[lane * s->regs + reg] : (double)f;
			cr_assert_leq(fabs(got - sum), s->a == INT8 ? 0 : magnitude * s->k * groups * 0x1p-24,
				      "%s: lane %d register %d is %.9g, not %.9g", s->name, lane, reg, got, sum);
		}
}

static void
all_shapes(const char *isa)
{
	hipModule_t m;

	emu_fixture_isa(isa);
	m = emu_fixture_module("kernels_exec");

	for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
		const struct shape *s = &shapes[k];
		uint32_t a[64 * 2], b[64 * 2], c[64 * 32], d[64 * 32];
		size_t in_size = (size_t)(64 * s->words) * 4, out_size = (size_t)(64 * s->regs) * 4;
		void *da, *db, *dc, *dd = emu_fixture_device(NULL, out_size), *params[] = {&dd, &da, &db, &dc};
		char name[80];

		fill(s->a, a, 64 * s->words);
		fill(s->b, b, 64 * s->words);
		fill(s->a == INT8 ? INT8 : FLOAT, c, 64 * s->regs);
		da = emu_fixture_device(a, in_size);
		db = emu_fixture_device(b, in_size);
		dc = emu_fixture_device(c, out_size);
		snprintf(name, sizeof name, "k_%s", s->name);
		emu_fixture_run(emu_fixture_kernel(m, name), 1, 64, params);
		emu_fixture_read(d, dd, out_size);
		check(s, a, b, c, d);
	}
}

TestSuite(emu_matrix, .fini = emu_fixture_end);

Test(emu_matrix, avx512)
{
	all_shapes("avx512");
}

Test(emu_matrix, avx2)
{
	all_shapes("avx2");
}

Test(emu_matrix, base)
{
	all_shapes("base");
}
