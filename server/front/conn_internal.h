/* conn_internal.h: what conn.c and conn_body.c share. */
#ifndef AITERD_CONN_INTERNAL_H
#define AITERD_CONN_INTERNAL_H

#include <sys/types.h>

#include "front/conn.h"

/* recv without waiting and without our own recv() in between. */
ssize_t conn_read(struct conn *c, void *p, size_t n);
/* Room for n bytes behind what is kept already; NULL: no memory. */
char *conn_room(struct conn *c, size_t n);
/* Keep bytes for later, behind what is kept already; -1: no memory. */
int conn_stash(struct conn *c, const void *p, size_t n);
/* Throw away what comes; 0 at the end, -1 with errno (EAGAIN: nothing more for now). */
ssize_t conn_drain(struct conn *c);
void conn_unwatch(struct conn *c);
/* Answer a bad head; -1 and EAGAIN, which is what libmicrohttpd hears. */
ssize_t conn_head_refuse(struct conn *c, const struct err *e);
/* The connection's descriptor is ready in the loop's own epoll set. */
void conn_ready(struct loop_source *s, uint32_t events);

#endif
