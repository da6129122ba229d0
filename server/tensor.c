/*
 * tensor.c: the dtype table, tensor descriptors and scalar conversions. Called by front and workers; nothing here
 * owns memory. The conversions are the exact ones: what rounds here rounds once, to nearest, ties to even.
 */
#include "tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BYTES_MAX (INT64_C(1) << 62)

static const struct dtype_info infos[DT_COUNT] = {
	[DT_NONE] = {"none", "", "", NULL, "", 0, false},
	[DT_FP32] = {"fp32", "float32", "F32", "<f4", "FP32", 4, true},
	[DT_FP16] = {"fp16", "float16", "F16", "<f2", "FP16", 2, true},
	[DT_BF16] = {"bf16", "bfloat16", "BF16", "<V2", "BF16", 2, true},
	[DT_FP64] = {"fp64", "float64", "F64", "<f8", "FP64", 8, true},
	[DT_INT8] = {"int8", "int8", "I8", "|i1", "INT8", 1, false},
	[DT_UINT8] = {"uint8", "uint8", "U8", "|u1", "UINT8", 1, false},
	[DT_INT32] = {"int32", "int32", "I32", "<i4", "INT32", 4, false},
	[DT_INT64] = {"int64", "int64", "I64", "<i8", "INT64", 8, false},
	[DT_BOOL] = {"bool", "bool", "BOOL", "|b1", "BOOL", 1, false},
	[DT_FP8_E4M3] = {"fp8_e4m3", "float8_e4m3fn", "F8_E4M3", "|V1", "FP8_E4M3", 1, true},
	[DT_FP8_E4M3FNUZ] = {"fp8_e4m3fnuz", "float8_e4m3fnuz", "F8_E4M3FNUZ", "|V1", "FP8_E4M3FNUZ", 1, true},
	[DT_FP8_E5M2] = {"fp8_e5m2", "float8_e5m2", "F8_E5M2", "|V1", "FP8_E5M2", 1, true},
};

const struct dtype_info *
dtype_info(enum dtype dt)
{
	unsigned i = (unsigned)dt;

	return &infos[i < DT_COUNT ? i : DT_NONE];
}

static bool
same(const char *known, const char *name, size_t len)
{
	return strlen(known) == len && !memcmp(known, name, len);
}

enum dtype
dtype_find(const char *name, size_t len)
{
	static const char torch[] = "torch."; /* str(t.dtype) is "torch.float16" */

	if (len > sizeof(torch) - 1 && memcmp(name, torch, sizeof(torch) - 1) == 0) {
		name += sizeof(torch) - 1;
		len -= sizeof(torch) - 1;
	}
	for (unsigned i = DT_NONE + 1; i < DT_COUNT; i++)
		if (same(infos[i].name, name, len) || same(infos[i].python, name, len))
			return (enum dtype)i;
	return DT_NONE;
}

enum dtype
dtype_find_safetensors(const char *name, size_t len)
{
	for (unsigned i = DT_NONE + 1; i < DT_COUNT; i++)
		if (same(infos[i].safetensors, name, len))
			return (enum dtype)i;
	return DT_NONE;
}

enum dtype
dtype_find_oip(const char *name, size_t len)
{
	for (unsigned i = DT_NONE + 1; i < DT_COUNT; i++)
		if (same(infos[i].oip, name, len))
			return (enum dtype)i;
	return DT_NONE;
}

/* The length is negative, or with it the tensor is too large. */
static int
bad_length(const char *name, int i, int64_t length, struct err *e)
{
	char found[32];

	snprintf(found, sizeof found, "%" PRId64, length);
	if (length < 0)
		return err_input(e, ERR_INVALID_SHAPE, name, found, "lengths of at least 0",
				 "%s's dimension %d is %" PRId64 ": a length cannot be negative", name, i, length);
	return err_input(e, ERR_INVALID_SHAPE, name, found, "at most 2^62 bytes",
			 "%s is too large: its shape stands for more than 2^62 bytes", name);
}

