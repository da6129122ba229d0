/*
 * api_pool.c: stream-ordered allocation. A pool's memory is "used" from hipMallocAsync until the stream has come to
 * hipFreeAsync, and "reserved" until a synchronisation finds more of it than the release threshold: what was freed in
 * between stays taken from the device, as with the real pools. The bytes themselves are always fresh, so that use
 * after free is seen.
 */
#include "emulator/api.h"

#include <pthread.h>
#include <stdlib.h>

/* Sizes are counted in units of this. */
#define UNIT ((size_t)256)

struct pool {
	int device;
	size_t used, used_high;
	size_t kept, reserved_high; /* reserved is used + kept */
	u64 threshold;
	int reuse[3];
	struct pool *next;
};

static struct pool defaults[DEVICES_MAX], *current[DEVICES_MAX], *created;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init(void)
{
	for (int i = 0; i < DEVICES_MAX; i++) {
		defaults[i].device = i;
		for (int k = 0; k < 3; k++)
			defaults[i].reuse[k] = 1;
		current[i] = &defaults[i];
	}
}

static size_t
units(size_t n)
{
	return (n + UNIT - 1) & ~(UNIT - 1);
}

static void
trim(struct pool *p, u64 keep)
{
	u64 reserved = p->used + p->kept;

	if (reserved > keep)
		p->kept = keep > p->used ? (size_t)(keep - p->used) : 0;
}

/* Calls fn for the pools of a device, of all with -1. */
static void
each(int device, void (*fn)(struct pool *p, void *arg), void *arg)
{
	pthread_once(&once, init);
	for (int i = 0; i < DEVICES_MAX; i++)
		if (device < 0 || i == device)
			fn(&defaults[i], arg);
	for (struct pool *p = created; p != NULL; p = p->next)
		if (device < 0 || p->device == device)
			fn(p, arg);
}

static void
add_reserved(struct pool *p, void *arg)
{
	*(size_t *)arg += p->used + p->kept;
}

size_t
emu_pool_reserved(int device)
{
	size_t n = 0;

	each(device, add_reserved, &n);
	return n;
}

static void
release(struct pool *p, void *arg)
{
	(void)arg;
	p->kept = 0;
}

void
emu_pool_release(int device)
{
	each(device, release, NULL);
}

void
emu_pool_add(struct pool *p, size_t n)
{
	n = units(n);
	p->kept -= n < p->kept ? n : p->kept;
	p->used += n;
	if (p->used > p->used_high)
		p->used_high = p->used;
	if (p->used + p->kept > p->reserved_high)
		p->reserved_high = p->used + p->kept;
}

void
emu_pool_remove(struct pool *p, size_t n)
{
	p->used -= units(n);
	p->kept += units(n);
}

int
emu_pool_device(const struct pool *p)
{
	return p->device;
}

static void
trim_to_threshold(struct pool *p, void *arg)
{
	(void)arg;
	trim(p, p->threshold);
}

void
emu_pool_synchronised(void)
{
	emu_memory_lock();
	each(-1, trim_to_threshold, NULL);
	emu_memory_unlock();
}

hipError_t
hipMallocFromPoolAsync(void **p, size_t n, hipMemPool_t pool, hipStream_t s)
{
	(void)s; /* memory is there before its turn in the stream comes */
	REQUIRE(pool != NULL);
	return emu_memory_new(p, n, ALLOC_DEVICE, 0, (struct pool *)pool);
}

hipError_t
hipMallocAsync(void **p, size_t n, hipStream_t s)
{
	pthread_once(&once, init);
	return hipMallocFromPoolAsync(p, n, (hipMemPool_t)current[emu_api_device()], s);
}

hipError_t
hipFreeAsync(void *p, hipStream_t s)
{
	struct command c = {.kind = COMMAND_FREE, .dst = p};

	if (p == NULL)
		return hipSuccess;
	REQUIRE(emu_memory_is_known(p, 1));
	return emu_stream_submit(s, c);
}

hipError_t
hipDeviceGetDefaultMemPool(hipMemPool_t *pool, int device)
{
	REQUIRE(pool != NULL && device >= 0 && device < emu_api_devices());
	pthread_once(&once, init);
	*pool = (hipMemPool_t)&defaults[device];
	return hipSuccess;
}

hipError_t
hipDeviceGetMemPool(hipMemPool_t *pool, int device)
{
	REQUIRE(pool != NULL && device >= 0 && device < emu_api_devices());
	pthread_once(&once, init);
	*pool = (hipMemPool_t)current[device];
	return hipSuccess;
}

hipError_t
hipDeviceSetMemPool(int device, hipMemPool_t pool)
{
	REQUIRE(pool != NULL && device >= 0 && device < emu_api_devices());
	pthread_once(&once, init);
	REQUIRE(((struct pool *)pool)->device == device);
	current[device] = (struct pool *)pool;
	return hipSuccess;
}

