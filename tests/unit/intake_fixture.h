/*
 * intake_fixture.h: a small operator, an intake with memory from a real pool, and a driver that hands a body to a
 * decoder in pieces. For the tests and the fuzzers of the decoders; each piece is a block of its own, so that
 * AddressSanitizer sees reads beyond it.
 */
#ifndef INTAKE_FIXTURE_H
#define INTAKE_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "codec/decoder.h"
#include "codec/intake.h"
#include "ops/op.h"

#define FIXTURE_TENSOR_BYTES ((uint64_t)8 << 20)
#define FIXTURE_JSON_BYTES ((uint64_t)1 << 20)

static const struct op_tensor fixture_tensors[] = {
	{.name = "q", .role = OP_IN, .dtypes = "fp32|fp16|bf16", .shape = "M.. D", .help = "queries"},
	{.name = "key", .role = OP_IN, .dtypes = "fp32", .shape = "M.. D", .help = "keys", .aliases = "k|keys"},
	{.name = "value", .role = OP_IN, .dtypes = "fp32", .shape = "M.. D", .help = "values", .optional = true},
	{.name = "weight", .role = OP_IN, .dtypes = "fp32", .shape = "D", .help = "weights", .optional = true},
	{.name = "out", .role = OP_OUT, .dtypes = "=q", .shape = "M.. D", .help = "result"},
	{.name = NULL},
};

static const struct op_param fixture_params[] = {
	{.name = "causal", .type = OP_BOOL, .fallback = "false", .help = "mask"},
	{.name = NULL},
};

static const struct op fixture_op = {
	.name = "sample_op",
	.summary = "For tests.",
	.tensors = fixture_tensors,
	.params = fixture_params,
};

struct fixture {
	struct mem mem;
	struct intake in;
};

static inline void
fixture_init(struct fixture *f, const struct op *op)
{
	static struct arena_pool *pool; /* stays until the process ends */
	const struct intake_limits limits = {
		.json_bytes = FIXTURE_JSON_BYTES, .json_depth = 16, .tensor_bytes = FIXTURE_TENSOR_BYTES};

	if (!pool)
		pool = arena_pool_new(8 * FIXTURE_TENSOR_BYTES, 0, NULL);
	if (!pool)
		abort();
	mem_init(&f->mem, pool, 0);
	intake_init(&f->in, op, &f->mem, &limits);
}

static inline void
fixture_fini(struct fixture *f)
{
	intake_fini(&f->in);
	mem_fini(&f->mem);
}

/* Make the generated tensors, as the front does. */
static inline int
fixture_fill(struct fixture *f, struct err *e)
{
	if (intake_reserve(&f->in, e) < 0)
		return -1;
	for (int i = 0; i < f->in.n_tensors; i++)
		if (f->in.tensors[i].generated)
			intake_fill(&f->in.tensors[i], 0, (uint64_t)tensor_elements(&f->in.tensors[i].t));
	return 0;
}

/* Drive a decoder over the whole body in pieces of `step` bytes, through its window where it offers one and
 * `window` says so, then finish and free it. Returns 0 or -1. */
static inline int
fixture_drive(struct decoder *d, const unsigned char *p, size_t n, size_t step, bool window, struct err *e)
{
	int rc = 0;

	if (!d)
		abort();
	while (n > 0 && rc == 0) {
		size_t m = n < step ? n : step;
		unsigned char *dst;
		size_t room = window ? d->ops->window(d, &dst) : 0;
		if (room > 0) {
			m = m < room ? m : room;
			memcpy(dst, p, m);
			rc = d->ops->advance(d, m, e);
		} else {
			unsigned char *piece = malloc(m);
			if (!piece)
				abort();
			memcpy(piece, p, m);
			rc = d->ops->feed(d, piece, m, e);
			free(piece);
		}
		p += m;
		n -= m;
	}
	if (rc == 0)
		rc = d->ops->finish(d, e);
	decoder_free(&d);
	return rc;
}

#endif
