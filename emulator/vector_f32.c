/*
 * vector_f32.c: vector arithmetic in fp32. In the expressions a, b, c are a lane's sources. Part of the executor,
 * see exec.h.
 */
#define OP_GROUP vector_f32
#include "emulator/operand.h"

#define V_F32_1(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F32(A, 0);                                                                                         \
		float R[LANES] LANE_ALIGNED;                                                                           \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			float a = A[i];                                                                                \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f32(w, o, R);                                                                                      \
	}
#define V_F32_2(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F32(A, 0);                                                                                         \
		SRC_F32(B, 1);                                                                                         \
		float R[LANES] LANE_ALIGNED;                                                                           \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			float a = A[i], b = B[i];                                                                      \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f32(w, o, R);                                                                                      \
	}
#define V_F32_3(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F32(A, 0);                                                                                         \
		SRC_F32(B, 1);                                                                                         \
		SRC_F32(C, 2);                                                                                         \
		float R[LANES] LANE_ALIGNED;                                                                           \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			float a = A[i], b = B[i], c = C[i];                                                            \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f32(w, o, R);                                                                                      \
	}

#define SMALLEST_NORMAL 1.17549435e-38f

/* v_rcp and v_rsq take denormals as zero whatever the kernel's mode. */
static inline float
flush(float x)
{
	return fabsf(x) < SMALLEST_NORMAL ? copysignf(0, x) : x;
}

/* 2^x to about an ulp, without calls so that it is vectorised; results below the normal range are flushed, as in
 * hardware. 12582912 is 1.5 * 2^23: adding it rounds to an integer. */
static inline float
exp2_flushed(float x)
{
	float c = x < -150.0f ? -150.0f : x > 129.0f ? 129.0f : x;
	float n = (c + 12582912.0f) - 12582912.0f, f = c - n, p = 1.5252733804e-5f, r;
	i32 e = (i32)n;

	p = __builtin_fmaf(p, f, 1.5403530393e-4f);
	p = __builtin_fmaf(p, f, 1.3333558146e-3f);
	p = __builtin_fmaf(p, f, 9.6181291076e-3f);
	p = __builtin_fmaf(p, f, 5.5504108665e-2f);
	p = __builtin_fmaf(p, f, 2.4022650696e-1f);
	p = __builtin_fmaf(p, f, 6.9314718056e-1f);
	p = __builtin_fmaf(p, f, 1.0f);
	/* in two steps: 2^128 and 2^-149 are no floats to multiply by */
	r = p * as_f32((u32)((e >> 1) + 127) << 23) * as_f32((u32)((e - (e >> 1)) + 127) << 23);
	r = x >= 128.0f ? INFINITY : r;
	r = r < SMALLEST_NORMAL ? 0.0f : r;
	return x != x ? x : r;
}

/* clang-format off */
V_F32_2(v_add_f32, a + b)
V_F32_2(v_sub_f32, a - b)
V_F32_2(v_subrev_f32, b - a)
V_F32_2(v_mul_f32, a * b)
V_F32_2(v_mul_legacy_f32, (a == 0 || b == 0) ? 0 : a * b)
V_F32_2(v_max_f32, max_f32(a, b))
V_F32_2(v_min_f32, min_f32(a, b))
V_F32_3(v_fma_f32, __builtin_fmaf(a, b, c))
V_F32_3(v_fmaak_f32, __builtin_fmaf(a, b, c))
V_F32_3(v_fmamk_f32, __builtin_fmaf(a, b, c))
V_F32_3(v_mad_f32, a * b + c)
V_F32_3(v_max3_f32, max_f32(max_f32(a, b), c))
V_F32_3(v_min3_f32, min_f32(min_f32(a, b), c))
V_F32_3(v_med3_f32, med3_f32(a, b, c))
/* clang-format on */

OP(v_fmac_f32)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	const float *D = (const float *)w->v[dest_reg(w, o)];
	float R[LANES] LANE_ALIGNED;

	EACH_LANE(i) R[i] = __builtin_fmaf(A[i], B[i], D[i]);
	put_f32(w, o, R);
}
OP_ALIAS(v_mac_f32, op_v_fmac_f32, 1)

