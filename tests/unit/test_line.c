/*
 * test_line.c: the rings and the bell, both ends played here: order, descriptors, sleeping and waking (also by two
 * threads at full speed), and other ends that talk nonsense.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "line.h"

static struct line front, worker;
static union line_message got;

static void
setup(void)
{
	struct err e = {0};
	int s[2], fd;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	cr_assert_eq(line_open(&front, s[0], &e), 0, "%s", e.msg);
	line_init(&worker, s[1]);
	/* Before the rings have come there is nothing, and no room. */
	cr_assert_eq(line_get(&worker, &got, &fd), 0);
	cr_assert_eq(line_put(&worker, &got, sizeof(got.done)), 1);
	cr_assert(line_sleep(&worker));
	line_ring(&worker);
	cr_assert_eq(line_bell(&worker), 1);
	cr_assert_eq(line_bell(&worker), 1, "nothing there is no offence");
}

static void
teardown(void)
{
	line_close(&front);
	line_close(&worker);
}

TestSuite(line, .init = setup, .fini = teardown);

static int
put_job(uint64_t id)
{
	struct msg_job job;

	memset(&job, (int)(id & 0x7f), sizeof(job));
	job.m = (struct msg){MSG_JOB, sizeof(job), id};
	return line_put(&front, &job, sizeof(job));
}

static int
put_done(uint64_t id)
{
	struct msg_done done = {.m = {MSG_DONE, sizeof(done), id}};

	return line_put(&worker, &done, sizeof(done));
}

Test(line, order_and_room_in_both_directions)
{
	uint64_t in = 0, out = 0;
	int fd;

	for (int round = 0; round < 100; round++) {
		while (put_job(in) == 0)
			in++;
		cr_assert_eq(in - out, LINE_SLOTS);
		cr_assert_not(line_empty(&worker));
		for (int i = 0; i <= round % LINE_SLOTS; i++, out++) {
			cr_assert_eq(line_get(&worker, &got, &fd), (int)sizeof(got.job));
			cr_assert(fd == -1 && got.m.id == out);
			cr_assert_eq(((unsigned char *)&got)[sizeof(got.job) - 1], out & 0x7f);
		}
	}
	while (line_get(&worker, &got, &fd) > 0)
		cr_assert_eq(got.m.id, out++);
	cr_assert_eq(in, out);
	cr_assert(line_empty(&worker));
	for (in = 0; put_done(in) == 0; in++)
		;
	cr_assert_eq(in, LINE_SLOTS);
	for (out = 0; line_get(&front, &got, &fd) > 0; out++)
		cr_assert_eq(got.m.id, out);
	cr_assert_eq(in, out);
}

/* A MAP comes with its descriptor where its note stands, whether or not it was met in the socket before. */
Test(line, descriptors)
{
	struct msg_map map = {.m = {MSG_MAP, sizeof(map), 0}};
	int file = memfd_create("test", MFD_CLOEXEC), fd;
	char text[6] = "";

	cr_assert_eq(pwrite(file, "hello", 5, 0), 5);
	for (int early = 0; early < 2; early++) {
		put_job(1);
		for (map.slab = 7; map.slab < 10; map.slab++)
			cr_assert_eq(line_put_fd(&front, &map, sizeof(map), file), 0);
		put_job(2);
		line_ring(&front);
		for (int i = 0; early && i < 3; i++)
			cr_assert_eq(line_bell(&worker), 1);
		cr_assert_gt(line_get(&worker, &got, &fd), 0);
		cr_assert(got.m.type == MSG_JOB && got.m.id == 1 && fd == -1);
		for (uint32_t slab = 7; slab < 10; slab++) {
			cr_assert_eq(line_get(&worker, &got, &fd), (int)sizeof(got.map));
			cr_assert(got.m.type == MSG_MAP && got.map.slab == slab);
			cr_assert_eq(pread(fd, text, 5, 0), 5);
			cr_assert_str_eq(text, "hello");
			close(fd);
		}
		cr_assert_gt(line_get(&worker, &got, &fd), 0);
		cr_assert(got.m.type == MSG_JOB && got.m.id == 2 && fd == -1);
		cr_assert_eq(line_get(&worker, &got, &fd), 0);
	}
	/* One that is never asked for is closed with the line. */
	cr_assert_eq(line_put_fd(&front, &map, sizeof(map), file), 0);
	cr_assert_eq(line_bell(&worker), 1);
	close(file);
}

static int
bells(const struct line *l)
{
	struct msg bell;
	int fd, n = 0;

	while (msg_recv(l->sock, &bell, sizeof(bell), &fd) > 0) {
		cr_assert(bell.type == MSG_BELL && fd == -1);
		n++;
	}
	return n;
}

Test(line, who_sleeps_is_woken_once)
{
	int fd;

	put_job(1);
	line_ring(&front);
	cr_assert_eq(bells(&worker), 0, "nobody slept");
	cr_assert_not(line_sleep(&worker), "there is something to read");
	put_job(2);
	line_ring(&front);
	cr_assert_eq(bells(&worker), 0, "it did not go to sleep");
	while (line_get(&worker, &got, &fd) > 0)
		;
	cr_assert(line_sleep(&worker));
	put_job(3);
	line_ring(&front);
	line_ring(&front);
	cr_assert_eq(bells(&worker), 1);
	while (line_get(&worker, &got, &fd) > 0)
		;
	cr_assert(line_sleep(&worker));
	line_awake(&worker);
	put_job(4);
	line_ring(&front);
	cr_assert_eq(bells(&worker), 0);
	/* The other way. */
	cr_assert(line_sleep(&front));
	put_done(1);
	line_ring(&worker);
	cr_assert_eq(bells(&front), 1);
}

