/*
 * golden.h: calls with known answers, read from safetensors files (tests/data). Used by the tests of the
 * references and of every implementation.
 */
#ifndef AITERD_TESTS_GOLDEN_H
#define AITERD_TESTS_GOLDEN_H

#include "ops/op.h"

struct golden {
	const struct op *op;
	struct op_call call; /* inputs filled, parameters finished, bound; outputs allocated, filled with 0xA5 */
	/* Float64 answers, by the operator's tensor; DT_NONE where the file has none. */
	struct tensor expected[OP_TENSORS_MAX];
	void *owned[3 * OP_TENSORS_MAX]; /* memory of all of the above */
	int n_owned;
};

/*
 * 0, or -1 and `e`. A name without '/' is looked for in tests/data of $AITERD_SRCDIR (or of the current folder).
 * All outputs that the file has answers for are asked for (return_lse is set by itself).
 */
int golden_load(const char *path, struct golden *g, struct err *e);

/* A call made by hand: inputs described, with data; parameters given. Finishes, binds and allocates outputs. */
int golden_prepare(struct golden *g, struct err *e);

/* n zeroed bytes, 64-byte aligned, freed with g. */
void *golden_alloc(struct golden *g, size_t n);

/* Make every output fp64, for references (they then do not round). */
void golden_outputs_fp64(struct golden *g);

void golden_free(struct golden *g);

/* Largest |got - want| / (atol + rtol |want|) of output i; NaN against NaN and equal infinities count as 0, any other
 * difference in those as infinity. */
double golden_worst(const struct golden *g, int i, double atol, double rtol);

#endif
