/*
 * bench.h: a bench request: the cases of a sweep one after the other, each a job of its own, each told as a line as soon as
 * it is done. request_bench.c drives, bench_line.c writes the lines. The loop's thread, but for bench_make().
 */
#ifndef AITERD_BENCH_FRONT_H
#define AITERD_BENCH_FRONT_H

#include "front/request.h"
#include "front/sweep.h"

/* The options that only this route has; option_values() reads them in this order. */
enum { BO_MODE, BO_SAMPLES, BO_PROGRESS, BO_DTYPE, BO_SEED, BO_COUNT };
extern const struct op_param bench_options[];

struct bench {
	struct sweep sweep;
	struct intake given;		   /* the request's own parameters and tensors; run->in is the case's */
	struct mem given_mem;		   /* what the tensors lie in; run->mem is the case's */
	struct op_value options[BO_COUNT]; /* of the case at hand */
	int64_t sizes[OP_SIZES_MAX];
	uint64_t index, failed;
	uint64_t told_ns;   /* when the last line went out */
	bool waiting;	    /* for the reader, before the next case */
	bool inside, again; /* sweep_on() is at work; and is to go on */
};

void bench_free(struct bench **b);

/* The line of the case at hand: done, or failed with this, or how far it is. */
void bench_line(struct request *req, struct text *t);
void bench_line_failed(struct request *req, const struct err *e, struct text *t);
void bench_line_progress(struct request *req, uint64_t runs, uint64_t of, struct text *t);

#endif
