/*
 * supervisor.c: all devices' workers, on the main thread: one epoll for their control sockets, outputs and pidfds,
 * and their timers. What happens to one worker is worker.c's.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "front/supervisor.h"
#include "front/worker.h"
#include "log.h"
#include "text.h"

#define WAKE UINT64_MAX
#define LEAVE_MS 2000
#define DIE_MS 5000

#define KIND_MAX 16
#define KINDS "cpu, hip:N, cuda:N, emulated"

static const char *const kinds[] = {"cpu", "hip", "cuda", "emulated"};

/* One name of the list, "hip:1" or "cpu", in its parts. */
static int
device_parse(const char *name, size_t len, char kind[KIND_MAX], int *ordinal, struct err *e)
{
	char found[64];
	size_t k = 0;

	*ordinal = 0;
	while (k < len && (islower((unsigned char)name[k]) || (k > 0 && isdigit((unsigned char)name[k]))))
		k++;
	if (k == 0 || k >= KIND_MAX)
		goto bad;
	memcpy(kind, name, k);
	kind[k] = '\0';
	if (k < len) {
		size_t i = k + 1;

		if (name[k] != ':' || i == len || len - i > 3)
			goto bad;
		for (; i < len; i++) {
			if (!isdigit((unsigned char)name[i]))
				goto bad;
			*ordinal = *ordinal * 10 + (name[i] - '0');
		}
		if (*ordinal > 255)
			goto bad;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return 0;
	return err_param(e, ERR_INVALID_PARAMETER, "--device", kind, KINDS,
			 "--device: unknown device kind %s; there are " KINDS, kind);
bad:
	text_clip(found, sizeof(found), name, len);
	return err_param(e, ERR_INVALID_PARAMETER, "--device", found, KINDS,
			 "--device: found '%s', wanted one or more of " KINDS ", separated by commas", found);
}

/* 0, too, when it is already there. */
static int
device_add(struct supervisor *s, const char *name, size_t len, struct err *e)
{
	char kind[KIND_MAX];
	int ordinal;

	if (device_parse(name, len, kind, &ordinal, e) == -1)
		return -1;
	for (unsigned i = 0; i < s->n; i++)
		if (s->workers[i].ordinal == ordinal && strcmp(s->workers[i].state.info.kind, kind) == 0)
			return 0;
	if (s->n == DEVICES_MAX)
		return err_param(e, ERR_INVALID_PARAMETER, "--device", NULL, NULL,
				 "--device: found more than %d devices", DEVICES_MAX);
	s->n++;
	return worker_init(&s->workers[s->n - 1], s->n - 1, kind, ordinal, e);
}

/* The next name of the list, which moves on; false at the end. */
static bool
next_name(const char **list, const char **name, size_t *len)
{
	*name = *list + strspn(*list, ", ");
	*len = strcspn(*name, ", ");
	*list = *name + *len;
	return *len > 0;
}

int
supervisor_check(const char *devices, struct err *e)
{
	char kind[KIND_MAX];
	const char *name;
	int ordinal;
	size_t len;

	while (devices && next_name(&devices, &name, &len))
		if (device_parse(name, len, kind, &ordinal, e) == -1)
			return -1;
	return 0;
}

static int
devices_parse(struct supervisor *s, const char *list, struct err *e)
{
	const char *name;
	bool cpu = false;
	size_t len;

	while (list && next_name(&list, &name, &len))
		if (device_add(s, name, len, e) == -1)
			return -1;
	for (unsigned i = 0; i < s->n; i++)
		cpu = cpu || strcmp(s->workers[i].state.info.kind, "cpu") == 0;
	return cpu ? 0 : device_add(s, "cpu", 3, e);
}

static void
destroy(struct supervisor *s)
{
	for (unsigned i = 0; i < s->n; i++)
		worker_fini(&s->workers[i]);
	if (s->epoll != -1)
		close(s->epoll);
	if (s->wake != -1)
		close(s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct supervisor *
supervisor_new(const struct supervisor_config *c, struct err *e)
{
	struct supervisor *s = xcalloc(1, sizeof(*s));
	struct epoll_event ev = {.events = EPOLLIN};

	assert(c->loops > 0);
	s->config = *c;
	if (s->config.start_timeout_s == 0)
		s->config.start_timeout_s = 60;
	pthread_mutex_init(&s->lock, NULL);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ev.data.u64 = WAKE;
	if (s->epoll == -1 || s->wake == -1 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &ev) == -1) {
		err_set(e, ERR_INTERNAL, "the supervisor cannot watch its workers: %s", strerror(errno));
		destroy(s);
		return NULL;
	}
	if (devices_parse(s, c->devices, e) == -1) {
		destroy(s);
		return NULL;
	}
	for (unsigned i = 0; i < s->n; i++)
		worker_start(s, &s->workers[i]);
	return s;
}

unsigned
supervisor_devices(const struct supervisor *s)
{
	return s->n;
}

void
supervisor_device(struct supervisor *s, unsigned device, struct device_state *out)
{
	const struct worker *w = &s->workers[device];

	assert(device < s->n);
	pthread_mutex_lock(&s->lock);
	*out = w->state;
	pthread_mutex_unlock(&s->lock);
	out->allocated = atomic_load(&w->status->allocated);
	out->peak = atomic_load(&w->status->peak);
	out->finished = atomic_load(&w->status->finished);
	out->busy_ns = atomic_load(&w->status->busy_ns);
	out->running_since_ns = atomic_load(&w->status->running_loop) ? atomic_load(&w->status->running_since_ns) : 0;
}

void
supervisor_running(const struct supervisor *s, unsigned device, struct running *out)
{
	struct worker_status *st = s->workers[device].status;

	assert(device < s->n);
	out->loop = atomic_load(&st->running_loop);
	out->id = atomic_load(&st->running_id);
	out->runs = atomic_load(&st->runs);
	out->of = atomic_load(&st->runs_of);
	/* It has gone on to the next meanwhile? */
	if (atomic_load(&st->running_id) != out->id || atomic_load(&st->running_loop) != out->loop)
		out->loop = 0;
}

void
supervisor_kill(struct supervisor *s, unsigned device, uint32_t generation, const struct err *why)
{
	struct worker *w = &s->workers[device];

	assert(device < s->n);
	pthread_mutex_lock(&s->lock);
	if (w->state.generation == generation)
		worker_kill(s, w, why);
	pthread_mutex_unlock(&s->lock);
	supervisor_wake(s);
}

void
supervisor_wake(struct supervisor *s)
{
	uint64_t one = 1;
	int keep = errno;

	/* Full means that it is awake anyway. */
	if (write(s->wake, &one, sizeof(one)) == -1)
		errno = keep;
}

/* Milliseconds until something is due, at most `limit` (-1: none). */
static int
time_left(struct supervisor *s, int limit)
{
	uint64_t due = UINT64_MAX, now, ms;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->n; i++) {
		uint64_t d = worker_due(s, &s->workers[i]);

		due = d < due ? d : due;
	}
	pthread_mutex_unlock(&s->lock);
	if (due == UINT64_MAX)
		return limit;
	now = clock_ns();
	ms = due > now ? (due - now + 999999) / 1000000 : 0;
	if (ms > 3600000)
		ms = 3600000;
	return limit >= 0 && (uint64_t)limit < ms ? limit : (int)ms;
}

void
supervisor_run(struct supervisor *s, int timeout_ms)
{
	struct epoll_event evs[32];
	uint64_t now;
	int n = epoll_wait(s->epoll, evs, 32, time_left(s, timeout_ms));

	for (int i = 0; i < n; i++) {
		struct worker *w;

		if (evs[i].data.u64 == WAKE) {
			uint64_t count;

			if (read(s->wake, &count, sizeof(count)) == -1 && errno != EAGAIN)
				log_error("eventfd: %s", strerror(errno));
			continue;
		}
		w = &s->workers[evs[i].data.u64 >> 8 & 255];
		/* An earlier event of this round may have buried it. */
		if (w->p.pid != -1 && (uint32_t)(evs[i].data.u64 >> 16) == w->state.generation)
			worker_event(s, w, (enum worker_fd)(evs[i].data.u64 & 255));
	}
	now = clock_ns();
	for (unsigned i = 0; i < s->n; i++)
		worker_tick(s, &s->workers[i], now);
}

/* Wait for all to be gone, at most ms; what they still say is logged. */
static bool
all_gone(struct supervisor *s, int ms)
{
	uint64_t until = clock_ns() + (uint64_t)ms * 1000000u;

	for (;;) {
		bool any = false;

		for (unsigned i = 0; i < s->n; i++) {
			struct worker *w = &s->workers[i];
			pid_t pid;

			if (w->p.pid == -1)
				continue;
			if (w->p.output != -1)
				(void)last_words_read(&w->words, w->p.output, w->who);
			pid = waitpid(w->p.pid, NULL, WNOHANG);
			if (pid == w->p.pid || (pid == -1 && errno == ECHILD))
				w->p.pid = -1;
			else
				any = true;
		}
		if (!any || clock_ns() > until)
			return !any;
		usleep(2000);
	}
}

void
supervisor_free(struct supervisor **sp)
{
	struct supervisor *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	for (unsigned i = 0; i < s->n; i++)
		if (s->workers[i].p.control != -1)
			shutdown(s->workers[i].p.control, SHUT_RDWR);
	if (!all_gone(s, LEAVE_MS)) {
		for (unsigned i = 0; i < s->n; i++)
			if (s->workers[i].p.pid != -1) {
				log_warn("%s does not leave and is killed", s->workers[i].who);
				kill(s->workers[i].p.pid, SIGKILL);
			}
		if (!all_gone(s, DIE_MS))
			log_error("a worker was killed but does not die");
	}
	for (unsigned i = 0; i < s->n; i++) {
		if (s->config.pool && s->workers[i].p.pid == -1)
			arena_release(s->config.pool, i);
		worker_close(s, &s->workers[i]);
	}
	destroy(s);
}
