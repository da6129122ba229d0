/*
 * load.c: the load generator of bench/run: N keep-alive connections in a closed loop, each sending the same prepared
 * request and checking every reply (status 200, length, and if asked the bytes). Loopback addresses only; always
 * bounded by a number of requests and by a time. Prints one JSON object.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "load_cpu.h"

#define HEAD_MAX 16384
#define SCRATCH (1u << 20)
#define STATS_KEPT 256
#define EVENTS 512

struct conn {
	int fd;
	bool idle, busy, want_write, counted;
	size_t sent;
	uint64_t started_ns;
	size_t in;	/* bytes in head[] */
	int64_t length; /* of the reply's body; -1: head not yet read */
	int64_t got;
	unsigned char *store; /* the reply's body when it is to be looked at */
	size_t store_size;
	char head[HEAD_MAX + 1];
};

static struct {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	const char *congestion, *save;
	const unsigned char *request, *body, *tail;
	size_t request_len, body_len, tail_len; /* request_len: the body's included */
	uint64_t count, warmup;
	double seconds;
	int64_t reply_bytes; /* -1: any */
	int connections, idle, stall_ms;
	bool keep_stats;
} o;

static int ep;
static unsigned char *scratch;
static struct conn *conns; /* active ones, then idle ones */
static int opened_idle;

static uint64_t *samples; /* ns */
static size_t n_samples, samples_size;
static char *stats[STATS_KEPT];
static int n_stats;
static uint64_t finished, issued; /* warm-up included */
static bool measuring, stopping;
static uint64_t start_ns, end_ns, reply_total;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "load: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const unsigned char *
map_file(const char *path, size_t *len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size <= 0)
		fail("%s: %s", path, fd < 0 ? strerror(errno) : "empty");
	*len = (size_t)st.st_size;
	void *p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED)
		fail("%s: %s", path, strerror(errno));
	close(fd);
	return p;
}

/* 127.0.0.0/8 and ::1, nothing else: this program is no weapon. */
static void
parse_address(const char *text)
{
	char host[64];
	const char *colon = strrchr(text, ':');
	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		fail("--connect %s: wanted 127.0.0.1:PORT or [::1]:PORT", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	unsigned long port = strtoul(colon + 1, NULL, 10);
	if (port == 0 || port > 65535)
		fail("--connect %s: no port", text);
	if (strcmp(host, "[::1]") == 0) {
		struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
		a.sin6_addr = in6addr_loopback;
		memcpy(&o.addr, &a, sizeof(a));
		o.addr_len = sizeof(a);
		return;
	}
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || ntohl(a.sin_addr.s_addr) >> 24 != 127)
		fail("--connect %s: only loopback addresses are served with load", text);
	memcpy(&o.addr, &a, sizeof(a));
	o.addr_len = sizeof(a);
}

static void
conn_open(struct conn *c)
{
	int on = 1;
	c->fd = socket(o.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket: %s", strerror(errno));
	if (o.congestion != NULL &&
	    setsockopt(c->fd, IPPROTO_TCP, TCP_CONGESTION, o.congestion, (socklen_t)strlen(o.congestion)) != 0)
		fail("congestion control %s: %s", o.congestion, strerror(errno));
	if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		fail("TCP_NODELAY: %s", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&o.addr, o.addr_len) != 0)
		fail("connect: %s", strerror(errno));
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
		fail("fcntl: %s", strerror(errno));
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) != 0)
		fail("epoll_ctl: %s", strerror(errno));
}

static void
conn_send(struct conn *c)
{
	bool full = false;
	while (c->sent < o.request_len && !full) {
		const size_t head_len = o.request_len - o.body_len;
		size_t head = c->sent < head_len ? c->sent : head_len; /* sent of each */
		size_t body = c->sent - head;
		struct iovec iov[2] = {{(void *)(uintptr_t)(o.request + head), head_len - head},
				       {o.body_len > 0 ? (void *)(uintptr_t)(o.body + body) : NULL, o.body_len - body}};
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
		ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
		if (n >= 0)
			c->sent += (size_t)n;
		else if (errno == EAGAIN)
			full = true;
		else if (errno == EPIPE || errno == ECONNRESET) /* it may have answered before: the reply says why */
			return;
		else if (errno != EINTR)
			fail("send after %zu of %zu bytes: %s", c->sent, o.request_len, strerror(errno));
	}
	bool want = c->sent < o.request_len;
	if (want != c->want_write) {
		struct epoll_event ev = {.events = EPOLLIN | (want ? (uint32_t)EPOLLOUT : 0), .data.ptr = c};
		if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev) != 0)
			fail("epoll_ctl: %s", strerror(errno));
		c->want_write = want;
	}
}

