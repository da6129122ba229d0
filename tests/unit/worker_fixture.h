/*
 * worker_fixture.h: a pool, a supervisor and a link per loop on one thread, for tests with worker processes. Programs
 * are found in $AITERD_BUILDDIR (or the current directory): aiterd-worker-cpu and tests/unit/worker_fake.
 */
#ifndef AITERD_WORKER_FIXTURE_H
#define AITERD_WORKER_FIXTURE_H

#include <criterion/criterion.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "front/link.h"
#include "front/supervisor.h"
#include "log.h"
#include "worker_fake.h"

#define FIXTURE_LOOPS 2

struct fixture {
	struct arena_pool *pool;
	struct supervisor *sup;
	struct link *links[FIXTURE_LOOPS];
	char dir[64];
	unsigned ups, gones, hopeless;
	uint64_t running_loop, running_id; /* of the last gone */
	int fds_before;
};

struct test_job {
	struct link_job job;
	struct msg_done done;
	unsigned dones;
};

static inline int
fixture_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline const char *
fixture_builddir(void)
{
	const char *dir = getenv("AITERD_BUILDDIR");

	return dir && *dir ? dir : ".";
}

static inline void
fixture_up(void *cls, int loop, unsigned device, uint32_t generation, int sock, const struct worker_status *st)
{
	struct fixture *f = cls;

	(void)device;
	f->ups++;
	link_up(f->links[loop], generation, sock, st);
}

static inline void
fixture_gone(void *cls, int loop, unsigned device, uint32_t generation, uint64_t running_loop, uint64_t running_id,
	     const struct err *why)
{
	struct fixture *f = cls;

	(void)device;
	if (why->code == ERR_DEVICE_UNAVAILABLE) {
		f->hopeless++;
	} else {
		f->gones++;
		f->running_loop = running_loop;
		f->running_id = running_id;
	}
	link_gone(f->links[loop], generation, running_loop, running_id, why);
}

static inline void
fixture_kill(void *cls, unsigned device, uint32_t generation, const struct err *why)
{
	struct fixture *f = cls;

	supervisor_kill(f->sup, device, generation, why);
}

/* What the worker is to do when it starts; NULL: start properly. */
static inline void
fixture_orders(struct fixture *f, const char *word)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/orders", f->dir);
	unlink(path);
	if (!word)
		return;
	file = fopen(path, "we");
	cr_assert(file);
	fputs(word, file);
	fclose(file);
}

