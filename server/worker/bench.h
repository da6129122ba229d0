/*
 * bench.h: a job that is timed with care. Beside what run.h does for any job:
 *
 *   - one untimed run first, whose outputs are what the timed runs' are compared with afterwards (validated);
 *   - cold: runs take copies of inputs and outputs in turn, together twice the last-level cache (rotation.h);
 *     warm: the same tensors each time, after at least one run of the same kind;
 *   - a baseline takes turns with the kernel, run by run, in the same mode, so that what disturbs one disturbs the other;
 *   - every run's time on request (msg_job.samples).
 *
 * A worker's main thread only.
 */
#ifndef AITERD_BENCH_H
#define AITERD_BENCH_H

#include "worker/run.h"

/* In the place of run_execute, run_collect and run_baseline; run_prepare before it, run_release after it. */
int bench_execute(struct run *r, struct err *e);

#endif
