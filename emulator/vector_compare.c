/*
 * vector_compare.c: v_cmp and v_cmpx: one bit for each active lane into a scalar pair, v_cmpx into EXEC as well.
 * Part of the executor, see exec.h.
 */
#define OP_GROUP vector_compare
#include "emulator/operand.h"

#define V_COMPARE(nm, src, type, expr)                                                                                 \
	static u64 compare_##nm(struct wave *w, const struct op *o)                                                    \
	{                                                                                                              \
		src(A, 0);                                                                                             \
		src(B, 1);                                                                                             \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			type a = (type)A[i], b = (type)B[i];                                                           \
			(void)a;                                                                                       \
			(void)b;                                                                                       \
			R[i] = (expr) ? 1 : 0;                                                                         \
		}                                                                                                      \
		return nonzero_lanes(R) & write_mask(w, o);                                                            \
	}                                                                                                              \
	OP(v_cmp_##nm)                                                                                                 \
	{                                                                                                              \
		set_scalar_64(w, &o->d, compare_##nm(w, o));                                                           \
	}                                                                                                              \
	OP(v_cmpx_##nm)                                                                                                \
	{                                                                                                              \
		u64 m = compare_##nm(w, o);                                                                            \
		set_scalar_64(w, &o->d, m);                                                                            \
		EXEC(w) = m;                                                                                           \
	}

#define V_COMPARE_INT(t, src, type)                                                                                    \
	V_COMPARE(f_##t, src, type, 0)                                                                                 \
	V_COMPARE(lt_##t, src, type, a < b)                                                                            \
	V_COMPARE(eq_##t, src, type, a == b)                                                                           \
	V_COMPARE(le_##t, src, type, a <= b)                                                                           \
	V_COMPARE(gt_##t, src, type, a > b)                                                                            \
	V_COMPARE(ne_##t, src, type, a != b)                                                                           \
	V_COMPARE(ge_##t, src, type, a >= b)                                                                           \
	V_COMPARE(t_##t, src, type, 1)

/* The n... forms are true for unordered operands, the plain ones false. */
#define V_COMPARE_FLOAT(t, src, type)                                                                                  \
	V_COMPARE(f_##t, src, type, 0)                                                                                 \
	V_COMPARE(lt_##t, src, type, a < b)                                                                            \
	V_COMPARE(eq_##t, src, type, a == b)                                                                           \
	V_COMPARE(le_##t, src, type, a <= b)                                                                           \
	V_COMPARE(gt_##t, src, type, a > b)                                                                            \
	V_COMPARE(lg_##t, src, type, (a < b) | (a > b))                                                                \
	V_COMPARE(ge_##t, src, type, a >= b)                                                                           \
	V_COMPARE(o_##t, src, type, (a == a) & (b == b))                                                               \
	V_COMPARE(u_##t, src, type, (a != a) | (b != b))                                                               \
	V_COMPARE(nge_##t, src, type, !(a >= b))                                                                       \
	V_COMPARE(nlg_##t, src, type, !((a < b) | (a > b)))                                                            \
	V_COMPARE(ngt_##t, src, type, !(a > b))                                                                        \
	V_COMPARE(nle_##t, src, type, !(a <= b))                                                                       \
	V_COMPARE(neq_##t, src, type, !(a == b))                                                                       \
	V_COMPARE(nlt_##t, src, type, !(a < b))                                                                        \
	V_COMPARE(tru_##t, src, type, 1)

V_COMPARE_INT(i32, SRC_32, i32)
V_COMPARE_INT(u32, SRC_32, u32)
V_COMPARE_INT(i64, SRC_64, i64)
V_COMPARE_INT(u64, SRC_64, u64)
V_COMPARE_INT(i16, SRC_16, i16)
V_COMPARE_INT(u16, SRC_16, u16)
V_COMPARE_FLOAT(f32, SRC_F32, float)
V_COMPARE_FLOAT(f64, SRC_F64, double)
V_COMPARE_FLOAT(f16, SRC_F16, float)

/* v_cmp_class: bits of the mask, in the hardware's order. */
enum {
	CLASS_SNAN = 1 << 0,
	CLASS_QNAN = 1 << 1,
	CLASS_NEG_INF = 1 << 2,
	CLASS_NEG_NORMAL = 1 << 3,
	CLASS_NEG_DENORMAL = 1 << 4,
	CLASS_NEG_ZERO = 1 << 5,
	CLASS_POS_ZERO = 1 << 6,
	CLASS_POS_DENORMAL = 1 << 7,
	CLASS_POS_NORMAL = 1 << 8,
	CLASS_POS_INF = 1 << 9
};

/* The class of a float of the given width: exponent and fraction fields tell. */
static inline int
float_class(u64 x, int exponent_bits, int fraction_bits)
{
	u64 top = ((u64)1 << exponent_bits) - 1, e = x >> fraction_bits & top;
	u64 fraction = x & (((u64)1 << fraction_bits) - 1);
	int negative = x >> (exponent_bits + fraction_bits) & 1;

	if (e == top && fraction != 0)
		return fraction >> (fraction_bits - 1) ? CLASS_QNAN : CLASS_SNAN;
	if (e == top)
		return negative ? CLASS_NEG_INF : CLASS_POS_INF;
	if (e == 0 && fraction == 0)
		return negative ? CLASS_NEG_ZERO : CLASS_POS_ZERO;
	if (e == 0)
		return negative ? CLASS_NEG_DENORMAL : CLASS_POS_DENORMAL;
	return negative ? CLASS_NEG_NORMAL : CLASS_POS_NORMAL;
}

#define V_CLASS(t, src, src_mask, exponent_bits, fraction_bits)                                                        \
	static u64 class_##t(struct wave *w, const struct op *o)                                                       \
	{                                                                                                              \
		src(A, 0);                                                                                             \
		src_mask(B, 1);                                                                                        \
		u64 m = 0;                                                                                             \
		EACH_LANE(i) m |= (u64)((B[i] & float_class(A[i], exponent_bits, fraction_bits)) != 0) << i;           \
		return m & EXEC(w);                                                                                    \
	}                                                                                                              \
	OP(v_cmp_class_##t)                                                                                            \
	{                                                                                                              \
		set_scalar_64(w, &o->d, class_##t(w, o));                                                              \
	}                                                                                                              \
	OP(v_cmpx_class_##t)                                                                                           \
	{                                                                                                              \
		u64 m = class_##t(w, o);                                                                               \
		set_scalar_64(w, &o->d, m);                                                                            \
		EXEC(w) = m;                                                                                           \
	}

V_CLASS(f32, SRC_32, SRC_32, 8, 23)
V_CLASS(f64, SRC_64, SRC_32, 11, 52)
V_CLASS(f16, SRC_16, SRC_16, 5, 10)

OP_GROUP_END
