/*
 * rmsnorm_cpu.c: RMS normalisation on the CPU: the fused one, which reads each row from memory once, and the
 * baseline it is compared with, which makes every step of the formula an array. Loops: rmsnorm_cpu_body.h.
 */
#include "ops/rmsnorm_cpu_kernel.h"
#include "worker/compute.h"

#include <math.h>

/* Below this much input one thread is done before another would have woken up. */
#define THREADS_FROM_BYTES ((int64_t)256 << 10)
#define ITEM_BYTES ((int64_t)64 << 10)

struct job {
	struct rmsnorm_problem p;
	const struct rmsnorm_kernel *kernel;
	int64_t rows; /* per item */
	/* The baseline's arrays, [rows][n], [n] and [rows]. */
	float *x, *y, *weight, *mean;
};

static const struct rmsnorm_kernel *
choose_kernel(void)
{
#if defined(__x86_64__)
	switch (cpu_isa()) {
	case CPU_AVX512:
		return &rmsnorm_kernel_avx512;
	case CPU_AVX2:
		return &rmsnorm_kernel_avx2;
	case CPU_SCALAR:
		break;
	}
#endif
	return &rmsnorm_kernel_scalar;
}

static void
start(struct job *j, const struct op_call *c, struct compute *ctx)
{
	int64_t row_bytes;

	rmsnorm_problem_get(c, &j->p);
	j->kernel = choose_kernel();
	compute_variant(ctx, j->kernel->name);
	row_bytes = j->p.n * (j->p.dtype == DT_FP32 ? 4 : 2);
	j->rows = j->p.rows;
	if (j->p.rows > 1 && row_bytes >= THREADS_FROM_BYTES / j->p.rows)
		j->rows = row_bytes >= ITEM_BYTES ? 1 : ITEM_BYTES / row_bytes;
}

static int64_t
items(const struct job *j)
{
	return (j->p.rows + j->rows - 1) / j->rows;
}

/* How many rows an item has from its first. */
static int64_t
item_rows(const struct job *j, int64_t first)
{
	return j->p.rows - first < j->rows ? j->p.rows - first : j->rows;
}

static void
norm_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;

	(void)thread;
	j->kernel->rows(&j->p, item * j->rows, item_rows(j, item * j->rows));
}

int
rmsnorm_cpu(const struct op_call *c, struct compute *ctx, struct err *e)
{
	struct job j = {.rows = 0};

	(void)e;
	start(&j, c, ctx);
	if (j.p.rows > 0)
		compute_for(ctx, items(&j), norm_item, &j);
	return 0;
}

static char *
bytes_at(const struct job *j, const void *base, int64_t row)
{
	return (char *)(uintptr_t)base + (size_t)(row * j->p.n) * (j->p.dtype == DT_FP32 ? 4 : 2);
}

static void
load_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;
	int64_t first = item * j->rows;

	(void)thread;
	j->kernel->load(j->x + first * j->p.n, bytes_at(j, j->p.x, first), item_rows(j, first) * j->p.n, j->p.dtype);
}

static void
square_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;
	int64_t at = item * j->rows * j->p.n;

	(void)thread;
	j->kernel->square(j->y + at, j->x + at, item_rows(j, item * j->rows) * j->p.n);
}

static void
mean_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;
	int64_t first = item * j->rows;

	(void)thread;
	for (int64_t r = first; r < first + item_rows(j, first); r++)
		j->mean[r] = j->kernel->mean(j->y + r * j->p.n, j->p.n);
}

static void
scale_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;
	int64_t first = item * j->rows;

	(void)thread;
	for (int64_t r = first; r < first + item_rows(j, first); r++)
		j->kernel->scale(j->y + r * j->p.n, j->x + r * j->p.n, 1.0F / sqrtf(j->mean[r] + (float)j->p.eps),
				 j->p.n);
}

static void
weigh_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;
	int64_t first = item * j->rows;

	(void)thread;
	for (int64_t r = first; r < first + item_rows(j, first); r++)
		j->kernel->multiply(j->x + r * j->p.n, j->y + r * j->p.n, j->weight, j->p.n);
}

static void
store_item(void *arg, int64_t item, int thread)
{
	const struct job *j = arg;
	int64_t first = item * j->rows;

	(void)thread;
	j->kernel->store(bytes_at(j, j->p.out, first), j->x + first * j->p.n, item_rows(j, first) * j->p.n, j->p.dtype);
}

int
rmsnorm_naive_cpu(const struct op_call *c, struct compute *ctx, struct err *e)
{
	static const compute_item_f steps[] = {load_item, square_item, mean_item, scale_item, weigh_item, store_item};
	struct job j = {.rows = 0};
	size_t count;

	start(&j, c, ctx);
	if (j.p.rows == 0)
		return 0;
	count = (size_t)(j.p.rows * j.p.n);
	j.x = compute_alloc(ctx, count * sizeof(float), e);
	j.y = j.x == NULL ? NULL : compute_alloc(ctx, count * sizeof(float), e);
	j.mean = j.y == NULL ? NULL : compute_alloc(ctx, (size_t)j.p.rows * sizeof(float), e);
	j.weight = j.mean == NULL ? NULL : compute_alloc(ctx, (size_t)j.p.n * sizeof(float), e);
	if (j.weight == NULL)
		return -1;
	j.kernel->load(j.weight, j.p.weight, j.p.n, j.p.dtype);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		compute_for(ctx, items(&j), steps[i], &j);
	return 0;
}
