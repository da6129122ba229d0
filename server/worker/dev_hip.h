/*
 * dev_hip.h: what the files of the HIP device share: dev_hip.c (the device), hip_plan.c (calls as launches), hip_objects.c
 * (code objects), hip_aiter.c (AITER's). A worker's main thread only.
 */
#ifndef AITERD_DEV_HIP_H
#define AITERD_DEV_HIP_H

#include "launch.h"
#include "worker/device.h"
#include "worker/hip_api.h"

struct aiter_files;
struct hip_objects;

struct hip {
	hipStream_t stream;
	hipEvent_t marks[DEVICE_MARKS];
	bool has_pool;
	hipMemPool_t pool;
	struct hip_objects *objects;
	struct aiter_files *aiter; /* NULL: none */
	struct launch_device facts;
	uint64_t cache;
	char name[96], arch[32];
	uint32_t mhz;
	int queued; /* runs since the host last waited */
	void *flush;
	uint64_t memory_total, memory_free, memory_asked_ns;
};

/*
 * 0, or -1 and an error that says what was being done. Out of memory and an invalid argument leave the device usable;
 * after anything else d->lost is set: a HIP context is not repaired.
 */
int hip_check(struct device *d, hipError_t rc, const char *what, struct err *e);

/* Finds the folder of this architecture's code objects. NULL and ERR_DEVICE_UNAVAILABLE when there is none. */
struct hip_objects *hip_objects_new(const char *arch, struct err *e);
void hip_objects_free(struct hip_objects **o);

/* AITER's code objects below dir for this device; NULL when dir is NULL or there is no memory. What is wrong with them is
 * in their table and their summary. */
struct aiter_files *hip_aiter_new(const char *dir, int ordinal, const char *arch, int compute_units);

/* Load one of them, to learn at start whether this device takes them at all. */
int hip_objects_probe(struct hip_objects *o, struct device *d, struct err *e);

/* The kernel that a launch names; its code object is loaded when first asked for and then kept. */
int hip_objects_kernel(struct hip_objects *o, struct device *d, const struct launch *l, hipFunction_t *f, struct err *e);

/* hip_plan.c: struct device_ops' functions of these names. */
uint32_t hip_impls(struct device *d, const struct op *op);
int hip_plan(struct device *d, struct device_plan *p, struct err *e);
int hip_retarget(struct device *d, struct device_plan *p, struct err *e);
void hip_unplan(struct device *d, struct device_plan *p);
int hip_run(struct device *d, struct device_plan *p, struct err *e);

#endif
