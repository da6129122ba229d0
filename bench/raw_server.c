/*
 * raw_server.c: the yardstick: what a plain epoll server in C reaches moving the same bytes as aiterd, doing nothing
 * with them. Pooled, touched buffers; bodies are received straight into them, up to 1 MiB a call. bench/run starts it.
 * POST /sink answers 20 bytes, POST /echo answers the body. It trusts its client: for loopback only.
 *
 * usage: raw_server [--port N] [--threads N] [--congestion NAME] [--prefault BYTES]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 16384
#define CHUNK (1u << 20)
#define CLASS_MIN 16 /* 64 KiB */
#define CLASS_MAX 33
#define BODY_MAX ((uint64_t)1 << CLASS_MAX)
#define EVENTS 256

struct buffer { /* stands in the first bytes of a free buffer: the free list costs nothing */
	struct buffer *next;
};

struct conn {
	int fd;
	bool echo, writing;
	unsigned cls;
	unsigned char *body; /* NULL: no request in progress */
	uint64_t length, got;
	unsigned char *out; /* what is still to be sent: head, then body */
	size_t out_len;
	uint64_t out_body, out_body_len;
	size_t in; /* bytes in head[] */
	char reply[160];
	unsigned char head[HEAD_MAX];
};

struct server { /* one per thread; nothing is shared */
	int ep, listener;
	struct buffer *pool[CLASS_MAX + 1];
	struct conn *spare;
};

static const char sink_body[] = "the body was read..\n"; /* 20 bytes */
static const char *congestion;
static uint64_t prefault = 64u << 20;
static uint16_t port;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned char *
pool_take(struct server *s, uint64_t bytes, unsigned *cls)
{
	unsigned c = CLASS_MIN;
	while (((uint64_t)1 << c) < bytes)
		c++;
	*cls = c;
	struct buffer *b = s->pool[c];
	if (b != NULL) {
		s->pool[c] = b->next;
		return (unsigned char *)b;
	}
	void *p = mmap(NULL, (size_t)1 << c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void
pool_give(struct server *s, unsigned char *p, unsigned cls)
{
	struct buffer *b = (struct buffer *)(void *)p;
	b->next = s->pool[cls];
	s->pool[cls] = b;
}

static void
conn_close(struct server *s, struct conn *c)
{
	close(c->fd);
	if (c->body != NULL)
		pool_give(s, c->body, c->cls);
	free(c);
}

static void
conn_events(struct server *s, struct conn *c, bool writing)
{
	if (c->writing == writing)
		return;
	struct epoll_event ev = {.events = writing ? EPOLLOUT : EPOLLIN, .data.ptr = c};
	if (epoll_ctl(s->ep, EPOLL_CTL_MOD, c->fd, &ev) != 0)
		die("epoll_ctl");
	c->writing = writing;
}

/* 0: all is sent; 1: the socket is full; -1: the client is gone. */
static int
conn_send(struct server *s, struct conn *c)
{
	while (c->out_len + c->out_body_len > 0) {
		struct iovec iov[2] = {{c->out, c->out_len}, {c->body + c->out_body, c->out_body_len}};
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
		if (c->out_len == 0) {
			m.msg_iov++;
			m.msg_iovlen--;
		}
		ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return -1;
			conn_events(s, c, true);
			return 1;
		}
		size_t head = (size_t)n < c->out_len ? (size_t)n : c->out_len;
		c->out += head;
		c->out_len -= head;
		c->out_body += (size_t)n - head;
		c->out_body_len -= (size_t)n - head;
	}
	pool_give(s, c->body, c->cls);
	c->body = NULL;
	conn_events(s, c, false);
	return 0;
}

static int
conn_answer(struct server *s, struct conn *c)
{
	uint64_t n = c->echo ? c->length : sizeof(sink_body) - 1;
	int head = snprintf(
		c->reply, sizeof(c->reply),
		"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n%s",
		(unsigned long long)n, c->echo ? "" : sink_body);
	c->out = (unsigned char *)c->reply;
	c->out_len = (size_t)head;
	c->out_body = 0;
	c->out_body_len = c->echo ? c->length : 0;
	return conn_send(s, c);
}

static int
conn_refuse(struct conn *c, const char *status)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
	(void)!send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	return -1;
}

static const char *
next_line(const char *p, const char *stop)
{
	return (const char *)memchr(p, '\n', (size_t)(stop - p)) + 1;
}

/* Look for a whole head in what was read. 1: a request began; 0: not yet; -1: close. */
static int
conn_head(struct server *s, struct conn *c)
{
	unsigned char *end = memmem(c->head, c->in, "\r\n\r\n", 4);
	if (end == NULL)
		return c->in == HEAD_MAX ? conn_refuse(c, "431 Request Header Fields Too Large") : 0;
	end += 4;
	const char *h = (const char *)c->head, *stop = (const char *)end - 2;
	if (memcmp(h, "POST /echo ", 11) == 0)
		c->echo = true;
	else if (memcmp(h, "POST /sink ", 11) == 0)
		c->echo = false;
	else
		return conn_refuse(c, "404 Not Found");

	bool length_seen = false, expect = false;
	while ((h = next_line(h, stop)) < stop) {
		if (strncasecmp(h, "content-length:", 15) == 0) {
			c->length = strtoull(h + 15, NULL, 10);
			length_seen = true;
		} else if (strncasecmp(h, "expect:", 7) == 0) {
			expect = true;
		}
	}
	if (!length_seen)
		return conn_refuse(c, "411 Length Required");
	if (c->length > BODY_MAX)
		return conn_refuse(c, "413 Content Too Large");
	c->body = pool_take(s, c->length, &c->cls);
	if (c->body == NULL)
		return conn_refuse(c, "503 Service Unavailable");

	size_t rest = c->in - (size_t)(end - c->head);
	c->got = rest < c->length ? rest : c->length;
	memcpy(c->body, end, (size_t)c->got);
	c->in = rest - (size_t)c->got;
	memmove(c->head, end + c->got, c->in);
	if (expect && c->got == 0 && c->length > 0) {
		static const char go[] = "HTTP/1.1 100 Continue\r\n\r\n";
		if (send(c->fd, go, sizeof(go) - 1, MSG_NOSIGNAL) < 0)
			return -1;
	}
	return 1;
}

