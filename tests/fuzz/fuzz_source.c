/*
 * fuzz_source.c: any bytes as the parameter `inputs`, and as a form. What is taken is made, all at once and element by element, with
 * every instruction set: the same bytes must come out, and every number must be one that its dtype and its limits allow.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unit/intake_fixture.h"

#define MADE_MAX 4096 /* elements that are looked at */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
check_values(const struct intake_tensor *it, void *p, uint64_t n)
{
	const struct generate *g = &it->generate;
	struct tensor t = it->t;

	t.data = p;
	for (uint64_t i = 0; i < n; i++) {
		double v = tensor_get(&t, (int64_t)i);

		if (g->kind == GEN_ZEROS || g->kind == GEN_ONES)
			must(v == (g->kind == GEN_ONES));
		if (g->kind == GEN_RANDINT && dtype_info((enum dtype)t.dtype)->size == 8)
			must(v >= (double)g->ia && v <= (double)g->ib);
		if (g->kind == GEN_UNIFORM && t.dtype == DT_FP64)
			must(v >= g->a && v <= g->b + (g->b - g->a) * 0x1p-52);
	}
}

static void
make(const struct intake_tensor *it)
{
	static const char *const isas[] = {"", "avx2", "avx512"};
	uint64_t n = (uint64_t)tensor_elements(&it->t);
	size_t size = dtype_info((enum dtype)it->t.dtype)->size;
	unsigned char *whole, *pieces;

	n = n < MADE_MAX ? n : MADE_MAX;
	whole = malloc(n * size + 1);
	pieces = malloc(n * size + 1);
	must(whole && pieces);
	must(generate_set_isa(""));
	generate_fill(&it->generate, whole, 0, n);
	check_values(it, whole, n);
	for (size_t k = 0; k < 3; k++) {
		if (!generate_set_isa(isas[k]))
			continue;
		for (uint64_t i = 0; i < n; i += 37)
			generate_fill(&it->generate, pieces + i * size, i, n - i < 37 ? n - i : 37);
		must(memcmp(whole, pieces, n * size) == 0);
	}
	free(whole);
	free(pieces);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = {.code = ERR_NONE};
	struct fixture f;
	int rc;

	fixture_init(&f, &fixture_op);
	rc = intake_sources_text(&f.in, (const char *)data, size, &e);
	must((rc == 0) == (e.code == ERR_NONE) && (rc == 0) == (e.msg[0] == '\0'));
	for (int i = 0; rc == 0 && i < f.in.n_tensors; i++)
		make(&f.in.tensors[i]);
	fixture_fini(&f);

	e = (struct err){.code = ERR_NONE};
	fixture_init(&f, &fixture_op);
	rc = fixture_drive(decoder_form_new(&f.in), data, size, 5, true, &e);
	if (rc == 0)
		rc = intake_finish(&f.in, &e);
	must((rc == 0) == (e.code == ERR_NONE) && (rc == 0) == (e.msg[0] == '\0'));
	fixture_fini(&f);
	return 0;
}
