/*
 * vector_f16.c: vector arithmetic on 16 bits: fp16, computed in fp32 and rounded once, and integers. In the
 * expressions a, b, c are a lane's sources. Part of the executor, see exec.h.
 */
#define OP_GROUP vector_f16
#include "emulator/operand.h"

#define V_F16_1(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F16(A, 0);                                                                                         \
		float R[LANES] LANE_ALIGNED;                                                                           \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			float a = A[i];                                                                                \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f16(w, o, R, 0);                                                                                   \
	}
#define V_F16_2(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F16(A, 0);                                                                                         \
		SRC_F16(B, 1);                                                                                         \
		float R[LANES] LANE_ALIGNED;                                                                           \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			float a = A[i], b = B[i];                                                                      \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f16(w, o, R, 0);                                                                                   \
	}
/* Instructions with three sources leave the other half of the register alone. */
#define V_F16_3(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F16(A, 0);                                                                                         \
		SRC_F16(B, 1);                                                                                         \
		SRC_F16(C, 2);                                                                                         \
		float R[LANES] LANE_ALIGNED;                                                                           \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			float a = A[i], b = B[i], c = C[i];                                                            \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f16(w, o, R, 1);                                                                                   \
	}
#define V_U16_2(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_16(A, 0);                                                                                          \
		SRC_16(B, 1);                                                                                          \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i], b = B[i];                                                                        \
			R[i] = (u16)(expr);                                                                            \
		}                                                                                                      \
		put_16(w, o, R, 0);                                                                                    \
	}
#define V_U16_3(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_16(A, 0);                                                                                          \
		SRC_16(B, 1);                                                                                          \
		SRC_16(C, 2);                                                                                          \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i], b = B[i], c = C[i];                                                              \
			R[i] = (u16)(expr);                                                                            \
		}                                                                                                      \
		put_16(w, o, R, 1);                                                                                    \
	}

static inline i16
max_i16(u32 a, u32 b)
{
	return (i16)a > (i16)b ? (i16)a : (i16)b;
}

static inline i16
min_i16(u32 a, u32 b)
{
	return (i16)a < (i16)b ? (i16)a : (i16)b;
}

/* clang-format off */
V_F16_2(v_add_f16, a + b)
V_F16_2(v_sub_f16, a - b)
V_F16_2(v_subrev_f16, b - a)
V_F16_2(v_mul_f16, a * b)
V_F16_2(v_max_f16, max_f32(a, b))
V_F16_2(v_min_f16, min_f32(a, b))
V_F16_3(v_fma_f16, __builtin_fmaf(a, b, c))
V_F16_3(v_mad_f16, __builtin_fmaf(a, b, c))
V_F16_3(v_max3_f16, max_f32(max_f32(a, b), c))
V_F16_3(v_min3_f16, min_f32(min_f32(a, b), c))
V_F16_3(v_med3_f16, med3_f32(a, b, c))
V_F16_1(v_rcp_f16, 1.0f / a)
V_F16_1(v_rsq_f16, 1.0f / sqrtf(a))
V_F16_1(v_sqrt_f16, sqrtf(a))
V_F16_1(v_exp_f16, exp2f(a))
V_F16_1(v_log_f16, log2f(a))
V_F16_1(v_floor_f16, floorf(a))
V_F16_1(v_ceil_f16, ceilf(a))
V_F16_1(v_trunc_f16, truncf(a))
V_F16_1(v_rndne_f16, nearbyintf(a))
V_F16_1(v_fract_f16, a - floorf(a))
V_F16_1(v_sin_f16, sinf(6.2831853f * a))
V_F16_1(v_cos_f16, cosf(6.2831853f * a))
V_F16_1(v_frexp_mant_f16, mantissa_f32(a))
/* clang-format on */

OP(v_fmac_f16)
{
	SRC_F16(A, 0);
	SRC_F16(B, 1);
	float R[LANES], D[LANES];

	halves_to_f32(w->v[dest_reg(w, o)], 0, D);
	EACH_LANE(i) R[i] = __builtin_fmaf(A[i], B[i], D[i]);
	put_f16(w, o, R, 0);
}

OP(v_ldexp_f16)
{
	SRC_F16(A, 0);
	SRC_16(B, 1);
	float R[LANES];

	EACH_LANE(i) R[i] = ldexpf(A[i], (i16)B[i]);
	put_f16(w, o, R, 0);
}

OP(v_frexp_exp_i16_f16)
{
	SRC_F16(A, 0);
	u32 R[LANES];

	EACH_LANE(i) R[i] = (u16)exponent_f32(A[i]);
	put_16(w, o, R, 0);
}

OP(v_pack_b32_f16)
{
	SRC_16(A, 0);
	SRC_16(B, 1);
	u32 R[LANES];

	EACH_LANE(i) R[i] = A[i] | B[i] << 16;
	put_32(w, o, R);
}

/* clang-format off */
V_U16_2(v_add_u16, a + b)
V_U16_2(v_sub_u16, a - b)
V_U16_2(v_subrev_u16, b - a)
V_U16_2(v_mul_lo_u16, a * b)
V_U16_2(v_lshlrev_b16, b << (a & 15))
V_U16_2(v_lshrrev_b16, b >> (a & 15))
V_U16_2(v_ashrrev_i16, (i16)b >> (a & 15))
V_U16_2(v_max_u16, max_u32(a, b))
V_U16_2(v_min_u16, min_u32(a, b))
V_U16_2(v_max_i16, (i16)a > (i16)b ? a : b)
V_U16_2(v_min_i16, (i16)a < (i16)b ? a : b)
V_U16_2(v_add_i16, a + b)
V_U16_2(v_sub_i16, a - b)
V_U16_3(v_mad_u16, a * b + c)
V_U16_3(v_mad_i16, a * b + c)
V_U16_3(v_max3_u16, max_u32(max_u32(a, b), c))
V_U16_3(v_min3_u16, min_u32(min_u32(a, b), c))
V_U16_3(v_med3_u16, max_u32(min_u32(a, b), min_u32(max_u32(a, b), c)))
V_U16_3(v_max3_i16, max_i16(max_i16(a, b), c))
V_U16_3(v_min3_i16, min_i16(min_i16(a, b), c))
V_U16_3(v_med3_i16, max_i16(min_i16(a, b), min_i16(max_i16(a, b), c)))
/* clang-format on */

OP(v_mad_u32_u16)
{
	SRC_16(A, 0);
	SRC_16(B, 1);
	SRC_32(C, 2);
	u32 R[LANES];

	EACH_LANE(i) R[i] = A[i] * B[i] + C[i];
	put_32(w, o, R);
}

OP(v_mad_i32_i16)
{
	SRC_16(A, 0);
	SRC_16(B, 1);
	SRC_32(C, 2);
	u32 R[LANES];

	EACH_LANE(i) R[i] = (u32)((i16)A[i] * (i16)B[i]) + C[i];
	put_32(w, o, R);
}

OP_GROUP_END
