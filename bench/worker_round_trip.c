/*
 * worker_round_trip.c: how fast jobs go from a loop through the cpu worker and back: small rmsnorm jobs through one
 * link, with 1 and with 8 in flight. Usage: worker_round_trip [DIR-OF-aiterd-worker-cpu [SECONDS]]
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/link.h"
#include "front/supervisor.h"
#include "log.h"

#define DEPTH_MAX 64

struct slot {
	struct link_job job;
	uint64_t begun;
};

static struct link *line;
static struct supervisor *sup;
static bool running;
static unsigned long done_jobs;
static double *times;
static size_t n_times, max_times = 4000000;

static void
up(void *cls, int loop, unsigned device, uint32_t generation, int sock, const struct worker_status *st)
{
	(void)cls;
	(void)loop;
	(void)device;
	link_up(line, generation, sock, st);
}

static void
gone(void *cls, int loop, unsigned device, uint32_t generation, uint64_t running_loop, uint64_t running_id,
     const struct err *why)
{
	(void)cls;
	(void)loop;
	(void)device;
	(void)generation;
	(void)running_loop;
	(void)running_id;
	fatal("the worker is gone: %s", why->msg);
}

static void
on_kill(void *cls, unsigned device, uint32_t generation, const struct err *why)
{
	(void)cls;
	supervisor_kill(sup, device, generation, why);
}

static void
on_done(struct link_job *job, const struct msg_done *done)
{
	struct slot *s = job->cls;

	if (done->err.code != ERR_NONE)
		fatal("a job failed: %s", done->err.msg);
	if (n_times < max_times)
		times[n_times++] = (double)(clock_ns() - s->begun) / 1e3;
	done_jobs++;
	if (running) {
		s->begun = clock_ns();
		link_submit(line, job);
		link_flush(line);
	}
}

static void
prepare(struct slot *s, struct mem *m)
{
	struct op_call *c = &s->job.msg.call;
	int64_t shape[2] = {1, 256};
	const struct op *op = op_find("rmsnorm", 7, &c->op);
	struct err e = {0};

	if (!op || op_params_finish(op, c, &e) == -1)
		fatal("no rmsnorm: %s", e.msg);
	for (int out = 0; out < 2; out++) {
		if (out && op_bind(op, c, &e) == -1)
			fatal("%s", e.msg);
		for (int i = 0; op->tensors[i].name; i++) {
			struct tensor *t = &c->tensors[i];
			bool row = strcmp(op->tensors[i].name, "weight") == 0;

			if ((op->tensors[i].role == OP_OUT) != out || op->tensors[i].optional)
				continue;
			if (!out && tensor_describe(t, op->tensors[i].name, DT_FP32, row ? 1 : 2,
						    row ? &shape[1] : shape, &e) == -1)
				fatal("%s", e.msg);
			if (mem_tensor(m, t, &e) == -1)
				fatal("%s", e.msg);
			for (int64_t k = 0; k < tensor_elements(t); k++)
				((float *)t->data)[k] = (float)k;
		}
	}
	s->job.msg.iters = 1;
	s->job.done = on_done;
	s->job.cls = s;
}

static int
compare(const void *a, const void *b)
{
	double x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
	static const int depths[] = {1, 8, 32};
	static struct slot slots[DEPTH_MAX];
	struct supervisor_config c = {
		.loops = 1, .cpu_threads = 1, .worker_dir = argc > 1 ? argv[1] : NULL, .events = {NULL, up, gone}};
	double seconds = argc > 2 ? atof(argv[2]) : 2;
	struct err e = {0};
	struct arena_pool *pool = arena_pool_new((uint64_t)64 << 20, 0, &e);
	struct link_config lc = {.pool = pool, .kill = on_kill};
	struct mem m;

	if (!pool)
		fatal("%s", e.msg);
	c.pool = pool;
	line = link_new(&lc);
	times = xcalloc(max_times, sizeof(*times));
	mem_init(&m, pool, 0);
	for (int i = 0; i < DEPTH_MAX; i++)
		prepare(&slots[i], &m);
	sup = supervisor_new(&c, &e);
	if (!sup)
		fatal("%s", e.msg);
	while (link_fd(line) == -1)
		supervisor_run(sup, 10);
	for (unsigned d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
		uint64_t begin = clock_ns(), until = begin + (uint64_t)(seconds * 1e9);

		running = true;
		done_jobs = 0;
		n_times = 0;
		for (int i = 0; i < depths[d]; i++) {
			slots[i].begun = begin;
			link_submit(line, &slots[i].job);
			link_flush(line);
		}
		while (running || link_queued(line) > 0) {
			struct pollfd p = {.fd = link_fd(line), .events = POLLIN};
			bool bell = link_sleep(line) && poll(&p, 1, 1000) == 1;

			link_awake(line);
			link_event(line, bell);
			running = clock_ns() < until;
		}
		qsort(times, n_times, sizeof(*times), compare);
		printf("depth %2d: %8.0f jobs/s, round trip median %6.1f us, p99 %6.1f us\n", depths[d],
		       (double)done_jobs * 1e9 / (double)(clock_ns() - begin), times[n_times / 2],
		       times[n_times * 99 / 100]);
	}
	link_free(&line);
	supervisor_free(&sup);
	mem_fini(&m);
	arena_pool_free(&pool);
	free(times);
	return 0;
}
