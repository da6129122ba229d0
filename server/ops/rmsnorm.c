/*
 * rmsnorm.c: the operator rmsnorm and its float64 reference. Read by the front (validation) and by workers; owns
 * nothing.
 */
#include "ops/rmsnorm.h"

#include <math.h>
#include <string.h>

#include "worker/compute.h"

static const struct op_tensor tensors[] = {
	[RMSNORM_X] = {.name = "x",
		       .role = OP_IN,
		       .dtypes = "fp32|fp16|bf16",
		       .shape = "M.. N",
		       .aliases = "input",
		       .help = "any number of rows of N"},
	[RMSNORM_WEIGHT] = {.name = "weight", .role = OP_IN, .dtypes = "=x", .shape = "N", .help = "a factor per column"},
	[RMSNORM_OUT] = {.name = "out",
			 .role = OP_OUT,
			 .dtypes = "=x",
			 .shape = "M.. N",
			 .help = "x / sqrt(mean(x^2) + eps) * weight"},
	{.name = NULL},
};

static const struct op_dim_info dims[] = {
	{"M", "leading dimensions, any number of them", 0, 0},
	{"N", "row length", 1, 0},
	{NULL, NULL, 0, 0},
};

static const struct op_size sizes[] = {
	{"M", "rows", "number of rows", NULL, 2048},
	{"N", "hidden|hidden_dim|hidden_size", "length of a row", NULL, 4096},
	{NULL, NULL, NULL, NULL, 0},
};

static const struct op_param params[] = {
	[RMSNORM_EPS] = {.name = "eps",
			 .type = OP_FLOAT,
			 .fallback = "1e-6",
			 .min = 0,
			 .max = 3.0e38,
			 .aliases = "epsilon",
			 .help = "Added to the mean of the squares."},
	{.name = NULL},
};

static const struct op_refused refused[] = {
	{"gemma_norm", "false|0", "Gemma's 1 + weight is not offered; add 1 to the weight"},
	{"use_model_sensitive_rmsnorm", "0", "T5's rounding is not offered"},
	{"out", "None", "the output is in the reply"},
	{NULL, NULL, NULL},
};

/*
 * Against float64, for atol and rtol alike: two units in the last place of 1, one for the result, which AITER's kernel
 * truncates for bf16, and one for the normalised value, should it be rounded before it is weighed. AITER's test_rmsnorm2d.py
 * takes 1e-2 throughout.
 */
static const char tolerance_source[] =
	"Two units in the last place of 1 (fp16: 2 * 2^-10, bf16: 2 * 2^-7): one for the result, rounded or truncated, one "
	"for a normalised value that is rounded before it is weighed; fp32: what sums in other orders need. For comparison, "
	"AITER's test_rmsnorm2d.py takes 1e-2 for every dtype.";

static const struct op_tolerance tolerances[] = {
	{DT_FP32, 1e-4, 1e-4},
	{DT_FP16, 2e-3, 2e-3},
	{DT_BF16, 1.6e-2, 1.6e-2},
	{DT_NONE, 0, 0},
};

void
rmsnorm_problem_get(const struct op_call *c, struct rmsnorm_problem *p)
{
	memset(p, 0, sizeof *p);
	p->dtype = (enum dtype)c->tensors[RMSNORM_X].dtype;
	p->rows = op_dim(c, "M");
	p->n = op_dim(c, "N");
	p->x = c->tensors[RMSNORM_X].data;
	p->weight = c->tensors[RMSNORM_WEIGHT].data;
	p->out = c->tensors[RMSNORM_OUT].data;
	p->eps = c->params[RMSNORM_EPS].f;
}

/* Per element: square and add, scale, weigh. */
static double
flop(const struct op_call *c)
{
	return 4.0 * (double)op_dim(c, "M") * (double)op_dim(c, "N");
}

static void
ref_row(void *arg, int64_t row, int thread)
{
	const struct op_call *c = arg;
	const struct tensor *x = &c->tensors[RMSNORM_X], *weight = &c->tensors[RMSNORM_WEIGHT];
	int64_t n = op_dim(c, "N"), first = row * n;
	double sum = 0, factor;

	(void)thread;
	for (int64_t i = 0; i < n; i++) {
		double v = tensor_get(x, first + i);

		sum += v * v;
	}
	factor = 1 / sqrt(sum / (double)n + c->params[RMSNORM_EPS].f);
	for (int64_t i = 0; i < n; i++)
		tensor_put(&c->tensors[RMSNORM_OUT], first + i,
			   tensor_get(x, first + i) * factor * tensor_get(weight, i));
}

int
rmsnorm_ref(const struct op_call *c, struct compute *ctx, struct err *e)
{
	struct op_call copy = *c;

	(void)e;
	compute_for(ctx, op_dim(c, "M"), ref_row, &copy);
	compute_variant(ctx, "float64");
	return 0;
}

const struct op op_rmsnorm = {
	.name = "rmsnorm",
	.summary = "Root mean square normalisation over the last dimension: out = x / sqrt(mean(x^2) + eps) * weight.",
	.help = "As the AITER tutorial calls it: rmsnorm(x, weight, eps=1e-6). (AITER's own rmsnorm takes the output "
		"as its first argument; rms_norm(input, weight, epsilon) is the same as this, and its names input and "
		"epsilon are accepted.) x has any number of dimensions; weight is as long as the last. Computed in "
		"float and rounded once.",
	.tensors = tensors,
	.dims = dims,
	.sizes = sizes,
	.params = params,
	.refused = refused,
	.tolerances = tolerances,
	.tolerance_source = tolerance_source,
	.example = "curl -sS @HOST@/v1/ops/rmsnorm?eps=1e-6 -F x=@x.npy -F weight=@weight.npy -o out.npy",
	.flop = flop,
	.flop_help = "4 for each element: square and add, scale, weigh",
	.ref = rmsnorm_ref,
	.cpu = rmsnorm_cpu,
	.naive = rmsnorm_naive_cpu,
};
