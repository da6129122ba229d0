/*
 * run_kernels.c: runs our attention kernels on a device with HIP (the emulator, or a GPU) over shapes that reach every branch,
 * and compares with the float64 references. Arguments: folder of code objects, then optionally words that a
 * case's line must contain. Prints a line for each case that fails and "COUNTS passed failed skipped".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cases.h"
#include "kernels/gpu.h"
#include "ops/flash_attn.h"
#include "ops/gpu_attn.h"

static const enum dtype dtypes[] = {DT_FP16, DT_BF16, DT_FP32};

static const struct attn_case cases[] = {
	{.name = "plain", .b = 1, .sq = 64, .sk = 64, .hq = 1, .hk = 1, .d = 64, .dv = 64},
	{.name = "one token", .b = 2, .sq = 1, .sk = 200, .hq = 4, .hk = 2, .d = 64, .dv = 64},
	{.name = "one key", .b = 1, .sq = 40, .sk = 1, .hq = 2, .hk = 1, .d = 32, .dv = 32},
	{.name = "no key", .b = 1, .sq = 40, .sk = 0, .hq = 2, .hk = 1, .d = 32, .dv = 32},
	{.name = "ragged tiles", .b = 2, .sq = 300, .sk = 333, .hq = 2, .hk = 2, .d = 128, .dv = 128},
	{.name = "causal", .b = 1, .sq = 300, .sk = 300, .hq = 2, .hk = 1, .d = 128, .dv = 128, .causal = 1},
	{.name = "causal, longer k", .b = 1, .sq = 70, .sk = 190, .hq = 4, .hk = 2, .d = 64, .dv = 64, .causal = 1},
	{.name = "causal, longer q", .b = 1, .sq = 190, .sk = 70, .hq = 2, .hk = 2, .d = 64, .dv = 64, .causal = 1},
	{.name = "window", .b = 1, .sq = 330, .sk = 400, .hq = 2, .hk = 1, .d = 64, .dv = 64, .left = 37, .right = 20},
	{.name = "window left",
	 .b = 1,
	 .sq = 280,
	 .sk = 280,
	 .hq = 1,
	 .hk = 1,
	 .d = 128,
	 .dv = 128,
	 .left = 100,
	 .right = -1},
	{.name = "window, causal",
	 .b = 1,
	 .sq = 500,
	 .sk = 450,
	 .hq = 1,
	 .hk = 1,
	 .d = 96,
	 .dv = 96,
	 .left = 65,
	 .right = 0},
	{.name = "window past the keys",
	 .b = 1,
	 .sq = 300,
	 .sk = 20,
	 .hq = 1,
	 .hk = 1,
	 .d = 32,
	 .dv = 32,
	 .left = 5,
	 .right = 3},
	{.name = "gqa, packed", .b = 3, .sq = 5, .sk = 150, .hq = 12, .hk = 2, .d = 64, .dv = 64, .causal = 1},
	{.name = "mqa", .b = 1, .sq = 33, .sk = 129, .hq = 8, .hk = 1, .d = 128, .dv = 128, .causal = 1},
	{.name = "bhsd", .b = 2, .sq = 65, .sk = 97, .hq = 4, .hk = 2, .d = 64, .dv = 64, .bhsd = 1, .causal = 1},
	{.name = "d 8", .b = 1, .sq = 70, .sk = 70, .hq = 2, .hk = 2, .d = 8, .dv = 8},
	{.name = "d 9, dv 11", .b = 1, .sq = 40, .sk = 70, .hq = 3, .hk = 1, .d = 9, .dv = 11, .causal = 1},
	{.name = "d 24, dv 40", .b = 1, .sq = 40, .sk = 70, .hq = 2, .hk = 1, .d = 24, .dv = 40},
	{.name = "d 72", .b = 1, .sq = 100, .sk = 100, .hq = 2, .hk = 1, .d = 72, .dv = 72, .causal = 1},
	{.name = "d 96", .b = 1, .sq = 200, .sk = 200, .hq = 1, .hk = 1, .d = 96, .dv = 96, .causal = 1},
	{.name = "d 130", .b = 1, .sq = 50, .sk = 90, .hq = 2, .hk = 1, .d = 130, .dv = 130},
	{.name = "d 160", .b = 1, .sq = 200, .sk = 200, .hq = 1, .hk = 1, .d = 160, .dv = 160, .causal = 1},
	{.name = "d 192, dv 128", .b = 1, .sq = 270, .sk = 270, .hq = 1, .hk = 1, .d = 192, .dv = 128, .causal = 1},
	{.name = "d 192", .b = 1, .sq = 150, .sk = 140, .hq = 1, .hk = 1, .d = 192, .dv = 192, .causal = 1},
	{.name = "d 256", .b = 1, .sq = 150, .sk = 140, .hq = 1, .hk = 1, .d = 256, .dv = 256, .causal = 1},
	{.name = "d 64, dv 256", .b = 1, .sq = 50, .sk = 60, .hq = 1, .hk = 1, .d = 64, .dv = 256},
	{.name = "scale", .b = 1, .sq = 40, .sk = 80, .hq = 1, .hk = 1, .d = 64, .dv = 64, .scale = 2.5},
	{.name = "negative scale", .b = 1, .sq = 40, .sk = 80, .hq = 1, .hk = 1, .d = 64, .dv = 64, .scale = -0.7},
	{.name = "scale 0", .b = 1, .sq = 40, .sk = 80, .hq = 1, .hk = 1, .d = 64, .dv = 64, .scale = NAN, .causal = 1},
	{.name = "scores that grow", .b = 1, .sq = 100, .sk = 530, .hq = 2, .hk = 1, .d = 64, .dv = 64, .grow = 12},
	{.name = "scores that grow, wide",
	 .b = 1,
	 .sq = 70,
	 .sk = 400,
	 .hq = 1,
	 .hk = 1,
	 .d = 128,
	 .dv = 128,
	 .causal = 1,
	 .grow = 9},
	{.name = "varlen",
	 .b = 5,
	 .hq = 4,
	 .hk = 2,
	 .d = 64,
	 .dv = 64,
	 .len_q = {70, 0, 1, 33, 300},
	 .len_k = {70, 10, 90, 0, 310},
	 .causal = 1},
	{.name = "varlen, full",
	 .b = 4,
	 .hq = 2,
	 .hk = 1,
	 .d = 128,
	 .dv = 128,
	 .len_q = {257, 3, 0, 64},
	 .len_k = {64, 100, 0, 257}},
	{.name = "varlen, odd d",
	 .b = 3,
	 .hq = 2,
	 .hk = 1,
	 .d = 36,
	 .dv = 20,
	 .len_q = {20, 3, 70},
	 .len_k = {64, 100, 50},
	 .causal = 1},
	{.name = "many keys", .b = 1, .sq = 3, .sk = 2100, .hq = 2, .hk = 1, .d = 64, .dv = 64, .causal = 1},
	{.name = "many keys, window",
	 .b = 1,
	 .sq = 90,
	 .sk = 1500,
	 .hq = 1,
	 .hk = 1,
	 .d = 128,
	 .dv = 128,
	 .left = 700,
	 .right = 10},
	{.name = "many rows", .b = 1, .sq = 1100, .sk = 600, .hq = 1, .hk = 1, .d = 128, .dv = 128, .causal = 1},
	{.name = "nan in q", .b = 1, .sq = 70, .sk = 90, .hq = 2, .hk = 1, .d = 64, .dv = 64, .odd = ODD_Q_NAN},
	{.name = "inf in q", .b = 1, .sq = 70, .sk = 90, .hq = 2, .hk = 1, .d = 64, .dv = 64, .odd = ODD_Q_INF, .causal = 1},
	{.name = "nan in k",
	 .b = 1,
	 .sq = 150,
	 .sk = 150,
	 .hq = 1,
	 .hk = 1,
	 .d = 128,
	 .dv = 128,
	 .odd = ODD_K_NAN,
	 .causal = 1},
	{.name = "inf in k",
	 .b = 1,
	 .sq = 150,
	 .sk = 150,
	 .hq = 1,
	 .hk = 1,
	 .d = 64,
	 .dv = 64,
	 .odd = ODD_K_INF,
	 .causal = 1},
	{.name = "-inf in k",
	 .b = 1,
	 .sq = 150,
	 .sk = 150,
	 .hq = 1,
	 .hk = 1,
	 .d = 64,
	 .dv = 64,
	 .odd = ODD_K_MINUS_INF,
	 .causal = 1},
	{.name = "-inf only", .b = 1, .sq = 50, .sk = 1, .hq = 1, .hk = 1, .d = 8, .dv = 8, .odd = ODD_K_MINUS_INF},
	{.name = "nan in v",
	 .b = 1,
	 .sq = 150,
	 .sk = 150,
	 .hq = 1,
	 .hk = 1,
	 .d = 128,
	 .dv = 128,
	 .odd = ODD_V_NAN,
	 .causal = 1},
	{.name = "inf in v",
	 .b = 1,
	 .sq = 150,
	 .sk = 150,
	 .hq = 1,
	 .hk = 1,
	 .d = 64,
	 .dv = 64,
	 .odd = ODD_V_INF,
	 .left = 9,
	 .right = 3},
	{.name = "odd v", .b = 1, .sq = 150, .sk = 130, .hq = 2, .hk = 1, .d = 64, .dv = 72, .odd = ODD_V_BOTH, .causal = 1},
};

/* Against float64: rounding of the result, and of probabilities to the dtype. */
static double
tolerance(enum dtype dt)
{
	return dt == DT_FP32 ? 1e-5 : dt == DT_FP16 ? 1e-3 : 8e-3;
}

