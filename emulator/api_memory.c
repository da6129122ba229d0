/*
 * api_memory.c: allocations. Device memory is host memory of its own mapping, with a page after it that nothing may
 * touch, filled with garbage so that nobody relies on zeros. Each allocation is also an address range for kernels.
 */
#include "emulator/api.h"

#include "emulator/range.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define GARBAGE_MAX ((size_t)64 << 20) /* filling more would take long */

static struct alloc *allocs;
static size_t direct[DEVICES_MAX]; /* bytes of device memory that came from no pool */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
emu_memory_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
emu_memory_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* The allocation that holds p; under the lock. */
static struct alloc *
find(const void *p)
{
	for (struct alloc *a = allocs; a != NULL; a = a->next)
		if ((const u8 *)p >= a->p && (const u8 *)p < a->p + a->n)
			return a;
	return NULL;
}

static int
overlaps(const u8 *p, size_t n)
{
	for (struct alloc *a = allocs; a != NULL; a = a->next)
		if (p < a->p + a->n && a->p < p + n)
			return 1;
	return 0;
}

/* Takes n bytes of the device's memory into account; under the lock. */
static int
charge(int device, size_t n, struct pool *pool)
{
	size_t total = emu_api_device_bytes();

	if (direct[device] + emu_pool_reserved(device) + n > total)
		emu_pool_release(device);
	if (n > total || direct[device] + emu_pool_reserved(device) > total - n)
		return -1;
	if (pool != NULL)
		emu_pool_add(pool, n);
	else
		direct[device] += n;
	return 0;
}

static void
discharge(const struct alloc *a)
{
	if (a->kind != ALLOC_DEVICE)
		return;
	if (a->pool != NULL)
		emu_pool_remove(a->pool, a->n);
	else
		direct[a->device] -= a->n;
}

static void
add(struct alloc *a)
{
	static const char *const what[] = {
		[ALLOC_DEVICE] = "device memory",
		[ALLOC_PINNED] = "host memory",
		[ALLOC_REGISTERED] = "registered host memory",
		[ALLOC_MANAGED] = "managed memory",
	};

	emu_range_add(a->p, a->n, what[a->kind]);
	emu_memory_lock();
	a->next = allocs;
	allocs = a;
	emu_memory_unlock();
}

hipError_t
emu_memory_new(void **out, size_t n, enum alloc_kind kind, unsigned flags, struct pool *pool)
{
	int device = pool != NULL ? emu_pool_device(pool) : emu_api_device();
	size_t mapped;
	struct alloc *a;
	void *p;

	REQUIRE(out != NULL);
	*out = NULL;
	if (n == 0)
		return hipSuccess;
	if (n > SIZE_MAX / 2)
		return emu_api_error(hipErrorOutOfMemory);
	a = calloc(1, sizeof *a);
	if (a == NULL)
		return emu_api_error(hipErrorOutOfMemory);
	*a = (struct alloc){.n = n, .device = device, .kind = kind, .flags = flags, .pool = pool};
	if (kind == ALLOC_DEVICE) {
		int r;

		emu_memory_lock();
		r = charge(device, n, pool);
		emu_memory_unlock();
		if (r != 0) {
			free(a);
			return emu_api_error(hipErrorOutOfMemory);
		}
	}
	mapped = ((n + PAGE - 1) & ~(PAGE - 1)) + PAGE;
	p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		emu_memory_lock();
		discharge(a);
		emu_memory_unlock();
		free(a);
		return emu_api_error(hipErrorOutOfMemory);
	}
	a->p = p;
	a->mapped = mapped;
	mprotect(a->p + mapped - PAGE, PAGE, PROT_NONE);
	if (n <= GARBAGE_MAX)
		memset(a->p, 0xcb, n);
	add(a);
	*out = a->p;
	return hipSuccess;
}

/* Takes p's allocation off the list if its kind is one of those in the mask, and gives its memory back. */
static int
forget(void *p, unsigned kinds)
{
	struct alloc **at = &allocs, *a;

	emu_memory_lock();
	while (*at != NULL && (*at)->p != (u8 *)p)
		at = &(*at)->next;
	a = *at;
	if (a == NULL || !(kinds >> a->kind & 1)) {
		emu_memory_unlock();
		return -1;
	}
	*at = a->next;
	discharge(a);
	emu_memory_unlock();
	emu_range_remove(p);
	if (a->mapped != 0)
		munmap(p, a->mapped);
	free(a);
	return 0;
}

hipError_t
emu_memory_free(void *p)
{
	if (p == NULL)
		return hipSuccess;
	REQUIRE(forget(p, 1u << ALLOC_DEVICE | 1u << ALLOC_MANAGED) == 0);
	return hipSuccess;
}

int
emu_memory_is_known(const void *p, size_t n)
{
	const void *base;
	size_t size;

	size = emu_range_find(p, &base);
	return size != 0 && n <= size - (size_t)((const u8 *)p - (const u8 *)base);
}

