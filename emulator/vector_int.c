/*
 * vector_int.c: vector integer arithmetic, bit operations, moves between lanes and scalar registers. In the
 * expressions a, b, c are a lane's sources and i is its number. Part of the executor, see exec.h.
 */
#define OP_GROUP vector_int
#include "emulator/operand.h"

#define V_U32_1(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_32(A, 0);                                                                                          \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i];                                                                                  \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_32(w, o, R);                                                                                       \
	}
#define V_U32_2(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_32(A, 0);                                                                                          \
		SRC_32(B, 1);                                                                                          \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i], b = B[i];                                                                        \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_32(w, o, R);                                                                                       \
	}
#define V_U32_3(nm, expr)                                                                                              \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_32(A, 0);                                                                                          \
		SRC_32(B, 1);                                                                                          \
		SRC_32(C, 2);                                                                                          \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i], b = B[i], c = C[i];                                                              \
			R[i] = (expr);                                                                                 \
		}                                                                                                      \
		put_32(w, o, R);                                                                                       \
	}

static inline i32
signed_24(u32 x)
{
	return SIGNED(x << 8) >> 8;
}

/* The low `bits` bits, none if 0. */
static inline i32
sign_extend(u32 x, u32 bits)
{
	return bits != 0 ? SIGNED(x << (32 - bits)) >> (32 - bits) : 0;
}

static inline u32
clamp_i32(i64 x, int clamp)
{
	if (clamp)
		x = x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : x;
	return (u32)x;
}

static inline u16
clamp_i16(u32 x)
{
	return (u16)max_i32(min_i32(x, 32767), (u32)-32768);
}

