/*
 * arena.c: the pool of shared memory for requests' tensors (arena.h says what it promises).
 *
 * The front owns one pool; event loops borrow through `struct mem`, links hand slabs to workers, the
 * supervisor quarantines. Making and unmapping slabs touches memory and takes milliseconds, so both happen outside
 * the lock; everything under the lock is short.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"
#include "arena_poison.h"
#include "arena_slab.h"
#include "clock.h"
#include "log.h"

#define SMALL_CLASSES 4
#define LARGE_LOG2 22 /* large classes begin above 4 MiB, eight steps to each power of two */
#define LARGE_STEPS 8
#define CLASSES (SMALL_CLASSES + (62 - LARGE_LOG2) * LARGE_STEPS)

static const struct {
	uint64_t arena, slab;
} small[SMALL_CLASSES] = {
	{ARENA_SMALLEST, 16 << 20},
	{256 << 10, 16 << 20},
	{1 << 20, 32 << 20},
	{4 << 20, 64 << 20},
};

struct arena_pool {
	uint64_t limit;
	_Atomic uint32_t epoch;

	pthread_mutex_t lock; /* all below */
	uint64_t reserved, borrowed;
	uint32_t generation, n_slots, n_slabs;
	struct arena *free[CLASSES];
	struct slab *slabs[ARENA_SLABS_MAX];
};

/* The class whose arenas are the smallest of at least `bytes`, and their size; -1: larger than anything. */
static int
class_of(uint64_t bytes, uint64_t *arena_bytes)
{
	uint64_t power, step, steps;
	int log2;

	for (int i = 0; i < SMALL_CLASSES; i++)
		if (bytes <= small[i].arena) {
			*arena_bytes = small[i].arena;
			return i;
		}
	if (bytes > (uint64_t)1 << 61)
		return -1;
	log2 = 63 - __builtin_clzll(bytes - 1);
	power = (uint64_t)1 << log2;
	step = power / LARGE_STEPS;
	steps = (bytes - power + step - 1) / step; /* 1..8 */
	*arena_bytes = power + steps * step;
	return SMALL_CLASSES + (log2 - LARGE_LOG2) * LARGE_STEPS + (int)steps - 1;
}

/* Slabs of small classes shrink with a small pool, so that each class can have one. */
static uint64_t
slab_bytes(const struct arena_pool *pool, int class, uint64_t arena_bytes)
{
	uint64_t bytes;

	if (class >= SMALL_CLASSES)
		return arena_bytes;
	bytes = small[class].slab;
	while (bytes > arena_bytes && bytes > pool->limit / 8)
		bytes /= 2;
	return bytes;
}

static void
push(struct arena_pool *pool, struct arena *a)
{
	a->next = pool->free[a->slab->class];
	pool->free[a->slab->class] = a;
}

static void
push_all(struct arena_pool *pool, struct slab *slab)
{
	for (uint32_t i = slab->n; i-- > 0;)
		if (!slab->arenas[i].borrowed)
			push(pool, &slab->arenas[i]);
}

/* Take a slab's arenas out of the free list. */
static void
pull_all(struct arena_pool *pool, struct slab *slab)
{
	struct arena **p = &pool->free[slab->class];

	while (*p) {
		if ((*p)->slab == slab)
			*p = (*p)->next;
		else
			p = &(*p)->next;
	}
}

/* Under the lock: give a new slab its number and lend its arenas. */
static int
slab_enter(struct arena_pool *pool, struct slab *slab)
{
	uint32_t number = 0;

	while (number < pool->n_slots && pool->slabs[number])
		number++;
	if (number == ARENA_SLABS_MAX)
		return -1;
	if (number == pool->n_slots)
		pool->n_slots++;
	slab->number = number;
	if (++pool->generation == 0)
		pool->generation = 1;
	slab->generation = pool->generation;
	slab->idle_since_ns = clock_ns();
	pool->slabs[number] = slab;
	pool->n_slabs++;
	push_all(pool, slab);
	return 0;
}

