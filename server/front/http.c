/*
 * http.c: libmicrohttpd, one daemon per loop in external epoll mode, fed with connections that loop.c accepted.
 * (Its internal threads stall when the number of ready connections is a multiple of 128, and its poll modes scan every
 * connection; see server/README.md.) Everything here runs on the loop's thread.
 */
#include "front/http.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock.h"
#include "front/conn.h"
#include "front/problem.h"
#include "front/request.h"
#include "front/stream.h"
#include "log.h"
#include "text.h"

#define COPY_MAX (32 * 1024) /* replies up to this size leave as one block together with their head */
#define STREAM_BLOCK (32 * 1024)
#define HELD_MAX 64	  /* requests that wait without being suspended */
#define HELD_NS 20000000u /* while there are such, libmicrohttpd runs that often: its timeouts must not find them */
#define HELD_ASKS 16	  /* that often libmicrohttpd asks for a reply in vain before the request is suspended */

struct http {
	struct loop *loop;
	struct MHD_Daemon *daemon;
	int epfd;
	unsigned held;
	bool moved;	 /* something happened in the last run that the next may have to go on with */
	uint64_t ran_ns; /* when that was */
};

static void daemon_says(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void
daemon_says(void *cls, const char *fmt, va_list ap)
{
	char line[256];

	(void)cls;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("libmicrohttpd: %s", line);
}

static void
connection_notify(void *cls, struct MHD_Connection *mc, void **ctx, enum MHD_ConnectionNotificationCode code)
{
	struct http *h = cls;
	const union MHD_ConnectionInfo *info;
	struct conn *c;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		conn_free((struct conn **)ctx);
		return;
	}
	info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
	c = info == NULL ? NULL : conn_find(info->connect_fd);
	if (c == NULL || c->loop != h->loop || c->adopted) {
		log_error("libmicrohttpd has a connection that no loop has accepted");
		*ctx = NULL;
		return;
	}
	c->adopted = true;
	*ctx = c;
}

static void
response_done(void *cls)
{
	request_unref(cls);
}

static bool
add(struct MHD_Response *r, const char *name, const char *value)
{
	return value == NULL || MHD_add_response_header(r, name, value) == MHD_YES;
}

static bool
add_headers(struct MHD_Response *r, const struct request *req)
{
	const struct reply *p = &req->reply;
	char number[24];
	bool ok = add(r, "X-Request-Id", req->id);

	ok = ok && add(r, "Content-Type", p->body.content_type);
	ok = ok && add(r, "Content-Encoding", p->encoding);
	ok = ok && add(r, "Allow", p->allow);
	ok = ok && add(r, "Aiterd-Stats", p->stats);
	ok = ok && add(r, "ETag", p->etag);
	ok = ok && add(r, "Location", p->location);
	ok = ok && add(r, "Aiterd-Tensor", p->tensor);
	ok = ok && add(r, "Preference-Applied", p->applied);
	if (req->run != NULL || (req->asks != NULL && p->applied == NULL))
		ok = ok && add(r, "Vary", "Accept, Accept-Encoding");
	if (p->timing[0] != '\0')
		ok = ok && add(r, "Server-Timing", p->timing);
	if (p->retry_after_s > 0) {
		snprintf(number, sizeof(number), "%u", p->retry_after_s);
		ok = ok && add(r, "Retry-After", number);
	}
	if (p->body.oip_header_len >= 0) {
		snprintf(number, sizeof(number), "%lld", (long long)p->body.oip_header_len);
		ok = ok && add(r, "Inference-Header-Content-Length", number);
	}
	if (p->close)
		ok = ok && add(r, "Connection", "close");
	return ok;
}

