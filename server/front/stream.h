/*
 * stream.h: a reply that is sent while it is still being made, a line or an event at a time (NDJSON, SSE). The writer, say a
 * sweep of measurements, appends; libmicrohttpd takes (http.c). What is made and not yet taken is bounded by the writer, who
 * asks stream_is_full() before making more. Of a job (Prefer: respond-async) all is collected, and is a whole reply at its end.
 * The loop's thread only.
 */
#ifndef AITERD_STREAM_H
#define AITERD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct request;
struct stream;

struct stream_events {
	void (*room)(struct request *req);		    /* it was full, and is no longer */
	void (*gone)(struct request *req);		    /* nobody reads any more; once, unless it has ended */
	void (*tick)(struct request *req, uint64_t now_ns); /* every 250 ms or so */
};

/* The reply begins: status 200, of this type. From now on the request is the writer's, too: it lives until stream_end.
 * NULL when there is no memory. */
struct stream *stream_begin(struct request *req, const char *content_type, const struct stream_events *events);
void stream_write(struct request *req, const char *p, size_t n);
/* Nothing that could wait is waiting to be read. */
bool stream_is_empty(const struct request *req);
bool stream_is_full(struct request *req);
bool stream_is_gone(const struct request *req);
/* All is written; the request may be freed in here. */
void stream_end(struct request *req);

/* request.c's news: the client has left; the exchange is over; time passes. */
void stream_gone(struct request *req);
void stream_closed(struct request *req);
void stream_tick(struct request *req, uint64_t now_ns);
void stream_free(struct stream **s);

/* For http.c: bytes of the reply, 0: none at the moment (http_resume() follows), -1: the end, -2: it breaks off. */
ssize_t stream_read(struct request *req, char *buf, size_t size);

#endif
