/*
 * scalar.c: scalar arithmetic, branches, barriers and the program counter. In the expressions a and b are the sources.
 * Part of the executor, see exec.h.
 */
#define OP_GROUP scalar
#include "emulator/operand.h"

#include <time.h>

#define SCC w->scc
#define S_ANY(nm, type, get, set, statements)                                                                          \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		type a = get(w, &o->s[0]), b = o->nsrc > 1 ? get(w, &o->s[1]) : 0, d;                                  \
		(void)b;                                                                                               \
		statements;                                                                                            \
		set(w, &o->d, d);                                                                                      \
	}
/* _SCC: the condition code says whether the result is not zero. */
#define S_32(nm, expr) S_ANY(nm, u32, scalar_32, set_scalar_32, d = (expr))
#define S_64(nm, expr) S_ANY(nm, u64, scalar_64, set_scalar_64, d = (expr))
#define S_32_SCC(nm, expr) S_ANY(nm, u32, scalar_32, set_scalar_32, d = (expr); SCC = d != 0)
#define S_64_SCC(nm, expr) S_ANY(nm, u64, scalar_64, set_scalar_64, d = (expr); SCC = d != 0)
/* The condition code has an expression of its own. */
#define S_32_COND(nm, expr, cond) S_ANY(nm, u32, scalar_32, set_scalar_32, d = (expr); SCC = (cond))
/* x is the result in 64 bits, its upper half or sign the carry. */
#define S_32_CARRY(nm, expr, carry)                                                                                    \
	S_ANY(nm, u32, scalar_32, set_scalar_32, u64 x = (expr); d = (u32)x; SCC = (u32)(carry))
/* 64 bits in, 32 out. */
#define S_FROM_64_ANY(nm, statements)                                                                                  \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		u64 a = scalar_64(w, &o->s[0]);                                                                        \
		u32 d;                                                                                                 \
		statements;                                                                                            \
		set_scalar_32(w, &o->d, d);                                                                            \
	}
#define S_FROM_64(nm, expr) S_FROM_64_ANY(nm, d = (expr))
#define S_FROM_64_SCC(nm, expr) S_FROM_64_ANY(nm, d = (expr); SCC = d != 0)

static u32
reverse_bits(u32 a)
{
	u32 r = 0;

	for (int i = 0; i < 32; i++)
		r |= (a >> i & 1) << (31 - i);
	return r;
}

static u32
add_overflows(u32 a, u32 b)
{
	i32 r;

	return __builtin_add_overflow(SIGNED(a), SIGNED(b), &r);
}

static u32
sub_overflows(u32 a, u32 b)
{
	i32 r;

	return __builtin_sub_overflow(SIGNED(a), SIGNED(b), &r);
}

/* The field that b describes: its offset in the low bits, its width from bit 16 on. */
static u64
field(u64 a, u32 b, u32 bits, int is_signed)
{
	u32 offset = b & (bits - 1), width = b >> 16 & 127;
	u64 x = is_signed && bits == 32 ? (u64)(i64)SIGNED((u32)a) : a;

	if (width == 0)
		return 0;
	x = is_signed ? (u64)((i64)x >> offset) : x >> offset;
	if (width >= bits)
		return x;
	x <<= 64 - width;
	return is_signed ? (u64)((i64)x >> (64 - width)) : x >> (64 - width);
}

