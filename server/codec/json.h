/*
 * json.h: JSON without a tree for tensor data. The text of a request is scanned once; the values of "data" and
 * "base64" in its inputs go straight into their tensors, the rest, which is small, is given to cJSON.
 */
#ifndef AITERD_JSON_H
#define AITERD_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "tensor.h"

struct cJSON;

/* A value of the text: [begin, end). */
struct json_span {
	const char *begin, *end;
};

#define JSON_SPANS_MAX 32
/* Largest skeleton: cJSON takes up to 50 times its text's size for hostile lists. */
#define JSON_SKELETON_MAX ((size_t)256 << 10)

struct json_cut {
	unsigned max_depth;
	/* Members to cut out of the elements (or members) of the top-level member "inputs"; NULL: none. */
	const char *member1, *member2;
	const char *keep; /* a top-level member whose text is wanted, but stays; NULL: none */
	/* Found: */
	int n_spans;
	struct json_span spans[JSON_SPANS_MAX];
	struct json_span kept; /* begin NULL: not there */
};

/*
 * Cut a text into its skeleton: {"inputs":{"q":{"data":[1,2,3]}}} becomes {"inputs":{"q":{"data":0}}}, whatever the
 * value was, and spans[0] is "[1,2,3]". Only this place is cut: a member called "data" elsewhere stays as it is.
 * Everything but the cut values is checked as in json_parse; of those only nesting, depth and closing.
 * Returns a malloc'ed NUL-terminated skeleton, NULL on error.
 */
char *json_skeleton(const char *text, size_t len, struct json_cut *cut, struct err *e);

/*
 * A cJSON tree from strict JSON (RFC 8259, UTF-8): errors name the byte; nesting deeper than max_depth, duplicate
 * keys and NULs in strings are refused. Numbers keep their text as written in `valuestring`. cJSON_Delete frees it.
 */
struct cJSON *json_parse(const char *text, size_t len, unsigned max_depth, struct err *e);

/*
 * Parse a (possibly nested) array of numbers, booleans (for bool) and the strings "NaN", "Infinity", "-Infinity" into
 * t's data, row major; the count must equal the shape's product, nesting (if any) must agree with the shape.
 * A bare value is fine for rank 0. Integers keep 64 bits and must fit the dtype. Decimal to fp32 is correctly
 * rounded; to fp16 and bf16 it is rounded once from the decimal's float64 value. Not for fp8.
 */
int json_numbers(struct json_span span, struct tensor *t, const char *name, struct err *e);

/* The lengths that a nested array's first elements have, level by level; its rank, or -1 when it is no array or nested
 * deeper than TENSOR_RANK_MAX. json_nested_numbers finds out whether the other elements agree. */
int json_nesting(struct json_span span, int64_t shape[TENSOR_RANK_MAX]);

/* json_numbers with the shape that json_nesting told: an error names the list that departs from it. */
int json_nested_numbers(struct json_span span, struct tensor *t, const char *name, struct err *e);

/* Standard base64 with padding, of exactly t->bytes bytes, into t's data. */
int json_base64(struct json_span span, struct tensor *t, const char *name, struct err *e);

/* float64 and float32 from the JSON number at p (< end), correctly rounded; *next after it, or NULL when there is no
 * number. */
double json_double(const char *p, const char *end, const char **next);
float json_float(const char *p, const char *end, const char **next);

/*
 * The text of a body while it comes in (decode_json.c): small ones in the heap, large ones in the request's memory.
 */
struct json_gather {
	char *p;
	size_t len, cap;
	char *heap; /* what to free, or NULL */
};

/* Refuses more than `limit` bytes. */
int json_gather_add(struct json_gather *g, struct mem *mem, uint64_t limit, const void *p, size_t n, struct err *e);
/* Room for reading straight behind what is there; 0 while the text is small. */
size_t json_gather_window(const struct json_gather *g, unsigned char **dst);
void json_gather_free(struct json_gather *g);

/* What decoders of JSON inputs share (decode_json.c): a dtype by any of its spellings, a shape from its array (the
 * rank, or -1 and e), the tensor from the span that the skeleton's number stands for. */
enum dtype json_dtype(const char *name);
/* The same with an error about the input `name`. */
enum dtype json_dtype_known(const char *text, const char *name, struct err *e);
int json_shape(const struct cJSON *array, const char *name, int64_t shape[TENSOR_RANK_MAX], struct err *e);
/* NULL when the item is not a number of the cut, or was taken before. */
const struct json_span *json_span_of(const struct json_cut *cut, const struct cJSON *item, uint32_t *taken);

#endif
