/*
 * matrix.c: MFMA. A's lane l holds row l % M and k = (l / M) * kpl + j in its j-th element, B the same with columns;
 * a lane of D holds one column and groups of four rows. Sums are kept in fp32, one product after the other; EXEC is
 * ignored, as in hardware. Part of the executor, see exec.h.
 */
#define OP_GROUP matrix
#include "emulator/fp8.h"
#include "emulator/operand.h"

enum element { F32, F16, BF16, FP8, BF8, I8 };

/* The elements of source p as floats: out[j][lane], kpl of them for each lane. */
static void
load_elements(struct wave *w, const struct operand *p, enum element type, int kpl, float (*out)[LANES])
{
	const u32(*v)[LANES] = (const u32(*)[LANES])w->v[p->reg];

	for (int j = 0; j < kpl; j++) {
		switch (type) {
		case F32:
			memcpy(out[j], v[j], LANES * sizeof *out[j]);
			break;
		case F16:
			halves_to_f32(v[j >> 1], 16 * (j & 1), out[j]);
			break;
		case BF16: {
			u32 *bits = (u32 *)out[j];
			int shift = j & 1 ? 0 : 16;

			EACH_LANE(i) bits[i] = v[j >> 1][i] << shift & 0xffff0000;
			break;
		}
		case FP8:
		case BF8: {
			const float *value = emu_fp8_values[type == FP8 ? FP8_E4M3 : FP8_E5M2];

			EACH_LANE(i) out[j][i] = value[v[j >> 2][i] >> 8 * (j & 3) & 255];
			break;
		}
		case I8: {
			int shift = 24 - 8 * (j & 3);

			EACH_LANE(i) out[j][i] = (float)(SIGNED(v[j >> 2][i] << shift) >> 24);
			break;
		}
		}
	}
}

/*
 * Four rows of D times 16 columns: d[r][0..15] += the sum over k of a[k][r] * b[k][0..15]. d, a and b point into
 * arrays of LANES columns; k runs over `groups` groups of lanes, M lanes apart, of kpl elements each.
 */
static inline __attribute__((always_inline)) void
rows_times_columns(float (*d)[LANES], const float *a, const float *b, int kpl, int groups, int M)
{
#if defined(__AVX512F__)
	__m512 s0 = _mm512_loadu_ps(d[0]), s1 = _mm512_loadu_ps(d[1]);
	__m512 s2 = _mm512_loadu_ps(d[2]), s3 = _mm512_loadu_ps(d[3]);

	for (int g = 0; g < groups; g++)
		for (int j = 0; j < kpl; j++) {
			const float *x = a + j * LANES + g * M;
			__m512 y = _mm512_loadu_ps(b + j * LANES + g * M);

			s0 = _mm512_fmadd_ps(_mm512_set1_ps(x[0]), y, s0);
			s1 = _mm512_fmadd_ps(_mm512_set1_ps(x[1]), y, s1);
			s2 = _mm512_fmadd_ps(_mm512_set1_ps(x[2]), y, s2);
			s3 = _mm512_fmadd_ps(_mm512_set1_ps(x[3]), y, s3);
		}
	_mm512_storeu_ps(d[0], s0);
	_mm512_storeu_ps(d[1], s1);
	_mm512_storeu_ps(d[2], s2);
	_mm512_storeu_ps(d[3], s3);
#elif defined(__AVX2__)
	__m256 s[4][2];

	for (int r = 0; r < 4; r++)
		for (int h = 0; h < 2; h++)
			s[r][h] = _mm256_loadu_ps(d[r] + 8 * h);
	for (int g = 0; g < groups; g++)
		for (int j = 0; j < kpl; j++) {
			const float *x = a + j * LANES + g * M, *y = b + j * LANES + g * M;
			__m256 y0 = _mm256_loadu_ps(y), y1 = _mm256_loadu_ps(y + 8);

			for (int r = 0; r < 4; r++) {
				__m256 k = _mm256_broadcast_ss(x + r);

				s[r][0] = _mm256_fmadd_ps(k, y0, s[r][0]);
				s[r][1] = _mm256_fmadd_ps(k, y1, s[r][1]);
			}
		}
	for (int r = 0; r < 4; r++)
		for (int h = 0; h < 2; h++)
			_mm256_storeu_ps(d[r] + 8 * h, s[r][h]);
#else
	/* Products of fp32 are exact in double, those of the shorter types in float already: as if fused. */
	for (int g = 0; g < groups; g++)
		for (int j = 0; j < kpl; j++) {
			const float *x = a + j * LANES + g * M, *y = b + j * LANES + g * M;

			for (int r = 0; r < 4; r++)
				for (int n = 0; n < 16; n++)
					d[r][n] = (float)((double)x[r] * (double)y[n] + (double)d[r][n]);
		}
#endif
}

static inline __attribute__((always_inline)) void
multiply(float (*d)[LANES], float (*a)[LANES], float (*b)[LANES], int M, int blocks, int kpl)
{
	int groups = LANES / M / blocks, regs = M == 32 ? 16 : 4;

	if (M == 4) { /* 16 blocks, one for each four lanes */
		for (int r = 0; r < 4; r++)
			for (int j = 0; j < kpl; j++)
				EACH_LANE(i) d[r][i] = __builtin_fmaf(a[j][(i & ~3) + r], b[j][i], d[r][i]);
		return;
	}
	for (int block = 0; block < blocks; block++)
		for (int r = 0; r < regs; r += 4)
			for (int q = 0; q < LANES / M; q++)
				for (int column = 0; column < M; column += 16) {
					float(*to)[LANES] = (float(*)[LANES])(d[block * regs + r] + q * M + column);
					int row = M == 32 ? 2 * r + 4 * q : 4 * q;

					rows_times_columns(to, &a[0][block * M + row], &b[0][block * M + column], kpl,
							   groups, M);
				}
}

