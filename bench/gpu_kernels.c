/*
 * gpu_kernels.c: times launch plans of our GPU kernels on a real device: for each line on stdin one on stdout. Started by
 * gpu_torch.py, which times PyTorch on the same device between the lines; works by itself, too. Argument: folder of
 * code objects. Lines:
 *   own|naive attn DTYPE BATCH SQ SK HQ HK DIM CAUSAL REPEATS
 *   own|naive rmsnorm DTYPE ROWS N REPEATS
 * Answer: median of the plan's event times in microseconds, the fastest, the symbol; "- - REASON" where there is no plan. Before each
 * run a buffer larger than the caches is overwritten.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu.h"
#include "ops/gpu_attn.h"
#include "ops/gpu_rmsnorm.h"

#define FLUSH_BYTES ((size_t)512 << 20)
#define REPEATS_MAX 1000
#define PATTERN_BYTES ((size_t)1 << 20)

static void *flush;

/* A tensor on the device: numbers with a spread like a normal distribution's; beyond PATTERN_BYTES they repeat. */
static int
make(struct tensor *t, enum dtype dt, int rank, const int64_t *shape, struct err *e)
{
	struct tensor part;
	int64_t n;
	char *data;
	uint32_t x = 1;

	if (tensor_describe(t, "input", dt, rank, shape, e))
		return -1;
	part = *t;
	data = malloc(t->bytes + 1);
	if (!data)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for %llu bytes", (unsigned long long)t->bytes);
	part.data = data;
	n = (int64_t)((t->bytes < PATTERN_BYTES ? t->bytes : PATTERN_BYTES) / dtype_info(dt)->size);
	for (int64_t i = 0; i < n; i++) {
		double sum = 0;

		for (int k = 0; k < 4; k++) {
			x = x * 1664525 + 1013904223;
			sum += (double)(x >> 8) * 0x1p-24 - 0.5;
		}
		tensor_put(&part, i, sum * 1.732);
	}
	for (size_t at = PATTERN_BYTES; at < t->bytes; at += PATTERN_BYTES)
		memcpy(data + at, data, t->bytes - at < PATTERN_BYTES ? t->bytes - at : PATTERN_BYTES);
	t->data = gpu_upload(data, t->bytes);
	free(data);
	return 0;
}

static int
compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void
measure(struct gpu *g, const struct launch_plan *plan, int repeats)
{
	static float us[REPEATS_MAX];
	hipEvent_t begin, end;

	gpu_check(hipEventCreate(&begin), "hipEventCreate");
	gpu_check(hipEventCreate(&end), "hipEventCreate");
	gpu_run(g, plan);
	for (int i = 0; i < repeats; i++) {
		gpu_check(hipMemsetAsync(flush, i, FLUSH_BYTES, NULL), "hipMemsetAsync");
		gpu_check(hipEventRecord(begin, NULL), "hipEventRecord");
		gpu_launch(g, plan);
		gpu_check(hipEventRecord(end, NULL), "hipEventRecord");
		gpu_check(hipEventSynchronize(end), "hipEventSynchronize");
		gpu_check(hipEventElapsedTime(&us[i], begin, end), "hipEventElapsedTime");
		us[i] *= 1000;
	}
	qsort(us, (size_t)repeats, sizeof us[0], compare);
	printf("%.2f %.2f %s\n", (double)us[repeats / 2], (double)us[0], plan->launch[plan->named].symbol);
	gpu_check(hipEventDestroy(begin), "hipEventDestroy");
	gpu_check(hipEventDestroy(end), "hipEventDestroy");
}

