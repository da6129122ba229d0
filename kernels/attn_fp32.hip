/*
 * attn_fp32.hip: fused attention for fp32. Kernels attn_fwd_fp32_*, attn_combine_fp32, attn_pad_fp32; see attn.h, for Hopper
 * attn_fp32.h too.
 */
#include "attn_extra.h"

#ifdef __CUDACC__
#include "attn_tf32_kernel.h"

#define X(dq, dv, waves, ...) ATTN_TF32_KERNEL(attn_fwd_fp32_d##dq##x##dv##_w##waves, dq, dv, waves, __VA_ARGS__)
ATTN_TF32_INSTANCES(X)
#else
#include "attn_kernel.h"

#define X(dq, dv, waves, ...) \
	ATTN_KERNEL(attn_fwd_fp32_d##dq##x##dv##_w##waves, float, dq, dv, waves, __VA_ARGS__)
ATTN_INSTANCES_32BIT(X)
#endif
ATTN_COMBINE(attn_combine_fp32, float)
ATTN_PAD(attn_pad_fp32, float)
