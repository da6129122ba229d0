/*
 * test_arena.c: the pool of shared memory: cutting, reuse, limits, trimming, quarantine, seals, threads.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"

#define MIB ((uint64_t)1 << 20)

static struct arena_pool *
pool_new(uint64_t limit, uint64_t prefault)
{
	struct err e = {0};
	struct arena_pool *pool = arena_pool_new(limit, prefault, &e);

	cr_assert(pool, "%s", e.msg);
	return pool;
}

static void
tensor(struct mem *m, struct tensor *t, uint64_t bytes)
{
	struct err e = {0};

	memset(t, 0, sizeof(*t));
	t->bytes = bytes;
	cr_assert_eq(mem_tensor(m, t, &e), 0, "%s", e.msg);
	cr_assert(t->data);
}

Test(arena, segments_do_not_overlap_and_lie_where_they_say)
{
	static const uint64_t sizes[] = {0,	   1,	   63,	    64,	    65,	     4095,    4096, 65536,
					 65537,	   100000, 262144,  300000, 1 << 20, 5 << 20, 3,    0,
					 17 << 20, 1000,   9 << 20, 70000,  70000,   70000};
	struct arena_pool *pool = pool_new(512 * MIB, 0);
	struct tensor t[sizeof(sizes) / sizeof(sizes[0])];
	struct arena_stats s;
	struct mem m;
	int n = (int)(sizeof(sizes) / sizeof(sizes[0]));

	for (int round = 0; round < 3; round++) {
		mem_init(&m, pool, 0);
		for (int i = 0; i < n; i++) {
			tensor(&m, &t[i], sizes[i]);
			cr_assert_eq((uintptr_t)t[i].data % 64, 0);
			if (sizes[i] > 65536)
				cr_assert_eq((uintptr_t)t[i].data % 4096, 0);
			memset(t[i].data, i + round, sizes[i]);
		}
		cr_assert_leq(m.n, MEM_BLOCKS_MAX);
		for (int i = 0; i < n; i++) {
			uint64_t slab_bytes = 0;
			uint32_t generation = 0;
			int fd = arena_slab(pool, t[i].slab, &slab_bytes, &generation);
			unsigned char *other;

			for (uint64_t k = 0; k < sizes[i]; k++)
				cr_assert_eq(((unsigned char *)t[i].data)[k], i + round, "segment %d is overwritten", i);
			/* Another mapping of the slab, as a worker makes it, shows the same bytes at the offset. */
			cr_assert_geq(fd, 0);
			cr_assert_leq(t[i].offset + t[i].bytes, slab_bytes);
			other = mmap(NULL, slab_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			cr_assert_neq(other, MAP_FAILED);
			if (sizes[i])
				cr_assert_eq(memcmp(other + t[i].offset, t[i].data, sizes[i]), 0);
			munmap(other, slab_bytes);
		}
		arena_pool_stats(pool, &s);
		cr_assert_eq(s.borrowed, m.bytes);
		mem_fini(&m);
		mem_fini(&m);
		arena_pool_stats(pool, &s);
		cr_assert_eq(s.borrowed, 0);
	}
	arena_pool_free(&pool);
	arena_pool_free(&pool);
	cr_assert_null(pool);
}

Test(arena, memory_is_reused_last_in_first_out)
{
	struct arena_pool *pool = pool_new(512 * MIB, 0);
	struct arena_stats before, after;
	struct tensor a, b;
	struct mem m;

	for (uint64_t bytes = 100; bytes < 100 * MIB; bytes *= 3) {
		mem_init(&m, pool, 0);
		tensor(&m, &a, bytes);
		mem_fini(&m);
		arena_pool_stats(pool, &before);
		for (int i = 0; i < 100; i++) {
			mem_init(&m, pool, 0);
			tensor(&m, &b, bytes);
			cr_assert_eq(a.data, b.data);
			mem_fini(&m);
		}
		arena_pool_stats(pool, &after);
		cr_assert_eq(before.reserved, after.reserved);
	}
	arena_pool_free(&pool);
}

Test(arena, large_requests_waste_at_most_an_eighth)
{
	static const uint64_t sizes[] = {4 * MIB + 1,  5 * MIB,	 9 * MIB,  16 * MIB,
					 16 * MIB + 1, 33 * MIB, 65 * MIB, 129 * MIB};
	struct arena_pool *pool = pool_new(256 * MIB, 0);
	struct tensor t;
	struct mem m;

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		mem_init(&m, pool, 0);
		tensor(&m, &t, sizes[i]);
		cr_assert_leq(m.bytes, sizes[i] + sizes[i] / 8 + 1);
		mem_fini(&m);
		arena_pool_trim(pool, 0);
	}
	arena_pool_free(&pool);
}

