/*
 * compare_block.h: the loops of compare.c over one block of places: into float64 and ordinals (how many values of the output's
 * dtype lie between 0 and this one), and what a pair of sides differs by. For compare.c alone.
 */
#ifndef AITERD_COMPARE_BLOCK_H
#define AITERD_COMPARE_BLOCK_H

#include "codec/compare.h"

#define BLOCK 512
#define LANES 4

struct side {
	double v[BLOCK];
	int32_t ordinal[BLOCK];
};

/* What one block adds to a pair, lane by lane. */
struct part {
	double max_abs[LANES], max_rel[LANES], ratio[LANES], abs[LANES], square[LANES], ab[LANES], aa[LANES], bb[LANES];
	int64_t bad[LANES];
	int64_t ulp[COMPARE_ULPS];
};

/* n elements from `from` on, the rest of the block zeros. Returns whether all of them are finite. */
bool block_load(struct side *s, const struct tensor *t, int64_t from, int n, enum dtype dt,
		const struct compare_format *f);

/* a against b, all of both finite. */
void block_compare(struct part *p, const struct side *a, const struct side *b, double atol, double rtol);

/* Which bucket of compare_metrics.ulp: a place's ordinals. */
int block_bucket(int32_t a, int32_t b);

#endif
