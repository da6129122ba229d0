/*
 * worker_fake.c: a worker that speaks the protocol, has no device and misbehaves on order (worker_fake.h). Tests put a
 * copy named aiterd-worker-cpu into a directory of their own. It shares nothing with the real worker but msg.c and line.c.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "line.h"
#include "worker_fake.h"

#define SLABS 1024
#define QUEUE 1024

static int loops, control;
static struct worker_status *status;
static unsigned char *maps[SLABS];
static uint64_t map_bytes[SLABS];
static struct line lines[64];
static struct {
	int loop;
	struct msg_job job;
} queue[QUEUE];
static unsigned queued;

static union line_message packet;

static _Noreturn void
stop(const char *why)
{
	fprintf(stderr, "fake: %s\n", why);
	_exit(1);
}

static void *
lifeline(void *arg)
{
	struct pollfd p = {.fd = control, .events = POLLRDHUP};

	(void)arg;
	poll(&p, 1, -1);
	_exit(0);
}

static void
answer(int loop, uint64_t id, size_t len, uint32_t type, int code)
{
	struct msg_done done;

	memset(&done, 0, sizeof(done));
	done.m = (struct msg){.type = type, .length = (uint32_t)len, .id = id};
	memcpy(&done.err.code, &code, sizeof(code)); /* possibly none of the enum's */
	strcpy(done.impl, "fake");
	done.kernel.iters = 1;
	if (loop == loops) {
		if (msg_send(control, &done, len, -1) == -1)
			_exit(0);
		return;
	}
	if (line_put(&lines[loop], &done, len) != 0)
		stop("a ring is full");
	line_ring(&lines[loop]);
}

static void *
second_thread(void *arg)
{
	while (!arg)
		pause();
	return NULL;
}

/* A process whose thread is traced by somebody else stays until that somebody has let go of it. */
static void
unreapable(uint32_t *pid_out)
{
	pthread_t thread;
	pid_t me = getpid(), tid = 0, child;
	int ready[2];
	char c;

	if (pthread_create(&thread, NULL, second_thread, NULL) != 0 || pipe(ready) == -1)
		stop("no thread");
	/* Thread ids rise: the newest one of ours is it. */
	for (int t = me; t < me + 64; t++)
		if (syscall(SYS_tgkill, me, t, 0) == 0)
			tid = t;
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	child = fork();
	if (child == 0) {
		char ok = ptrace(PTRACE_SEIZE, tid, NULL, NULL) == 0 ? 'y' : 'n';

		/* Not to hold the worker's sockets and pipe open: only the tracing matters. */
		if (write(ready[1], &ok, 1) != 1)
			_exit(1);
		close_range(0, ~0u, 0);
		for (;;)
			pause();
	}
	if (read(ready[0], &c, 1) != 1 || c != 'y')
		child = 0;
	if (pid_out)
		*pid_out = (uint32_t)child;
	for (;;)
		pause();
}

static void
running(uint64_t loop, uint64_t id)
{
	atomic_store(&status->running_id, id);
	atomic_store(&status->running_since_ns, loop ? clock_ns() : 0);
	atomic_store(&status->running_loop, loop);
}

static void
obey(int loop, struct msg_job *job)
{
	const struct op_value *order = fake_order(job);
	const struct tensor *t = &job->call.tensors[0];
	uint64_t id = job->m.id;
	uint32_t *count = NULL;

	if (order->i[0] == FAKE_EXIT_IDLE)
		_exit((int)order->i[1]);
	if (order->i[0] == FAKE_STOP)
		raise(SIGSTOP);
	running((uint64_t)loop + 1, id);
	if (t->dtype != DT_NONE) {
		if (t->slab >= SLABS || !maps[t->slab] || t->offset + t->bytes > map_bytes[t->slab])
			stop("a job's slab is not mapped");
		count = (uint32_t *)(void *)(maps[t->slab] + t->offset);
		if (order->i[0] != FAKE_UNREAPABLE)
			++*count;
	}
	switch ((enum fake_order)order->i[0]) {
	case FAKE_SLEEP:
		usleep((unsigned)order->i[1] * 1000u);
		break;
	case FAKE_ABORT:
		fprintf(stderr, "about to abort\n");
		abort();
	case FAKE_SEGV:
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
		break;
	case FAKE_HANG:
		for (;;)
			pause();
	case FAKE_EXIT:
		_exit((int)order->i[1]);
	case FAKE_ANSWER_EXIT:
		answer(loop, id, sizeof(struct msg_done), MSG_DONE, 0);
		_exit((int)order->i[1]);
	case FAKE_WRONG_ID:
		id += 1000;
		break;
	case FAKE_SHORT:
		answer(loop, id, sizeof(struct msg_done) - 8, MSG_DONE, 0);
		for (;;)
			pause();
	case FAKE_TYPE:
		answer(loop, id, sizeof(struct msg_done), MSG_JOB, 0);
		for (;;)
			pause();
	case FAKE_CODE:
		answer(loop, id, sizeof(struct msg_done), MSG_DONE, 123456);
		for (;;)
			pause();
	case FAKE_TWICE:
		answer(loop, id, sizeof(struct msg_done), MSG_DONE, 0);
		break;
	case FAKE_CONTROL:
		answer(loops, id, sizeof(struct msg_done), MSG_DONE, 0);
		for (;;)
			pause();
	case FAKE_CLOSE:
		for (int i = 0; i <= loops; i++)
			close(WORKER_FD_BASE + i);
		for (;;)
			pause();
	case FAKE_LOSE:
		running(0, 0);
		return;
	case FAKE_BABBLE:
		for (int64_t i = 0; i < order->i[1]; i++)
			fprintf(stderr, "line %lld of much \001\377 talk\n", (long long)i);
		abort();
	case FAKE_UNREAPABLE:
		unreapable(count);
		break;
	case FAKE_OK:
	case FAKE_STOP:
	case FAKE_EXIT_IDLE:
		break;
	}
	answer(loop, id, sizeof(struct msg_done), MSG_DONE, 0);
	running(0, 0);
	atomic_fetch_add(&status->finished, 1);
}

