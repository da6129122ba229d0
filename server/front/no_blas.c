/*
 * no_blas.c: what the operator table's unfused baseline calls in OpenBLAS, for the front's program only. The front
 * has the table but never computes, and loading OpenBLAS would start a pool of threads in it; so it is linked
 * with these instead, which nothing reaches.
 */
#ifdef HAVE_OPENBLAS

#include <assert.h>
#include <cblas.h>

void
cblas_sgemm(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE trans_a, const enum CBLAS_TRANSPOSE trans_b,
	    const blasint m, const blasint n, const blasint k, const float alpha, const float *a, const blasint lda,
	    const float *b, const blasint ldb, const float beta, float *c, const blasint ldc)
{
	(void)order, (void)trans_a, (void)trans_b, (void)m, (void)n, (void)k, (void)alpha;
	(void)a, (void)lda, (void)b, (void)ldb, (void)beta, (void)c, (void)ldc;
	assert(0);
}

void
openblas_set_num_threads(int threads)
{
	(void)threads;
	assert(0);
}

#endif
