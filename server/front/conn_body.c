/*
 * conn_body.c: reads request bodies, Content-Length or chunked, straight into the tensors where the decoder offers a
 * window, and drains the bodies of failed requests. See conn.h.
 */
#include "front/conn_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "clock.h"
#include "front/helpers.h"
#include "front/request.h"
#include "log.h"

#define DRAIN_MAX (1024 * 1024) /* of a failed request's body, before the connection is given up instead */
#define RECV_MAX (4 * 1024 * 1024)
#define TURN_MAX (16 * 1024 * 1024) /* bytes of one body, received and inflated, before other connections' turn */
#define WINDOW_MIN (16 * 1024)	    /* smaller windows are not worth a system call of their own */
#define FEED_MAX (128 * 1024)	    /* received and inflated in turns: both fit a core's cache */

bool
conn_has_body(const struct conn *c)
{
	return c->head.chunked || (c->head.has_length && c->head.content_length > 0);
}

enum pump { PUMP_WAIT, PUMP_END, PUMP_FAILED, PUMP_GONE, PUMP_HELP };

/* The request has failed: what still comes is dropped. */
static enum pump
discard(struct conn *c)
{
	c->discard = true;
	c->discard_ns = clock_ns();
	return c->head.has_length && c->body_left > DRAIN_MAX ? PUMP_FAILED : PUMP_WAIT;
}

/* n payload bytes at p. */
static enum pump
body_feed(struct conn *c, const unsigned char *p, size_t n)
{
	c->body_bytes += n;
	c->moved_ns = clock_ns();
	if (!c->discard)
		return request_body_feed(c->req, p, n) == 0 ? PUMP_WAIT : discard(c);
	c->discarded += n;
	return c->discarded > DRAIN_MAX ? PUMP_FAILED : PUMP_WAIT;
}

/* n bytes came through the window. */
static enum pump
body_advance(struct conn *c, size_t n)
{
	c->body_bytes += n;
	c->moved_ns = clock_ns();
	return request_body_advance(c->req, n) == 0 ? PUMP_WAIT : discard(c);
}

static bool
body_ended(const struct conn *c)
{
	return c->head.chunked ? c->chunked.done : c->body_left == 0;
}

/* Framed bytes of a chunked body, from the stash; what lies behind its end stays there for the next request. */
static enum pump
chunked_feed(struct conn *c)
{
	struct err e = {0};
	const char *payload;
	size_t payload_len;
	enum pump r;
	long used;

	while (c->start < c->len && !c->chunked.done) {
		used = http_chunked_next(&c->chunked, c->buf + c->start, c->len - c->start, &payload, &payload_len, &e);
		if (used == -1) {
			request_body_error(c->req, &e);
			return PUMP_FAILED;
		}
		c->start += (size_t)used;
		if (payload_len > 0 && (r = body_feed(c, (const unsigned char *)payload, payload_len)) != PUMP_WAIT)
			return r;
	}
	return PUMP_WAIT;
}

/* Use what was received but not yet looked at. */
static enum pump
stash_feed(struct conn *c)
{
	size_t n;

	if (c->head.chunked)
		return chunked_feed(c);
	n = c->len - c->start;
	if (n > c->body_left)
		n = (size_t)c->body_left;
	c->body_left -= n;
	c->start += n;
	return body_feed(c, (unsigned char *)c->buf + c->start - n, n);
}

static enum pump
read_result(const struct conn *c, ssize_t n)
{
	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return PUMP_WAIT;
	return body_ended(c) ? PUMP_END : PUMP_GONE;
}

static size_t
least(uint64_t a, uint64_t b)
{
	return (size_t)(a < b ? a : b);
}

/* Bytes received and inflated so far: what the body has cost the loop. */
static uint64_t
body_work(const struct conn *c)
{
	return c->body_bytes + request_body_inflated(c->req);
}

/* Received bytes that do not go straight into a tensor. */
static enum pump
scratch_feed(struct conn *c, const unsigned char *p, size_t n)
{
	if (!c->head.chunked && (c->discard || !request_body_is_work(c->req))) {
		c->body_left -= n;
		return body_feed(c, p, n);
	}
	return conn_stash(c, p, n) == -1 ? PUMP_GONE : PUMP_WAIT;
}

