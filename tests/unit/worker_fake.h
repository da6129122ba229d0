/*
 * worker_fake.h: orders for the fake worker (worker_fake.c). A job's orders stand in the last parameter of its call:
 * i[0] is one of these, i[1] its argument. What to do at the start is a word in the file "orders" beside the
 * executable: "exit2", "die", "silent", "build", "kind", "babble"; no file: start properly.
 */
#ifndef AITERD_WORKER_FAKE_H
#define AITERD_WORKER_FAKE_H

#include "msg.h"

enum fake_order {
	FAKE_OK,    /* answer; whatever the order, the first 4 bytes of tensor 0 are counted up first, if it has one */
	FAKE_SLEEP, /* for i[1] milliseconds, then answer */
	FAKE_ABORT,
	FAKE_SEGV,
	FAKE_HANG,
	FAKE_STOP,	  /* SIGSTOP itself, before the job counts as running */
	FAKE_EXIT,	  /* with status i[1] */
	FAKE_EXIT_IDLE,	  /* the same before the job counts as running */
	FAKE_ANSWER_EXIT, /* answer, then exit with status i[1] */
	FAKE_WRONG_ID,
	FAKE_SHORT,	 /* answer with too short a packet */
	FAKE_TYPE,	 /* with a message of another type */
	FAKE_CODE,	 /* with an error code that is none */
	FAKE_TWICE,	 /* two answers */
	FAKE_CONTROL,	 /* nonsense to the supervisor, then go on sleeping */
	FAKE_CLOSE,	 /* close all sockets and stay */
	FAKE_LOSE,	 /* never answer */
	FAKE_BABBLE,	 /* i[1] lines to standard error, then abort */
	FAKE_UNREAPABLE, /* hang, and be traced by a child so that no kill makes it go before that child has gone;
			    its pid is counted into tensor 0 */
};

static inline struct op_value *
fake_order(struct msg_job *job)
{
	return &job->call.params[OP_PARAMS_MAX - 1];
}

#endif
