/* loop.c: see loop.h. */
#include "front/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "front/conn.h"
#include "front/http.h"
#include "front/problem.h"
#include "log.h"

#define SWEEP_NS 250000000u
#define EXPIRE_NS 20000000u /* while jobs run: how exact their deadlines are */
#define EVENTS 128
#define LINGER_NS 60000u /* about as long as a small job takes on a GPU, and as waking up twice does */
#define LINGER_CORES 4	 /* where there are fewer, somebody else has use for them */
#define ACCEPTS 64	 /* per turn */
#define WARN_NS 1000000000u
#define PAUSE_NS 100000000u /* of listening, when descriptors have run out */

int
loop_watch(struct loop *l, int fd, struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(l->epfd, EPOLL_CTL_MOD, fd, &ev) == 0)
		return 0;
	log_error("epoll_ctl: %s", strerror(errno));
	return -1;
}

void
loop_unwatch(struct loop *l, int fd)
{
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---------------------------------------------------------------- news from other threads */

void
loop_post(struct loop *l, struct loop_task *t)
{
	uint64_t one = 1;

	t->next = NULL;
	pthread_mutex_lock(&l->box_lock);
	*l->box_tail = t;
	l->box_tail = &t->next;
	pthread_mutex_unlock(&l->box_lock);
	while (write(l->wakefd, &one, sizeof(one)) == -1 && errno == EINTR)
		;
}

static void
wake_ready(struct loop_source *s, uint32_t events)
{
	struct loop *l = (struct loop *)((char *)s - offsetof(struct loop, wake_source));
	struct loop_task *t, *next;
	uint64_t n;

	(void)events;
	if (read(l->wakefd, &n, sizeof(n)) == -1 && errno != EAGAIN)
		log_error("eventfd: %s", strerror(errno));
	pthread_mutex_lock(&l->box_lock);
	t = l->box_head;
	l->box_head = NULL;
	l->box_tail = &l->box_head;
	pthread_mutex_unlock(&l->box_lock);
	for (; t != NULL; t = next) {
		next = t->next;
		t->run(t);
	}
}

static void
http_is_ready(struct loop_source *s, uint32_t events)
{
	struct loop *l = (struct loop *)((char *)s - offsetof(struct loop, http_source));

	(void)events;
	l->http_ready = true;
}

/* ---------------------------------------------------------------- connections */

/* Too many: said in a reply, so that nobody has to guess; what it may have sent is not read. */
static void
refuse_connection(struct loop *l, int fd, const struct err *e)
{
	struct text t;

	if (l->now_ns - l->refused_ns > WARN_NS) {
		log_warn("a connection was refused: %s", e->msg);
		l->refused_ns = l->now_ns;
	}
	text_init(&t, 16 * 1024);
	problem_raw(&t, l->svc, e, NULL);
	if (!t.failed && send(fd, t.p, t.len, MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
		log_debug("a refusal could not be sent: %s", strerror(errno));
	text_fini(&t);
	shutdown(fd, SHUT_WR);
	close(fd);
}

static void
accept_one(struct loop_listener *li, int fd, struct sockaddr_storage *addr, socklen_t len)
{
	struct loop *l = li->loop;
	struct err e = {0};
	int one = 1;

	if (conn_new(l, fd, (struct sockaddr *)addr, &e) == NULL) {
		refuse_connection(l, fd, &e);
		return;
	}
	if (li->tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	http_add(l->http, fd, (struct sockaddr *)addr, len);
	l->http_ready = true;
}

static int
listeners_watch(struct loop *l)
{
	int i, r = 0;

	l->listen_again_ns = 0;
	for (i = 0; i < l->n_listen; i++)
		if (loop_watch(l, l->listeners[i].fd, &l->listeners[i].source,
			       EPOLLIN | (l->listeners[i].shared ? (uint32_t)EPOLLEXCLUSIVE : 0)) == -1)
			r = -1;
	return r;
}

/* No descriptor is free. Watched on, the listening sockets would wake this loop again and again for nothing; whoever
 * connects meanwhile waits in the kernel's queue. */
static void
listeners_pause(struct loop *l)
{
	int i;

	if (l->now_ns - l->warned_ns > WARN_NS) {
		log_warn("accept: %s; trying again after a pause", strerror(errno));
		l->warned_ns = l->now_ns;
	}
	l->listen_again_ns = l->now_ns + PAUSE_NS;
	for (i = 0; i < l->n_listen; i++)
		loop_unwatch(l, l->listeners[i].fd);
}

static void
listener_ready(struct loop_source *s, uint32_t events)
{
	struct loop_listener *li = (struct loop_listener *)s;
	struct loop *l = li->loop;
	struct sockaddr_storage addr;
	socklen_t len;
	int i, fd;

	(void)events;
	for (i = 0; i < ACCEPTS; i++) {
		len = sizeof(addr);
		fd = accept4(li->fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd != -1) {
			accept_one(li, fd, &addr, len);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			listeners_pause(l);
			return;
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

void
loop_listen(struct loop *l, int fd, bool shared, bool tcp)
{
	struct loop_listener *grown = realloc(l->listeners, sizeof(*grown) * (size_t)(l->n_listen + 1));

	if (grown == NULL)
		fatal("no memory for a listening socket");
	l->listeners = grown;
	grown[l->n_listen++] = (struct loop_listener){{listener_ready}, l, fd, shared, tcp};
}

/* ---------------------------------------------------------------- devices */

static void
link_ready(struct loop_source *s, uint32_t events)
{
	struct loop_link *ll = (struct loop_link *)s;

	(void)events;
	link_event(ll->link, true);
	ll->dirty = true;
}

/* Send what this turn has submitted, and bring the epoll set in step with what the link wants. */
static void
link_settle(struct loop_link *ll)
{
	int fd;

	ll->dirty = false;
	link_flush(ll->link);
	fd = link_fd(ll->link);
	if (fd == ll->watched)
		return;
	/* A closed descriptor has left the set by itself; its number may already be somebody else's. */
	if (fd != -1)
		loop_watch(ll->loop, fd, &ll->source, EPOLLIN);
	ll->watched = fd;
}

void
loop_submit(struct loop *l, unsigned device, struct link_job *job)
{
	link_submit(l->links[device].link, job);
	l->links[device].dirty = true;
}

struct link_news { /* the supervisor's, on its way to a loop */
	struct loop_task task;
	struct loop *loop;
	unsigned device;
	bool up;
	uint32_t generation;
	int sock;
	const struct worker_status *status;
	uint64_t running_loop, running_id;
	struct err why;
};

static void
link_news_run(struct loop_task *t)
{
	struct link_news *n = (struct link_news *)t;
	struct loop_link *ll = &n->loop->links[n->device];

	/* The old socket, if any, is closed in here: forget its number before another takes it. */
	if (n->up)
		link_up(ll->link, n->generation, n->sock, n->status);
	else
		link_gone(ll->link, n->generation, n->running_loop, n->running_id, &n->why);
	ll->watched = -1;
	ll->dirty = true;
	free(n);
}

void
loop_link_up(void *cls, int loop, unsigned device, uint32_t generation, int sock, const struct worker_status *st)
{
	struct service *svc = cls;
	struct link_news *n = xcalloc(1, sizeof(*n));

	*n = (struct link_news){.task.run = link_news_run,
				.loop = svc->loops[loop],
				.device = device,
				.up = true,
				.generation = generation,
				.sock = sock,
				.status = st};
	loop_post(svc->loops[loop], &n->task);
}

void
loop_link_gone(void *cls, int loop, unsigned device, uint32_t generation, uint64_t running_loop, uint64_t running_id,
	       const struct err *why)
{
	struct service *svc = cls;
	struct link_news *n = xcalloc(1, sizeof(*n));

	*n = (struct link_news){.task.run = link_news_run,
				.loop = svc->loops[loop],
				.device = device,
				.generation = generation,
				.running_loop = running_loop,
				.running_id = running_id,
				.why = *why};
	loop_post(svc->loops[loop], &n->task);
}

static void
link_kill(void *cls, unsigned device, uint32_t generation, const struct err *why)
{
	struct service *svc = cls;

	supervisor_kill(svc->sup, device, generation, why);
}

/* ---------------------------------------------------------------- the loop */

struct loop *
loop_new(struct service *svc, int index, struct err *e)
{
	struct loop *l = xcalloc(1, sizeof(*l));
	struct link_config lc = {.loop = index,
				 .pool = svc->pool,
				 .store = index == 0 ? svc->store : NULL,
				 .kill = link_kill,
				 .cls = svc};
	unsigned i;

	l->index = index;
	l->svc = svc;
	l->wakefd = -1;
	pthread_mutex_init(&l->box_lock, NULL);
	l->box_tail = &l->box_head;
	l->wake_source.ready = wake_ready;
	l->http_source.ready = http_is_ready;
	if ((l->epfd = epoll_create1(EPOLL_CLOEXEC)) == -1 ||
	    (l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) == -1) {
		err_set(e, ERR_INTERNAL, "an event loop could not be made: %s", strerror(errno));
		goto out;
	}
	if ((l->scratch = malloc(LOOP_SCRATCH)) == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for an event loop");
		goto out;
	}
	if ((l->http = http_new(l, e)) == NULL)
		goto out;
	if (loop_watch(l, l->wakefd, &l->wake_source, EPOLLIN) == -1 ||
	    loop_watch(l, http_fd(l->http), &l->http_source, EPOLLIN) == -1) {
		err_set(e, ERR_INTERNAL, "an event loop could not watch its own sockets");
		goto out;
	}
	for (i = 0; i < DEVICES_MAX; i++) {
		lc.device = i;
		l->links[i] = (struct loop_link){.source.ready = link_ready, .loop = l, .watched = -1};
		l->links[i].link = link_new(&lc);
	}
	return l;
out:
	loop_free(&l);
	return NULL;
}

static void
sweep(struct loop *l)
{
	bool all = l->now_ns >= l->next_sweep_ns;
	unsigned i;

	for (i = 0; i < l->n_links; i++) {
		if (all || link_queued(l->links[i].link) > 0) { /* idle ones still let go of slabs */
			link_expire(l->links[i].link, l->now_ns);
			l->links[i].dirty = true;
		}
	}
	if (all) {
		conn_sweep(l, l->now_ns);
		l->next_sweep_ns = l->now_ns + SWEEP_NS;
	}
}

static bool
jobs_queued(const struct loop *l)
{
	unsigned i;

	for (i = 0; i < l->n_links; i++)
		if (link_queued(l->links[i].link) > 0)
			return true;
	return false;
}

static int
next_timeout(struct loop *l)
{
	int http = http_timeout_ms(l->http);
	int own = jobs_queued(l) ? (int)(EXPIRE_NS / 1000000) : l->conns != NULL ? (int)(SWEEP_NS / 1000000) : 1000;

	if (l->listen_again_ns != 0 && own > (int)(PAUSE_NS / 1000000))
		own = (int)(PAUSE_NS / 1000000);

	return http >= 0 && http < own ? http : own;
}

static void
stop_listening(struct loop *l)
{
	int i;

	for (i = 0; i < l->n_listen; i++) {
		loop_unwatch(l, l->listeners[i].fd);
		if (!l->listeners[i].shared)
			close(l->listeners[i].fd);
	}
	l->n_listen = 0;
}

static bool
should_stop(struct loop *l)
{
	bool stop;

	pthread_mutex_lock(&l->box_lock);
	stop = l->stop;
	pthread_mutex_unlock(&l->box_lock);
	return stop;
}

/* What the workers have answered, which needs no system call. */
static void
links_poll(struct loop *l)
{
	unsigned i;

	for (i = 0; i < l->n_links; i++) {
		if (!link_has_news(l->links[i].link))
			continue;
		link_event(l->links[i].link, false);
		l->links[i].dirty = true;
	}
}

static bool
links_have_news(const struct loop *l)
{
	unsigned i;

	for (i = 0; i < l->n_links; i++)
		if (link_has_news(l->links[i].link))
			return true;
	return false;
}

/* About to wait: false when a worker has answered since. */
static bool
links_sleep(struct loop *l)
{
	unsigned i;

	for (i = 0; i < l->n_links; i++)
		if (!link_sleep(l->links[i].link))
			return false;
	return true;
}

/*
 * Wait for something to do. While requests are under way, the others (worker, clients on this machine) first get the
 * processor: what they do meanwhile arrives together, without a sleep and a wake-up for each. With a GPU, whose small jobs
 * take no longer than waking up does, look a little longer.
 */
static int
wait_events(struct loop *l, struct epoll_event *ev)
{
	uint64_t until = 0;
	unsigned d;
	int n;

	if (l->http_ready)
		return epoll_wait(l->epfd, ev, EVENTS, 0);
	if (l->lingers && jobs_queued(l))
		until = clock_ns() + LINGER_NS;
	while (jobs_queued(l)) {
		sched_yield();
		if ((n = epoll_wait(l->epfd, ev, EVENTS, 0)) != 0)
			return n;
		if (until == 0 || links_have_news(l) || clock_ns() > until)
			break;
	}
	if (!links_sleep(l))
		return 0;
	n = epoll_wait(l->epfd, ev, EVENTS, next_timeout(l));
	for (d = 0; d < l->n_links; d++)
		link_awake(l->links[d].link);
	return n;
}

static void *
loop_main(void *arg)
{
	struct loop *l = arg;
	struct epoll_event ev[EVENTS];
	struct loop_source *s;
	uint64_t next_expire = 0;
	unsigned d;
	int i, n;

	l->n_links = supervisor_devices(l->svc->sup);
	l->lingers = l->n_links > 1 && sysconf(_SC_NPROCESSORS_ONLN) >= LINGER_CORES; /* the last is the cpu */
	while (!should_stop(l)) {
		n = wait_events(l, ev);
		if (n == -1 && errno != EINTR)
			fatal("epoll_wait: %s", strerror(errno));
		l->now_ns = clock_ns();
		for (i = 0; i < n; i++) {
			s = ev[i].data.ptr;
			s->ready(s, ev[i].events);
		}
		links_poll(l);
		if (l->http_ready || http_timeout_ms(l->http) == 0) {
			l->http_ready = false;
			http_run(l->http);
		}
		if (l->listen_again_ns != 0 && l->now_ns >= l->listen_again_ns)
			listeners_watch(l);
		if (l->now_ns >= next_expire) {
			sweep(l);
			next_expire = l->now_ns + EXPIRE_NS;
		}
		for (d = 0; d < l->n_links; d++)
			if (l->links[d].dirty)
				link_settle(&l->links[d]);
	}
	wake_ready(&l->wake_source, 0); /* what came with the order to stop owns memory and sockets */
	stop_listening(l);
	conn_abandon_all(l);
	http_run(l->http);
	return NULL;
}

int
loop_start(struct loop *l, struct err *e)
{
	sigset_t all, old;
	int r;

	if (listeners_watch(l) == -1)
		return err_set(e, ERR_INTERNAL, "a listening socket could not be watched");
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&l->thread, NULL, loop_main, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return err_set(e, ERR_INTERNAL, "an event loop's thread could not be started: %s", strerror(r));
	return 0;
}

void
loop_stop(struct loop *l)
{
	uint64_t one = 1;

	pthread_mutex_lock(&l->box_lock);
	l->stop = true;
	pthread_mutex_unlock(&l->box_lock);
	while (write(l->wakefd, &one, sizeof(one)) == -1 && errno == EINTR)
		;
}

void
loop_join(struct loop *l)
{
	pthread_join(l->thread, NULL);
}

void
loop_close(struct loop *l)
{
	http_free(&l->http);
}

void
loop_free(struct loop **lp)
{
	struct loop *l = *lp;
	struct conn *c;
	unsigned i;

	if (l == NULL)
		return;
	*lp = NULL;
	for (i = 0; i < DEVICES_MAX; i++)
		link_free(&l->links[i].link);
	http_free(&l->http);
	while ((c = l->conns) != NULL) /* accepted, but never taken by libmicrohttpd */
		conn_free(&c);
	if (l->epfd != -1)
		close(l->epfd);
	if (l->wakefd != -1)
		close(l->wakefd);
	pthread_mutex_destroy(&l->box_lock);
	while (l->requests.n > 0)
		free(l->requests.p[--l->requests.n]);
	while (l->computes.n > 0)
		free(l->computes.p[--l->computes.n]);
	free(l->listeners);
	free(l->scratch);
	free(l);
}
