/*
 * rmsnorm_cpu_avx512.c: RMS normalisation's loops for AVX-512 F, BW, DQ and VL.
 * rmsnorm_cpu.c calls them when cpu_isa() says they may run.
 */
#if defined(__x86_64__)
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile this file with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c"
#endif
#define RMSNORM_KERNEL rmsnorm_kernel_avx512
#define RMSNORM_KERNEL_NAME "avx512"
#include "ops/rmsnorm_cpu_body.h"
#endif
