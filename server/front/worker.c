/*
 * worker.c: the life of one device's worker process; worker.h. Called by supervisor.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "front/worker.h"
#include "log.h"

#define MS UINT64_C(1000000)
#define SEC (1000 * MS)
#define DELAY_MIN (100 * MS)
#define DELAY_MAX (10 * SEC)
#define STEADY (10 * SEC)    /* ready for so long: the next death is a new story */
#define REAP_LIMIT (5 * SEC) /* SIGKILLed and still there: lost */
#define REAP_POLL (10 * MS)
#define LOST_POLL (1 * SEC)
#define CLOSED_LIMIT (1 * SEC) /* its line is closed and the process still there */

static const char *const state_names[] = {
	[W_OFF] = "off",   [W_STARTING] = "starting", [W_READY] = "ready",
	[W_DEAD] = "dead", [W_FAILED] = "failed",     [W_LOST] = "lost",
};

const char *
worker_state_name(enum worker_state s)
{
	return state_names[s];
}

int
worker_init(struct worker *w, unsigned device, const char *kind, int ordinal, struct err *e)
{
	memset(w, 0, sizeof(*w));
	w->device = device;
	w->ordinal = ordinal;
	w->p = (struct spawned){.pid = -1, .pidfd = -1, .control = -1, .output = -1};
	snprintf(w->state.id, sizeof(w->state.id), "%s:%d", kind, ordinal);
	snprintf(w->state.info.kind, sizeof(w->state.info.kind), "%s", kind);
	snprintf(w->who, sizeof(w->who), "%s", w->state.id);
	w->state.pid = -1;
	w->status_fd = memfd_create("aiterd-status", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (w->status_fd == -1 || ftruncate(w->status_fd, sizeof(*w->status)) == -1 ||
	    fcntl(w->status_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		return err_set(e, ERR_INTERNAL, "no status page for %s: %s", w->state.id, strerror(errno));
	w->status = mmap(NULL, sizeof(*w->status), PROT_READ | PROT_WRITE, MAP_SHARED, w->status_fd, 0);
	if (w->status == MAP_FAILED) {
		w->status = NULL;
		return err_set(e, ERR_INTERNAL, "no status page for %s: %s", w->state.id, strerror(errno));
	}
	return 0;
}

/* Descriptors leave epoll by being closed: nobody else holds them. */
static void
fd_close(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

void
worker_close(struct supervisor *s, struct worker *w)
{
	fd_close(&w->p.control);
	fd_close(&w->p.output);
	fd_close(&w->p.pidfd);
	for (int i = 0; w->p.socks && i < s->config.loops; i++)
		fd_close(&w->p.socks[i]);
	free(w->p.socks);
	w->p.socks = NULL;
}

void
worker_fini(struct worker *w)
{
	if (w->status)
		munmap(w->status, sizeof(*w->status));
	w->status = NULL;
	fd_close(&w->status_fd);
}

static void
watch(struct supervisor *s, const struct worker *w, int fd, enum worker_fd what)
{
	struct epoll_event ev = {.events = EPOLLIN};

	ev.data.u64 = (uint64_t)w->state.generation << 16 | (uint64_t)w->device << 8 | (uint64_t)what;
	if (fd != -1 && epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) == -1)
		log_error("epoll_ctl: %s", strerror(errno));
}

static void
retry_later(struct worker *w, uint64_t now)
{
	w->retry_ns = now + w->delay_ns;
	w->delay_ns = w->delay_ns * 2 < DELAY_MAX ? w->delay_ns * 2 : DELAY_MAX;
}

void
worker_start(struct supervisor *s, struct worker *w)
{
	char path[1024];
	struct spawned p;
	struct err e = {0};
	uint64_t now;
	int rc;

	atomic_store(&w->status->running_loop, 0);
	atomic_store(&w->status->running_id, 0);
	atomic_store(&w->status->running_since_ns, 0);
	atomic_store(&w->status->allocated, 0);
	rc = spawn_find(s->config.worker_dir, w->state.info.kind, path, sizeof(path), &e);
	if (rc == 0)
		rc = spawn_worker(path, w->ordinal, s->config.loops, s->config.cpu_threads,
				  strcmp(w->state.info.kind, "cpu") != 0 ? s->config.aiter_dir : NULL, w->status_fd, &p,
				  &e);
	now = clock_ns();
	if (w->delay_ns == 0)
		w->delay_ns = DELAY_MIN;

	pthread_mutex_lock(&s->lock);
	w->state.generation++;
	w->since_ns = now;
	w->closed_ns = 0;
	w->killed = w->hopeless = w->told_up = w->pinged = false;
	last_words_init(&w->words);
	if (rc == -1) {
		w->state.obituary = e;
		w->state.state = e.code == ERR_DEVICE_UNAVAILABLE ? W_FAILED : W_DEAD;
		w->tell_hopeless = w->state.state == W_FAILED;
		retry_later(w, now);
		log_error("%s: %s", w->state.id, e.msg);
	} else {
		w->p = p;
		w->state.pid = p.pid;
		w->state.state = W_STARTING;
		snprintf(w->who, sizeof(w->who), "%s (pid %d)", w->state.id, (int)p.pid);
		watch(s, w, p.control, WORKER_CONTROL);
		watch(s, w, p.output, WORKER_OUTPUT);
		watch(s, w, p.pidfd, WORKER_PIDFD);
		log_debug("%s: started %s", w->who, path);
	}
	pthread_mutex_unlock(&s->lock);
}

void
worker_kill(struct supervisor *s, struct worker *w, const struct err *why)
{
	if (w->p.pid == -1 || w->killed)
		return;
	w->killed = true;
	w->killed_ns = clock_ns();
	w->kill_why = *why;
	w->state.state = W_DEAD;
	/* Until it is reaped it may still write what it has mapped. */
	if (s->config.pool)
		arena_quarantine(s->config.pool, w->device);
	kill(w->p.pid, SIGKILL);
}

static void
kill_for(struct supervisor *s, struct worker *w, enum err_code code, const char *what)
{
	struct err why = {0};

	err_set(&why, code, "worker %s %s", w->who, what);
	log_error("%s", why.msg);
	pthread_mutex_lock(&s->lock);
	w->hopeless = w->hopeless || code == ERR_DEVICE_UNAVAILABLE;
	worker_kill(s, w, &why);
	pthread_mutex_unlock(&s->lock);
}

static void
tell_gone(struct supervisor *s, const struct worker *w, uint64_t loop, uint64_t id, const struct err *why)
{
	const struct supervisor_events *ev = &s->config.events;

	for (int i = 0; ev->gone && i < s->config.loops; i++)
		ev->gone(ev->cls, i, w->device, w->state.generation, loop, id, why);
}

/* Nobody is to wait for this device: there will be no other worker, or not soon. */
static void
tell_hopeless(struct supervisor *s, struct worker *w)
{
	struct err why = {0};

	w->tell_hopeless = false;
	err_set(&why, ERR_DEVICE_UNAVAILABLE, "device %s is %s: %.400s", w->state.id, worker_state_name(w->state.state),
		w->state.obituary.msg);
	tell_gone(s, w, 0, 0, &why);
}

/* Which of AITER's kernels it has; a warning when it was given a folder in which there are none to use. */
static void
log_aiter(const struct worker *w, const struct device_info *d)
{
	uint32_t impls = 0;

	for (int i = 0; i < MSG_OPS_MAX; i++)
		impls |= d->impls[i];
	if (d->aiter[0] != '\0' && (impls >> IMPL_AITER & 1))
		log_info("%s has of AITER %s", w->who, d->aiter);
	else if (d->aiter[0] != '\0')
		log_warn("%s has %s", w->who, d->aiter);
}

static void
hello(struct supervisor *s, struct worker *w, struct msg_hello *h)
{
	const struct supervisor_events *ev = &s->config.events;
	char what[200];
	bool alive;

	h->build[sizeof(h->build) - 1] = '\0';
	if (h->version != MSG_VERSION || strcmp(h->build, msg_build()) != 0) {
		snprintf(what, sizeof(what), "is of another build: '%.63s', not '%.63s'", h->build, msg_build());
		kill_for(s, w, ERR_DEVICE_UNAVAILABLE, what);
		return;
	}
	h->device.kind[sizeof(h->device.kind) - 1] = '\0';
	h->device.name[sizeof(h->device.name) - 1] = '\0';
	h->device.arch[sizeof(h->device.arch) - 1] = '\0';
	h->device.runtime[sizeof(h->device.runtime) - 1] = '\0';
	h->device.driver[sizeof(h->device.driver) - 1] = '\0';
	h->device.aiter[sizeof(h->device.aiter) - 1] = '\0';
	if (strcmp(h->device.kind, w->state.info.kind) != 0) {
		snprintf(what, sizeof(what), "says it is a '%s' device", h->device.kind);
		kill_for(s, w, ERR_DEVICE_UNAVAILABLE, what);
		return;
	}
	pthread_mutex_lock(&s->lock);
	w->state.info = h->device;
	alive = !w->killed;
	if (alive)
		w->state.state = W_READY;
	w->since_ns = w->ping_ns = clock_ns();
	pthread_mutex_unlock(&s->lock);
	if (!alive)
		return;
	log_info("%s is ready: %s, %s", w->who, h->device.name, h->device.arch);
	log_aiter(w, &h->device);
	w->told_up = true;
	for (int i = 0; i < s->config.loops; i++) {
		int sock = w->p.socks[i];

		w->p.socks[i] = -1;
		if (ev->up)
			ev->up(ev->cls, i, w->device, w->state.generation, sock, w->status);
		else
			close(sock);
	}
}

static void
control_read(struct supervisor *s, struct worker *w)
{
	static union {
		struct msg m;
		struct msg_hello hello;
	} packet;
	int fd, n;

	while (w->p.control != -1 && (n = msg_recv(w->p.control, &packet, sizeof(packet), &fd)) != -1) {
		if (fd != -1)
			close(fd);
		if (n == 0) {
			/* It is dying, most likely: its status says more than we could. */
			w->closed_ns = clock_ns();
			fd_close(&w->p.control);
			return;
		}
		if (packet.m.type == MSG_HELLO && (size_t)n == sizeof(packet.hello) && !w->told_up) {
			hello(s, w, &packet.hello);
		} else if (packet.m.type == MSG_PONG && (size_t)n == sizeof(struct msg) && w->told_up) {
			w->pinged = false;
			w->ping_ns = clock_ns();
		} else {
			kill_for(s, w, ERR_WORKER_CRASHED, "sent the supervisor something that makes no sense");
			fd_close(&w->p.control);
			return;
		}
	}
	if (w->p.control != -1 && errno != EAGAIN) {
		kill_for(s, w, ERR_WORKER_CRASHED, "sent the supervisor something that is no message");
		fd_close(&w->p.control);
	}
}

static void
obituary_write(struct worker *w, int status, bool starting)
{
	struct err *o = &w->state.obituary;
	char how[160], words[400]; /* a GPU's runtime takes two lines to tell of a fault */
	const char *more = "";
	const char *when = starting				   ? " while starting"
			   : atomic_load(&w->status->running_loop) ? " while running a job"
								   : "";

	last_words_text(&w->words, words, sizeof(words));
	if (w->killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		struct err why = w->kill_why;

		*o = why;
		if (*words)
			snprintf(o->msg, sizeof(o->msg), "%.230s; its last words: %.260s", why.msg, words);
		return;
	}
	if (WIFSIGNALED(status)) {
		snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
		if (WCOREDUMP(status))
			more = ", core dumped";
		else if (WTERMSIG(status) == SIGKILL)
			more = ", perhaps because memory ran out";
	} else {
		snprintf(how, sizeof(how), "exited with status %d", WEXITSTATUS(status));
	}
	memset(o, 0, sizeof(*o));
	err_set(o, ERR_WORKER_CRASHED, "worker %s %s%s%s%s%s", w->who, how, when, more,
		*words ? "; its last words: " : "", words);
}

/* Bury it if it is dead. */
static void
reap(struct supervisor *s, struct worker *w)
{
	bool starting, was_lost, told = w->told_up;
	uint64_t now = clock_ns(), loop, id;
	struct err obituary;
	int status = 0;
	pid_t pid;

	if (w->p.pid == -1)
		return;
	/* Its number is ours until this succeeds; the lock keeps worker_kill from using it afterwards. */
	pthread_mutex_lock(&s->lock);
	pid = waitpid(w->p.pid, &status, WNOHANG);
	if (pid == w->p.pid || (pid == -1 && errno == ECHILD)) {
		w->p.pid = -1;
		w->state.pid = -1;
	}
	pthread_mutex_unlock(&s->lock);
	if (w->p.pid != -1)
		return;

	if (w->p.output != -1)
		(void)last_words_read(&w->words, w->p.output, w->who);
	last_words_finish(&w->words, w->who);
	/* The page says what ran; it stays as it is until the next start. */
	loop = atomic_load(&w->status->running_loop);
	id = atomic_load(&w->status->running_id);

	pthread_mutex_lock(&s->lock);
	starting = !told;
	was_lost = w->state.state == W_LOST;
	obituary_write(w, status, starting);
	if (w->hopeless || (WIFEXITED(status) && WEXITSTATUS(status) == 2))
		w->state.state = W_FAILED;
	else
		w->state.state = W_DEAD;
	if (!starting && now - w->since_ns > STEADY)
		w->delay_ns = DELAY_MIN;
	retry_later(w, now);
	worker_close(s, w);
	obituary = w->state.obituary;
	pthread_mutex_unlock(&s->lock);

	if (s->config.pool)
		arena_release(s->config.pool, w->device);
	/* What a loop had it killed for is written for the client, to whom processes are nothing. */
	if (strstr(obituary.msg, w->who))
		log_error("%s", obituary.msg);
	else
		log_error("worker %s: %s", w->who, obituary.msg);
	if (told && !was_lost)
		tell_gone(s, w, loop, id, &obituary);
	if (w->state.state == W_FAILED)
		tell_hopeless(s, w);
}

/* SIGKILL did not do it: the process hangs in a driver. The loops must not wait any longer. */
static void
lose(struct supervisor *s, struct worker *w)
{
	struct err why;

	pthread_mutex_lock(&s->lock);
	w->state.state = W_LOST;
	w->state.obituary = why = w->kill_why;
	pthread_mutex_unlock(&s->lock);
	log_error("%s was killed but does not die; its device is lost until it does", w->who);
	if (w->told_up)
		tell_gone(s, w, atomic_load(&w->status->running_loop), atomic_load(&w->status->running_id), &why);
	tell_hopeless(s, w);
}

static void
ping(struct supervisor *s, struct worker *w, uint64_t now)
{
	uint64_t interval = s->config.ping_s * SEC, finished = atomic_load(&w->status->finished);
	struct msg m = {.type = MSG_PING, .length = sizeof(m)};

	if (interval == 0 || w->p.control == -1 || now - w->ping_ns < interval)
		return;
	if (atomic_load(&w->status->running_loop) != 0 || (w->pinged && finished != w->ping_finished)) {
		/* Busy: a hang is its job's deadline's matter. The time begins anew. */
		w->ping_ns = now;
		w->ping_finished = finished;
		return;
	}
	if (w->pinged) {
		kill_for(s, w, ERR_WORKER_CRASHED, "is idle and does not answer: it hangs");
		return;
	}
	if (msg_send(w->p.control, &m, sizeof(m), -1) == 0) {
		w->pinged = true;
		w->ping_finished = finished;
	}
	w->ping_ns = now;
}

void
worker_event(struct supervisor *s, struct worker *w, enum worker_fd what)
{
	switch (what) {
	case WORKER_CONTROL:
		control_read(s, w);
		break;
	case WORKER_OUTPUT:
		if (w->p.output != -1 && last_words_read(&w->words, w->p.output, w->who) == 0)
			fd_close(&w->p.output);
		break;
	case WORKER_PIDFD:
		reap(s, w);
		break;
	}
}

void
worker_tick(struct supervisor *s, struct worker *w, uint64_t now)
{
	struct device_state *st = &w->state;
	uint64_t killed_ns;
	bool killed;

	if (w->tell_hopeless)
		tell_hopeless(s, w);
	if (w->p.pid == -1) {
		if (st->state == W_DEAD && now >= w->retry_ns) {
			pthread_mutex_lock(&s->lock);
			st->restarts++;
			pthread_mutex_unlock(&s->lock);
			worker_start(s, w);
		}
		return;
	}
	pthread_mutex_lock(&s->lock);
	killed = w->killed;
	killed_ns = w->killed_ns;
	pthread_mutex_unlock(&s->lock);
	if (killed || w->p.pidfd == -1) {
		reap(s, w);
		if (w->p.pid == -1)
			return;
	}
	if (killed) {
		if (st->state != W_LOST && now - killed_ns >= REAP_LIMIT && now > killed_ns)
			lose(s, w);
		return;
	}
	if (w->closed_ns != 0 && now - w->closed_ns >= CLOSED_LIMIT)
		kill_for(s, w, ERR_WORKER_CRASHED, "closed its line to the supervisor without leaving");
	else if (!w->told_up && now - w->since_ns >= s->config.start_timeout_s * SEC)
		kill_for(s, w, ERR_WORKER_CRASHED, "did not get ready in time");
	else if (w->told_up)
		ping(s, w, now);
}

uint64_t
worker_due(const struct supervisor *s, const struct worker *w)
{
	uint64_t due = UINT64_MAX;

	if (w->tell_hopeless)
		return 0;
	if (w->p.pid == -1)
		return w->state.state == W_DEAD ? w->retry_ns : UINT64_MAX;
	if (w->killed || w->p.pidfd == -1)
		due = clock_ns() + (w->state.state == W_LOST ? LOST_POLL : REAP_POLL);
	if (w->killed)
		return due;
	if (w->closed_ns != 0 && w->closed_ns + CLOSED_LIMIT < due)
		due = w->closed_ns + CLOSED_LIMIT;
	if (!w->told_up && w->since_ns + s->config.start_timeout_s * SEC < due)
		due = w->since_ns + s->config.start_timeout_s * SEC;
	if (w->told_up && w->p.control != -1 && s->config.ping_s != 0 && w->ping_ns + s->config.ping_s * SEC < due)
		due = w->ping_ns + s->config.ping_s * SEC;
	return due;
}
