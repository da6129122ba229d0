/*
 * fuzz_decoder.h: what the fuzzers of the decoders share. The first two bytes of the input say in which pieces the
 * rest comes and whether windows are used; decoding it in one piece must end the same way.
 */
#ifndef FUZZ_DECODER_H
#define FUZZ_DECODER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unit/intake_fixture.h"

typedef struct decoder *(*fuzz_new_f)(struct intake *in);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void
fuzz_require(bool ok)
{
	if (!ok)
		abort();
}

static inline int
fuzz_run(struct fixture *f, const struct op *op, fuzz_new_f make, const uint8_t *p, size_t n, size_t step, bool window)
{
	struct err e = {.code = ERR_NONE};

	fixture_init(f, op);
	f->in.limits.tensor_bytes = 1 << 20;
	f->in.limits.json_bytes = 1 << 16;
	int rc = fixture_drive(make(&f->in), p, n, step, window, &e);
	if (rc == 0)
		rc = intake_finish(&f->in, &e);
	if (rc == 0)
		rc = intake_unshuffle(&f->in, &e);
	if (rc == 0)
		rc = fixture_fill(f, &e);
	/* A failure says why, and in words. */
	fuzz_require((rc == 0) == (e.code == ERR_NONE) && (rc == 0) == (e.msg[0] == '\0'));
	return rc;
}

static inline int
fuzz_decoder(fuzz_new_f make, const uint8_t *data, size_t size)
{
	struct fixture whole, pieces;

	if (size < 2)
		return 0;
	size_t step = data[0] ? data[0] : 1000, n = size - 2;
	bool window = data[1] & 1;
	const struct op *op = data[1] & 2 ? NULL : &fixture_op;
	int a = fuzz_run(&whole, op, make, data + 2, n, n ? n : 1, false);
	int b = fuzz_run(&pieces, op, make, data + 2, n, step, window);
	fuzz_require(a == b);
	if (a == 0) {
		fuzz_require(whole.in.n_tensors == pieces.in.n_tensors && whole.in.n_params == pieces.in.n_params);
		for (int i = 0; i < whole.in.n_tensors; i++) {
			const struct intake_tensor *x = &whole.in.tensors[i], *y = &pieces.in.tensors[i];
			fuzz_require(strcmp(x->name, y->name) == 0 && x->arrived && y->arrived &&
				     x->t.dtype == y->t.dtype && x->t.bytes == y->t.bytes &&
				     memcmp(x->t.data, y->t.data, x->t.bytes) == 0);
			fuzz_require(x->t.bytes ==
				     (uint64_t)tensor_elements(&x->t) * dtype_info((enum dtype)x->t.dtype)->size);
		}
		for (int i = 0; i < whole.in.n_params; i++)
			fuzz_require(strcmp(whole.in.params[i].name, pieces.in.params[i].name) == 0 &&
				     strcmp(whole.in.params[i].value, pieces.in.params[i].value) == 0);
	}
	fixture_fini(&whole);
	fixture_fini(&pieces);
	return 0;
}

#endif
