/*
 * simd.h: the few vector operations that the CPU kernels are written in, for whichever instruction set the
 * including file is compiled for: AVX-512, AVX2 with FMA and F16C, or the compiler's own 4-wide vectors.
 * Everything is static: a file compiled for AVX-512 must not leave functions behind that others may link to.
 */
#ifndef AITERD_OPS_SIMD_H
#define AITERD_OPS_SIMD_H

#include <math.h>
#include <string.h>

#include "tensor.h"

#define SIMD_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <immintrin.h>
#define LANES 16
#define VREGS 32
typedef __m512 vf;

SIMD_INLINE vf
vf_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

SIMD_INLINE void
vf_store(float *p, vf x)
{
	_mm512_storeu_ps(p, x);
}

SIMD_INLINE vf
vf_set1(float x)
{
	return _mm512_set1_ps(x);
}

SIMD_INLINE vf
vf_fma(vf a, vf b, vf c)
{
	return _mm512_fmadd_ps(a, b, c);
}

SIMD_INLINE vf
vf_add(vf a, vf b)
{
	return _mm512_add_ps(a, b);
}

SIMD_INLINE vf
vf_sub(vf a, vf b)
{
	return _mm512_sub_ps(a, b);
}

SIMD_INLINE vf
vf_mul(vf a, vf b)
{
	return _mm512_mul_ps(a, b);
}

SIMD_INLINE vf
vf_max(vf a, vf b)
{
	return _mm512_max_ps(a, b);
}

SIMD_INLINE float
vf_hmax(vf x)
{
	return _mm512_reduce_max_ps(x);
}

SIMD_INLINE float
vf_hsum(vf x)
{
	return _mm512_reduce_add_ps(x);
}

/* x where lo <= lane < hi, -Inf elsewhere. */
SIMD_INLINE vf
vf_keep_range(vf x, int lo, int hi)
{
	__m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	__mmask16 m = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(lo)) &
		      _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(hi));

	return _mm512_mask_blend_ps(m, _mm512_set1_ps(-INFINITY), x);
}

SIMD_INLINE vf
vf_load_fp16(const void *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

SIMD_INLINE vf
vf_load_bf16(const void *p)
{
	__m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

	return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}

SIMD_INLINE void
vf_store_fp16(void *p, vf x)
{
	_mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

SIMD_INLINE void
vf_store_bf16(void *p, vf x)
{
	__m512i u = _mm512_castps_si512(x);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
	__m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
	__mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

	r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
	_mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

/* The two ends of vf_exp2: x = n + f with n whole; p * 2^n where x is not too small or is NaN, 0 otherwise. */
SIMD_INLINE vf
vf_exp2_split(vf x, vf *f)
{
	vf n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);

	*f = _mm512_sub_ps(x, n);
	return n;
}

SIMD_INLINE vf
vf_exp2_join(vf x, vf p, vf n)
{
	return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0F), _CMP_NLT_UQ), p, n);
}

/* r[i] lane j becomes r[j] lane i. */
SIMD_INLINE void
vf_transpose(vf r[LANES])
{
	vf t[LANES];

#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4) {
		r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
		r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
		r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
		r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
		r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
		r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define LANES 8
#define VREGS 16
typedef __m256 vf;

SIMD_INLINE vf
vf_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

SIMD_INLINE void
vf_store(float *p, vf x)
{
	_mm256_storeu_ps(p, x);
}

SIMD_INLINE vf
vf_set1(float x)
{
	return _mm256_set1_ps(x);
}

SIMD_INLINE vf
vf_fma(vf a, vf b, vf c)
{
	return _mm256_fmadd_ps(a, b, c);
}

SIMD_INLINE vf
vf_add(vf a, vf b)
{
	return _mm256_add_ps(a, b);
}

SIMD_INLINE vf
vf_sub(vf a, vf b)
{
	return _mm256_sub_ps(a, b);
}

SIMD_INLINE vf
vf_mul(vf a, vf b)
{
	return _mm256_mul_ps(a, b);
}

SIMD_INLINE vf
vf_max(vf a, vf b)
{
	return _mm256_max_ps(a, b);
}

SIMD_INLINE float
vf_hmax(vf x)
{
	__m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

	y = _mm_max_ps(y, _mm_movehl_ps(y, y));
	return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

SIMD_INLINE float
vf_hsum(vf x)
{
	__m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

	y = _mm_add_ps(y, _mm_movehl_ps(y, y));
	return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

SIMD_INLINE vf
vf_keep_range(vf x, int lo, int hi)
{
	__m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	__m256i m = _mm256_and_si256(_mm256_cmpgt_epi32(lane, _mm256_set1_epi32(lo - 1)),
				     _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), lane));

	return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, _mm256_castsi256_ps(m));
}

