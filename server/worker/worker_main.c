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
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "clock.h"
#include "line.h"
#include "log.h"
#include "worker/device.h"
#include "worker/maps.h"
#include "worker/run.h"

#define LOOPS_MAX 256
#define QUIET_NS 100000u /* for so long at most an answer lies there before its loop is woken, beside one tiny job */
#define LINGER_NS 30000u /* being woken costs a loop more than this costs here: small requests come a third faster */
#define GPU_LINGER_NS 100000u /* waking up takes about as long as a small job; the cpu device needs its cores */
#define LISTEN_NS 1000000u    /* while jobs wait here, look for new messages (CANCEL) this often */

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
	struct job *running;  /* NULL: none */
	bool cancelled;	      /* the running one */
	uint64_t listened;    /* when */
	struct msg_done done; /* the running job's answer */
	struct line lines[LOOPS_MAX];
	uint32_t answered[LOOPS_MAX]; /* loops, each once, that got answers since ring_all: one wake-up serves several tiny jobs */
	uint32_t n_answered;
	bool is_answered[LOOPS_MAX];
	struct pollfd fds[LOOPS_MAX + 1]; /* the loops' sockets, then the control socket */
};

static union line_message packet;

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

/* Wake the loops that have answers and sleep. */
static void
ring_all(struct worker *w)
{
	for (uint32_t i = 0; i < w->n_answered; i++) {
		line_ring(&w->lines[w->answered[i]]);
		w->is_answered[w->answered[i]] = false;
	}
	w->n_answered = 0;
}

/* Answer a job; its loop is woken by ring_all. */
static void
done_put(struct worker *w, uint32_t loop, uint64_t id, struct msg_done *done)
{
	done->m = (struct msg){.type = MSG_DONE, .length = sizeof(*done), .id = id};
	if (line_put(&w->lines[loop], done, sizeof(*done)) != 0)
		refuse("there are more jobs than may be", NULL);
	if (!w->is_answered[loop])
		w->answered[w->n_answered++] = loop;
	w->is_answered[loop] = true;
}