static inline u32
reverse_bits(u32 x)
{
	x = __builtin_bswap32(x);
	x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
	x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
	return (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
}

static inline u32
difference(u32 a, u32 b)
{
	return a > b ? a - b : b - a;
}

static inline u32
difference_bytes(u32 a, u32 b)
{
	return difference(a & 255, b & 255) + difference(a >> 8 & 255, b >> 8 & 255) +
	       difference(a >> 16 & 255, b >> 16 & 255) + difference(a >> 24, b >> 24);
}

/* Moves. */
V_U32_1(v_mov_b32, a)
OP_ALIAS(v_accvgpr_read_b32, op_v_mov_b32, 1)
OP_ALIAS(v_accvgpr_write_b32, op_v_mov_b32, 1)
OP_ALIAS(v_accvgpr_mov_b32, op_v_mov_b32, 1)

OP(v_mov_b64)
{
	SRC_64(A, 0);

	put_64(w, o, A);
}

OP(v_swap_b32)
{
	u32 *a = w->v[o->d.reg], *b = w->v[o->s[0].reg], t[LANES];

	memcpy(t, a, sizeof t);
	store_lanes(a, b, EXEC(w));
	store_lanes(b, t, EXEC(w));
}

OP(v_nop)
{
}

OP(v_clrexcp)
{
}

static u32
one_lane(struct wave *w, const struct op *o, u32 lane)
{
	const struct operand *p = &o->s[0];

	return p->kind == OPERAND_V ? w->v[source_reg(w, p, 0)][lane] : scalar_32(w, p);
}

OP(v_readfirstlane_b32)
{
	u64 exec = EXEC(w);

	set_scalar_32(w, &o->d, one_lane(w, o, exec != 0 ? (u32)__builtin_ctzll(exec) : 0));
}

OP(v_readlane_b32)
{
	set_scalar_32(w, &o->d, one_lane(w, o, scalar_32(w, &o->s[1]) & 63));
}

OP(v_writelane_b32)
{
	w->v[dest_reg(w, o)][scalar_32(w, &o->s[1]) & 63] = scalar_32(w, &o->s[0]);
}

OP(v_cndmask_b32)
{
	SRC_32(A, 0);
	SRC_32(B, 1);
	u64 mask = scalar_64(w, &o->s[2]);
	u32 R[LANES] LANE_ALIGNED;

	memcpy(R, A, sizeof R);
	store_lanes(R, B, mask);
	put_32(w, o, R);
}

/* One source. */
V_U32_1(v_not_b32, ~a)
V_U32_1(v_bfrev_b32, reverse_bits(a))
V_U32_1(v_ffbh_u32, a ? (u32)__builtin_clz(a) : ~0u)
V_U32_1(v_ffbl_b32, a ? (u32)__builtin_ctz(a) : ~0u)
V_U32_1(v_ffbh_i32, (a == 0 || a == ~0u) ? ~0u : (u32)__builtin_clrsb(SIGNED(a)) + 1)

/* Two and three; shifts have the count first. */
/* clang-format off */
V_U32_2(v_add_u32, o->clamp &&a + b < a ? ~0u : a + b)
V_U32_2(v_sub_u32, o->clamp &&b > a ? 0 : a - b)
V_U32_2(v_subrev_u32, o->clamp &&a > b ? 0 : b - a)
V_U32_2(v_add_i32, clamp_i32((i64)SIGNED(a) + SIGNED(b), o->clamp))
V_U32_2(v_sub_i32, clamp_i32((i64)SIGNED(a) - SIGNED(b), o->clamp))
V_U32_2(v_and_b32, a & b)
V_U32_2(v_or_b32, a | b)
V_U32_2(v_xor_b32, a ^ b)
V_U32_2(v_xnor_b32, ~(a ^ b))
V_U32_2(v_lshlrev_b32, b << (a & 31))
V_U32_2(v_lshrrev_b32, b >> (a & 31))
V_U32_2(v_ashrrev_i32, SIGNED(b) >> (a & 31))
V_U32_2(v_mul_lo_u32, a * b)
V_U32_2(v_mul_hi_u32, (u64)a * b >> 32)
V_U32_2(v_mul_hi_i32, (u32)((i64)SIGNED(a) * SIGNED(b) >> 32))
V_U32_2(v_mul_u32_u24, (a & 0xffffff) * (b & 0xffffff))
V_U32_2(v_mul_i32_i24, (u32)signed_24(a) * (u32)signed_24(b))
V_U32_2(v_mul_hi_u32_u24, (u64)(a & 0xffffff) * (b & 0xffffff) >> 32)
V_U32_2(v_mul_hi_i32_i24, (u32)((i64)signed_24(a) * signed_24(b) >> 32))
V_U32_2(v_max_u32, max_u32(a, b))
V_U32_2(v_min_u32, min_u32(a, b))
V_U32_2(v_max_i32, max_i32(a, b))
V_U32_2(v_min_i32, min_i32(a, b))
V_U32_2(v_bfm_b32, ((1u << (a & 31)) - 1) << (b & 31))
V_U32_2(v_bcnt_u32_b32, __builtin_popcount(a) + b)
V_U32_3(v_mad_u32_u24, (a & 0xffffff) * (b & 0xffffff) + c)
V_U32_3(v_mad_i32_i24, (u32)signed_24(a) * (u32)signed_24(b) + c)
V_U32_3(v_add3_u32, a + b + c)
V_U32_3(v_lshl_add_u32, (a << (b & 31)) + c)
V_U32_3(v_add_lshl_u32, (a + b) << (c & 31))
V_U32_3(v_xad_u32, (a ^ b) + c)
V_U32_3(v_lshl_or_b32, a << (b & 31) | c)
V_U32_3(v_and_or_b32, (a & b) | c)
V_U32_3(v_or3_b32, a | b | c)
V_U32_3(v_bfe_u32, (a >> (b & 31)) & ((c & 31) ? (1u << (c & 31)) - 1 : 0))
V_U32_3(v_bfe_i32, (u32)sign_extend((u32)(SIGNED(a) >> (b & 31)), c & 31))
V_U32_3(v_bfi_b32, (a & b) | (~a & c))
V_U32_3(v_alignbit_b32, (u32)(((u64)a << 32 | b) >> (c & 31)))
V_U32_3(v_alignbyte_b32, (u32)(((u64)a << 32 | b) >> 8 * (c & 3)))
V_U32_3(v_max3_u32, max_u32(max_u32(a, b), c))
V_U32_3(v_min3_u32, min_u32(min_u32(a, b), c))
V_U32_3(v_max3_i32, max_i32(max_i32(a, b), c))
V_U32_3(v_min3_i32, min_i32(min_i32(a, b), c))
V_U32_3(v_med3_u32, max_u32(min_u32(a, b), min_u32(max_u32(a, b), c)))
V_U32_3(v_med3_i32, max_i32(min_i32(a, b), min_i32(max_i32(a, b), c)))
V_U32_3(v_sad_u32, difference(a, b) + c)
V_U32_3(v_sad_u8, difference_bytes(a, b) + c)
V_U32_3(v_sad_u16, difference(a & 0xffff, b & 0xffff) + difference(a >> 16, b >> 16) + c)
V_U32_3(v_sad_hi_u8, (difference_bytes(a, b) << 16) + c)
V_U32_2(v_cvt_pk_u16_u32, min_u32(a, 65535) | min_u32(b, 65535) << 16)
V_U32_2(v_cvt_pk_i16_i32, clamp_i16(a) | (u32)clamp_i16(b) << 16)
V_U32_2(v_mbcnt_lo_u32_b32, (u32)__builtin_popcount(a &(i >= 32 ? ~0u : (1u << i) - 1)) + b)
V_U32_2(v_mbcnt_hi_u32_b32, (u32)__builtin_popcount(a &(i < 32 ? 0 : (1u << (i - 32)) - 1)) + b)
/* clang-format on */

/* A byte of the eight in d, or a constant, as the selector says. */
static inline u32
permute_byte(u64 d, u32 selector)
{
	u32 s = selector & 255;

	if (s < 8)
		return d >> 8 * s & 255;
	if (s >= 13)
		return 255;
	if (s == 12)
		return 0;
	return (d >> (16 * (s - 8) + 15) & 1) ? 255 : 0; /* the sign of byte 1, 3, 5 or 7 */
}

OP(v_perm_b32)
{
	SRC_32(A, 0);
	SRC_32(B, 1);
	SRC_32(C, 2);
	u32 R[LANES] LANE_ALIGNED = {0};

	if (o->s[2].kind == OPERAND_V) {
		EACH_LANE(i)
		{
			u64 d = (u64)A[i] << 32 | B[i];
			u32 s = C[i];

			R[i] = permute_byte(d, s) | permute_byte(d, s >> 8) << 8 | permute_byte(d, s >> 16) << 16 |
			       permute_byte(d, s >> 24) << 24;
		}
		put_32(w, o, R);
		return;
	}
	/* The same selector for all lanes, as kernels that pack bf16 have it: byte by byte, so that it is vectorised. */
	for (int byte = 0; byte < 4; byte++) {
		u32 s = C[0] >> 8 * byte & 255;

		if (s < 8) {
			const u32 *from = s < 4 ? B : A;
			int shift = 8 * (s & 3);

			EACH_LANE(i) R[i] |= (from[i] >> shift & 255) << 8 * byte;
		} else {
			EACH_LANE(i) R[i] |= permute_byte((u64)A[i] << 32 | B[i], s) << 8 * byte;
		}
	}
	put_32(w, o, R);
}

/*
 * Carries: d2 is the carry out, s[2] the carry in (c, if the instruction has one). x is the sum in 64 bits, `limit`
 * what the result becomes on overflow with clamp.
 */
#define V_CARRY(nm, limit, sum, carry, carry_in)                                                                       \
	OP_N(nm, 2)                                                                                                    \
	{                                                                                                              \
		SRC_32(A, 0);                                                                                          \
		SRC_32(B, 1);                                                                                          \
		u64 in = carry_in, out = 0;                                                                            \
		u32 R[LANES] LANE_ALIGNED;                                                                             \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i], b = B[i];                                                                        \
			u64 c = in >> i & 1, x = (sum);                                                                \
			(void)c;                                                                                       \
			R[i] = (u32)x;                                                                                 \
			out |= (u64)((carry)&1) << i;                                                                  \
		}                                                                                                      \
		if (o->clamp)                                                                                          \
			EACH_LANE(i) R[i] = out >> i & 1 ? limit : R[i];                                               \
		put_32(w, o, R);                                                                                       \
		set_scalar_64(w, &o->d2, out &EXEC(w));                                                                \
	}

