/*
 * test_tensor.c: dtype names, descriptors, and the scalar conversions against the formats' definitions (values by
 * ldexp, rounding by exact midpoints), exhaustively for 8 and 16 bits.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "tensor.h"

Test(tensor, dtype_names)
{
	static const struct {
		enum dtype dt;
		const char *name, *python, *safetensors, *npy, *oip;
		int size;
	} want[] = {
		{DT_FP32, "fp32", "float32", "F32", "<f4", "FP32", 4},
		{DT_FP16, "fp16", "float16", "F16", "<f2", "FP16", 2},
		{DT_BF16, "bf16", "bfloat16", "BF16", "<V2", "BF16", 2},
		{DT_FP64, "fp64", "float64", "F64", "<f8", "FP64", 8},
		{DT_INT8, "int8", "int8", "I8", "|i1", "INT8", 1},
		{DT_UINT8, "uint8", "uint8", "U8", "|u1", "UINT8", 1},
		{DT_INT32, "int32", "int32", "I32", "<i4", "INT32", 4},
		{DT_INT64, "int64", "int64", "I64", "<i8", "INT64", 8},
		{DT_BOOL, "bool", "bool", "BOOL", "|b1", "BOOL", 1},
		{DT_FP8_E4M3, "fp8_e4m3", "float8_e4m3fn", "F8_E4M3", "|V1", NULL, 1},
		{DT_FP8_E4M3FNUZ, "fp8_e4m3fnuz", "float8_e4m3fnuz", "F8_E4M3FNUZ", "|V1", NULL, 1},
		{DT_FP8_E5M2, "fp8_e5m2", "float8_e5m2", "F8_E5M2", "|V1", NULL, 1},
	};

	cr_expect_eq(sizeof want / sizeof want[0], DT_COUNT - 1);
	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		const struct dtype_info *info = dtype_info(want[i].dt);

		cr_expect_str_eq(info->name, want[i].name);
		cr_expect_str_eq(info->npy, want[i].npy);
		cr_expect_eq(info->size, want[i].size);
		cr_expect_eq(dtype_find(want[i].name, strlen(want[i].name)), want[i].dt);
		cr_expect_eq(dtype_find(want[i].python, strlen(want[i].python)), want[i].dt);
		cr_expect_eq(dtype_find_safetensors(want[i].safetensors, strlen(want[i].safetensors)), want[i].dt);
		if (want[i].oip)
			cr_expect_eq(dtype_find_oip(want[i].oip, strlen(want[i].oip)), want[i].dt);
		cr_expect_eq(dtype_find_oip(info->oip, strlen(info->oip)), want[i].dt);
	}
	cr_expect_eq(dtype_find("torch.float32", 13), DT_FP32);
	cr_expect_eq(dtype_find("torch.bfloat16", 14), DT_BF16);
	cr_expect_eq(dtype_find("torch.", 6), DT_NONE);
	cr_expect_eq(dtype_find("torch.torch.int8", 16), DT_NONE);
	cr_expect_eq(dtype_find("fp3", 3), DT_NONE);
	cr_expect_eq(dtype_find("fp322", 5), DT_NONE);
	cr_expect_eq(dtype_find("", 0), DT_NONE);
	cr_expect_eq(dtype_find_safetensors("", 0), DT_NONE);
	cr_expect_eq(dtype_find_oip("", 0), DT_NONE);
	cr_expect_eq(dtype_find("none", 4), DT_NONE);
	cr_expect_eq(dtype_info((enum dtype)200)->size, 0);
}

Test(tensor, describe)
{
	const int64_t big = INT64_C(1) << 31;
	struct tensor t;
	struct err e = {0};
	char buf[64];

	cr_expect_eq(tensor_describe(&t, "q", DT_FP16, 4, (const int64_t[]){2, 512, 8, 64}, &e), 0);
	cr_expect_eq(t.bytes, 2 * 512 * 8 * 64 * 2);
	cr_expect_eq(tensor_elements(&t), 2 * 512 * 8 * 64);
	cr_expect_str_eq(tensor_shape_text(&t, buf, sizeof buf), "[2, 512, 8, 64]");
	cr_expect_str_eq(tensor_shape_text(&t, buf, 8), "[2, 512");
	cr_expect_eq(tensor_describe(&t, "s", DT_FP64, 0, NULL, &e), 0);
	cr_expect_eq(t.bytes, 8);
	cr_expect_eq(tensor_elements(&t), 1);
	cr_expect_str_eq(tensor_shape_text(&t, buf, sizeof buf), "[]");
	cr_expect_eq(tensor_describe(&t, "z", DT_FP32, 3, (const int64_t[]){5, 0, big}, &e), 0);
	cr_expect_eq(t.bytes, 0);
	cr_expect_eq(tensor_elements(&t), 0);
	/* 2^62 bytes fit, one more row does not. */
	cr_expect_eq(tensor_describe(&t, "m", DT_INT8, 2, (const int64_t[]){big, big}, &e), 0);
	cr_expect_eq(t.bytes, UINT64_C(1) << 62);
	cr_expect_eq(tensor_describe(&t, "m", DT_INT8, 2, (const int64_t[]){big + 1, big}, &e), -1);
	cr_expect_eq(e.code, ERR_INVALID_SHAPE);
	cr_expect_str_eq(e.input, "m");
	cr_expect_not_null(strstr(e.msg, "2^62"));
	cr_expect_eq(tensor_describe(&t, "m", DT_FP16, 2, (const int64_t[]){big, big}, &e), -1);
	cr_expect_eq(tensor_describe(&t, "m", DT_INT8, 3, (const int64_t[]){INT64_MAX, INT64_MAX, INT64_MAX}, &e), -1);
	/* A zero does not hide the rest, wherever it stands. */
	cr_expect_eq(tensor_describe(&t, "m", DT_FP16, 3, (const int64_t[]){0, big, big}, &e), -1);
	cr_expect_eq(tensor_describe(&t, "m", DT_FP16, 3, (const int64_t[]){big, big, 0}, &e), -1);
	cr_expect_eq(tensor_describe(&t, "neg", DT_FP16, 2, (const int64_t[]){3, -1}, &e), -1);
	cr_expect_not_null(strstr(e.msg, "dimension 1 is -1"));
	cr_expect_eq(tensor_describe(&t, "nine", DT_FP16, 9, (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, &e), -1);
	cr_expect_not_null(strstr(e.msg, "9 dimensions"));
	cr_expect_eq(tensor_describe(&t, "x", DT_FP16, 1, (const int64_t[]){-1}, NULL), -1);
}