/* So little work that the answers before it may wait for it. */
static bool
job_is_tiny(const struct job *j)
{
	uint64_t bytes = 0;

	if (j->msg.dry)
		return true;
	if (j->msg.bench != BENCH_NONE)
		return false;
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

/*
 * Copies of tensors that are gone: no job in the queue has them, for its request would have kept them alive. `all` says less: so
 * many went that nobody knows which. This may come in the middle of a job, which goes on using its own.
 */
static void
forget(struct worker *w, const struct msg_forget *f)
{
	if (f->all)
		copies_clear(&w->d);
	for (uint32_t i = 0; i < f->n; i++)
		copies_forget(&w->d, f->uids[i]);
	atomic_store_explicit(&w->status->allocated, w->d.allocated, memory_order_relaxed);
}

/* One message that is in `packet`. */
static void
handle(struct worker *w, uint32_t loop, int fd)
{
	size_t length = packet.m.length;
	struct err e = {0};

	if (packet.m.type == MSG_JOB && length == sizeof(packet.job)) {
		job_queue(w, loop);
	} else if (packet.m.type == MSG_CANCEL && length == sizeof(struct msg)) {
		job_cancel(w, loop, packet.m.id);
	} else if (packet.m.type == MSG_MAP && length == sizeof(packet.map)) {
		if (maps_add(w->maps, &packet.map, fd, &e) == -1)
			refuse("a slab cannot be used", &e);
	} else if (packet.m.type == MSG_UNMAP && length == sizeof(packet.map)) {
		maps_remove(w->maps, &packet.map);
	} else if (packet.m.type == MSG_FORGET && length == sizeof(packet.forget) && packet.forget.n <= MSG_FORGET_MAX) {
		forget(w, &packet.forget);
	} else {
		err_set(&e, ERR_INTERNAL, "type %u, %u bytes, from loop %u", packet.m.type, packet.m.length, loop);
		refuse("a message makes no sense", &e);
	}
}

/* Take in what the loops have put into their rings. */
static void
take_all(struct worker *w)
{
	for (uint32_t i = 0; i < (uint32_t)w->loops; i++) {
		int fd, n;

		while ((n = line_get(&w->lines[i], &packet, &fd)) > 0)
			handle(w, i, fd);
		if (n == -1)
			refuse("a message is none", NULL);
	}
}

/* The supervisor asks whether this process is alive. */
static void
control_read(int sock)
{
	struct msg m;
	int fd, n;

	while ((n = msg_recv(sock, &m, sizeof(m), &fd)) > 0) {
		if (m.type != MSG_PING || fd != -1)
			refuse("the supervisor sent no PING", NULL);
		m.type = MSG_PONG;
		send_all(sock, &m, sizeof(m));
	}
	if (n == 0)
		exit(0);
	if (errno != EAGAIN)
		refuse(errno == EPROTO ? "a packet is no message" : strerror(errno), NULL);
}

/* Wait for a bell or the supervisor, for at most timeout_ms (-1: for ever). */
static void
wait_all(struct worker *w, int timeout_ms)
{
	int n = poll(w->fds, (nfds_t)w->loops + 1, timeout_ms);

	if (n == -1 && errno != EINTR)
		refuse(strerror(errno), NULL);
	for (int i = 0; n > 0 && i < w->loops; i++) {
		int bell = w->fds[i].revents ? line_bell(&w->lines[i]) : 1;

		if (bell == 0)
			exit(0);
		if (bell == -1)
			refuse("a packet is no message", NULL);
	}
	if (n > 0 && w->fds[w->loops].revents)
		control_read(w->fds[w->loops].fd);
}

/* Whether a loop put something into its ring in the next moment, during which others have the processor. */
static bool
linger(struct worker *w)
{
	uint64_t until = clock_ns() + (w->d.ops->unified ? LINGER_NS : GPU_LINGER_NS);

	do {
		sched_yield();
		for (int i = 0; i < w->loops; i++)
			if (!line_empty(&w->lines[i]))
				return true;
	} while (clock_ns() < until);
	return false;
}

/* Nothing to do: wait until there is. */
static void
idle(struct worker *w)
{
	bool asleep = true;

	ring_all(w);
	if (linger(w))
		return;
	for (int i = 0; i < w->loops; i++)
		asleep = line_sleep(&w->lines[i]) && asleep;
	if (asleep)
		wait_all(w, -1);
	for (int i = 0; i < w->loops; i++)
		line_awake(&w->lines[i]);
}

static void
job_progress(void *cls, uint64_t runs, uint64_t of)
{
	struct worker *w = cls;

	atomic_store_explicit(&w->status->runs, runs, memory_order_relaxed);
	atomic_store_explicit(&w->status->runs_of, of, memory_order_relaxed);
}

/* run.c asks between two runs of a job: has it been cancelled? */
static bool
job_unwanted(void *cls)
{
	struct worker *w = cls;
	uint64_t now = clock_ns();

	if (now - w->listened > LISTEN_NS) {
		wait_all(w, 0);
		take_all(w);
		ring_all(w);
		w->listened = now;
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
	ring_all(w);
	_exit(1);
}

static void
job_run(struct worker *w, struct job *j)
{
	struct worker_status *st = w->status;
	const struct run_watch watch = {job_unwanted, job_progress, w};
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
		job_progress(w, 0, 0);
		status_set(w, (uint64_t)j->loop + 1, j->msg.m.id, begin);
		run_job(&w->d, &j->msg, &watch, done);
		w->running = NULL;
		atomic_store_explicit(&st->allocated, w->d.allocated, memory_order_relaxed);
		if (w->d.peak > atomic_load_explicit(&st->peak, memory_order_relaxed))
			atomic_store_explicit(&st->peak, w->d.peak, memory_order_relaxed);
		atomic_fetch_add_explicit(&st->busy_ns, clock_ns() - begin, memory_order_relaxed);
		if (!j->msg.dry)
			atomic_fetch_add_explicit(&st->finished, 1, memory_order_relaxed);
		if (w->d.lost)
			leave_lost(w, &done->err);
	}
	/* Told before the page is cleared: a death from here on does not take the answer along. */
	done_put(w, j->loop, j->msg.m.id, done);
	status_set(w, 0, 0, 0);
	if (!job_is_tiny(j))
		ring_all(w);
	job_spare(w, j);
}

static void
serve(struct worker *w)
{
	uint64_t quiet_ns = 0, now;

	for (;;) {
		struct job *j;

		/* Looking into every loop's ring costs as much as a tiny job where there are many: only when out of work. */
		if (!w->head)
			take_all(w);
		j = w->head;
		if (!j) {
			idle(w);
			continue;
		}
		now = clock_ns();
		if (w->n_answered > 0 && (!job_is_tiny(j) || now - quiet_ns > QUIET_NS))
			ring_all(w);
		if (now - w->listened > LISTEN_NS) {
			wait_all(w, 0);
			take_all(w);
			w->listened = now;
		}
		if (w->n_answered == 0)
			quiet_ns = now;
		w->head = j->next;
		if (!w->head)
			w->tail = &w->head;
		job_run(w, j);
	}
}

static void
hello(struct worker *w)
{
	static struct msg_hello h;

	h.m = (struct msg){.type = MSG_HELLO, .length = sizeof(h)};
	h.version = MSG_VERSION;
	h.pid = (uint32_t)getpid();
	snprintf(h.build, sizeof(h.build), "%s", msg_build());
	dev_info(&w->d, &h.device);
	send_all(WORKER_FD_BASE + w->loops, &h, sizeof(h));
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
	const char *aiter_dir = NULL;
	char name[32]; /* of which the kernel keeps 15 characters */
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
		else if (strcmp(argv[i], "--aiter-dir") == 0)
			aiter_dir = argv[i + 1];
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
		if (i < w.loops)
			line_init(&w.lines[i], WORKER_FD_BASE + i);
	}
	w.status = mmap(NULL, sizeof(*w.status), PROT_READ | PROT_WRITE, MAP_SHARED, status_fd, 0);
	if (w.status == MAP_FAILED)
		refuse("the status page cannot be mapped", NULL);
	close(status_fd);
	if (pthread_create(&thread, NULL, lifeline, &control) != 0)
		refuse("no thread for the lifeline", NULL);
	sacrifice();

	if (dev_open(&w.d, ordinal, threads, aiter_dir, &e) == -1) {
		fprintf(stderr, "%s\n", e.msg);
		return e.code == ERR_DEVICE_UNAVAILABLE ? 2 : 1;
	}
	snprintf(name, sizeof(name), "aiterd-%.5s:%d", device_backend.kind, ordinal);
	prctl(PR_SET_NAME, name);
	w.maps = maps_new(&w.d);
	hello(&w);
	serve(&w);
}
