/*
 * conn.c: the receive side of client connections: strict heads, bodies straight into tensors. See conn.h.
 *
 * recv() below takes the C library's place for libmicrohttpd, which is linked dynamically and so resolves the
 * name in this program first. Should that ever not hold (a static or a differently built libmicrohttpd), no head is
 * marked as checked and http.c refuses every request: it fails closed.
 */
#include "front/conn_internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "front/peers.h"
#include "front/problem.h"
#include "front/request.h"
#include "log.h"

#define LINGER_NS 2000000000u
#define DRAIN_READS 16 /* of a refused client, before other connections get their turn */

static _Atomic(struct conn *) *table;
static size_t table_size;

int
conn_setup(struct service *svc, struct err *e)
{
	const struct options *o = svc->opt;
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		return err_set(e, ERR_INTERNAL, "getrlimit: %s", strerror(errno));
	rl.rlim_cur = rl.rlim_max < 1048576 ? rl.rlim_max : 1048576;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
		return err_set(e, ERR_INTERNAL, "setrlimit: %s", strerror(errno));
	table_size = rl.rlim_cur;
	table = calloc(table_size, sizeof(*table));
	if (table == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for %zu connections", table_size);
	/* Workers, tensors and listening sockets need descriptors too: connections alone must not use them up. */
	svc->connections_max = (uint32_t)o->connections;
	if (svc->connections_max > table_size / 2) {
		svc->connections_max = (uint32_t)(table_size / 2);
		log_warn("--connections %lld: only %u are taken, half of the %zu descriptors this process may have",
			 (long long)o->connections, svc->connections_max, table_size);
	}
	if ((svc->peers = peers_new((uint32_t)o->connections_per_address, svc->connections_max)) == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for a table of client addresses");
	return 0;
}

struct conn *
conn_find(int fd)
{
	return fd >= 0 && (size_t)fd < table_size ? atomic_load_explicit(&table[fd], memory_order_acquire) : NULL;
}

/* Counted before it is there, so that no burst over all loops gets past a limit. */
static int
admit(struct service *svc, const struct sockaddr *addr, struct peer **peer, struct err *e)
{
	if (atomic_fetch_add(&svc->connections, 1) >= svc->connections_max)
		err_set(e, ERR_OVERLOADED, "%u connections are open; no more are taken at the moment (--connections)",
			svc->connections_max);
	else if (!peers_take(svc->peers, addr, peer))
		err_set(e, ERR_OVERLOADED,
			"%lld connections are open from your address; no more are taken (--connections-per-address)",
			(long long)svc->opt->connections_per_address);
	else
		return 0;
	atomic_fetch_sub(&svc->connections, 1);
	return -1;
}

struct conn *
conn_new(struct loop *l, int fd, const struct sockaddr *addr, struct err *e)
{
	struct peer *peer = NULL;
	struct conn *c;

	if (admit(l->svc, addr, &peer, e) == -1)
		return NULL;
	if (fd < 0 || (size_t)fd >= table_size || (c = calloc(1, sizeof(*c))) == NULL) {
		atomic_fetch_sub(&l->svc->connections, 1);
		peers_give(l->svc->peers, &peer);
		err_set(e, ERR_OVERLOADED, "no memory for another connection");
		return NULL;
	}
	c->source.ready = conn_ready;
	c->loop = l;
	c->fd = fd;
	c->peer = peer;
	c->tcp = addr->sa_family == AF_INET || addr->sa_family == AF_INET6;
	c->accepted_ns = l->now_ns;
	c->next = l->conns;
	if (l->conns != NULL)
		l->conns->prev = c;
	l->conns = c;
	atomic_store_explicit(&table[fd], c, memory_order_release);
	return c;
}

void
conn_unwatch(struct conn *c)
{
	if (c->watched)
		loop_unwatch(c->loop, c->fd);
	c->watched = false;
}

void
conn_free(struct conn **cp)
{
	struct conn *c = *cp, *mine = c;

	if (c == NULL)
		return;
	*cp = NULL;
	conn_unwatch(c);
	/* One that libmicrohttpd has closed without a word may have lost its number to another. */
	atomic_compare_exchange_strong(&table[c->fd], &mine, NULL);
	atomic_fetch_sub(&c->loop->svc->connections, 1);
	peers_give(c->loop->svc->peers, &c->peer);
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		c->loop->conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	free(c->buf);
	free(c->target);
	free(c);
}

char *
conn_room(struct conn *c, size_t n)
{
	size_t cap;
	char *buf;

	if (c->start == c->len)
		c->start = c->len = 0;
	if (c->cap - c->len < n && c->start > 0) {
		memmove(c->buf, c->buf + c->start, c->len - c->start);
		c->len -= c->start;
		c->start = 0;
	}
	if (c->cap - c->len < n) {
		for (cap = c->cap != 0 ? c->cap : 4096; cap - c->len < n; cap *= 2)
			;
		if ((buf = realloc(c->buf, cap)) == NULL)
			return NULL;
		c->buf = buf;
		c->cap = cap;
	}
	return c->buf + c->len;
}

int
conn_stash(struct conn *c, const void *p, size_t n)
{
	char *to;

	if (n == 0)
		return 0;
	if ((to = conn_room(c, n)) == NULL)
		return -1;
	memcpy(to, p, n);
	c->len += n;
	return 0;
}

ssize_t
conn_read(struct conn *c, void *p, size_t n)
{
	ssize_t r;

	do
		r = recvfrom(c->fd, p, n, MSG_DONTWAIT, NULL, NULL);
	while (r == -1 && errno == EINTR);
	return r;
}

/* ---------------------------------------------------------------- heads */

/* Copy what was parsed for the request, and blank the framing fields' names for libmicrohttpd. */
static int
head_accept(struct conn *c, char *head)
{
	const struct http_head *h = &c->head;
	size_t n = h->method_len < sizeof(c->method) ? h->method_len : sizeof(c->method) - 1;
	int i;

	memcpy(c->method, head, n);
	c->method[n] = '\0';
	if (c->target_cap < h->target_len + 1) {
		free(c->target);
		c->target_cap = 0;
		if ((c->target = malloc(h->target_len + 1)) == NULL)
			return -1;
		c->target_cap = h->target_len + 1;
	}
	memcpy(c->target, head + h->target, h->target_len);
	c->target[h->target_len] = '\0';
	for (i = 0; i < h->n_framing; i++)
		head[h->framing[i]] = '~';
	/* libmicrohttpd would make a list of the query's parts, and gets stuck where that is too long. */
	if (h->path + h->path_len < h->target + h->target_len)
		head[h->path + h->path_len] = '~';
	c->state = CONN_GIVEN;
	c->given = 0;
	c->scanned = 0;
	c->head_ns = 0;
	c->skipped_line = false;
	c->body_left = h->has_length ? h->content_length : 0;
	c->body_bytes = c->discarded = 0;
	c->discard = false;
	c->continue_owed = h->expect_continue;
	if (h->chunked)
		http_chunked_init(&c->chunked);
	return 0;
}

static ssize_t
would_block(void)
{
	errno = EAGAIN;
	return -1;
}

ssize_t
conn_head_refuse(struct conn *c, const struct err *e)
{
	struct text t;

	text_init(&t, 64 * 1024);
	problem_raw(&t, c->loop->svc, e, NULL);
	log_debug("refused a request head: %s", e->msg);
	conn_refuse(c, t.p, t.len, NULL);
	text_fini(&t);
	return would_block();
}

/* Give libmicrohttpd the next part of an accepted head, which lies at the start of the stash. */
static ssize_t
head_give(struct conn *c, void *buf, size_t len)
{
	size_t n = c->head.length - c->given;

	if (n > len)
		n = len;
	memcpy(buf, c->buf + c->start, n);
	c->start += n;
	c->given += n;
	return (ssize_t)n;
}

/* One empty line before a request line is dropped, as RFC 9112 2.2 asks; a second one is refused like any bad head. */
static size_t
skip_empty_line(struct conn *c, const char *p, size_t n)
{
	if (c->skipped_line || n < 2 || p[0] != '\r' || p[1] != '\n')
		return 0;
	c->skipped_line = true;
	c->head_ns = 0; /* it belongs to what was before */
	return 2;
}

static ssize_t
head_recv(struct conn *c, void *buf, size_t len)
{
	struct service *svc = c->loop->svc;
	struct http_limits limits = {(uint32_t)svc->opt->max_head, (uint32_t)svc->opt->max_head_fields,
				     (uint32_t)svc->opt->max_target};
	char *scratch = (char *)c->loop->scratch;
	struct err e = {0};
	ssize_t n;
	size_t skip;
	int r;

	for (;;) {
		if (c->start < c->len) {
			if (c->scanned == 0)
				c->start += skip_empty_line(c, c->buf + c->start, c->len - c->start);
			r = c->start == c->len ? 0
					       : http_head_parse(c->buf + c->start, c->len - c->start, &limits,
								 &c->scanned, &c->head, &e);
			if (r == -1)
				return conn_head_refuse(c, &e);
			if (r == 1) {
				if (head_accept(c, c->buf + c->start) == -1)
					return -1;
				return head_give(c, buf, len);
			}
			if (c->head_ns == 0 && c->start < c->len)
				c->head_ns = clock_ns();
		}
		n = conn_read(c, scratch, LOOP_SCRATCH);
		if (n <= 0)
			return n;
		if (c->start < c->len) {
			if (conn_stash(c, scratch, (size_t)n) == -1)
				return -1;
			continue;
		}
		/* The common case: a whole head at once, passed on without being kept. */
		skip = skip_empty_line(c, scratch, (size_t)n);
		c->scanned = 0;
		r = skip == (size_t)n
			    ? 0
			    : http_head_parse(scratch + skip, (size_t)n - skip, &limits, &c->scanned, &c->head, &e);
		if (r == -1)
			return conn_head_refuse(c, &e);
		if (r == 1 && c->head.length <= len) {
			if (head_accept(c, scratch + skip) == -1)
				return -1;
			memcpy(buf, scratch + skip, c->head.length);
			c->given = c->head.length;
			skip += c->head.length;
			if (conn_stash(c, scratch + skip, (size_t)n - skip) == -1)
				return -1;
			return (ssize_t)c->head.length;
		}
		c->scanned = 0;
		if (conn_stash(c, scratch + skip, (size_t)n - skip) == -1)
			return -1;
	}
}

ssize_t
conn_drain(struct conn *c)
{
	ssize_t n;
	int i;

	c->start = c->len = 0;
	for (i = 0; i < DRAIN_READS; i++)
		if ((n = conn_read(c, c->loop->scratch, LOOP_SCRATCH)) <= 0)
			return n;
	return would_block();
}

/* libmicrohttpd's recv: see the top of this file. */
ssize_t recv(int fd, void *buf, size_t len, int flags);

ssize_t
recv(int fd, void *buf, size_t len, int flags)
{
	struct conn *c = conn_find(fd);

	if (c == NULL)
		return recvfrom(fd, buf, len, flags, NULL, NULL);
	switch (c->state) {
	case CONN_HEAD:
		return head_recv(c, buf, len);
	case CONN_GIVEN:
		if (c->given < c->head.length)
			return head_give(c, buf, len);
		break;
	case CONN_LINGER: /* whatever is still unread when the time is up, that is the end */
		return clock_ns() < c->linger_until_ns ? conn_drain(c) : 0;
	case CONN_BODY:
	case CONN_FEEDING:
	case CONN_HANDLED:
		break;
	}
	would_block();
	/* Resumed, it reads before it asks for the reply. After EAGAIN it would then wait for the socket, which tells
	 * nothing of further requests that lie here; after this it comes again. */
	if (c->start < c->len)
		errno = EINTR;
	return -1;
}

bool
conn_is_quiet(const struct conn *c)
{
	char b;

	return c->start == c->len && recvfrom(c->fd, &b, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) == -1 &&
	       (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

void
conn_wait(struct conn *c, struct request *req)
{
	c->state = CONN_HANDLED;
	c->req = req;
}

void
conn_request_end(struct conn *c)
{
	conn_unwatch(c);
	c->req = NULL;
	c->replying = false;
	if (c->state != CONN_LINGER)
		c->state = CONN_HEAD;
	/* A long body's leftovers are gone; do not keep a large buffer for an idle connection. */
	if (c->start == c->len && c->cap > 16384) {
		free(c->buf);
		c->buf = NULL;
		c->start = c->len = c->cap = 0;
	}
}

bool
conn_client_gone(struct conn *c)
{
	char b;
	ssize_t n;

	if (c->start < c->len) /* it has sent more requests: reading ahead would be needed to know */
		return false;
	n = recvfrom(c->fd, &b, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	return n == 0 || (n == -1 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void
conn_refuse(struct conn *c, const char *text, size_t len, struct request *req)
{
	/* An error's text is far smaller than a fresh socket's buffer: what does not fit is given up. */
	if (send(c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
		log_debug("an error reply could not be sent whole");
	shutdown(c->fd, SHUT_WR);
	c->state = CONN_LINGER;
	c->linger_until_ns = clock_ns() + LINGER_NS;
	c->req = req;
	c->start = c->len = 0;
	if (req != NULL && !c->watched)
		c->watched = loop_watch(c->loop, c->fd, &c->source, EPOLLIN | EPOLLRDHUP) == 0;
}
