/*
 * tensors_internal.h: what tensors.c (reading, forgetting, listing) and tensors_put.c share.
 */
#ifndef AITERD_TENSORS_INTERNAL_H
#define AITERD_TENSORS_INTERNAL_H

#include "front/request.h"
#include "front/routes.h"
#include "front/tensors.h"

#define TENSORS_INLINE_MAX (128 * 1024) /* bytes of work that may be done on the loop */

/* One request about a tensor. Its head's fields are copied: the connection may be gone while a helper works. */
struct tensor_request {
	struct kept *kept;
	char *if_match, *if_none_match; /* NULL: not there */
	uint64_t ttl_ns;
	enum store_verdict verdict;
	char etag[TENSOR_ID_SIZE + 2], location[sizeof("/v1/tensors/") + STORE_NAME_MAX];
	struct text about; /* JSON, for the field Aiterd-Tensor */
};

static inline struct store *
store_of(const struct request *req)
{
	return req->loop->svc->store;
}

/* What all of them begin with. */
int tensors_begin(struct request *req, struct err *e);
/* Only options of the route may stand in the query string. */
int tensors_check_params(const struct request *req, struct err *e);
int tensors_not_kept(const struct request *req, struct err *e);

/* Whether the id must be known to judge the conditions: a helper's work. */
bool tensors_want_id(const struct tensor_request *q);
/*
 * RFC 9110, 13.2.2, for what the name means now (NULL: nothing). 0: go on; 1: not modified (for GET and HEAD); -1: it does
 * not hold.
 */
int tensors_judge(struct request *req, struct kept *now, bool reading, struct err *e);
void tensors_set_etag(struct request *req, const char *id);

/* What there is to tell of the request's tensor, as JSON. */
void tensors_tell(struct request *req, struct text *t);

#endif
