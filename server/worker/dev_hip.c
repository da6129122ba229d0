/*
 * dev_hip.c: a GPU as a device, through the HIP runtime's module API. Linked into aiterd-worker-hip; with the emulator
 * instead of the runtime (DEVICE_EMULATED) into aiterd-worker-emulated; with CUDA under HIP's names (DEVICE_CUDA) into
 * aiterd-worker-cuda. It knows no operator: planners (ops/gpu_ops.h) say what to launch.
 *
 * One stream takes everything in order, memory too: what is freed is reused by later work of the stream only.
 */
#include "worker/dev_hip.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "ops/gpu_ops.h"
#include "worker/aiter_files.h"

#define QUEUED_MAX 8			/* runs, before the host waits: so that a cancelled job ends soon */
#define MEMORY_ASKED_NS 10000000u	/* asking the driver each time would cost small jobs dearly */
#define FLUSH_BYTES ((size_t)512 << 20) /* twice the largest last-level cache there is, MI300X's 256 MiB */
#define INFINITY_CACHE ((uint64_t)256 << 20)

int
hip_check(struct device *d, hipError_t rc, const char *what, struct err *e)
{
	if (rc == hipSuccess)
		return 0;
	(void)hipGetLastError(); /* or the next call would find it */
	if (rc == hipErrorOutOfMemory)
		return err_set(e, ERR_OUT_OF_MEMORY, "%s: %s", what, hipGetErrorString(rc));
	if (rc == hipErrorInvalidValue)
		return err_set(e, ERR_WORKER_REFUSED, "%s: %s", what, hipGetErrorString(rc));
	d->lost = true;
	return err_set(e, ERR_WORKER_CRASHED, "%s: %s", what, hipGetErrorName(rc)); /* short: an obituary holds little */
}

/* For what has no caller to tell: it goes to the log and into the worker's last words. */
static void
hip_note(struct device *d, hipError_t rc, const char *what)
{
	struct err e = {0};

	if (hip_check(d, rc, what, &e) == -1)
		fprintf(stderr, "%s\n", e.msg);
}

/* A pool keeps what is freed, up to half of the memory; asking the driver each time would wait for all work. */
static void
pool_open(struct hip *h, int ordinal)
{
	uint64_t keep = h->memory_total / 2;
	int supported = 0;

	h->has_pool = hipDeviceGetAttribute(&supported, hipDeviceAttributeMemoryPoolsSupported, ordinal) == hipSuccess &&
		      supported && hipDeviceGetDefaultMemPool(&h->pool, ordinal) == hipSuccess &&
		      hipMemPoolSetAttribute(h->pool, hipMemPoolAttrReleaseThreshold, &keep) == hipSuccess;
	(void)hipGetLastError();
}

static int
find_device(int ordinal, struct err *e)
{
	int n = 0;
	hipError_t rc = hipInit(0);

	if (rc == hipSuccess)
		rc = hipGetDeviceCount(&n);
	if (rc != hipSuccess)
		return err_set(e, ERR_DEVICE_UNAVAILABLE, HIP_WORD " finds no device: %s", hipGetErrorString(rc));
	if (ordinal >= n)
		return err_set(e, ERR_DEVICE_UNAVAILABLE, HIP_KIND ":%d was asked for, " HIP_WORD " finds %d device%s",
			       ordinal, n, n == 1 ? "" : "s");
	return 0;
}

