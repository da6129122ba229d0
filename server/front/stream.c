/* stream.c: see stream.h. */
#include "front/stream.h"

#include <stdlib.h>
#include <string.h>

#include "front/http.h"
#include "front/request.h"
#include "text.h"

#define FULL (256 * 1024)	   /* bytes nobody has taken yet */
#define CEILING (64 * 1024 * 1024) /* more than any writer that asks will have */

struct stream {
	const struct stream_events *events;
	struct text text;
	size_t taken;
	bool waiting; /* the connection is suspended until there is something to read */
	bool was_full, ended, gone, closed;
};

struct stream *
stream_begin(struct request *req, const char *content_type, const struct stream_events *events)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->events = events;
	text_init(&s->text, CEILING);
	req->stream = s;
	req->refs++;
	req->reply.status = 200;
	req->reply.body.content_type = content_type;
	if (req->job == NULL)
		request_ready(req);
	return s;
}

void
stream_free(struct stream **sp)
{
	if (*sp != NULL)
		text_fini(&(*sp)->text);
	free(*sp);
	*sp = NULL;
}

/* There is something to read, or never will be again. */
static void
wake(struct request *req)
{
	struct stream *s = req->stream;

	if (!s->waiting || s->closed)
		return;
	s->waiting = false;
	http_resume(req);
}

void
stream_write(struct request *req, const char *p, size_t n)
{
	struct stream *s = req->stream;

	if (s->gone || n == 0)
		return;
	if (s->taken == s->text.len)
		s->taken = s->text.len = 0;
	text_addn(&s->text, p, n);
	wake(req);
}

bool
stream_is_empty(const struct request *req)
{
	return req->stream->taken == req->stream->text.len;
}

bool
stream_is_full(struct request *req)
{
	struct stream *s = req->stream;

	s->was_full = !s->gone && req->job == NULL && s->text.len - s->taken >= FULL;
	return s->was_full;
}

bool
stream_is_gone(const struct request *req)
{
	return req->stream->gone;
}

void
stream_end(struct request *req)
{
	struct stream *s = req->stream;

	s->ended = true;
	if (req->job == NULL) {
		wake(req);
		request_unref(req);
		return;
	}
	req->refs--; /* first: with its reply it is everybody's */
	if (!s->text.failed) {
		request_reply_text(req, 200, req->reply.body.content_type, &s->text);
		return;
	}
	err_set(&req->err, ERR_OUT_OF_MEMORY, "the reply became longer than the %d bytes of it that a job keeps",
		CEILING);
	request_reply_error(req);
}

void
stream_gone(struct request *req)
{
	struct stream *s = req->stream;

	if (s->gone)
		return;
	s->gone = true;
	wake(req);
	if (!s->ended)
		s->events->gone(req);
}

void
stream_closed(struct request *req)
{
	req->stream->closed = true;
	stream_gone(req);
}

void
stream_tick(struct request *req, uint64_t now_ns)
{
	struct stream *s = req->stream;

	if (!s->ended && !s->gone && s->events->tick != NULL)
		s->events->tick(req, now_ns);
}

ssize_t
stream_read(struct request *req, char *buf, size_t size)
{
	struct stream *s = req->stream;
	size_t n = s->text.len - s->taken;

	if (s->gone || s->text.failed)
		return -2;
	if (n == 0) {
		s->waiting = !s->ended;
		return s->ended ? -1 : 0;
	}
	n = n < size ? n : size;
	memcpy(buf, s->text.p + s->taken, n);
	s->taken += n;
	/* What a slow reader leaves must not grow at the front. */
	if (s->taken > s->text.len / 2 && s->taken < s->text.len) {
		memmove(s->text.p, s->text.p + s->taken, s->text.len - s->taken);
		s->text.len -= s->taken;
		s->taken = 0;
	}
	if (s->was_full && s->text.len - s->taken < FULL / 2) {
		s->was_full = false;
		s->events->room(req);
	}
	return (ssize_t)n;
}