static int
attn(struct gpu *g, bool naive, enum dtype dt, const long long n[8], struct err *e)
{
	const int64_t q[] = {n[0], n[1], n[3], n[5]}, k[] = {n[0], n[2], n[4], n[5]};
	struct op_call call = {0};
	struct attn_problem p;
	struct launch_plan plan;
	void *workspace = NULL;
	int rc = -1;

	if (!op_find("flash_attn_func", strlen("flash_attn_func"), &call.op))
		return err_set(e, ERR_WORKER_REFUSED, "no operator flash_attn_func");
	call.params[ATTN_CAUSAL] = (struct op_value){.given = true, .i = {n[6] != 0}};
	if (make(&call.tensors[ATTN_Q], dt, 4, q, e) || make(&call.tensors[ATTN_K], dt, 4, k, e) ||
	    make(&call.tensors[ATTN_V], dt, 4, k, e) || op_params_finish(op_get(call.op), &call, e) ||
	    op_bind(op_get(call.op), &call, e))
		goto out;
	call.tensors[ATTN_OUT].data = gpu_alloc(call.tensors[ATTN_OUT].bytes);
	attn_problem_get(&call, &p);
	for (int i = 0; i < 2; i++) {
		rc = naive ? gpu_attn_naive_plan(&p, n[0] * n[2], &g->facts, workspace, &plan, e)
			   : gpu_attn_plan(&p, n[0] * n[2], &g->facts, workspace, &plan, e);
		if (rc)
			goto out;
		if (i == 0)
			workspace = gpu_alloc(plan.workspace);
	}
	measure(g, &plan, (int)n[7]);
out:
	for (int i = 0; i < OP_TENSORS_MAX; i++)
		if (call.tensors[i].data)
			gpu_free(call.tensors[i].data);
	if (workspace)
		gpu_free(workspace);
	return rc;
}

static int
rmsnorm(struct gpu *g, bool naive, enum dtype dt, const long long n[8], struct err *e)
{
	struct tensor x = {0}, weight = {0};
	struct rmsnorm_problem p = {.dtype = dt, .rows = n[0], .n = n[1], .eps = 1e-6};
	struct launch_plan plan;
	void *workspace = NULL;
	int rc = -1;

	if (make(&x, dt, 2, (int64_t[]){n[0], n[1]}, e) || make(&weight, dt, 1, (int64_t[]){n[1]}, e))
		goto out;
	p.x = x.data;
	p.weight = weight.data;
	p.out = gpu_alloc(x.bytes);
	for (int i = 0; i < 2; i++) {
		rc = naive ? gpu_rmsnorm_naive_plan(&p, &g->facts, workspace, &plan, e)
			   : gpu_rmsnorm_plan(&p, &g->facts, &plan, e);
		if (rc)
			goto out;
		if (i == 0)
			workspace = gpu_alloc(plan.workspace);
	}
	measure(g, &plan, (int)n[2]);
out:
	if (x.data)
		gpu_free(x.data);
	if (weight.data)
		gpu_free(weight.data);
	if (p.out)
		gpu_free(p.out);
	if (workspace)
		gpu_free(workspace);
	return rc;
}

int
main(int argc, char **argv)
{
	char line[256], form[16], op[16], dtype[16];
	struct gpu g;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FOLDER <CASES\n", argv[0]);
		return 2;
	}
	gpu_open(&g, argv[1]);
	flush = gpu_alloc(FLUSH_BYTES);
	while (fgets(line, sizeof line, stdin)) {
		long long n[8] = {0};
		int got = sscanf(line, "%15s %15s %15s %lld %lld %lld %lld %lld %lld %lld %lld", form, op, dtype, &n[0],
				 &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]);
		bool is_attn = strcmp(op, "attn") == 0, naive = strcmp(form, "naive") == 0;
		enum dtype dt = got > 2 ? dtype_find(dtype, strlen(dtype)) : DT_NONE;
		long long repeats = is_attn ? n[7] : n[2];
		struct err e;

		if (got != (is_attn ? 11 : 6) || dt == DT_NONE || repeats < 1 || repeats > REPEATS_MAX) {
			fprintf(stderr, "not understood: %s", line);
			return 2;
		}
		if (is_attn ? attn(&g, naive, dt, n, &e) : rmsnorm(&g, naive, dt, n, &e))
			printf("- - %s\n", e.msg);
		fflush(stdout);
	}
	gpu_free(flush);
	gpu_close(&g);
	return 0;
}