static struct MHD_Response *
make_response(struct request *req)
{
	struct body *b = &req->reply.body;
	struct MHD_IoVec iov[BODY_PIECES_MAX];
	struct MHD_Response *r;
	char *copy;
	size_t at = 0;
	int i;

	if (b->n == 1 || b->bytes == 0) {
		req->refs++;
		r = MHD_create_response_from_buffer_with_free_callback_cls(
			b->bytes, b->n == 0 ? NULL : (void *)(uintptr_t)b->pieces[0].p, response_done, req);
	} else if (b->bytes <= COPY_MAX) {
		if ((copy = malloc(b->bytes)) == NULL)
			return NULL;
		for (i = 0; i < b->n; i++) {
			memcpy(copy + at, b->pieces[i].p, b->pieces[i].n);
			at += b->pieces[i].n;
		}
		r = MHD_create_response_from_buffer_with_free_callback(b->bytes, copy, free);
		if (r == NULL)
			free(copy);
		return r;
	} else {
		for (i = 0; i < b->n; i++) {
			iov[i].iov_base = b->pieces[i].p;
			iov[i].iov_len = b->pieces[i].n;
		}
		req->refs++;
		r = MHD_create_response_from_iovec(iov, (unsigned)b->n, response_done, req);
	}
	if (r == NULL)
		req->refs--;
	return r;
}

/* More of a reply that is still being made: when there is nothing yet the connection is suspended, until http_resume(). */
static ssize_t
read_stream(void *cls, uint64_t pos, char *buf, size_t size)
{
	struct request *req = cls;
	ssize_t n = stream_read(req, buf, size);

	(void)pos;
	if (n == 0)
		MHD_suspend_connection(req->mhd);
	return n > 0 || n == 0 ? n : n == -1 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *
make_stream(struct request *req)
{
	struct MHD_Response *r;

	req->refs++;
	r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, req, response_done);
	if (r == NULL)
		req->refs--;
	else if (req->events)
		(void)add(r, "Cache-Control", "no-cache");
	return r;
}

static enum MHD_Result
queue_reply(struct MHD_Connection *mc, struct request *req)
{
	struct MHD_Response *r = req->stream != NULL ? make_stream(req) : make_response(req);
	enum MHD_Result ok;

	if (r == NULL || !add_headers(r, req)) {
		log_error("%s: no memory for a reply", req->id);
		if (r != NULL)
			MHD_destroy_response(r);
		return MHD_NO;
	}
	ok = MHD_queue_response(mc, (unsigned)req->reply.status, r);
	MHD_destroy_response(r);
	req->conn->replying = ok == MHD_YES;
	return ok;
}

/* It waits no longer, or is suspended from now on. */
static void
let_go(struct http *h, struct request *req)
{
	h->held -= req->held;
	req->held = false;
}

/*
 * A request that is with the device will mostly have its reply in a moment. Suspending and resuming a connection costs
 * two changes of libmicrohttpd's epoll set, so at first the connection stays as it is: libmicrohttpd asks for the
 * reply whenever it runs.
 */
static bool
hold(struct http *h, struct request *req)
{
	if (req->suspended || !request_is_submitted(req) || ++req->asked > HELD_ASKS ||
	    (!req->held && h->held == HELD_MAX))
		return false;
	h->held += !req->held;
	req->held = true;
	return true;
}

static enum MHD_Result
handle(void *cls, struct MHD_Connection *mc, const char *url, const char *method, const char *version,
       const char *upload, size_t *upload_size, void **ctx)
{
	struct request *req = *ctx;
	const union MHD_ConnectionInfo *info;
	struct http *h = cls;
	struct conn *c;

	(void)url, (void)method, (void)version, (void)upload;
	if (req == NULL) {
		h->moved = true;
		info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
		c = info == NULL ? NULL : info->socket_context;
		if (c == NULL || c->state != CONN_GIVEN || c->given != c->head.length) {
			log_error("a request reached libmicrohttpd unchecked: refused");
			return MHD_NO;
		}
		*ctx = request_new(c, mc);
		return *ctx == NULL ? MHD_NO : MHD_YES;
	}
	*upload_size = 0;
	switch (request_turn(req)) {
	case TURN_REPLY:
		/* After the reply libmicrohttpd would wait for a socket event, but what came along with the request (the
		 * next one, the end) has had its event; after a resume it asks without one. */
		if (!req->suspended && !conn_is_quiet(req->conn))
			break;
		h->moved = true;
		let_go(h, req);
		return queue_reply(mc, req);
	case TURN_GONE:
		return MHD_NO;
	case TURN_WAIT:
		if (hold(h, req))
			return MHD_YES;
		break;
	}
	h->moved = true;
	let_go(h, req);
	req->suspended = true;
	MHD_suspend_connection(mc);
	if (req->ready)
		http_resume(req);
	return MHD_YES;
}

