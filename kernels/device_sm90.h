/*
 * device_sm90.h: Hopper's part of device.h: warps of 32, in CUDA C++ as nvcc compiles it, without CUDA's own type headers.
 * Matrix instructions are not here.
 */
#ifndef AITERD_KERNELS_DEVICE_SM90_H
#define AITERD_KERNELS_DEVICE_SM90_H

#define KERNEL extern "C" __global__
#define DEV __device__ __forceinline__ static
#define DEV_MEMBER __device__ __forceinline__
#define SHARED __shared__
#define LOCAL				 /* of a pointer into SHARED memory */
#define CONSTANT const			 /* of a kernel's arguments, where they lie */
#define ARGUMENT const __grid_constant__ /* before the type of a kernel's parameter */
/* A kernel's workgroup size, and how many of its workgroups a multiprocessor must be able to hold (65536 registers). */
#define BOUNDS(threads, groups) __launch_bounds__(threads, groups)
/* What is computed from x after this is not computed before it. */
#define KEEP(x) __asm__ volatile("" : "+r"(x))
#define KEEP_FLOAT(x) __asm__ volatile("" : "+f"(x))

#define WAVE 32
#define WAVE_ALL 0xffffffffu /* all lanes, for what they do together */

typedef struct {
	uint16_t bits;
} fp16;
typedef struct {
	uint16_t bits;
} bf16;

template <class T> struct is_bf16 {
	enum { value = false };
};
template <> struct is_bf16<bf16> {
	enum { value = true };
};

template <class E, int N> struct alignas(sizeof(E) * N) vec {
	E e[N];

	DEV_MEMBER E &
	operator[](int i)
	{
		return e[i];
	}

	DEV_MEMBER const E &
	operator[](int i) const
	{
		return e[i];
	}
};
typedef vec<float, 2> f2;
typedef vec<float, 4> f4;
typedef vec<uint32_t, 2> u2;
typedef vec<uint32_t, 4> u4;

#define BITS(x) __float_as_uint(x)
#define FROM_BITS(x) __uint_as_float(x)

DEV int
thread_id()
{
	return (int)threadIdx.x;
}

/* The workgroup's place in the grid. */
DEV int
group_x()
{
	return (int)blockIdx.x;
}

DEV int
group_y()
{
	return (int)blockIdx.y;
}

DEV int
group_z()
{
	return (int)blockIdx.z;
}

