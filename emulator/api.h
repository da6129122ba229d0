/*
 * api.h: what the api_*.c files share: errors, the list of allocations, and commands of streams.
 */
#ifndef EMU_API_H
#define EMU_API_H

#include "emulator/hip_api.h"
#include "emulator/launch.h"
#include "emulator/types.h"

#define DEVICES_MAX 64

/* api_error.c: remembers the error for hipGetLastError and returns it. */
hipError_t emu_api_error(hipError_t e);
/* A kernel fault: from now on everything that synchronises fails with it. */
void emu_api_set_sticky(hipError_t e);
hipError_t emu_api_sticky(void);

#define REQUIRE(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return emu_api_error(hipErrorInvalidValue);                                                    \
	} while (0)

/* api_device.c: the calling thread's device; how many there are; the memory of each. */
int emu_api_device(void);
int emu_api_devices(void);
size_t emu_api_device_bytes(void);

/* api_memory.c */
enum alloc_kind { ALLOC_DEVICE, ALLOC_PINNED, ALLOC_REGISTERED, ALLOC_MANAGED };
struct pool;

struct alloc {
	u8 *p;
	size_t n, mapped; /* mapped: to give back to the system, 0 if it is not ours */
	int device;
	enum alloc_kind kind;
	unsigned flags;
	struct pool *pool; /* NULL: not from one */
	struct alloc *next;
};

hipError_t emu_memory_new(void **out, size_t n, enum alloc_kind kind, unsigned flags, struct pool *pool);
/* Frees device or managed memory, from a pool or not; the caller has synchronised if that is wanted. */
hipError_t emu_memory_free(void *p);
/* Whether n bytes at p are in memory that the device may touch. */
int emu_memory_is_known(const void *p, size_t n);
/* Whether p is in pinned or registered host memory. */
int emu_memory_is_host(const void *p);

/* api_pool.c; called with the allocations' lock held. */
size_t emu_pool_reserved(int device);
void emu_pool_release(int device); /* gives back what is reserved but not used */
void emu_pool_add(struct pool *pool, size_t n);
void emu_pool_remove(struct pool *pool, size_t n);
int emu_pool_device(const struct pool *pool);
/* Something synchronised: pools give back what is above their thresholds. Takes the lock. */
void emu_pool_synchronised(void);

void emu_memory_lock(void);
void emu_memory_unlock(void);

/* api_stream.c: what a stream does, in order. */
struct stream;
struct event;
enum command_kind {
	COMMAND_COPY,
	COMMAND_SET,
	COMMAND_LAUNCH,
	COMMAND_EVENT,
	COMMAND_WAIT,
	COMMAND_FREE,
	COMMAND_HOST
};

struct command {
	enum command_kind kind;
	u64 number; /* over all streams */
	struct command *next;
	u8 *dst;
	const u8 *src;
	size_t n, rows, dst_pitch, src_pitch; /* n: bytes of a row, or elements to set */
	u32 value;
	int width;
	u8 *staged; /* a copy of pageable memory, taken when the command was given */
	struct kernel *kernel;
	struct launch_size size;
	void *kernarg;
	size_t kernarg_size;
	struct event *event;
	hipHostFn_t fn;
	void *arg;
};

hipError_t emu_stream_submit(hipStream_t s, struct command c);
/* All streams, or the one that s stands for. */
hipError_t emu_stream_drain_all(void);
hipError_t emu_stream_drain(hipStream_t s);

#endif
