/*
 * line.h: what an event loop and a worker talk through: two rings of messages in memory that both map, one in each
 * direction, and the socket pair beside them. A message costs a copy and no system call. The socket carries what rings
 * cannot: descriptors (a MAP's slab; the rings themselves, at the start), a bell for a side that sleeps, and the end
 * of file when the other side is gone.
 *
 * Order is the rings': a message with a descriptor leaves a note there, and is taken from the socket when its turn comes.
 * The other side may be broken: a message is copied before it is looked at, and positions that make no sense
 * are reported, not followed. One thread at either end.
 */
#ifndef AITERD_LINE_H
#define AITERD_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "msg.h"

#define LINE_SLOTS 32 /* messages that fit a ring */

struct line_page; /* what is shared */

/* What a message may be, for a buffer. */
union line_message {
	struct msg m;
	struct msg_map map;
	struct msg_job job;
	struct msg_done done;
	struct msg_forget forget;
};

struct line {
	int sock; /* -1: closed */
	bool front;
	struct line_page *page; /* NULL: no rings (yet) */
	uint32_t put, got;	/* messages put and got so far, round the clock */
	struct msg_map early;	/* came out of the socket before its note was seen */
	int early_fd;		/* -1: there is none */
};

/* The front's end: make the rings and send them. Takes the socket, also on failure. */
int line_open(struct line *l, int sock, struct err *e);
/* The worker's end: the rings come as the socket's first message, when line_bell sees it. */
void line_init(struct line *l, int sock);
void line_close(struct line *l);

/* Put a message into the ring: 0, or 1 when there is no room. Call line_ring when the other side should know. */
int line_put(struct line *l, const void *m, size_t len);
/* The same with a descriptor (MSG_MAP): -1 when the other side is gone. */
int line_put_fd(struct line *l, const void *m, size_t len, int fd);
/* Wake the other side if it sleeps. */
void line_ring(struct line *l);

/* The next message: its length, 0 when there is none, -1 when the ring or the message makes no sense. *fd is the
 * message's descriptor, which the caller owns, or -1. */
int line_get(struct line *l, union line_message *m, int *fd);
bool line_empty(const struct line *l);

/* About to wait for the socket: true when the ring is empty; from now on the other side rings. */
bool line_sleep(struct line *l);
void line_awake(struct line *l);
/* The socket is readable: 1 it was the bell (or the worker's rings), 0 the end of file, -1 something that does not
 * belong there. */
int line_bell(struct line *l);

#endif
