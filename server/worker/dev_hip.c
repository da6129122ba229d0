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

struct hip {
	hipStream_t stream;
	hipEvent_t marks[DEVICE_MARKS];
	bool has_pool;
	hipMemPool_t pool;
	struct hip_objects *objects;
	struct aiter_files *aiter; /* NULL: none */
	struct launch_device facts;
	char name[96], arch[32];
	uint32_t mhz;
	int queued; /* runs since the host last waited */
	void *flush;
	uint64_t memory_total, memory_free, memory_asked_ns;
};

/* A device_plan's own part. */
struct hip_plan {
	struct launch_plan plan;
	hipFunction_t kernels[LAUNCH_MAX];
	void *workspace;
};

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
	int khz = 0, rc = -1;

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

static gpu_plan_f
planner(const struct op *op, enum impl impl)
{
	const struct gpu_op *g = gpu_op_find(op);

	if (!g)
		return NULL;
	switch (impl) {
	case IMPL_AUTO:
	case IMPL_OWN:
		return g->own;
	case IMPL_NAIVE:
		return g->naive;
	case IMPL_AITER:
		return g->aiter;
	case IMPL_REFERENCE: /* the cpu worker's */
	case IMPL_COUNT:
		break;
	}
	return NULL;
}

static uint32_t
hip_impls(struct device *d, const struct op *op)
{
	const struct hip *h = d->priv;
	uint32_t bits = 0;

	for (unsigned i = 0; i < IMPL_COUNT; i++)
		if (planner(op, (enum impl)i) && (i != IMPL_AITER || (h->aiter && h->aiter->usable > 0)))
			bits |= 1u << i;
	return bits;
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

static void
hip_unplan(struct device *d, struct device_plan *p)
{
	struct hip_plan *hp = p->priv;

	if (!hp)
		return;
	dev_free(d, hp->workspace, hp->plan.workspace);
	free(hp);
	p->priv = NULL;
}

static void
plan_name(struct device_plan *p, const struct launch_plan *plan)
{
	const char *impl = impl_name(p->impl);

	if (plan->count > 0 && p->impl == IMPL_AITER)
		snprintf(p->name, sizeof(p->name), "%s:%s", impl, plan->launch[plan->named].object);
	else if (plan->count > 0)
		snprintf(p->name, sizeof(p->name), "%s:%s", impl, plan->launch[plan->named].symbol);
	else
		snprintf(p->name, sizeof(p->name), "%s", impl);
}

/* auto: AITER's where it has a kernel for this problem, else our own. */
static int
resolve(struct hip *h, struct device_plan *p, struct launch_plan *scratch, struct err *e)
{
	gpu_plan_f aiter = planner(p->op, IMPL_AITER);
	struct err why = {0};
	int rc = -1;

	if (!p->dry && (p->impl != IMPL_AUTO || !h->aiter || !aiter))
		aiter = NULL; /* nobody asks */
	else if (!aiter)
		err_set(&why, ERR_UNAVAILABLE_IMPL, "AITER has no code object for %s", p->op->name);
	if (aiter)
		rc = aiter(p->call, &h->facts, NULL, scratch, &why);
	if (rc == -1 && why.code != ERR_NONE && why.code != ERR_UNAVAILABLE_IMPL) {
		*e = why;
		return -1;
	}
	if (p->impl == IMPL_AUTO)
		p->impl = rc == 0 ? IMPL_AITER : IMPL_OWN;
	if (p->impl != IMPL_AITER)
		snprintf(p->why_not_aiter, sizeof(p->why_not_aiter), "%.300s",
			 rc == 0 ? "another implementation was asked for" : why.msg);
	return 0;
}

static int
hip_plan(struct device *d, struct device_plan *p, struct err *e)
{
	struct hip *h = d->priv;
	struct hip_plan *hp;
	gpu_plan_f plan;
	size_t workspace;

	p->priv = hp = calloc(1, sizeof(*hp));
	if (!hp)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory to plan %s", p->op->name);
	if (resolve(h, p, &hp->plan, e) == -1)
		goto fail;
	plan = planner(p->op, p->impl);
	if (plan(p->call, &h->facts, NULL, &hp->plan, e) == -1)
		goto fail;
	if (p->dry) {
		plan_name(p, &hp->plan);
		hp->plan.workspace = 0; /* there is none to give back */
		return 0;
	}
	workspace = hp->plan.workspace;
	if (workspace > 0) {
		hp->workspace = dev_scratch(d, workspace, e);
		if (!hp->workspace || plan(p->call, &h->facts, hp->workspace, &hp->plan, e) == -1)
			goto fail;
		assert(hp->plan.workspace == workspace);
	}
	for (int i = 0; i < hp->plan.count; i++) {
		struct launch *l = &hp->plan.launch[i];

		if (hip_objects_kernel(h->objects, d, l, &hp->kernels[i], e) == -1 ||
		    hip_check(d, hip_maps_make(l, l->arg), "describing a tensor to the copy engine", e) == -1)
			goto fail;
	}
	plan_name(p, &hp->plan);
	return 0;
fail:
	hip_unplan(d, p);
	return -1;
}

static int
hip_run(struct device *d, struct device_plan *p, struct err *e)
{
	struct hip *h = d->priv;
	struct hip_plan *hp = p->priv;

	h->queued++;
	for (int i = 0; i < hp->plan.count; i++) {
		struct launch *l = &hp->plan.launch[i];
		size_t len = l->arg_len;
		void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, l->arg, HIP_LAUNCH_PARAM_BUFFER_SIZE, &len,
				 HIP_LAUNCH_PARAM_END};

		if (hip_check(d,
			      hipModuleLaunchKernel(hp->kernels[i], l->grid[0], l->grid[1], l->grid[2], l->block[0],
						    l->block[1], l->block[2], l->lds, h->stream, NULL, extra),
			      l->symbol, e) == -1)
			return -1;
	}
	return 0;
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
#ifndef DEVICE_EMULATED
	.flush = hip_flush,
#endif
};