/* Under the lock: take a slab that nobody borrows from out of the pool, onto the list. */
static void
slab_leave(struct arena_pool *pool, struct slab *slab, struct slab **list)
{
	assert(slab->n_borrowed == 0 && !slab->quarantine);
	pull_all(pool, slab);
	pool->slabs[slab->number] = NULL;
	while (pool->n_slots > 0 && !pool->slabs[pool->n_slots - 1])
		pool->n_slots--;
	pool->n_slabs--;
	pool->reserved -= slab->bytes;
	atomic_fetch_add_explicit(&pool->epoch, 1, memory_order_relaxed);
	slab->next = *list;
	*list = slab;
}

static void
slabs_free(struct slab *list)
{
	for (struct slab *next; list; list = next) {
		next = list->next;
		slab_free(list);
	}
}

/* Under the lock: the slab unused for longest, or NULL. */
static struct slab *
slab_oldest(const struct arena_pool *pool)
{
	struct slab *oldest = NULL;

	for (uint32_t i = 0; i < pool->n_slots; i++) {
		struct slab *slab = pool->slabs[i];

		if (slab && slab->n_borrowed == 0 && !slab->quarantine &&
		    (!oldest || slab->idle_since_ns < oldest->idle_since_ns))
			oldest = slab;
	}
	return oldest;
}

/* Under the lock: free and not quarantined bytes of slabs that could be given up whole. */
static uint64_t
reclaimable(const struct arena_pool *pool)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < pool->n_slots; i++) {
		const struct slab *slab = pool->slabs[i];

		if (slab && slab->n_borrowed == 0 && !slab->quarantine)
			bytes += slab->bytes;
	}
	return bytes;
}

/* Under the lock: bytes of slabs in quarantine that nobody borrows. */
static uint64_t
quarantined_bytes(const struct arena_pool *pool)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < pool->n_slots; i++) {
		const struct slab *slab = pool->slabs[i];

		if (slab && slab->quarantine)
			bytes += slab->arena_bytes * (slab->n - slab->n_borrowed);
	}
	return bytes;
}

static struct arena *
pop(struct arena_pool *pool, int from, int to)
{
	for (int class = from; class < to && class < CLASSES; class ++) {
		struct arena *a = pool->free[class];

		if (!a)
			continue;
		pool->free[class] = a->next;
		a->next = NULL;
		a->borrowed = true;
		a->slab->n_borrowed++;
		pool->borrowed += a->slab->arena_bytes;
		return a;
	}
	return NULL;
}

/* Without the lock: make a slab whose bytes the caller has counted as reserved, and borrow its first arena. */
static struct arena *
grow(struct arena_pool *pool, int class, uint64_t arena_bytes, uint64_t bytes, struct err *e)
{
	struct slab *slab = slab_new(class, arena_bytes, bytes, e);
	struct arena *a = NULL;
	bool entered;

	pthread_mutex_lock(&pool->lock);
	entered = slab && slab_enter(pool, slab) == 0;
	if (entered)
		a = pop(pool, class, class + 1);
	else
		pool->reserved -= bytes;
	pthread_mutex_unlock(&pool->lock);
	if (slab && !entered) {
		slab_free(slab);
		err_set(e, ERR_OVERLOADED, "all %d slabs of memory for requests are in use", ARENA_SLABS_MAX);
	}
	return a;
}