int
tensor_describe(struct tensor *t, const char *name, enum dtype dt, int rank, const int64_t *shape, struct err *e)
{
	int64_t bytes, padded;

	assert(dt > DT_NONE && dt < DT_COUNT && rank >= 0);
	if (rank > TENSOR_RANK_MAX) {
		char found[32];

		snprintf(found, sizeof found, "%d dimensions", rank);
		return err_input(e, ERR_INVALID_SHAPE, name, found, "at most 8 dimensions",
				 "%s has %d dimensions: at most %d are supported", name, rank, TENSOR_RANK_MAX);
	}
	/* An empty dimension must not hide others that overflow: `padded` is the product without the zeros. */
	bytes = padded = infos[dt].size;
	for (int i = 0; i < rank; i++) {
		if (shape[i] < 0 || (shape[i] > 0 && __builtin_mul_overflow(padded, shape[i], &padded)) ||
		    padded > BYTES_MAX)
			return bad_length(name, i, shape[i], e);
		if (shape[i] == 0)
			bytes = 0;
	}
	if (bytes)
		bytes = padded;
	memset(t, 0, sizeof *t);
	t->dtype = (uint8_t)dt;
	t->rank = (uint8_t)rank;
	t->bytes = (uint64_t)bytes;
	for (int i = 0; i < rank; i++)
		t->shape[i] = shape[i];
	return 0;
}

int64_t
tensor_elements(const struct tensor *t)
{
	int64_t n = 1;

	/* Zeros first: the other lengths' product may be large, see tensor_describe. */
	for (int i = 0; i < t->rank; i++)
		if (t->shape[i] == 0)
			return 0;
	for (int i = 0; i < t->rank; i++)
		n *= t->shape[i];
	return n;
}

char *
tensor_shape_text(const struct tensor *t, char *buf, size_t size)
{
	size_t n = 0;

	assert(size > 0);
	buf[0] = '\0';
	for (int i = 0; i <= t->rank && n < size; i++) {
		int w;

		if (i < t->rank)
			w = snprintf(buf + n, size - n, "%s%" PRId64, i ? ", " : "[", t->shape[i]);
		else
			w = snprintf(buf + n, size - n, t->rank ? "]" : "[]");
		n += w > 0 ? (size_t)w : 0;
	}
	return buf;
}

static uint32_t
float_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof u);
	return u;
}

static float
bits_float(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

/* d in a format of `ebits` exponent and `mbits` mantissa bits laid out as IEEE 754 does. */
static uint16_t
narrow(double d, unsigned ebits, unsigned mbits)
{
	uint64_t u, man, sig, q, half;
	uint32_t sign, inf = ((1u << ebits) - 1) << mbits;
	int exp, bias = (1 << (ebits - 1)) - 1, e;
	unsigned shift;

	memcpy(&u, &d, sizeof u);
	sign = (uint32_t)(u >> 63) << (ebits + mbits);
	exp = (int)(u >> 52 & 0x7ff);
	man = u & ((UINT64_C(1) << 52) - 1);
	if (exp == 0x7ff && man) /* quiet, with the payload's upper bits */
		return (uint16_t)(sign | inf | 1u << (mbits - 1) | (uint32_t)(man >> (52 - mbits)));
	e = exp - 1023;
	if (e > bias)
		return (uint16_t)(sign | inf);
	if (e < 1 - bias - (int)mbits - 1) /* below half of the smallest subnormal; also float64's own subnormals */
		return (uint16_t)sign;
	sig = man | UINT64_C(1) << 52;
	shift = 52 - mbits;
	if (e < 1 - bias)
		shift += (unsigned)(1 - bias - e);
	/* Half of the last place less a bit, and the bit when the place is odd: no branch, which nothing could predict. */
	half = UINT64_C(1) << (shift - 1);
	q = (sig + half - 1 + (sig >> shift & 1)) >> shift;
	/* A carry out of the mantissa raises the exponent by itself, up to infinity. */
	if (e >= 1 - bias)
		q += (uint64_t)(e + bias - 1) << mbits;
	return (uint16_t)(sign | (uint32_t)q);
}

float
fp16_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 0x1f, man = h & 0x3ff;

	if (exp == 0x1f)
		return bits_float(sign | 0x7f800000u | man << 13);
	if (exp == 0) {
		float f = (float)man * 0x1p-24f;

		return sign ? -f : f;
	}
	return bits_float(sign | (exp + 112) << 23 | man << 13);
}

uint16_t
fp16_from_float(float f)
{
	return narrow((double)f, 5, 10);
}

uint16_t
fp16_from_double(double d)
{
	return narrow(d, 5, 10);
}

float
bf16_to_float(uint16_t h)
{
	return bits_float((uint32_t)h << 16);
}

