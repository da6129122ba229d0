/*
 * attn_fp16.hip: fused attention for fp16. Kernels attn_fwd_fp16_*, attn_combine_fp16, attn_pad_fp16; see attn.h.
 */
#include "attn_extra.h"

#ifdef __CUDACC__
#include "attn_sm90.h"
#define X(dq, dv, groups, ...) \
	ATTN_SM90_KERNEL(attn_fwd_fp16_d##dq##x##dv##_g##groups, fp16, dq, dv, groups, __VA_ARGS__)
ATTN_SM90_INSTANCES(X)
#else
#include "attn_kernel.h"
#define X(dq, dv, waves, ...) \
	ATTN_KERNEL(attn_fwd_fp16_d##dq##x##dv##_w##waves, fp16, dq, dv, waves, __VA_ARGS__)
ATTN_INSTANCES_16BIT(X)
#endif
ATTN_COMBINE(attn_combine_fp16, fp16)
ATTN_PAD(attn_pad_fp16, fp16)