int
emu_memory_is_host(const void *p)
{
	const struct alloc *a;
	int r;

	emu_memory_lock();
	a = find(p);
	r = a != NULL && a->kind != ALLOC_DEVICE;
	emu_memory_unlock();
	return r;
}

hipError_t
hipMalloc(void **p, size_t n)
{
	return emu_memory_new(p, n, ALLOC_DEVICE, 0, NULL);
}

hipError_t
hipExtMallocWithFlags(void **p, size_t n, unsigned flags)
{
	return emu_memory_new(p, n, ALLOC_DEVICE, flags, NULL);
}

hipError_t
hipMallocManaged(void **p, size_t n, unsigned flags)
{
	return emu_memory_new(p, n, ALLOC_MANAGED, flags, NULL);
}

hipError_t
hipFree(void *p)
{
	emu_stream_drain_all();
	return emu_memory_free(p);
}

hipError_t
hipHostMalloc(void **p, size_t n, unsigned flags)
{
	return emu_memory_new(p, n, ALLOC_PINNED, flags, NULL);
}

hipError_t
hipHostAlloc(void **p, size_t n, unsigned flags)
{
	return hipHostMalloc(p, n, flags);
}

hipError_t
hipMallocHost(void **p, size_t n)
{
	return hipHostMalloc(p, n, hipHostMallocDefault);
}

hipError_t
hipHostFree(void *p)
{
	emu_stream_drain_all();
	if (p == NULL)
		return hipSuccess;
	REQUIRE(forget(p, 1u << ALLOC_PINNED) == 0);
	return hipSuccess;
}

hipError_t
hipFreeHost(void *p)
{
	return hipHostFree(p);
}

hipError_t
hipHostRegister(void *p, size_t n, unsigned flags)
{
	struct alloc *a;
	int taken;

	REQUIRE(p != NULL && n != 0 && n <= SIZE_MAX - (size_t)p);
	emu_memory_lock();
	taken = overlaps(p, n);
	emu_memory_unlock();
	if (taken)
		return emu_api_error(hipErrorHostMemoryAlreadyRegistered);
	a = calloc(1, sizeof *a);
	if (a == NULL)
		return emu_api_error(hipErrorOutOfMemory);
	*a = (struct alloc){.p = p, .n = n, .device = emu_api_device(), .kind = ALLOC_REGISTERED, .flags = flags};
	add(a);
	return hipSuccess;
}

hipError_t
hipHostUnregister(void *p)
{
	emu_stream_drain_all();
	if (p == NULL || forget(p, 1u << ALLOC_REGISTERED) != 0)
		return emu_api_error(hipErrorHostMemoryNotRegistered);
	return hipSuccess;
}

hipError_t
hipHostGetDevicePointer(void **device, void *host, unsigned flags)
{
	(void)flags;
	REQUIRE(device != NULL && emu_memory_is_host(host));
	*device = host;
	return hipSuccess;
}

hipError_t
hipHostGetFlags(unsigned *flags, void *p)
{
	const struct alloc *a;
	hipError_t r = hipErrorInvalidValue;

	REQUIRE(flags != NULL);
	emu_memory_lock();
	a = find(p);
	if (a != NULL && a->kind != ALLOC_DEVICE) {
		*flags = a->flags;
		r = hipSuccess;
	}
	emu_memory_unlock();
	return emu_api_error(r);
}

hipError_t
hipMemGetInfo(size_t *available, size_t *total)
{
	int device = emu_api_device();
	size_t used, all = emu_api_device_bytes();

	emu_memory_lock();
	used = direct[device] + emu_pool_reserved(device);
	emu_memory_unlock();
	if (available != NULL)
		*available = all > used ? all - used : 0;
	if (total != NULL)
		*total = all;
	return hipSuccess;
}

hipError_t
hipMemGetAddressRange(hipDeviceptr_t *base, size_t *n, hipDeviceptr_t p)
{
	const struct alloc *a;

	emu_memory_lock();
	a = find(p);
	if (a != NULL && base != NULL)
		*base = a->p;
	if (a != NULL && n != NULL)
		*n = a->n;
	emu_memory_unlock();
	return emu_api_error(a != NULL ? hipSuccess : hipErrorNotFound);
}

hipError_t
hipPointerGetAttributes(hipPointerAttribute_t *at, const void *p)
{
	const struct alloc *a;

	REQUIRE(at != NULL);
	memset(at, 0, sizeof *at);
	emu_memory_lock();
	a = find(p);
	if (a != NULL) {
		at->memoryType = a->kind == ALLOC_DEVICE ? hipMemoryTypeDevice : hipMemoryTypeHost;
		at->device = a->device;
		at->devicePointer = (void *)(uintptr_t)p;
		at->hostPointer = a->kind != ALLOC_DEVICE ? (void *)(uintptr_t)p : NULL;
		at->isManaged = a->kind == ALLOC_MANAGED;
		at->allocationFlags = a->flags;
	}
	emu_memory_unlock();
	return emu_api_error(a != NULL ? hipSuccess : hipErrorInvalidValue);
}