static void
conn_start(struct conn *c)
{
	c->busy = true;
	c->counted = measuring;
	c->sent = 0;
	c->in = 0;
	c->length = -1;
	c->got = 0;
	issued++;
	c->started_ns = now_ns();
	conn_send(c);
}

/* A header field's value within the head, or NULL. */
static const char *
field(const char *head, const char *name, size_t *len)
{
	size_t n = strlen(name);
	for (const char *p = strstr(head, "\r\n"); p != NULL && p[2] != '\r'; p = strstr(p, "\r\n")) {
		p += 2;
		if (strncasecmp(p, name, n) != 0 || p[n] != ':')
			continue;
		p += n + 1;
		p += strspn(p, " \t");
		const char *end = strstr(p, "\r\n");
		*len = (size_t)(end - p);
		return p;
	}
	return NULL;
}

static bool
storing(const struct conn *c)
{
	return !c->idle && (o.tail != NULL || o.save != NULL);
}

static void
conn_reply_begins(struct conn *c, size_t head_len)
{
	size_t n;
	char *body = c->head + head_len;
	char kept = *body;
	*body = '\0';
	const char *length = field(c->head, "content-length", &n);
	if (strncmp(c->head, "HTTP/1.1 200 ", 13) != 0) {
		*body = kept;
		fail("wanted 200, found:\n%.*s", (int)(c->in < 2000 ? c->in : 2000), c->head);
	}
	if (length == NULL)
		fail("a reply without Content-Length:\n%s", c->head);
	char *end;
	c->length = strtoll(length, &end, 10);
	if (end != length + n || c->length < 0)
		fail("Content-Length is %.*s", (int)n, length);
	if (o.reply_bytes >= 0 && c->length != o.reply_bytes)
		fail("wanted a reply of %lld bytes, found %lld", (long long)o.reply_bytes, (long long)c->length);
	if (c->length < (int64_t)o.tail_len)
		fail("wanted a reply of %zu bytes or more, found %lld", o.tail_len, (long long)c->length);
	if (storing(c) && c->store_size < (size_t)c->length) {
		if (c->store != NULL)
			munmap(c->store, c->store_size);
		c->store_size = (size_t)c->length + 4096; /* the text before the data may grow by some digits */
		c->store = mmap(NULL, c->store_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
				-1, 0);
		if (c->store == MAP_FAILED)
			fail("no memory for a reply of %lld bytes", (long long)c->length);
	}
	if (o.keep_stats && c->counted && n_stats < STATS_KEPT) {
		const char *st = field(c->head, "aiterd-stats", &n);
		if (st != NULL)
			stats[n_stats++] = strndup(st, n);
	}
	*body = kept;
	c->got = (int64_t)(c->in - head_len);
	if (c->got > c->length)
		fail("%lld bytes more than Content-Length says", (long long)(c->got - c->length));
	if (storing(c))
		memcpy(c->store, body, (size_t)c->got);
}

static void
keep_sample(uint64_t ns)
{
	if (n_samples == samples_size) {
		samples_size = samples_size == 0 ? 65536 : samples_size * 2;
		samples = realloc(samples, samples_size * sizeof(*samples));
		if (samples == NULL)
			fail("out of memory");
	}
	samples[n_samples++] = ns;
}

static void
conn_finished(struct conn *c, uint64_t now)
{
	c->busy = false;
	finished++;
	if (c->sent < o.request_len)
		fail("answered before the request was sent: %zu of %zu bytes", c->sent, o.request_len);
	if (c->idle)
		return;
	if (o.tail != NULL && memcmp(c->store + c->length - o.tail_len, o.tail, o.tail_len) != 0)
		fail("reply %llu: its last %zu bytes are not the ones wanted", (unsigned long long)finished, o.tail_len);
	if (c->counted && !stopping) {
		keep_sample(now - c->started_ns);
		reply_total += (uint64_t)c->length;
		end_ns = now;
		if (n_samples >= o.count || (double)(now - start_ns) >= o.seconds * 1e9) {
			stopping = true;
			cpu_mark(1);
		}
	}
	if (!measuring && finished >= o.warmup) {
		measuring = true;
		cpu_mark(0);
		start_ns = now_ns();
	}
	if (!stopping)
		conn_start(c);
}