/* A format with an exponent of `ebits` and a mantissa of `mbits`, by definition. */
static double
defined(unsigned v, int ebits, int mbits, int bias)
{
	unsigned exp = v >> mbits & ((1u << ebits) - 1), man = v & ((1u << mbits) - 1);
	double f = exp ? ldexp(1 + ldexp(man, -mbits), (int)exp - bias) : ldexp(ldexp(man, -mbits), 1 - bias);

	return v >> (ebits + mbits) & 1 ? -f : f;
}

/* The same value, zeros told apart by sign. */
static bool
same(double a, double b)
{
	return memcmp(&a, &b, sizeof a) == 0;
}

Test(tensor, halves_to_float)
{
	for (unsigned h = 0; h < 65536; h++) {
		double f = (double)fp16_to_float((uint16_t)h), b = (double)bf16_to_float((uint16_t)h);

		if ((h & 0x7c00) == 0x7c00)
			cr_assert(h & 0x3ff ? isnan(f) : same(f, h & 0x8000 ? -INFINITY : INFINITY), "%04x", h);
		else
			cr_assert(same(f, defined(h, 5, 10, 15)), "%04x", h);
		if ((h & 0x7f80) == 0x7f80)
			cr_assert(h & 0x7f ? isnan(b) : same(b, h & 0x8000 ? -INFINITY : INFINITY), "%04x", h);
		else
			cr_assert(same(b, defined(h, 8, 7, 127)), "%04x", h);
	}
}

