/*
 * types.h: short names for the integer widths, which instruction sets are full of, and the reinterpreting of
 * register bits as floats. Included by everything in this folder.
 */
#ifndef EMU_TYPES_H
#define EMU_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

static inline float
as_f32(u32 x)
{
	float f;

	memcpy(&f, &x, sizeof f);
	return f;
}

static inline u32
as_u32(float x)
{
	u32 u;

	memcpy(&u, &x, sizeof u);
	return u;
}

static inline double
as_f64(u64 x)
{
	double d;

	memcpy(&d, &x, sizeof d);
	return d;
}

static inline u64
as_u64(double x)
{
	u64 u;

	memcpy(&u, &x, sizeof u);
	return u;
}

#endif
