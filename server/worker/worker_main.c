/*
 * worker_main.c: main of aiterd-worker-*: one process that owns one device and carries out the jobs that the front's
 * event loops send, one after the other (msg.h has the conversation). Started by the front only.
 *
 * Exit status: 0 the front is gone or wants it, 1 something is wrong (the front starts another), 2 this will never
 * work here. Threads: main does everything; `lifeline` leaves when the front does, even if a kernel hangs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "worker/device.h"
#include "worker/maps.h"
#include "worker/run.h"

#define LOOPS_MAX 256
#define HELD_MAX 16
#define HELD_NS 100000u	   /* how long an answer is held back at most, beside one tiny job */
#define LOOK_NS 100000u	   /* how long a GPU's worker looks for the next job before it sleeps */
#define LISTEN_NS 1000000u /* while jobs wait here, look for new messages (CANCEL) this often */

struct job { /* in the queue, or spare */
	struct job *next;
	uint32_t loop;
	struct msg_job msg;
};

struct worker {
	struct device d;
	struct maps *maps;
	struct worker_status *status;
	int loops;
	struct job *head, **tail, *spare;
	struct job *running;		/* NULL: none */
	bool cancelled;			/* the running one */
	uint64_t listened;		/* when */
	struct msg_done done;		/* the running job's answer */
	struct msg_done held[HELD_MAX]; /* answers to jobs so small that one wake-up serves several */
	int held_loop[HELD_MAX], n_held;
	struct pollfd fds[LOOPS_MAX + 1]; /* the loops' sockets, then the control socket */
};

static union {
	struct msg m;
	struct msg_map map;
	struct msg_job job;
	struct msg_hello hello;
	struct msg_done done;
} packet;

/* For what the front must never send: say so and leave. */
static void
refuse(const char *what, const struct err *e)
{
	fprintf(stderr, "refusing to go on: %s%s%s\n", what, e ? ": " : "", e ? e->msg : "");
	exit(1);
}

static void *
lifeline(void *arg)
{
	struct pollfd p = {.fd = *(const int *)arg, .events = POLLRDHUP};

	while (poll(&p, 1, -1) != 1 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)))
		;
	_exit(0);
}

static void
status_set(struct worker *w, uint64_t loop, uint64_t id, uint64_t now)
{
	/* The loop last when a job begins, first when it ends: a reader that sees a loop sees its job. */
	if (loop == 0)
		atomic_store_explicit(&w->status->running_loop, 0, memory_order_release);
	atomic_store_explicit(&w->status->running_id, id, memory_order_release);
	atomic_store_explicit(&w->status->running_since_ns, now, memory_order_release);
	if (loop != 0)
		atomic_store_explicit(&w->status->running_loop, loop, memory_order_release);
}

/* Send to the front, waiting while its socket is full; if it is gone, so are we. */
static void
send_all(int sock, const void *m, size_t len)
{
	int rc;

	while ((rc = msg_send(sock, m, len, -1)) == 1) {
		struct pollfd p = {.fd = sock, .events = POLLOUT};

		(void)poll(&p, 1, 100);
	}
	if (rc == -1)
		exit(0);
}

/* Send the answers held back; each loop's in one system call, so that it is woken once. */
static void
held_send(struct worker *w)
{
	const void *batch[HELD_MAX];
	int loop, n, sent;

	for (int i = 0; i < w->n_held; i++) {
		if (w->held_loop[i] == -1)
			continue;
		loop = w->held_loop[i];
		n = 0;
		for (int k = i; k < w->n_held; k++) {
			if (w->held_loop[k] != loop)
				continue;
			batch[n++] = &w->held[k];
			w->held_loop[k] = -1;
		}
		sent = n > 1 ? msg_send_many(WORKER_FD_BASE + loop, batch, sizeof(w->held[0]), n) : 0;
		if (sent == -1)
			exit(0);
		for (; sent < n; sent++)
			send_all(WORKER_FD_BASE + loop, batch[sent], sizeof(w->held[0]));
	}
	w->n_held = 0;
}

/* Answer a job; the answer may be held back a little. */
static void
done_put(struct worker *w, uint32_t loop, uint64_t id, struct msg_done *done)
{
	done->m = (struct msg){.type = MSG_DONE, .length = sizeof(*done), .id = id};
	w->held[w->n_held] = *done;
	w->held_loop[w->n_held] = (int)loop;
	if (++w->n_held == HELD_MAX)
		held_send(w);
}

/* So little work that the answers before it may wait for it. */
static bool
job_is_tiny(const struct job *j)
{
	uint64_t bytes = 0;

	for (int i = 0; i < OP_TENSORS_MAX; i++)
		bytes += j->msg.call.tensors[i].bytes;
	return bytes <= RUN_TINY_BYTES && j->msg.warmup + j->msg.iters <= 2 && !j->msg.flush &&
	       j->msg.baseline == IMPL_AUTO && j->msg.impl != IMPL_REFERENCE;
}

