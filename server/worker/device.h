/*
 * device.h: what a worker needs of the thing that computes. A backend is one file that fills `device_backend`
 * (dev_cpu.c, ...); each worker executable is linked with one. Everybody else calls the dev_ functions of device.c,
 * the only place with checks for absent slots, byte counters and peaks. A worker's main thread only.
 *
 * Work is queued in order: upload, run, download and mark may return before they are done; sync waits for all.
 */
#ifndef AITERD_DEVICE_H
#define AITERD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "msg.h"
#include "worker/copies.h"

struct device;

/* Moments of a job: the upload's begin and end, a timed run's, the download's. */
enum { MARK_UP, MARK_UP_END, MARK_RUN, MARK_RUN_END, MARK_DOWN, MARK_DOWN_END, DEVICE_MARKS };

/* How one call will be carried out; made once per job and implementation, run as often as asked. */
struct device_plan {
	const struct op *op;
	const struct op_call *call; /* tensors' data point to device memory; outlives the plan */
	enum impl impl;		    /* as asked, AUTO too */
	bool dry;		    /* only to tell what would run: name and why_not_aiter are all that is wanted */
	char name[MSG_IMPL_MAX];    /* what ran, known after the first run: "cpu:avx512" */
	char why_not_aiter[MSG_WHY_MAX]; /* dry: ""; or why it is not AITER's kernel that would run */
	void *priv;			 /* the backend's */
};

struct device_ops {
	const char *kind; /* "cpu" */
	bool unified;	  /* host memory is device memory: nothing is copied, upload and download are NULL */

	/* ERR_DEVICE_UNAVAILABLE: will never work here, the worker leaves with status 2. */
	int (*open)(struct device *d, int ordinal, int threads, struct err *e);
	void (*close)(struct device *d);
	void (*info)(struct device *d, struct device_info *info); /* all but kind, free memory and impls */
	uint32_t (*impls)(struct device *d, const struct op *op); /* bits 1 << enum impl */
	void *(*alloc)(struct device *d, size_t bytes, struct err *e);
	void (*free)(struct device *d, void *p, size_t bytes);
	int (*upload)(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
	int (*download)(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
	int (*plan)(struct device *d, struct device_plan *p, struct err *e);
	void (*unplan)(struct device *d, struct device_plan *p); /* may be NULL */
	int (*run)(struct device *d, struct device_plan *p, struct err *e);
	/* Between runs, outside of any timing: clean up after the last one, and tell its scratch bytes. */
	size_t (*settle)(struct device *d); /* may be NULL: none */
	int (*sync)(struct device *d, struct err *e);

	/* Note the moment when the queue gets here; milliseconds between two marks, waiting for the second. Both
	 * NULL: the host's clock after a sync. */
	int (*mark)(struct device *d, int mark, struct err *e);
	int (*elapsed)(struct device *d, int from, int to, double *ms, struct err *e);
	/* Register a mapped slab for fast copies. NULL: nothing to do. Failing is no error, only slower. */
	void (*host_pin)(struct device *d, void *p, size_t bytes);
	void (*host_unpin)(struct device *d, void *p, size_t bytes);
	/* The device's address of host memory, where its kernels can work on that in place; else NULL. May be NULL. */
	void *(*reach)(struct device *d, void *p);
	void (*mem_info)(struct device *d, uint64_t *free, uint64_t *total);
	/* What the allocator itself counts, rounding and all: bytes in use, and the most since the last `reset`. False
	 * or NULL: it does not, device.c's counters hold. */
	bool (*pool_stats)(struct device *d, bool reset, uint64_t *used, uint64_t *high);
	/* Within the device's memory; byte: what to fill it with. NULL, both, on a unified device: the host's way. */
	int (*copy)(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
	int (*fill)(struct device *d, void *p, int byte, size_t bytes, struct err *e);
	/* The plan's call has its tensors elsewhere now, aligned as before. NULL: the next run looks there by itself. */
	int (*retarget)(struct device *d, struct device_plan *p, struct err *e);
	uint64_t (*cache)(struct device *d); /* bytes of the last-level cache; 0: unknown */
	/* Push everything of the caller's out of the caches. NULL: not supported. */
	int (*flush)(struct device *d, struct err *e);
};

extern const struct device_ops device_backend;

struct device {
	const struct device_ops *ops;
	void *priv;	       /* the backend's */
	const char *aiter_dir; /* where AITER's code objects are; NULL: not to be used */
	bool lost;	    /* set by a backend after an error that leaves it unusable: the worker reports and exits */
	uint64_t allocated; /* bytes: dev_alloc, and what of the host's memory the jobs at hand use */
	uint64_t peak;	    /* of allocated plus scratch, ever */
	uint64_t window_peak;	 /* since dev_window */
	uint64_t window_scratch; /* largest scratch of one run since dev_window */
	uint64_t marks[DEVICE_MARKS];
	bool (*unwanted)(void *cls); /* the running job's result: a backend may ask in the middle of a run; or NULL */
	void *unwanted_cls;
	struct copies copies; /* of kept tensors; they go when memory is short */
};

/* aiter_dir: see struct device; outlives the device. */
int dev_open(struct device *d, int ordinal, int threads, const char *aiter_dir, struct err *e);
void dev_close(struct device *d);
void dev_info(struct device *d, struct device_info *info); /* for HELLO */
bool dev_has(struct device *d, const struct op *op, enum impl impl);

/* Counted. Zero bytes is fine. Copies of kept tensors make room. NULL + ERR_OUT_OF_MEMORY with bytes needed and free. dev_free
 * takes NULL. */
void *dev_alloc(struct device *d, size_t bytes, struct err *e);
void dev_free(struct device *d, void *p, size_t bytes);
/* The same for a plan's workspace, which is told apart in the statistics. */
void *dev_scratch(struct device *d, size_t bytes, struct err *e);
/* Count host memory used in place (a unified device's tensors). */
void dev_use(struct device *d, uint64_t bytes);
void dev_unuse(struct device *d, uint64_t bytes);

int dev_upload(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
int dev_download(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
int dev_plan(struct device *d, struct device_plan *p, struct err *e);
void dev_unplan(struct device *d, struct device_plan *p);
int dev_run(struct device *d, struct device_plan *p, struct err *e);
void dev_settle(struct device *d);
int dev_sync(struct device *d, struct err *e);
int dev_mark(struct device *d, int mark, struct err *e);
int dev_elapsed(struct device *d, int from, int to, double *ms, struct err *e);
void dev_host_pin(struct device *d, void *p, size_t bytes);
void dev_host_unpin(struct device *d, void *p, size_t bytes);
void *dev_reach(struct device *d, void *p); /* p lies in what was pinned */
void dev_mem_info(struct device *d, uint64_t *free, uint64_t *total);
int dev_copy(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
int dev_fill(struct device *d, void *p, int byte, size_t bytes, struct err *e);
int dev_retarget(struct device *d, struct device_plan *p, struct err *e);
/* AITERD_CACHE_BYTES in the environment changes it: for tests, and for what a device does not tell. */
uint64_t dev_cache_bytes(struct device *d);
int dev_flush(struct device *d, struct err *e);
/* Begin to watch the peak anew (a job begins); bytes in use at the moment. */
uint64_t dev_window(struct device *d);
/* The most that was in use since. */
uint64_t dev_window_peak(struct device *d);

#endif
