/*
 * line.c: rings of messages in shared memory, and the bell; line.h. Called by front/link.c and worker/worker_main.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "line.h"

/* Written by one side each, on cache lines of their own. */
struct side {
	_Alignas(64) _Atomic uint32_t put; /* messages this side has put into its ring */
	_Alignas(64) _Atomic uint32_t got; /* messages this side has taken from the other ring */
	_Atomic uint32_t sleeping;	   /* it waits for its socket; cleared by who rings */
};

struct line_page {
	struct side front, worker;
	_Alignas(64) unsigned char down[LINE_SLOTS][sizeof(union line_message)]; /* to the worker */
	_Alignas(64) unsigned char up[LINE_SLOTS][sizeof(struct msg_done)];
};

static struct side *
mine(const struct line *l)
{
	return l->front ? &l->page->front : &l->page->worker;
}

static struct side *
other(const struct line *l)
{
	return l->front ? &l->page->worker : &l->page->front;
}

static unsigned char *
slot(const struct line *l, bool down, uint32_t i)
{
	return down ? l->page->down[i % LINE_SLOTS] : l->page->up[i % LINE_SLOTS];
}

void
line_init(struct line *l, int sock)
{
	*l = (struct line){.sock = sock, .early_fd = -1};
}

static int
page_map(struct line *l, int fd)
{
	void *p = mmap(NULL, sizeof(struct line_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -1;
	(void)madvise(p, sizeof(struct line_page), MADV_DONTDUMP);
	l->page = p;
	return 0;
}

int
line_open(struct line *l, int sock, struct err *e)
{
	const struct msg m = {.type = MSG_RINGS, .length = sizeof(m)};
	int fd = memfd_create("aiterd-line", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc = -1;

	*l = (struct line){.sock = sock, .front = true, .early_fd = -1};
	if (fd == -1 || ftruncate(fd, sizeof(struct line_page)) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1 || page_map(l, fd) == -1)
		err_set(e, ERR_OUT_OF_MEMORY, "no memory to talk to a worker through: %s", strerror(errno));
	else if (msg_send(sock, &m, sizeof(m), fd) != 0)
		err_set(e, ERR_WORKER_CRASHED, "the worker was gone before it was spoken to");
	else
		rc = 0;
	if (fd != -1)
		close(fd);
	if (rc == -1)
		line_close(l);
	return rc;
}

void
line_close(struct line *l)
{
	if (l->sock != -1)
		close(l->sock);
	if (l->early_fd != -1)
		close(l->early_fd);
	if (l->page != NULL)
		munmap(l->page, sizeof(*l->page));
	l->sock = l->early_fd = -1;
	l->page = NULL;
}

/* ---------------------------------------------------------------- putting */

static bool
full(const struct line *l)
{
	return l->page == NULL || l->put - atomic_load_explicit(&other(l)->got, memory_order_acquire) >= LINE_SLOTS;
}

int
line_put(struct line *l, const void *m, size_t len)
{
	if (full(l))
		return 1;
	memcpy(slot(l, l->front, l->put), m, len);
	atomic_store_explicit(&mine(l)->put, ++l->put, memory_order_release);
	return 0;
}

int
line_put_fd(struct line *l, const void *m, size_t len, int fd)
{
	int rc = full(l) ? 1 : msg_send(l->sock, m, len, fd);

	return rc == 0 ? line_put(l, m, len) : rc;
}

void
line_ring(struct line *l)
{
	const struct msg m = {.type = MSG_BELL, .length = sizeof(m)};

	if (l->page == NULL)
		return;
	/* What was put before must be seen by who, having said that it sleeps, looks a last time: line_sleep. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&other(l)->sleeping, memory_order_relaxed) != 0 &&
	    atomic_exchange_explicit(&other(l)->sleeping, 0, memory_order_relaxed) != 0 &&
	    msg_send(l->sock, &m, sizeof(m), -1) == 1)
		/* Full, or the kernel had no memory for it: it sleeps still, and is rung for again the next time. */
		atomic_store_explicit(&other(l)->sleeping, 1, memory_order_relaxed);
}

/* ---------------------------------------------------------------- getting */

/* How many messages wait; more than fit: nonsense. */
static uint32_t
waiting(const struct line *l)
{
	return l->page == NULL ? 0 : atomic_load_explicit(&other(l)->put, memory_order_acquire) - l->got;
}

bool
line_empty(const struct line *l)
{
	return waiting(l) == 0;
}

static int
nonsense(void)
{
	errno = EPROTO;
	return -1;
}

/* The rings have come. */
static int
page_take(struct line *l, int fd)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
	int seals = fcntl(fd, F_GET_SEALS); /* -1: of a kind that has none */
	struct stat st;

	if (l->front || l->page != NULL || fstat(fd, &st) == -1 || st.st_size != (off_t)sizeof(struct line_page) ||
	    seals == -1 || (seals & wanted) != wanted)
		return nonsense();
	return page_map(l, fd);
}

/* One packet from the socket: 1, 2 when there is none, 0 at its end, -1 for what does not belong there. */
static int
packet_read(struct line *l)
{
	union {
		struct msg m;
		struct msg_map map;
	} packet;
	int fd, n;

	n = msg_recv(l->sock, &packet, sizeof(packet), &fd);
	if (n == 0)
		return 0;
	if (n == -1)
		return errno == EAGAIN ? 2 : -1;
	if (packet.m.type == MSG_BELL && fd == -1)
		return 1;
	if (packet.m.type == MSG_MAP && fd != -1 && !l->front && n == (int)sizeof(packet.map)) {
		l->early = packet.map;
		l->early_fd = fd;
		return 1;
	}
	n = packet.m.type == MSG_RINGS && fd != -1 ? page_take(l, fd) : nonsense();
	if (fd != -1)
		close(fd);
	return n == 0 ? 1 : -1;
}

/* A message whose note was in the ring: it is in the socket since before that; bells that lie before it are taken along. */
static int
take_noted(struct line *l, union line_message *m, int *fd)
{
	while (l->early_fd == -1)
		if (packet_read(l) != 1)
			return nonsense();
	m->map = l->early;
	*fd = l->early_fd;
	l->early_fd = -1;
	return (int)sizeof(m->map);
}

int
line_get(struct line *l, union line_message *m, int *fd)
{
	size_t size = l->front ? sizeof(l->page->up[0]) : sizeof(l->page->down[0]);
	uint32_t n = waiting(l);
	struct msg head;

	*fd = -1;
	if (n == 0)
		return 0;
	if (n > LINE_SLOTS)
		return nonsense();
	memcpy(&head, slot(l, !l->front, l->got), sizeof(head));
	if (head.length < sizeof(head) || head.length > size)
		return nonsense();
	memcpy(m, slot(l, !l->front, l->got), head.length);
	m->m = head; /* it may have changed since */
	atomic_store_explicit(&mine(l)->got, ++l->got, memory_order_release);
	return head.type == MSG_MAP && !l->front ? take_noted(l, m, fd) : (int)head.length;
}

bool
line_sleep(struct line *l)
{
	if (l->page == NULL)
		return true;
	atomic_store_explicit(&mine(l)->sleeping, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (line_empty(l))
		return true;
	line_awake(l);
	return false;
}

void
line_awake(struct line *l)
{
	if (l->page != NULL)
		atomic_store_explicit(&mine(l)->sleeping, 0, memory_order_relaxed);
}

int
line_bell(struct line *l)
{
	/* One that came early stays until its note is seen, which is a moment away. */
	int rc = l->early_fd != -1 ? 1 : packet_read(l);

	return rc == 2 ? 1 : rc;
}