static void
job_queue(struct worker *w, uint32_t loop)
{
	struct job *j = w->spare;
	struct err e = {0};

	if (j)
		w->spare = j->next;
	else
		j = xcalloc(1, sizeof(*j));
	j->msg = packet.job;
	j->loop = loop;
	j->next = NULL;
	if (maps_job(w->maps, &j->msg, &e) == -1)
		refuse("a job is malformed", &e);
	*w->tail = j;
	w->tail = &j->next;
}

static void
job_spare(struct worker *w, struct job *j)
{
	j->next = w->spare;
	w->spare = j;
}

static void
job_cancel(struct worker *w, uint32_t loop, uint64_t id)
{
	struct msg_done done = {.err.code = ERR_NONE};

	if (w->running != NULL && w->running->loop == loop && w->running->msg.m.id == id) {
		w->cancelled = true; /* between two of its runs it will see that */
		return;
	}
	for (struct job **p = &w->head; *p; p = &(*p)->next) {
		struct job *j = *p;

		if (j->loop != loop || j->msg.m.id != id)
			continue;
		*p = j->next;
		if (!*p)
			w->tail = p;
		err_set(&done.err, ERR_CLIENT_GONE, "taken out of the queue before it ran");
		done_put(w, loop, id, &done);
		job_spare(w, j);
		return;
	}
	/* Not here: its DONE is already on the way. */
}

/* One packet that is in `packet`. */
static void
handle(struct worker *w, int sock, uint32_t loop, int fd)
{
	size_t length = packet.m.length;
	bool control = (int)loop == w->loops;
	struct err e = {0};

	if (control && packet.m.type == MSG_PING && length == sizeof(struct msg)) {
		packet.m.type = MSG_PONG;
		send_all(sock, &packet.m, sizeof(struct msg));
	} else if (!control && packet.m.type == MSG_JOB && length == sizeof(packet.job)) {
		job_queue(w, loop);
	} else if (!control && packet.m.type == MSG_CANCEL && length == sizeof(struct msg)) {
		job_cancel(w, loop, packet.m.id);
	} else if (!control && packet.m.type == MSG_MAP && length == sizeof(packet.map)) {
		int taken = fd;

		fd = -1;
		if (maps_add(w->maps, &packet.map, taken, &e) == -1)
			refuse("a slab cannot be used", &e);
	} else if (!control && packet.m.type == MSG_UNMAP && length == sizeof(packet.map)) {
		maps_remove(w->maps, &packet.map);
	} else {
		err_set(&e, ERR_INTERNAL, "type %u, %u bytes, on socket %u", packet.m.type, packet.m.length, loop);
		refuse("a message makes no sense", &e);
	}
	if (fd != -1)
		close(fd);
}

/* Take in all that has arrived at a socket. */
static void
drain(struct worker *w, uint32_t loop)
{
	int sock = WORKER_FD_BASE + (int)loop, fd, n;

	while ((n = msg_recv(sock, &packet, sizeof(packet), &fd)) > 0)
		handle(w, sock, loop, fd);
	if (n == 0)
		exit(0);
	if (errno != EAGAIN)
		refuse(errno == EPROTO ? "a packet is no message" : strerror(errno), NULL);
}

/* Wait for messages for at most timeout_ms (-1: for ever) and take them all in. */
static void
listen_all(struct worker *w, int timeout_ms)
{
	int n = poll(w->fds, (nfds_t)w->loops + 1, timeout_ms);

	if (n == -1 && errno != EINTR)
		refuse(strerror(errno), NULL);
	for (uint32_t i = 0; n > 0 && i <= (uint32_t)w->loops; i++)
		if (w->fds[i].revents)
			drain(w, i);
}

/* run.c asks between two runs of a job: has it been cancelled? */
static bool
job_unwanted(void *cls)
{
	struct worker *w = cls;
	uint64_t now = clock_ns();

	if (now - w->listened > LISTEN_NS) {
		listen_all(w, 0);
		w->listened = now;
		held_send(w);
	}
	return w->cancelled;
}

/*
 * The running job gets no answer: the front fails it with all that was written here, by the device's runtime too. Not
 * exit(): a runtime that cleans up may wait for the lost device.
 */
static void
leave_lost(struct worker *w, const struct err *e)
{
	fprintf(stderr, "lost the device: %s\n", e->msg);
	held_send(w);
	_exit(1);
}

static void
job_run(struct worker *w, struct job *j)
{
	struct worker_status *st = w->status;
	const struct run_watch watch = {job_unwanted, w};
	struct msg_done *done = &w->done;
	uint64_t begin = clock_ns();

	memset(done, 0, sizeof(*done));
	done->wait_ms = (double)(begin - j->msg.submitted_ns) / 1e6;
	if (j->msg.deadline_ns != 0 && begin > j->msg.deadline_ns) {
		err_param(&done->err, ERR_DEADLINE_EXCEEDED, "timeout_ms", NULL, NULL,
			  "the time was up before the device was free");
	} else {
		w->running = j;
		w->cancelled = false;
		status_set(w, (uint64_t)j->loop + 1, j->msg.m.id, begin);
		run_job(&w->d, &j->msg, &watch, done);
		w->running = NULL;
		atomic_store_explicit(&st->allocated, w->d.allocated, memory_order_relaxed);
		if (w->d.peak > atomic_load_explicit(&st->peak, memory_order_relaxed))
			atomic_store_explicit(&st->peak, w->d.peak, memory_order_relaxed);
		atomic_fetch_add_explicit(&st->busy_ns, clock_ns() - begin, memory_order_relaxed);
		atomic_fetch_add_explicit(&st->finished, 1, memory_order_relaxed);
		if (w->d.lost)
			leave_lost(w, &done->err);
	}
	done_put(w, j->loop, j->msg.m.id, done);
	if (!job_is_tiny(j))
		held_send(w); /* told before the page is cleared: a death from here on does not take the answer along */
	status_set(w, 0, 0, 0);
	job_spare(w, j);
}