/* Name, architecture ("gfx942:sramecc+:xnack-" without its features), sizes. */
static int
learn(struct device *d, int ordinal, struct err *e)
{
	struct hip *h = d->priv;
	hipDeviceProp_t *p = calloc(1, sizeof(*p));
	int khz = 0, l2 = 0, rc = -1;

	if (!p)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the device's properties");
	if (hip_check(d, hipSetDevice(ordinal), "hipSetDevice", e) == -1 ||
	    hip_check(d, hipGetDeviceProperties(p, ordinal), "hipGetDeviceProperties", e) == -1)
		goto out;
	snprintf(h->name, sizeof(h->name), "%.95s", p->name);
	snprintf(h->arch, sizeof(h->arch), "%.*s", (int)strcspn(p->gcnArchName, ":"), p->gcnArchName);
	h->facts.compute_units = p->multiProcessorCount;
	h->facts.family = HIP_FAMILY;
	h->memory_total = p->totalGlobalMem;
	if (hipDeviceGetAttribute(&khz, hipDeviceAttributeClockRate, ordinal) == hipSuccess && khz > 0)
		h->mhz = (uint32_t)khz / 1000;
	if (hipDeviceGetAttribute(&l2, hipDeviceAttributeL2CacheSize, ordinal) == hipSuccess && l2 > 0)
		h->cache = (uint64_t)l2;
#ifndef DEVICE_EMULATED
	/* CDNA 3 and 4 have the Infinity Cache behind their L2s, 256 MiB (AMD's CDNA 3 and CDNA 4 white papers), which HIP tells
	 * nothing of. */
	if (strcmp(h->arch, "gfx942") == 0 || strcmp(h->arch, "gfx950") == 0)
		h->cache = INFINITY_CACHE;
#endif
	rc = 0;
out:
	free(p);
	return rc;
}

static void
hip_close(struct device *d)
{
	struct hip *h = d->priv;

	if (h->flush)
		(void)hipFree(h->flush);
	for (int i = 0; i < DEVICE_MARKS; i++)
		if (h->marks[i])
			(void)hipEventDestroy(h->marks[i]);
	hip_objects_free(&h->objects);
	aiter_files_free(&h->aiter);
	if (h->stream)
		(void)hipStreamDestroy(h->stream);
	free(h);
}

static int
hip_open(struct device *d, int ordinal, int threads, struct err *e)
{
	struct hip *h;

#ifdef DEVICE_EMULATED
	char text[16];

	snprintf(text, sizeof(text), "%d", threads);
	if (threads > 0 && setenv("EMUHIP_THREADS", text, 0) == 0)
		emu_settings_read();
#else
	(void)threads;
#endif
	if (find_device(ordinal, e) == -1)
		return -1;
	d->priv = h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the device");
	if (learn(d, ordinal, e) == -1 || !(h->objects = hip_objects_new(h->arch, e)) ||
	    hip_check(d, hipStreamCreateWithFlags(&h->stream, hipStreamNonBlocking), "hipStreamCreateWithFlags", e) ==
		    -1)
		goto fail;
	if (hip_objects_probe(h->objects, d, e) == -1) {
		e->code = ERR_DEVICE_UNAVAILABLE; /* trying again would change nothing */
		goto fail;
	}
	for (int i = 0; i < DEVICE_MARKS; i++)
		if (hip_check(d, hipEventCreate(&h->marks[i]), "hipEventCreate", e) == -1)
			goto fail;
	pool_open(h, ordinal);
	h->aiter = hip_aiter_new(d->aiter_dir, ordinal, h->arch, h->facts.compute_units);
	h->facts.aiter = h->aiter ? &h->aiter->table : NULL;
	return 0;
fail:
	hip_close(d);
	return -1;
}

static void
hip_info(struct device *d, struct device_info *info)
{
	const struct hip *h = d->priv;
	int version = 0;

	memcpy(info->name, h->name, sizeof(info->name));
	memcpy(info->arch, h->arch, sizeof(info->arch));
	info->compute_units = (uint32_t)h->facts.compute_units;
	info->clock_mhz = h->mhz;
	if (h->aiter)
		snprintf(info->aiter, sizeof(info->aiter), "%s", h->aiter->summary);
	if (hipRuntimeGetVersion(&version) == hipSuccess)
		snprintf(info->runtime, sizeof(info->runtime), HIP_VERSION_FORMAT, HIP_VERSION_PARTS(version));
#ifdef DEVICE_EMULATED
	snprintf(info->driver, sizeof(info->driver), "emulator (%.16s)", emu_isa_name());
	info->timing_meaningless = 1;
#else
	FILE *f = fopen(HIP_DRIVER_FILE, "re");
	char driver[32];

	if (f && fgets(driver, sizeof(driver), f))
		snprintf(info->driver, sizeof(info->driver), HIP_DRIVER " %.*s", (int)strcspn(driver, "\n"), driver);
	else if (hipDriverGetVersion(&version) == hipSuccess)
		snprintf(info->driver, sizeof(info->driver), HIP_VERSION_FORMAT, HIP_VERSION_PARTS(version));
	if (f)
		fclose(f);
#endif
}