V_F32_1(v_rcp_f32, 1.0f / flush(a))
V_F32_1(v_rcp_iflag_f32, 1.0f / flush(a))
V_F32_1(v_rsq_f32, (float)(1.0 / sqrt((double)flush(a))))
V_F32_1(v_sqrt_f32, sqrtf(a))
V_F32_1(v_exp_f32, exp2_flushed(a))
V_F32_1(v_log_f32, log2f(a))
V_F32_1(v_sin_f32, (float)sin(6.283185307179586 * (double)a))
V_F32_1(v_cos_f32, (float)cos(6.283185307179586 * (double)a))
V_F32_1(v_floor_f32, floorf(a))
V_F32_1(v_ceil_f32, ceilf(a))
V_F32_1(v_trunc_f32, truncf(a))
V_F32_1(v_rndne_f32, nearbyintf(a))
V_F32_1(v_fract_f32, min_f32(a - floorf(a), 0.99999994f))
V_F32_1(v_frexp_mant_f32, mantissa_f32(a))

OP(v_frexp_exp_i32_f32)
{
	SRC_F32(A, 0);
	u32 R[LANES];

	EACH_LANE(i) R[i] = (u32)exponent_f32(A[i]);
	put_32(w, o, R);
}

OP(v_ldexp_f32)
{
	SRC_F32(A, 0);
	SRC_32(B, 1);
	float R[LANES];

	EACH_LANE(i) R[i] = ldexpf(A[i], SIGNED(B[i]));
	put_f32(w, o, R);
}

/* Pairs of floats in neighbouring registers; op_sel picks the register for the low and for the high result. */
static void
read_pair(struct wave *w, const struct op *o, int k, float *lo, float *hi)
{
	const struct operand *p = &o->s[k];
	int low = o->op_sel >> k & 1, high = o->op_sel_hi >> k & 1;
	u32 flip_lo = (o->neg_lo >> k & 1) ? 0x80000000 : 0, flip_hi = (o->neg_hi >> k & 1) ? 0x80000000 : 0;
	u32 a = p->imm32, b = p->imm32;

	if (p->kind == OPERAND_V) {
		const u32(*v)[LANES] = (const u32(*)[LANES])w->v[source_reg(w, p, k)];

		EACH_LANE(i) lo[i] = as_f32(v[low][i] ^ flip_lo);
		EACH_LANE(i) hi[i] = as_f32(v[high][i] ^ flip_hi);
		return;
	}
	if (p->kind == OPERAND_S) {
		a = w->s[p->reg + (p->n > 1 ? low : 0)];
		b = w->s[p->reg + (p->n > 1 ? high : 0)];
	}
	EACH_LANE(i) lo[i] = as_f32(a ^ flip_lo);
	EACH_LANE(i) hi[i] = as_f32(b ^ flip_hi);
}

static void
put_pair(struct wave *w, const struct op *o, float (*r)[LANES])
{
	u32 d = dest_reg(w, o);

	for (int h = 0; h < 2; h++) {
		if (o->clamp)
			EACH_LANE(i) r[h][i] = output_modifiers(o, r[h][i]);
		store_lanes(w->v[d + h], (const u32 *)r[h], EXEC(w));
	}
}

#define V_PK_F32(nm, n, expr)                                                                                          \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		float A[2][LANES] LANE_ALIGNED, B[2][LANES] LANE_ALIGNED, C[2][LANES] LANE_ALIGNED;                    \
		float R[2][LANES] LANE_ALIGNED;                                                                        \
		read_pair(w, o, 0, A[0], A[1]);                                                                        \
		read_pair(w, o, 1, B[0], B[1]);                                                                        \
		if (n > 2)                                                                                             \
			read_pair(w, o, 2, C[0], C[1]);                                                                \
		for (int h = 0; h < 2; h++)                                                                            \
			EACH_LANE(i)                                                                                   \
			{                                                                                              \
				float a = A[h][i], b = B[h][i], c = n > 2 ? C[h][i] : 0;                               \
				(void)c;                                                                               \
				R[h][i] = (expr);                                                                      \
			}                                                                                              \
		put_pair(w, o, R);                                                                                     \
	}

/* clang-format off */
V_PK_F32(v_pk_mul_f32, 2, a * b)
V_PK_F32(v_pk_add_f32, 2, a + b)
V_PK_F32(v_pk_fma_f32, 3, __builtin_fmaf(a, b, c))
/* clang-format on */

/* op_sel alone says which registers are moved. */
OP(v_pk_mov_b32)
{
	float A[2][LANES], B[2][LANES];
	struct op plain = *o;

	plain.neg_lo = plain.neg_hi = 0;
	plain.op_sel_hi = plain.op_sel;
	read_pair(w, &plain, 0, A[0], A[1]);
	read_pair(w, &plain, 1, B[0], B[1]);
	store_lanes(w->v[o->d.reg], (const u32 *)A[0], EXEC(w));
	store_lanes(w->v[o->d.reg + 1], (const u32 *)B[1], EXEC(w));
}

OP_GROUP_END