/* A bell that found no room is rung again, and not taken for heard. */
Test(line, a_bell_that_could_not_be_sent)
{
	const struct msg bell = {MSG_BELL, sizeof(bell), 0};

	cr_assert(line_sleep(&worker));
	while (msg_send(front.sock, &bell, sizeof(bell), -1) == 0)
		;
	put_job(1);
	line_ring(&front);
	cr_assert_gt(bells(&worker), 0);
	line_ring(&front);
	cr_assert_eq(bells(&worker), 1);
}

#define MANY 200000

static void
wait_for(struct line *l)
{
	struct pollfd p = {.fd = l->sock, .events = POLLIN};

	if (line_sleep(l))
		cr_assert_eq(poll(&p, 1, 60000), 1, "it was never woken");
	line_awake(l);
	while (p.revents && poll(&p, 1, 0) == 1)
		cr_assert_eq(line_bell(l), 1);
}

static void *
echo(void *arg)
{
	int fd;

	(void)arg;
	for (uint64_t id = 0; id < MANY;) {
		while (line_get(&worker, &got, &fd) > 0) {
			cr_assert_eq(got.m.id, id);
			cr_assert_eq(put_done(id++), 0);
		}
		line_ring(&worker);
		if (id < MANY)
			wait_for(&worker);
	}
	return NULL;
}

/* No wake-up is lost: either side sleeps whenever it finds nothing. */
Test(line, two_threads, .timeout = 120)
{
	static union line_message answer;
	uint64_t in = 0, out = 0;
	pthread_t thread;
	int fd;

	cr_assert_eq(pthread_create(&thread, NULL, echo, NULL), 0);
	while (out < MANY) {
		while (in < MANY && in - out < 1 + in % LINE_SLOTS && put_job(in) == 0)
			in++;
		line_ring(&front);
		if (line_empty(&front))
			wait_for(&front);
		while (line_get(&front, &answer, &fd) > 0)
			cr_assert_eq(answer.m.id, out++);
	}
	pthread_join(thread, NULL);
}

Test(line, ends)
{
	cr_assert_eq(put_done(5), 0);
	line_close(&worker);
	cr_assert_eq(line_bell(&front), 0);
	cr_assert_not(line_empty(&front), "what it said before it left can be read");
	line_close(&front);
	cr_assert(line_empty(&front));
	line_close(&front);
}

Test(line, nonsense)
{
	const struct msg rings = {MSG_RINGS, sizeof(rings), 0};
	struct msg_done done = {.m = {MSG_DONE, sizeof(done) + 1, 0}};
	struct msg_map map = {.m = {MSG_MAP, sizeof(map), 0}};
	int file = memfd_create("test", MFD_CLOEXEC), fd, s[2];
	struct line fresh;

	/* Lengths. */
	cr_assert_eq(line_put(&worker, &done, sizeof(done)), 0);
	cr_assert_eq(line_get(&front, &got, &fd), -1);
	cr_assert_eq(errno, EPROTO);
	teardown();
	setup();
	done.m.length = sizeof(done.m) - 1;
	cr_assert_eq(line_put(&worker, &done, sizeof(done)), 0);
	cr_assert_eq(line_get(&front, &got, &fd), -1);
	/* A note without its message; to the front nothing is sent beside the ring at all. */
	teardown();
	setup();
	cr_assert_eq(line_put(&front, &map, sizeof(map)), 0);
	cr_assert_eq(line_get(&worker, &got, &fd), -1);
	cr_assert_eq(line_put(&worker, &map, sizeof(map)), 0);
	cr_assert_eq(line_get(&front, &got, &fd), (int)sizeof(map));
	cr_assert_eq(fd, -1);
	cr_assert_eq(msg_send(worker.sock, &map, sizeof(map), file), 0);
	cr_assert_eq(line_bell(&front), -1);
	/* Rings twice, rings for the front, rings of another size, a bell with a descriptor, noise. */
	cr_assert_eq(msg_send(front.sock, &rings, sizeof(rings), file), 0);
	cr_assert_eq(line_bell(&worker), -1);
	cr_assert_eq(msg_send(worker.sock, &rings, sizeof(rings), file), 0);
	cr_assert_eq(line_bell(&front), -1);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	line_init(&fresh, s[1]);
	cr_assert_eq(msg_send(s[0], &rings, sizeof(rings), file), 0);
	cr_assert_eq(line_bell(&fresh), -1);
	line_close(&fresh);
	close(s[0]);
	cr_assert_eq(msg_send(worker.sock, &(struct msg){MSG_BELL, sizeof(rings), 0}, sizeof(rings), file), 0);
	cr_assert_eq(line_bell(&front), -1);
	cr_assert_eq(send(worker.sock, "noise", 5, 0), 5);
	cr_assert_eq(line_bell(&front), -1);
	close(file);
}
