/*
 * rotation.h: copies of a call's tensors that runs use in turn, so that each finds its inputs and outputs out of the caches.
 * Copies are made until they are twice the last-level cache together, and are laid down so that the first to be used is
 * among those that were written longest ago. A worker's main thread only.
 */
#ifndef AITERD_ROTATION_H
#define AITERD_ROTATION_H

#include "msg.h"
#include "worker/device.h"

struct rotation {
	struct device *d;
	const struct op *op;
	void *block;   /* all copies; NULL: there is only the original */
	uint64_t size; /* of the block */
	uint64_t set;  /* bytes that one run goes through: inputs and outputs, in whole cache lines */
	uint64_t stride;
	uint32_t copies; /* at least 1 */
	uint64_t turn;	 /* runs so far, as rotation_turn counts them, from where it began */
	/* Places in a copy: of the call's tensors, and of the outputs once more for a second implementation. */
	uint64_t at[2][OP_TENSORS_MAX];
	struct tensor tensors[OP_TENSORS_MAX]; /* for their sizes */
};

/* How many copies of `set` bytes make at least twice the cache. */
uint64_t rotation_wanted(uint64_t set, uint64_t cache);

/*
 * c: a call whose tensors lie on the device, the inputs filled. two: a second implementation takes part. At most half of
 * the device's free memory is taken: fewer copies, in the end none, when more would be wanted; r->copies tells.
 */
int rotation_make(struct rotation *r, struct device *d, const struct op *op, const struct op_call *c, bool two,
		  uint64_t cache, struct err *e);
void rotation_free(struct rotation *r);

/* Point the call to the copy whose turn it is; side 1 has outputs of its own. Nothing changes where there are no copies. */
void rotation_turn(struct rotation *r, struct op_call *c, int side);
/* Where a tensor was in a turn; NULL where there are no copies. */
void *rotation_place(const struct rotation *r, uint64_t turn, int tensor, int side);

#endif