/* The refusal's figures: those of the pool, and they add up. */
static void
told_what_is_true(const struct err *e, const struct arena_stats *s, uint64_t bytes)
{
	unsigned long long needed, available, limit, borrowed, held, rest;

	cr_assert_eq(
		sscanf(e->msg,
		       "the memory for requests is full at the moment: %llu bytes needed in one piece, %llu of %llu to be had; "
		       "%llu are in use, %llu held until a stopped worker is gone, %llu in",
		       &needed, &available, &limit, &borrowed, &held, &rest),
		6, "%s", e->msg);
	cr_assert_eq(needed, bytes);
	cr_assert_eq(limit, s->limit);
	cr_assert_eq(borrowed, s->borrowed);
	cr_assert_eq(held, s->quarantined);
	cr_assert_eq(available + borrowed + held + rest, limit);
}

Test(arena, limits)
{
	struct arena_pool *pool = pool_new(64 * MIB, 0);
	struct arena_stats s;
	struct tensor t;
	struct mem m[100];
	struct err e = {0};
	int n;

	/* Never fits. */
	mem_init(&m[0], pool, 0);
	t.bytes = 65 * MIB;
	cr_assert_eq(mem_tensor(&m[0], &t, &e), -1);
	cr_assert_eq(e.code, ERR_OUT_OF_MEMORY);
	cr_assert(strstr(e.msg, "68157440") && strstr(e.msg, "67108864"), "%s", e.msg);
	t.bytes = UINT64_MAX;
	cr_assert_eq(mem_tensor(&m[0], &t, &e), -1);
	cr_assert_eq(e.code, ERR_OUT_OF_MEMORY);
	cr_assert_eq(mem_expect(&m[0], UINT64_MAX, &e), -1);
	cr_assert_null(mem_alloc(&m[0], 65 * MIB, &e));
	mem_fini(&m[0]);

	/* The request's own limit counts segments, not arenas. */
	mem_init(&m[0], pool, 100000);
	tensor(&m[0], &t, 60000);
	t.bytes = 50000;
	cr_assert_eq(mem_tensor(&m[0], &t, &e), -1);
	cr_assert_eq(e.code, ERR_OUT_OF_MEMORY);
	cr_assert_eq(mem_expect(&m[0], 100001, &e), -1);
	tensor(&m[0], &t, 30000);
	mem_fini(&m[0]);

	/* Everything is taken: overloaded; after a return it fits again. Every size class, each must push out the last. */
	for (uint64_t bytes = 60000; bytes < 40 * MIB; bytes *= 4) {
		for (n = 0; n < 100; n++) {
			mem_init(&m[n], pool, 0);
			t.bytes = bytes;
			if (mem_tensor(&m[n], &t, &e) == -1)
				break;
			memset(t.data, 1, t.bytes);
		}
		cr_assert_gt(n, 0, "%llu bytes: %s", (unsigned long long)bytes, e.msg);
		arena_pool_stats(pool, &s);
		cr_assert_leq(s.reserved, s.limit);
		if (n < 100) {
			cr_assert_eq(e.code, ERR_OVERLOADED);
			told_what_is_true(&e, &s, bytes);
			cr_assert_geq(s.borrowed + 2 * bytes, s.limit / 2);
			mem_fini(&m[n]);
			mem_fini(&m[--n]);
			mem_init(&m[n], pool, 0);
			tensor(&m[n], &t, bytes);
			n++;
		}
		while (n-- > 0)
			mem_fini(&m[n]);
	}
	arena_pool_free(&pool);
}

Test(arena, expect_holds_a_whole_request)
{
	struct arena_pool *pool = pool_new(256 * MIB, 0);
	struct tensor t;
	struct mem m;
	struct err e;

	for (uint64_t bytes = 1; bytes < 60 * MIB; bytes = bytes * 2 + 7) {
		mem_init(&m, pool, 0);
		cr_assert_eq(mem_expect(&m, bytes, &e), 0);
		cr_assert_eq(m.n, 1);
		tensor(&m, &t, bytes / 2);
		tensor(&m, &t, bytes / 4);
		tensor(&m, &t, bytes / 4);
		cr_assert_eq(m.n, 1, "%llu bytes took %d arenas", (unsigned long long)bytes, m.n);
		mem_fini(&m);
	}
	mem_init(&m, pool, 0);
	cr_assert_eq(mem_expect(&m, 0, &e), 0);
	cr_assert_eq(mem_expect(&m, 256 * MIB, &e), 0, "the whole limit");
	mem_fini(&m);
	arena_pool_free(&pool);
}