SIMD_INLINE vf
vf_load_fp16(const void *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

SIMD_INLINE vf
vf_load_bf16(const void *p)
{
	__m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

	return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}

SIMD_INLINE void
vf_store_fp16(void *p, vf x)
{
	_mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

SIMD_INLINE void
vf_store_bf16(void *p, vf x)
{
	__m256i u = _mm256_castps_si256(x);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
	__m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	__m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));

	r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
	r = _mm256_srli_epi32(r, 16);
	_mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
}

SIMD_INLINE vf
vf_exp2_split(vf x, vf *f)
{
	vf n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);

	*f = _mm256_sub_ps(x, n);
	return n;
}

SIMD_INLINE vf
vf_exp2_join(vf x, vf p, vf n)
{
	__m256i bits = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
	vf y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), bits));

	/* A NaN must come through whatever the integer addition made of it. */
	y = _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
	return _mm256_and_ps(y, _mm256_cmp_ps(x, _mm256_set1_ps(-125.0F), _CMP_NLT_UQ));
}

SIMD_INLINE void
vf_transpose(vf r[LANES])
{
	vf t[LANES];

#pragma GCC unroll 4
	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
		t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 8; i += 4) {
		r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
		r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
		r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
		r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
		t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
	}
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		r[i] = t[i];
}

#else
#define LANES 4
#define VREGS 16
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

SIMD_INLINE vf
vf_load(const float *p)
{
	vf x;

	memcpy(&x, p, sizeof(x));
	return x;
}

SIMD_INLINE void
vf_store(float *p, vf x)
{
	memcpy(p, &x, sizeof(x));
}

SIMD_INLINE vf
vf_set1(float x)
{
	return (vf){x, x, x, x};
}

SIMD_INLINE vf
vf_fma(vf a, vf b, vf c)
{
	return a * b + c;
}

SIMD_INLINE vf
vf_add(vf a, vf b)
{
	return a + b;
}

SIMD_INLINE vf
vf_sub(vf a, vf b)
{
	return a - b;
}

SIMD_INLINE vf
vf_mul(vf a, vf b)
{
	return a * b;
}

SIMD_INLINE vf
vf_select(vi m, vf a, vf b)
{
	return (vf)(((vi)a & m) | ((vi)b & ~m));
}

SIMD_INLINE vf
vf_max(vf a, vf b)
{
	return vf_select((vi)(a > b), a, b);
}

SIMD_INLINE float
vf_hsum(vf x)
{
	return (x[0] + x[2]) + (x[1] + x[3]);
}

SIMD_INLINE float
vf_hmax(vf x)
{
	float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];

	return a > b ? a : b;
}

SIMD_INLINE vf
vf_keep_range(vf x, int lo, int hi)
{
	vi lane = {0, 1, 2, 3}, from = {lo, lo, lo, lo}, to = {hi, hi, hi, hi};

	return vf_select((vi)(lane >= from) & (vi)(lane < to), x, vf_set1(-INFINITY));
}

SIMD_INLINE vf
vf_load_fp16(const void *p)
{
	uint16_t h[4];

	memcpy(h, p, sizeof(h));
	return (vf){fp16_to_float(h[0]), fp16_to_float(h[1]), fp16_to_float(h[2]), fp16_to_float(h[3])};
}

SIMD_INLINE vf
vf_load_bf16(const void *p)
{
	uint16_t h[4];
	uint32_t w[4];
	vf x;

	memcpy(h, p, sizeof(h));
	for (int i = 0; i < 4; i++)
		w[i] = (uint32_t)h[i] << 16;
	memcpy(&x, w, sizeof(x));
	return x;
}

