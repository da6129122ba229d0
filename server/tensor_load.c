/*
 * tensor_load.c: a tensor's elements as float64, many at a time: tensor_get() in loops that the compiler can vectorise. Any
 * thread; owns nothing.
 */
#include <string.h>

#include "clones.h"
#include "tensor.h"

static inline float
float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

/* As fp16_to_float() has it, by masks: a choice would not be vectorised. */
static inline float
float_of_half(uint32_t h)
{
	uint32_t sign = (h & 0x8000) << 16, exp = h & 0x7c00, small_bits;
	uint32_t normal = ((h & 0x7fff) << 13) + (112u << 23), is_small = 0u - (uint32_t)(exp == 0);
	float small = (float)(int32_t)(h & 0x3ff) * 0x1p-24f;

	memcpy(&small_bits, &small, sizeof(small_bits));
	normal |= 0x7f800000u & (0u - (uint32_t)(exp == 0x7c00));
	return float_of(sign | (small_bits & is_small) | (normal & ~is_small));
}

CLONES_SAME static void
load_half(double *restrict out, const uint16_t *restrict p, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (double)float_of_half(p[i]);
}

CLONES_SAME static void
load_bfloat(double *restrict out, const uint16_t *restrict p, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (double)float_of((uint32_t)p[i] << 16);
}

CLONES_SAME static void
load_float(double *restrict out, const float *restrict p, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (double)p[i];
}

void
tensor_load(double *out, const struct tensor *t, int64_t from, int64_t n)
{
	switch ((enum dtype)t->dtype) {
	case DT_FP16:
		load_half(out, (const uint16_t *)t->data + from, n);
		break;
	case DT_BF16:
		load_bfloat(out, (const uint16_t *)t->data + from, n);
		break;
	case DT_FP32:
		load_float(out, (const float *)t->data + from, n);
		break;
	case DT_FP64:
		memcpy(out, (const double *)t->data + from, (size_t)n * sizeof(*out));
		break;
	default:
		for (int64_t i = 0; i < n; i++)
			out[i] = tensor_get(t, from + i);
	}
}