static void
read_control(void)
{
	struct msg m;
	int fd, n;

	while ((n = msg_recv(control, &m, sizeof(m), &fd)) > 0) {
		if (m.type != MSG_PING)
			stop("a message of no known kind");
		m.type = MSG_PONG;
		if (msg_send(control, &m, sizeof(m), -1) == -1)
			_exit(0);
	}
	if (n == 0)
		_exit(0);
	if (errno != EAGAIN)
		stop("a packet that is none");
}

static void
read_all(int loop)
{
	int fd, n;

	while ((n = line_get(&lines[loop], &packet, &fd)) > 0) {
		if (packet.m.type == MSG_MAP) {
			uint32_t s = packet.map.slab;

			if (fd == -1 || s >= SLABS)
				stop("a bad MAP");
			if (maps[s])
				munmap(maps[s], map_bytes[s]);
			map_bytes[s] = packet.map.bytes;
			maps[s] = mmap(NULL, map_bytes[s], PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			close(fd);
		} else if (packet.m.type == MSG_UNMAP) {
			if (maps[packet.map.slab])
				munmap(maps[packet.map.slab], map_bytes[packet.map.slab]);
			maps[packet.map.slab] = NULL;
		} else if (packet.m.type == MSG_JOB && queued < QUEUE) {
			queue[queued].loop = loop;
			queue[queued++].job = packet.job;
		} else if (packet.m.type == MSG_CANCEL) {
			for (unsigned i = 0; i < queued; i++) {
				if (queue[i].loop != loop || queue[i].job.m.id != packet.m.id)
					continue;
				memmove(&queue[i], &queue[i + 1], (queued - i - 1) * sizeof(queue[0]));
				queued--;
				answer(loop, packet.m.id, sizeof(struct msg_done), MSG_DONE, ERR_CLIENT_GONE);
				break;
			}
		} else {
			stop("a message of no known kind");
		}
	}
	if (n == -1)
		stop("a message that is none");
}

static void
start_orders(char *word, size_t size)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
	char *slash;
	FILE *f;

	*word = '\0';
	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return;
	strcpy(slash, "/orders");
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(word, (int)size, f))
		*word = '\0';
	word[strcspn(word, "\n")] = '\0';
	fclose(f);
}

int
main(int argc, char **argv)
{
	struct msg_hello hello;
	pthread_t thread;
	char word[32];

	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], "--loops") == 0)
			loops = atoi(argv[i + 1]);
	if (loops < 1 || loops > 64)
		return 2;
	control = WORKER_FD_BASE + loops;
	signal(SIGPIPE, SIG_IGN);
	status = mmap(NULL, sizeof(*status), PROT_READ | PROT_WRITE, MAP_SHARED, control + 1, 0);
	if (status == MAP_FAILED || pthread_create(&thread, NULL, lifeline, NULL) != 0)
		stop("no status page or no thread");
	start_orders(word, sizeof(word));
	if (strcmp(word, "exit2") == 0) {
		fprintf(stderr, "no such device\n");
		return 2;
	}
	if (strcmp(word, "die") == 0)
		abort();
	while (strcmp(word, "silent") == 0)
		pause();
	if (strcmp(word, "babble") == 0)
		for (int i = 0; i < 100000; i++)
			fprintf(stderr, "starting, step %d\n", i);

	memset(&hello, 0, sizeof(hello));
	hello.m = (struct msg){.type = MSG_HELLO, .length = sizeof(hello)};
	hello.version = MSG_VERSION;
	hello.pid = (uint32_t)getpid();
	snprintf(hello.build, sizeof(hello.build), "%s", strcmp(word, "build") == 0 ? "another" : msg_build());
	snprintf(hello.device.kind, sizeof(hello.device.kind), "%s", strcmp(word, "kind") == 0 ? "hip" : "cpu");
	snprintf(hello.device.name, sizeof(hello.device.name), "fake");
	hello.device.impls[0] = hello.device.impls[1] = 1u << IMPL_AUTO | 1u << IMPL_OWN;
	if (msg_send(control, &hello, sizeof(hello), -1) != 0)
		return 1;
	for (int i = 0; i < loops; i++)
		line_init(&lines[i], WORKER_FD_BASE + i);
	for (;;) {
		struct pollfd fds[65];
		bool asleep = queued == 0;

		for (int i = 0; i <= loops; i++)
			fds[i] = (struct pollfd){.fd = WORKER_FD_BASE + i, .events = POLLIN};
		for (int i = 0; asleep && i < loops; i++)
			asleep = line_sleep(&lines[i]);
		poll(fds, (nfds_t)loops + 1, asleep ? -1 : 0);
		if (fds[loops].revents)
			read_control();
		for (int i = 0; i < loops; i++) {
			int bell = fds[i].revents ? line_bell(&lines[i]) : 1;

			if (bell == 0)
				_exit(0);
			if (bell == -1)
				stop("a packet that is none");
			read_all(i);
		}
		if (queued) {
			static struct msg_job job;
			int loop = queue[0].loop;

			job = queue[0].job;
			memmove(&queue[0], &queue[1], --queued * sizeof(queue[0]));
			obey(loop, &job);
		}
	}
}