static void
completed(void *cls, struct MHD_Connection *mc, void **ctx, enum MHD_RequestTerminationCode why)
{
	struct request *req = *ctx;
	struct http *h = cls;

	(void)mc;
	*ctx = NULL;
	h->moved = true;
	if (req == NULL)
		return;
	let_go(h, req);
	/* Nobody takes the reply: then its rest, some megabytes, is not to wait in the kernel either. */
	if (why == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED && req->conn->replying)
		conn_drop_unsent(req->conn);
	request_end(req);
}

static size_t
unescape_nothing(void *cls, struct MHD_Connection *mc, char *s)
{
	(void)cls, (void)mc;
	return strlen(s);
}

struct http *
http_new(struct loop *l, struct err *e)
{
	struct http *h = xcalloc(1, sizeof(*h));
	const struct options *o = l->svc->opt;
	/* Room for the head, its fields' table and the reply's head. It is cleared for every request. */
	size_t memory = 2 * (size_t)o->max_head + 96 * (size_t)o->max_head_fields;
	const union MHD_DaemonInfo *info;

	if (memory < 24576)
		memory = 24576;
	h->loop = l;
	h->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		handle, h, MHD_OPTION_EXTERNAL_LOGGER, daemon_says, NULL, MHD_OPTION_NOTIFY_CONNECTION,
		connection_notify, h, MHD_OPTION_NOTIFY_COMPLETED, completed, h, MHD_OPTION_UNESCAPE_CALLBACK,
		unescape_nothing, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)(o->idle_timeout + 0.999), MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections + 1,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	if (h->daemon == NULL) {
		err_set(e, ERR_INTERNAL, "libmicrohttpd could not be started");
		free(h);
		return NULL;
	}
	info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	h->epfd = info->epoll_fd;
	return h;
}

void
http_free(struct http **hp)
{
	struct http *h = *hp;

	if (h == NULL)
		return;
	*hp = NULL;
	MHD_stop_daemon(h->daemon);
	free(h);
}

int
http_fd(const struct http *h)
{
	return h->epfd;
}

void
http_add(struct http *h, int fd, const struct sockaddr *addr, socklen_t len)
{
	/* On failure it closes the socket itself. */
	if (MHD_add_connection(h->daemon, fd, addr, len) != MHD_YES)
		log_debug("a connection could not be taken");
}

void
http_run(struct http *h)
{
	h->moved = false;
	h->ran_ns = h->loop->now_ns;
	if (MHD_run(h->daemon) != MHD_YES)
		log_error("libmicrohttpd's loop failed");
}

int
http_timeout_ms(const struct http *h)
{
	MHD_UNSIGNED_LONG_LONG ms;
	uint64_t due = h->ran_ns + HELD_NS, now = h->loop->now_ns;

	/* libmicrohttpd counts connections that are held as work to be done at once. */
	if (h->held > 0)
		return h->moved || now >= due ? 0 : (int)((due - now + 999999) / 1000000);
	if (MHD_get_timeout(h->daemon, &ms) != MHD_YES)
		return -1;
	return ms > 60000 ? 60000 : (int)ms;
}

const char *
http_header(const struct request *req, const char *name)
{
	return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

struct header_count {
	const char *name;
	int n;
	struct text *joined; /* NULL: only count */
};

static enum MHD_Result
count_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct header_count *c = cls;

	(void)kind;
	if (strcasecmp(name, c->name) != 0)
		return MHD_YES;
	if (c->joined != NULL) {
		text_add(c->joined, c->n > 0 ? ", " : "");
		text_add(c->joined, value != NULL ? value : "");
	}
	c->n++;
	return MHD_YES;
}

int
http_header_count(const struct request *req, const char *name)
{
	struct header_count c = {.name = name};

	MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, count_header, &c);
	return c.n;
}

const char *
http_header_list(const struct request *req, const char *name, struct text *joined)
{
	struct header_count c = {.name = name, .joined = joined};

	if (http_header_count(req, name) < 2)
		return http_header(req, name);
	MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, count_header, &c);
	return joined->failed ? NULL : joined->p;
}

void
http_resume(struct request *req)
{
	MHD_resume_connection(req->mhd);
	req->loop->http_ready = true;
}
