/*
 * conn.h: one client connection's receive side, kept out of libmicrohttpd's hands.
 *
 * libmicrohttpd reads its sockets with recv(), and this program defines recv(): so each request head passes a
 * strict check (http_head.h) before libmicrohttpd sees a byte of it. It never sees a body: the names of the
 * framing fields are blanked, so that to it every request ends with its head, and while the connection is
 * suspended the body is read here, straight from the socket into the tensors (decoder.h's windows). That makes
 * uploads as fast as plain recv, keeps libmicrohttpd's buffers small (it clears them for every request), and
 * leaves deadlines, minimum rates, 100-continue and early refusals in one place.
 *
 * A bad head is answered from here too; libmicrohttpd only notices the connection's end.
 *
 *     HEAD ---> GIVEN ---> BODY ---> HANDLED ---> HEAD ...
 *       \                    \
 *        `----> LINGER <------'    an error was sent, input is dropped until the client closes or 2 s pass
 */
#ifndef AITERD_CONN_H
#define AITERD_CONN_H

#include <sys/socket.h>

#include "front/http_head.h"
#include "front/loop.h"

struct request;
struct peer;

struct conn_pace { /* a period over which a rate is watched: its beginning (0: none) and the count then */
	uint64_t since_ns, count;
};

enum conn_state { CONN_HEAD, CONN_GIVEN, CONN_BODY, CONN_FEEDING, CONN_HANDLED, CONN_LINGER };

struct conn {
	struct loop_source source; /* while a body is awaited */
	struct loop *loop;
	struct conn *next, *prev;
	int fd;
	enum conn_state state;
	bool watched;
	bool tcp;
	bool adopted; /* libmicrohttpd has it, and tells of its end */
	uint64_t accepted_ns;
	struct peer *peer; /* its address's count; NULL: none is kept */

	char *buf; /* bytes received and not used yet: [start, len) */
	size_t start, len, cap;

	size_t scanned;
	bool skipped_line; /* an empty line was dropped before this head */
	uint64_t head_ns;  /* when the first byte of this head came; 0: none yet */
	struct http_head head;
	char method[16];
	char *target; /* of the request in hand, NUL-terminated, inside a buffer of the connection's own */
	size_t target_cap;
	size_t given; /* bytes of the head libmicrohttpd has got */

	struct http_chunked chunked;
	uint64_t body_left;  /* with Content-Length */
	uint64_t body_bytes; /* received of this body, framing not counted */
	uint64_t body_ns;    /* when its reading began */
	uint64_t moved_ns;   /* when something of it came last */
	struct conn_pace body_pace;
	bool continue_owed;		/* the client waits for 100 Continue */
	bool discard;			/* the request has failed: the rest of the body is only drained */
	uint64_t discarded, discard_ns; /* how much, since when */
	int fed;			/* what came of a helper's feeding; conn_body.c */
	uint64_t linger_until_ns;
	bool replying; /* libmicrohttpd has a reply to send */
	struct conn_pace reply_pace;
	struct request *req; /* reading this one's body */
};

/* The table of descriptors under watch, sized by RLIMIT_NOFILE, and the limits of connections. Once, before any loop
 * starts. */
int conn_setup(struct service *svc, struct err *e);

/* Admits and registers an accepted connection; NULL: *e says why not. From then on conn_free is due once: when libmicrohttpd
 * says that it is over, or by conn_sweep when it has never taken it. */
struct conn *conn_new(struct loop *l, int fd, const struct sockaddr *addr, struct err *e);
void conn_free(struct conn **c); /* does not close fd: libmicrohttpd does */
struct conn *conn_find(int fd);

bool conn_has_body(const struct conn *c);

/* The connection is suspended and its request wants the body: read what is there and then as it comes. Calls
 * request_body_end() (request.h), perhaps before returning. */
void conn_body_start(struct conn *c, struct request *req);

/* The body is not wanted, because the request has failed or takes none: can it be drained cheaply, so that the
 * connection lives on? If so, request_body_end() follows. If not (large, or the client of a failed request waits for
 * 100 Continue), false: the caller refuses. */
bool conn_body_discard(struct conn *c, struct request *req);

/* Send this whole reply (head and body as text) from here, stop sending, drop what still comes for a while;
 * request_gone() follows at its end when req is set. */
void conn_refuse(struct conn *c, const char *text, size_t len, struct request *req);

/* The request, without a body or with all of it, is answered later; its client is watched meanwhile. */
void conn_wait(struct conn *c, struct request *req);

/* The reply is sent (or the request is over otherwise): the next head may come. */
void conn_request_end(struct conn *c);

/* Nothing came behind the request in hand, neither more requests nor the end: whatever comes will make a socket event. */
bool conn_is_quiet(const struct conn *c);

/* Whatever the kernel still holds for this client goes when libmicrohttpd closes. */
void conn_drop_unsent(struct conn *c);

/* Has the client closed its side? */
bool conn_client_gone(struct conn *c);

/* Every 250 ms: deadlines. */
void conn_sweep(struct loop *l, uint64_t now_ns);

/* The loop is ending: give up what still waits, so that nothing is suspended when libmicrohttpd stops. */
void conn_abandon_all(struct loop *l);

#endif