Test(arena, many_pieces)
{
	struct arena_pool *pool = pool_new(256 * MIB, 0);
	struct mem m;
	struct err e;

	mem_init(&m, pool, 0);
	for (int i = 0; i < 1000; i++)
		cr_assert(mem_alloc(&m, 40000, &e), "piece %d: %s", i, e.msg);
	cr_assert_leq(m.n, MEM_BLOCKS_MAX);
	mem_fini(&m);
	arena_pool_free(&pool);
}

/* Of a request's memory only what holds these places stays; the rest can be had by others at once. */
Test(arena, shed)
{
	struct arena_pool *pool = pool_new(64 * MIB, 0);
	struct tensor t[4], more;
	struct arena_stats s;
	struct mem m, other;
	const void *keep[3];

	mem_init(&m, pool, 0);
	mem_init(&other, pool, 0);
	for (int i = 0; i < 4; i++) {
		tensor(&m, &t[i], 4 * MIB);
		memset(t[i].data, i, 4 * MIB);
	}
	cr_assert_eq(m.n, 4);
	/* The first byte, the last one, and one that is not ours at all. */
	keep[0] = t[2].data;
	keep[1] = (const char *)t[0].data + 4 * MIB - 1;
	keep[2] = &s;
	mem_shed(&m, keep, 3);
	cr_expect_eq(m.n, 2);
	cr_expect_eq(m.bytes, 8 * MIB);
	arena_pool_stats(pool, &s);
	cr_expect_eq(s.borrowed, 8 * MIB);
	for (int i = 0; i < 2; i++) {
		tensor(&other, &more, 4 * MIB);
		cr_expect(more.data == t[1].data || more.data == t[3].data);
		memset(more.data, 9, 4 * MIB);
	}
	for (int i = 0; i < 4; i += 2)
		for (uint64_t k = 0; k < 4 * MIB; k += 4095)
			cr_assert_eq(((const char *)t[i].data)[k], i);
	mem_shed(&m, keep, 0);
	cr_expect(m.n == 0 && m.bytes == 0);
	mem_shed(&m, keep, 0);
	mem_fini(&m);
	mem_fini(&other);
	arena_pool_free(&pool);
}

Test(arena, trim_and_generations)
{
	struct arena_pool *pool = pool_new(512 * MIB, 16 * MIB);
	struct arena_stats s;
	struct tensor t;
	struct mem m, held;
	uint64_t bytes;
	uint32_t g1 = 0, g2 = 0, epoch;

	arena_pool_stats(pool, &s);
	cr_assert_eq(s.reserved, 16 * MIB);
	mem_init(&held, pool, 0);
	tensor(&held, &t, 2 * MIB);
	mem_init(&m, pool, 0);
	tensor(&m, &t, 32 * MIB);
	arena_slab(pool, t.slab, &bytes, &g1);
	cr_assert_eq(bytes, 32 * MIB);
	mem_fini(&m);
	epoch = arena_epoch(pool);
	arena_pool_trim(pool, 3600);
	cr_assert_geq(arena_slab(pool, t.slab, &bytes, &g2), 0);
	cr_assert_eq(epoch, arena_epoch(pool));
	arena_pool_trim(pool, 0);
	cr_assert_neq(epoch, arena_epoch(pool));
	cr_assert_eq(arena_slab(pool, t.slab, &bytes, &g2), -1);
	cr_assert_eq(arena_slab(pool, 12345678, &bytes, &g2), -1);
	arena_pool_stats(pool, &s);
	cr_assert_eq(s.reserved, 16 * MIB + 64 * MIB, "what is borrowed and what was made at start stay");
	/* The number comes back with another generation. */
	tensor(&m, &t, 32 * MIB);
	cr_assert_geq(arena_slab(pool, t.slab, &bytes, &g2), 0);
	cr_assert_neq(g1, g2);
	mem_fini(&m);
	mem_fini(&held);
	arena_pool_trim(pool, 0);
	arena_pool_stats(pool, &s);
	cr_assert_eq(s.reserved, 16 * MIB);
	arena_pool_free(&pool);
}

Test(arena, sealed)
{
	struct arena_pool *pool = pool_new(64 * MIB, 0);
	struct tensor t;
	struct mem m;
	uint64_t bytes;
	uint32_t g;
	int fd;

	mem_init(&m, pool, 0);
	tensor(&m, &t, 1000);
	fd = arena_slab(pool, t.slab, &bytes, &g);
	cr_assert_eq(ftruncate(fd, 4096), -1);
	cr_assert_eq(ftruncate(fd, (off_t)bytes + 4096), -1);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	mem_fini(&m);
	arena_pool_free(&pool);
}

