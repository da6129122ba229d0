/*
 * attn_cpu_avx2.c: attention's inner loops for AVX2, FMA and F16C.
 * attn_cpu.c calls them when cpu_isa() says they may run.
 */
#if defined(__x86_64__)
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c"
#endif
#define ATTN_KERNEL attn_kernel_avx2
#define ATTN_KERNEL_NAME "avx2"
#include "ops/attn_cpu_body.h"
#endif
