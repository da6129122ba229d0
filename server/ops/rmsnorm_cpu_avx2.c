/*
 * rmsnorm_cpu_avx2.c: RMS normalisation's loops for AVX2, FMA and F16C.
 * rmsnorm_cpu.c calls them when cpu_isa() says they may run.
 */
#if defined(__x86_64__)
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c"
#endif
#define RMSNORM_KERNEL rmsnorm_kernel_avx2
#define RMSNORM_KERNEL_NAME "avx2"
#include "ops/rmsnorm_cpu_body.h"
#endif
