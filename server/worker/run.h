/*
 * run.h: one job on the device, in steps: inputs up, warm-up and timed runs, baseline, outputs down.
 *
 * run_job does them all; they stand apart so that a backend with asynchronous copies can prepare the next
 * job while one computes. A bench job (bench.h) is prepared and released alike. A worker's main thread only.
 */
#ifndef AITERD_RUN_H
#define AITERD_RUN_H

#include "msg.h"
#include "worker/device.h"
#include "worker/measure.h"

/* What takes less time than telling of it: inputs and outputs together. */
#define RUN_TINY_BYTES 32768

struct run {
	struct device *d;
	const struct run_watch *watch; /* NULL: never cancelled */
	const struct msg_job *job;     /* tensors' data: this process's mappings */
	struct msg_done *done;
	const struct op *op;
	struct op_call call;	      /* tensors' data: device memory */
	uint64_t in_bytes, out_bytes; /* in_bytes: without what the device had */
	bool counted;		      /* in_bytes and out_bytes are counted as used (unified devices) */
	bool late; /* the one timed run is not waited for before the outputs are on their way: run_collect asks its time */
	bool close;    /* and nothing lies between upload, run and download: their ends and beginnings are one */
	bool in_place; /* so small that the kernel works on the host's memory, which takes less time than copying */
	bool planned;  /* `plan` is to be undone */
	bool good;     /* it all worked: what is to be kept may stay on the device */
	struct device_plan plan;
	void *owned[OP_TENSORS_MAX];
	bool had[OP_TENSORS_MAX]; /* an input that the device had: one of its copies of kept tensors */
	/* The baseline's outputs, on the device and, where that is another place, on the host. */
	struct op_call base;
	void *base_owned[OP_TENSORS_MAX], *base_host[OP_TENSORS_MAX];
};

/* Fill `done` (all but the header) and return 0, or -1 + e. run_release always follows run_prepare. */
int run_prepare(struct run *r, struct device *d, const struct msg_job *job, struct msg_done *done, struct err *e);
int run_execute(struct run *r, struct err *e);
int run_collect(struct run *r, struct err *e);
int run_baseline(struct run *r, struct err *e); /* after run_collect: compares with the host's outputs */
void run_release(struct run *r);

/* All of it; the outcome is in done->err. */
void run_job(struct device *d, const struct msg_job *job, const struct run_watch *watch, struct msg_done *done);

/* The steps' parts that bench.c needs, too: all outputs to the host (not waited for); the largest |a - b|, NaN as soon as one
 * side has a NaN that the other lacks. */
int run_download(struct run *r, struct err *e);
double run_difference(const struct tensor *a, const struct tensor *b);

#endif