static enum pump
pump(struct conn *c)
{
	unsigned char *dst;
	uint64_t begun = body_work(c), left;
	size_t n, w;
	ssize_t got;
	enum pump r;

	while (!body_ended(c)) {
		if (c->start < c->len) { /* came along with the head, or must be unwrapped first */
			if (!c->discard && request_body_is_work(c->req))
				return PUMP_HELP;
			if ((r = stash_feed(c)) != PUMP_WAIT)
				return r;
			continue;
		}
		if (body_work(c) - begun >= TURN_MAX)
			return PUMP_WAIT;
		left = c->head.chunked ? http_chunked_window(&c->chunked) : c->body_left;
		w = c->discard || left == 0 ? 0 : request_body_window(c->req, &dst);
		if (w >= WINDOW_MIN || (w > 0 && w >= left)) {
			n = least(least(w, left), RECV_MAX);
			if ((got = conn_read(c, dst, n)) <= 0)
				return read_result(c, got);
			if (c->head.chunked)
				http_chunked_take(&c->chunked, (uint64_t)got);
			else
				c->body_left -= (uint64_t)got;
			r = body_advance(c, (size_t)got);
		} else {
			n = c->head.chunked ? LOOP_SCRATCH : least(c->body_left, LOOP_SCRATCH);
			if ((got = conn_read(c, c->loop->scratch, n)) <= 0)
				return read_result(c, got);
			r = scratch_feed(c, c->loop->scratch, (size_t)got);
		}
		if (r != PUMP_WAIT)
			return r;
		if ((size_t)got < n && !body_ended(c) &&
		    c->start == c->len) /* drained: let epoll say when there is more */
			return PUMP_WAIT;
	}
	return PUMP_END;
}

static void pump_and_tell(struct conn *c);

/* Is there more to inflate? A helper receives that itself, as long as nothing else waits for helpers: each change of
 * threads costs as much as receiving, and the loop's processor is free for the client, or for others. */
static bool
feed_goes_on(struct conn *c)
{
	size_t n = c->head.chunked ? FEED_MAX : least(c->body_left, FEED_MAX);
	ssize_t got;
	char *p;

	if (c->fed != PUMP_WAIT || body_ended(c) || c->discard)
		return false;
	if (c->start < c->len)
		return true;
	if (!request_body_is_coded(c->req) || helpers_wanted(c->loop->svc->helpers))
		return false;
	if ((p = conn_room(c, n)) == NULL) {
		c->fed = PUMP_GONE;
		return false;
	}
	got = conn_read(c, p, n);
	if (got <= 0) {
		c->fed = (int)read_result(c, got);
		return false;
	}
	c->len += (size_t)got;
	return true;
}

/* On a helper thread: inflating, and the making of fresh memory, take too long for a loop. Until feed_done the
 * connection is the helper's. */
static void
feed_work(struct helper_task *t)
{
	struct conn *c = request_of_task(t)->conn;
	uint64_t begun = body_work(c);

	do
		c->fed = (int)stash_feed(c);
	while (body_work(c) - begun < TURN_MAX && feed_goes_on(c));
}

static void tell(struct conn *c, enum pump what);

static void
feed_done(struct request *req)
{
	struct conn *c = req->conn;

	c->state = CONN_BODY;
	if (c->fed == PUMP_WAIT)
		pump_and_tell(c);
	else
		tell(c, (enum pump)c->fed);
}

static void
tell(struct conn *c, enum pump what)
{
	struct request *req = c->req;

	switch (what) {
	case PUMP_WAIT:
		if (!c->watched && loop_watch(c->loop, c->fd, &c->source, EPOLLIN | EPOLLRDHUP) == 0)
			c->watched = true;
		return;
	case PUMP_HELP:
		conn_unwatch(c);
		c->state = CONN_FEEDING;
		request_help(req, feed_work, feed_done);
		return;
	case PUMP_END:
		conn_unwatch(c);
		c->state = CONN_HANDLED;
		request_body_end(req);
		return;
	case PUMP_FAILED:
		request_refuse(req);
		return;
	case PUMP_GONE:
		conn_unwatch(c);
		c->state = CONN_HANDLED;
		request_gone(req);
		return;
	}
}

static void
pump_and_tell(struct conn *c)
{
	tell(c, pump(c));
}

void
conn_ready(struct loop_source *s, uint32_t events)
{
	struct conn *c = (struct conn *)s;
	struct request *req = c->req;
	ssize_t n;

	(void)events;
	if (c->state == CONN_BODY) {
		pump_and_tell(c);
	} else if (c->state == CONN_LINGER) {
		n = conn_drain(c);
		if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
			conn_unwatch(c);
			c->req = NULL;
			if (req != NULL)
				request_gone(req);
		}
	} else {
		conn_unwatch(c);
	}
}

void
conn_body_start(struct conn *c, struct request *req)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

	assert(c->state == CONN_GIVEN);
	c->req = req;
	c->state = CONN_BODY;
	c->body_ns = c->moved_ns = clock_ns();
	c->body_pace = (struct conn_pace){c->body_ns, 0};
	if (c->continue_owed && conn_has_body(c) && c->start == c->len &&
	    send(c->fd, go_on, sizeof(go_on) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
		log_debug("100 Continue could not be sent: %s", strerror(errno));
	c->continue_owed = false;
	pump_and_tell(c);
}

bool
conn_body_discard(struct conn *c, struct request *req)
{
	bool failed = req->err.code != ERR_NONE;

	if (failed && c->continue_owed && c->start == c->len)
		return false;
	if (!c->head.chunked && c->body_left > DRAIN_MAX)
		return false;
	c->discard = true;
	c->discard_ns = clock_ns();
	c->continue_owed = c->continue_owed && !failed;
	conn_body_start(c, req);
	return true;
}