static double
worst(const struct tensor *got, const struct tensor *want, double tol)
{
	int64_t n = tensor_elements(want);
	double w = 0;

	for (int64_t i = 0; i < n; i++) {
		double a = tensor_get(got, i), b = tensor_get(want, i), r;

		if ((isnan(a) && isnan(b)) || (isinf(a) && a == b))
			continue;
		r = isfinite(a) && isfinite(b) ? fabs(a - b) / (tol + tol * fabs(b)) : INFINITY;
		w = r > w ? r : w;
	}
	return w;
}

typedef int (*plan_f)(const struct attn_problem *p, int64_t tokens_k, const struct launch_device *d, void *workspace,
		      struct launch_plan *plan, struct err *e);

/* 0: right. Prints what was wrong, or with `verbose` how right it was. */
static int
run(struct gpu *g, const struct attn_case *c, const struct attn_made *m, enum dtype dt, plan_f plan_it, int units,
    const char *line, int verbose)
{
	int first = c->sq ? ATTN_OUT : VARLEN_OUT, inputs = first;
	struct launch_device facts = {.compute_units = units, .family = g->facts.family};
	struct op_call call = m->call;
	void *device[OP_TENSORS_MAX] = {0}, *workspace;
	struct launch_plan plan;
	struct attn_problem p;
	struct tensor got[2];
	double w[2];
	struct err e;
	int bad;

	for (int i = 0; i < inputs; i++)
		call.tensors[i].data = device[i] = gpu_upload(m->call.tensors[i].data, m->call.tensors[i].bytes);
	for (int i = 0; i < 2; i++) {
		got[i] = call.tensors[first + i];
		got[i].data = malloc(got[i].bytes + 1);
		memset(got[i].data, 0xA5, got[i].bytes);
		call.tensors[first + i].data = device[first + i] = gpu_upload(got[i].data, got[i].bytes);
	}
	attn_problem_get(&call, &p);
	if (plan_it(&p, c->sq ? (int64_t)c->b * c->sk : m->call.tensors[VARLEN_K].shape[0], &facts, NULL, &plan, &e)) {
		printf("%s: %s\n", line, e.msg);
		return 1;
	}
	workspace = gpu_alloc(plan.workspace);
	if (plan_it(&p, c->sq ? (int64_t)c->b * c->sk : m->call.tensors[VARLEN_K].shape[0], &facts, workspace, &plan,
		    &e)) {
		printf("%s: %s\n", line, e.msg);
		return 1;
	}
	gpu_run(g, &plan);
	for (int i = 0; i < 2; i++) {
		gpu_download(got[i].data, device[first + i], got[i].bytes);
		w[i] = worst(&got[i], &m->want[i], i ? 1e-5 + (dt == DT_FP32 ? 0 : 1e-5) : tolerance(dt));
		free(got[i].data);
	}
	bad = !(w[0] <= 1 && w[1] <= 1);
	if (bad || verbose)
		printf("%s: %s error/tolerance %.3g, lse %.3g%s\n", line, plan.count ? plan.launch[0].symbol : "-",
		       w[0], w[1], bad ? " FAILED" : "");
	gpu_free(workspace);
	for (int i = 0; i < OP_TENSORS_MAX; i++)
		if (device[i])
			gpu_free(device[i]);
	return bad;
}

