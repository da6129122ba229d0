/*
 * vector_convert.c: conversions between number formats. In the expressions a is a lane's source. Part of the
 * executor, see exec.h.
 */
#define OP_GROUP vector_convert
#include "emulator/fp8.h"
#include "emulator/operand.h"

#include <math.h>

/* V_CONVERT(instruction, source reader, source type, result type, how to write it, expression) */
#define V_CONVERT(nm, src, from, to, put, expr)                                                                        \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		src(A, 0);                                                                                             \
		to R[LANES] LANE_ALIGNED;                                                                              \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			from a = A[i];                                                                                 \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put;                                                                                                   \
	}
#define TO_F32 put_f32(w, o, R)
#define TO_U32 put_32(w, o, R)
#define TO_F64 put_f64(w, o, R)
#define TO_F16 put_f16(w, o, R, 0)
#define TO_U16 put_16(w, o, R, 0)

/* Out of range gives the nearest integer, NaN gives zero. */
static inline u32
to_u32(double x)
{
	return !(x > 0) ? 0 : x >= 4294967295.0 ? ~0u : (u32)x;
}

static inline u32
to_i32(double x)
{
	return x != x ? 0 : x <= -2147483648.0 ? 0x80000000 : x >= 2147483647.0 ? 0x7fffffff : (u32)(i32)x;
}

static inline u32
to_i16(float x)
{
	return x != x ? 0 : x <= -32768 ? 0x8000 : x >= 32767 ? 32767 : (u16)(i16)x;
}

/* Rounded and held within bounds. */
static inline i32
to_bounds(double x, i32 lo, i32 hi)
{
	return x != x ? 0 : x <= lo ? lo : x >= hi ? hi : (i32)nearbyint(x);
}

V_CONVERT(v_cvt_f32_u32, SRC_32, u32, float, TO_F32, (float)a)
V_CONVERT(v_cvt_f32_i32, SRC_32, u32, float, TO_F32, (float)SIGNED(a))
V_CONVERT(v_cvt_u32_f32, SRC_F32, float, u32, TO_U32, to_u32(a))
V_CONVERT(v_cvt_i32_f32, SRC_F32, float, u32, TO_U32, to_i32(a))
V_CONVERT(v_cvt_rpi_i32_f32, SRC_F32, float, u32, TO_U32, to_i32(floor((double)a + 0.5)))
V_CONVERT(v_cvt_flr_i32_f32, SRC_F32, float, u32, TO_U32, to_i32(floor((double)a)))
V_CONVERT(v_cvt_f32_f16, SRC_F16, float, float, TO_F32, a)
V_CONVERT(v_cvt_f16_f32, SRC_F32, float, float, TO_F16, a)
V_CONVERT(v_cvt_f64_f32, SRC_F32, float, double, TO_F64, a)
V_CONVERT(v_cvt_f64_i32, SRC_32, u32, double, TO_F64, (double)SIGNED(a))
V_CONVERT(v_cvt_f64_u32, SRC_32, u32, double, TO_F64, a)
V_CONVERT(v_cvt_f32_f64, SRC_F64, double, float, TO_F32, (float)a)
V_CONVERT(v_cvt_i32_f64, SRC_F64, double, u32, TO_U32, to_i32(a))
V_CONVERT(v_cvt_u32_f64, SRC_F64, double, u32, TO_U32, to_u32(a))
V_CONVERT(v_cvt_f32_ubyte0, SRC_32, u32, float, TO_F32, (float)(a & 255))
V_CONVERT(v_cvt_f32_ubyte1, SRC_32, u32, float, TO_F32, (float)(a >> 8 & 255))
V_CONVERT(v_cvt_f32_ubyte2, SRC_32, u32, float, TO_F32, (float)(a >> 16 & 255))
V_CONVERT(v_cvt_f32_ubyte3, SRC_32, u32, float, TO_F32, (float)(a >> 24))
V_CONVERT(v_cvt_off_f32_i4, SRC_32, u32, float, TO_F32, (float)(SIGNED(a << 28) >> 28) * 0.0625f)
V_CONVERT(v_cvt_f16_u16, SRC_16, u32, float, TO_F16, (float)(u16)a)
V_CONVERT(v_cvt_f16_i16, SRC_16, u32, float, TO_F16, (float)(i16)a)
V_CONVERT(v_cvt_u16_f16, SRC_F16, float, u32, TO_U16, !(a > 0) ? 0 : a >= 65535 ? 65535 : (u32)a)
V_CONVERT(v_cvt_i16_f16, SRC_F16, float, u32, TO_U16, to_i16(a))

