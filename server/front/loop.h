/*
 * loop.h: an event loop: one thread with its own epoll set, its own listening sockets, its own libmicrohttpd
 * daemon (external epoll mode) and its own line to each worker. A connection lives and dies in one loop, so
 * nothing here needs a lock but the box for news from other threads.
 */
#ifndef AITERD_LOOP_H
#define AITERD_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "front/link.h"
#include "front/service.h"

struct conn;
struct http;

/* Something with a descriptor in the loop's epoll set: embedded in its owner, first member. */
struct loop_source {
	void (*ready)(struct loop_source *s, uint32_t epoll_events);
};

/* A piece of news or a finished helper's work, run on the loop's thread. Owned by the poster until run. */
struct loop_task {
	void (*run)(struct loop_task *t);
	struct loop_task *next;
};

struct loop_link { /* a device's line, and its place in the epoll set */
	struct loop_source source;
	struct loop *loop;
	struct link *link;
	int watched; /* the descriptor in the epoll set, -1: none */
	bool dirty;  /* jobs were submitted since the set was last brought up to date */
};

#define LOOP_SPARES_MAX 64

struct loop_spares { /* blocks of one size, kept for reuse */
	unsigned n;
	void *p[LOOP_SPARES_MAX];
};

#define LOOP_SCRATCH (256 * 1024)

struct loop {
	int index;
	struct service *svc;
	pthread_t thread;
	int epfd, wakefd;
	struct http *http;
	struct loop_source wake_source, http_source;
	struct loop_link links[DEVICES_MAX];
	unsigned n_links;
	struct loop_spares requests, computes;
	struct conn *conns;	/* all of this loop's, doubly linked */
	unsigned char *scratch; /* LOOP_SCRATCH bytes that nobody owns across calls */
	int n_listen;
	struct loop_listener *listeners;
	bool http_ready;    /* libmicrohttpd has something to do */
	bool lingers;	    /* a device is a GPU and there are cores to spare: see wait_events */
	uint64_t warned_ns; /* about descriptors running out */
	uint64_t now_ns;    /* of this turn */
	uint64_t next_sweep_ns, refused_ns;
	uint64_t listen_again_ns; /* listening pauses until then; 0: it does not */

	pthread_mutex_t box_lock;
	struct loop_task *box_head, **box_tail;
	bool stop; /* under box_lock */
};

/* A listening socket; the descriptor is the loop's own (SO_REUSEPORT), or shared by all loops (Unix, systemd). */
struct loop_listener {
	struct loop_source source;
	struct loop *loop;
	int fd;
	bool shared, tcp;
};

struct loop *loop_new(struct service *svc, int index, struct err *e);
/* Before loop_start. Takes the descriptor unless shared. */
void loop_listen(struct loop *l, int fd, bool shared, bool tcp);
int loop_start(struct loop *l, struct err *e);
/* Any thread: the loop ends after this turn. */
void loop_stop(struct loop *l);
void loop_join(struct loop *l);
/* All its connections; before any loop is freed, as they may use what others have made. */
void loop_close(struct loop *l);
void loop_free(struct loop **l);

/* Any thread. */
void loop_post(struct loop *l, struct loop_task *t);

/* The loop's thread. */
int loop_watch(struct loop *l, int fd, struct loop_source *s, uint32_t events);
void loop_unwatch(struct loop *l, int fd);
void loop_submit(struct loop *l, unsigned device, struct link_job *job);

/* The supervisor's thread: struct supervisor_events' callbacks; cls is the service. */
void loop_link_up(void *cls, int loop, unsigned device, uint32_t generation, int sock, const struct worker_status *st);
void loop_link_gone(void *cls, int loop, unsigned device, uint32_t generation, uint64_t running_loop,
		    uint64_t running_id, const struct err *why);

#endif
