/*
 * vector_div.c: the steps from which compilers build correctly rounded division: v_div_scale keeps the operands of
 * the Newton iteration in range, v_div_fmas scales back, v_div_fixup puts the special cases right. Part of the
 * executor, see exec.h.
 */
#define OP_GROUP vector_div
#include "emulator/operand.h"

#include <math.h>

/* What the two widths differ in. */
struct format {
	int far;      /* numerator so much larger that the quotient needs scaling */
	int top;      /* exponent from which the reciprocal is a denormal */
	int bias;     /* of the exponent */
	int digits;   /* of the significand */
	int scale;    /* the power of two to scale by */
	int none;     /* stands for the exponent of a numerator that has none */
	double least; /* smallest normal */
};
static const struct format f32_format = {96, 126, 127, 23, 64, -200, 1.17549435082228751e-38};
static const struct format f64_format = {768, 1022, 1023, 53, 128, -2000, 2.2250738585072014e-308};

/*
 * a is the operand to scale: b, the denominator, or c, the numerator. *flag goes to VCC: v_div_fmas must scale the
 * quotient. Exact in double for either width, as only powers of two are multiplied by.
 */
static double
div_scale(const struct format *f, double a, double b, double c, int *flag)
{
	int eb = b == 0 || !isfinite(b) ? 0 : ilogb(b);
	int ec = c == 0 || !isfinite(c) ? f->none : ilogb(c);

	*flag = 0;
	if (b == 0 || c == 0)
		return NAN;
	if (ec - eb >= f->far) {
		*flag = 1;
		return a == b ? ldexp(a, f->scale) : a;
	}
	if (fabs(b) < f->least)
		return ldexp(a, f->scale);
	if (eb >= f->top && ec - eb < -f->top) {
		*flag = 1;
		return a == b ? ldexp(a, -f->scale) : a;
	}
	if (eb >= f->top)
		return ldexp(a, -f->scale);
	if (ec - eb < -f->top) {
		*flag = 1;
		return a == c ? ldexp(a, f->scale) : a;
	}
	if (ec + f->bias <= f->digits)
		return ldexp(a, f->scale);
	return a;
}

OP_N(v_div_scale_f32, 2)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	SRC_F32(C, 2);
	float R[LANES];
	u64 flags = 0;

	EACH_LANE(i)
	{
		int flag;

		R[i] = (float)div_scale(&f32_format, A[i], B[i], C[i], &flag);
		flags |= (u64)flag << i;
	}
	put_f32(w, o, R);
	set_scalar_64(w, &o->d2, flags & EXEC(w));
}

OP_N(v_div_scale_f64, 2)
{
	SRC_F64(A, 0);
	SRC_F64(B, 1);
	SRC_F64(C, 2);
	double R[LANES];
	u64 flags = 0;

	EACH_LANE(i)
	{
		int flag;

		R[i] = div_scale(&f64_format, A[i], B[i], C[i], &flag);
		flags |= (u64)flag << i;
	}
	put_f64(w, o, R);
	set_scalar_64(w, &o->d2, flags & EXEC(w));
}

OP(v_div_fmas_f32)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	SRC_F32(C, 2);
	float R[LANES];
	u64 flags = VCC(w);

	EACH_LANE(i)
	{
		float x = __builtin_fmaf(A[i], B[i], C[i]);

		R[i] = flags >> i & 1 ? ldexpf(x, fabsf(C[i]) >= 2.0f ? 64 : -64) : x;
	}
	put_f32(w, o, R);
}

OP(v_div_fmas_f64)
{
	SRC_F64(A, 0);
	SRC_F64(B, 1);
	SRC_F64(C, 2);
	double R[LANES];
	u64 flags = VCC(w);

	EACH_LANE(i)
	{
		double x = __builtin_fma(A[i], B[i], C[i]);

		R[i] = flags >> i & 1 ? ldexp(x, fabs(C[i]) >= 2.0 ? 128 : -128) : x;
	}
	put_f64(w, o, R);
}

/* q is the quotient so far, b the denominator, c the numerator. */
static inline double
div_fixup(double q, double b, double c)
{
	double sign = (!!signbit(b)) ^ (!!signbit(c)) ? -1.0 : 1.0;

	if (c != c)
		return c;
	if (b != b)
		return b;
	if ((b == 0 && c == 0) || (isinf(b) && isinf(c)))
		return NAN;
	if (b == 0 || isinf(c))
		return sign * (double)INFINITY;
	if (isinf(b) || c == 0)
		return sign * 0.0;
	if (q != q)
		return sign * (double)INFINITY;
	return copysign(q, sign);
}

OP(v_div_fixup_f32)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	SRC_F32(C, 2);
	float R[LANES];

	EACH_LANE(i) R[i] = (float)div_fixup(A[i], B[i], C[i]);
	put_f32(w, o, R);
}

OP(v_div_fixup_f64)
{
	SRC_F64(A, 0);
	SRC_F64(B, 1);
	SRC_F64(C, 2);
	double R[LANES];

	EACH_LANE(i) R[i] = div_fixup(A[i], B[i], C[i]);
	put_f64(w, o, R);
}

OP(v_div_fixup_f16)
{
	SRC_F16(A, 0);
	SRC_F16(B, 1);
	SRC_F16(C, 2);
	float R[LANES];

	EACH_LANE(i) R[i] = (float)div_fixup(A[i], B[i], C[i]);
	put_f16(w, o, R, 1);
}

OP_GROUP_END
