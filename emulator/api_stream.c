/*
 * api_stream.c: streams, events and the commands in them. Commands are executed when they are given, or, with
 * EMUHIP_LAZY, when something synchronises, in an order that HIP allows: that shows missing synchronisation. One lock
 * is held while commands run, so kernels of different streams never overlap.
 */
#include "emulator/api.h"

#include "emulator/range.h"
#include "emulator/settings.h"
#include "emulator/stats.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct event {
	double time;
	int recorded, pending; /* pending: recordings still to be executed */
	struct stream *stream;
	unsigned flags;
};

struct stream {
	struct command *head, *tail;
	unsigned flags;
	int busy; /* being executed: an event's wait may come back to it */
	struct stream *next;
};

static struct stream null_stream, *streams = &null_stream;
static u64 last_number;
static pthread_mutex_t lock; /* recursive: host functions may call HIP */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init(void)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&lock, &a);
	pthread_mutexattr_destroy(&a);
}

static void
enter(void)
{
	pthread_once(&once, init);
	pthread_mutex_lock(&lock);
}

static void
leave(void)
{
	pthread_mutex_unlock(&lock);
}

/* hipStreamLegacy and hipStreamPerThread are the small numbers 1 and 2. */
static struct stream *
from_handle(hipStream_t s)
{
	return (uintptr_t)s <= 2 ? &null_stream : (struct stream *)s;
}

static void run_until(struct stream *s, u64 number);

static void
set_memory(const struct command *c)
{
	if (c->width == 1) {
		for (size_t y = 0; y < c->rows; y++)
			memset(c->dst + y * c->dst_pitch, (int)c->value, c->n);
		return;
	}
	for (size_t i = 0; i < c->n; i++)
		memcpy(c->dst + i * (size_t)c->width, &c->value, (size_t)c->width);
}

static hipError_t
run_kernel(struct command *c)
{
	const u32 *g = c->size.grid, *b = c->size.block;
	struct emu_stats before, after;
	struct emu_fault why;
	struct emu_mix mix;
	double start = emu_stats_now();
	hipError_t r = hipSuccess;

	if (emu_api_sticky() != hipSuccess)
		return emu_api_sticky();
	emu_stats_get(&before);
	emu_range_add(c->kernarg, c->kernarg_size, "kernel arguments");
	emu_launch(c->kernel, &c->size, c->kernarg, &why);
	emu_range_remove(c->kernarg);
	if (emu_settings.log > 0) {
		emu_stats_get(&after);
		fprintf(stderr, "emuhip: %s grid %u,%u,%u block %u,%u,%u lds %u: %.3f ms, %llu instructions\n",
			c->kernel->name, g[0], g[1], g[2], b[0], b[1], b[2], c->size.dynamic_lds,
			(emu_stats_now() - start) * 1e3, (unsigned long long)(after.instructions - before.instructions));
	}
	if (emu_settings.log > 1) {
		emu_stats_last_mix(&mix);
		emu_stats_print_mix(&mix, c->kernel->name);
	}
	if (why.code != 0) {
		fprintf(stderr, "emuhip: kernel fault: %s\n", why.msg);
		if (emu_settings.abort)
			abort();
		r = (hipError_t)why.code;
		if (r != hipErrorInvalidValue)
			emu_api_set_sticky(r);
	}
	return r;
}

static hipError_t
execute(struct command *c)
{
	hipError_t r = hipSuccess;

	switch (c->kind) {
	case COMMAND_COPY:
		for (size_t y = 0; y < c->rows; y++)
			memmove(c->dst + y * c->dst_pitch, (c->staged != NULL ? c->staged : c->src) + y * c->src_pitch,
				c->n);
		free(c->staged);
		break;
	case COMMAND_SET:
		set_memory(c);
		break;
	case COMMAND_LAUNCH:
		r = run_kernel(c);
		free(c->kernarg);
		break;
	case COMMAND_EVENT:
		c->event->time = emu_stats_now();
		c->event->recorded = 1;
		c->event->pending--;
		break;
	case COMMAND_WAIT:
		if (c->event->pending > 0 && c->event->stream != NULL)
			run_until(c->event->stream, c->number);
		break;
	case COMMAND_FREE:
		r = emu_memory_free(c->dst);
		break;
	case COMMAND_HOST:
		c->fn(c->arg);
		break;
	}
	return r;
}

/* Runs s's commands older than number, keeping the null stream's implicit order with blocking streams. */
static void
run_until(struct stream *s, u64 number)
{
	if (s->busy)
		return;
	s->busy = 1;
	while (s->head != NULL && s->head->number < number) {
		struct command *c = s->head;

		if (s == &null_stream) {
			for (struct stream *o = streams; o != NULL; o = o->next)
				if (o != s && !(o->flags & hipStreamNonBlocking))
					run_until(o, c->number);
		} else if (!(s->flags & hipStreamNonBlocking)) {
			run_until(&null_stream, c->number);
		}
		s->head = c->next;
		if (s->head == NULL)
			s->tail = NULL;
		execute(c);
		free(c);
	}
	s->busy = 0;
}

hipError_t
emu_stream_submit(hipStream_t handle, struct command c)
{
	struct stream *s = from_handle(handle);
	struct command *q;
	hipError_t r;

	enter();
	c.number = ++last_number;
	if (c.kind == COMMAND_EVENT) {
		c.event->pending++;
		c.event->stream = s;
	}
	if (!emu_settings.lazy) {
		r = execute(&c);
		leave();
		return emu_api_error(r);
	}
	q = malloc(sizeof *q);
	if (q == NULL)
		abort();
	*q = c;
	q->next = NULL;
	if (s->tail != NULL)
		s->tail->next = q;
	else
		s->head = q;
	s->tail = q;
	leave();
	return hipSuccess;
}

