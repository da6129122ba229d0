/*
 * arena.h: memory for requests' tensors, shared with workers.
 *
 * A slab is a sealed memfd, mapped by the front and, on first use, by each worker. It is cut into
 * equal arenas of one size class (64 KiB, 256 KiB, 1 MiB, 4 MiB); what is larger has a slab of its own,
 * rounded up by at most an eighth. A request borrows arenas for its life and cuts segments from them, one per tensor,
 * each aligned to 4096 bytes (64 inside the smallest class). Fresh memory costs page faults, so
 * arenas are kept and reused, last in first out. Memory is reserved with fallocate: a full tmpfs
 * is an error here, not a SIGBUS later.
 *
 * Threads: any; one mutex inside. `struct mem` belongs to one request and needs no lock.
 */
#ifndef AITERD_ARENA_H
#define AITERD_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "tensor.h"

struct arena_pool;

struct arena_stats {
	uint64_t limit, reserved, borrowed, quarantined; /* bytes */
	uint64_t slabs;
};

/* limit: bytes of all slabs together, 0: half of the machine's memory. prefault: bytes of slabs made and touched at once. */
struct arena_pool *arena_pool_new(uint64_t limit, uint64_t prefault, struct err *e);
void arena_pool_free(struct arena_pool **pool); /* all arenas must have been returned */
void arena_pool_stats(struct arena_pool *pool, struct arena_stats *s);

/* Give back memory that has not been used for `idle_s` seconds, except what was made at start. */
void arena_pool_trim(struct arena_pool *pool, unsigned idle_s);

/* A slab by number: its memfd (borrowed; -1 when that number is free) and size. Slab numbers are
 * reused only with a new generation, so that a worker's map of it can be told stale. */
int arena_slab(struct arena_pool *pool, uint32_t slab, uint64_t *bytes, uint32_t *generation);

/* Slab numbers are below this; a worker can size its table by it. */
#define ARENA_SLABS_MAX 16384

/* Changes whenever a slab was given back: time to tell workers to unmap what is gone. Lock-free. */
uint32_t arena_epoch(struct arena_pool *pool);

/* This device's worker is about to be told to map the slab (link.c says so, once per worker and slab). */
void arena_mapped(struct arena_pool *pool, uint32_t slab, unsigned device);

/* A device's worker was killed but is not reaped yet: nothing is lent out of slabs it had mapped until release,
 * which also forgets what it had mapped. Arenas returned meanwhile are quarantined too. At most 64 devices. */
void arena_quarantine(struct arena_pool *pool, unsigned device);
void arena_release(struct arena_pool *pool, unsigned device);

/* One request's memory. */
struct mem_block {
	uint32_t slab;
	uint32_t generation;
	uint64_t offset; /* of the arena in its slab */
	uint64_t size, used;
	unsigned char *data; /* the front's mapping */
};

#define MEM_BLOCKS_MAX 24

/* What struct mem is made of: arenas of at least `bytes`, in one piece. */
#define ARENA_SMALLEST ((uint64_t)64 << 10)
uint64_t arena_limit(const struct arena_pool *pool);
int arena_borrow(struct arena_pool *pool, uint64_t bytes, struct mem_block *b, struct err *e);
/* What an arena for so many bytes has, at least; UINT64_MAX when there is none so large. */
uint64_t arena_size(uint64_t bytes);
/* No arena of a fitting class is free. */
bool arena_would_grow(struct arena_pool *pool, uint64_t bytes);
void arena_return(struct arena_pool *pool, const struct mem_block *blocks, int n);

struct mem {
	struct arena_pool *pool;
	uint64_t limit; /* of this request's segments together; 0: the pool's */
	uint64_t bytes; /* borrowed */
	int n;
	struct mem_block blocks[MEM_BLOCKS_MAX];
};

void mem_init(struct mem *m, struct arena_pool *pool, uint64_t limit);
void mem_fini(struct mem *m); /* returns all arenas; idempotent */

/* Give back what was borrowed but for where these n places are; no tensor may lie in the rest any more. */
void mem_shed(struct mem *m, const void *const *keep, int n);

/* Hint: about this many bytes will be wanted in all (the Content-Length); borrows one arena for them. */
int mem_expect(struct mem *m, uint64_t bytes, struct err *e);

/* Would `bytes` more mean making a new slab? That takes about a millisecond per MiB: not on an event loop. */
bool mem_would_grow(const struct mem *m, uint64_t bytes);

/* Borrow `bytes` for a tensor: sets t->slab, t->offset, t->data. Zero bytes is fine. The memory is not
 * cleared. ERR_OUT_OF_MEMORY (never fits) or ERR_OVERLOADED (fits when others have finished). */
int mem_tensor(struct mem *m, struct tensor *t, struct err *e);

/* The same for plain bytes that are no tensor (a JSON text, an encoded reply). NULL + err on failure. */
void *mem_alloc(struct mem *m, uint64_t bytes, struct err *e);

/* The arena that the tensor lies in; NULL: it lies elsewhere. */
const struct mem_block *mem_block_of(const struct mem *m, const struct tensor *t);

/* That arena, with all else in it, is the caller's from now on, to be returned with arena_return(). */
void mem_detach(struct mem *m, const struct tensor *t, struct mem_block *b);

#endif
