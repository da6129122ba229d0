/*
 * request_fill.c: makes the inputs that nobody uploaded (codec/intake_source.c), when the request is known to be right in all
 * else. Small ones on the loop; large ones in pieces on as many helper threads as there are, which come back to the loop
 * after a while, so that other requests' work gets its turn and a client that has gone costs no more than that.
 * Owns the list of pieces.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "front/request.h"

#define INLINE_MAX (64 * 1024)	  /* bytes that may be made on the loop */
#define PIECE ((uint64_t)2 << 20) /* bytes that one thread makes without looking up */
#define TURN_PIECES 16		  /* pieces until it comes back */
#define TASKS_MAX 16

struct fill_task {
	struct helper_task task; /* first member */
	struct request_fill *fill;
};

struct request_fill {
	struct request *req;
	request_done_f then;
	int running;	       /* tasks; on the loop only */
	uint64_t pieces;       /* of all tensors */
	_Atomic uint64_t next; /* the first piece that nobody has taken */
	struct fill_task tasks[TASKS_MAX];
};

static uint64_t
pieces_of(const struct intake_tensor *it)
{
	return it->generated ? (it->t.bytes + PIECE - 1) / PIECE : 0;
}

/* Piece number `piece` of them all. */
static void
fill_piece(const struct intake *in, uint64_t piece)
{
	const struct intake_tensor *it = in->tensors;
	uint64_t size, first, left;

	for (; piece >= pieces_of(it); it++)
		piece -= pieces_of(it);
	size = dtype_info((enum dtype)it->t.dtype)->size;
	first = piece * (PIECE / size);
	left = it->t.bytes / size - first;
	intake_fill(it, first, left < PIECE / size ? left : PIECE / size);
}

static void
fill_work(struct helper_task *t)
{
	struct request_fill *f = ((struct fill_task *)t)->fill;

	for (int i = 0; i < TURN_PIECES; i++) {
		uint64_t piece = atomic_fetch_add_explicit(&f->next, 1, memory_order_relaxed);

		if (piece >= f->pieces)
			return;
		fill_piece(&f->req->run->in, piece);
	}
}

static void
fill_done(struct helper_task *t)
{
	struct request_fill *f = ((struct fill_task *)t)->fill;
	struct request *req = f->req;

	if (!req->gone && atomic_load_explicit(&f->next, memory_order_relaxed) < f->pieces) {
		helpers_submit(req->loop->svc->helpers, t);
		return;
	}
	if (--f->running > 0)
		return;
	free(f);
	request_helped(req);
}

/* The tensors have memory. */
static void
fill_start(struct request *req)
{
	struct request_fill *f = req->run->fill;
	int n = req->loop->svc->n_loops; /* there are as many helpers */

	req->run->fill = NULL;
	f->next = f->pieces = 0;
	for (int i = 0; i < req->run->in.n_tensors; i++)
		f->pieces += pieces_of(&req->run->in.tensors[i]);
	if (req->err.code != ERR_NONE || f->pieces == 0) {
		request_done_f then = f->then;

		free(f);
		then(req);
		return;
	}
	if (n > TASKS_MAX)
		n = TASKS_MAX;
	if ((uint64_t)n > f->pieces)
		n = (int)f->pieces;
	req->helped = f->then;
	f->running = n;
	for (int i = 0; i < n; i++) {
		f->tasks[i].fill = f;
		f->tasks[i].task.loop = req->loop;
		f->tasks[i].task.work = fill_work;
		f->tasks[i].task.done = fill_done;
		helpers_submit(req->loop->svc->helpers, &f->tasks[i].task);
	}
}

static void
reserve_work(struct helper_task *t)
{
	struct request *req = request_of_task(t);

	intake_reserve(&req->run->in, &req->err);
}

void
request_fill(struct request *req, request_done_f then)
{
	struct compute_request *run = req->run;
	uint64_t bytes;

	(void)intake_unmade(&run->in, &bytes);
	if (bytes <= INLINE_MAX && !mem_would_grow(&run->mem, bytes)) {
		if (intake_reserve(&run->in, &req->err) == 0)
			for (int i = 0; i < run->in.n_tensors; i++)
				if (run->in.tensors[i].generated)
					intake_fill(&run->in.tensors[i], 0,
						    (uint64_t)tensor_elements(&run->in.tensors[i].t));
		then(req);
		return;
	}
	if ((run->fill = malloc(sizeof(*run->fill))) == NULL) {
		err_set(&req->err, ERR_OUT_OF_MEMORY, "no memory to make the inputs");
		then(req);
		return;
	}
	run->fill->req = req;
	run->fill->then = then;
	request_help(req, reserve_work, fill_start);
}
