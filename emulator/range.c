/*
 * range.c: a sorted array of address ranges under a read-write lock. Kernels hold it for reading while they run,
 * so memory cannot be taken away under them.
 */
#include "emulator/range.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct emu_range *ranges;
static size_t count, capacity;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

/* How many ranges begin at or below a. */
static size_t
upto(u64 a)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (ranges[mid].lo <= a)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void
emu_range_add(const void *p, size_t n, const char *what)
{
	struct emu_range *r;
	size_t at;

	pthread_rwlock_wrlock(&lock);
	if (count == capacity) {
		capacity = capacity * 2 + 64;
		ranges = realloc(ranges, capacity * sizeof *ranges);
		if (ranges == NULL)
			abort();
	}
	at = upto((u64)p);
	r = ranges + at;
	memmove(r + 1, r, (count - at) * sizeof *r);
	count++;
	r->lo = (u64)p;
	r->hi = (u64)p + n;
	snprintf(r->what, sizeof r->what, "%s", what);
	pthread_rwlock_unlock(&lock);
}

int
emu_range_remove(const void *p)
{
	size_t n;
	int found;

	pthread_rwlock_wrlock(&lock);
	n = upto((u64)p);
	found = n > 0 && ranges[n - 1].lo == (u64)p;
	if (found) {
		memmove(ranges + n - 1, ranges + n, (count - n) * sizeof *ranges);
		count--;
	}
	pthread_rwlock_unlock(&lock);
	return found;
}

size_t
emu_range_find(const void *p, const void **base)
{
	const struct emu_range *r;
	size_t n = 0;

	pthread_rwlock_rdlock(&lock);
	r = emu_range_below((u64)p);
	if (r != NULL && (u64)p < r->hi) {
		n = r->hi - r->lo;
		if (base != NULL)
			*base = (const void *)r->lo;
	}
	pthread_rwlock_unlock(&lock);
	return n;
}

void
emu_range_hold(void)
{
	pthread_rwlock_rdlock(&lock);
}

void
emu_range_release(void)
{
	pthread_rwlock_unlock(&lock);
}

const struct emu_range *
emu_range_below(u64 a)
{
	size_t n = upto(a);

	return n > 0 ? &ranges[n - 1] : NULL;
}
