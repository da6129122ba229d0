/*
 * link.c: one event loop's line to one worker; link.h. The worker is not trusted: its answers are matched with what
 * was asked, and a surprise ends it. A job's memory is the worker's until that has answered or is dead.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "front/link.h"
#include "front/link_forget.h"
#include "front/store.h"
#include "line.h"
#include "log.h"

/* With the worker at a time: enough to keep it busy, few enough that cancelling and failing over stay simple. */
#define DEPTH 16
#define GRACE_NS UINT64_C(300000000)   /* past its deadline a running job may still end by itself */
#define ANSWER_NS UINT64_C(5000000000) /* an idle worker that has not answered a CANCEL for so long has lost it */
#define CLOSED_NS                                                                                                      \
	UINT64_C(1000000000) /* a worker that closed its line has so long to be found dead by the supervisor */
#define BATCH 64	     /* answers handled before the loop gets its turn */

enum { J_WAITING = 1, J_SENT, J_ENDED };

struct list {
	struct link_job *head, **tail;
};

struct link {
	struct link_config c;
	struct line line;
	uint32_t generation;
	const struct worker_status *st; /* NULL: no worker */
	bool killed;			/* its death was asked for */
	uint64_t closed_ns;		/* it closed its line then, 0: it did not */
	struct err hopeless;		/* code 0: there is hope */
	struct list waiting, sent, ended;
	unsigned n_sent, n_jobs;
	uint64_t last_id;
	uint64_t gone;			  /* kept tensors that the worker knows to be gone */
	uint32_t epoch, n_mapped;	  /* mapped: numbers below this */
	uint32_t mapped[ARENA_SLABS_MAX]; /* generation the worker knows, 0: none */
};

