/*
 * vector_packed.c: two 16-bit operations in one instruction, mixed-precision multiply-add, dot products. In the
 * expressions a, b, c are one half's sources. Part of the executor, see exec.h.
 */
#define OP_GROUP vector_packed
#include "emulator/operand.h"

#include <math.h>

/* Source k with the halves that op_sel and op_sel_hi pick in bits 15:0 and 31:16. */
static const u32 *
operand_packed(struct wave *w, const struct op *o, int k, u32 *buf)
{
	const struct operand *p = &o->s[k];
	int lo = (o->op_sel >> k & 1) * 16, hi = (o->op_sel_hi >> k & 1) * 16;
	u32 flip = ((o->neg_lo >> k & 1) ? 0x8000 : 0) | ((o->neg_hi >> k & 1) ? 0x80000000 : 0), spread[LANES];
	const u32 *v = spread;

	if (p->kind == OPERAND_IMM) {
		/* small integers stay integers, constants are fp16 */
		u32 x = SIGNED(p->imm32) >= -16 && SIGNED(p->imm32) <= 64 ? p->imm32 : p->imm16;

		EACH_LANE(i) spread[i] = x;
	} else {
		v = operand_raw(w, o, k, 0, spread);
	}
	EACH_LANE(i) buf[i] = ((v[i] >> lo & 0xffff) | (v[i] >> hi & 0xffff) << 16) ^ flip;
	return buf;
}

#define SRC_PK(n, k)                                                                                                   \
	u32 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	const u32 *n = operand_packed(w, o, k, n##_buf)
/* The same as floats: n[0] the low halves, n[1] the high ones. */
#define SRC_PK_F16(n, k)                                                                                               \
	float n[2][LANES] LANE_ALIGNED;                                                                                \
	split_halves(w, o, k, n)

static void
split_halves(struct wave *w, const struct op *o, int k, float (*out)[LANES])
{
	SRC_PK(A, k);

	halves_to_f32(A, 0, out[0]);
	halves_to_f32(A, 16, out[1]);
}

static void
put_halves(struct wave *w, const struct op *o, float (*r)[LANES])
{
	u32 lo[LANES] LANE_ALIGNED, hi[LANES] LANE_ALIGNED;

	if (o->clamp)
		for (int h = 0; h < 2; h++)
			EACH_LANE(i) r[h][i] = r[h][i] > 0 ? (r[h][i] < 1 ? r[h][i] : 1) : 0;
	f32_to_halves(r[0], lo);
	f32_to_halves(r[1], hi);
	EACH_LANE(i) lo[i] |= hi[i] << 16;
	put_32(w, o, lo);
}

#define V_PK_F16_2(nm, expr)                                                                                           \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_PK_F16(A, 0);                                                                                      \
		SRC_PK_F16(B, 1);                                                                                      \
		float R[2][LANES] LANE_ALIGNED;                                                                        \
		for (int h = 0; h < 2; h++)                                                                            \
			EACH_LANE(i)                                                                                   \
			{                                                                                              \
				float a = A[h][i], b = B[h][i];                                                        \
				R[h][i] = (expr);                                                                      \
			}                                                                                              \
		put_halves(w, o, R);                                                                                   \
	}
#define V_PK_U16_2(nm, expr)                                                                                           \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_PK(A, 0);                                                                                          \
		SRC_PK(B, 1);                                                                                          \
		u32 R[LANES] = {0};                                                                                    \
		for (int h = 0; h < 32; h += 16)                                                                       \
			EACH_LANE(i)                                                                                   \
			{                                                                                              \
				u16 a = A[i] >> h, b = B[i] >> h;                                                      \
				R[i] |= (u32)(u16)(expr) << h;                                                         \
			}                                                                                              \
		put_32(w, o, R);                                                                                       \
	}

/* clang-format off */
V_PK_F16_2(v_pk_add_f16, a + b)
V_PK_F16_2(v_pk_mul_f16, a * b)
V_PK_F16_2(v_pk_max_f16, max_f32(a, b))
V_PK_F16_2(v_pk_min_f16, min_f32(a, b))
/* clang-format on */

