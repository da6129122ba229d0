/* v1.h: the native door's pages: what there is, what it takes, what holds. */
#ifndef AITERD_V1_H
#define AITERD_V1_H

struct request;

void v1_index(struct request *req);
void v1_info(struct request *req);
void v1_limits(struct request *req);
void v1_ops(struct request *req);
void v1_op(struct request *req);
void v1_problem(struct request *req);

#endif