/* clang-format off */
S_32(s_mov_b32, a)
S_64(s_mov_b64, a)
S_32(s_movk_i32, a)
S_32_SCC(s_not_b32, ~a)
S_64_SCC(s_not_b64, ~a)
S_32(s_brev_b32, reverse_bits(a))
S_64(s_brev_b64, (u64)reverse_bits((u32)a) << 32 | reverse_bits(a >> 32))
S_32_SCC(s_bcnt0_i32_b32, __builtin_popcount(~a))
S_32_SCC(s_bcnt1_i32_b32, __builtin_popcount(a))
S_FROM_64_SCC(s_bcnt0_i32_b64, __builtin_popcountll(~a))
S_FROM_64_SCC(s_bcnt1_i32_b64, __builtin_popcountll(a))
S_32(s_ff0_i32_b32, ~a ? (u32)__builtin_ctz(~a) : ~0u)
S_32(s_ff1_i32_b32, a ? (u32)__builtin_ctz(a) : ~0u)
S_FROM_64(s_ff0_i32_b64, ~a ? (u32)__builtin_ctzll(~a) : ~0u)
S_FROM_64(s_ff1_i32_b64, a ? (u32)__builtin_ctzll(a) : ~0u)
S_32(s_flbit_i32_b32, a ? (u32)__builtin_clz(a) : ~0u)
S_FROM_64(s_flbit_i32_b64, a ? (u32)__builtin_clzll(a) : ~0u)
S_32(s_flbit_i32, (a == 0 || a == ~0u) ? ~0u : (u32)__builtin_clrsb(SIGNED(a)) + 1)
S_FROM_64(s_flbit_i32_i64, (a == 0 || a == ~0ull) ? ~0u : (u32)__builtin_clrsbll((i64)a) + 1)
S_32(s_sext_i32_i8, (i32)(i8)a)
S_32(s_sext_i32_i16, (i32)(i16)a)
S_32_SCC(s_abs_i32, SIGNED(a) < 0 ? -a : a)
S_32(s_cselect_b32, SCC ? a : b)
S_64(s_cselect_b64, SCC ? a : b)
S_32_SCC(s_and_b32, a & b)
S_64_SCC(s_and_b64, a & b)
S_32_SCC(s_or_b32, a | b)
S_64_SCC(s_or_b64, a | b)
S_32_SCC(s_xor_b32, a ^ b)
S_64_SCC(s_xor_b64, a ^ b)
S_32_SCC(s_andn2_b32, a & ~b)
S_64_SCC(s_andn2_b64, a & ~b)
S_32_SCC(s_orn2_b32, a | ~b)
S_64_SCC(s_orn2_b64, a | ~b)
S_32_SCC(s_nand_b32, ~(a & b))
S_64_SCC(s_nand_b64, ~(a & b))
S_32_SCC(s_nor_b32, ~(a | b))
S_64_SCC(s_nor_b64, ~(a | b))
S_32_SCC(s_xnor_b32, ~(a ^ b))
S_64_SCC(s_xnor_b64, ~(a ^ b))
S_32_SCC(s_lshl_b32, a << (b & 31))
S_32_SCC(s_lshr_b32, a >> (b & 31))
S_32_SCC(s_ashr_i32, SIGNED(a) >> (b & 31))
S_64_SCC(s_lshl_b64, a << (b & 63))
S_64_SCC(s_lshr_b64, a >> (b & 63))
S_64_SCC(s_ashr_i64, (i64)a >> (b & 63))
S_32(s_bfm_b32, ((1u << (a & 31)) - 1) << (b & 31))
S_64(s_bfm_b64, ((1ull << (a & 63)) - 1) << (b & 63))
S_32(s_mul_i32, a * b)
S_32(s_mul_hi_u32, (u64)a * b >> 32)
S_32(s_mul_hi_i32, (u32)((i64)SIGNED(a) * SIGNED(b) >> 32))
S_32(s_pack_ll_b32_b16, (a & 0xffff) | b << 16)
S_32(s_pack_lh_b32_b16, (a & 0xffff) | (b & 0xffff0000))
S_32(s_pack_hh_b32_b16, a >> 16 | (b & 0xffff0000))
/* clang-format on */

