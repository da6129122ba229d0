/*
 * rotation.c: copies of tensors to be used in turn; rotation.h says why. Called by bench.c and measure.c.
 */
#include <string.h>

#include "worker/rotation.h"

#define ALIGNMENT 4096 /* of large tensors, as arenas have it; what kernels look at is at most 256 */
#define SMALL_ALIGNMENT 256
#define SMALL_BYTES 65536
#define LINE 64	       /* bytes that a cache takes at least for a tensor, however small it is */
#define CHUNK_SHARE 16 /* the chunk that the others are copied from stays in the cache: that part of it at most */
#define POISON 0xff    /* a NaN in every float dtype: an output that nobody wrote is seen */

uint64_t
rotation_wanted(uint64_t set, uint64_t cache)
{
	if (set == 0 || cache == 0)
		return 1;
	return set >= 2 * cache ? 1 : (2 * cache + set - 1) / set;
}

static uint64_t
up(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

static uint64_t
place(uint64_t *end, uint64_t bytes)
{
	uint64_t at = up(*end, bytes < SMALL_BYTES ? SMALL_ALIGNMENT : ALIGNMENT);

	*end = at + (bytes ? bytes : 1);
	return at;
}

/* Where everything is in a copy; how far apart copies are. */
static void
lay_out(struct rotation *r, const struct op_call *c, bool two)
{
	uint64_t end = 0;

	for (int i = 0; r->op->tensors[i].name; i++) {
		bool is_output = r->op->tensors[i].role == OP_OUT;

		r->tensors[i] = c->tensors[i];
		if (c->tensors[i].dtype == DT_NONE)
			continue;
		r->set += up(c->tensors[i].bytes, LINE);
		r->at[0][i] = r->at[1][i] = place(&end, c->tensors[i].bytes);
		if (is_output && two)
			r->at[1][i] = place(&end, c->tensors[i].bytes);
	}
	r->stride = up(end, end < SMALL_BYTES ? SMALL_ALIGNMENT : ALIGNMENT);
}

/* As many copies as there is memory for, up to `wanted`; 0 or 1: none. */
static uint64_t
affordable(const struct rotation *r, uint64_t wanted)
{
	uint64_t available = 0, total = 0, n;

	dev_mem_info(r->d, &available, &total);
	n = available / 2 / r->stride;
	return wanted < n ? wanted : n;
}

/* The first copy, of the original; the rest of the chunk, of what is there already; the others, of the chunk. */
static int
fill(struct rotation *r, const struct op_call *c, uint64_t cache, struct err *e)
{
	unsigned char *block = r->block;
	uint64_t chunk = cache / CHUNK_SHARE / r->stride, have = 1;

	if (dev_fill(r->d, block, POISON, r->stride, e) == -1)
		return -1;
	for (int i = 0; r->op->tensors[i].name; i++)
		if (c->tensors[i].dtype != DT_NONE && r->op->tensors[i].role == OP_IN &&
		    dev_copy(r->d, block + r->at[0][i], c->tensors[i].data, c->tensors[i].bytes, e) == -1)
			return -1;
	chunk = chunk < 1 ? 1 : chunk > r->copies ? r->copies : chunk;
	while (have < r->copies) {
		uint64_t n = have < chunk ? have : chunk;

		if (have < chunk && have + n > chunk)
			n = chunk - have;
		if (have + n > r->copies)
			n = r->copies - have;
		if (dev_copy(r->d, block + have * r->stride, block, n * r->stride, e) == -1)
			return -1;
		have += n;
	}
	r->turn = chunk % r->copies;
	return dev_sync(r->d, e);
}

int
rotation_make(struct rotation *r, struct device *d, const struct op *op, const struct op_call *c, bool two,
	      uint64_t cache, struct err *e)
{
	struct err why = {0};
	uint64_t n;

	memset(r, 0, sizeof(*r));
	r->d = d;
	r->op = op;
	r->copies = 1;
	lay_out(r, c, two);
	n = rotation_wanted(r->set, cache);
	if (n > 1)
		n = affordable(r, n);
	if (n <= 1)
		return 0;
	if (n > UINT32_MAX)
		n = UINT32_MAX;
	r->size = n * r->stride;
	r->block = dev_alloc(d, r->size, &why);
	if (!r->block) {
		/* Told free, but not to be had: the runs still mean something, only not cold. */
		if (why.code == ERR_OUT_OF_MEMORY)
			return 0;
		if (e)
			*e = why;
		return -1;
	}
	r->copies = (uint32_t)n;
	return fill(r, c, cache, e);
}

void
rotation_free(struct rotation *r)
{
	dev_free(r->d, r->block, r->size);
	r->block = NULL;
}

void *
rotation_place(const struct rotation *r, uint64_t turn, int tensor, int side)
{
	if (!r->block)
		return NULL;
	return (unsigned char *)r->block + turn % r->copies * r->stride + r->at[side][tensor];
}

void
rotation_turn(struct rotation *r, struct op_call *c, int side)
{
	if (!r->block)
		return;
	for (int i = 0; r->op->tensors[i].name; i++)
		if (r->tensors[i].dtype != DT_NONE)
			c->tensors[i].data = rotation_place(r, r->turn, i, side);
	r->turn++;
}