static inline u32
to_half_toward_zero(float x)
{
	u32 h = f32_to_half(x);

	return x == x && fabsf(half_to_f32(h)) > fabsf(x) ? h - 1 : h;
}

OP(v_cvt_pkrtz_f16_f32)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	u32 R[LANES];

	EACH_LANE(i) R[i] = to_half_toward_zero(A[i]) | to_half_toward_zero(B[i]) << 16;
	put_32(w, o, R);
}

OP(v_cvt_pknorm_i16_f32)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	u32 R[LANES];

	EACH_LANE(i)
	{
		i32 lo = to_bounds(A[i] * 32767.0, -32767, 32767), hi = to_bounds(B[i] * 32767.0, -32767, 32767);

		R[i] = (u16)lo | (u32)(u16)hi << 16;
	}
	put_32(w, o, R);
}

OP(v_cvt_pk_u8_f32)
{
	SRC_F32(A, 0);
	SRC_32(B, 1);
	SRC_32(C, 2);
	u32 R[LANES];

	EACH_LANE(i)
	{
		u32 shift = (B[i] & 3) * 8;

		R[i] = (C[i] & ~(255u << shift)) | (u32)to_bounds(A[i], 0, 255) << shift;
	}
	put_32(w, o, R);
}

/* fp8: op_sel's destination bit picks the half that is written, the other stays. */
static void
pack_fp8(struct wave *w, const struct op *o, enum fp8_kind kind)
{
	SRC_F32(A, 0);
	SRC_F32(B, 1);
	const u32 *d = w->v[dest_reg(w, o)];
	u32 R[LANES];

	EACH_LANE(i)
	{
		u32 x = emu_fp8_from_f32(A[i], kind) | (u32)emu_fp8_from_f32(B[i], kind) << 8;

		R[i] = (o->op_sel & 12) ? (d[i] & 0xffff) | x << 16 : (d[i] & 0xffff0000) | x;
	}
	put_32(w, o, R);
}

OP(v_cvt_pk_fp8_f32)
{
	pack_fp8(w, o, FP8_E4M3);
}

OP(v_cvt_pk_bf8_f32)
{
	pack_fp8(w, o, FP8_E5M2);
}

static void
unpack_fp8(struct wave *w, const struct op *o, enum fp8_kind kind)
{
	SRC_32(A, 0);
	float R[LANES];
	struct op whole = *o;

	EACH_LANE(i) R[i] = emu_fp8_values[kind][A[i] & 255];
	whole.sdwa = 0; /* SDWA picks the source's byte only */
	put_f32(w, &whole, R);
}

OP(v_cvt_f32_fp8)
{
	unpack_fp8(w, o, FP8_E4M3);
}

OP(v_cvt_f32_bf8)
{
	unpack_fp8(w, o, FP8_E5M2);
}

static void
unpack_fp8_pair(struct wave *w, const struct op *o, enum fp8_kind kind)
{
	SRC_32(A, 0);
	const float *value = emu_fp8_values[kind];
	u64 R[LANES];

	EACH_LANE(i) R[i] = as_u32(value[A[i] & 255]) | (u64)as_u32(value[A[i] >> 8 & 255]) << 32;
	put_64(w, o, R);
}

OP(v_cvt_pk_f32_fp8)
{
	unpack_fp8_pair(w, o, FP8_E4M3);
}

OP(v_cvt_pk_f32_bf8)
{
	unpack_fp8_pair(w, o, FP8_E5M2);
}

OP_GROUP_END
