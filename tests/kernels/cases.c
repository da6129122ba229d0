/*
 * cases.c: attention calls for the kernel tests.
 */
#include "kernels/cases.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/flash_attn.h"
#include "worker/compute.h"

static uint64_t random_state;

static double
uniform_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return ((double)(random_state >> 11) + 0.5) * 0x1p-53;
}

static double
normal(void)
{
	return sqrt(-2 * log(uniform_random())) * cos(6.283185307179586 * uniform_random());
}

static void *
memory(struct attn_made *m, size_t bytes)
{
	void *p = calloc(1, bytes ? bytes : 1);

	assert(p && m->n_memory < 16);
	m->memory[m->n_memory++] = p;
	return p;
}

static int
tensor_random(struct attn_made *m, struct tensor *t, const char *name, enum dtype dt, int rank, const int64_t *shape,
	      struct err *e)
{
	int64_t n;

	if (tensor_describe(t, name, dt, rank, shape, e))
		return -1;
	t->data = memory(m, t->bytes);
	n = tensor_elements(t);
	for (int64_t i = 0; i < n; i++)
		tensor_put(t, i, normal());
	return 0;
}

static int
starts(struct attn_made *m, struct tensor *t, const char *name, const int *len, int n, struct err *e)
{
	int64_t shape = n + 1;

	if (tensor_describe(t, name, DT_INT32, 1, &shape, e))
		return -1;
	t->data = memory(m, t->bytes);
	for (int i = 0; i < n; i++)
		((int32_t *)t->data)[i + 1] = ((int32_t *)t->data)[i] + len[i];
	return 0;
}

static void
param(struct attn_made *m, const char *name, const char *text)
{
	int i = op_param_find(m->op, name, strlen(name));
	struct err e;

	assert(i >= 0);
	if (op_value_parse(&m->op->params[i], text, strlen(text), &m->call.params[i], &e)) {
		fprintf(stderr, "%s=%s: %s\n", name, text, e.msg);
		abort();
	}
}

static void
make_odd(struct attn_made *m, enum odd odd)
{
	struct tensor *t;
	int64_t n, at;

	if (odd == ODD_NONE)
		return;
	t = &m->call.tensors[odd <= ODD_Q_INF ? ATTN_Q : odd <= ODD_K_MINUS_INF ? ATTN_K : ATTN_V];
	n = tensor_elements(t);
	at = n / 2 + 3;
	switch (odd) {
	case ODD_Q_NAN:
	case ODD_K_NAN:
	case ODD_V_NAN:
		tensor_put(t, at, NAN);
		break;
	case ODD_Q_INF:
	case ODD_K_INF:
	case ODD_V_INF:
		tensor_put(t, at, INFINITY);
		break;
	case ODD_K_MINUS_INF:
		tensor_put(t, at, -INFINITY);
		break;
	case ODD_V_BOTH:
		tensor_put(t, at, INFINITY);
		tensor_put(t, at / 2 + 1, -INFINITY);
		tensor_put(t, n - 1, INFINITY);
		tensor_put(t, n - 9, -INFINITY);
		tensor_put(t, n - 10, NAN);
		tensor_put(t, 5, INFINITY);
		break;
	case ODD_NONE:
		break;
	}
}

static void
params(const struct attn_case *c, struct attn_made *m)
{
	char text[64];

	param(m, "return_lse", "1");
	if (c->causal)
		param(m, "causal", "1");
	if (c->left || c->right) {
		snprintf(text, sizeof text, "%d,%d", c->left, c->right);
		param(m, "window_size", text);
	}
	if (c->scale != 0) {
		snprintf(text, sizeof text, "%.17g", isnan(c->scale) ? 0 : c->scale);
		param(m, "softmax_scale", text);
	}
	if (c->bhsd)
		param(m, "layout", "bhsd");
}

