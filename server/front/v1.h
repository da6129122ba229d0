/* v1.h: the native door's pages: what there is, what it takes, what holds. */
#ifndef AITERD_V1_H
#define AITERD_V1_H

#include <stdbool.h>

struct request;

void v1_index(struct request *req);
void v1_info(struct request *req);
void v1_limits(struct request *req);
void v1_ops(struct request *req);
void v1_op(struct request *req);
void v1_problem(struct request *req);

/* v1_jobs.c */
void v1_jobs(struct request *req);
void v1_job(struct request *req);
void v1_job_delete(struct request *req);
void v1_job_result(struct request *req);
/* The job's state as the reply, with this status. */
void v1_job_state(struct request *req, const char *id, int status);
/* Its result, if it is there; the error, if its time is up or it never will be there. */
void v1_job_wait(struct request *req, bool time_up);

#endif
