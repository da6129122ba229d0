/*
 * measure.h: running something often and timing it: one implementation, or two in alternation, always on the same tensors
 * or on copies in turn. A worker's main thread only.
 */
#ifndef AITERD_MEASURE_H
#define AITERD_MEASURE_H

#include "msg.h"
#include "worker/device.h"
#include "worker/rotation.h"

/* Asked between two runs of a job: true ends it with ERR_CLIENT_GONE. And told how far it is. */
struct run_watch {
	bool (*cancelled)(void *cls);
	void (*progress)(void *cls, uint64_t runs, uint64_t of); /* NULL: nobody wants to know */
	void *cls;
};

struct measure_side {
	struct device_plan *plan;
	struct op_call *call; /* the plan's; a rotation moves its tensors */
	char *name;	      /* MSG_IMPL_MAX; what ran */
	struct sample_stats *stats;
	double *samples; /* room for all timed runs' milliseconds in their order, or NULL */
};

struct measure {
	struct device *d;
	const struct msg_job *job;
	const struct run_watch *watch; /* NULL: never cancelled */
	struct rotation *rotation;     /* NULL: none */
	bool late;  /* the one timed run is not waited for: its time is what passes between MARK_RUN and MARK_RUN_END */
	bool again; /* each timed run directly follows an untimed one of the same side: its data are in the caches */
	int (*before_timed)(void *cls, struct err *e); /* called once; NULL: nothing to do */
	void *cls;
	int n; /* sides */
	struct measure_side side[2];
	uint64_t timed_from; /* out: the rotation's turn of the first timed run */
};

/*
 * Warm up, then run and time, side by side: the first, the second, the first ... Deadline and cancellation are looked at
 * between any two runs.
 */
int measure(struct measure *m, struct err *e);

/* Statistics of n >= 1 samples in milliseconds, which get sorted. */
void measure_statistics(double *samples, uint32_t n, struct sample_stats *s);

#endif
