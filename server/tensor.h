/*
 * tensor.h: dtypes and tensor descriptors, as front and workers share them.
 *
 * Tensors are dense, row major (C order), little endian. A descriptor is plain data: it travels
 * to the worker inside a message, and each side sets `data` to its own mapping.
 */
#ifndef AITERD_TENSOR_H
#define AITERD_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define TENSOR_RANK_MAX 8
#define TENSOR_NAME_MAX 48 /* with the NUL */

enum dtype {
	DT_NONE = 0,
	DT_FP32,
	DT_FP16,
	DT_BF16,
	DT_FP64,
	DT_INT8,
	DT_UINT8,
	DT_INT32,
	DT_INT64,
	DT_BOOL,
	DT_FP8_E4M3,
	DT_FP8_E4M3FNUZ,
	DT_FP8_E5M2,
	DT_COUNT
};

struct dtype_info {
	const char *name;	 /* ours: "fp16" */
	const char *python;	 /* what numpy and torch call it: "float16" */
	const char *safetensors; /* "F16" */
	const char *npy;	 /* "<f2"; bf16 and fp8 as ml_dtypes writes them: "<V2", "|V1" */
	const char *oip;	 /* "FP16" */
	uint8_t size;		 /* bytes */
	bool is_float;
};

struct tensor {
	uint8_t dtype; /* enum dtype; DT_NONE: the tensor is absent */
	uint8_t rank;
	uint16_t reserved0;
	uint32_t slab;	 /* which arena memory it lies in, and where */
	uint64_t offset; /* from the start of the slab */
	uint64_t bytes;	 /* exactly the product of shape times the dtype's size */
	int64_t shape[TENSOR_RANK_MAX];
	void *data; /* this process's mapping; not valid across a message */
};

const struct dtype_info *dtype_info(enum dtype dt);

/* By our name or numpy's and torch's; DT_NONE if unknown. `_safetensors`, `_oip`: their spellings. */
enum dtype dtype_find(const char *name, size_t len);
enum dtype dtype_find_safetensors(const char *name, size_t len);
enum dtype dtype_find_oip(const char *name, size_t len);

/* Set dtype, rank, shape and bytes; refuses negative lengths, rank > 8 and overflow of 2^62 bytes. */
int tensor_describe(struct tensor *t, const char *name, enum dtype dt, int rank, const int64_t *shape, struct err *e);

/* Product of the lengths; 1 for rank 0. */
int64_t tensor_elements(const struct tensor *t);

/* "[2, 512, 8, 64]" into buf; returns buf. */
char *tensor_shape_text(const struct tensor *t, char *buf, size_t size);

/* Scalar conversions; to half and bfloat16 round to nearest even, NaN stays NaN. */
float fp16_to_float(uint16_t h);
uint16_t fp16_from_float(float f);
float bf16_to_float(uint16_t h);
uint16_t bf16_from_float(float f);
/* From float64, rounded once (no double rounding through float). */
uint16_t fp16_from_double(double d);
uint16_t bf16_from_double(double d);
float fp8_e4m3_to_float(uint8_t v);
float fp8_e4m3fnuz_to_float(uint8_t v);
float fp8_e5m2_to_float(uint8_t v);

/* Element i of the tensor's data as float64 (bool as 0 or 1), whatever its dtype. */
double tensor_get(const struct tensor *t, int64_t i);
/* Elements [from, from + n), the same way, faster. (tensor_load.c) */
void tensor_load(double *out, const struct tensor *t, int64_t from, int64_t n);

/* The reverse, rounded once: float dtypes but fp8, bool, and integers (saturating; NaN is 0). */
void tensor_put(const struct tensor *t, int64_t i, double v);

#endif
