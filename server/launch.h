/*
 * launch.h: what to run on a GPU, as data. A planner (ops/gpu_*.c) fills it from a problem and facts about the device, as a
 * pure function; the device's worker executes it in order; tests compare it byte for byte. Nobody owns anything.
 */
#ifndef AITERD_LAUNCH_H
#define AITERD_LAUNCH_H

#include <stddef.h>
#include <stdint.h>

#define LAUNCH_ARG_MAX 1024
#define LAUNCH_MAX 8
#define LAUNCH_SYMBOL_MAX 64
#define LAUNCH_MAPS_MAX 3
#define LAUNCH_MAP_BYTES 128

/*
 * A tensor of 16-bit elements as NVIDIA's copy engine wants it described: LAUNCH_MAP_BYTES of the driver's making, put into
 * the arguments before the launch. Boxes land in shared memory in rows of 128 bytes, swizzled by 128 bytes; outside are zeros.
 */
struct launch_map {
	const void *data;	    /* the device's */
	uint32_t at;		    /* in the arguments, a multiple of 64 */
	uint32_t box[4];	    /* elements copied at a time */
	uint64_t dim[4], stride[3]; /* elements; bytes, of dim[1] and so on: dim[0] is dense */
};

struct launch {
	const char *object; /* code object file in the architecture's folder; a literal */
	const void *image;  /* AITER's: the object's bytes, which outlive the plan; NULL: ours, see object */
	char symbol[LAUNCH_SYMBOL_MAX]; /* kernel in it */
	uint32_t grid[3], block[3];	/* in workgroups; in threads */
	uint32_t lds;			/* dynamic; what a kernel declares itself is not counted here */
	uint32_t arg_len;
	uint8_t arg[LAUNCH_ARG_MAX];
	uint32_t map_count;
	struct launch_map map[LAUNCH_MAPS_MAX];
};

struct launch_plan {
	int count; /* 0: nothing to do */
	int named; /* the launch whose symbol names the whole to people: not the preparations */
	struct launch launch[LAUNCH_MAX];
	size_t workspace; /* bytes, aligned to 256; its address was one of the planner's inputs */
};

struct aiter_table;

/* Whose kernels a device runs: planners of another family name other objects, symbols and geometries. */
enum launch_family {
	LAUNCH_CDNA, /* AMD: gfx942, gfx950; waves of 64 */
	LAUNCH_SM90, /* NVIDIA Hopper; warps of 32 */
};

/* What planners want to know about a device. */
struct launch_device {
	int compute_units;
	const struct aiter_table *aiter; /* AITER's kernels for it; NULL: there is no talk of any */
	enum launch_family family;
};

#endif