OP(v_pk_fma_f16)
{
	SRC_PK_F16(A, 0);
	SRC_PK_F16(B, 1);
	SRC_PK_F16(C, 2);
	float R[2][LANES] LANE_ALIGNED;

	for (int h = 0; h < 2; h++)
		EACH_LANE(i) R[h][i] = __builtin_fmaf(A[h][i], B[h][i], C[h][i]);
	put_halves(w, o, R);
}

/* clang-format off */
V_PK_U16_2(v_pk_add_u16, a + b)
V_PK_U16_2(v_pk_sub_u16, a - b)
V_PK_U16_2(v_pk_add_i16, a + b)
V_PK_U16_2(v_pk_sub_i16, a - b)
V_PK_U16_2(v_pk_mul_lo_u16, (u32)a * b)
V_PK_U16_2(v_pk_lshlrev_b16, b << (a & 15))
V_PK_U16_2(v_pk_lshrrev_b16, b >> (a & 15))
V_PK_U16_2(v_pk_ashrrev_i16, (i16)b >> (a & 15))
V_PK_U16_2(v_pk_max_u16, a > b ? a : b)
V_PK_U16_2(v_pk_min_u16, a < b ? a : b)
V_PK_U16_2(v_pk_max_i16, (i16)a > (i16)b ? a : b)
V_PK_U16_2(v_pk_min_i16, (i16)a < (i16)b ? a : b)
/* clang-format on */

OP(v_pk_mad_u16)
{
	SRC_PK(A, 0);
	SRC_PK(B, 1);
	SRC_PK(C, 2);
	u32 R[LANES] = {0};

	for (int h = 0; h < 32; h += 16)
		EACH_LANE(i)
		{
			u32 a = A[i] >> h & 0xffff, b = B[i] >> h & 0xffff, c = C[i] >> h & 0xffff;

			R[i] |= (u32)(u16)(a * b + c) << h;
		}
	put_32(w, o, R);
}
OP_ALIAS(v_pk_mad_i16, op_v_pk_mad_u16, 1)

/* A source of v_fma_mix: fp32, or the half of it that op_sel picks where op_sel_hi says fp16. */
static const float *
operand_mixed(struct wave *w, const struct op *o, int k, float *buf)
{
	const struct operand *p = &o->s[k];
	int half = o->op_sel_hi >> k & 1;
	u32 spread[LANES];

	if (p->kind == OPERAND_IMM) {
		float x = half ? half_to_f32(p->imm16) : as_f32(p->imm32);

		EACH_LANE(i) buf[i] = x;
	} else {
		const u32 *v = operand_raw(w, o, k, 0, spread);

		if (half)
			halves_to_f32(v, (o->op_sel >> k & 1) * 16, buf);
		else
			memcpy(buf, v, LANES * sizeof *buf);
	}
	if (p->abs || (o->neg_hi >> k & 1))
		EACH_LANE(i) buf[i] = fabsf(buf[i]);
	if (p->neg || (o->neg_lo >> k & 1))
		EACH_LANE(i) buf[i] = -buf[i];
	return buf;
}

