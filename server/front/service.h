/*
 * service.h: what the whole front shares: options, memory, devices, loops, counters. One per process, made by
 * main.c, read by every loop; what changes is atomic.
 */
#ifndef AITERD_SERVICE_H
#define AITERD_SERVICE_H

#include <stdatomic.h>

#include "arena.h"
#include "front/supervisor.h"
#include "options.h"
#include "text.h"

#define LOOPS_MAX 256
#define ADDRESS_MAX 128

struct helpers;
struct jobs;
struct store;
struct loop;

/* Cumulative per operator, as OIP's statistics extension wants them. Nanoseconds. */
struct op_counters {
	_Atomic uint64_t success, success_ns, fail, fail_ns;
	_Atomic uint64_t queue_ns, input_ns, infer_ns, output_ns;
	_Atomic uint64_t executions, last_ms; /* last_ms: Unix time of the last inference */
};

/* Jobs that ever went to a device, and those that came back: about how many are there. Requests that have chosen it and
 * whose job has not come back, also those whose memory is still being made: by these the least busy one is chosen. */
struct device_counters {
	_Atomic uint64_t submitted, ended;
	_Atomic uint32_t chosen;
};

struct service {
	const struct options *opt;
	struct arena_pool *pool;
	struct supervisor *sup;
	struct helpers *helpers;
	struct jobs *jobs;
	struct store *store; /* kept tensors */
	struct loop *loops[LOOPS_MAX];
	int n_loops;

	uint64_t started_ns;
	char aiter_dir[1024];	   /* AITER's code objects; "": none */
	char address[ADDRESS_MAX]; /* "http://127.0.0.1:8000": the first one served, for examples */

	_Atomic bool draining;
	_Atomic uint32_t connections; /* open, over all loops */
	_Atomic uint32_t requests;    /* compute requests between their head and their reply's, or their job's, end */
	_Atomic uint64_t request_ids;
	struct op_counters ops[MSG_OPS_MAX];
	struct device_counters devices[DEVICES_MAX];
};

/* Ready: not draining, and at least one device's worker is up. */
bool service_ready(struct service *svc);

#endif
