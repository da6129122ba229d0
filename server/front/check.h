/*
 * check.h: a candidate's outputs judged against the kernel's and against the float64 reference: what belongs to one such
 * request. request_check.c runs the jobs and compares, check_reply.c tells. The request owns it (run->check).
 */
#ifndef AITERD_CHECK_H
#define AITERD_CHECK_H

#include "codec/compare.h"
#include "front/request.h"
#include "ops/op.h"

struct check {
	/* By the operator's tensors; NULL: not to be judged. */
	const struct tensor *yours[OP_TENSORS_MAX];
	struct compare compared[OP_TENSORS_MAX];
	bool atol_given, rtol_given;
	double atol, rtol;

	/* The kernel's job, as it was: the statistics are about it. */
	struct op_call call;
	struct msg_done done;
	unsigned device;
	uint64_t submitted_ns, done_ns, reserve_ns;

	/* Its repetitions, into memory of their own. */
	uint32_t runs, runs_done;
	uint32_t runs_differing; /* from the first */
	uint64_t differing;	 /* elements; the most of any of them */

	/* The reference's job: the same call with fp64 outputs. */
	unsigned reference_device;
	struct op_call reference;
	struct msg_done reference_done;
	double compare_ms;

	struct text verdict; /* JSON; check_encode adds the statistics and the end */
};

/* Fills check->verdict. */
int check_verdict(struct request *req, struct err *e);

/* The verdict, or a case file, as the reply; the statistics are made. May take long for a case file that is compressed. */
int check_encode(struct request *req, struct err *e);

#endif
