/*
 * attn_cpu.c: speed of the CPU attention: fused, unfused, and their ratio, without the server around them.
 * The two take turns, so that a busy machine slows both alike; the median of the ratios is what counts.
 *
 * usage: attn_cpu [B S H D [dtype [causal [Hk [Sq]]]]]     (defaults: three shapes in fp32)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops/flash_attn.h"
#include "worker/compute.h"

#define ROUNDS 9

struct shape {
	int64_t b, sq, sk, hq, hk, d;
	enum dtype dt;
	bool causal;
};

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sum of four uniform numbers: near enough to normal for speed. */
static void
fill(const struct tensor *t, uint32_t *state)
{
	for (int64_t i = 0; i < tensor_elements(t); i++) {
		double sum = -2;

		for (int j = 0; j < 4; j++) {
			*state = *state * 1664525U + 1013904223U;
			sum += (*state >> 8) / 16777216.0;
		}
		tensor_put(t, i, 1.7 * sum);
	}
}

static int
run(const struct shape *s)
{
	int64_t q[] = {s->b, s->sq, s->hq, s->d}, k[] = {s->b, s->sk, s->hk, s->d};
	struct op_call c = {0};
	const struct op *op = op_find("flash_attn_func", strlen("flash_attn_func"), &c.op);
	const char *yes = s->causal ? "true" : "false", *fast = "", *slow = "";
	double t[2][ROUNDS], ratio[ROUNDS], flop;
	struct compute *ctx = compute_new(0);
	uint32_t state = 1;
	struct err e = {0};
	size_t bytes[2] = {0};

	if (ctx == NULL || tensor_describe(&c.tensors[ATTN_Q], "q", s->dt, 4, q, &e) != 0 ||
	    tensor_describe(&c.tensors[ATTN_K], "k", s->dt, 4, k, &e) != 0 ||
	    tensor_describe(&c.tensors[ATTN_V], "v", s->dt, 4, k, &e) != 0 ||
	    op_value_parse(&op->params[ATTN_CAUSAL], yes, strlen(yes), &c.params[ATTN_CAUSAL], &e) != 0 ||
	    op_params_finish(op, &c, &e) != 0 || op_bind(op, &c, &e) != 0) {
		fprintf(stderr, "attn_cpu: %s\n", e.msg);
		return -1;
	}
	for (int i = ATTN_Q; i <= ATTN_OUT; i++) {
		c.tensors[i].data = aligned_alloc(64, (size_t)(c.tensors[i].bytes + 63) / 64 * 64);
		if (c.tensors[i].data == NULL) {
			fprintf(stderr, "attn_cpu: not enough memory\n");
			return -1;
		}
		fill(&c.tensors[i], &state);
	}
	flop = op->flop(&c);
	for (int r = -1; r < ROUNDS; r++) {
		for (int which = 0; which < 2; which++) {
			double start;

			compute_job_begin(ctx);
			start = now();
			if ((which == 0 ? op->cpu : op->naive)(&c, ctx, &e) != 0) {
				fprintf(stderr, "attn_cpu: %s\n", e.msg);
				return -1;
			}
			if (r >= 0)
				t[which][r] = now() - start;
			*(which == 0 ? &fast : &slow) = compute_variant_get(ctx);
			bytes[which] = compute_job_end(ctx);
		}
		if (r >= 0)
			ratio[r] = t[1][r] / t[0][r];
	}
	for (int which = 0; which < 2; which++)
		qsort(t[which], ROUNDS, sizeof(double), compare);
	qsort(ratio, ROUNDS, sizeof(double), compare);
	printf("%lldx%lldx%lldx%lld k %lldx%lld %s%s, %d threads: fused %s %.3f ms (best %.3f, %.0f GFLOP/s, %.1f MB)  "
	       "unfused %s %.3f ms (best %.3f, %.1f MB)  ratio %.2f\n",
	       (long long)s->b, (long long)s->sq, (long long)s->hq, (long long)s->d, (long long)s->sk, (long long)s->hk,
	       dtype_info(s->dt)->name, s->causal ? " causal" : "", compute_threads(ctx), fast, 1e3 * t[0][ROUNDS / 2],
	       1e3 * t[0][0], flop / t[0][0] / 1e9, (double)bytes[0] / 1e6, slow, 1e3 * t[1][ROUNDS / 2], 1e3 * t[1][0],
	       (double)bytes[1] / 1e6, ratio[ROUNDS / 2]);
	for (int i = ATTN_Q; i <= ATTN_OUT; i++)
		free(c.tensors[i].data);
	compute_free(&ctx);
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct shape usual[] = {
		{4, 1024, 1024, 16, 16, 64, DT_FP32, false},
		{2, 512, 512, 8, 8, 64, DT_FP32, false},
		{1, 2048, 2048, 8, 8, 128, DT_FP32, false},
	};
	struct shape s = {.dt = DT_FP32};

	if (argc == 1) {
		for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
			if (run(&usual[i]) != 0)
				return 1;
		}
		return 0;
	}
	if (argc < 5) {
		fprintf(stderr, "usage: attn_cpu [B S H D [dtype [causal [Hk [Sq]]]]]\n");
		return 2;
	}
	s.b = atoll(argv[1]);
	s.sk = atoll(argv[2]);
	s.hq = atoll(argv[3]);
	s.d = atoll(argv[4]);
	if (argc > 5)
		s.dt = dtype_find(argv[5], strlen(argv[5]));
	s.causal = argc > 6 && strcmp(argv[6], "0") != 0;
	s.hk = argc > 7 ? atoll(argv[7]) : s.hq;
	s.sq = argc > 8 ? atoll(argv[8]) : s.sk;
	return run(&s) == 0 ? 0 : 1;
}
