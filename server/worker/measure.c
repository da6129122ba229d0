/*
 * measure.c: the loop that warms up, runs and times. Called by run.c and bench.c.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "worker/measure.h"

#define FEW_SAMPLES 64

static int
compare_doubles(const void *a, const void *b)
{
	double x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

void
measure_statistics(double *samples, uint32_t n, struct sample_stats *s)
{
	double sum = 0, squares = 0;

	if (n > 1)
		qsort(samples, n, sizeof(*samples), compare_doubles);
	for (uint32_t i = 0; i < n; i++)
		sum += samples[i];
	s->iters = n;
	s->min = samples[0];
	s->max = samples[n - 1];
	s->mean = sum / n;
	s->median = n % 2 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2;
	s->p95 = samples[((uint64_t)n * 95 + 99) / 100 - 1]; /* the nearest rank */
	for (uint32_t i = 0; i < n; i++)
		squares += (samples[i] - s->mean) * (samples[i] - s->mean);
	s->stddev = n > 1 ? sqrt(squares / (n - 1)) : 0;
}

/* May it go on? `done` of `total` runs are over. */
static int
go_on(const struct measure *m, uint64_t done, uint64_t total, struct err *e)
{
	const struct msg_job *job = m->job;

	if (done > 0 && job->deadline_ns != 0 && clock_ns() > job->deadline_ns)
		return err_param(e, ERR_DEADLINE_EXCEEDED, "timeout_ms", NULL, NULL,
				 "the time was up after %llu of %llu runs (%u to warm up, %u timed%s)",
				 (unsigned long long)done, (unsigned long long)total, job->warmup, job->iters,
				 m->n > 1 ? ", each with the baseline" : "");
	if (done > 0 && m->watch != NULL && m->watch->cancelled(m->watch->cls))
		return err_set(e, ERR_CLIENT_GONE, "cancelled after %llu of %llu runs", (unsigned long long)done,
			       (unsigned long long)total);
	if (m->watch != NULL && m->watch->progress != NULL)
		m->watch->progress(m->watch->cls, done, total);
	return 0;
}

/* One run of a side; where its time goes: NULL, it is not timed. */
static int
run_once(struct measure *m, int side, bool timed, double *ms, struct err *e)
{
	struct device_plan *plan = m->side[side].plan;
	struct device *d = m->d;

	if (m->rotation != NULL) {
		rotation_turn(m->rotation, m->side[side].call, side);
		if (dev_retarget(d, plan, e) == -1)
			return -1;
	}
	if (timed && m->again && (dev_run(d, plan, e) == -1 || (dev_settle(d), dev_sync(d, e)) == -1))
		return -1;
	if (timed && m->job->flush && dev_flush(d, e) == -1)
		return -1;
	if (timed && dev_mark(d, MARK_RUN, e) == -1)
		return -1;
	if (dev_run(d, plan, e) == -1)
		return -1;
	if (timed && dev_mark(d, MARK_RUN_END, e) == -1)
		return -1;
	if (timed && !m->late && dev_elapsed(d, MARK_RUN, MARK_RUN_END, ms, e) == -1)
		return -1;
	dev_settle(d);
	return 0;
}

static void
summarise(struct measure *m, double *samples)
{
	const struct msg_job *job = m->job;

	for (int k = 0; k < m->n; k++) {
		struct measure_side *s = &m->side[k];
		double *mine = samples + (size_t)k * job->iters;

		if (!m->late) {
			if (s->samples != NULL)
				memcpy(s->samples, mine, job->iters * sizeof(*mine));
			measure_statistics(mine, job->iters, s->stats);
		}
		s->stats->warmup = job->warmup;
		memcpy(s->name, s->plan->name, MSG_IMPL_MAX);
	}
}

int
measure(struct measure *m, struct err *e)
{
	const struct msg_job *job = m->job;
	double few[FEW_SAMPLES], *samples = few;
	size_t n = (size_t)job->iters * (size_t)m->n;
	uint64_t sides = (uint64_t)m->n, rounds = (uint64_t)job->warmup + job->iters;
	int rc = -1;

	if (n > FEW_SAMPLES && !(samples = malloc(n * sizeof(*samples))))
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory to note %zu times in", n);
	for (uint64_t i = 0; i < rounds; i++) {
		bool timed = i >= job->warmup;

		if (i == job->warmup && m->rotation != NULL)
			m->timed_from = m->rotation->turn;
		if (i == job->warmup && m->before_timed != NULL && m->before_timed(m->cls, e) == -1)
			goto out;
		for (int k = 0; k < m->n; k++) {
			size_t at = timed ? (size_t)k * job->iters + (size_t)(i - job->warmup) : 0;

			if (go_on(m, i * sides + (uint64_t)k, rounds * sides, e) == -1 ||
			    run_once(m, k, timed, &samples[at], e) == -1)
				goto out;
		}
	}
	if (!m->late && dev_sync(m->d, e) == -1)
		goto out;
	summarise(m, samples);
	rc = 0;
out:
	if (rc == -1)
		dev_settle(m->d);
	if (samples != few)
		free(samples);
	return rc;
}
