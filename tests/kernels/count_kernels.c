/*
 * count_kernels.c: launches our attention once on a made-up problem, for the emulator to count instructions (EMUHIP_LOG=2).
 * Arguments: folder of code objects, dtype, batch, sequence length, heads, head dimension, causal (0 or 1).
 * count.py reads the counts and makes the table in kernels/README.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu.h"
#include "ops/gpu_attn.h"

/* Numbers with a spread like a normal distribution's, cheap to make. */
static void
fill(struct tensor *t)
{
	int64_t n = tensor_elements(t);
	uint32_t x = 1;

	for (int64_t i = 0; i < n; i++) {
		double sum = 0;

		for (int k = 0; k < 4; k++) {
			x = x * 1664525 + 1013904223;
			sum += (double)(x >> 8) * 0x1p-24 - 0.5;
		}
		tensor_put(t, i, sum * 1.732);
	}
}

int
main(int argc, char **argv)
{
	struct op_call call = {0};
	struct launch_plan plan;
	struct attn_problem p;
	struct gpu g;
	struct err e;
	int64_t n[4];

	if (argc != 8) {
		fprintf(stderr, "usage: %s FOLDER DTYPE BATCH LENGTH HEADS DIM CAUSAL\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < 4; i++)
		n[i] = strtoll(argv[3 + i], NULL, 10);
	gpu_open(&g, argv[1]);
	if (!op_find("flash_attn_func", strlen("flash_attn_func"), &call.op))
		return 2;
	for (int i = 0; i < 3; i++) {
		struct tensor *t = &call.tensors[i];

		if (tensor_describe(t, "input", dtype_find(argv[2], strlen(argv[2])), 4, n, &e)) {
			fprintf(stderr, "%s\n", e.msg);
			return 2;
		}
		t->data = malloc(t->bytes);
		if (!t->data)
			return 2;
		fill(t);
		t->data = gpu_upload(t->data, t->bytes);
	}
	call.params[ATTN_CAUSAL] = (struct op_value){.given = true, .i = {argv[7][0] == '1'}};
	if (op_params_finish(op_get(call.op), &call, &e) || op_bind(op_get(call.op), &call, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 2;
	}
	call.tensors[ATTN_OUT].data = gpu_alloc(call.tensors[ATTN_OUT].bytes);
	attn_problem_get(&call, &p);
	g.facts.compute_units = 1; /* one split, as with a problem that fills the chip */
	if (gpu_attn_plan(&p, n[0] * n[1], &g.facts, NULL, &plan, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 2;
	}
	gpu_run(&g, &plan);
	gpu_close(&g);
	return 0;
}