static int
conn_read(struct server *s, struct conn *c)
{
	bool head_read = false;
	for (;;) {
		if (c->body == NULL) {
			int r = c->in > 0 ? conn_head(s, c) : 0;
			if (r < 0)
				return -1;
			if (r == 0) {
				if (head_read) /* level-triggered: ask epoll rather than the socket */
					return 0;
				ssize_t n = recv(c->fd, c->head + c->in, HEAD_MAX - c->in, MSG_DONTWAIT);
				if (n == 0)
					return -1;
				if (n < 0)
					return errno == EAGAIN || errno == EINTR ? 0 : -1;
				c->in += (size_t)n;
				head_read = true;
				continue;
			}
		}
		while (c->got < c->length) {
			uint64_t want = c->length - c->got;
			ssize_t n = recv(c->fd, c->body + c->got, want < CHUNK ? (size_t)want : CHUNK, MSG_DONTWAIT);
			if (n == 0)
				return -1;
			if (n < 0) {
				if (errno == EINTR)
					continue;
				return errno == EAGAIN ? 0 : -1;
			}
			c->got += (uint64_t)n;
		}
		int r = conn_answer(s, c);
		if (r != 0)
			return r < 0 ? -1 : 0;
	}
}

static void
server_accept(struct server *s)
{
	for (;;) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		struct conn *c = malloc(sizeof(*c));
		if (c == NULL) {
			close(fd);
			return;
		}
		memset(c, 0, offsetof(struct conn, head));
		c->fd = fd;
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
		if (epoll_ctl(s->ep, EPOLL_CTL_ADD, fd, &ev) != 0)
			die("epoll_ctl");
	}
}

static void *
server_run(void *cls)
{
	struct server *s = cls;
	struct epoll_event ev[EVENTS];
	for (;;) {
		int n = epoll_wait(s->ep, ev, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			if (c == NULL) {
				server_accept(s);
				continue;
			}
			int r = c->writing ? conn_send(s, c) : 0;
			if (r == 0)
				r = conn_read(s, c);
			if (r < 0)
				conn_close(s, c);
		}
	}
	return NULL;
}

static void
server_open(struct server *s)
{
	int on = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listener < 0)
		die("socket");
	if (setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    setsockopt(s->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
	    setsockopt(s->listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		die("setsockopt");
	/* accepted sockets inherit it */
	if (congestion != NULL &&
	    setsockopt(s->listener, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)) != 0)
		die("TCP_CONGESTION");
	if (bind(s->listener, (struct sockaddr *)&a, sizeof(a)) != 0)
		die("bind");
	if (listen(s->listener, 4096) != 0)
		die("listen");
	socklen_t len = sizeof(a);
	if (getsockname(s->listener, (struct sockaddr *)&a, &len) != 0)
		die("getsockname");
	port = ntohs(a.sin_port);

	s->ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
	if (s->ep < 0 || epoll_ctl(s->ep, EPOLL_CTL_ADD, s->listener, &ev) != 0)
		die("epoll");

	if (prefault > 0) {
		unsigned cls;
		unsigned char *p = pool_take(s, prefault, &cls);
		if (p == NULL)
			die("mmap");
		pool_give(s, p, cls);
	}
}

int
main(int argc, char **argv)
{
	long threads = 1;
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(argv[i], "--port") == 0) {
			port = (uint16_t)strtoul(value, NULL, 10);
		} else if (strcmp(argv[i], "--threads") == 0) {
			threads = strtol(value, NULL, 10);
		} else if (strcmp(argv[i], "--congestion") == 0) {
			congestion = value;
		} else if (strcmp(argv[i], "--prefault") == 0) {
			prefault = strtoull(value, NULL, 10);
		} else {
			fprintf(stderr,
				"usage: raw_server [--port N] [--threads N] [--congestion NAME] [--prefault BYTES]\n");
			return 2;
		}
	}
	if (threads < 1 || threads > 256 || prefault > BODY_MAX) {
		fprintf(stderr, "raw_server: threads from 1 to 256, prefault up to %llu\n",
			(unsigned long long)BODY_MAX);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	struct rlimit rl;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	struct server *servers = calloc((size_t)threads, sizeof(*servers));
	if (servers == NULL)
		die("calloc");
	for (long i = 0; i < threads; i++)
		server_open(&servers[i]);
	printf("listening on http://127.0.0.1:%u\n", port);
	fflush(stdout);
	for (long i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, server_run, &servers[i]) != 0)
			die("pthread_create");
	}
	server_run(&servers[0]);
	return 0;
}