int
main(int argc, char **argv)
{
	static const int units[] = {1, 304};
	int passed = 0, failed = 0, verbose = getenv("VERBOSE") != NULL;
	struct gpu g;

	if (argc < 2) {
		fprintf(stderr, "usage: %s FOLDER [WORD...]\n", argv[0]);
		return 2;
	}
	gpu_open(&g, argv[1]);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t t = 0; t < sizeof dtypes / sizeof dtypes[0]; t++) {
			struct attn_made m = {0};
			struct err e;

			for (int u = 0; u < 3; u++) {
				plan_f plan_it = u < 2 ? gpu_attn_plan : gpu_attn_naive_plan;
				char line[160];
				int wanted = 1;

				if (u < 2)
					snprintf(line, sizeof line, "fused, %s, %s, %d units", cases[i].name,
						 dtype_info(dtypes[t])->name, units[u]);
				else
					snprintf(line, sizeof line, "naive, %s, %s", cases[i].name,
						 dtype_info(dtypes[t])->name);
				for (int a = 2; a < argc; a++)
					wanted = wanted && strstr(line, argv[a]);
				/* Like every unfused implementation it multiplies unseen values by 0. */
				if (!wanted || (u == 2 && cases[i].odd >= ODD_V_NAN))
					continue;
				if (!m.op && attn_made_make(&cases[i], dtypes[t], &m, &e)) {
					fprintf(stderr, "%s: %s\n", line, e.msg);
					return 2;
				}
				if (run(&g, &cases[i], &m, dtypes[t], plan_it, units[u % 2], line, verbose))
					failed++;
				else
					passed++;
			}
			attn_made_free(&m);
		}
	printf("COUNTS %d %d 0\n", passed, failed);
	gpu_close(&g);
	return failed != 0;
}