S_32_COND(s_min_u32, min_u32(a, b), a < b)
S_32_COND(s_max_u32, max_u32(a, b), a > b)
S_32_COND(s_min_i32, min_i32(a, b), SIGNED(a) < SIGNED(b))
S_32_COND(s_max_i32, max_i32(a, b), SIGNED(a) > SIGNED(b))
S_32_COND(s_add_i32, a + b, add_overflows(a, b))
S_32_COND(s_sub_i32, a - b, sub_overflows(a, b))
S_32_COND(s_sub_u32, a - b, b > a)
S_32_CARRY(s_add_u32, (u64)a + b, x >> 32)
S_32_CARRY(s_addc_u32, (u64)a + b + SCC, x >> 32)
S_32_CARRY(s_subb_u32, (u64)a - b - SCC, x >> 63)
S_32_CARRY(s_lshl1_add_u32, ((u64)a << 1) + b, x >> 32 != 0)
S_32_CARRY(s_lshl2_add_u32, ((u64)a << 2) + b, x >> 32 != 0)
S_32_CARRY(s_lshl3_add_u32, ((u64)a << 3) + b, x >> 32 != 0)
S_32_CARRY(s_lshl4_add_u32, ((u64)a << 4) + b, x >> 32 != 0)
S_32_SCC(s_absdiff_i32, SIGNED(a - b) < 0 ? b - a : a - b)
S_32_SCC(s_bfe_u32, (u32)field(a, b, 32, 0))
S_32_SCC(s_bfe_i32, (u32)field(a, b, 32, 1))
S_64_SCC(s_bfe_u64, field(a, (u32)b, 64, 0))
S_64_SCC(s_bfe_i64, field(a, (u32)b, 64, 1))

OP(s_cmov_b32)
{
	if (SCC)
		set_scalar_32(w, &o->d, scalar_32(w, &o->s[0]));
}
OP_ALIAS(s_cmovk_i32, op_s_cmov_b32, 1)

OP(s_cmov_b64)
{
	if (SCC)
		set_scalar_64(w, &o->d, scalar_64(w, &o->s[0]));
}

OP(s_addk_i32)
{
	u32 a = scalar_32(w, &o->d), b = scalar_32(w, &o->s[0]);

	set_scalar_32(w, &o->d, a + b);
	SCC = add_overflows(a, b);
}

OP(s_mulk_i32)
{
	set_scalar_32(w, &o->d, scalar_32(w, &o->d) * scalar_32(w, &o->s[0]));
}

OP(s_bitset0_b32)
{
	set_scalar_32(w, &o->d, scalar_32(w, &o->d) & ~(1u << (scalar_32(w, &o->s[0]) & 31)));
}

OP(s_bitset1_b32)
{
	set_scalar_32(w, &o->d, scalar_32(w, &o->d) | 1u << (scalar_32(w, &o->s[0]) & 31));
}

OP(s_bitset0_b64)
{
	set_scalar_64(w, &o->d, scalar_64(w, &o->d) & ~((u64)1 << (scalar_32(w, &o->s[0]) & 63)));
}

OP(s_bitset1_b64)
{
	set_scalar_64(w, &o->d, scalar_64(w, &o->d) | (u64)1 << (scalar_32(w, &o->s[0]) & 63));
}

/* The old EXEC, e, goes to the destination, the new one is the expression. */
#define S_SAVEEXEC(nm, expr)                                                                                           \
	OP(nm)                                                                                                         \
	{                                                                                                              \
		u64 a = scalar_64(w, &o->s[0]), e = EXEC(w);                                                           \
		EXEC(w) = (expr);                                                                                      \
		set_scalar_64(w, &o->d, e);                                                                            \
		SCC = EXEC(w) != 0;                                                                                    \
	}

S_SAVEEXEC(s_and_saveexec_b64, a &e)
S_SAVEEXEC(s_or_saveexec_b64, a | e)
S_SAVEEXEC(s_xor_saveexec_b64, a ^ e)
S_SAVEEXEC(s_andn1_saveexec_b64, ~a &e)
S_SAVEEXEC(s_andn2_saveexec_b64, a & ~e)
S_SAVEEXEC(s_orn1_saveexec_b64, ~a | e)
S_SAVEEXEC(s_orn2_saveexec_b64, a | ~e)
S_SAVEEXEC(s_nand_saveexec_b64, ~(a &e))
S_SAVEEXEC(s_nor_saveexec_b64, ~(a | e))
S_SAVEEXEC(s_xnor_saveexec_b64, ~(a ^ e))

