/*
 * test_link.c: one loop's line to a worker that the test plays itself on the line's other end.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "front/link.h"
#include "line.h"

#define N 200

struct job {
	struct link_job job;
	struct msg_done done;
	unsigned dones;
};

static struct arena_pool *pool;
static struct link *l;
static struct worker_status status;
static struct job jobs[N];
static unsigned kills;
static uint32_t killed_generation;
static struct err kill_why;
static struct line worker = {.sock = -1, .early_fd = -1}; /* the worker's end */
static bool inside;					  /* a call in which done must not be called */
static struct job *resubmit;

static union line_message packet;

static void
on_kill(void *cls, unsigned device, uint32_t generation, const struct err *why)
{
	cr_assert_eq(cls, &status);
	cr_assert_eq(device, 5);
	kills++;
	killed_generation = generation;
	kill_why = *why;
}

static void
on_done(struct link_job *job, const struct msg_done *done)
{
	struct job *j = job->cls;

	cr_assert_not(inside);
	j->dones++;
	j->done = *done;
	if (resubmit) {
		struct job *again = resubmit;

		resubmit = NULL;
		link_submit(l, &again->job);
		link_flush(l);
	}
}

static void
setup(void)
{
	struct err e;
	struct link_config c = {.loop = 3, .device = 5, .kill = on_kill, .cls = &status};

	pool = arena_pool_new((uint64_t)256 << 20, 0, &e);
	c.pool = pool;
	l = link_new(&c);
	cr_assert_eq(link_fd(l), -1);
}

static void
teardown(void)
{
	link_free(&l);
	cr_assert_null(l);
	link_free(&l);
	arena_pool_free(&pool);
	line_close(&worker);
}

TestSuite(link, .init = setup, .fini = teardown);

static void
submit(int i, const struct tensor *t, uint64_t timeout_ms)
{
	struct job *j = &jobs[i];

	memset(j, 0, sizeof(*j));
	j->job.done = on_done;
	j->job.cls = j;
	if (t)
		j->job.msg.call.tensors[0] = *t;
	j->job.msg.deadline_ns = timeout_ms ? clock_ns() + timeout_ms * 1000000u : 0;
	inside = true;
	link_submit(l, &j->job);
	link_flush(l);
	inside = false;
}

