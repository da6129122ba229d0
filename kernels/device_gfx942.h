/*
 * device_gfx942.h: gfx942's (CDNA3's) part of device.h: waves of 64, by clang's built-in functions, no vendor's headers.
 * Matrix instructions are not here: attn_mfma.h.
 */
#ifndef AITERD_KERNELS_DEVICE_GFX942_H
#define AITERD_KERNELS_DEVICE_GFX942_H

#define KERNEL extern "C" __attribute__((global))
#define DEV __attribute__((device, always_inline)) static inline
#define DEV_MEMBER __attribute__((device, always_inline)) inline
#define SHARED __attribute__((shared))
#define LOCAL __attribute__((address_space(3)))		 /* of a pointer into SHARED memory */
#define CONSTANT const __attribute__((address_space(4))) /* of a kernel's arguments, where they lie */
#define ARGUMENT					 /* before the type of a kernel's parameter */
/* A kernel's workgroup size, and how many waves a SIMD must be able to hold (512 registers shared by all). */
#define BOUNDS(threads, waves)                                                                                         \
	__attribute__((amdgpu_flat_work_group_size(threads, threads), amdgpu_waves_per_eu(waves, waves)))
/* What is computed from x after this is not computed before it. */
#define KEEP(x) __asm__ volatile("" : "+v"(x))

#define WAVE 64

typedef _Float16 fp16;
typedef struct {
	uint16_t bits;
} bf16;

template <class E, int N> using vec = E __attribute__((ext_vector_type(N)));
typedef vec<float, 2> f2;
typedef vec<float, 4> f4;
typedef vec<float, 16> f16;
typedef vec<uint32_t, 2> u2;
typedef vec<uint32_t, 4> u4;

/*
 * The kernels are compiled with -fno-honor-nans, because only then does a maximum of three take one instruction. So whatever is
 * about NaN works on the bits; macros, because a function's float arguments and results would be taken for numbers.
 */
#define BITS(x)                                                                                                        \
	__builtin_bit_cast(uint32_t, (float)(x)) /* the cast because clang 19 takes element 0 of a vector for any */
#define FROM_BITS(x) __builtin_bit_cast(float, (uint32_t)(x))

DEV int
thread_id()
{
	return (int)__builtin_amdgcn_workitem_id_x();
}

/* The workgroup's place in the grid. */
DEV int
group_x()
{
	return (int)__builtin_amdgcn_workgroup_id_x();
}

DEV int
group_y()
{
	return (int)__builtin_amdgcn_workgroup_id_y();
}

DEV int
group_z()
{
	return (int)__builtin_amdgcn_workgroup_id_z();
}

/* The thread's number, but what is computed from it is computed here: for seldom taken branches in loops, to keep registers free. */
DEV int
thread_id_here()
{
	int id = thread_id();

	KEEP(id);
	return id;
}

/* 2^x, log2(x) and 1 / sqrt(x), the hardware's: one unit in the last place. */
DEV float
exp2_fast(float x)
{
	return __builtin_amdgcn_exp2f(x);
}

DEV float
log2_fast(float x)
{
	return __builtin_amdgcn_logf(x);
}

DEV float
rsqrt_fast(float x)
{
	return __builtin_amdgcn_rsqf(x);
}

DEV double
sqrt_wide(double x)
{
	return __builtin_sqrt(x);
}

/* A value that is the same in all lanes, in a scalar register. */
DEV int
uniform(int x)
{
	return __builtin_amdgcn_readfirstlane(x);
}

DEV float
lane_get(float x, int lane)
{
	return FROM_BITS((uint32_t)__builtin_amdgcn_readlane((int)BITS(x), lane));
}

/* The value of lane ^ mask. */
DEV float
lane_xor(float x, int mask)
{
	return FROM_BITS(__builtin_amdgcn_ds_bpermute((thread_id_here() ^ mask) % WAVE * 4, (int)BITS(x)));
}

DEV double
lane_xor(double x, int mask)
{
	u2 w = __builtin_bit_cast(u2, x);
	int at = (thread_id_here() ^ mask) % WAVE * 4;
	u2 y = {(uint32_t)__builtin_amdgcn_ds_bpermute(at, (int)w.x),
		(uint32_t)__builtin_amdgcn_ds_bpermute(at, (int)w.y)};

	return __builtin_bit_cast(double, y);
}

DEV uint64_t
wave_ballot(bool x)
{
	return __builtin_amdgcn_ballot_w64(x);
}

/* All of the workgroup's accesses to SHARED memory before it come before those after it. */
DEV void
barrier()
{
	__builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
	__builtin_amdgcn_s_barrier();
	__builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

/* Global memory of `size` bytes from p, both uniform: loads past the end give 0. */
typedef __amdgpu_buffer_rsrc_t window;
#define WINDOW_OUTSIDE 0x80000000u /* an offset that is never inside */

DEV window
window_make(const void *p, uint32_t size)
{
	return __builtin_amdgcn_make_buffer_rsrc((void *)p, 0, (int)size, 0x00027000);
}

template <int BYTES> struct window_word;
template <> struct window_word<8> {
	typedef u2 type;
	DEV_MEMBER static u2
	load(window w, uint32_t at)
	{
		return __builtin_amdgcn_raw_buffer_load_b64(w, at, 0, 0);
	}
};
template <> struct window_word<16> {
	typedef u4 type;
	DEV_MEMBER static u4
	load(window w, uint32_t at)
	{
		return __builtin_amdgcn_raw_buffer_load_b128(w, at, 0, 0);
	}
};

DEV float to_float(float x);
DEV float to_float(bf16 x);

DEV float
to_float(fp16 x)
{
	return (float)x;
}

DEV fp16
to_fp16(float x)
{
	return (fp16)x;
}

/* N neighbours at once, to a multiple of their size. */
template <class T, int N>
DEV void
store_together(T *to, const T (&x)[N])
{
	__builtin_memcpy(__builtin_assume_aligned(to, sizeof x), x, sizeof x);
}

template <class T> struct rounded;

/* 16 bytes of elements, from and to any address. */
template <class T> struct elements {
	enum { COUNT = 16 / (int)sizeof(T) };
	struct {
		T e[COUNT];
	} x;

	DEV_MEMBER void
	load(const T *from)
	{
		u4 w;

		__builtin_memcpy(&w, from, 16);
		x = __builtin_bit_cast(decltype(x), w);
	}

	DEV_MEMBER void
	store(T *to) const
	{
		u4 w = __builtin_bit_cast(u4, x);

		__builtin_memcpy(to, &w, 16);
	}

	DEV_MEMBER float
	get(int i) const
	{
		return to_float(x.e[i]);
	}

	/* Elements i and i + 1, rounded; i is even. */
	DEV_MEMBER void
	put(int i, float lo, float hi)
	{
		x.e[i] = rounded<T>::from(lo);
		x.e[i + 1] = rounded<T>::from(hi);
	}

	/* Nothing computed from them stays in registers: as with KEEP. */
	DEV_MEMBER void
	keep()
	{
	}
};

#endif
