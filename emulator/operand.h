/*
 * operand.h: sources and destinations of instructions, for the executor's files only. A vector source is a pointer
 * to 64 lanes: the register itself where nothing has to be changed, otherwise a buffer that the caller lends. The
 * lanes that are written are those of EXEC.
 */
#ifndef EMU_OPERAND_H
#define EMU_OPERAND_H

#include <math.h>

#include "emulator/exec.h"
#include "emulator/half.h"

#define EACH_LANE(i) for (int i = 0; i < LANES; i++)
#define SIGNED(x) ((i32)(x))

/* operand.c */
#define operand_special EMU_FN(emu_operand_special)
#define operand_raw EMU_FN(emu_operand_raw)
#define operand_32_changed EMU_FN(emu_operand_32_changed)
#define operand_16 EMU_FN(emu_operand_16)
#define operand_64 EMU_FN(emu_operand_64)
#define put_sdwa EMU_FN(emu_put_sdwa)
#define put_16 EMU_FN(emu_put_16)
#define put_f16 EMU_FN(emu_put_f16)
#define put_64 EMU_FN(emu_put_64)
#define put_f64 EMU_FN(emu_put_f64)

u32 operand_special(struct wave *w, int special, int high);
/* 32 bits: word `word` of the operand after DPP or SDWA, without float modifiers. */
const u32 *operand_raw(struct wave *w, const struct op *o, int k, int word, u32 *buf);
const u32 *operand_32_changed(struct wave *w, const struct op *o, int k, u32 *buf);
/* 16 bits in the low half, with float modifiers. */
const u32 *operand_16(struct wave *w, const struct op *o, int k, u32 *buf);
const u64 *operand_64(struct wave *w, const struct op *o, int k, u64 *buf);

void put_sdwa(struct wave *w, const struct op *o, const u32 *r);
/* keep: the half of the register that is not written stays. r is used as scratch. */
void put_16(struct wave *w, const struct op *o, u32 *r, int keep);
void put_f16(struct wave *w, const struct op *o, float *r, int keep);
void put_64(struct wave *w, const struct op *o, const u64 *r);
void put_f64(struct wave *w, const struct op *o, double *r);

static inline u32
scalar_32(struct wave *w, const struct operand *p)
{
	switch (p->kind) {
	case OPERAND_S:
		return w->s[p->reg];
	case OPERAND_IMM:
		return p->imm32;
	case OPERAND_SPECIAL:
		return operand_special(w, p->special, 0);
	default:
		return 0;
	}
}

static inline u64
scalar_64(struct wave *w, const struct operand *p)
{
	switch (p->kind) {
	case OPERAND_S:
		return p->n == 1 ? w->s[p->reg] : w->s[p->reg] | (u64)w->s[p->reg + 1] << 32;
	case OPERAND_IMM:
		return p->imm64;
	case OPERAND_SPECIAL:
		return operand_special(w, p->special, 0) | (u64)operand_special(w, p->special, 1) << 32;
	default:
		return 0;
	}
}

static inline void
set_scalar_32(struct wave *w, const struct operand *p, u32 x)
{
	if (p->kind == OPERAND_S)
		w->s[p->reg] = x;
}

static inline void
set_scalar_64(struct wave *w, const struct operand *p, u64 x)
{
	if (p->kind == OPERAND_S) {
		w->s[p->reg] = (u32)x;
		w->s[p->reg + 1] = (u32)(x >> 32);
	}
}

/* The number of source k's and of the destination's vector register, s_set_gpr_idx included. */
static inline u32
source_reg(const struct wave *w, const struct operand *p, int k)
{
	u32 r = p->reg;

	if (__builtin_expect(w->gpr_index != 0, 0) && (w->gpr_index >> k & 1))
		r += w->s[REG_M0] & 0xff;
	return r;
}

static inline u32
dest_reg(const struct wave *w, const struct op *o)
{
	u32 r = o->d.reg;

	if (__builtin_expect(w->gpr_index & 8, 0))
		r += w->s[REG_M0] & 0xff;
	return r;
}

static inline const u32 *
operand_32(struct wave *w, const struct op *o, int k, u32 *buf)
{
	const struct operand *p = &o->s[k];

	if (p->kind == OPERAND_V && !o->modified && !w->gpr_index && !(p->neg | p->abs))
		return w->v[p->reg];
	return operand_32_changed(w, o, k, buf);
}

static inline void
store_lanes(u32 *d, const u32 *r, u64 mask)
{
	if (mask == ~(u64)0) {
		memcpy(d, r, LANES * sizeof *d);
		return;
	}
#ifdef __AVX512F__
	for (int j = 0; j < 4; j++)
		_mm512_mask_storeu_epi32(d + 16 * j, (__mmask16)(mask >> 16 * j), _mm512_loadu_si512(r + 16 * j));
#else
	for (int h = 0; h < 2; h++) {
		u32 m = (u32)(mask >> 32 * h);

		for (int i = 0; i < 32; i++) {
			u32 keep = (m >> i & 1) - 1;

			d[32 * h + i] = (d[32 * h + i] & keep) | (r[32 * h + i] & ~keep);
		}
	}
#endif
}