static struct arena *
find_or_grow(struct arena_pool *pool, uint64_t bytes, struct err *e)
{
	uint64_t arena_bytes = 0, slab, available, borrowed, quarantined;
	struct slab *evicted = NULL;
	struct arena *a;
	int class = class_of(bytes, &arena_bytes);

	if (class == -1 || arena_bytes > pool->limit) {
		err_set(e, ERR_OUT_OF_MEMORY,
			"the request needs %" PRIu64 " bytes in one piece; the server has %" PRIu64
			" bytes for all requests together",
			bytes, pool->limit);
		return NULL;
	}
	pthread_mutex_lock(&pool->lock);
	/* A large arena may be up to twice what is wanted; a small one is of its class. */
	a = pop(pool, class, class < SMALL_CLASSES ? class + 1 : class + LARGE_STEPS);
	if (a)
		goto out;
	slab = slab_bytes(pool, class, arena_bytes);
	if (pool->reserved + slab > pool->limit && class < SMALL_CLASSES) {
		a = pop(pool, class + 1, SMALL_CLASSES);
		if (a)
			goto out;
	}
	available = pool->limit > pool->reserved ? pool->limit - pool->reserved : 0;
	if (available + reclaimable(pool) < slab && class < SMALL_CLASSES)
		slab = arena_bytes; /* at least this one */
	if (available + reclaimable(pool) >= slab) {
		while (pool->reserved + slab > pool->limit)
			slab_leave(pool, slab_oldest(pool), &evicted);
		pool->reserved += slab;
		pthread_mutex_unlock(&pool->lock);
		slabs_free(evicted);
		return grow(pool, class, arena_bytes, slab, e);
	}
	a = pop(pool, class + 1, CLASSES);
	if (!a) {
		available += reclaimable(pool);
		borrowed = pool->borrowed;
		quarantined = quarantined_bytes(pool);
		err_set(e, ERR_OVERLOADED,
			"the memory for requests is full at the moment: %" PRIu64 " bytes needed in one piece, %" PRIu64
			" of %" PRIu64 " to be had; %" PRIu64 " are in use, %" PRIu64
			" held until a stopped worker is gone, %" PRIu64 " in slabs being made or cut to other sizes",
			bytes, available, pool->limit, borrowed, quarantined,
			pool->limit - available - borrowed - quarantined);
	}
out:
	pthread_mutex_unlock(&pool->lock);
	return a;
}

uint64_t
arena_size(uint64_t bytes)
{
	uint64_t arena_bytes = 0;

	return class_of(bytes, &arena_bytes) == -1 ? UINT64_MAX : arena_bytes;
}

bool
arena_would_grow(struct arena_pool *pool, uint64_t bytes)
{
	uint64_t arena_bytes;
	int class = class_of(bytes, &arena_bytes), to = class < SMALL_CLASSES ? class + 1 : class + LARGE_STEPS;
	bool found = class == -1; /* then it is refused, at once */

	pthread_mutex_lock(&pool->lock);
	for (int i = class; !found && i < to && i < CLASSES; i++)
		found = pool->free[i] != NULL;
	pthread_mutex_unlock(&pool->lock);
	return !found;
}

int
arena_borrow(struct arena_pool *pool, uint64_t bytes, struct mem_block *b, struct err *e)
{
	const struct arena *a = find_or_grow(pool, bytes, e);
	const struct slab *slab;

	if (!a)
		return -1;
	slab = a->slab;
	b->slab = slab->number;
	b->generation = slab->generation;
	b->offset = (uint64_t)(a - slab->arenas) * slab->arena_bytes;
	b->size = slab->arena_bytes;
	b->used = 0;
	b->data = slab->data + b->offset;
	return 0;
}

void
arena_return(struct arena_pool *pool, const struct mem_block *blocks, int n)
{
	uint64_t now = clock_ns();

	for (int i = 0; i < n; i++)
		poison(blocks[i].data, blocks[i].size);
	pthread_mutex_lock(&pool->lock);
	for (int i = n; i-- > 0;) {
		struct slab *slab = pool->slabs[blocks[i].slab];
		struct arena *a;

		assert(slab && slab->generation == blocks[i].generation);
		a = &slab->arenas[blocks[i].offset / slab->arena_bytes];
		assert(a->borrowed);
		a->borrowed = false;
		pool->borrowed -= slab->arena_bytes;
		if (--slab->n_borrowed == 0)
			slab->idle_since_ns = now;
		if (!slab->quarantine)
			push(pool, a);
	}
	pthread_mutex_unlock(&pool->lock);
}

uint64_t
arena_limit(const struct arena_pool *pool)
{
	return pool->limit;
}