/* The new EXEC goes to the destination as well. */
static void
write_exec(struct wave *w, const struct op *o, u64 x)
{
	EXEC(w) = x;
	set_scalar_64(w, &o->d, x);
	SCC = x != 0;
}

OP(s_andn1_wrexec_b64)
{
	write_exec(w, o, ~scalar_64(w, &o->s[0]) & EXEC(w));
}

OP(s_andn2_wrexec_b64)
{
	write_exec(w, o, scalar_64(w, &o->s[0]) & ~EXEC(w));
}

/* Comparisons. */
#define S_CMP(nm, expr)                                                                                                \
	OP_N(s_cmp_##nm, 0)                                                                                            \
	{                                                                                                              \
		u32 a = scalar_32(w, &o->s[0]), b = scalar_32(w, &o->s[1]);                                            \
		SCC = (expr);                                                                                          \
	}                                                                                                              \
	OP_ALIAS(s_cmpk_##nm, op_s_cmp_##nm, 0)

S_CMP(eq_i32, a == b)
S_CMP(lg_i32, a != b)
S_CMP(gt_i32, SIGNED(a) > SIGNED(b))
S_CMP(ge_i32, SIGNED(a) >= SIGNED(b))
S_CMP(lt_i32, SIGNED(a) < SIGNED(b))
S_CMP(le_i32, SIGNED(a) <= SIGNED(b))
S_CMP(eq_u32, a == b)
S_CMP(lg_u32, a != b)
S_CMP(gt_u32, a > b)
S_CMP(ge_u32, a >= b)
S_CMP(lt_u32, a < b)
S_CMP(le_u32, a <= b)

/* Instructions that only set SCC or other state: one statement each. */
#define S_DO(nm, statement)                                                                                            \
	OP_N(nm, 0)                                                                                                    \
	{                                                                                                              \
		statement;                                                                                             \
	}

S_DO(s_cmp_eq_u64, SCC = scalar_64(w, &o->s[0]) == scalar_64(w, &o->s[1]))
S_DO(s_cmp_lg_u64, SCC = scalar_64(w, &o->s[0]) != scalar_64(w, &o->s[1]))
S_DO(s_bitcmp0_b32, SCC = !(scalar_32(w, &o->s[0]) >> (scalar_32(w, &o->s[1]) & 31) & 1))
S_DO(s_bitcmp1_b32, SCC = scalar_32(w, &o->s[0]) >> (scalar_32(w, &o->s[1]) & 31) & 1)
S_DO(s_bitcmp0_b64, SCC = !(scalar_64(w, &o->s[0]) >> (scalar_32(w, &o->s[1]) & 63) & 1))
S_DO(s_bitcmp1_b64, SCC = scalar_64(w, &o->s[0]) >> (scalar_32(w, &o->s[1]) & 63) & 1)
S_DO(s_setvskip, w->vskip = scalar_32(w, &o->s[0]) >> (scalar_32(w, &o->s[1]) & 31) & 1)

/* Branches: the program counter counts words and already points at the next instruction. */
#define JUMP w->pc += (u32)o->imm

S_DO(s_branch, JUMP)
S_DO(s_cbranch_scc0, if (!SCC) JUMP)
S_DO(s_cbranch_scc1, if (SCC) JUMP)
S_DO(s_cbranch_vccz, if (!VCC(w)) JUMP)
S_DO(s_cbranch_vccnz, if (VCC(w)) JUMP)
S_DO(s_cbranch_execz, if (!EXEC(w)) JUMP)
S_DO(s_cbranch_execnz, if (EXEC(w)) JUMP)

static u64
get_pc(const struct wave *w)
{
	return (u64)w->co->base + w->co->text + 4 * (u64)w->pc;
}

static void
set_pc(struct wave *w, u64 to)
{
	u64 text = (u64)w->co->base + w->co->text;

	if (to < text || to >= text + w->co->text_size || (to & 3) != 0)
		emu_wave_fault(w, FAULT_LAUNCH, "jump to %llx, outside the code object", (unsigned long long)to);
	w->pc = (u32)((to - text) / 4);
}

OP(s_getpc_b64)
{
	set_scalar_64(w, &o->d, get_pc(w));
}

S_DO(s_setpc_b64, set_pc(w, scalar_64(w, &o->s[0])))

OP(s_swappc_b64)
{
	u64 from = get_pc(w), to = scalar_64(w, &o->s[0]);

	set_scalar_64(w, &o->d, from);
	set_pc(w, to);
}

OP(s_call_b64)
{
	set_scalar_64(w, &o->d, get_pc(w));
	JUMP;
}

S_DO(s_endpgm, w->done = 1)
S_DO(s_barrier, w->at_barrier = 1)
S_DO(s_trap, emu_wave_fault(w, FAULT_LAUNCH, "s_trap"))

/* Nothing to do: memory operations complete at once, caches are not modelled, rounding is always to nearest even. */
#define S_NOTHING(nm) S_DO(nm, (void)0)

S_NOTHING(s_nop)
S_NOTHING(s_waitcnt)
S_NOTHING(s_sleep)
S_NOTHING(s_wakeup)
S_NOTHING(s_setprio)
S_NOTHING(s_sethalt)
S_NOTHING(s_setkill)
S_NOTHING(s_icache_inv)
S_NOTHING(s_dcache_inv)
S_NOTHING(s_dcache_inv_vol)
S_NOTHING(s_dcache_wb)
S_NOTHING(s_sendmsg)
S_NOTHING(s_ttracedata)
S_NOTHING(s_incperflevel)
S_NOTHING(s_decperflevel)
S_NOTHING(s_setreg_b32)
S_NOTHING(s_setreg_imm32_b32)
S_NOTHING(buffer_wbl2)
S_NOTHING(buffer_inv)
S_NOTHING(buffer_wbinvl1)
S_NOTHING(buffer_wbinvl1_vol)
S_NOTHING(ds_nop)
S_NOTHING(ds_gws_barrier)

/* Of the hardware registers only HW_ID's wave number is known. */
OP(s_getreg_b32)
{
	u32 id = o->raw & 63;

	set_scalar_32(w, &o->d, id == 4 ? w->id & 15 : 0);
}

OP(s_memtime)
{
	set_scalar_64(w, &o->d, w->executed);
}

/* A clock of 100 MHz. */
OP(s_memrealtime)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	set_scalar_64(w, &o->d, (u64)t.tv_sec * 100000000 + (u64)t.tv_nsec / 10);
}

/* Relative register numbers: the mode stands in bits 15:12 of M0 as well. */
static void
set_gpr_index(struct wave *w, u32 mode)
{
	w->gpr_index = mode;
	w->s[REG_M0] = (w->s[REG_M0] & ~0xf000u) | mode << 12;
}

static void
set_gpr_offset(struct wave *w, u32 offset)
{
	w->s[REG_M0] = (w->s[REG_M0] & ~0xffu) | (offset & 0xff);
}

OP_N(s_set_gpr_idx_on, 0)
{
	u32 offset = scalar_32(w, &o->s[0]);

	set_gpr_index(w, o->raw >> 8 & 15);
	set_gpr_offset(w, offset);
}

S_DO(s_set_gpr_idx_off, w->gpr_index = 0)
S_DO(s_set_gpr_idx_idx, set_gpr_offset(w, scalar_32(w, &o->s[0])))
S_DO(s_set_gpr_idx_mode, set_gpr_index(w, o->raw & 15))

OP_GROUP_END