static void
list_init(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void
list_add(struct list *l, struct link_job *j)
{
	j->next = NULL;
	*l->tail = j;
	l->tail = &j->next;
}

static void
list_remove(struct list *l, struct link_job *j)
{
	struct link_job **p = &l->head;

	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
	if (!*p)
		l->tail = p;
}

static struct link_job *
list_pop(struct list *l)
{
	struct link_job *j = l->head;

	if (j)
		list_remove(l, j);
	return j;
}

struct link *
link_new(const struct link_config *c)
{
	struct link *l = xcalloc(1, sizeof(*l));

	l->c = *c;
	line_init(&l->line, -1);
	list_init(&l->waiting);
	list_init(&l->sent);
	list_init(&l->ended);
	return l;
}

/* The job is in no list any more: tell its owner. */
static void
tell(struct link *l, struct link_job *j, const struct msg_done *done)
{
	assert(l->n_jobs > 0);
	l->n_jobs--;
	j->done(j, done);
}

/* End a job that is in no list with an error of ours; a client that has left comes first, then the time. */
static void
fail(struct link *l, struct link_job *j, const struct err *why)
{
	struct msg_done done = {.m = {.type = MSG_DONE, .length = sizeof(done), .id = j->msg.m.id}};

	if (j->unwanted)
		err_set(&done.err, ERR_CLIENT_GONE, "the client closed the connection");
	else if (j->late && why->code != ERR_DEADLINE_EXCEEDED)
		err_param(&done.err, ERR_DEADLINE_EXCEEDED, "timeout_ms", NULL, NULL,
			  "the time was up before the device was free");
	else
		done.err = *why;
	tell(l, j, &done);
}

static void
kill_worker(struct link *l, const struct err *why)
{
	if (l->killed)
		return;
	l->killed = true;
	l->c.kill(l->c.cls, l->c.device, l->generation, why);
}

/* The worker does what it must not: nothing more is read from it. */
static void
surprise(struct link *l, const char *what)
{
	struct err why = {0};

	err_set(&why, ERR_WORKER_CRASHED, "the worker %s", what);
	line_close(&l->line);
	kill_worker(l, &why);
}

/* The worker closed its end. It is dead, most likely, and its own status a better obituary than ours. */
static void
closed(struct link *l)
{
	line_close(&l->line);
	l->closed_ns = clock_ns();
}

/* Put: 0. There is no room until the worker has read, or it is gone (link_event will see why): 1. */
static int
put(struct link *l, const void *m, size_t len, int fd)
{
	int rc = fd == -1 ? line_put(&l->line, m, len) : line_put_fd(&l->line, m, len, fd);

	return rc == 0 ? 0 : 1;
}

/* Make sure the worker has mapped what the job's tensors lie in; a dry job's lie nowhere. */
static int
map_slabs(struct link *l, const struct link_job *j)
{
	uint32_t last = UINT32_MAX;

	for (int i = 0; i <= OP_TENSORS_MAX && !j->msg.dry; i++) {
		const struct tensor *t = i < OP_TENSORS_MAX ? &j->msg.call.tensors[i] : &j->msg.samples;
		struct msg_map map = {.m = {.type = MSG_MAP, .length = sizeof(map)}};
		int fd;

		if (t->dtype == DT_NONE || t->slab == last)
			continue;
		last = t->slab;
		fd = arena_slab(l->c.pool, t->slab, &map.bytes, &map.generation);
		assert(fd != -1 && t->slab < ARENA_SLABS_MAX); /* the job's owner has borrowed from it */
		if (l->mapped[t->slab] == map.generation)
			continue;
		map.slab = t->slab;
		arena_mapped(l->c.pool, t->slab, l->c.device);
		if (put(l, &map, sizeof(map), fd) != 0)
			return 1;
		l->mapped[t->slab] = map.generation;
		if (t->slab >= l->n_mapped)
			l->n_mapped = t->slab + 1;
	}
	return 0;
}

/* Tell the worker to let go of slabs that the pool gave back. */
static int
unmap_slabs(struct link *l)
{
	uint32_t epoch = arena_epoch(l->c.pool);

	if (epoch == l->epoch)
		return 0;
	for (uint32_t i = 0; i < l->n_mapped; i++) {
		struct msg_map map = {
			.m = {.type = MSG_UNMAP, .length = sizeof(map)}, .slab = i, .generation = l->mapped[i]};
		uint32_t generation = 0;
		uint64_t bytes;

		if (l->mapped[i] == 0 ||
		    (arena_slab(l->c.pool, i, &bytes, &generation) != -1 && generation == l->mapped[i]))
			continue;
		if (put(l, &map, sizeof(map), -1) != 0)
			return 1;
		l->mapped[i] = 0;
	}
	l->epoch = epoch;
	return 0;
}

static int
cancel_send(struct link *l, struct link_job *j)
{
	struct msg m = {.type = MSG_CANCEL, .length = sizeof(m), .id = j->msg.m.id};

	if (put(l, &m, sizeof(m), -1) != 0)
		return 1;
	j->cancel_ns = clock_ns();
	return 0;
}

static void
put_all(struct link *l)
{
	struct link_job *j;

	for (j = l->sent.head; j; j = j->next)
		if ((j->unwanted || j->late) && j->cancel_ns == 0 && cancel_send(l, j) != 0)
			return;
	if (unmap_slabs(l) != 0 || (l->c.store != NULL && link_forget(&l->line, l->c.store, &l->gone) != 0))
		return;
	while (l->waiting.head && l->n_sent < DEPTH) {
		if (map_slabs(l, l->waiting.head) != 0 ||
		    put(l, &l->waiting.head->msg, sizeof(l->waiting.head->msg), -1) != 0)
			return;
		j = list_pop(&l->waiting);
		list_add(&l->sent, j);
		j->state = J_SENT;
		l->n_sent++;
	}
}

/* Send what can be sent. Never tells anybody anything. */
static void
pump(struct link *l)
{
	if (l->line.sock == -1 || l->killed)
		return;
	put_all(l);
	line_ring(&l->line);
}

void
link_submit(struct link *l, struct link_job *j)
{
	j->msg.m = (struct msg){.type = MSG_JOB, .length = sizeof(j->msg), .id = ++l->last_id};
	j->msg.submitted_ns = clock_ns();
	j->state = J_WAITING;
	j->tries = 0;
	j->cancel_ns = 0;
	j->unwanted = j->late = false;
	list_add(&l->waiting, j);
	l->n_jobs++;
}

void
link_flush(struct link *l)
{
	pump(l);
}

void
link_cancel(struct link *l, struct link_job *j)
{
	j->unwanted = true;
	if (j->state == J_WAITING) {
		/* Told later: the caller may still hold on to what done will free. */
		list_remove(&l->waiting, j);
		list_add(&l->ended, j);
		j->state = J_ENDED;
	}
	pump(l);
}

static void
tell_ended(struct link *l)
{
	struct err none = {0};
	struct link_job *j;

	while ((j = list_pop(&l->ended)) != NULL)
		fail(l, j, &none);
}

/* End all that wait; what done submits meanwhile is ended too. */
static void
fail_waiting(struct link *l, const struct err *why)
{
	struct link_job *j;

	while ((j = list_pop(&l->waiting)) != NULL)
		fail(l, j, why);
}

void
link_up(struct link *l, uint32_t generation, int sock, const struct worker_status *st)
{
	struct err e = {0};

	assert(l->n_sent == 0);
	line_close(&l->line);
	l->generation = generation;
	l->st = st;
	l->killed = false;
	l->closed_ns = 0;
	memset(&l->hopeless, 0, sizeof(l->hopeless));
	if (line_open(&l->line, sock, &e) == -1)
		kill_worker(l, &e);
	memset(l->mapped, 0, l->n_mapped * sizeof(l->mapped[0]));
	l->n_mapped = 0;
	l->epoch = arena_epoch(l->c.pool);
	l->gone = l->c.store != NULL ? store_gone_position(l->c.store) : 0;
	tell_ended(l);
	pump(l);
}

static void
terminate(struct msg_done *d)
{
	d->err.input[sizeof(d->err.input) - 1] = '\0';
	d->err.param[sizeof(d->err.param) - 1] = '\0';
	d->err.found[sizeof(d->err.found) - 1] = '\0';
	d->err.wanted[sizeof(d->err.wanted) - 1] = '\0';
	d->err.msg[sizeof(d->err.msg) - 1] = '\0';
	d->impl[sizeof(d->impl) - 1] = '\0';
	d->why_not_aiter[sizeof(d->why_not_aiter) - 1] = '\0';
	d->baseline_impl[sizeof(d->baseline_impl) - 1] = '\0';
	d->bench.note[sizeof(d->bench.note) - 1] = '\0';
}

/* One packet's worth; false: it was garbage. */
static bool
done_take(struct link *l, struct msg_done *done, size_t len)
{
	struct link_job *j;
	struct err e;

	if (done->m.type != MSG_DONE || len != sizeof(*done) || (unsigned)done->err.code >= ERR_COUNT) {
		surprise(l, "sent something that is no answer");
		return false;
	}
	for (j = l->sent.head; j && j->msg.m.id != done->m.id; j = j->next)
		;
	if (!j) {
		surprise(l, "answered a question that was not asked");
		return false;
	}
	terminate(done);
	list_remove(&l->sent, j);
	l->n_sent--;
	e = done->err;
	if (j->unwanted || (j->late && e.code == ERR_CLIENT_GONE))
		fail(l, j, &e);
	else
		tell(l, j, done);
	return true;
}

/* Take in at most `limit` answers. */
static void
answers_read(struct link *l, int limit)
{
	union line_message packet;
	int fd, n;

	while (l->line.sock != -1 && limit-- > 0 && (n = line_get(&l->line, &packet, &fd)) != 0) {
		if (n == -1)
			surprise(l, "sent something that is no message");
		else if (!done_take(l, &packet.done, (size_t)n))
			return;
	}
}

void
link_event(struct link *l, bool readable)
{
	int bell = readable && l->line.sock != -1 ? line_bell(&l->line) : 1;

	/* What it had said before it hung up, or went mad, counts. */
	answers_read(l, BATCH);
	if (bell == 0 && l->line.sock != -1)
		closed(l);
	else if (bell == -1 && l->line.sock != -1)
		surprise(l, "sent something that is no message");
	tell_ended(l);
	pump(l);
}

bool
link_has_news(const struct link *l)
{
	return l->n_jobs > 0 && !line_empty(&l->line);
}

bool
link_sleep(struct link *l)
{
	return l->n_jobs == 0 || line_sleep(&l->line);
}

void
link_awake(struct link *l)
{
	line_awake(&l->line);
}

/* Of what the dead worker had: what ran fails, what waited there comes back to the head of the queue, once. */
static void
sort_out(struct link *l, uint64_t running_loop, uint64_t running_id, const struct err *why)
{
	struct link_job *j, *ran = NULL;
	struct list again, failed;
	struct err twice = {0};

	/* First picked, then told: done may submit or cancel, which changes the lists. */
	list_init(&again);
	list_init(&failed);
	while ((j = list_pop(&l->sent)) != NULL) {
		l->n_sent--;
		j->cancel_ns = 0;
		if (running_loop == (uint64_t)l->c.loop + 1 && running_id == j->msg.m.id) {
			ran = j;
		} else if (j->unwanted || j->late || j->tries++ > 0) {
			list_add(&failed, j);
		} else {
			j->state = J_WAITING;
			list_add(&again, j);
			continue;
		}
		j->state = J_ENDED;
	}
	if (again.head) {
		/* An empty list's tail is in the list itself; `again` is about to go. */
		*again.tail = l->waiting.head;
		if (!l->waiting.head)
			l->waiting.tail = again.tail;
		l->waiting.head = again.head;
	}
	if (ran)
		fail(l, ran, why);
	err_set(&twice, ERR_WORKER_CRASHED, "the device's worker died twice while this waited for its turn: %.400s",
		why->msg);
	while ((j = list_pop(&failed)) != NULL)
		fail(l, j, &twice);
}

void
link_gone(struct link *l, uint32_t generation, uint64_t running_loop, uint64_t running_id, const struct err *why)
{
	if (why->code == ERR_DEVICE_UNAVAILABLE)
		l->hopeless = *why;
	if (generation == l->generation && l->st) {
		/* What it answered before it died counts. */
		l->killed = true;
		answers_read(l, DEPTH);
		line_close(&l->line);
		l->st = NULL;
		sort_out(l, running_loop, running_id, why);
	}
	tell_ended(l);
	if (l->hopeless.code != ERR_NONE)
		fail_waiting(l, &l->hopeless);
}

static void
fail_late(struct link *l, uint64_t now)
{
	struct link_job **p = &l->waiting.head;
	struct list late;
	struct link_job *j;
	struct err why = {0};

	/* First picked, then told: done may submit, which changes the list. */
	list_init(&late);
	while ((j = *p) != NULL) {
		if (j->msg.deadline_ns == 0 || now <= j->msg.deadline_ns) {
			p = &j->next;
			continue;
		}
		*p = j->next;
		if (!*p)
			l->waiting.tail = p;
		list_add(&late, j);
		j->state = J_ENDED;
	}
	if (!late.head)
		return;
	err_param(&why, ERR_DEADLINE_EXCEEDED, "timeout_ms", NULL, NULL, "the time was up before the device %s",
		  l->st ? "was free" : "was there again");
	while ((j = list_pop(&late)) != NULL)
		fail(l, j, &why);
}

/* Whether the status page says that the worker has this job in hand. */
static bool
is_running(const struct link *l, const struct link_job *j)
{
	return l->st && atomic_load_explicit(&l->st->running_loop, memory_order_acquire) == (uint64_t)l->c.loop + 1 &&
	       atomic_load_explicit(&l->st->running_id, memory_order_acquire) == j->msg.m.id;
}

bool
link_progress(const struct link *l, const struct link_job *j, uint64_t *runs, uint64_t *of)
{
	if (j->state != J_SENT || !is_running(l, j))
		return false;
	*runs = atomic_load_explicit(&l->st->runs, memory_order_relaxed);
	*of = atomic_load_explicit(&l->st->runs_of, memory_order_relaxed);
	return *of > 0 && is_running(l, j); /* the page may have gone on to the next job meanwhile */
}

void
link_expire(struct link *l, uint64_t now)
{
	struct err why = {0};

	tell_ended(l);
	if (l->hopeless.code != ERR_NONE)
		fail_waiting(l, &l->hopeless);
	fail_late(l, now);
	if (l->st && l->closed_ns != 0 && now > l->closed_ns + CLOSED_NS)
		surprise(l, "closed its line without leaving");
	for (struct link_job *j = l->sent.head; j; j = j->next) {
		if (j->msg.deadline_ns != 0 && now > j->msg.deadline_ns)
			j->late = true;
		if (l->killed || !l->st)
			continue;
		if (is_running(l, j)) {
			if (!j->late || now <= j->msg.deadline_ns + GRACE_NS)
				continue;
			err_param(&why, ERR_DEADLINE_EXCEEDED, "timeout_ms", NULL, NULL,
				  "the time was up while the device was running this; its worker was ended");
			kill_worker(l, &why);
		} else if (j->cancel_ns != 0 && now > j->cancel_ns + ANSWER_NS &&
			   atomic_load_explicit(&l->st->running_loop, memory_order_acquire) == 0) {
			err_set(&why, ERR_WORKER_CRASHED, "the worker is idle and has lost a job");
			kill_worker(l, &why);
		}
	}
	pump(l);
}

int
link_fd(const struct link *l)
{
	return l->line.sock;
}

unsigned
link_queued(const struct link *l)
{
	return l->n_jobs;
}

void
link_free(struct link **lp)
{
	struct link *l = *lp;
	struct err why = {0};
	struct link_job *j;

	if (!l)
		return;
	*lp = NULL;
	line_close(&l->line);
	err_set(&why, ERR_DRAINING, "the server is shutting down");
	tell_ended(l);
	while ((j = list_pop(&l->sent)) != NULL)
		fail(l, j, &why);
	fail_waiting(l, &why);
	free(l);
}
