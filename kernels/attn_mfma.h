/*
 * attn_mfma.h: the matrix work of attention on gfx942 (CDNA3), by v_mfma 32x32 instructions. Products are transposed:
 * scores are K Q^T and the output is V^T P^T, so a query is a column, always the same lane pair (l, l + 32), and what
 * the softmax leaves in registers is already the second operand of the next product. Used by attn_fwd.h.
 *
 * A "chunk" is 16 bytes: 8 (16-bit) or 4 (fp32) elements along the summed dimension. Lanes 0 to 31 hold the even chunks of
 * rows 0 to 31, lanes 32 to 63 the odd ones: which elements meet in one instruction does not matter as long as both
 * operands agree. Accumulator element i of a lane belongs to row 8 * (i / 4) + 4 * (lane / 32) + i % 4.
 */
#ifndef AITERD_KERNELS_ATTN_MFMA_H
#define AITERD_KERNELS_ATTN_MFMA_H

#include "device.h"

typedef vec<short, 8> s8;
typedef vec<fp16, 8> h8;
typedef vec<fp16, 2> fp16x2;

template <class T> struct mfma;

/*
 * `bias`: log2 of what probabilities are multiplied by before they are cut to T. Cutting loses on average 0.72 of half an
 * ulp at 1 (mantissas of exponentials are spread evenly on a logarithmic scale), so the factor 1 + 0.7213 * ulp / 2
 * takes the bias away and leaves the error of rounding, for the price of a constant. The row sum, taken
 * before, is divided by the same factor.
 */
template <> struct mfma<bf16> {
	enum { INSTRUCTIONS = 2 };
	static constexpr float factor = 1.0f + 0.7213f / 256;
	static constexpr float bias = 0.0040593f;

	/* acc += a b over part i, of INSTRUCTIONS, of a pair of chunks; i is a constant. */
	DEV_MEMBER static f16
	part(int i, u4 a, u4 b, f16 acc)
	{
		s8 x = __builtin_bit_cast(s8, a), y = __builtin_bit_cast(s8, b);

		return i == 0 ? __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(x.lo, y.lo, acc, 0, 0, 0)
			      : __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(x.hi, y.hi, acc, 0, 0, 0);
	}

	DEV_MEMBER static uint32_t
	pack(float lo, float hi)
	{
		return __builtin_amdgcn_perm(BITS(hi), BITS(lo), 0x07060302);
	}

	DEV_MEMBER static f2
	unpack(uint32_t x)
	{
		return f2{FROM_BITS(x << 16), FROM_BITS(x & 0xffff0000u)};
	}
};

template <> struct mfma<fp16> {
	enum { INSTRUCTIONS = 2 };
	static constexpr float factor = 1.0f + 0.7213f / 2048;
	static constexpr float bias = 0.00050803f;

	DEV_MEMBER static f16
	part(int i, u4 a, u4 b, f16 acc)
	{
		h8 x = __builtin_bit_cast(h8, a), y = __builtin_bit_cast(h8, b);

		return i == 0 ? __builtin_amdgcn_mfma_f32_32x32x8f16(x.lo, y.lo, acc, 0, 0, 0)
			      : __builtin_amdgcn_mfma_f32_32x32x8f16(x.hi, y.hi, acc, 0, 0, 0);
	}

	DEV_MEMBER static uint32_t
	pack(float lo, float hi)
	{
		return __builtin_bit_cast(uint32_t, __builtin_amdgcn_cvt_pkrtz(lo, hi));
	}

	DEV_MEMBER static f2
	unpack(uint32_t x)
	{
		fp16x2 h = __builtin_bit_cast(fp16x2, x);

		return f2{(float)h.x, (float)h.y};
	}
};

/* True fp32: every product and sum is an fp32 fused multiply-add. */
template <> struct mfma<float> {
	enum { INSTRUCTIONS = 4 };
	static constexpr float factor = 1.0f;
	static constexpr float bias = 0.0f;

	DEV_MEMBER static f16
	part(int i, u4 a, u4 b, f16 acc)
	{
		return __builtin_amdgcn_mfma_f32_32x32x2f32(FROM_BITS(a[i]), FROM_BITS(b[i]), acc, 0, 0, 0);
	}
};

/* acc += a b over a pair of chunks. */
template <class T>
DEV f16
mfma_add(u4 a, u4 b, f16 acc)
{
#pragma unroll
	for (int i = 0; i < mfma<T>::INSTRUCTIONS; i++)
		acc = mfma<T>::part(i, a, b, acc);
	return acc;
}

#endif