/* 2^x, log2(x) and 1 / sqrt(x), the hardware's: two units in the last place. */
DEV float
exp2_fast(float x)
{
	float y;

	__asm__("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

DEV float
log2_fast(float x)
{
	return __log2f(x);
}

DEV float
rsqrt_fast(float x)
{
	float y;

	__asm__("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

DEV double
sqrt_wide(double x)
{
	return sqrt(x);
}

/* A value that is the same in all lanes: the compiler knows by itself. */
DEV int
uniform(int x)
{
	return x;
}

DEV float
lane_get(float x, int lane)
{
	return __shfl_sync(WAVE_ALL, x, lane);
}

/* The value of lane ^ mask. */
DEV float
lane_xor(float x, int mask)
{
	return __shfl_xor_sync(WAVE_ALL, x, mask);
}

DEV double
lane_xor(double x, int mask)
{
	return __shfl_xor_sync(WAVE_ALL, x, mask);
}

DEV uint64_t
wave_ballot(bool x)
{
	return __ballot_sync(WAVE_ALL, x);
}

/* All of the workgroup's accesses to SHARED memory before it come before those after it. */
DEV void
barrier()
{
	__syncthreads();
}

DEV float to_float(float x);
DEV float to_float(bf16 x);

DEV float
to_float(fp16 x)
{
	float y;

	__asm__("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
	return y;
}

DEV bf16
to_bf16(float x)
{
	bf16 y;

	__asm__("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
	return y;
}

DEV fp16
to_fp16(float x)
{
	fp16 y;

	__asm__("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
	return y;
}

/* N neighbours at once, to a multiple of their size. */
template <class T, int N>
DEV void
store_together(T *to, const T (&x)[N])
{
	vec<T, N> y;

#pragma unroll
	for (int i = 0; i < N; i++)
		y[i] = x[i];
	*(vec<T, N> *)to = y;
}

/* Two elements in a word, the first below, rounded to nearest even. */
template <class T> DEV uint32_t pack_pair(float lo, float hi);

template <>
__device__ __forceinline__ uint32_t
pack_pair<fp16>(float lo, float hi)
{
	uint32_t x;

	__asm__("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
	return x;
}

template <>
__device__ __forceinline__ uint32_t
pack_pair<bf16>(float lo, float hi)
{
	uint32_t x;

	__asm__("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
	return x;
}

/* 16 bytes of elements, from and to multiples of 16. */
template <class T> struct elements {
	enum { COUNT = 16 / (int)sizeof(T) };
	u4 w;

	DEV_MEMBER void
	load(const T *from)
	{
		uint4 x = *(const uint4 *)from;

		w = u4{x.x, x.y, x.z, x.w};
	}

	DEV_MEMBER void
	store(T *to) const
	{
		__stcs((uint4 *)to, make_uint4(w[0], w[1], w[2], w[3])); /* nobody reads it soon */
	}

	DEV_MEMBER float
	get(int i) const
	{
		if constexpr (sizeof(T) == 4)
			return FROM_BITS(w[i]);
		else
			return to_float(T{(uint16_t)(w[i / 2] >> i % 2 * 16)});
	}

	/* Elements i and i + 1, rounded; i is even. */
	DEV_MEMBER void
	put(int i, float lo, float hi)
	{
		if constexpr (sizeof(T) == 4) {
			w[i] = BITS(lo);
			w[i + 1] = BITS(hi);
		} else {
			w[i / 2] = pack_pair<T>(lo, hi);
		}
	}

	/* Nothing computed from them stays in registers: as with KEEP. */
	DEV_MEMBER void
	keep()
	{
		for (int i = 0; i < 4; i++)
			KEEP(w[i]);
	}
};

/* 16 bytes on their way from global to SHARED memory, zeros if not `there`; commit closes a group, wait leaves LEFT groups under way. */
DEV void
copy_16(void *to, const void *from, bool there)
{
	__asm__ volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
			 :
			 : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0)
			 : "memory");
}

DEV void
copy_commit()
{
	__asm__ volatile("cp.async.commit_group;" : : : "memory");
}

template <int LEFT>
DEV void
copy_wait()
{
	__asm__ volatile("cp.async.wait_group %0;" : : "n"(LEFT) : "memory");
}

/*
 * Four 8 x 8 matrices of 16-bit elements, a row at each lane's address (eight lanes a matrix), as mma.sync takes them; across:
 * transposed.
 */
DEV u4
matrices(const void *row)
{
	u4 x;

	__asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
			 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
			 : "r"((uint32_t)__cvta_generic_to_shared(row))
			 : "memory");
	return x;
}

DEV u4
matrices_across(const void *row)
{
	u4 x;

	__asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
			 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
			 : "r"((uint32_t)__cvta_generic_to_shared(row))
			 : "memory");
	return x;
}

/* Rows r (upper 8) and s (lower 8), columns at and at + 1, += a 16 x 16 by 16 x 8 product. */
template <class T, int N>
DEV void
mma_16(float (&r)[N], float (&s)[N], int at, u4 a, uint32_t b0, uint32_t b1)
{
#define MMA(type)                                                                                                      \
	__asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                                        \
			 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                        \
			 : "+f"(r[at]), "+f"(r[at + 1]), "+f"(s[at]), "+f"(s[at + 1])                                  \
			 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
	if constexpr (sizeof(T) == 2 && is_bf16<T>::value)
		MMA("bf16");
	else
		MMA("f16");
#undef MMA
}

#endif