static int
inputs(const struct attn_case *c, enum dtype dt, struct attn_made *m, struct err *e)
{
	struct tensor *t = m->call.tensors;
	int64_t total_q = 0, total_k = 0, max_q = 0, max_k = 0;
	char text[32];

	if (c->sq) {
		int64_t q[] = {c->b, c->bhsd ? c->hq : c->sq, c->bhsd ? c->sq : c->hq, c->d};
		int64_t k[] = {c->b, c->bhsd ? c->hk : c->sk, c->bhsd ? c->sk : c->hk, c->d};
		int64_t v[] = {k[0], k[1], k[2], c->dv};

		return tensor_random(m, &t[ATTN_Q], "q", dt, 4, q, e) ||
		       tensor_random(m, &t[ATTN_K], "k", dt, 4, k, e) || tensor_random(m, &t[ATTN_V], "v", dt, 4, v, e);
	}
	for (int i = 0; i < c->b; i++) {
		total_q += c->len_q[i];
		total_k += c->len_k[i];
		max_q = c->len_q[i] > max_q ? c->len_q[i] : max_q;
		max_k = c->len_k[i] > max_k ? c->len_k[i] : max_k;
	}
	snprintf(text, sizeof text, "%d", (int)max_q);
	param(m, "max_seqlen_q", text);
	snprintf(text, sizeof text, "%d", (int)max_k);
	param(m, "max_seqlen_k", text);
	return tensor_random(m, &t[VARLEN_Q], "q", dt, 3, (int64_t[]){total_q, c->hq, c->d}, e) ||
	       tensor_random(m, &t[VARLEN_K], "k", dt, 3, (int64_t[]){total_k, c->hk, c->d}, e) ||
	       tensor_random(m, &t[VARLEN_V], "v", dt, 3, (int64_t[]){total_k, c->hk, c->dv}, e) ||
	       starts(m, &t[VARLEN_CU_Q], "cu_seqlens_q", c->len_q, c->b, e) ||
	       starts(m, &t[VARLEN_CU_K], "cu_seqlens_k", c->len_k, c->b, e);
}

/* Keys that become longer along the sequence. */
static void
grow(struct tensor *k, int64_t row, int64_t tokens, double times)
{
	int64_t n = tensor_elements(k);

	for (int64_t i = 0; i < n; i++)
		tensor_put(k, i, tensor_get(k, i) * (1 + (times - 1) * (double)(i / row % tokens) / (double)tokens));
}

int
attn_made_make(const struct attn_case *c, enum dtype dt, struct attn_made *m, struct err *e)
{
	const char *name = c->sq ? "flash_attn_func" : "flash_attn_varlen_func";
	int out = c->sq ? ATTN_OUT : VARLEN_OUT;
	struct compute *ctx;
	struct op_call wide;
	int rc;

	memset(m, 0, sizeof *m);
	random_state = 0x9E3779B97F4A7C15u;
	m->op = op_find(name, strlen(name), &m->call.op);
	assert(m->op);
	params(c, m);
	if (inputs(c, dt, m, e))
		return -1;
	if (c->grow != 0)
		grow(&m->call.tensors[ATTN_K], (int64_t)c->hk * c->d, c->sk, c->grow);
	make_odd(m, c->odd);
	if (op_params_finish(m->op, &m->call, e) || op_bind(m->op, &m->call, e))
		return -1;
	wide = m->call;
	for (int i = 0; i < 2; i++) {
		struct tensor *t = &wide.tensors[out + i];

		if (tensor_describe(&m->want[i], "want", DT_FP64, t->rank, t->shape, e))
			return -1;
		m->want[i].data = memory(m, m->want[i].bytes);
		*t = m->want[i];
	}
	ctx = compute_new(1);
	assert(ctx);
	compute_job_begin(ctx);
	rc = m->op->ref(&wide, ctx, e);
	compute_job_end(ctx);
	compute_free(&ctx);
	return rc;
}

void
attn_made_free(struct attn_made *m)
{
	for (int i = 0; i < m->n_memory; i++)
		free(m->memory[i]);
	memset(m, 0, sizeof *m);
}
