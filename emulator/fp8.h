/*
 * fp8.h: the 8-bit floats of gfx942, e4m3 ("fp8") and e5m2 ("bf8"), both of the FNUZ kind: no infinities, no
 * negative zero, 0x80 is NaN.
 */
#ifndef EMU_FP8_H
#define EMU_FP8_H

#include "emulator/types.h"

enum fp8_kind { FP8_E4M3, FP8_E5M2 };

/* The value of each code; filled when the program starts. fp8.c */
extern float emu_fp8_values[2][256];

/* To nearest even. Overflow gives NaN, as in hardware with MODE.FP16_OVFL clear. */
u8 emu_fp8_from_f32(float f, enum fp8_kind kind);

#endif
