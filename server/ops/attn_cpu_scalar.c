/*
 * attn_cpu_scalar.c: attention's inner loops for whatever processor the build is for, without special flags.
 * attn_cpu.c calls them when cpu_isa() says they may run.
 */
#define ATTN_KERNEL attn_kernel_scalar
#define ATTN_KERNEL_NAME "scalar"
#include "ops/attn_cpu_body.h"
