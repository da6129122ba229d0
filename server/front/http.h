/*
 * http.h: libmicrohttpd's place in a loop. http.c is the only file that knows libmicrohttpd: it hands over requests
 * whose heads conn.c has checked, and sends the replies that request.c has made.
 */
#ifndef AITERD_HTTP_H
#define AITERD_HTTP_H

#include <stdbool.h>
#include <sys/socket.h>

#include "err.h"

struct http;
struct loop;
struct request;
struct text;

struct http *http_new(struct loop *l, struct err *e);
void http_free(struct http **h); /* no request may be waiting */

/* Becomes readable when http_run has something to do. */
int http_fd(const struct http *h);
/* Take an accepted, nonblocking connection; closes it on failure. */
void http_add(struct http *h, int fd, const struct sockaddr *addr, socklen_t len);
void http_run(struct http *h);
/* Milliseconds until http_run must be called anyway; -1: no need. */
int http_timeout_ms(const struct http *h);

/* NULL when the field is not there. */
const char *http_header(const struct request *req, const char *name);
/* The same for a list field, which may be spread over several lines: then they are joined in *joined. */
const char *http_header_list(const struct request *req, const char *name, struct text *joined);
/* How often it is there. */
int http_header_count(const struct request *req, const char *name);
/* The request, suspended until now, has its reply (or is gone): libmicrohttpd is to ask for it. */
void http_resume(struct request *req);

#endif
