/*
 * kernels_ops.hip: a kernel for each instruction of ops.def: out[i] = instruction(a[i], b[i], c[i]), sources and
 * results in words (fp64: pairs of words). Compiled for gfx942 by the tests.
 */
typedef unsigned int u32;
typedef unsigned long long u64;
#define KERNEL extern "C" __attribute__((global)) void

#define WORD_f32 u32
#define WORD_u32 u32
#define WORD_i32 u32
#define WORD_f16 u32
#define WORD_u16 u32
#define WORD_f64 u64
#define ASM_1(name) asm volatile(name " %0, %1" : "=v"(r) : "v"(a[i]))
#define ASM_2(name) asm volatile(name " %0, %1, %2" : "=v"(r) : "v"(a[i]), "v"(b[i]))
#define ASM_3(name) asm volatile(name " %0, %1, %2, %3" : "=v"(r) : "v"(a[i]), "v"(b[i]), "v"(c[i]))

#define OP(name, n, from, to, expected, ulps) \
	KERNEL k_##name(WORD_##to *out, const WORD_##from *a, const WORD_##from *b, const WORD_##from *c) \
	{ \
		int i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x(); \
		WORD_##to r; \
		ASM_##n(#name); \
		out[i] = r; \
	}
#include "ops.def"
