/*
 * gpu_attn_sm90.c: Hopper's part of planning fused attention. Called by gpu_attn.c.
 */
#include "ops/gpu_attn_sm90.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define SIZE 2 /* bytes of an element */

int
gpu_attn_sm90_grid(const struct attn_problem *p, int units, struct attn_args *a, int64_t grid[3], struct err *e)
{
	int64_t heads = p->batch * p->heads_k * a->groups * a->splits, tiles = heads * a->tiles;

	if (tiles > ATTN_LENGTH_MAX)
		return err_set(e, ERR_TOO_LARGE,
			       "%" PRId64 " tiles of rows are more than the GPU kernels can number (%d)", tiles,
			       ATTN_LENGTH_MAX);
	/*
	 * With a diagonal the longest tiles come first, whichever head they are of; without one all are as long, and
	 * those that read the same keys follow each other.
	 */
	a->chunk = p->right >= 0 ? (int32_t)heads : 1;
	grid[0] = tiles < units ? tiles : units;
	grid[1] = grid[2] = 1;
	return 0;
}

/* Boxes of 64 columns and so many tokens; `head` and so on: elements from one to the next. */
static void
map(struct launch *l, int which, const void *data, int64_t dim, int64_t tokens, int64_t heads, int64_t batch,
    const struct attn_args_strides *s, int box)
{
	struct launch_map *m = &l->map[l->map_count];

	if (tokens == 0) /* nobody reads it */
		return;
	assert(l->map_count < LAUNCH_MAPS_MAX);
	memset(m, 0, sizeof *m);
	m->data = data;
	m->at = (uint32_t)(ATTN_SM90_MAPS_AT + which * LAUNCH_MAP_BYTES);
	m->box[0] = 64;
	m->box[1] = (uint32_t)box;
	m->box[2] = m->box[3] = 1;
	m->dim[0] = (uint64_t)dim;
	m->dim[1] = (uint64_t)tokens;
	m->dim[2] = (uint64_t)heads;
	m->dim[3] = (uint64_t)batch;
	m->stride[0] = (uint64_t)(s->seq * SIZE);
	m->stride[1] = (uint64_t)(s->head * SIZE);
	/* Where there is no batch to speak of: anything that the driver takes. */
	m->stride[2] = batch > 1 ? (uint64_t)(s->batch * SIZE) : m->stride[0];
	l->map_count++;
}

void
gpu_attn_sm90_maps(const struct attn_problem *p, int64_t tokens_k, const struct attn_args *a, int rows, int keys,
		   struct launch *l)
{
	int64_t tokens_q = p->cu_q ? a->rows / p->heads_q : p->seqlen_q, batch = p->cu_q ? 1 : p->batch;

	_Static_assert(sizeof(struct attn_sm90_args) <= LAUNCH_ARG_MAX, "arguments");
	_Static_assert(offsetof(struct attn_sm90_args, maps) == ATTN_SM90_MAPS_AT, "maps");
	tokens_k = p->cu_q ? tokens_k : p->seqlen_k;
	memset(l->arg, 0, sizeof l->arg);
	memcpy(l->arg, a, sizeof *a);
	l->arg_len = sizeof(struct attn_sm90_args);
	if (a->pack == 1)
		map(l, 0, a->q, a->dim, tokens_q, p->heads_q, batch, &a->q_stride, rows);
	map(l, 1, a->k, a->dim, tokens_k, p->heads_k, batch, &a->k_stride, keys);
	map(l, 2, a->v, a->dim_v, tokens_k, p->heads_k, batch, &a->v_stride, keys);
}