V_CARRY(v_add_co_u32, ~0u, (u64)a + b, x >> 32, 0)
V_CARRY(v_sub_co_u32, 0, (u64)a - b, x >> 63, 0)
V_CARRY(v_subrev_co_u32, 0, (u64)b - a, x >> 63, 0)
V_CARRY(v_addc_co_u32, ~0u, (u64)a + b + c, x >> 32, scalar_64(w, &o->s[2]))
V_CARRY(v_subb_co_u32, 0, (u64)a - b - c, x >> 63, scalar_64(w, &o->s[2]))
V_CARRY(v_subbrev_co_u32, 0, (u64)b - a - c, x >> 63, scalar_64(w, &o->s[2]))

OP_N(v_mad_u64_u32, 2)
{
	SRC_32(A, 0);
	SRC_32(B, 1);
	SRC_64(C, 2);
	u64 R[LANES], carry = 0;

	EACH_LANE(i) carry |= (u64)__builtin_add_overflow((u64)A[i] * B[i], C[i], &R[i]) << i;
	put_64(w, o, R);
	set_scalar_64(w, &o->d2, carry & EXEC(w));
}

OP_N(v_mad_i64_i32, 2)
{
	SRC_32(A, 0);
	SRC_32(B, 1);
	SRC_64(C, 2);
	u64 R[LANES], carry = 0;

	EACH_LANE(i)
	{
		__int128 x = (__int128)((i64)SIGNED(A[i]) * SIGNED(B[i])) + (i64)C[i];

		R[i] = (u64)x;
		carry |= (u64)((x >> 64) & 1) << i;
	}
	put_64(w, o, R);
	set_scalar_64(w, &o->d2, carry & EXEC(w));
}

/* 64-bit shifts. */
#define V_SHIFT_64(nm, expr)                                                                                           \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		SRC_32(A, 0);                                                                                          \
		SRC_64(B, 1);                                                                                          \
		u64 R[LANES];                                                                                          \
		EACH_LANE(i)                                                                                           \
		{                                                                                                      \
			u32 a = A[i] & 63;                                                                             \
			u64 b = B[i];                                                                                  \
			R[i] = (u64)(expr);                                                                            \
		}                                                                                                      \
		put_64(w, o, R);                                                                                       \
	}

V_SHIFT_64(v_lshlrev_b64, b << a)
V_SHIFT_64(v_lshrrev_b64, b >> a)
V_SHIFT_64(v_ashrrev_i64, (i64)b >> a)

OP(v_lshl_add_u64)
{
	SRC_64(A, 0);
	SRC_32(B, 1);
	SRC_64(C, 2);
	u64 R[LANES];

	EACH_LANE(i) R[i] = (A[i] << (B[i] & 7)) + C[i];
	put_64(w, o, R);
}

OP_GROUP_END