hipError_t
hipMemPoolCreate(hipMemPool_t *pool, const hipMemPoolProps *props)
{
	struct pool *p;

	REQUIRE(pool != NULL && props != NULL && props->allocType == hipMemAllocationTypePinned);
	REQUIRE(props->location.type == hipMemLocationTypeDevice && props->location.id >= 0 &&
		props->location.id < emu_api_devices());
	if (props->handleTypes != hipMemHandleTypeNone)
		return emu_api_error(hipErrorNotSupported);
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return emu_api_error(hipErrorOutOfMemory);
	p->device = props->location.id;
	for (int k = 0; k < 3; k++)
		p->reuse[k] = 1;
	pthread_once(&once, init);
	emu_memory_lock();
	p->next = created;
	created = p;
	emu_memory_unlock();
	*pool = (hipMemPool_t)p;
	return hipSuccess;
}

/* Not while memory of the pool is in use: HIP would keep it until then, which nothing here needs. */
hipError_t
hipMemPoolDestroy(hipMemPool_t pool)
{
	struct pool *p = (struct pool *)pool, **at = &created;

	emu_stream_drain_all();
	emu_memory_lock();
	while (*at != NULL && *at != p)
		at = &(*at)->next;
	if (p == NULL || *at == NULL || p->used != 0) {
		emu_memory_unlock();
		return emu_api_error(hipErrorInvalidValue);
	}
	*at = p->next;
	if (current[p->device] == p)
		current[p->device] = &defaults[p->device];
	emu_memory_unlock();
	free(p);
	return hipSuccess;
}

hipError_t
hipMemPoolGetAttribute(hipMemPool_t pool, hipMemPoolAttr a, void *value)
{
	const struct pool *p = (const struct pool *)pool;
	u64 v = 0;

	REQUIRE(p != NULL && value != NULL);
	emu_memory_lock();
	switch (a) {
	case hipMemPoolReuseFollowEventDependencies:
	case hipMemPoolReuseAllowOpportunistic:
	case hipMemPoolReuseAllowInternalDependencies:
		*(int *)value = p->reuse[a - hipMemPoolReuseFollowEventDependencies];
		emu_memory_unlock();
		return hipSuccess;
	case hipMemPoolAttrReleaseThreshold:
		v = p->threshold;
		break;
	case hipMemPoolAttrReservedMemCurrent:
		v = p->used + p->kept;
		break;
	case hipMemPoolAttrReservedMemHigh:
		v = p->reserved_high;
		break;
	case hipMemPoolAttrUsedMemCurrent:
		v = p->used;
		break;
	case hipMemPoolAttrUsedMemHigh:
		v = p->used_high;
		break;
	default:
		emu_memory_unlock();
		return emu_api_error(hipErrorInvalidValue);
	}
	emu_memory_unlock();
	memcpy(value, &v, sizeof v);
	return hipSuccess;
}

hipError_t
hipMemPoolSetAttribute(hipMemPool_t pool, hipMemPoolAttr a, void *value)
{
	struct pool *p = (struct pool *)pool;
	hipError_t r = hipSuccess;
	u64 v = 0;

	REQUIRE(p != NULL && value != NULL);
	if (a >= hipMemPoolAttrReleaseThreshold)
		memcpy(&v, value, sizeof v);
	emu_memory_lock();
	switch (a) {
	case hipMemPoolReuseFollowEventDependencies:
	case hipMemPoolReuseAllowOpportunistic:
	case hipMemPoolReuseAllowInternalDependencies:
		p->reuse[a - hipMemPoolReuseFollowEventDependencies] = *(const int *)value;
		break;
	case hipMemPoolAttrReleaseThreshold:
		p->threshold = v;
		break;
	/* high-water marks can only be set back, to what is there now */
	case hipMemPoolAttrReservedMemHigh:
		if (v == 0)
			p->reserved_high = p->used + p->kept;
		else
			r = hipErrorInvalidValue;
		break;
	case hipMemPoolAttrUsedMemHigh:
		if (v == 0)
			p->used_high = p->used;
		else
			r = hipErrorInvalidValue;
		break;
	case hipMemPoolAttrReservedMemCurrent:
	case hipMemPoolAttrUsedMemCurrent:
	default:
		r = hipErrorInvalidValue;
		break;
	}
	emu_memory_unlock();
	return emu_api_error(r);
}

hipError_t
hipMemPoolTrimTo(hipMemPool_t pool, size_t keep)
{
	REQUIRE(pool != NULL);
	emu_memory_lock();
	trim((struct pool *)pool, keep);
	emu_memory_unlock();
	return hipSuccess;
}