/* Between h and its successor lies a midpoint: below goes down, above goes up, itself to the even one. */
static void
check_rounding(int ebits, int mbits, int bias, uint16_t (*from_double)(double), uint16_t (*from_float)(float))
{
	unsigned inf = ((1u << ebits) - 1) << mbits;

	for (unsigned h = 0; h < inf; h++) {
		double low = defined(h, ebits, mbits, bias);
		/* What would follow the largest, were there no infinity. */
		double high = h + 1 == inf ? ldexp(2, (int)((1u << ebits) - 2) - bias)
					   : defined(h + 1, ebits, mbits, bias);
		double mid = (low + high) / 2;
		unsigned even = h & 1 ? h + 1 : h, sign = 1u << (ebits + mbits);

		cr_assert_eq(from_double(low), h);
		cr_assert_eq(from_double(-low), h | sign);
		cr_assert_eq(from_double(mid), even, "%04x", h);
		cr_assert_eq(from_double(-mid), even | sign, "%04x", h);
		cr_assert_eq(from_double(nextafter(mid, 0)), h, "%04x", h);
		cr_assert_eq(from_double(nextafter(mid, INFINITY)), h + 1, "%04x", h);
		cr_assert_eq(from_float((float)low), h);
		cr_assert_eq(from_float((float)-low), h | sign);
		/* bf16's smallest midpoint is float's smallest subnormals' business: exact there too. */
		cr_assert_eq(from_float((float)mid), even, "%04x", h);
		cr_assert_eq(from_float(nextafterf((float)mid, 0)), h, "%04x", h);
		cr_assert_eq(from_float(nextafterf((float)mid, INFINITY)), h + 1, "%04x", h);
	}
	cr_assert_eq(from_double(INFINITY), inf);
	cr_assert_eq(from_double(-INFINITY), inf | 1u << (ebits + mbits));
	cr_assert_eq(from_double(1e300), inf);
	cr_assert_eq(from_double(5e-324), 0);
	cr_assert_eq(from_double(-1e-300), 1u << (ebits + mbits));
	cr_assert_eq(from_float(INFINITY), inf);
}

Test(tensor, rounding_once_to_even)
{
	check_rounding(5, 10, 15, fp16_from_double, fp16_from_float);
	check_rounding(8, 7, 127, bf16_from_double, bf16_from_float);
	/* Rounding through float first would give the even neighbour of the midpoint. */
	cr_expect_eq(fp16_from_double(1 + 0x1p-11 + 0x1p-40), 0x3c01);
	cr_expect_eq(bf16_from_double(1 + 0x1p-8 + 0x1p-40), 0x3f81);
}

Test(tensor, nan_stays_nan)
{
	for (unsigned k = 0; k < 32; k++) {
		uint32_t u = 0x7f800000u | (k < 23 ? 1u << k : 0x7fffffu);
		uint64_t w = UINT64_C(0x7ff0000000000000) | UINT64_C(1) << k;
		float f;
		double d;

		memcpy(&f, &u, sizeof f);
		memcpy(&d, &w, sizeof d);
		cr_assert(isnan(fp16_to_float(fp16_from_float(f))));
		cr_assert(isnan(bf16_to_float(bf16_from_float(f))));
		cr_assert(isnan(fp16_to_float(fp16_from_double(d))));
		cr_assert(isnan(bf16_to_float(bf16_from_double(-d))));
	}
	cr_expect_eq(fp16_from_double(-NAN) & 0x8000, 0x8000);
}

Test(tensor, fp8)
{
	for (unsigned v = 0; v < 256; v++) {
		double a = (double)fp8_e4m3_to_float((uint8_t)v), b = (double)fp8_e4m3fnuz_to_float((uint8_t)v);
		double c = (double)fp8_e5m2_to_float((uint8_t)v);

		cr_assert((v & 0x7f) == 0x7f ? isnan(a) : same(a, defined(v, 4, 3, 7)), "%02x", v);
		cr_assert(v == 0x80 ? isnan(b) : same(b, defined(v, 4, 3, 8)), "%02x", v);
		if ((v & 0x7c) == 0x7c)
			cr_assert(v & 3 ? isnan(c) : isinf(c), "%02x", v);
		else
			cr_assert(same(c, defined(v, 5, 2, 15)), "%02x", v);
	}
	/* The corner values everybody quotes. */
	cr_expect_eq(fp8_e4m3_to_float(0x7e), 448.0f);
	cr_expect_eq(fp8_e4m3_to_float(0x01), 0x1p-9f);
	cr_expect_eq(fp8_e4m3fnuz_to_float(0x7f), 240.0f);
	cr_expect_eq(fp8_e4m3fnuz_to_float(0x01), 0x1p-10f);
	cr_expect_eq(fp8_e5m2_to_float(0x7b), 57344.0f);
	cr_expect_eq(fp8_e5m2_to_float(0x01), 0x1p-16f);
}