static void
up(uint32_t generation)
{
	int s[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	line_close(&worker);
	line_init(&worker, s[1]);
	link_up(l, generation, s[0], &status);
	cr_assert_eq(line_bell(&worker), 1);
	cr_assert_not_null(worker.page);
}

static void
gone(uint32_t generation, uint64_t loop, uint64_t id, enum err_code code)
{
	struct err why = {.code = code, .msg = "last words"};

	link_gone(l, generation, loop, id, &why);
}

/* The next message at the worker: its type, or 0 when there is none, or -1 at the end. */
static int
next(void)
{
	int fd, n = line_get(&worker, &packet, &fd);

	cr_assert_neq(n, -1);
	if (fd != -1) {
		cr_assert_eq(packet.m.type, MSG_MAP);
		close(fd);
	}
	return n > 0 ? (int)packet.m.type : line_bell(&worker) == 0 ? -1 : 0;
}

static void
answer(uint64_t id, enum err_code code)
{
	struct msg_done d = {.m = {MSG_DONE, sizeof(d), id}, .err.code = code};

	cr_assert_eq(line_put(&worker, &d, sizeof(d)), 0);
}

static struct tensor
tensor(struct mem *m, uint64_t bytes)
{
	struct tensor t = {.dtype = DT_UINT8, .rank = 1, .bytes = bytes, .shape = {(int64_t)bytes}};
	struct err e;

	cr_assert_eq(mem_tensor(m, &t, &e), 0);
	return t;
}

Test(link, order_and_depth)
{
	uint64_t expect = 1;
	int at_worker = 0, most = 0;

	for (int i = 0; i < 20; i++)
		submit(i, NULL, 0);
	up(1);
	for (int i = 20; i < N; i++)
		submit(i, NULL, 0);
	cr_assert_eq(link_queued(l), N);
	while (expect <= N) {
		while (next() == MSG_JOB)
			at_worker++;
		most = at_worker > most ? at_worker : most;
		cr_assert_gt(at_worker, 0);
		answer(expect++, ERR_NONE);
		at_worker--;
		link_event(l, false);
	}
	cr_assert(most >= 4 && most <= 16, "%d", most);
	for (int i = 0; i < N; i++)
		cr_assert(jobs[i].dones == 1 && jobs[i].done.err.code == ERR_NONE);
	cr_assert_eq(link_queued(l), 0);
	cr_assert_eq(kills, 0);
	/* Submitting from inside done. */
	submit(0, NULL, 0);
	resubmit = &jobs[0];
	answer(N + 1, ERR_NONE);
	link_event(l, false);
	cr_assert_eq(link_queued(l), 1);
	answer(N + 2, ERR_INVALID_SHAPE);
	link_event(l, false);
	cr_assert_eq(jobs[0].dones, 2);
	cr_assert_eq(jobs[0].done.err.code, ERR_INVALID_SHAPE);
}

Test(link, slabs_are_mapped_once)
{
	struct mem m;
	struct tensor a, b;
	uint32_t first;

	mem_init(&m, pool, 0);
	a = tensor(&m, 1000);
	b = tensor(&m, 9 << 20);
	up(1);
	submit(0, &a, 0);
	cr_assert_eq(next(), MSG_MAP);
	cr_assert_eq(packet.map.slab, a.slab);
	cr_assert_eq(next(), MSG_JOB);
	submit(1, &a, 0);
	cr_assert_eq(next(), MSG_JOB);
	submit(2, &b, 0);
	cr_assert_eq(next(), MSG_MAP);
	cr_assert_eq(packet.map.slab, b.slab);
	cr_assert_geq(packet.map.bytes, b.bytes);
	first = packet.map.generation;
	cr_assert_eq(next(), MSG_JOB);
	submit(3, &b, 0);
	cr_assert_eq(next(), MSG_JOB);
	cr_assert_eq(next(), 0);
	for (uint64_t i = 1; i <= 4; i++)
		answer(i, ERR_NONE);
	link_event(l, false);
	/* Given back: unmapped at the worker; the number's next generation is mapped anew. */
	mem_fini(&m);
	arena_pool_trim(pool, 0);
	link_expire(l, clock_ns());
	cr_assert_eq(next(), MSG_UNMAP);
	cr_assert_eq(next(), MSG_UNMAP);
	cr_assert_eq(packet.map.slab, b.slab);
	cr_assert_eq(packet.map.generation, first);
	cr_assert_eq(next(), 0);
	mem_init(&m, pool, 0);
	a = tensor(&m, 1000);
	b = tensor(&m, 9 << 20);
	submit(4, &b, 0);
	cr_assert_eq(next(), MSG_MAP);
	cr_assert_eq(packet.map.slab, b.slab);
	cr_assert_neq(packet.map.generation, first);
	cr_assert_eq(next(), MSG_JOB);
	/* Another worker knows nothing. */
	gone(1, 0, 0, ERR_WORKER_CRASHED);
	up(2);
	cr_assert_eq(next(), MSG_MAP);
	cr_assert_eq(next(), MSG_JOB);
	cr_assert_eq(packet.m.id, 5);
	answer(5, ERR_NONE);
	link_event(l, false);
	/* What the worker had mapped is quarantined, and what it had not is not. */
	arena_quarantine(pool, 5);
	mem_fini(&m);
	{
		struct arena_stats s;

		arena_pool_stats(pool, &s);
		cr_assert_gt(s.quarantined, 8u << 20);
		mem_init(&m, pool, 0);
		cr_assert_neq(tensor(&m, 9 << 20).slab, b.slab);
		cr_assert_eq(tensor(&m, 1000).slab, a.slab);
		mem_fini(&m);
	}
	arena_release(pool, 5);
}

/* 12 slabs and 16 jobs leave room for 4 messages more. */
Test(link, a_full_ring_delays_and_loses_nothing)
{
	struct mem m[12];
	int seen[MSG_BELL + 1] = {0}, type;

	up(1);
	for (int i = 0; i < 16; i++) {
		struct tensor t;

		if (i < 12) {
			mem_init(&m[i], pool, 0);
			t = tensor(&m[i], 9 << 20);
		}
		submit(i, i < 12 ? &t : NULL, 0);
	}
	for (int i = 0; i < 8; i++)
		link_cancel(l, &jobs[i].job);
	while ((type = next()) > 0)
		seen[type]++;
	cr_assert_eq(seen[MSG_MAP], 12);
	cr_assert_eq(seen[MSG_JOB], 16);
	cr_assert_eq(seen[MSG_CANCEL], LINE_SLOTS - 28);
	link_expire(l, clock_ns());
	while ((type = next()) > 0)
		seen[type]++;
	cr_assert_eq(seen[MSG_CANCEL], 8);
	for (int i = 0; i < 16; i++)
		answer((uint64_t)i + 1, i < 8 ? ERR_CLIENT_GONE : ERR_NONE);
	link_event(l, false);
	for (int i = 0; i < 16; i++)
		cr_assert(jobs[i].dones == 1 && jobs[i].done.err.code == (i < 8 ? ERR_CLIENT_GONE : ERR_NONE));
	for (int i = 0; i < 12; i++)
		mem_fini(&m[i]);
	cr_assert_eq(kills, 0);
}

Test(link, cancel)
{
	up(1);
	for (int i = 0; i < 20; i++)
		submit(i, NULL, 0);
	while (next() == MSG_JOB)
		;
	inside = true;
	link_cancel(l, &jobs[2].job);
	link_cancel(l, &jobs[19].job);
	inside = false;
	cr_assert_eq(next(), MSG_CANCEL);
	cr_assert_eq(packet.m.id, 3);
	cr_assert_eq(next(), 0);
	link_expire(l, clock_ns());
	cr_assert_eq(jobs[19].dones, 1);
	cr_assert_eq(jobs[19].done.err.code, ERR_CLIENT_GONE);
	cr_assert_eq(jobs[2].dones, 0, "its memory is the worker's until that has answered");
	/* It had begun already: a good answer for a client that is gone. */
	answer(3, ERR_NONE);
	link_event(l, false);
	cr_assert_eq(jobs[2].dones, 1);
	cr_assert_eq(jobs[2].done.err.code, ERR_CLIENT_GONE);
	cr_assert_eq(link_queued(l), 18);
	/* Cancelled and the worker dies: not tried again. */
	link_cancel(l, &jobs[1].job);
	gone(1, 4, 1, ERR_WORKER_CRASHED);
	cr_assert_eq(jobs[1].done.err.code, ERR_CLIENT_GONE);
	cr_assert_eq(jobs[0].done.err.code, ERR_WORKER_CRASHED);
	cr_assert_eq(link_queued(l), 16);
	/* Cancelled while it waits for a worker. */
	link_cancel(l, &jobs[7].job);
	link_expire(l, clock_ns());
	cr_assert_eq(jobs[7].done.err.code, ERR_CLIENT_GONE);
	cr_assert_eq(link_queued(l), 15);
}

Test(link, deaths)
{
	for (int i = 0; i < 30; i++)
		submit(i, NULL, 0);
	up(1);
	/* Answered before the death, unread until then: counts. Then the running one, by loop and number. */
	answer(1, ERR_NONE);
	gone(1, 4, 2, ERR_WORKER_CRASHED);
	cr_assert_eq(link_fd(l), -1);
	cr_assert_eq(jobs[0].done.err.code, ERR_NONE);
	cr_assert_eq(jobs[0].dones, 1);
	cr_assert_eq(jobs[1].dones, 1);
	cr_assert_eq(jobs[1].done.err.code, ERR_WORKER_CRASHED);
	cr_assert_str_eq(jobs[1].done.err.msg, "last words");
	cr_assert_eq(link_queued(l), 28);
	/* The others come again, in order, to the next worker. */
	up(2);
	for (uint64_t id = 3; id < 6; id++) {
		cr_assert_eq(next(), MSG_JOB);
		cr_assert_eq(packet.m.id, id);
	}
	answer(3, ERR_NONE);
	link_event(l, false);
	/* The same number running for another loop is another job: all of the first ones were here twice, and end. */
	gone(2, 3, 4, ERR_DEADLINE_EXCEEDED);
	for (int i = 3; i < 15; i++) {
		cr_assert_eq(jobs[i].dones, 1, "%d", i);
		cr_assert_eq(jobs[i].done.err.code, ERR_WORKER_CRASHED);
		cr_assert(strstr(jobs[i].done.err.msg, "twice"));
	}
	cr_assert_eq(jobs[25].dones, 0);
	/* News of an older generation change nothing. */
	up(3);
	gone(2, 4, 13, ERR_WORKER_CRASHED);
	cr_assert_neq(link_fd(l), -1);
	/* No worker will come. */
	gone(3, 0, 0, ERR_WORKER_CRASHED);
	gone(3, 0, 0, ERR_DEVICE_UNAVAILABLE);
	cr_assert_eq(link_queued(l), 0);
	for (int i = 0; i < 30; i++)
		cr_assert_eq(jobs[i].dones, 1, "%d", i);
	cr_assert_eq(jobs[29].done.err.code, ERR_DEVICE_UNAVAILABLE);
	submit(0, NULL, 0);
	link_expire(l, clock_ns());
	cr_assert_eq(jobs[0].done.err.code, ERR_DEVICE_UNAVAILABLE);
	/* One came after all. */
	up(4);
	submit(0, NULL, 0);
	cr_assert_eq(next(), MSG_JOB);
	cr_assert_eq(kills, 0);
}

Test(link, garbage)
{
	struct msg_done d;

	for (uint32_t g = 1; g <= 10; g++) {
		bool readable = false;

		memset(&d, 0, sizeof(d));
		d.m = (struct msg){MSG_DONE, sizeof(d), 0};
		up(g);
		submit(0, NULL, 0);
		kills = 0;
		cr_assert_eq(next(), MSG_JOB);
		d.m.id = packet.m.id;
		switch (g) {
		case 1: /* an unknown number */
			d.m.id++;
			cr_assert_eq(line_put(&worker, &d, sizeof(d)), 0);
			break;
		case 2: /* not a message */
			cr_assert_eq(send(worker.sock, "hello", 5, 0), 5);
			readable = true;
			break;
		case 3: /* too short, and says so */
			d.m.length = sizeof(d) - 1;
			cr_assert_eq(line_put(&worker, &d, sizeof(d) - 1), 0);
			break;
		case 4: /* another type */
			d.m.type = MSG_PONG;
			cr_assert_eq(line_put(&worker, &d, sizeof(d)), 0);
			break;
		case 5: /* the end */
			line_close(&worker);
			readable = true;
			break;
		case 6: { /* no such error */
			int code = -1;

			memcpy(&d.err.code, &code, sizeof(code));
			cr_assert_eq(line_put(&worker, &d, sizeof(d)), 0);
			break;
		}
		case 7: /* more messages than there is room for */
			atomic_store((_Atomic uint32_t *)(void *)((char *)worker.page + 128), LINE_SLOTS + 1);
			break;
		case 8: /* larger than its place */
			d.m.length = 1 << 20;
			cr_assert_eq(line_put(&worker, &d, sizeof(d)), 0);
			break;
		case 9: { /* an answer with a descriptor, where only bells may come */
			struct msg bell = {MSG_BELL, sizeof(bell), 0};

			cr_assert_eq(msg_send(worker.sock, &bell, sizeof(bell), worker.sock), 0);
			readable = true;
			break;
		}
		case 10: /* an answer that is fine but for texts without ends */
			memset(d.err.msg, 'x', sizeof(d.err.msg));
			memset(d.impl, 'x', sizeof(d.impl));
			memset(d.baseline_impl, 'x', sizeof(d.baseline_impl));
			cr_assert_eq(line_put(&worker, &d, sizeof(d)), 0);
			break;
		}
		link_event(l, readable);
		if (g == 5) {
			/* Most likely it is dead: for a while the supervisor may find out how. */
			cr_assert_eq(kills, 0);
			link_expire(l, clock_ns());
			cr_assert_eq(kills, 0);
			link_expire(l, clock_ns() + 5000000000u);
		}
		if (g == 10) {
			cr_assert_eq(jobs[0].dones, 1);
			cr_assert_eq(strlen(jobs[0].done.err.msg), sizeof(d.err.msg) - 1);
			cr_assert_eq(strlen(jobs[0].done.impl), sizeof(d.impl) - 1);
			cr_assert_eq(kills, 0);
			break;
		}
		cr_assert_eq(kills, 1, "case %u", g);
		cr_assert_eq(killed_generation, g);
		cr_assert_eq(kill_why.code, ERR_WORKER_CRASHED);
		cr_assert_eq(link_fd(l), -1);
		cr_assert_eq(jobs[0].dones, 0);
		/* Nothing more goes to it, and it is not asked for twice. */
		link_expire(l, clock_ns() + UINT64_C(100000000000));
		cr_assert_eq(kills, 1);
		gone(g, 4, jobs[0].job.msg.m.id, ERR_WORKER_CRASHED);
		cr_assert_eq(jobs[0].dones, 1);
		cr_assert_eq(link_queued(l), 0);
	}
}

Test(link, deadlines)
{
	uint64_t now = clock_ns();

	/* Waiting for a worker. */
	submit(0, NULL, 1000);
	submit(1, NULL, 0);
	submit(2, NULL, 1000);
	link_expire(l, now);
	cr_assert_eq(jobs[0].dones, 0);
	resubmit = &jobs[0];
	link_expire(l, now + 3000000000u);
	cr_assert_eq(jobs[0].dones, 1);
	cr_assert_eq(jobs[0].done.err.code, ERR_DEADLINE_EXCEEDED);
	cr_assert_eq(jobs[2].dones, 1);
	cr_assert_eq(jobs[1].dones, 0);
	cr_assert_eq(link_queued(l), 2, "the second one, and the first again");
	link_expire(l, now + 6000000000u);
	cr_assert_eq(jobs[0].dones, 2);

	/* At the worker and not begun: cancelled, and over when the worker says so. */
	up(1);
	submit(3, NULL, 1000);
	submit(4, NULL, 0);
	while (next() == MSG_JOB)
		;
	link_expire(l, now + 3000000000u);
	cr_assert_eq(next(), MSG_CANCEL);
	cr_assert_eq(packet.m.id, jobs[3].job.msg.m.id);
	cr_assert_eq(jobs[3].dones, 0);
	answer(packet.m.id, ERR_CLIENT_GONE);
	link_event(l, false);
	cr_assert_eq(jobs[3].done.err.code, ERR_DEADLINE_EXCEEDED);
	cr_assert_eq(kills, 0);

	/* Running: killed a moment after its deadline. Another loop's job of the same number is not ours. */
	submit(5, NULL, 1000);
	atomic_store(&status.running_id, jobs[5].job.msg.m.id);
	atomic_store(&status.running_loop, 2);
	link_expire(l, jobs[5].job.msg.deadline_ns + 1000000000u);
	cr_assert_eq(kills, 0);
	atomic_store(&status.running_loop, 4);
	link_expire(l, jobs[5].job.msg.deadline_ns + 1);
	cr_assert_eq(kills, 0);
	link_expire(l, jobs[5].job.msg.deadline_ns + 1000000000u);
	link_expire(l, jobs[5].job.msg.deadline_ns + 1000000000u);
	cr_assert_eq(kills, 1);
	cr_assert_eq(kill_why.code, ERR_DEADLINE_EXCEEDED);
	cr_assert_str_eq(kill_why.param, "timeout_ms");
	link_gone(l, 1, 4, jobs[5].job.msg.m.id, &kill_why);
	cr_assert_eq(jobs[5].done.err.code, ERR_DEADLINE_EXCEEDED);
	atomic_store(&status.running_loop, 0);

	/* Cancelled at an idle worker that never answers: it has lost the job. */
	up(2);
	kills = 0;
	submit(6, NULL, 1000);
	link_expire(l, jobs[6].job.msg.deadline_ns + 1);
	link_expire(l, clock_ns() + 1000000000u);
	cr_assert_eq(kills, 0);
	link_expire(l, clock_ns() + 60000000000u);
	cr_assert_eq(kills, 1);
	cr_assert_eq(kill_why.code, ERR_WORKER_CRASHED);
}

Test(link, free_ends_everything)
{
	up(1);
	for (int i = 0; i < 30; i++)
		submit(i, NULL, 0);
	link_cancel(l, &jobs[29].job);
	link_free(&l);
	for (int i = 0; i < 30; i++) {
		cr_assert_eq(jobs[i].dones, 1);
		cr_assert_eq(jobs[i].done.err.code, i == 29 ? ERR_CLIENT_GONE : ERR_DRAINING);
	}
	while (next() == MSG_JOB)
		;
	cr_assert_eq(next(), -1, "the worker sees the end");
}