static inline __attribute__((always_inline)) void
mfma(struct wave *w, const struct op *o, int M, int blocks, int kpl, enum element ta, enum element tb)
{
	float A[8][LANES] LANE_ALIGNED, B[8][LANES] LANE_ALIGNED, D[32][LANES] LANE_ALIGNED;
	int regs = M == 4 ? 4 : (M == 32 ? 16 : 4) * blocks;
	size_t size = (size_t)regs * sizeof D[0];
	const struct operand *c = &o->s[2];

	if (o->cbsz | o->abid | o->blgp)
		emu_wave_fault(w, FAULT_LAUNCH, "mfma with cbsz, abid or blgp is not implemented");
	load_elements(w, &o->s[0], ta, kpl, A);
	load_elements(w, &o->s[1], tb, kpl, B);
	if (ta == I8) {
		/* Integer sums stay exact in float: at most 32 * 128 * 128 < 2^24. C is added as an integer below. */
		memset(D, 0, size);
	} else if (c->kind == OPERAND_V) {
		memcpy(D, w->v[c->reg], size);
	} else {
		float x = as_f32(scalar_32(w, c));

		for (int r = 0; r < regs; r++)
			EACH_LANE(i) D[r][i] = x;
	}
	multiply(D, A, B, M, blocks, kpl);
	if (ta == I8)
		for (int r = 0; r < regs; r++) {
			u32 *bits = (u32 *)D[r], x = scalar_32(w, c);

			if (c->kind == OPERAND_V)
				EACH_LANE(i) bits[i] = w->v[c->reg + r][i] + (u32)(i32)D[r][i];
			else
				EACH_LANE(i) bits[i] = x + (u32)(i32)D[r][i];
		}
	memcpy(w->v[o->d.reg], D, size);
	w->mfma++;
}

/* MFMA(instruction, M, blocks, elements of a lane, their types in A and B) */
#define MFMA(nm, M, blocks, kpl, ta, tb)                                                                               \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		mfma(w, o, M, blocks, kpl, ta, tb);                                                                    \
	}

MFMA(v_mfma_f32_32x32x8_f16, 32, 1, 4, F16, F16)
MFMA(v_mfma_f32_16x16x16_f16, 16, 1, 4, F16, F16)
MFMA(v_mfma_f32_32x32x4_2b_f16, 32, 2, 4, F16, F16)
MFMA(v_mfma_f32_16x16x4_4b_f16, 16, 4, 4, F16, F16)
MFMA(v_mfma_f32_4x4x4_16b_f16, 4, 16, 4, F16, F16)
MFMA(v_mfma_f32_32x32x8_bf16, 32, 1, 4, BF16, BF16)
MFMA(v_mfma_f32_16x16x16_bf16, 16, 1, 4, BF16, BF16)
MFMA(v_mfma_f32_32x32x4_2b_bf16, 32, 2, 4, BF16, BF16)
MFMA(v_mfma_f32_16x16x4_4b_bf16, 16, 4, 4, BF16, BF16)
MFMA(v_mfma_f32_4x4x4_16b_bf16, 4, 16, 4, BF16, BF16)
MFMA(v_mfma_f32_32x32x2_f32, 32, 1, 1, F32, F32)
MFMA(v_mfma_f32_16x16x4_f32, 16, 1, 1, F32, F32)
MFMA(v_mfma_f32_32x32x1_2b_f32, 32, 2, 1, F32, F32)
MFMA(v_mfma_f32_16x16x1_4b_f32, 16, 4, 1, F32, F32)
MFMA(v_mfma_f32_4x4x1_16b_f32, 4, 16, 1, F32, F32)
/* xf32 is computed with all of fp32's bits */
MFMA(v_mfma_f32_16x16x8_xf32, 16, 1, 2, F32, F32)
MFMA(v_mfma_f32_32x32x4_xf32, 32, 1, 2, F32, F32)
MFMA(v_mfma_f32_16x16x32_fp8_fp8, 16, 1, 8, FP8, FP8)
MFMA(v_mfma_f32_16x16x32_fp8_bf8, 16, 1, 8, FP8, BF8)
MFMA(v_mfma_f32_16x16x32_bf8_fp8, 16, 1, 8, BF8, FP8)
MFMA(v_mfma_f32_16x16x32_bf8_bf8, 16, 1, 8, BF8, BF8)
MFMA(v_mfma_f32_32x32x16_fp8_fp8, 32, 1, 8, FP8, FP8)
MFMA(v_mfma_f32_32x32x16_fp8_bf8, 32, 1, 8, FP8, BF8)
MFMA(v_mfma_f32_32x32x16_bf8_fp8, 32, 1, 8, BF8, FP8)
MFMA(v_mfma_f32_32x32x16_bf8_bf8, 32, 1, 8, BF8, BF8)
MFMA(v_mfma_i32_16x16x32_i8, 16, 1, 8, I8, I8)
MFMA(v_mfma_i32_32x32x16_i8, 32, 1, 8, I8, I8)

OP_GROUP_END