static void
mix(struct wave *w, const struct op *o, float *r)
{
	float a[LANES] LANE_ALIGNED, b[LANES] LANE_ALIGNED, c[LANES] LANE_ALIGNED;

	operand_mixed(w, o, 0, a);
	operand_mixed(w, o, 1, b);
	operand_mixed(w, o, 2, c);
	EACH_LANE(i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
}

/* The half that is not written stays. */
static void
mix_to_half(struct wave *w, const struct op *o, int high)
{
	float R[LANES] LANE_ALIGNED;
	u32 bits[LANES] LANE_ALIGNED, *d = w->v[dest_reg(w, o)];

	mix(w, o, R);
	if (o->clamp)
		EACH_LANE(i) R[i] = R[i] > 0 ? (R[i] < 1 ? R[i] : 1) : 0;
	f32_to_halves(R, bits);
	EACH_LANE(i) bits[i] = high ? (d[i] & 0xffff) | bits[i] << 16 : (d[i] & 0xffff0000) | bits[i];
	store_lanes(d, bits, EXEC(w));
}

OP(v_fma_mix_f32)
{
	float R[LANES] LANE_ALIGNED;

	mix(w, o, R);
	put_f32(w, o, R);
}

OP(v_fma_mixlo_f16)
{
	mix_to_half(w, o, 0);
}

OP(v_fma_mixhi_f16)
{
	mix_to_half(w, o, 1);
}
OP_ALIAS(v_mad_mix_f32, op_v_fma_mix_f32, 1)
OP_ALIAS(v_mad_mixlo_f16, op_v_fma_mixlo_f16, 1)
OP_ALIAS(v_mad_mixhi_f16, op_v_fma_mixhi_f16, 1)

/* Dot products. */
OP(v_dot2_f32_f16)
{
	SRC_PK_F16(A, 0);
	SRC_PK_F16(B, 1);
	SRC_F32(C, 2);
	float R[LANES];

	EACH_LANE(i) R[i] = __builtin_fmaf(A[0][i], B[0][i], __builtin_fmaf(A[1][i], B[1][i], C[i]));
	put_f32(w, o, R);
}

OP(v_dot2c_f32_f16)
{
	SRC_32(A, 0);
	SRC_32(B, 1);
	const float *D = (const float *)w->v[dest_reg(w, o)];
	float a[2][LANES], b[2][LANES], R[LANES];

	for (int h = 0; h < 2; h++) {
		halves_to_f32(A, 16 * h, a[h]);
		halves_to_f32(B, 16 * h, b[h]);
	}
	EACH_LANE(i) R[i] = __builtin_fmaf(a[0][i], b[0][i], __builtin_fmaf(a[1][i], b[1][i], D[i]));
	put_f32(w, o, R);
}

#define V_DOT(nm, addend, bits, a_expr, b_expr)                                                                        \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_32(A, 0);                                                                                          \
		SRC_32(B, 1);                                                                                          \
		addend;                                                                                                \
		u32 R[LANES];                                                                                          \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 sum = C[i];                                                                                \
			for (int h = 0; h < 32; h += bits)                                                             \
				sum += (u32)((a_expr) * (b_expr));                                                     \
			R[i] = sum;                                                                                    \
		}                                                                                                      \
		put_32(w, o, R);                                                                                       \
	}
#define THIRD_SOURCE SRC_32(C, 2)
#define DESTINATION const u32 *C = w->v[dest_reg(w, o)]

V_DOT(v_dot4_i32_i8, THIRD_SOURCE, 8, (i8)(A[i] >> h), (i8)(B[i] >> h))
V_DOT(v_dot4c_i32_i8, DESTINATION, 8, (i8)(A[i] >> h), (i8)(B[i] >> h))
V_DOT(v_dot4_u32_u8, THIRD_SOURCE, 8, (u8)(A[i] >> h), (u8)(B[i] >> h))
V_DOT(v_dot8_u32_u4, THIRD_SOURCE, 4, A[i] >> h & 15, B[i] >> h & 15)
V_DOT(v_dot8_i32_i4, THIRD_SOURCE, 4, SIGNED(A[i] << (28 - h)) >> 28, SIGNED(B[i] << (28 - h)) >> 28)

OP(v_dot2_u32_u16)
{
	SRC_PK(A, 0);
	SRC_PK(B, 1);
	SRC_32(C, 2);
	u32 R[LANES];

	EACH_LANE(i) R[i] = C[i] + (A[i] & 0xffff) * (B[i] & 0xffff) + (A[i] >> 16) * (B[i] >> 16);
	put_32(w, o, R);
}

OP(v_dot2_i32_i16)
{
	SRC_PK(A, 0);
	SRC_PK(B, 1);
	SRC_32(C, 2);
	u32 R[LANES];

	EACH_LANE(i)
	{
		i32 lo = (i16)A[i] * (i16)B[i], hi = (i16)(A[i] >> 16) * (i16)(B[i] >> 16);

		R[i] = C[i] + (u32)lo + (u32)hi;
	}
	put_32(w, o, R);
}

OP_GROUP_END