static uint64_t
hip_cache(struct device *d)
{
	const struct hip *h = d->priv;

	return h->cache;
}

static hipError_t
alloc_once(struct hip *h, void **p, size_t bytes)
{
	return h->has_pool ? hipMallocAsync(p, bytes, h->stream) : hipMalloc(p, bytes);
}

static void *
hip_alloc(struct device *d, size_t bytes, struct err *e)
{
	struct hip *h = d->priv;
	void *p = NULL;
	hipError_t rc = alloc_once(h, &p, bytes ? bytes : 1);

	/* The pool may hold enough that is free, but in pieces, or freed by work that is still under way. */
	if (rc == hipErrorOutOfMemory && h->has_pool && hipStreamSynchronize(h->stream) == hipSuccess &&
	    hipMemPoolTrimTo(h->pool, 0) == hipSuccess)
		rc = alloc_once(h, &p, bytes ? bytes : 1);
	if (rc == hipErrorOutOfMemory)
		h->memory_asked_ns = 0; /* the error tells what is free now */
	return hip_check(d, rc, "allocating device memory", e) == -1 ? NULL : p;
}

static void
hip_free(struct device *d, void *p, size_t bytes)
{
	struct hip *h = d->priv;

	(void)bytes;
	hip_note(d, h->has_pool ? hipFreeAsync(p, h->stream) : hipFree(p), "freeing device memory");
}

/* From and to registered memory these return at once; with other memory the runtime goes through its own buffers. */
static int
hip_upload(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	struct hip *h = d->priv;

	return hip_check(d, hipMemcpyAsync(to, from, bytes, hipMemcpyHostToDevice, h->stream), "copying to the device",
			 e);
}

static int
hip_download(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	struct hip *h = d->priv;

	return hip_check(d, hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToHost, h->stream),
			 "copying from the device", e);
}

static int
hip_copy(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
	struct hip *h = d->priv;

	return hip_check(d, hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToDevice, h->stream),
			 "copying within the device", e);
}

static int
hip_fill(struct device *d, void *p, int byte, size_t bytes, struct err *e)
{
	struct hip *h = d->priv;

	return hip_check(d, hipMemsetAsync(p, byte, bytes, h->stream), "filling device memory", e);
}

static size_t
hip_settle(struct device *d)
{
	struct hip *h = d->priv;

	if (h->queued >= QUEUED_MAX) {
		hip_note(d, hipStreamSynchronize(h->stream), "waiting for the device");
		h->queued = 0;
	}
	return 0; /* workspace comes from dev_scratch, which counts it */
}

static int
hip_sync(struct device *d, struct err *e)
{
	struct hip *h = d->priv;

	h->queued = 0;
	return hip_check(d, hipStreamSynchronize(h->stream), "waiting for the device", e);
}

static int
hip_mark(struct device *d, int mark, struct err *e)
{
	struct hip *h = d->priv;

	return hip_check(d, hipEventRecord(h->marks[mark], h->stream), "hipEventRecord", e);
}

static int
hip_elapsed(struct device *d, int from, int to, double *ms, struct err *e)
{
	struct hip *h = d->priv;
	float measured = 0;

	if (hip_check(d, hipEventSynchronize(h->marks[to]), "waiting for the device", e) == -1 ||
	    hip_check(d, hipEventElapsedTime(&measured, h->marks[from], h->marks[to]), "hipEventElapsedTime", e) == -1)
		return -1;
	h->queued = 0;
	*ms = (double)measured;
	return 0;
}

static void
hip_host_pin(struct device *d, void *p, size_t bytes)
{
	(void)d;
	if (hipHostRegister(p, bytes, hipHostRegisterDefault) != hipSuccess)
		(void)hipGetLastError();
}