static inline u64
write_mask(const struct wave *w, const struct op *o)
{
	return o->dpp ? EXEC(w) & w->dpp_mask : EXEC(w);
}

static inline void
put_32(struct wave *w, const struct op *o, const u32 *r)
{
	if (__builtin_expect(o->sdwa, 0))
		put_sdwa(w, o, r);
	else
		store_lanes(w->v[dest_reg(w, o)], r, write_mask(w, o));
}

static inline float
output_modifiers(const struct op *o, float x)
{
	if (o->omod == 1)
		x *= 2;
	else if (o->omod == 2)
		x *= 4;
	else if (o->omod == 3)
		x *= 0.5f;
	if (o->clamp)
		x = x > 0 ? (x < 1 ? x : 1) : 0;
	return x;
}

static inline void
put_f32(struct wave *w, const struct op *o, float *r)
{
	if (__builtin_expect(o->omod | o->clamp, 0))
		EACH_LANE(i) r[i] = output_modifiers(o, r[i]);
	put_32(w, o, (const u32 *)r);
}

static inline const float *
operand_f16(struct wave *w, const struct op *o, int k, u32 *bits, float *buf)
{
	halves_to_f32(operand_16(w, o, k, bits), 0, buf);
	return buf;
}

/* Bit i of the result: lane i is not zero. */
static inline u64
nonzero_lanes(const u32 *r)
{
	u64 m = 0;
#ifdef __AVX512F__
	for (int j = 0; j < 4; j++) {
		__m512i x = _mm512_loadu_si512(r + 16 * j);

		m |= (u64)_mm512_test_epi32_mask(x, x) << 16 * j;
	}
#elif defined(__AVX2__)
	for (int j = 0; j < 8; j++) {
		__m256i x = _mm256_loadu_si256((const __m256i *)(r + 8 * j));
		__m256i z = _mm256_cmpeq_epi32(x, _mm256_setzero_si256());

		m |= (u64)(u8)~_mm256_movemask_ps(_mm256_castsi256_ps(z)) << 8 * j;
	}
#else
	EACH_LANE(i) m |= (u64)(r[i] != 0) << i;
#endif
	return m;
}

/* SRC_*(A, k): A is source k as an array of lanes. */
#define SRC_32(n, k)                                                                                                   \
	u32 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	const u32 *n = operand_32(w, o, k, n##_buf)
#define SRC_F32(n, k)                                                                                                  \
	u32 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	const float *n = (const float *)operand_32(w, o, k, n##_buf)
#define SRC_16(n, k)                                                                                                   \
	u32 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	const u32 *n = operand_16(w, o, k, n##_buf)
#define SRC_F16(n, k)                                                                                                  \
	u32 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	float n##_f32[LANES] LANE_ALIGNED;                                                                             \
	const float *n = operand_f16(w, o, k, n##_buf, n##_f32)
#define SRC_64(n, k)                                                                                                   \
	u64 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	const u64 *n = operand_64(w, o, k, n##_buf)
#define SRC_F64(n, k)                                                                                                  \
	u64 n##_buf[LANES] LANE_ALIGNED;                                                                               \
	const double *n = (const double *)operand_64(w, o, k, n##_buf)

/* Max and min as the hardware's: a NaN gives way to the other operand. */
static inline float
max_f32(float a, float b)
{
	return (a > b || b != b) ? a : b;
}

static inline float
min_f32(float a, float b)
{
	return (a < b || b != b) ? a : b;
}

static inline double
max_f64(double a, double b)
{
	return (a > b || b != b) ? a : b;
}

static inline double
min_f64(double a, double b)
{
	return (a < b || b != b) ? a : b;
}

static inline float
med3_f32(float a, float b, float c)
{
	if (a != a || b != b || c != c)
		return min_f32(min_f32(a, b), c);
	return max_f32(min_f32(a, b), min_f32(max_f32(a, b), c));
}

static inline u32
max_u32(u32 a, u32 b)
{
	return a > b ? a : b;
}

static inline u32
min_u32(u32 a, u32 b)
{
	return a < b ? a : b;
}

static inline u32
max_i32(u32 a, u32 b)
{
	return SIGNED(a) > SIGNED(b) ? a : b;
}

static inline u32
min_i32(u32 a, u32 b)
{
	return SIGNED(a) < SIGNED(b) ? a : b;
}

/* v_frexp_mant and v_frexp_exp; Inf and NaN have no exponent. */
static inline float
mantissa_f32(float x)
{
	int e;

	return isfinite(x) ? frexpf(x, &e) : x;
}

static inline int
exponent_f32(float x)
{
	int e = 0;

	if (isfinite(x))
		frexpf(x, &e);
	return e;
}

#endif
