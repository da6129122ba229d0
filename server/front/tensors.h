/*
 * tensors.h: tensors kept between requests (store.h) as pages: PUT, GET, HEAD and DELETE /v1/tensors/{name}, and their list.
 */
#ifndef AITERD_TENSORS_H
#define AITERD_TENSORS_H

#include "ops/op.h"

struct decoder;
struct request;

extern const struct op_param tensors_get_options[], tensors_put_options[];

/* Route's open and start: what can be refused without the body is; the body is kept. */
struct decoder *tensors_put_open(struct request *req, const char *content_type, struct err *e);
void tensors_put_start(struct request *req);

/* Routes' answers. */
void tensors_get(struct request *req);
void tensors_delete(struct request *req);
void tensors_list(struct request *req);

/* The request ends. */
void tensors_request_free(struct request *req);

#endif