Test(arena, quarantine)
{
	struct arena_pool *pool = pool_new(512 * MIB, 0);
	struct tensor t[4], u;
	struct arena_stats s;
	struct mem m[4], n;
	struct err e = {0};

	for (int large = 0; large < 2; large++) {
		uint64_t bytes = large ? 40 * MIB : 50000;

		/* 0: mapped by device 1, borrowed; 1: the same, free; 2: mapped by device 2 as well. */
		for (int i = 0; i < 3; i++) {
			mem_init(&m[i], pool, 0);
			tensor(&m[i], &t[i], bytes);
			arena_mapped(pool, t[i].slab, 1);
		}
		arena_mapped(pool, t[2].slab, 2);
		mem_fini(&m[1]);
		arena_quarantine(pool, 1);
		arena_quarantine(pool, 2);
		mem_fini(&m[0]);
		mem_fini(&m[2]);
		arena_pool_stats(pool, &s);
		cr_assert_gt(s.quarantined, 0);
		mem_init(&n, pool, 0);
		u.bytes = 500 * MIB;
		cr_assert_eq(mem_tensor(&n, &u, &e), -1);
		told_what_is_true(&e, &s, u.bytes);
		arena_pool_trim(pool, 0);
		mem_init(&n, pool, 0);
		tensor(&n, &u, bytes);
		for (int i = 0; i < 3; i++)
			cr_assert_neq(u.slab, t[i].slab, "memory a dying worker may still write was lent out");
		arena_release(pool, 1);
		if (large) { /* slab 2 is still device 2's */
			struct tensor v, w;
			struct mem o;

			mem_init(&o, pool, 0);
			tensor(&o, &v, bytes);
			tensor(&o, &w, bytes);
			cr_assert((v.slab == t[0].slab && w.slab == t[1].slab) ||
				  (v.slab == t[1].slab && w.slab == t[0].slab));
			mem_fini(&o);
		}
		arena_release(pool, 2);
		mem_fini(&n);
		arena_pool_stats(pool, &s);
		cr_assert_eq(s.quarantined, 0);
		cr_assert_eq(s.borrowed, 0);
		/* Released: the next quarantine of the device, whose new worker mapped nothing, takes nothing. */
		arena_quarantine(pool, 1);
		arena_pool_stats(pool, &s);
		cr_assert_eq(s.quarantined, 0);
		arena_release(pool, 1);
		arena_pool_trim(pool, 0);
	}
	arena_pool_stats(pool, &s);
	cr_assert_eq(s.reserved, 0);
	arena_pool_free(&pool);
}

struct hammer {
	struct arena_pool *pool;
	unsigned seed;
	uint64_t done, refused, clashes;
};

static void *
hammer(void *arg)
{
	struct hammer *h = arg;

	for (int i = 0; i < 3000; i++) {
		struct tensor t[5];
		struct mem m;
		struct err e;
		int n = 0;

		mem_init(&m, h->pool, 0);
		if (i % 3 == 0 && mem_expect(&m, (uint64_t)(rand_r(&h->seed) % 200000), &e) == -1)
			h->refused++;
		for (; n < 5; n++) {
			t[n].bytes = (uint64_t)(rand_r(&h->seed) % (n == 4 ? 3000000 : 100000));
			if (mem_tensor(&m, &t[n], &e) == -1) {
				h->refused++;
				break;
			}
			if (t[n].bytes) {
				((unsigned char *)t[n].data)[0] = (unsigned char)h->seed;
				((unsigned char *)t[n].data)[t[n].bytes - 1] = (unsigned char)h->seed;
			}
			t[n].reserved0 = (unsigned char)h->seed;
		}
		while (n-- > 0)
			if (t[n].bytes > 1 && (((unsigned char *)t[n].data)[0] != t[n].reserved0 ||
					       ((unsigned char *)t[n].data)[t[n].bytes - 1] != t[n].reserved0))
				h->clashes++;
		mem_fini(&m);
		if (i % 100 == 0)
			arena_pool_trim(h->pool, 0);
		h->done++;
	}
	return NULL;
}

Test(arena, threads)
{
	struct arena_pool *pool = pool_new(48 * MIB, 0);
	struct arena_stats s;
	struct hammer h[4];
	pthread_t th[4];

	for (int i = 0; i < 4; i++) {
		h[i] = (struct hammer){.pool = pool, .seed = (unsigned)i + 1};
		pthread_create(&th[i], NULL, hammer, &h[i]);
	}
	for (int i = 0; i < 200; i++) {
		arena_mapped(pool, (uint32_t)(i % 5), 3);
		arena_quarantine(pool, 3);
		usleep(200);
		arena_release(pool, 3);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(th[i], NULL);
		cr_assert_eq(h[i].clashes, 0, "two requests got the same memory");
		cr_assert_eq(h[i].done, 3000);
	}
	arena_pool_stats(pool, &s);
	cr_assert_eq(s.borrowed, 0);
	cr_assert_eq(s.quarantined, 0);
	cr_assert_leq(s.reserved, s.limit);
	arena_pool_free(&pool);
}
