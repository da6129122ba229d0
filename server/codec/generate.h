/*
 * generate.h: tensors that nobody uploads: random numbers and sequences, the same bits wherever they are made.
 * api/generate.md is the specification, api/generate-vectors.json holds test vectors. Depends on tensor.h and err.h only:
 * the C client compiles these files, too. Threads: any; every element is a function of its own place.
 */
#ifndef AITERD_CODEC_GENERATE_H
#define AITERD_CODEC_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "tensor.h"

enum generate_kind { GEN_NORMAL, GEN_UNIFORM, GEN_ZEROS, GEN_ONES, GEN_ARANGE, GEN_RANDINT, GEN_COUNT };

struct generate {
	enum generate_kind kind;
	enum dtype dtype;
	uint64_t seed, stream;
	double a, b;	/* normal: mean, std; uniform: low, high; arange of a float dtype: start, step */
	int64_t ia, ib; /* randint: low, high (exclusive); arange of another dtype: start, step */
};

/* Their names ("normal", ...), in the order of the enum and NULL at the end. */
extern const char *const generate_kinds[GEN_COUNT + 1];

/* Seed and stream 0, mean 0, std 1, low 0, high 1, start 0, step 1. */
void generate_init(struct generate *g, enum generate_kind kind, enum dtype dt);

/* Can this be made, for a tensor of so many elements? Else an error about `name`. */
int generate_check(const struct generate *g, const char *name, int64_t elements, struct err *e);

/* Elements [first, first + n) of the tensor, the first of them at out; what generate_check accepts. */
void generate_fill(const struct generate *g, void *out, uint64_t first, uint64_t n);

/* A standard normal pair from two words of a block, in float64; for tests. */
void generate_normal_pair(uint32_t radius, uint32_t angle, double z[2]);

/* For tests: use the loops for at most this instruction set ("", "avx2", "avx512"); false when this processor has not
 * got it. generate_isa: what is in use. */
bool generate_set_isa(const char *name);
const char *generate_isa(void);

#endif
