/*
 * vector_f64.c: vector arithmetic in fp64. In the expressions a, b, c are a lane's sources. Part of the executor,
 * see exec.h.
 */
#define OP_GROUP vector_f64
#include "emulator/operand.h"

#include <math.h>

#define V_F64_1(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F64(A, 0);                                                                                         \
		double R[LANES] LANE_ALIGNED;                                                                          \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			double a = A[i];                                                                               \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f64(w, o, R);                                                                                      \
	}
#define V_F64_2(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_F64(A, 0);                                                                                         \
		SRC_F64(B, 1);                                                                                         \
		double R[LANES] LANE_ALIGNED;                                                                          \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			double a = A[i], b = B[i];                                                                     \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_f64(w, o, R);                                                                                      \
	}

static inline double
mantissa(double x)
{
	int e;

	return isfinite(x) ? frexp(x, &e) : x;
}

static inline int
exponent(double x)
{
	int e = 0;

	if (isfinite(x))
		frexp(x, &e);
	return e;
}

/* clang-format off */
V_F64_2(v_add_f64, a + b)
V_F64_2(v_mul_f64, a * b)
V_F64_2(v_max_f64, max_f64(a, b))
V_F64_2(v_min_f64, min_f64(a, b))
V_F64_1(v_rcp_f64, 1 / a)
V_F64_1(v_rsq_f64, 1 / sqrt(a))
V_F64_1(v_sqrt_f64, sqrt(a))
V_F64_1(v_floor_f64, floor(a))
V_F64_1(v_ceil_f64, ceil(a))
V_F64_1(v_trunc_f64, trunc(a))
V_F64_1(v_rndne_f64, nearbyint(a))
V_F64_1(v_fract_f64, min_f64(a - floor(a), 0.99999999999999989))
V_F64_1(v_frexp_mant_f64, mantissa(a))
/* clang-format on */

OP(v_fma_f64)
{
	SRC_F64(A, 0);
	SRC_F64(B, 1);
	SRC_F64(C, 2);
	double R[LANES];

	EACH_LANE(i) R[i] = __builtin_fma(A[i], B[i], C[i]);
	put_f64(w, o, R);
}

OP(v_fmac_f64)
{
	SRC_F64(A, 0);
	SRC_F64(B, 1);
	double R[LANES];
	u32 d = dest_reg(w, o);

	EACH_LANE(i) R[i] = __builtin_fma(A[i], B[i], as_f64(w->v[d][i] | (u64)w->v[d + 1][i] << 32));
	put_f64(w, o, R);
}

OP(v_frexp_exp_i32_f64)
{
	SRC_F64(A, 0);
	u32 R[LANES];

	EACH_LANE(i) R[i] = (u32)exponent(A[i]);
	put_32(w, o, R);
}

OP(v_ldexp_f64)
{
	SRC_F64(A, 0);
	SRC_32(B, 1);
	double R[LANES];

	EACH_LANE(i) R[i] = ldexp(A[i], SIGNED(B[i]));
	put_f64(w, o, R);
}

OP_GROUP_END
