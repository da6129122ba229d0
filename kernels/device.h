/*
 * device.h: the little of a GPU's language that our kernels use, the same for every architecture: vector types, wave and
 * workgroup operations, elements. Included by every .hip file. Architectures bring device_<arch>.h; clang compiles for
 * gfx942, nvcc for sm_90.
 */
#ifndef AITERD_KERNELS_DEVICE_H
#define AITERD_KERNELS_DEVICE_H

#include <stdint.h>

#ifdef __CUDACC__
#include "device_sm90.h"
#else
#include "device_gfx942.h"
#endif

#define INF __builtin_inff()
#define BITS_NAN 0x7fc00000u
#define BITS_INF 0x7f800000u
#define BITS_MINUS_INF 0xff800000u

DEV bool
bits_finite(uint32_t x)
{
	return (x & BITS_INF) != BITS_INF;
}

DEV bool
bits_zero(uint32_t x)
{
	return x << 1 == 0;
}

/* Elements: to and from float, to nearest even. */
DEV float
to_float(float x)
{
	return x;
}

DEV float
to_float(bf16 x)
{
	return FROM_BITS((uint32_t)x.bits << 16);
}

template <class T> struct rounded;
template <> struct rounded<float> {
	DEV_MEMBER static float
	from(float x)
	{
		return x;
	}
};
template <> struct rounded<fp16> {
	DEV_MEMBER static fp16
	from(float x)
	{
		return to_fp16(x);
	}
};
/*
 * On AMD a NaN keeps its upper half: the carry could only turn one with a mantissa of all ones into 0, and what the hardware makes,
 * or takes over from a bf16 operand, is none such. On NVIDIA it is, so there the hardware rounds.
 */
template <> struct rounded<bf16> {
	DEV_MEMBER static bf16
	from(float x)
	{
#ifdef __CUDACC__
		return to_bf16(x);
#else
		uint32_t b = BITS(x);

		return bf16{(uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16)};
#endif
	}
};

#endif
