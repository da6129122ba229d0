/*
 * mem.c: one request's memory: the arenas it borrowed, and the segments cut from them (arena.h).
 *
 * Called by the thread that has the request in hand; only borrowing and returning arenas take the pool's lock.
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "arena.h"
#include "arena_poison.h"

void
mem_init(struct mem *m, struct arena_pool *pool, uint64_t limit)
{
	m->pool = pool;
	m->limit = limit;
	m->bytes = 0;
	m->n = 0;
}

void
mem_fini(struct mem *m)
{
	if (m->n == 0)
		return;
	arena_return(m->pool, m->blocks, m->n);
	m->n = 0;
	m->bytes = 0;
}

void
mem_shed(struct mem *m, const void *const *keep, int n)
{
	int kept = 0;

	for (int i = 0; i < m->n; i++) {
		struct mem_block b = m->blocks[i];
		bool wanted = false;

		for (int k = 0; k < n && !wanted; k++)
			wanted = (const unsigned char *)keep[k] >= b.data &&
				 (const unsigned char *)keep[k] < b.data + b.size;
		if (wanted) {
			m->blocks[kept++] = b;
			continue;
		}
		arena_return(m->pool, &b, 1);
		m->bytes -= b.size;
	}
	m->n = kept;
}

static struct mem_block *
mem_borrow(struct mem *m, uint64_t bytes, struct err *e)
{
	struct mem_block *b = &m->blocks[m->n];

	if (arena_borrow(m->pool, bytes, b, e) == -1) {
		uint64_t limit = arena_limit(m->pool);

		/* Full because of this request itself: it will not fit later either. */
		if (m->bytes > 0 && (bytes > limit || m->bytes > limit - bytes))
			err_set(e, ERR_OUT_OF_MEMORY,
				"the request has %" PRIu64 " bytes of memory and needs %" PRIu64
				" more; the server has %" PRIu64 " bytes for all requests together",
				m->bytes, bytes, limit);
		return NULL;
	}
	m->bytes += b->size;
	m->n++;
	return b;
}

static int
mem_check(const struct mem *m, uint64_t bytes, struct err *e)
{
	uint64_t used = 0;

	for (int i = 0; i < m->n; i++)
		used += m->blocks[i].used;
	if (m->limit != 0 && (bytes > m->limit || used > m->limit - bytes))
		return err_set(e, ERR_OUT_OF_MEMORY,
			       "the request needs %" PRIu64 " bytes more beside the %" PRIu64
			       " it has; a request may have %" PRIu64,
			       bytes, used, m->limit);
	return 0;
}

/* Cut `bytes` from a block, aligned; false: there is no room. */
static bool
cut(struct mem_block *b, uint64_t bytes, uint64_t *offset)
{
	uint64_t align = b->size <= ARENA_SMALLEST ? 64 : 4096;
	uint64_t start = (b->used + align - 1) & ~(align - 1);

	if (start > b->size || bytes > b->size - start)
		return false;
	*offset = start;
	b->used = start + bytes;
	if (SEGMENT_GAP && b->used + SEGMENT_GAP <= b->size)
		b->used += SEGMENT_GAP;
	unpoison(b->data + start, bytes);
	return true;
}

static struct mem_block *
mem_cut(struct mem *m, uint64_t bytes, uint64_t *offset, struct err *e)
{
	struct mem_block *b = NULL;

	if (bytes == 0)
		bytes = 1; /* so that empty tensors have places of their own, too */
	if (mem_check(m, bytes, e) == -1)
		return NULL;
	for (int i = 0; i < m->n; i++)
		if (cut(&m->blocks[i], bytes, offset))
			return &m->blocks[i];
	if (m->n == MEM_BLOCKS_MAX) {
		err_set(e, ERR_OUT_OF_MEMORY,
			"the request's memory is in too many pieces (%d): %" PRIu64 " bytes more do not fit", m->n,
			bytes);
		return NULL;
	}
	/* Whoever comes for many pieces gets larger ones, so that the list does not run out before the memory does. */
	if (m->n >= MEM_BLOCKS_MAX / 3 && bytes < m->bytes)
		b = mem_borrow(m, bytes < m->bytes / 64 ? bytes * 64 : m->bytes, NULL);
	if (!b)
		b = mem_borrow(m, bytes, e);
	if (b) {
		bool fits = cut(b, bytes, offset);

		assert(fits); /* a fresh arena holds what it was borrowed for */
		(void)fits;
	}
	return b;
}

bool
mem_would_grow(const struct mem *m, uint64_t bytes)
{
	uint64_t most = 0;

	for (int i = 0; i < m->n; i++)
		if (m->blocks[i].size - m->blocks[i].used > most)
			most = m->blocks[i].size - m->blocks[i].used;
	return bytes + 4096 > most && arena_would_grow(m->pool, bytes);
}

int
mem_expect(struct mem *m, uint64_t bytes, struct err *e)
{
	/* Segments are aligned to pages outside the smallest class: room for a few tensors. */
	uint64_t limit = arena_limit(m->pool), slack = bytes + 1024 <= ARENA_SMALLEST ? 0 : 8 * 4096;

	if (bytes == 0 || m->n == MEM_BLOCKS_MAX)
		return 0;
	if (mem_check(m, bytes, e) == -1)
		return -1;
	if (bytes <= limit && bytes + slack > limit)
		slack = 0;
	return mem_borrow(m, bytes > UINT64_MAX - slack ? bytes : bytes + slack, e) ? 0 : -1;
}

int
mem_tensor(struct mem *m, struct tensor *t, struct err *e)
{
	uint64_t offset = 0;
	const struct mem_block *b = mem_cut(m, t->bytes, &offset, e);

	if (!b)
		return -1;
	t->slab = b->slab;
	t->offset = b->offset + offset;
	t->data = b->data + offset;
	return 0;
}

void *
mem_alloc(struct mem *m, uint64_t bytes, struct err *e)
{
	uint64_t offset = 0;
	const struct mem_block *b = mem_cut(m, bytes, &offset, e);

	return b ? b->data + offset : NULL;
}

const struct mem_block *
mem_block_of(const struct mem *m, const struct tensor *t)
{
	int i = 0;

	while (i < m->n && (m->blocks[i].slab != t->slab || t->offset < m->blocks[i].offset ||
			    t->offset - m->blocks[i].offset >= m->blocks[i].size))
		i++;
	return i < m->n ? &m->blocks[i] : NULL;
}

void
mem_detach(struct mem *m, const struct tensor *t, struct mem_block *b)
{
	const struct mem_block *found = mem_block_of(m, t);
	int i = (int)(found - m->blocks);

	assert(found);
	*b = *found;
	m->bytes -= b->size;
	m->n--;
	memmove(&m->blocks[i], &m->blocks[i + 1], (size_t)(m->n - i) * sizeof(m->blocks[0]));
}
