/*
 * half.h: fp16 and bf16 to fp32 and back, rounding to nearest even, one at a time or for all lanes. Integer
 * arithmetic where the processor has no F16C, so that flushing of denormals, which kernels switch on for fp32,
 * does not reach fp16.
 */
#ifndef EMU_HALF_H
#define EMU_HALF_H

#include "emulator/types.h"

#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

static inline float
half_to_f32(u32 bits)
{
#ifdef __F16C__
	return _cvtsh_ss((u16)bits);
#else
	u32 sign = (bits & 0x8000) << 16, e = bits >> 10 & 31, m = bits & 0x3ff;

	if (e == 31)
		return as_f32(sign | 0x7f800000 | (m != 0 ? m << 13 | 0x400000 : 0));
	if (e == 0)
		return as_f32(sign | as_u32((float)m * 0x1p-24f));
	return as_f32(sign | (e + 112) << 23 | m << 13);
#endif
}

static inline u16
f32_to_half(float x)
{
#ifdef __F16C__
	return _cvtss_sh(x, 0);
#else
	u32 u = as_u32(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff, m, shift, r, rest, half;

	if (a > 0x7f800000)
		return (u16)(sign | 0x7e00 | (a >> 13 & 0x3ff));
	if (a >= 0x477ff000) /* from 65520 on */
		return (u16)(sign | 0x7c00);
	if (a >= 0x38800000) {
		r = a - 0x38000000;
		return (u16)(sign | (r + 0xfff + (r >> 13 & 1)) >> 13);
	}
	if (a <= 0x33000000) /* to half of the smallest denormal */
		return (u16)sign;
	m = (a & 0x7fffff) | 0x800000;
	shift = 126 - (a >> 23);
	r = m >> shift;
	rest = m & ((1u << shift) - 1);
	half = 1u << (shift - 1);
	return (u16)(sign | (r + (rest > half || (rest == half && (r & 1)))));
#endif
}

static inline float
bf16_to_f32(u32 bits)
{
	return as_f32(bits << 16);
}

static inline u16
f32_to_bf16(float f)
{
	u32 u = as_u32(f);

	if (f != f)
		return (u16)(u >> 16 | 0x40);
	return (u16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Bits shift to shift + 15 of each lane's word. */
static inline void
halves_to_f32(const u32 *in, int shift, float *out)
{
#ifdef __AVX512F__
	__m128i by = _mm_cvtsi32_si128(shift);

	for (int i = 0; i < 64; i += 16) {
		__m512i x = _mm512_srl_epi32(_mm512_loadu_si512(in + i), by);

		_mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)));
	}
#elif defined(__AVX2__)
	__m128i by = _mm_cvtsi32_si128(shift);
	__m256i low = _mm256_set1_epi32(0xffff);

	for (int i = 0; i < 64; i += 8) {
		__m256i x = _mm256_and_si256(_mm256_srl_epi32(_mm256_loadu_si256((const __m256i *)(in + i)), by), low);

		x = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
		_mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm256_castsi256_si128(x)));
	}
#else
	for (int i = 0; i < 64; i++)
		out[i] = half_to_f32(in[i] >> shift & 0xffff);
#endif
}

/* Each lane's result in the low half of its word, the high half zero. */
static inline void
f32_to_halves(const float *in, u32 *out)
{
#ifdef __AVX512F__
	for (int i = 0; i < 64; i += 16) {
		__m256i h = _mm512_cvtps_ph(_mm512_loadu_ps(in + i), 0);

		_mm512_storeu_si512(out + i, _mm512_cvtepu16_epi32(h));
	}
#elif defined(__AVX2__)
	for (int i = 0; i < 64; i += 8) {
		__m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), 0);

		_mm256_storeu_si256((__m256i *)(out + i), _mm256_cvtepu16_epi32(h));
	}
#else
	for (int i = 0; i < 64; i++)
		out[i] = f32_to_half(in[i]);
#endif
}

#endif