static void
hip_host_unpin(struct device *d, void *p, size_t bytes)
{
	(void)d;
	(void)bytes;
	if (hipHostUnregister(p) != hipSuccess)
		(void)hipGetLastError();
}

/* NULL where pinning failed. */
static void *
hip_reach(struct device *d, void *p)
{
	void *at = NULL;

	(void)d;
	if (hipHostGetDevicePointer(&at, p, 0) == hipSuccess)
		return at;
	(void)hipGetLastError();
	return NULL;
}

static bool
hip_pool_stats(struct device *d, bool reset, uint64_t *used, uint64_t *high)
{
	struct hip *h = d->priv;
	uint64_t zero = 0;

	/* What was freed counts until the stream has come to it. */
	if (!h->has_pool || (reset && hipStreamSynchronize(h->stream) != hipSuccess) ||
	    (reset && hipMemPoolSetAttribute(h->pool, hipMemPoolAttrUsedMemHigh, &zero) != hipSuccess) ||
	    hipMemPoolGetAttribute(h->pool, hipMemPoolAttrUsedMemCurrent, used) != hipSuccess ||
	    hipMemPoolGetAttribute(h->pool, hipMemPoolAttrUsedMemHigh, high) != hipSuccess) {
		(void)hipGetLastError();
		return false;
	}
	return true;
}

/* What the pool keeps for later is as good as free. */
static void
hip_mem_info(struct device *d, uint64_t *available, uint64_t *total)
{
	struct hip *h = d->priv;
	uint64_t now = clock_ns(), used = 0, reserved = 0;
	size_t device_free = 0, device_total = 0;

	if (h->memory_asked_ns == 0 || now - h->memory_asked_ns > MEMORY_ASKED_NS) {
		if (hipMemGetInfo(&device_free, &device_total) == hipSuccess) {
			h->memory_free = device_free;
			h->memory_total = device_total;
		}
		if (h->has_pool && hipMemPoolGetAttribute(h->pool, hipMemPoolAttrUsedMemCurrent, &used) == hipSuccess &&
		    hipMemPoolGetAttribute(h->pool, hipMemPoolAttrReservedMemCurrent, &reserved) == hipSuccess &&
		    reserved > used)
			h->memory_free += reserved - used;
		h->memory_asked_ns = now;
	}
	*available = h->memory_free;
	*total = h->memory_total;
}

#ifndef DEVICE_EMULATED
static int
hip_flush(struct device *d, struct err *e)
{
	struct hip *h = d->priv;

	/* Not from the pool and not counted: it is no request's. */
	if (!h->flush) {
		if (h->has_pool && hipStreamSynchronize(h->stream) == hipSuccess)
			(void)hipMemPoolTrimTo(h->pool, 0);
		if (hip_check(d, hipMalloc(&h->flush, FLUSH_BYTES), "allocating memory to clear the caches with", e) ==
		    -1)
			return -1;
	}
	return hip_check(d, hipMemsetAsync(h->flush, 0, FLUSH_BYTES, h->stream), "clearing the caches", e);
}
#endif

const struct device_ops device_backend = {
	.kind = HIP_KIND,
	.open = hip_open,
	.close = hip_close,
	.info = hip_info,
	.impls = hip_impls,
	.alloc = hip_alloc,
	.free = hip_free,
	.upload = hip_upload,
	.download = hip_download,
	.plan = hip_plan,
	.unplan = hip_unplan,
	.run = hip_run,
	.settle = hip_settle,
	.sync = hip_sync,
	.mark = hip_mark,
	.elapsed = hip_elapsed,
	.host_pin = hip_host_pin,
	.host_unpin = hip_host_unpin,
	.reach = hip_reach,
	.pool_stats = hip_pool_stats,
	.mem_info = hip_mem_info,
	.copy = hip_copy,
	.fill = hip_fill,
	.retarget = hip_retarget,
	.cache = hip_cache,
#ifndef DEVICE_EMULATED
	.flush = hip_flush,
#endif
};
