/*
 * fp8.c: fp8 codes to values by table, and back by arithmetic in double.
 */
#include "emulator/fp8.h"

#include <math.h>

float emu_fp8_values[2][256];

static const struct {
	int digits, bias; /* of the significand, without the leading one; of the exponent */
} formats[2] = {{3, 8}, {2, 16}};

__attribute__((constructor)) static void
fill(void)
{
	for (int k = 0; k < 2; k++) {
		int digits = formats[k].digits, bias = formats[k].bias;

		for (int x = 0; x < 256; x++) {
			int e = (x & 0x7f) >> digits, m = x & ((1 << digits) - 1);
			double v = e != 0 ? ldexp(m + (1 << digits), e - bias - digits) : ldexp(m, 1 - bias - digits);

			emu_fp8_values[k][x] = x == 0x80 ? NAN : (float)(x & 0x80 ? -v : v);
		}
	}
}

u8
emu_fp8_from_f32(float f, enum fp8_kind kind)
{
	int digits = formats[kind].digits, bias = formats[kind].bias, e, sign = signbit(f) ? 0x80 : 0, m;
	double a = fabs((double)f), largest = emu_fp8_values[kind][0x7f], unit, r;

	if (!isfinite(f))
		return 0x80;
	if (a == 0)
		return 0;
	frexp(a, &e);
	e = e - 1 < 1 - bias ? 1 - bias : e - 1;
	unit = ldexp(1, e - digits);
	r = nearbyint(a / unit) * unit;
	if (r > largest)
		return (u8)(a > largest + unit / 2 ? 0x80 : sign | 0x7f);
	if (r == 0)
		return 0;
	frexp(r, &e);
	e--;
	if (e < 1 - bias)
		return (u8)(sign | (int)ldexp(r, bias - 1 + digits));
	m = (int)((ldexp(r, -e) - 1) * (1 << digits));
	return (u8)(sign | (e + bias) << digits | m);
}
