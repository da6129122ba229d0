/*
 * rmsnorm_cpu_scalar.c: RMS normalisation's loops for whatever processor the build is for, without special flags.
 * rmsnorm_cpu.c calls them when cpu_isa() says they may run.
 */
#define RMSNORM_KERNEL rmsnorm_kernel_scalar
#define RMSNORM_KERNEL_NAME "scalar"
#include "ops/rmsnorm_cpu_body.h"
