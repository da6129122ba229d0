/*
 * kernels_exec.hip: kernels for everything that is not one vector instruction: scalar instructions, branches and
 * calls, lanes, LDS and barriers, memory, matrix instructions, arguments, faults. Compiled for gfx942 by the tests.
 */
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef float float1;
typedef float float2 __attribute__((ext_vector_type(2)));
typedef float float4 __attribute__((ext_vector_type(4)));
typedef float float16 __attribute__((ext_vector_type(16)));
typedef float float32 __attribute__((ext_vector_type(32)));
#define KERNEL extern "C" __attribute__((global)) void
#define DEVICE __attribute__((device))
#define SHARED __attribute__((shared))

DEVICE static inline u32
lane_of_block()
{
	return __builtin_amdgcn_workitem_id_x();
}
DEVICE static inline u32
block()
{
	return __builtin_amdgcn_workgroup_id_x();
}
DEVICE static inline void
barrier()
{
	__builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
	__builtin_amdgcn_s_barrier();
	__builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

/* Scalar instructions: one wave for each pair of sources. */
#define UINT(bits) UINT_##bits
#define UINT_32 u32
#define UINT_64 u64
#define SOP(name, bits, expected, scc) \
	KERNEL k_##name(UINT(bits) *out, u32 *condition, const UINT(bits) *a, const UINT(bits) *b) \
	{ \
		UINT(bits) r; \
		u32 c; \
		asm volatile("s_cmp_eq_u32 0, 1\n\t" #name " %0, %2, %3\n\ts_cselect_b32 %1, 1, 0" \
			     : "=&s"(r), "=&s"(c) \
			     : "s"(a[block()]), "s"(b[block()]) \
			     : "scc"); \
		out[block()] = r; \
		condition[block()] = c; \
	}
#include "scalar_ops.def"

/* Loops that end at different times in each lane, a switch, and a call. */
__attribute__((device, noinline)) static u32
step(u32 x, const u32 *weights)
{
	switch (x % 5) {
	case 0:
		return x / 5 + weights[0];
	case 1:
		return x * 3 - weights[1];
	case 2:
		return x ^ weights[2];
	default:
		return x >> 1;
	}
}
KERNEL k_branches(u32 *out, const u32 *in, const u32 *weights, u32 limit)
{
	u32 i = block() * 64 + lane_of_block(), x = in[i], n = 0;

	while (x > 7 && n < limit) {
		x = step(x, weights);
		if (x % 3 == 1)
			x += n;
		n++;
	}
	out[2 * i] = x;
	out[2 * i + 1] = n;
}

/* Lanes. */
#define DPP(name, control, row_mask, bank_mask, bound) \
	KERNEL k_##name(u32 *out, const u32 *in, const u32 *old) \
	{ \
		u32 i = lane_of_block(); \
		out[i] = (u32)__builtin_amdgcn_update_dpp((int)old[i], (int)in[i], control, row_mask, bank_mask, bound); \
	}
#define SWIZZLE(name, pattern) \
	KERNEL k_##name(u32 *out, const u32 *in, const u32 *old) \
	{ \
		u32 i = lane_of_block(); \
		out[i] = (u32)__builtin_amdgcn_ds_swizzle((int)in[i], pattern); \
	}
#include "dpp.def"
KERNEL k_permute(u32 *out, const u32 *in, const u32 *index)
{
	u32 i = lane_of_block();
	u64 odd = __builtin_amdgcn_ballot_w64(in[i] & 1);

	out[i] = (u32)__builtin_amdgcn_ds_bpermute((int)(4 * index[i]), (int)in[i]);
	out[64 + i] = (u32)__builtin_amdgcn_ds_permute((int)(4 * index[i]), (int)in[i]);
	out[128 + i] = (u32)__builtin_amdgcn_readlane((int)in[i], 17);
	out[192 + i] = __builtin_amdgcn_mbcnt_hi((u32)(odd >> 32), __builtin_amdgcn_mbcnt_lo((u32)odd, 0));
}

/* Each wave reads what the next one wrote; the second kernel forgets the barrier. */
#define NEIGHBOUR(name, wait) \
	KERNEL name(u32 *out, const u32 *in) \
	{ \
		SHARED static volatile u32 lds[256]; \
		u32 i = lane_of_block(); \
		lds[i] = in[block() * 256 + i]; \
		wait; \
		out[block() * 256 + i] = lds[(i + 64) % 256]; \
	}
NEIGHBOUR(k_neighbour, barrier())
NEIGHBOUR(k_neighbour_no_barrier, (void)0)

/* Widths: copies with sign and zero extension, through global, LDS and flat addresses. */
struct wide {
	u32 w[4];
};
struct three {
	u32 w[3];
};
KERNEL k_widths(int *out, const signed char *b, const u8 *ub, const short *h, const u16 *uh, struct wide *w, struct three *t)
{
	u32 i = lane_of_block();
	struct wide x = w[i];
	struct three y = t[i];

	out[i] = b[i] + ub[i] * 3 + h[i] * 5 + uh[i] * 7;
	((u8 *)out)[1024 + i] = (u8)(ub[i] + 1);
	((u16 *)out)[1024 + i] = (u16)(uh[i] + 1);
	for (int k = 0; k < 4; k++)
		x.w[k] += k;
	for (int k = 0; k < 3; k++)
		y.w[k] ^= 0x55;
	w[63 - i + 64] = x;
	t[63 - i + 64] = y;
}
KERNEL k_flat(u32 *out, const u32 *in, u32 from_lds)
{
	SHARED static u32 lds[64];
	volatile u32 own[4];
	u32 i = lane_of_block();
	volatile u32 *p;

	lds[i] = in[i] + 1;
	for (u32 k = 0; k < 4; k++)
		own[(k + i) & 3] = in[i] + 2 + k;
	barrier();
	p = from_lds == 0 ? (volatile u32 *)&in[i] : from_lds == 1 ? (volatile u32 *)&lds[i] : &own[i & 3];
	out[i] = *p;
	*p = 0;
	out[64 + i] = *p + own[(i + 1) & 3];
}
KERNEL k_lds(u64 *out, const u64 *in)
{
	SHARED static u64 lds[320];
	SHARED static struct wide quads[64];
	SHARED static u16 halves[64];
	u32 i = lane_of_block();

	lds[i] = in[i];
	lds[i + 128] = in[i] * 3;
	quads[i].w[0] = quads[i].w[3] = (u32)in[i];
	quads[i].w[1] = quads[i].w[2] = (u32)(in[i] >> 32);
	halves[i] = (u16)in[i];
	barrier();
	struct wide q = quads[63 - i];
	out[i] = lds[63 - i] + lds[63 - i + 128];
	out[64 + i] = (u64)q.w[2] << 32 | q.w[3];
	out[128 + i] = halves[(i * 7) % 64];
}

/* Buffers: the descriptor holds `bytes`; lanes from there on read zero and their stores vanish. */
KERNEL k_buffer(u32 *out, u32 *in, u32 bytes)
{
	u32 i = lane_of_block();
	__amdgpu_buffer_rsrc_t r = __builtin_amdgcn_make_buffer_rsrc(in, 0, (int)bytes, 0x00027000);

	out[i] = __builtin_amdgcn_raw_buffer_load_b32(r, (int)(4 * i), 0, 0);
	out[64 + i] = __builtin_amdgcn_raw_buffer_load_b8(r, (int)i, 3, 0);
	__builtin_amdgcn_raw_buffer_store_b32(out[i] + 1, r, (int)(4 * i), 256, 0);
}

/* Atomics of all kinds on global memory (0...) and LDS (16...). */
#define ATOMICS(p, q, f, x) \
	__hip_atomic_fetch_add(&p[0], x, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_sub(&p[1], x, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_and(&p[2], ~(1u << (x % 32)), __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_or(&p[3], 1u << (x % 32), __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_xor(&p[4], x, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_min(&p[5], x, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_max(&p[6], x, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_max((int *)&p[7], (int)x - 100000, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_add(&q[0], (u64)x << 30, __ATOMIC_RELAXED, SCOPE); \
	__hip_atomic_fetch_max(&q[1], (u64)x << 31, __ATOMIC_RELAXED, SCOPE); \
	for (u32 old = 0;;) \
		if (__hip_atomic_compare_exchange_strong(&p[8], &old, old * 5 + 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED, SCOPE)) \
			break; \
	unsafeAtomicAdd(f, (float)(x % 64))
DEVICE static inline void
unsafeAtomicAdd(float *f, float x)
{
	__hip_atomic_fetch_add(f, x, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
KERNEL k_atomics(u32 *p, u64 *q, float *f, const u32 *in, u32 *slots)
{
	SHARED static u32 lp[16];
	SHARED static u64 lq[2];
	SHARED static float lf[1];
	u32 i = block() * 128 + lane_of_block(), x = in[i];

#define SCOPE __HIP_MEMORY_SCOPE_AGENT
	ATOMICS(p, q, f, x);
	slots[__hip_atomic_fetch_add(&p[9], 1u, __ATOMIC_RELAXED, SCOPE)] = x;
#undef SCOPE
	if (block() != 0)
		return;
	if (lane_of_block() < 16)
		lp[lane_of_block()] = lane_of_block() == 2 || lane_of_block() == 5 ? ~0u : 0;
	if (lane_of_block() < 2)
		lq[lane_of_block()] = 0;
	lf[0] = 0;
	barrier();
#define SCOPE __HIP_MEMORY_SCOPE_WORKGROUP
	ATOMICS(lp, lq, lf, x);
#undef SCOPE
	barrier();
	if (lane_of_block() < 9)
		p[16 + lane_of_block()] = lp[lane_of_block()];
	if (lane_of_block() < 2)
		q[2 + lane_of_block()] = lq[lane_of_block()];
	f[1] = lf[0];
}

/* Matrix instructions: a lane's words one after the other. */
#define MFMA(name, M, blocks, k, words, regs, ta, tb) \
	KERNEL k_##name(float##regs *out, const float##words *a, const float##words *b, const float##regs *c) \
	{ \
		u32 i = lane_of_block(); \
		float##regs d; \
		asm volatile(#name " %0, %1, %2, %3\n\ts_nop 15\n\ts_nop 15" : "=&v"(d) : "v"(a[i]), "v"(b[i]), "v"(c[i])); \
		out[i] = d; \
	}
#include "mfma.def"

/* Arithmetic that the compiler chooses instructions for: halves and floats in pairs, mixed precision, division. */
typedef _Float16 half2 __attribute__((ext_vector_type(2)));
KERNEL k_packed(half2 *out, const half2 *a, const half2 *b, const half2 *c)
{
	u32 i = lane_of_block();
	half2 x = a[i], y = b[i], z = c[i], high = x.yy;

	out[i] = x + y;
	out[64 + i] = x * y.yx;
	out[128 + i] = __builtin_elementwise_fma(high, -y, z);
	out[192 + i] = __builtin_elementwise_max(x, y);
}
KERNEL k_mixed(float *out, const half2 *a, const half2 *b, const float *c)
{
	u32 i = lane_of_block();

	out[i] = __builtin_fmaf((float)a[i].x, (float)b[i].y, c[i]);
	out[64 + i] = __builtin_fmaf(-(float)a[i].y, (float)b[i].x, __builtin_fabsf(c[i]));
}
KERNEL k_pairs(float2 *out, const float2 *a, const float2 *b, const float2 *c)
{
	u32 i = lane_of_block();
	float2 product, sum, fused;

	asm("v_pk_mul_f32 %0, %1, %2 op_sel:[1,0] op_sel_hi:[0,1]" : "=v"(product) : "v"(a[i]), "v"(b[i]));
	asm("v_pk_add_f32 %0, %1, %2 neg_lo:[0,1]" : "=v"(sum) : "v"(a[i]), "v"(b[i]));
	asm("v_pk_fma_f32 %0, %1, %2, %3" : "=v"(fused) : "v"(a[i]), "v"(b[i]), "v"(c[i]));
	out[i] = product;
	out[64 + i] = sum;
	out[128 + i] = fused;
}
KERNEL k_divide(float *f, double *d, int *n, long *l)
{
	u32 i = lane_of_block();

	f[128 + i] = f[i] / f[64 + i];
	d[128 + i] = d[i] / d[64 + i];
	d[192 + i] = __builtin_sqrt(d[i]);
	n[128 + i] = n[i] / n[64 + i];
	n[192 + i] = n[i] % n[64 + i];
	l[128 + i] = l[i] / l[64 + i];
	l[192 + i] = l[i] % l[64 + i];
}
KERNEL k_fp8(u32 *packed, float *values, const float *a)
{
	u32 i = lane_of_block();
	int low = __builtin_amdgcn_cvt_pk_fp8_f32(a[2 * i], a[2 * i + 1], 0x5a5a5a5a, false);
	int high = __builtin_amdgcn_cvt_pk_bf8_f32(a[2 * i], a[2 * i + 1], 0x5a5a5a5a, true);

	packed[i] = (u32)low;
	packed[64 + i] = (u32)high;
	values[i] = __builtin_amdgcn_cvt_f32_fp8((int)i * 0x01010101, 2);
	values[64 + i] = __builtin_amdgcn_cvt_f32_bf8((int)i * 0x01010101 + 0x40404040, 1);
}
/* Each comparison, as a bit for each lane. */
#define COMPARES(name, type) \
	KERNEL name(u64 *out, const type *a, const type *b) \
	{ \
		u32 i = lane_of_block(); \
		u64 m[6] = {__builtin_amdgcn_ballot_w64(a[i] < b[i]),  __builtin_amdgcn_ballot_w64(a[i] <= b[i]), \
			    __builtin_amdgcn_ballot_w64(a[i] > b[i]),  __builtin_amdgcn_ballot_w64(a[i] >= b[i]), \
			    __builtin_amdgcn_ballot_w64(a[i] == b[i]), __builtin_amdgcn_ballot_w64(a[i] != b[i])}; \
		for (int k = 0; k < 6; k++) \
			out[k] = m[k]; \
	}
COMPARES(k_compare_float, float)
COMPARES(k_compare_double, double)
COMPARES(k_compare_half, _Float16)
COMPARES(k_compare_int, int)
COMPARES(k_compare_uint, u32)
COMPARES(k_compare_long, long)
COMPARES(k_compare_ulong, u64)

/* Arguments of all sizes, and what the runtime adds. */
struct by_value {
	u8 a;
	double d;
	u16 h[3];
};
KERNEL k_arguments(double *out, u8 b, struct by_value v, float f, u16 h, u64 l)
{
	const u32 *packet = (const u32 *)__builtin_amdgcn_dispatch_ptr();
	const u32 *implicit = (const u32 *)__builtin_amdgcn_implicitarg_ptr();

	if (block() != 1 || lane_of_block() != 2)
		return;
	out[0] = b;
	out[1] = v.a + v.d + v.h[0] + v.h[1] + v.h[2];
	out[2] = f;
	out[3] = h;
	out[4] = (double)l;
	out[5] = packet[3];		       /* threads in x */
	out[6] = (packet[1] & 0xffff);	       /* of a workgroup */
	out[7] = implicit[0];		       /* workgroups in x */
	out[8] = ((const u16 *)implicit)[6]; /* threads of one */
}

/* Faults. */
KERNEL k_store(u32 *p, u32 at)
{
	p[at + lane_of_block()] = lane_of_block();
}
KERNEL k_forever(u32 *p)
{
	while (*(volatile u32 *)p == 0)
		;
}
KERNEL k_trap(u32 *p)
{
	if (p[lane_of_block()] != 0)
		__builtin_trap();
}

/* For timing and counts: y = a * x + y. */
KERNEL k_axpy(float *y, const float *x, float a, u32 n)
{
	u32 i = block() * 256 + lane_of_block();

	if (i < n)
		y[i] = a * x[i] + y[i];
}
