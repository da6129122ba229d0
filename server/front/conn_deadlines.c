/*
 * conn_deadlines.c: what no connection may do for long, looked at every 250 ms: a head that does not end, a body that does
 * not come, a reply that is not taken. (libmicrohttpd closes those on which nothing moves for --idle-timeout.) See conn.h.
 */
#include "front/conn_internal.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "clock.h"
#include "front/request.h"
#include "log.h"

#define DRAIN_NS 1000000000u /* a failed request's body is drained for so long, for the connection's sake */
#define RATE_GRACE_NS 10000000000u
#define ADOPT_NS 1000000000u /* libmicrohttpd takes a connection in the same turn, or never */

static void
sweep_head(struct conn *c, uint64_t now)
{
	double limit = c->loop->svc->opt->head_timeout;
	struct err e = {0};

	if (c->head_ns == 0 || now < c->head_ns || (double)(now - c->head_ns) < limit * 1e9)
		return;
	err_set(&e, ERR_REQUEST_TIMEOUT, "the request head was not complete %g s after its first byte", limit);
	conn_head_refuse(c, &e);
}

/*
 * A count that should grow by `rate` a second: true when it has not, over a whole period of --idle-timeout. Periods follow each
 * other, so that a fast beginning is no credit for the rest.
 */
static bool
too_slow(struct conn_pace *p, uint64_t now, uint64_t count, double period_s, uint64_t rate, uint64_t *grown)
{
	bool slow;

	if (p->since_ns == 0 || now < p->since_ns) {
		*p = (struct conn_pace){now, count};
		return false;
	}
	if ((double)(now - p->since_ns) < period_s * 1e9)
		return false;
	*grown = count > p->count ? count - p->count : 0;
	slow = (double)*grown < (double)rate * (double)(now - p->since_ns) / 1e9;
	*p = (struct conn_pace){now, count};
	return slow;
}

static void
sweep_body(struct conn *c, uint64_t now)
{
	uint64_t rate = c->loop->svc->opt->min_body_rate, elapsed = now - c->body_ns, grown = 0;
	double idle = c->loop->svc->opt->idle_timeout;
	struct err e = {0};

	/* Somebody who waits for an answer before sending on should get it. */
	if (c->discard && c->req->err.code != ERR_NONE && now > c->discard_ns + DRAIN_NS) {
		request_refuse(c->req);
		return;
	}
	if (now >= c->moved_ns && (double)(now - c->moved_ns) > idle * 1e9) {
		err_set(&e, ERR_REQUEST_TIMEOUT, "nothing of the body arrived for %g s, after %llu bytes", idle,
			(unsigned long long)c->body_bytes);
		goto refuse;
	}
	if (too_slow(&c->body_pace, now, c->body_bytes, idle, rate, &grown)) {
		err_set(&e, ERR_REQUEST_TIMEOUT,
			"the body arrived too slowly: %llu bytes in the last %g s, at least %llu bytes/s are wanted",
			(unsigned long long)grown, idle, (unsigned long long)rate);
		goto refuse;
	}
	if (now < c->body_ns || elapsed < RATE_GRACE_NS || rate == 0 ||
	    (double)c->body_bytes >= (double)rate * (double)elapsed / 1e9)
		return;
	err_set(&e, ERR_REQUEST_TIMEOUT,
		"the body arrived too slowly: %llu bytes in %.1f s, at least %llu bytes/s are wanted",
		(unsigned long long)c->body_bytes, (double)elapsed / 1e9, (unsigned long long)rate);
refuse:
	request_body_error(c->req, &e);
	request_refuse(c->req);
}

/* What the client's machine has confirmed of all that was sent to it: other than what the socket has taken, this does not
 * count what waits in a buffer here. false: nothing waits for the client (it may wait for us), or it cannot be known. */
static bool
bytes_taken(const struct conn *c, uint64_t *n)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (!c->tcp || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == -1 ||
	    len < offsetof(struct tcp_info, tcpi_notsent_bytes) + sizeof(info.tcpi_notsent_bytes))
		return false;
	*n = info.tcpi_bytes_acked;
	return info.tcpi_notsent_bytes > 0 || info.tcpi_unacked > 0;
}

void
conn_drop_unsent(struct conn *c)
{
	struct linger at_once = {1, 0};

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

/* A reply in libmicrohttpd's hands. Small ones follow each other without a pause when the client has asked ahead and
 * does not read, so the pace is the connection's, not the reply's. */
static void
sweep_reply(struct conn *c, uint64_t now)
{
	const struct options *o = c->loop->svc->opt;
	uint64_t taken, grown = 0;

	if (!c->replying || o->min_reply_rate == 0 || !bytes_taken(c, &taken)) {
		c->reply_pace.since_ns = 0;
		return;
	}
	if (!too_slow(&c->reply_pace, now, taken, o->idle_timeout, o->min_reply_rate, &grown))
		return;
	log_debug("a client took %llu bytes of its reply in %g s, at least %llu bytes/s are wanted: cut off",
		  (unsigned long long)grown, o->idle_timeout, (unsigned long long)o->min_reply_rate);
	conn_drop_unsent(c);
	/* libmicrohttpd notices, and closes. */
	shutdown(c->fd, SHUT_RDWR);
}

void
conn_sweep(struct loop *l, uint64_t now_ns)
{
	struct conn *c, *next;
	struct request *req;

	for (c = l->conns; c != NULL; c = next) {
		next = c->next;
		if (!c->adopted) {
			if (now_ns > c->accepted_ns + ADOPT_NS)
				conn_free(&c);
			continue;
		}
		sweep_reply(c, now_ns);
		switch (c->state) {
		case CONN_HEAD:
			sweep_head(c, now_ns);
			break;
		case CONN_BODY:
			sweep_body(c, now_ns);
			break;
		case CONN_HANDLED:
			if (c->req != NULL && conn_client_gone(c))
				request_gone(c->req);
			else if (c->req != NULL) {
				request_overdue(c->req, now_ns);
				request_tick(c->req, now_ns);
			}
			break;
		case CONN_LINGER:
			if (now_ns < c->linger_until_ns)
				break;
			/* Ends it for libmicrohttpd too, which then closes. */
			shutdown(c->fd, SHUT_RDWR);
			conn_unwatch(c);
			req = c->req;
			c->req = NULL;
			if (req != NULL)
				request_gone(req);
			break;
		case CONN_GIVEN:
		case CONN_FEEDING:
			break;
		}
	}
}

void
conn_abandon_all(struct loop *l)
{
	struct conn *c;

	for (c = l->conns; c != NULL; c = c->next) {
		conn_unwatch(c);
		if (c->req != NULL)
			request_gone(c->req);
	}
}