static hipError_t
drain(struct stream *s)
{
	enter();
	if (s != NULL)
		run_until(s, ~(u64)0);
	else
		for (struct stream *o = streams; o != NULL; o = o->next)
			run_until(o, ~(u64)0);
	leave();
	emu_pool_synchronised();
	return emu_api_error(emu_api_sticky());
}

hipError_t
emu_stream_drain_all(void)
{
	return drain(NULL);
}

hipError_t
emu_stream_drain(hipStream_t s)
{
	return drain(from_handle(s));
}

hipError_t
hipStreamCreateWithFlags(hipStream_t *s, unsigned flags)
{
	struct stream *t;

	REQUIRE(s != NULL);
	t = calloc(1, sizeof *t);
	if (t == NULL)
		return emu_api_error(hipErrorOutOfMemory);
	t->flags = flags;
	enter();
	t->next = null_stream.next;
	null_stream.next = t;
	leave();
	*s = (hipStream_t)t;
	return hipSuccess;
}

hipError_t
hipStreamCreate(hipStream_t *s)
{
	return hipStreamCreateWithFlags(s, hipStreamDefault);
}

hipError_t
hipStreamCreateWithPriority(hipStream_t *s, unsigned flags, int priority)
{
	(void)priority;
	return hipStreamCreateWithFlags(s, flags);
}

hipError_t
hipStreamDestroy(hipStream_t s)
{
	struct stream *t = (struct stream *)s;

	REQUIRE((uintptr_t)s > 2);
	drain(t);
	enter();
	for (struct stream *o = streams; o != NULL; o = o->next)
		if (o->next == t) {
			o->next = t->next;
			break;
		}
	leave();
	free(t);
	return hipSuccess;
}

hipError_t
hipStreamSynchronize(hipStream_t s)
{
	return emu_stream_drain(s);
}

/* Asking completes the work: nothing would be done meanwhile otherwise. */
hipError_t
hipStreamQuery(hipStream_t s)
{
	return emu_stream_drain(s);
}

hipError_t
hipStreamGetFlags(hipStream_t s, unsigned *flags)
{
	REQUIRE(flags != NULL);
	*flags = from_handle(s)->flags;
	return hipSuccess;
}

hipError_t
hipStreamGetPriority(hipStream_t s, int *priority)
{
	(void)s;
	REQUIRE(priority != NULL);
	*priority = 0;
	return hipSuccess;
}

hipError_t
hipStreamIsCapturing(hipStream_t s, hipStreamCaptureStatus *status)
{
	(void)s;
	REQUIRE(status != NULL);
	*status = hipStreamCaptureStatusNone;
	return hipSuccess;
}

hipError_t
hipStreamWaitEvent(hipStream_t s, hipEvent_t e, unsigned flags)
{
	struct command c = {.kind = COMMAND_WAIT, .event = (struct event *)e};

	(void)flags;
	REQUIRE(e != NULL);
	return emu_stream_submit(s, c);
}

hipError_t
hipLaunchHostFunc(hipStream_t s, hipHostFn_t fn, void *arg)
{
	struct command c = {.kind = COMMAND_HOST, .fn = fn, .arg = arg};

	REQUIRE(fn != NULL);
	return emu_stream_submit(s, c);
}

hipError_t
hipEventCreateWithFlags(hipEvent_t *e, unsigned flags)
{
	struct event *v;

	REQUIRE(e != NULL);
	v = calloc(1, sizeof *v);
	if (v == NULL)
		return emu_api_error(hipErrorOutOfMemory);
	v->flags = flags;
	*e = (hipEvent_t)v;
	return hipSuccess;
}

hipError_t
hipEventCreate(hipEvent_t *e)
{
	return hipEventCreateWithFlags(e, hipEventDefault);
}

hipError_t
hipEventRecord(hipEvent_t e, hipStream_t s)
{
	struct command c = {.kind = COMMAND_EVENT, .event = (struct event *)e};

	REQUIRE(e != NULL);
	return emu_stream_submit(s, c);
}

hipError_t
hipEventSynchronize(hipEvent_t e)
{
	struct event *v = (struct event *)e;

	REQUIRE(e != NULL);
	if (v->pending > 0)
		return drain(v->stream);
	emu_pool_synchronised();
	return emu_api_error(emu_api_sticky());
}

hipError_t
hipEventQuery(hipEvent_t e)
{
	return hipEventSynchronize(e);
}

hipError_t
hipEventElapsedTime(float *ms, hipEvent_t from, hipEvent_t to)
{
	const struct event *a = (const struct event *)from, *b = (const struct event *)to;

	REQUIRE(ms != NULL && from != NULL && to != NULL);
	if ((a->flags | b->flags) & hipEventDisableTiming)
		return emu_api_error(hipErrorInvalidHandle);
	if (a->pending > 0 || b->pending > 0)
		return emu_api_error(hipErrorNotReady);
	if (!a->recorded || !b->recorded)
		return emu_api_error(hipErrorInvalidHandle);
	*ms = (float)((b->time - a->time) * 1e3);
	return hipSuccess;
}

hipError_t
hipEventDestroy(hipEvent_t e)
{
	struct event *v = (struct event *)e;

	REQUIRE(e != NULL);
	if (v->pending > 0)
		drain(v->stream);
	free(v);
	return hipSuccess;
}

hipError_t
hipStreamBeginCapture(hipStream_t s, hipStreamCaptureMode mode)
{
	(void)s;
	(void)mode;
	return emu_api_error(hipErrorNotSupported);
}

hipError_t
hipStreamEndCapture(hipStream_t s, hipGraph_t *graph)
{
	(void)s;
	(void)graph;
	return emu_api_error(hipErrorNotSupported);
}