uint16_t
bf16_from_float(float f)
{
	uint32_t u = float_bits(f);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

uint16_t
bf16_from_double(double d)
{
	return narrow(d, 8, 7);
}

float
fp8_e4m3_to_float(uint8_t v)
{
	uint32_t exp = v >> 3 & 0xf, man = v & 7;
	float f;

	if ((v & 0x7f) == 0x7f)
		return bits_float((uint32_t)(v & 0x80) << 24 | 0x7fc00000u);
	f = exp ? ldexpf((float)(8 + man), (int)exp - 10) : ldexpf((float)man, -9);
	return v & 0x80 ? -f : f;
}

float
fp8_e4m3fnuz_to_float(uint8_t v)
{
	uint32_t exp = v >> 3 & 0xf, man = v & 7;
	float f;

	if (v == 0x80)
		return bits_float(0x7fc00000u);
	f = exp ? ldexpf((float)(8 + man), (int)exp - 11) : ldexpf((float)man, -10);
	return v & 0x80 ? -f : f;
}

float
fp8_e5m2_to_float(uint8_t v)
{
	return fp16_to_float((uint16_t)(v << 8)); /* the same format with a shorter mantissa */
}

double
tensor_get(const struct tensor *t, int64_t i)
{
	const char *p = t->data;

	switch ((enum dtype)t->dtype) {
	case DT_FP32:
		return (double)((const float *)(const void *)p)[i];
	case DT_FP16:
		return (double)fp16_to_float(((const uint16_t *)(const void *)p)[i]);
	case DT_BF16:
		return (double)bf16_to_float(((const uint16_t *)(const void *)p)[i]);
	case DT_FP64:
		return ((const double *)(const void *)p)[i];
	case DT_INT8:
		return ((const int8_t *)p)[i];
	case DT_UINT8:
		return ((const uint8_t *)p)[i];
	case DT_INT32:
		return ((const int32_t *)(const void *)p)[i];
	case DT_INT64:
		return (double)((const int64_t *)(const void *)p)[i];
	case DT_BOOL:
		return ((const uint8_t *)p)[i] != 0;
	case DT_FP8_E4M3:
		return (double)fp8_e4m3_to_float(((const uint8_t *)p)[i]);
	case DT_FP8_E4M3FNUZ:
		return (double)fp8_e4m3fnuz_to_float(((const uint8_t *)p)[i]);
	case DT_FP8_E5M2:
		return (double)fp8_e5m2_to_float(((const uint8_t *)p)[i]);
	case DT_NONE:
	case DT_COUNT:
		break;
	}
	assert(0 && "tensor_get: no dtype");
	return 0;
}

/* v rounded to the nearest integer, ties to even, held within [lo, hi]. */
static int64_t
to_integer(double v, int64_t lo, int64_t hi)
{
	if (isnan(v))
		return 0;
	v = nearbyint(v);
	if (v <= (double)lo)
		return lo;
	if (v >= (double)hi) /* (double)INT64_MAX is 2^63 */
		return hi;
	return (int64_t)v;
}

void
tensor_put(const struct tensor *t, int64_t i, double v)
{
	char *p = t->data;

	switch ((enum dtype)t->dtype) {
	case DT_FP32:
		((float *)(void *)p)[i] = (float)v;
		return;
	case DT_FP16:
		((uint16_t *)(void *)p)[i] = fp16_from_double(v);
		return;
	case DT_BF16:
		((uint16_t *)(void *)p)[i] = bf16_from_double(v);
		return;
	case DT_FP64:
		((double *)(void *)p)[i] = v;
		return;
	case DT_INT8:
		((int8_t *)p)[i] = (int8_t)to_integer(v, INT8_MIN, INT8_MAX);
		return;
	case DT_UINT8:
		((uint8_t *)p)[i] = (uint8_t)to_integer(v, 0, UINT8_MAX);
		return;
	case DT_INT32:
		((int32_t *)(void *)p)[i] = (int32_t)to_integer(v, INT32_MIN, INT32_MAX);
		return;
	case DT_INT64:
		((int64_t *)(void *)p)[i] = to_integer(v, INT64_MIN, INT64_MAX);
		return;
	case DT_BOOL:
		((uint8_t *)p)[i] = (uint8_t)(v < 0 || v > 0);
		return;
	case DT_FP8_E4M3:
	case DT_FP8_E4M3FNUZ:
	case DT_FP8_E5M2:
	case DT_NONE:
	case DT_COUNT:
		break;
	}
	assert(0 && "tensor_put: no such dtype");
}