static void
conn_read(struct conn *c)
{
	while (c->busy) {
		ssize_t n;
		if (c->length < 0) {
			n = recv(c->fd, c->head + c->in, HEAD_MAX - c->in, 0);
		} else {
			size_t want = (size_t)(c->length - c->got);
			if (storing(c))
				n = recv(c->fd, c->store + c->got, want < SCRATCH ? want : SCRATCH, 0);
			else
				n = recv(c->fd, scratch, want < SCRATCH ? want : SCRATCH, 0);
		}
		if (n == 0)
			fail("the server closed the connection in the middle of an exchange");
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			fail("recv: %s", strerror(errno));
		}
		if (c->length < 0) {
			c->in += (size_t)n;
			c->head[c->in] = '\0';
			char *end = memmem(c->head, c->in, "\r\n\r\n", 4);
			if (end == NULL && c->in == HEAD_MAX)
				fail("a reply's head is longer than %d bytes", HEAD_MAX);
			if (end != NULL)
				conn_reply_begins(c, (size_t)(end - c->head) + 4);
		} else {
			c->got += n;
		}
		if (c->length >= 0 && c->got == c->length) {
			conn_finished(c, now_ns());
			return; /* the next reply is not there yet */
		}
	}
	/* readable though nothing was asked: the end */
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		fail("the server closed an idle connection");
	if (n > 0)
		fail("the server sent something nobody asked for");
}

static void
events(void)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(ep, ev, EVENTS, o.stall_ms);
	if (n == 0)
		fail("nothing happened for %d seconds", o.stall_ms / 1000);
	for (int i = 0; i < n; i++) {
		struct conn *c = ev[i].data.ptr;
		if ((ev[i].events & (uint32_t)EPOLLOUT) != 0 && c->busy)
			conn_send(c);
		if ((ev[i].events & ~(uint32_t)EPOLLOUT) != 0)
			conn_read(c);
	}
}

/* Idle connections have had one reply each: the server knows them as keep-alives. A few at a time, so that
 * the listen queue is not what is measured. */
static void
open_idle(void)
{
	while (opened_idle < o.idle) {
		int batch = o.idle - opened_idle < 64 ? o.idle - opened_idle : 64;
		uint64_t want = finished + (uint64_t)batch;
		for (int i = 0; i < batch; i++) {
			struct conn *c = &conns[o.connections + opened_idle++];
			c->idle = true;
			conn_open(c);
			conn_start(c);
		}
		while (finished < want)
			events();
	}
	finished = issued = 0;
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static double
quantile(double q)
{
	size_t i = (size_t)(q * (double)(n_samples - 1) + 0.5);
	return (double)samples[i] / 1e6;
}

static void
report(void)
{
	double s = (double)(end_ns - start_ns) / 1e9;
	printf("{\"requests\":%zu,\"seconds\":%.6f,\"rate\":%.3f,", n_samples, s, (double)n_samples / s);
	printf("\"sent_bytes\":%.0f,\"reply_bytes\":%.0f,", (double)o.request_len * (double)n_samples,
	       (double)reply_total);
	cpu_report();
	if (n_samples <= STATS_KEPT) {
		for (size_t i = 0; i < n_samples; i++)
			printf("%s%.6f", i == 0 ? "\"ms\":[" : ",", (double)samples[i] / 1e6);
		printf("],\"stats\":[");
		for (int i = 0; i < n_stats; i++)
			printf("%s%s", i == 0 ? "" : ",", stats[i]);
		printf("],");
	}
	qsort(samples, n_samples, sizeof(*samples), compare);
	printf("\"p50_ms\":%.6f,\"p90_ms\":%.6f,\"p99_ms\":%.6f,\"max_ms\":%.6f}\n", quantile(0.5), quantile(0.9),
	       quantile(0.99), (double)samples[n_samples - 1] / 1e6);
}

static void
save_reply(void)
{
	FILE *f = fopen(o.save, "wb");
	if (f == NULL || fwrite(conns[0].store, 1, (size_t)conns[0].length, f) != (size_t)conns[0].length ||
	    fclose(f) != 0)
		fail("%s: %s", o.save, strerror(errno));
}

static void
usage(void)
{
	fprintf(stderr,
		"usage: load --connect 127.0.0.1:PORT --request FILE (the head as it goes over the wire)\n"
		"  --body FILE              what is sent after it\n"
		"  --count N --seconds S    stop after N requests or S seconds, whichever comes first (1000000, 10)\n"
		"  --warmup N               requests before the clock runs (0)\n"
		"  --connections N          keep-alive connections, one request in flight on each (1)\n"
		"  --idle N                 further connections that stay open and do nothing (0)\n"
		"  --stall S                give up when nothing happens for that long (60)\n"
		"  --reply-bytes N          what each reply's Content-Length must be\n"
		"  --tail FILE              bytes each reply's body must end with\n"
		"  --save FILE              write the last reply's body of the first connection there\n"
		"  --stats                  report the Aiterd-Stats header of up to 256 replies\n"
		"  --cpu N                  run on that core\n"
		"  --cpu-of PID             report that process's CPU time over the measured part (repeatable)\n"
		"  --congestion NAME        TCP congestion control of the sockets\n");
	exit(2);
}

static int64_t
number(const char *name, const char *text, int64_t min, int64_t max)
{
	char *end;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || n < min || n > max)
		fail("%s %s: wanted a number from %lld to %lld", name, text, (long long)min, (long long)max);
	return n;
}