/* Waking a thread takes about as long as a small job on a GPU does; the cpu device needs its cores for other things. */
static void
look(struct worker *w)
{
	uint64_t until = clock_ns() + LOOK_NS;

	while (!w->head && clock_ns() < until)
		listen_all(w, 0);
}

static void
serve(struct worker *w)
{
	uint64_t held_ns = 0, now;

	for (;;) {
		struct job *j;

		now = clock_ns();
		if (w->n_held > 0 && (w->head == NULL || !job_is_tiny(w->head) || now - held_ns > HELD_NS))
			held_send(w);
		if (!w->head && !w->d.ops->unified)
			look(w);
		if (!w->head || now - w->listened > LISTEN_NS) {
			listen_all(w, w->head ? 0 : -1);
			w->listened = clock_ns();
		}
		j = w->head;
		if (!j)
			continue;
		w->head = j->next;
		if (!w->head)
			w->tail = &w->head;
		if (w->n_held == 0)
			held_ns = now;
		job_run(w, j);
	}
}

static void
hello(struct worker *w)
{
	struct msg_hello *h = &packet.hello;

	memset(h, 0, sizeof(*h));
	h->m = (struct msg){.type = MSG_HELLO, .length = sizeof(*h)};
	h->version = MSG_VERSION;
	h->pid = (uint32_t)getpid();
	snprintf(h->build, sizeof(h->build), "%s", msg_build());
	dev_info(&w->d, &h->device);
	send_all(WORKER_FD_BASE + w->loops, h, sizeof(*h));
}

static int
number(const char *text, int max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (!*text || *end || n < 0 || n > max) {
		fprintf(stderr, "'%s' is no number from 0 to %d\n", text, max);
		exit(2);
	}
	return (int)n;
}

/* When memory runs out, the kernel shall take a worker, which is replaced, and not the front. */
static void
sacrifice(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd != -1) {
		if (write(fd, "500", 3) == -1)
			fprintf(stderr, "oom_score_adj: %s\n", strerror(errno));
		close(fd);
	}
}

int
main(int argc, char **argv)
{
	static struct worker w;
	static int control;
	int ordinal = 0, threads = 0, status_fd;
	char name[16];
	struct err e = {0};
	pthread_t thread;

	w.tail = &w.head;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--ordinal") == 0)
			ordinal = number(argv[i + 1], 255);
		else if (strcmp(argv[i], "--loops") == 0)
			w.loops = number(argv[i + 1], LOOPS_MAX);
		else if (strcmp(argv[i], "--threads") == 0)
			threads = number(argv[i + 1], 1024);
		else
			w.loops = 0;
	}
	control = WORKER_FD_BASE + w.loops;
	status_fd = control + 1;
	if (w.loops == 0 || argc % 2 == 0 || fcntl(status_fd, F_GETFD) == -1) {
		fprintf(stderr, "%s is started by aiterd, not by hand\n", argv[0]);
		return 2;
	}
	/* A signal meant for the whole service is the front's to answer; the end of its sockets is ours. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	close_range((unsigned)status_fd + 1, ~0u, 0);
	for (int i = WORKER_FD_BASE; i <= status_fd; i++)
		(void)fcntl(i, F_SETFD, FD_CLOEXEC);
	for (int i = 0; i <= w.loops; i++) {
		w.fds[i] = (struct pollfd){.fd = WORKER_FD_BASE + i, .events = POLLIN};
		(void)fcntl(WORKER_FD_BASE + i, F_SETFL, O_NONBLOCK);
	}
	w.status = mmap(NULL, sizeof(*w.status), PROT_READ | PROT_WRITE, MAP_SHARED, status_fd, 0);
	if (w.status == MAP_FAILED)
		refuse("the status page cannot be mapped", NULL);
	close(status_fd);
	if (pthread_create(&thread, NULL, lifeline, &control) != 0)
		refuse("no thread for the lifeline", NULL);
	sacrifice();

	if (dev_open(&w.d, ordinal, threads, &e) == -1) {
		fprintf(stderr, "%s\n", e.msg);
		return e.code == ERR_DEVICE_UNAVAILABLE ? 2 : 1;
	}
	snprintf(name, sizeof(name), "aiterd-%.5s:%d", device_backend.kind, ordinal);
	prctl(PR_SET_NAME, name);
	w.maps = maps_new(&w.d);
	hello(&w);
	serve(&w);
}
