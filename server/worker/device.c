/*
 * device.c: the dev_ functions: defaults for absent slots, byte counters, peaks. Called by worker_main.c and run.c.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "worker/device.h"

static void
note_peak(struct device *d, uint64_t bytes)
{
	if (bytes > d->peak)
		d->peak = bytes;
	if (bytes > d->window_peak)
		d->window_peak = bytes;
}

int
dev_open(struct device *d, int ordinal, int threads, const char *aiter_dir, struct err *e)
{
	memset(d, 0, sizeof(*d));
	d->aiter_dir = aiter_dir;
	d->ops = &device_backend;
	return d->ops->open(d, ordinal, threads, e);
}

void
dev_close(struct device *d)
{
	if (d->ops) {
		copies_clear(d);
		d->ops->close(d);
	}
	memset(d, 0, sizeof(*d));
}

void
dev_info(struct device *d, struct device_info *info)
{
	memset(info, 0, sizeof(*info));
	snprintf(info->kind, sizeof(info->kind), "%s", d->ops->kind);
	d->ops->info(d, info);
	dev_mem_info(d, &info->memory_free, &info->memory_total);
	info->cache_bytes = dev_cache_bytes(d);
	for (uint32_t i = 0; i < op_count() && i < MSG_OPS_MAX; i++)
		info->impls[i] = d->ops->impls(d, op_get(i));
}

bool
dev_has(struct device *d, const struct op *op, enum impl impl)
{
	return (unsigned)impl < IMPL_COUNT && (d->ops->impls(d, op) >> impl & 1);
}

void *
dev_alloc(struct device *d, size_t bytes, struct err *e)
{
	uint64_t available = 0, total = 0;
	struct err why = {0};
	void *p = d->ops->alloc(d, bytes, &why);

	while (!p && why.code == ERR_OUT_OF_MEMORY && copies_drop(d))
		p = d->ops->alloc(d, bytes, &why);
	if (p) {
		d->allocated += bytes;
		note_peak(d, d->allocated);
		return p;
	}
	if (why.code != ERR_OUT_OF_MEMORY) {
		if (e)
			*e = why;
		return NULL;
	}
	dev_mem_info(d, &available, &total);
	err_set(e, ERR_OUT_OF_MEMORY, "%zu bytes of device memory needed, %" PRIu64 " of %" PRIu64 " free", bytes,
		available, total);
	return NULL;
}

void
dev_free(struct device *d, void *p, size_t bytes)
{
	if (!p)
		return;
	assert(d->allocated >= bytes);
	d->allocated -= bytes;
	d->ops->free(d, p, bytes);
}

void *
dev_scratch(struct device *d, size_t bytes, struct err *e)
{
	void *p = dev_alloc(d, bytes, e);

	if (p && bytes > d->window_scratch)
		d->window_scratch = bytes;
	return p;
}

void
dev_use(struct device *d, uint64_t bytes)
{
	d->allocated += bytes;
	note_peak(d, d->allocated);
}

void
dev_unuse(struct device *d, uint64_t bytes)
{
	assert(d->allocated >= bytes);
	d->allocated -= bytes;
}

int
dev_upload(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	return bytes == 0 ? 0 : d->ops->upload(d, to, from, bytes, e);
}

int
dev_download(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	return bytes == 0 ? 0 : d->ops->download(d, to, from, bytes, e);
}

int
dev_plan(struct device *d, struct device_plan *p, struct err *e)
{
	if (!dev_has(d, p->op, p->impl))
		return err_param(e, ERR_UNAVAILABLE_IMPL, "impl", impl_name(p->impl),
				 "one that /v1/info lists for the device",
				 "the %s device has no '%s' implementation of %s", d->ops->kind, impl_name(p->impl),
				 p->op->name);
	return d->ops->plan(d, p, e);
}

void
dev_unplan(struct device *d, struct device_plan *p)
{
	if (d->ops->unplan)
		d->ops->unplan(d, p);
}

int
dev_run(struct device *d, struct device_plan *p, struct err *e)
{
	return d->ops->run(d, p, e);
}

void
dev_settle(struct device *d)
{
	size_t scratch;

	if (!d->ops->settle)
		return;
	scratch = d->ops->settle(d);
	if (scratch > d->window_scratch)
		d->window_scratch = scratch;
	note_peak(d, d->allocated + scratch);
}

int
dev_sync(struct device *d, struct err *e)
{
	return d->ops->sync(d, e);
}

int
dev_mark(struct device *d, int mark, struct err *e)
{
	assert(mark >= 0 && mark < DEVICE_MARKS);
	if (d->ops->mark)
		return d->ops->mark(d, mark, e);
	if (dev_sync(d, e) == -1)
		return -1;
	d->marks[mark] = clock_ns();
	return 0;
}

int
dev_elapsed(struct device *d, int from, int to, double *ms, struct err *e)
{
	if (d->ops->elapsed)
		return d->ops->elapsed(d, from, to, ms, e);
	*ms = (double)(d->marks[to] - d->marks[from]) / 1e6;
	return 0;
}

void
dev_host_pin(struct device *d, void *p, size_t bytes)
{
	if (d->ops->host_pin)
		d->ops->host_pin(d, p, bytes);
}

void
dev_host_unpin(struct device *d, void *p, size_t bytes)
{
	if (d->ops->host_unpin)
		d->ops->host_unpin(d, p, bytes);
}

void *
dev_reach(struct device *d, void *p)
{
	return d->ops->reach ? d->ops->reach(d, p) : NULL;
}

void
dev_mem_info(struct device *d, uint64_t *available, uint64_t *total)
{
	*available = *total = 0;
	if (d->ops->mem_info)
		d->ops->mem_info(d, available, total);
}

int
dev_copy(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	if (d->ops->copy)
		return bytes == 0 ? 0 : d->ops->copy(d, to, from, bytes, e);
	assert(d->ops->unified);
	memcpy(to, from, bytes);
	return 0;
}

int
dev_fill(struct device *d, void *p, int byte, size_t bytes, struct err *e)
{
	if (d->ops->fill)
		return bytes == 0 ? 0 : d->ops->fill(d, p, byte, bytes, e);
	assert(d->ops->unified);
	memset(p, byte, bytes);
	return 0;
}

int
dev_retarget(struct device *d, struct device_plan *p, struct err *e)
{
	return d->ops->retarget ? d->ops->retarget(d, p, e) : 0;
}

uint64_t
dev_cache_bytes(struct device *d)
{
	const char *text = getenv("AITERD_CACHE_BYTES");
	char *end;

	if (text && *text) {
		unsigned long long bytes = strtoull(text, &end, 10);

		if (*end == '\0' && bytes > 0)
			return bytes;
	}
	return d->ops->cache ? d->ops->cache(d) : 0;
}

int
dev_flush(struct device *d, struct err *e)
{
	if (!d->ops->flush)
		return err_param(e, ERR_INVALID_PARAMETER, "flush", "1", "0", "the %s device cannot clear its caches",
				 d->ops->kind);
	return d->ops->flush(d, e);
}

uint64_t
dev_window(struct device *d)
{
	uint64_t used = 0, high = 0;

	d->window_peak = d->allocated;
	d->window_scratch = 0;
	return d->ops->pool_stats && d->ops->pool_stats(d, true, &used, &high) ? used : d->allocated;
}

uint64_t
dev_window_peak(struct device *d)
{
	uint64_t used = 0, high = 0;

	if (d->ops->pool_stats && d->ops->pool_stats(d, false, &used, &high) && high > d->window_peak)
		return high;
	return d->window_peak;
}
