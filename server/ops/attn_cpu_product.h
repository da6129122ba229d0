/*
 * attn_cpu_product.h: the matrix products of attention on the CPU, one per number of rows and of vectors across,
 * so that the sums stay in registers. Part of attn_cpu_body.h.
 */
#ifndef AITERD_ATTN_CPU_PRODUCT_H
#define AITERD_ATTN_CPU_PRODUCT_H

#include "ops/attn_cpu_kernel.h"
#include "ops/simd.h"

#if VREGS == 32
#define PANEL_VECS 4 /* 6 x 4 accumulators, 4 loads, 1 broadcast of 32 registers */
#else
#define PANEL_VECS 2 /* 6 x 2 accumulators of 16 */
#endif
#define PANEL (PANEL_VECS * LANES)

/* c[i][] = alpha[i] * c[i][] (0 without alpha) + sum over j of a[i][j] b[j][]: mr rows, nv vectors. */
SIMD_INLINE void
product(int mr, int nv, int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc,
	const float *alpha)
{
	vf acc[ATTN_ROW_TILE][PANEL_VECS];

#pragma GCC unroll 6
	for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
		for (int j = 0; j < nv; j++)
			acc[i][j] = alpha == NULL ? vf_set1(0.0F)
						  : vf_mul(vf_set1(alpha[i]), vf_load(c + i * ldc + j * LANES));
	}
	for (int64_t k = 0; k < depth; k++) {
		vf x[PANEL_VECS];

#pragma GCC unroll 4
		for (int j = 0; j < nv; j++)
			x[j] = vf_load(b + j * LANES);
#pragma GCC unroll 6
		for (int i = 0; i < mr; i++) {
			vf y = vf_set1(a[i * lda]);

#pragma GCC unroll 4
			for (int j = 0; j < nv; j++)
				acc[i][j] = vf_fma(y, x[j], acc[i][j]);
		}
		a++;
		b += ldb;
	}
#pragma GCC unroll 6
	for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
		for (int j = 0; j < nv; j++)
			vf_store(c + i * ldc + j * LANES, acc[i][j]);
	}
}

typedef void (*product_f)(int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
			  int64_t ldc, const float *alpha);

#define PRODUCT(mr, nv)                                                                                                \
	static void product_##mr##_##nv(int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb,       \
					float *c, int64_t ldc, const float *alpha)                                     \
	{                                                                                                              \
		product(mr, nv, depth, a, lda, b, ldb, c, ldc, alpha);                                                 \
	}
#define PRODUCTS(nv) PRODUCT(1, nv) PRODUCT(2, nv) PRODUCT(3, nv) PRODUCT(4, nv) PRODUCT(5, nv) PRODUCT(6, nv)
#define PRODUCT_NAMES(nv)                                                                                              \
	{                                                                                                              \
		product_1_##nv, product_2_##nv, product_3_##nv, product_4_##nv, product_5_##nv, product_6_##nv         \
	}

PRODUCTS(1)
PRODUCTS(2)
#if PANEL_VECS == 4
PRODUCTS(3)
PRODUCTS(4)
#endif

static const product_f products[PANEL_VECS][ATTN_ROW_TILE] = {
	PRODUCT_NAMES(1),
	PRODUCT_NAMES(2),
#if PANEL_VECS == 4
	PRODUCT_NAMES(3),
	PRODUCT_NAMES(4),
#endif
};

#endif
