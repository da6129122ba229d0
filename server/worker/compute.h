/*
 * compute.h: what an operator's implementation gets in a worker: threads, counted scratch memory,
 * and a place to say which variant ran. One per worker; used from its main thread only.
 */
#ifndef AITERD_COMPUTE_H
#define AITERD_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct compute;

/* threads 0: all cores this process may use. NULL when out of memory. */
struct compute *compute_new(int threads);
void compute_free(struct compute **c);

int compute_threads(const struct compute *c);

/*
 * Run fn(arg, item, thread) for item 0..items-1, each once, spread over the threads by dynamic
 * self-scheduling; thread is 0..compute_threads()-1. Returns when all are done. items <= 1 or one
 * thread run in place without waking anybody.
 */
typedef void (*compute_item_f)(void *arg, int64_t item, int thread);
void compute_for(struct compute *c, int64_t items, compute_item_f fn, void *arg);

/*
 * Ask `stop` now and then, in the main thread, while it works through items; once it says true, what is left of them is left
 * out, of later compute_for's too, until the next compute_job_begin: the results are worth nothing then. NULL: never asked.
 */
void compute_watch(struct compute *c, bool (*stop)(void *cls), void *cls);
bool compute_stopped(const struct compute *c);

/* 64-byte aligned scratch, counted as this job's workspace; valid until compute_run_end or
 * compute_job_end. NULL + err when
 * out of memory. Not cleared. */
void *compute_alloc(struct compute *c, size_t bytes, struct err *e);

/* Say which variant ran ("avx512", "avx2", "scalar", "openblas"); a literal. */
void compute_variant(struct compute *c, const char *variant);

/* Around a run. Both ends tell the run's high-water mark of scratch bytes; run_end keeps the memory for the same job's
 * next run, which then has no page faults to pay for, job_end frees all but a little of it. */
void compute_job_begin(struct compute *c);
size_t compute_run_end(struct compute *c);
size_t compute_job_end(struct compute *c);
const char *compute_variant_get(const struct compute *c);

/* Best instruction set both compiled in and present: "avx512", "avx2" or "scalar".
 * AITERD_CPU_ISA in the environment lowers it (tests use that to reach every variant). */
enum cpu_isa { CPU_SCALAR, CPU_AVX2, CPU_AVX512 };
enum cpu_isa cpu_isa(void);

#endif