Test(tensor, get_and_put)
{
	static const double values[] = {0, 1, -1, 2.5, 100, -128, 127.5, 300, -300, 3e9, -3e9, 1e30, -1e30};
	union {
		double align;
		char bytes[64];
	} memory;

	for (int dt = DT_FP32; dt <= DT_BOOL; dt++) {
		struct tensor t;

		cr_assert_eq(tensor_describe(&t, "t", (enum dtype)dt, 1, (const int64_t[]){4}, NULL), 0);
		t.data = memory.bytes;
		for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
			double v = values[i], want = v, lo = 0, hi = 0;

			memset(&memory, 0x5A, sizeof memory);
			tensor_put(&t, 2, v);
			switch (dt) {
			case DT_FP32:
				want = (double)(float)v;
				break;
			case DT_FP16:
				want = fabs(v) > 65519 ? copysign(INFINITY, v) : v;
				break;
			case DT_BF16:
				want = (double)bf16_to_float(bf16_from_double(v));
				break;
			case DT_INT8:
				lo = -128, hi = 127;
				break;
			case DT_UINT8:
				hi = 255;
				break;
			case DT_INT32:
				lo = -2147483648.0, hi = 2147483647;
				break;
			case DT_INT64:
				lo = -0x1p63, hi = 0x1p63;
				break;
			case DT_BOOL:
				want = v != 0;
				break;
			default:
				break;
			}
			if (hi > 0)
				want = fmin(fmax(rint(v), lo), hi);
			cr_assert(same(tensor_get(&t, 2) + 0.0, want + 0.0), "%s of %g: %g",
				  dtype_info((enum dtype)dt)->name, v, tensor_get(&t, 2));
			/* Its neighbours are untouched. */
			for (size_t k = 0; k < sizeof memory.bytes; k++)
				if (k < 2u * dtype_info((enum dtype)dt)->size ||
				    k >= 3u * dtype_info((enum dtype)dt)->size)
					cr_assert_eq(memory.bytes[k], 0x5A);
		}
		tensor_put(&t, 0, NAN);
		if (dtype_info((enum dtype)dt)->is_float)
			cr_assert(isnan(tensor_get(&t, 0)));
		else
			cr_assert_eq(tensor_get(&t, 0), 0);
	}
}

/* All values of the 16-bit dtypes; of the others, some. From the middle, so that the vectors' ends differ. */
Test(tensor, load_is_get)
{
	static const enum dtype dtypes[] = {DT_FP16, DT_BF16,  DT_FP32,	 DT_FP64,     DT_INT8,
					    DT_BOOL, DT_INT64, DT_INT32, DT_FP8_E4M3, DT_FP8_E5M2};
	static uint64_t bytes[65536 + 16];
	static double out[65536];

	for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
		struct tensor t = {.dtype = (uint8_t)dtypes[d], .data = bytes};
		uint64_t state = 1;

		for (int i = 0; i < 65536 + 16; i++) {
			state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
			bytes[i] = state;
		}
		if (dtype_info(dtypes[d])->size == 2)
			for (int i = 0; i < 65536; i++)
				((uint16_t *)bytes)[i + 5] = (uint16_t)i;
		tensor_load(out, &t, 5, 65536);
		for (int i = 0; i < 65536; i++) {
			double want = tensor_get(&t, i + 5);

			cr_assert(isnan(want) ? isnan(out[i]) != 0 : memcmp(&want, &out[i], sizeof want) == 0, "%s, %d",
				  dtype_info(dtypes[d])->name, i);
		}
	}
}