struct arena_pool *
arena_pool_new(uint64_t limit, uint64_t prefault, struct err *e)
{
	struct arena_pool *pool = xcalloc(1, sizeof(*pool));
	uint64_t made = 0;

	if (limit == 0)
		limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	if (limit < small[0].arena)
		limit = small[0].arena;
	pool->limit = limit;
	prefault = prefault < limit ? prefault : limit;
	pthread_mutex_init(&pool->lock, NULL);

	for (int class = 0, none = 0; none < SMALL_CLASSES; class = (class + 1) % SMALL_CLASSES) {
		uint64_t bytes = slab_bytes(pool, class, small[class].arena);
		struct slab *slab;

		if (made + bytes > prefault) {
			none++;
			continue;
		}
		none = 0;
		slab = slab_new(class, small[class].arena, bytes, e);
		if (!slab || slab_enter(pool, slab) == -1) {
			if (slab) {
				slab_free(slab);
				break; /* no more numbers: enough is made */
			}
			arena_pool_free(&pool);
			return NULL;
		}
		slab->kept = true;
		pool->reserved += bytes;
		made += bytes;
	}
	return pool;
}

void
arena_pool_free(struct arena_pool **pool)
{
	if (!*pool)
		return;
	assert((*pool)->borrowed == 0);
	for (uint32_t i = 0; i < (*pool)->n_slots; i++)
		if ((*pool)->slabs[i])
			slab_free((*pool)->slabs[i]);
	pthread_mutex_destroy(&(*pool)->lock);
	free(*pool);
	*pool = NULL;
}

void
arena_pool_stats(struct arena_pool *pool, struct arena_stats *s)
{
	*s = (struct arena_stats){.limit = pool->limit};
	pthread_mutex_lock(&pool->lock);
	s->reserved = pool->reserved;
	s->borrowed = pool->borrowed;
	s->slabs = pool->n_slabs;
	s->quarantined = quarantined_bytes(pool);
	pthread_mutex_unlock(&pool->lock);
}

void
arena_pool_trim(struct arena_pool *pool, unsigned idle_s)
{
	uint64_t now = clock_ns(), idle_ns = (uint64_t)idle_s * 1000000000u;
	struct slab *list = NULL;

	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = pool->n_slots; i-- > 0;) {
		struct slab *slab = pool->slabs[i];

		if (slab && slab->n_borrowed == 0 && !slab->quarantine && !slab->kept &&
		    now - slab->idle_since_ns >= idle_ns)
			slab_leave(pool, slab, &list);
	}
	pthread_mutex_unlock(&pool->lock);
	slabs_free(list);
}

int
arena_slab(struct arena_pool *pool, uint32_t number, uint64_t *bytes, uint32_t *generation)
{
	int fd = -1;

	pthread_mutex_lock(&pool->lock);
	if (number < pool->n_slots && pool->slabs[number]) {
		fd = pool->slabs[number]->fd;
		*bytes = pool->slabs[number]->bytes;
		*generation = pool->slabs[number]->generation;
	}
	pthread_mutex_unlock(&pool->lock);
	return fd;
}

uint32_t
arena_epoch(struct arena_pool *pool)
{
	return atomic_load_explicit(&pool->epoch, memory_order_relaxed);
}

void
arena_mapped(struct arena_pool *pool, uint32_t number, unsigned device)
{
	assert(device < 64);
	pthread_mutex_lock(&pool->lock);
	if (number < pool->n_slots && pool->slabs[number])
		pool->slabs[number]->mapped |= (uint64_t)1 << device;
	pthread_mutex_unlock(&pool->lock);
}

void
arena_quarantine(struct arena_pool *pool, unsigned device)
{
	uint64_t bit = (uint64_t)1 << device;

	assert(device < 64);
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < pool->n_slots; i++) {
		struct slab *slab = pool->slabs[i];

		if (!slab || !(slab->mapped & bit))
			continue;
		if (!slab->quarantine)
			pull_all(pool, slab);
		slab->quarantine |= bit;
	}
	pthread_mutex_unlock(&pool->lock);
}

void
arena_release(struct arena_pool *pool, unsigned device)
{
	uint64_t bit = (uint64_t)1 << device;

	assert(device < 64);
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < pool->n_slots; i++) {
		struct slab *slab = pool->slabs[i];

		if (!slab)
			continue;
		slab->mapped &= ~bit;
		if (!(slab->quarantine & bit))
			continue;
		slab->quarantine &= ~bit;
		if (!slab->quarantine)
			push_all(pool, slab);
	}
	pthread_mutex_unlock(&pool->lock);
}