static inline void
fixture_copy(const char *from, const char *to)
{
	static char buf[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	ssize_t n;

	cr_assert(in != -1, "there is no %s: AITERD_BUILDDIR?", from);
	cr_assert(out != -1);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		cr_assert_eq(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
}

/* fake: with the fake worker and these orders; otherwise the real one. */
static inline void
fixture_init(struct fixture *f, bool fake, const char *orders, unsigned ping_s, unsigned start_timeout_s)
{
	struct supervisor_config c = {.devices = "cpu",
				      .loops = FIXTURE_LOOPS,
				      .cpu_threads = 2,
				      .ping_s = ping_s,
				      .start_timeout_s = start_timeout_s};
	char from[512], to[128];
	struct err e = {0};

	log_setup("test", getenv("VERBOSE") ? LOG_DEBUG_ : LOG_ERROR_, 0);
	memset(f, 0, sizeof(*f));
	f->fds_before = fixture_fds();
	snprintf(f->dir, sizeof(f->dir), "/tmp/aiterd-test-XXXXXX");
	cr_assert(mkdtemp(f->dir));
	snprintf(from, sizeof(from), "%s/%s", fixture_builddir(), fake ? "tests/unit/worker_fake" : "aiterd-worker-cpu");
	snprintf(to, sizeof(to), "%s/aiterd-worker-cpu", f->dir);
	if (orders && strcmp(orders, "missing") == 0)
		orders = NULL;
	else
		fixture_copy(from, to);
	fixture_orders(f, orders);
	f->pool = arena_pool_new((uint64_t)256 << 20, 0, &e);
	cr_assert(f->pool, "%s", e.msg);
	for (int i = 0; i < FIXTURE_LOOPS; i++) {
		struct link_config lc = {.loop = i, .device = 0, .pool = f->pool, .kill = fixture_kill, .cls = f};

		f->links[i] = link_new(&lc);
	}
	c.worker_dir = f->dir;
	c.pool = f->pool;
	c.events = (struct supervisor_events){f, fixture_up, fixture_gone};
	f->sup = supervisor_new(&c, &e);
	cr_assert(f->sup, "%s", e.msg);
}

/* One turn of supervisor and loops, of at most about 5 ms. */
static inline void
fixture_turn(struct fixture *f)
{
	struct pollfd p[FIXTURE_LOOPS];
	bool asleep = true;

	supervisor_run(f->sup, 1);
	for (int i = 0; i < FIXTURE_LOOPS; i++) {
		p[i] = (struct pollfd){.fd = link_fd(f->links[i]), .events = POLLIN};
		asleep = link_sleep(f->links[i]) && asleep;
	}
	poll(p, FIXTURE_LOOPS, asleep ? 2 : 0);
	for (int i = 0; i < FIXTURE_LOOPS; i++) {
		link_awake(f->links[i]);
		link_event(f->links[i], p[i].fd != -1 && p[i].revents);
		link_expire(f->links[i], clock_ns());
	}
}

static inline struct device_state
fixture_state(struct fixture *f)
{
	struct device_state st;

	supervisor_device(f->sup, 0, &st);
	return st;
}

/* Turn until the device is in this state; generous: only a hang fails. */
static inline void
fixture_until_state(struct fixture *f, enum worker_state state)
{
	uint64_t until = clock_ns() + (uint64_t)60 * 1000000000u;

	while (fixture_state(f).state != state) {
		cr_assert(clock_ns() < until, "still %s, not %s: %s", worker_state_name(fixture_state(f).state),
			  worker_state_name(state), fixture_state(f).obituary.msg);
		fixture_turn(f);
	}
}

static inline void
fixture_until_done(struct fixture *f, const struct test_job *j, int n)
{
	uint64_t until = clock_ns() + (uint64_t)60 * 1000000000u;

	for (int i = 0; i < n; i++)
		while (j[i].dones == 0) {
			cr_assert(clock_ns() < until, "job %d is not done", i);
			fixture_turn(f);
		}
}

static inline void
fixture_done(struct link_job *job, const struct msg_done *done)
{
	struct test_job *j = job->cls;

	j->dones++;
	j->done = *done;
}

static inline void
fixture_submit(struct fixture *f, int loop, struct test_job *j, enum fake_order order, int64_t arg, struct tensor *t,
	       uint64_t timeout_ms)
{
	memset(j, 0, sizeof(*j));
	j->job.done = fixture_done;
	j->job.cls = j;
	j->job.msg.iters = 1;
	if (t)
		j->job.msg.call.tensors[0] = *t;
	fake_order(&j->job.msg)->i[0] = order;
	fake_order(&j->job.msg)->i[1] = arg;
	j->job.msg.deadline_ns = timeout_ms ? clock_ns() + timeout_ms * 1000000u : 0;
	link_submit(f->links[loop], &j->job);
	link_flush(f->links[loop]);
	cr_assert_eq(j->dones, 0, "done was called inside link_submit");
}

static inline void
fixture_counter(struct fixture *f, struct mem *m, struct tensor *t)
{
	int64_t shape = 1;
	struct err e = {0};

	(void)f;
	memset(t, 0, sizeof(*t));
	t->dtype = DT_INT32;
	t->rank = 1;
	t->shape[0] = shape;
	t->bytes = 4;
	cr_assert_eq(mem_tensor(m, t, &e), 0, "%s", e.msg);
	memset(t->data, 0, 4);
}

/* Everything is given back: no process, no descriptor, no memory. */
static inline void
fixture_fini(struct fixture *f)
{
	char path[128];

	for (int i = 0; i < FIXTURE_LOOPS; i++)
		link_free(&f->links[i]);
	supervisor_free(&f->sup);
	cr_assert_null(f->sup);
	arena_pool_free(&f->pool);
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left, perhaps a zombie");
	cr_assert_eq(fixture_fds(), f->fds_before, "%d descriptors instead of %d", fixture_fds(), f->fds_before);
	fixture_orders(f, NULL);
	snprintf(path, sizeof(path), "%s/aiterd-worker-cpu", f->dir);
	unlink(path);
	rmdir(f->dir);
}

#endif
