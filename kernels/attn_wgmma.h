/*
 * attn_wgmma.h: Hopper's instructions that attention needs, as functions: the warpgroup matrix product, copies into
 * shared memory that nobody waits for, barriers in shared memory, and the handing over of registers. Used by
 * attn_sm90.h.
 *
 * Tiles in shared memory consist of blocks of 64 columns (128 bytes), on multiples of 1024 bytes; the 16-byte chunk c
 * of row r lies at r * 128 + (c ^ (r & 7)) * 16, which the hardware calls a swizzle of 128 bytes.
 */
#ifndef AITERD_KERNELS_ATTN_WGMMA_H
#define AITERD_KERNELS_ATTN_WGMMA_H

#include "device.h"

DEV uint32_t
shared_at(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Barriers in shared memory: a phase ends when `count` have arrived; phases are told apart by their parity. */
DEV void
phase_init(uint32_t at, int count)
{
	__asm__ volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

DEV void
phase_init_done()
{
	__asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEV void
phase_arrive(uint32_t at)
{
	__asm__ volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

DEV void
phase_wait(uint32_t at, uint32_t parity)
{
	uint32_t over;

	do
		__asm__ volatile(
			"{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
			: "=r"(over)
			: "r"(at), "r"(parity)
			: "memory");
	while (!over);
}

/* Barriers between warpgroups: `threads` of them, those that only tell included. */
DEV void
turn_wait(int barrier, int threads)
{
	__asm__ volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

DEV void
turn_tell(int barrier, int threads)
{
	__asm__ volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/* 16 bytes to shared memory, as copy_16() of device_sm90.h: `bytes` of them from memory, the rest zeros. */
DEV void
copy_16(uint32_t to, const void *from, int bytes)
{
	__asm__ volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* Arrives, and the phase does not end before `bytes` have been copied for it. */
DEV void
phase_expect(uint32_t at, int bytes)
{
	__asm__ volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

/* A box of a tensor to shared memory, by its first coordinates; what lies outside the tensor becomes 0. */
DEV void
copy_box(uint32_t to, const void *map, int c0, int c1, int c2, int c3, uint32_t phase)
{
	__asm__ volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
			 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
			 "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(phase)
			 : "memory");
}

/* What this thread has written to shared memory is there for the matrix unit. */
DEV void
fence_for_matrix()
{
	__asm__ volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

template <int count>
DEV void
registers_less()
{
	__asm__ volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count>
DEV void
registers_more()
{
	__asm__ volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

DEV void
wgmma_begin()
{
	__asm__ volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DEV void
wgmma_commit()
{
	__asm__ volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int pending>
DEV void
wgmma_wait()
{
	__asm__ volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/*
 * The same once x, which is never negative, is known: the assembler would otherwise have what computes it wait, too,
 * though it could well run beside the products.
 */
template <int pending>
DEV void
wgmma_wait_with(float x)
{
	__asm__ volatile("{ .reg .pred p; setp.lt.f32 p, %1, 0f00000000; @p trap;"
			 "wgmma.wait_group.sync.aligned %0; }" ::"n"(pending),
			 "f"(x)
			 : "memory");
}

/* Keeps what is done with an accumulator on its side of the wgmma_begin() or wgmma_wait() beside it. */
template <int n>
DEV void
wgmma_fence(float (&x)[n])
{
#pragma unroll
	for (int i = 0; i < n; i++)
		__asm__ volatile("" : "+f"(x[i])::"memory");
}

/*
 * A value that is the same in all lanes, where the compiler knows it: in a register of the warp. Descriptors must be
 * there, and what is added to one there need not be carried over each time.
 */
DEV uint32_t
same_in_warp(uint32_t x)
{
	return __reduce_or_sync(WAVE_ALL, x);
}

/*
 * Lower halves of descriptors of operands in shared memory, for 16 elements of the summed dimension. Rows along it
 * (Q, K): groups of 8 rows follow each other; the next 16 elements are 32 bytes on. Rows across it (V): `next` bytes
 * from a block of 64 columns to the next one; the next 16 rows are 2048 bytes on. Addresses count in units of 16
 * bytes.
 */
DEV uint32_t
wgmma_along(uint32_t at)
{
	return 1u << 16 | at >> 4;
}

DEV uint32_t
wgmma_across(uint32_t at, uint32_t next)
{
	return next >> 4 << 16 | at >> 4;
}

/* The upper half: 1024 bytes from one group of 8 rows to the next; swizzled by 128 bytes. */
#define WG_UPPER "0x40000040"

/*
 * The products for a dtype and N columns. scores: acc = or += A B^T with both in shared memory; values: acc += A B
 * with A in registers, B's rows across. The assembler wants every register by name, hence the lists.
 */
template <class T, int N> struct wgmma;

#define WG_R16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)                                                         \
	"%" #a ",%" #b ",%" #c ",%" #d ",%" #e ",%" #f ",%" #g ",%" #h ",%" #i ",%" #j ",%" #k ",%" #l ",%" #m ",%" #n \
	",%" #o ",%" #p
#define WG_R32                                                                                                         \
	WG_R16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)                                                   \
	"," WG_R16(16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31)
#define WG_R48 WG_R32 "," WG_R16(32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47)
#define WG_R64 WG_R48 "," WG_R16(48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63)
#define WG_R80 WG_R64 "," WG_R16(64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79)
#define WG_R96 WG_R80 "," WG_R16(80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95)
#define WG_R128                                                                                                        \
	WG_R96 "," WG_R16(96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111) "," WG_R16(      \
		112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127)
#define WG_O8(d, i)                                                                                                    \
	"+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),    \
		"+f"(d[i + 7])
#define WG_O16(d, i) WG_O8(d, i), WG_O8(d, i + 8)
#define WG_O32(d) WG_O16(d, 0), WG_O16(d, 16)
#define WG_O48(d) WG_O32(d), WG_O16(d, 32)
#define WG_O64(d) WG_O48(d), WG_O16(d, 48)
#define WG_O80(d) WG_O64(d), WG_O16(d, 64)
#define WG_O96(d) WG_O80(d), WG_O16(d, 80)
#define WG_O128(d) WG_O96(d), WG_O16(d, 96), WG_O16(d, 112)

/* n columns are r registers; the operands behind them are numbered i0 (= r) to i5. */
#define WGMMA(T, type, n, r, i0, i1, i2, i3, i4)                                                                       \
	template <> struct wgmma<T, n> {                                                                               \
		DEV_MEMBER static void                                                                                 \
		scores(float (&d)[r], uint32_t a, uint32_t b, int add)                                                 \
		{                                                                                                      \
			__asm__ volatile("{ .reg .pred p; .reg .b64 a, b; setp.ne.b32 p, %" #i2 ", 0;"                 \
					 "mov.b64 a, {%" #i0 ", " WG_UPPER "}; mov.b64 b, {%" #i1 ", " WG_UPPER "};"   \
					 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" WG_R##r  \
					 "}, a, b, p, 1, 1, 0, 0; }"                                                   \
					 : WG_O##r(d)                                                                  \
					 : "r"(a), "r"(b), "r"(add));                                                  \
		}                                                                                                      \
		DEV_MEMBER static void                                                                                 \
		values(float (&d)[r], const uint32_t *a, uint32_t b)                                                   \
		{                                                                                                      \
			__asm__ volatile("{ .reg .pred p; .reg .b64 b; setp.ne.b32 p, 1, 0;"                           \
					 "mov.b64 b, {%" #i4 ", " WG_UPPER "};"                                        \
					 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" WG_R##r  \
					 "}, {%" #i0 ",%" #i1 ",%" #i2 ",%" #i3 "}, b, p, 1, 1, 1; }"                  \
					 : WG_O##r(d)                                                                  \
					 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b));                        \
		}                                                                                                      \
	};
#define WGMMA_ALL(T, type)                                                                                             \
	WGMMA(T, type, 64, 32, 32, 33, 34, 35, 36)                                                                     \
	WGMMA(T, type, 96, 48, 48, 49, 50, 51, 52)                                                                     \
	WGMMA(T, type, 128, 64, 64, 65, 66, 67, 68)                                                                    \
	WGMMA(T, type, 192, 96, 96, 97, 98, 99, 100)                                                                   \
	WGMMA(T, type, 256, 128, 128, 129, 130, 131, 132)
WGMMA_ALL(fp16, "f16")
WGMMA_ALL(bf16, "bf16")

/* Two numbers to one register, rounded to nearest even. */
template <class T> struct halves;
template <> struct halves<fp16> {
	DEV_MEMBER static uint32_t
	of(float lo, float hi)
	{
		uint32_t x;

		__asm__("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
		return x;
	}
};
template <> struct halves<bf16> {
	DEV_MEMBER static uint32_t
	of(float lo, float hi)
	{
		uint32_t x;

		__asm__("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
		return x;
	}
};

#endif
