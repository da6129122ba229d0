/*
 * arena_slab.h: a slab of the arena pool (arena.c): one sealed memfd, mapped, cut into equal arenas.
 */
#ifndef AITERD_ARENA_SLAB_H
#define AITERD_ARENA_SLAB_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct slab;

struct arena {
	struct arena *next; /* in its class's free list */
	struct slab *slab;
	bool borrowed;
};

struct slab {
	uint32_t number, generation;
	int fd;
	int class;
	unsigned char *data;
	uint64_t bytes, arena_bytes;
	uint32_t n, n_borrowed;
	uint64_t mapped, quarantine; /* a bit per device */
	uint64_t idle_since_ns;	     /* valid while nothing is borrowed */
	bool kept;		     /* made at start: not trimmed */
	struct slab *next;	     /* in a list of slabs to destroy */
	struct arena arenas[];
};

/* Made, reserved and touched: takes about a millisecond per MiB. NULL + e. */
struct slab *slab_new(int class, uint64_t arena_bytes, uint64_t bytes, struct err *e);
void slab_free(struct slab *slab);

#endif