static void
options(int argc, char **argv)
{
	o.count = 1000000;
	o.seconds = 10;
	o.reply_bytes = -1;
	o.connections = 1;
	o.stall_ms = 60000;
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		if (strcmp(name, "--stats") == 0) {
			o.keep_stats = true;
			continue;
		}
		if (++i == argc)
			usage();
		const char *v = argv[i];
		if (strcmp(name, "--connect") == 0)
			parse_address(v);
		else if (strcmp(name, "--request") == 0)
			o.request = map_file(v, &o.request_len);
		else if (strcmp(name, "--body") == 0)
			o.body = map_file(v, &o.body_len);
		else if (strcmp(name, "--tail") == 0)
			o.tail = map_file(v, &o.tail_len);
		else if (strcmp(name, "--save") == 0)
			o.save = v;
		else if (strcmp(name, "--count") == 0)
			o.count = (uint64_t)number(name, v, 1, 1000000000);
		else if (strcmp(name, "--warmup") == 0)
			o.warmup = (uint64_t)number(name, v, 0, 1000000000);
		else if (strcmp(name, "--seconds") == 0)
			o.seconds = strtod(v, NULL);
		else if (strcmp(name, "--reply-bytes") == 0)
			o.reply_bytes = number(name, v, 0, INT64_MAX);
		else if (strcmp(name, "--connections") == 0)
			o.connections = (int)number(name, v, 1, 60000);
		else if (strcmp(name, "--idle") == 0)
			o.idle = (int)number(name, v, 0, 60000);
		else if (strcmp(name, "--stall") == 0)
			o.stall_ms = (int)number(name, v, 1, 3600) * 1000;
		else if (strcmp(name, "--congestion") == 0)
			o.congestion = v;
		else if (strcmp(name, "--cpu-of") == 0) {
			if (cpu_watch((int)number(name, v, 1, INT32_MAX)) != 0)
				fail("--cpu-of %s: cannot read its CPU time", v);
		} else if (strcmp(name, "--cpu") == 0) {
			cpu_set_t set;
			CPU_ZERO(&set);
			CPU_SET((size_t)number(name, v, 0, CPU_SETSIZE - 1), &set);
			if (sched_setaffinity(0, sizeof(set), &set) != 0)
				fail("--cpu %s: %s", v, strerror(errno));
		} else
			usage();
	}
	if (o.addr_len == 0 || o.request == NULL || !(o.seconds > 0 && o.seconds <= 600))
		usage();
	o.request_len += o.body_len;
}

int
main(int argc, char **argv)
{
	options(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	struct rlimit rl;
	rlim_t files = (rlim_t)(o.connections + o.idle + 64);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < files) {
		rl.rlim_cur = rl.rlim_max;
		if (rl.rlim_max < files || setrlimit(RLIMIT_NOFILE, &rl) != 0)
			fail("%llu open files are needed; the limit is %llu", (unsigned long long)files,
			     (unsigned long long)rl.rlim_max);
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	scratch = malloc(SCRATCH);
	conns = calloc((size_t)(o.connections + o.idle), sizeof(*conns));
	if (ep < 0 || scratch == NULL || conns == NULL)
		fail("out of memory");
	memset(scratch, 1, SCRATCH);

	open_idle();
	for (int i = 0; i < o.connections; i++)
		conn_open(&conns[i]);
	if (o.warmup == 0) {
		measuring = true;
		cpu_mark(0);
		start_ns = now_ns();
	}
	for (int i = 0; i < o.connections; i++)
		conn_start(&conns[i]);
	while (!stopping || finished < issued)
		events();
	for (int i = 0; i < o.idle; i++)
		conn_read(&conns[o.connections + i]); /* still open? */
	if (o.save != NULL)
		save_reply();
	report();
	return 0;
}