SIMD_INLINE void
vf_store_fp16(void *p, vf x)
{
	uint16_t h[4];

	for (int i = 0; i < 4; i++)
		h[i] = fp16_from_float(x[i]);
	memcpy(p, h, sizeof(h));
}

SIMD_INLINE void
vf_store_bf16(void *p, vf x)
{
	uint16_t h[4];

	for (int i = 0; i < 4; i++)
		h[i] = bf16_from_float(x[i]);
	memcpy(p, h, sizeof(h));
}

/* Adding 1.5 * 2^23 rounds to an integer, which then lies in the low bits. */
SIMD_INLINE vf
vf_exp2_split(vf x, vf *f)
{
	vf magic = vf_set1(12582912.0F), n;

	x = vf_select((vi)(x < vf_set1(-150.0F)), vf_set1(-150.0F), x);
	n = x + magic;
	*f = x - (n - magic);
	return n;
}

SIMD_INLINE vf
vf_exp2_join(vf x, vf p, vf n)
{
	vf y = (vf)((vi)p + ((vi)n << 23));

	y = vf_select((vi)(x == x), y, x);
	return (vf)((vi)y & ~(vi)(x < vf_set1(-125.0F)));
}

SIMD_INLINE void
vf_transpose(vf r[LANES])
{
	vf t[LANES];

	for (int i = 0; i < 4; i++)
		t[i] = (vf){r[0][i], r[1][i], r[2][i], r[3][i]};
	for (int i = 0; i < 4; i++)
		r[i] = t[i];
}
#endif

/*
 * 2^x for x <= 0: 0 below -126 (-125 without AVX-512) instead of subnormal numbers, which would only slow
 * things down; exactly 1 at 0; NaN stays NaN. 2^x = 2^n 2^f with n the nearest integer, so -1/2 <= f <= 1/2;
 * 2^f by a polynomial of degree 5, fitted for the smallest greatest relative error (1.7e-7 with the
 * roundings, 2 units in the last place) with its constant term held at 1.
 */
#define EXP2_C1 0x1.62e42ap-1F
#define EXP2_C2 0x1.ebf9bcp-3F
#define EXP2_C3 0x1.c6b752p-5F
#define EXP2_C4 0x1.3cea88p-7F
#define EXP2_C5 0x1.5bba14p-10F

SIMD_INLINE vf
vf_exp2(vf x)
{
	vf f, n = vf_exp2_split(x, &f), p;

	p = vf_fma(vf_set1(EXP2_C5), f, vf_set1(EXP2_C4));
	p = vf_fma(p, f, vf_set1(EXP2_C3));
	p = vf_fma(p, f, vf_set1(EXP2_C2));
	p = vf_fma(p, f, vf_set1(EXP2_C1));
	p = vf_fma(p, f, vf_set1(1.0F));
	return vf_exp2_join(x, p, n);
}

/* Elements of a tensor as floats. The dtype is a constant at every call, so nothing is left of the choice. */
SIMD_INLINE vf
vf_load_dtype(const void *p, enum dtype dt)
{
	return dt == DT_FP32 ? vf_load(p) : dt == DT_FP16 ? vf_load_fp16(p) : vf_load_bf16(p);
}

SIMD_INLINE void
vf_store_dtype(void *p, vf x, enum dtype dt)
{
	if (dt == DT_FP32)
		vf_store(p, x);
	else if (dt == DT_FP16)
		vf_store_fp16(p, x);
	else
		vf_store_bf16(p, x);
}

SIMD_INLINE size_t
vf_dtype_size(enum dtype dt)
{
	return dt == DT_FP32 ? 4 : 2;
}

/* The first n < LANES elements; zeros in the other lanes. Nothing past the n-th is touched. */
SIMD_INLINE vf
vf_load_part(const void *p, int64_t n, enum dtype dt)
{
	unsigned char t[LANES * 4] = {0};

	memcpy(t, p, (size_t)n * vf_dtype_size(dt));
	return vf_load_dtype(t, dt);
}

SIMD_INLINE void
vf_store_part(void *p, vf x, int64_t n, enum dtype dt)
{
	unsigned char t[LANES * 4];

	vf_store_dtype(t, x, dt);
	memcpy(p, t, (size_t)n * vf_dtype_size(dt));
}

#endif
